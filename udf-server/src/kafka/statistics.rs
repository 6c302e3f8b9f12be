//! What the client library tells of the brokers, and measures of them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often the client library tells, in milliseconds.
pub(super) const INTERVAL_MILLIS: &str = "10000";

/// What the client library tells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// The brokers of which it knows the id.
    pub(super) brokers: Vec<BrokerFigures>,
    /// It knows no broker, not even by the addresses to begin with.
    pub(super) is_without_brokers: bool,
}

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
    source: Source,
    rxbytes: u64,
    /// In microseconds.
    rtt: Window,
    /// In milliseconds.
    throttle: Window,
}

/// How the library has come by a broker.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// It is none: the library has it for its own requests.
    Internal,
    /// It stands for one of the others: the group's coordinator.
    Logical,
    /// By the addresses to begin with, by the answer of another broker, or by a way that a later library adds.
    #[serde(other)]
    Cluster,
}

#[derive(Deserialize)]
struct Window {
    avg: u64,
    max: u64,
}

/// Reads what the client library tells; `None` for what it does not say by itself. Its format: STATISTICS.md of librdkafka.
pub(super) fn read(json: &[u8]) -> Option<Told> {
    let statistics: Statistics = serde_json::from_slice(json).ok()?;
    let figures = |broker: Broker| BrokerFigures {
        id: broker.nodeid,
        round_trip: Duration::from_micros(broker.rtt.avg).as_secs_f64(),
        throttle: Duration::from_millis(broker.throttle.max).as_secs_f64(),
        received_bytes: broker.rxbytes,
    };
    let known = statistics.brokers.into_values();
    let known = known.filter(|broker| broker.source == Source::Cluster);
    let known: Vec<_> = known.collect();
    let is_without_brokers = known.is_empty();
    // Addresses to begin with have no id.
    let brokers = known.into_iter().filter(|broker| broker.nodeid >= 0);
    let brokers: BTreeMap<_, _> = brokers.map(|broker| (broker.nodeid, figures(broker))).collect();
    Some(Told { brokers: brokers.into_values().collect(), is_without_brokers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(avg: u64, max: u64) -> String {
        format!(r#"{{"min":0,"max":{max},"avg":{avg},"sum":0,"p99":9,"cnt":3}}"#)
    }

    fn broker(id: i32, source: &str, rtt: &str, throttle: &str) -> String {
        format!(
            r#"{{"name":"b","nodeid":{id},"source":"{source}","rxbytes":1234,"rtt":{rtt},"throttle":{throttle},"toppars":{{}}}}"#
        )
    }

    #[test]
    fn what_the_library_measures_of_each_broker_is_read() {
        let json = format!(
            r#"{{"name":"c","brokers":{{"b:1/bootstrap":{},"b:1/1":{},"GroupCoordinator":{}}},"topics":{{}}}}"#,
            broker(-1, "configured", &window(5, 5), &window(0, 0)),
            broker(1, "learned", &window(2500, 9000), &window(100, 1500)),
            broker(1, "logical", &window(7, 7), &window(0, 0)),
        );
        let expected = BrokerFigures { id: 1, round_trip: 0.0025, throttle: 1.5, received_bytes: 1234 };
        assert_eq!(read(json.as_bytes()), Some(Told { brokers: vec![expected], is_without_brokers: false }));
        assert_eq!(read(b"{}"), None);
    }

    #[test]
    fn a_client_that_knows_no_broker_is_known_by_it() {
        let of = |sources: &[&str]| {
            let brokers = sources.iter().enumerate();
            let brokers = brokers
                .map(|(number, source)| format!(r#""{number}":{}"#, broker(-1, source, &window(0, 0), &window(0, 0))));
            let json = format!(r#"{{"brokers":{{{}}}}}"#, brokers.collect::<Vec<_>>().join(","));
            read(json.as_bytes()).unwrap().is_without_brokers
        };
        assert!(of(&["internal", "logical"]));
        assert!(!of(&["logical", "configured"]));
        assert!(!of(&["learned"]));
        // A way that a later library adds.
        assert!(!of(&["resolved"]));
    }
}
