//! What the Kafka source would use of all that can be set.

use std::time::Duration;

use jiff::SignedDuration;

use super::brokers::Place;
use super::config::{COMMIT_INTERVAL_PROPERTY, KafkaConfig, is_default};
use super::policy::name;
use super::selection::PartitionIds;
use crate::config::Layers;
use crate::used::Used;

impl KafkaConfig {
    /// Every setting of the source, in the order of the documentation, with the place it was found in.
    pub(crate) fn used(&self, layers: &Layers<'_>) -> Vec<Used> {
        let topics: Vec<&str> = self.topics().collect();
        let ids = if self.replica_id.is_some() { PartitionIds::Replica } else { PartitionIds::Partition };
        let most = self.max_deliveries.map_or_else(|| "without end".to_owned(), |most| most.to_string());
        let with_topic = if self.dead_letter_topic.is_some() { "default with a dead-letter topic" } else { "default" };
        let by_topic = |setting: Used| match layers.found(&setting.name) {
            Some(_) => setting,
            None => Used { from: with_topic.to_owned(), ..setting },
        };
        vec![
            Used::setting(layers, "brokers", self.brokers.addresses()),
            Used::setting(layers, "connect-timeout", time(self.brokers.connect_timeout())),
            Used::setting(layers, "topics", topics.join(",")),
            Used::setting(layers, "partition-ids", name(&ids)),
            Used::setting(layers, "group", self.group()),
            Used::setting(layers, "group-protocol", name(&self.group_protocol)),
            Used::setting(layers, "start", self.start.to_string()),
            Used::setting(
                layers,
                "missing-topic-timeout",
                self.missing_topic_timeout.map_or_else(|| "off".to_owned(), time),
            ),
            Used::setting(layers, "linger", time(self.linger)),
            Used::setting(layers, "inflight-timeout", self.inflight_timeout.map_or_else(|| "off".to_owned(), time)),
            Used::setting(layers, "max-deliveries", most),
            Used::setting(layers, "dead-letter-topic", self.dead_letter_topic.as_deref().unwrap_or("none")),
            by_topic(Used::setting(layers, "on-exhausted", name(&self.exhausted))),
            Used::setting(layers, "max-record-bytes", size(self.max_record_bytes)),
            by_topic(Used::setting(layers, "on-oversize", name(&self.on_oversize))),
            Used::setting(layers, "on-damaged", name(&self.on_damaged)),
            Used::setting(layers, "max-partition-records", self.most_of_one.records.to_string()),
            Used::setting(layers, "max-partition-bytes", size(self.most_of_one.bytes)),
            Used::setting(
                layers,
                "revoke-timeout",
                if self.revoke_timeout.is_zero() { "off".to_owned() } else { time(self.revoke_timeout) },
            ),
            Used::setting(layers, "ack-durability", name(&self.ack_durability)),
            Used::setting(layers, "record-metadata", name(&self.record_metadata)),
            Used::setting(layers, "topic-header", name(&self.topic_header)),
            Used::setting(layers, "static-member", self.instance_id.as_deref().unwrap_or("false")),
        ]
    }

    /// Every property that the client library gets.
    pub(crate) fn used_properties(&self) -> Vec<Used> {
        let client = self.consumer();
        // The library's own clock is out of use: the source keeps this time itself.
        let interval = self.commit_interval().as_millis().to_string();
        let used = |(name, value): (&str, &str)| match self.brokers.place(name) {
            Some(Place::Secret(path)) => Used::property(name, value, path.as_str()).hidden(),
            Some(Place::Open(place)) => Used::property(name, value, place.as_str()),
            None if matches!(name, "fetch.message.max.bytes" | "queued.max.messages.kbytes" | "message.max.bytes") => {
                Used::property(name, value, "at most; less where many partitions share max-in-flight-bytes")
            }
            None if is_default(name) || name == COMMIT_INTERVAL_PROPERTY => {
                Used::property(name, value, "default of the source")
            }
            None => Used::property(name, value, "set by the source"),
        };
        let own = |(name, value)| (name, if name == COMMIT_INTERVAL_PROPERTY { interval.as_str() } else { value });
        client.config_map().into_iter().map(own).map(used).collect()
    }
}

/// A time as people write it: `2s`, `10m`.
pub(crate) fn time(time: Duration) -> String {
    SignedDuration::try_from(time).map_or_else(|_| format!("{time:?}"), |time| format!("{time:#}"))
}

/// A number of bytes in the largest unit that divides it.
pub(crate) fn size(bytes: usize) -> String {
    for (unit, text) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return format!("{}{text}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use numaflow_sdk::Settings;

    use super::*;
    use crate::config::tests::{Variables, file};
    use crate::kafka::{BrokerArgs, KafkaArgs};

    #[test]
    fn each_value_has_its_place() {
        let secret = file("hunter2\n");
        let yaml = file(&format!(
            "brokers: b:9092\ntopics: t\ndead-letter-topic: dead\nproperties-from-files: {{client.rack: {0}}}\n\
             properties: {{fetch.wait.max.ms: 5}}\n",
            secret.path().display()
        ));
        let environment = Variables::from([("UDF_GROUP", "g"), ("UDF_INFLIGHT_TIMEOUT", "600s")]);
        let mut layers = Layers::new(&environment, Some(yaml.path())).unwrap();
        let properties = vec!["client.id=me".to_owned(), "ssl.key.password=hunter2".to_owned()];
        let brokers = BrokerArgs { properties, ..BrokerArgs::default() };
        let args = KafkaArgs { brokers, linger: Some("5ms".to_owned()), ..KafkaArgs::default() };
        let config = args.config(&mut layers, &Settings::default()).unwrap();
        let all = [config.used(&layers), config.used_properties()].concat();
        let line = |name: &str| {
            let used = all.iter().find(|used| used.name == name).unwrap();
            format!("{} ({})", used.value.as_deref().unwrap_or("?"), used.from)
        };
        let file = yaml.path().display();
        assert_eq!(line("brokers"), format!("b:9092 (brokers in {file})"));
        assert_eq!(line("group"), "g (UDF_GROUP)");
        assert_eq!(line("linger"), "5ms (--linger)");
        assert_eq!(line("inflight-timeout"), "10m (UDF_INFLIGHT_TIMEOUT)");
        assert_eq!(line("revoke-timeout"), "2s (default)");
        assert_eq!(line("max-record-bytes"), "60MiB (default)");
        assert_eq!(line("on-exhausted"), "dead-letter (default with a dead-letter topic)");
        assert_eq!(line("client.id"), "me (--property)");
        assert_eq!(line("ssl.key.password"), "? (--property)");
        assert_eq!(
            line("client.rack"),
            format!("? ({})", secret.path().display()),
            "what has its own file is a secret"
        );
        assert_eq!(line("fetch.wait.max.ms"), format!("5 (properties in {file})"));
        assert_eq!(line("check.crcs"), "true (default of the source)");
        assert_eq!(
            line(COMMIT_INTERVAL_PROPERTY),
            "1000 (default of the source)",
            "the source's own, not the library's"
        );
        assert_eq!(line("enable.auto.offset.store"), "false (set by the source)");
        layers.finish().unwrap();
    }

    #[test]
    fn sizes_keep_their_unit() {
        assert_eq!([1, 1024, 1536, 60 << 20, 2 << 30].map(size), ["1B", "1KiB", "1536B", "60MiB", "2GiB"]);
    }
}
