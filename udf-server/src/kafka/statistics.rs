//! What the client library measures of the brokers. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A broker, as the client library has seen it since it told last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BrokerFigures {
    /// Its id in the cluster.
    pub(super) id: i32,
    /// The average time from a request to its answer, in seconds. A fetch waits for records, up to `fetch.wait.max.ms`.
    pub(super) round_trip: f64,
    /// The longest time for which it has held an answer back to throttle this client, in seconds.
    pub(super) throttle: f64,
    /// Bytes received from it since the client was made, as they came, compressed.
    pub(super) received_bytes: u64,
}

#[derive(Deserialize)]
struct Statistics {
    brokers: BTreeMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    nodeid: i32,
    rxbytes: u64,
    /// In microseconds.
    rtt: Window,
    /// In milliseconds.
    throttle: Window,
}

#[derive(Deserialize)]
struct Window {
    avg: u64,
    max: u64,
}

/// Reads what the client library tells; `None` for what it does not say by itself. Its format: STATISTICS.md of librdkafka.
pub(super) fn read(json: &[u8]) -> Option<Vec<BrokerFigures>> {
    let statistics: Statistics = serde_json::from_slice(json).ok()?;
    let figures = |broker: Broker| BrokerFigures {
        id: broker.nodeid,
        round_trip: Duration::from_micros(broker.rtt.avg).as_secs_f64(),
        throttle: Duration::from_millis(broker.throttle.max).as_secs_f64(),
        received_bytes: broker.rxbytes,
    };
    // Addresses to begin with have no id; the group's coordinator is listed a second time, with that of its broker.
    let mut brokers = BTreeMap::new();
    for (name, broker) in statistics.brokers {
        if broker.nodeid >= 0 && name != "GroupCoordinator" {
            brokers.insert(broker.nodeid, figures(broker));
        }
    }
    Some(brokers.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_measures_of_each_broker_is_read() {
        let window = |avg, max| format!(r#"{{"min":0,"max":{max},"avg":{avg},"sum":0,"p99":9,"cnt":3}}"#);
        let broker = |id, rtt: &str, throttle: &str| {
            format!(r#"{{"name":"b","nodeid":{id},"rxbytes":1234,"rtt":{rtt},"throttle":{throttle},"toppars":{{}}}}"#)
        };
        let json = format!(
            r#"{{"name":"c","brokers":{{"b:1/bootstrap":{},"b:1/1":{},"GroupCoordinator":{}}},"topics":{{}}}}"#,
            broker(-1, &window(5, 5), &window(0, 0)),
            broker(1, &window(2500, 9000), &window(100, 1500)),
            broker(1, &window(7, 7), &window(0, 0)),
        );
        let expected = BrokerFigures { id: 1, round_trip: 0.0025, throttle: 1.5, received_bytes: 1234 };
        assert_eq!(read(json.as_bytes()), Some(vec![expected]));
        assert_eq!(read(b"{}"), None);
    }
}
