//! The source's part of `/metrics`. `docs/metrics.md` has the same table for people, and a test holds them to each other.

use std::fmt::Display;

use numaflow_sdk::MetricsText;

use super::statistics::BrokerFigures;
use super::status::{Partition, State, Status};

impl Status {
    /// Writes the metrics.
    pub(super) fn write(&self, text: &mut MetricsText) {
        let is_assigned = u8::from(matches!(self.state, State::Assigned | State::Rebalancing));
        gauge(text, "assigned", "1 while partitions are assigned to this member, be it none.", Some(is_assigned));
        gauge(text, "assigned_partitions", "Partitions that are assigned here.", Some(self.partitions.len()));
        gauge(text, "last_poll_age_seconds", "Time since the client was polled.", Some(self.last_poll_age));
        let help = "The longest time between two polls of the client.";
        gauge(text, "longest_poll_gap_seconds", help, Some(self.longest_poll_gap));
        // Zero, so that an alert on it can end.
        let refused = self.refused.as_ref().map_or(0.0, |refused| refused.age);
        gauge(text, "refused_seconds", "For how long the brokers have refused this source, 0 if not.", Some(refused));
        gauge(text, "pending_records", "Records that the whole group has left.", self.pending);
        gauge(text, "end_age_seconds", "Time since the brokers told the ends of the partitions.", self.end_age);
        let help = "Time from the delivery of the first record of an ack to the ack.";
        self.latency.write(text, &name("ack_duration_seconds"), help);
        let help = "The average time from a request to its answer.";
        self.each_broker(text, "broker_round_trip_seconds", "gauge", help, |broker| broker.round_trip);
        let help = "The longest time for which the broker held an answer back to throttle this client.";
        self.each_broker(text, "broker_throttle_seconds", "gauge", help, |broker| broker.throttle);
        let help = "Bytes received from the broker.";
        self.each_broker(text, "broker_received_bytes_total", "counter", help, |broker| broker.received_bytes);
        let age = self.failing_commits_age.unwrap_or_default();
        gauge(
            text,
            "failing_commits_age_seconds",
            "How long the commits of a topic, or of all, have failed.",
            Some(age),
        );
        let age = self.rebalancing.as_ref().map_or(0.0, |rebalancing| rebalancing.age);
        let help = "Age of the rebalance that this member has not completed, 0 if there is none.";
        gauge(text, "rebalancing_age_seconds", help, Some(age));
        let is_unusable = u8::from(self.unusable_secrets.is_some());
        let help = "1 while files of secrets cannot be read or used, and what was read of them before stays in use.";
        gauge(text, "unusable_secrets", help, Some(is_unusable));
        let has_failed = u8::from(self.failure.is_some());
        gauge(text, "failed", "1 once the source cannot go on: the process drains and ends.", Some(has_failed));
        let is_denied = u8::from(self.denied_right.is_some());
        gauge(text, "right_denied", "1 while the brokers deny a right.", Some(is_denied));
        let letters = &self.dead_letters;
        let help = "Records that are given up and not in the dead-letter topic yet.";
        gauge(text, "waiting_dead_letters", help, Some(letters.waiting));
        gauge(text, "refused_dead_letters", "Of these, records that the topic refuses.", Some(letters.refused));
        // Zero, so that an alert on it can end.
        let age = letters.oldest_age.unwrap_or_default();
        gauge(text, "waiting_dead_letters_oldest_age_seconds", "How long the oldest of them waits.", Some(age));

        let help = "Topics that are to be read and that the brokers do not have.";
        gauge(text, "missing_topics", help, Some(self.missing_topics.len()));
        let help = "Topics that are read and whose ids the brokers do not tell.";
        gauge(text, "unidentified_topics", help, Some(self.unidentified_topics.len()));
        let help = "Partitions of the group for which the brokers do not answer.";
        gauge(text, "unanswered_partitions", help, Some(self.unanswered_partitions.len()));
        let help = "Partitions that are assigned here and cannot be read, as there is no id for them.";
        gauge(text, "unread_partitions", help, Some(self.unread_partitions.len()));

        self.each(text, "position_offset", "The offset after the last record read.", |it| it.position);
        self.each(text, "commit_point_offset", "The offset of the first record not done.", |it| it.commit_point);
        self.each(text, "committed_offset", "The offset that the brokers have confirmed.", |it| it.committed);
        self.each(text, "end_offset", "The offset after the last record there is.", |it| it.end);
        self.each(text, "lag_records", "Offsets from the first record not done to the end.", |it| it.lag);
        self.each(text, "held_records", "Records in memory or waiting to be committed.", |it| Some(it.held_records));
        self.each(text, "held_bytes", "Bytes that these take.", |it| Some(it.held_bytes));
        self.each(text, "in_flight_records", "Records that are with the platform.", |it| Some(it.in_flight));
        // Zero, so that an alert on it can end.
        let age = |it: &Partition| Some(it.oldest_unacked.map_or(0.0, |unacked| unacked.age));
        self.each(text, "oldest_unacked_age_seconds", "How long the platform has had the first record not done.", age);
        let age = |it: &Partition| Some(it.starving_age.unwrap_or_default());
        self.each(text, "starving_age_seconds", "How long the partition has had records that do not come.", age);
        let waits = |it: &Partition| Some(u8::from(it.waits.is_some()));
        let help = "1 while the partition is not read yet, as it is not known where to begin.";
        self.each(text, "waits", help, waits);
        let is_halted = |it: &Partition| Some(u8::from(it.halted.is_some()));
        self.each(text, "halted", "1 while the partition stands still at a record.", is_halted);

        for total in &self.totals {
            text.counter(&name(&format!("{}_total", total.name)), total.help).sample(&[], total.value);
        }
    }

    fn each_broker<V: Display>(
        &self,
        text: &mut MetricsText,
        metric: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&BrokerFigures) -> V,
    ) {
        let metric = name(metric);
        let mut family = if kind == "counter" { text.counter(&metric, help) } else { text.gauge(&metric, help) };
        for broker in &self.brokers {
            family.sample(&[("broker", &broker.id.to_string())], value(broker));
        }
    }

    fn each<V: Display>(
        &self,
        text: &mut MetricsText,
        metric: &str,
        help: &str,
        value: impl Fn(&Partition) -> Option<V>,
    ) {
        let metric = name(metric);
        let mut family = text.gauge(&metric, help);
        for partition in &self.partitions {
            if let Some(value) = value(partition) {
                let number = partition.partition.to_string();
                family.sample(&[("topic", &partition.topic), ("partition", &number)], value);
            }
        }
    }
}

/// What is not known has no sample.
fn gauge(text: &mut MetricsText, metric: &str, help: &str, value: Option<impl Display>) {
    let metric = name(metric);
    let mut family = text.gauge(&metric, help);
    if let Some(value) = value {
        family.sample(&[], value);
    }
}

fn name(metric: &str) -> String {
    format!("numaflow_udf_kafka_{metric}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::status::tests::reading;
    use super::*;

    fn file(path: &str) -> String {
        std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn page() -> String {
        let mut text = MetricsText::default();
        reading().write(&mut text);
        text.as_str().to_owned()
    }

    /// Name, type, labels and meaning of every metric, as a row of the table in the documentation.
    fn rows(page: &str) -> BTreeSet<String> {
        let families = page.split("# HELP ").skip(1).map(|family| {
            let lines: Vec<_> = family.lines().collect();
            let (name, help) = lines[0].split_once(' ').unwrap();
            let kind = lines[1].strip_prefix(&format!("# TYPE {name} ")).unwrap();
            let labels = match lines[2] {
                line if line.contains("{topic=\"numbers\",partition=\"3\"}") => "`topic`, `partition` ",
                line if line.contains("{broker=\"1\"}") => "`broker` ",
                line if line.contains("{le=") => "`le` ",
                _ => "",
            };
            format!("| `{name}` | {kind} | {labels}| kafka-source | {help} |")
        });
        families.collect()
    }

    #[test]
    fn the_table_of_metrics_is_the_page() {
        let documented: BTreeSet<_> = file("docs/metrics.md")
            .lines()
            .filter(|line| line.contains("`numaflow_udf_kafka_"))
            .map(str::to_owned)
            .collect();
        let documented: BTreeSet<_> = documented.into_iter().filter(|line| line.contains("| kafka-source |")).collect();
        assert_eq!(rows(&page()), documented);
    }

    #[test]
    fn what_is_told_of_a_partition_has_its_labels() {
        let page = page();
        for (sample, value) in [
            ("position_offset", "20"),
            ("commit_point_offset", "10"),
            ("committed_offset", "9"),
            ("end_offset", "40"),
            ("lag_records", "30"),
            ("held_records", "10"),
            ("held_bytes", "1000"),
            ("in_flight_records", "4"),
            ("oldest_unacked_age_seconds", "1.5"),
            ("starving_age_seconds", "7.5"),
            ("waits", "0"),
            ("halted", "0"),
        ] {
            let line = format!("\nnumaflow_udf_kafka_{sample}{{topic=\"numbers\",partition=\"3\"}} {value}\n");
            assert!(page.contains(&line), "{line} is missing from\n{page}");
        }
        assert!(page.contains("\nnumaflow_udf_kafka_assigned 1\n"), "{page}");
    }

    /// An alert on a metric that is called something else would never come.
    #[test]
    fn alerts_are_on_metrics_that_there_are() {
        let (alerts, documented) = (file("deploy/alerts.yaml"), file("docs/metrics.md"));
        let is_name = |character: char| character.is_ascii_lowercase() || character == '_';
        let mut count = 0;
        for (place, _) in alerts.match_indices("numaflow_udf_") {
            let name = &alerts[place..];
            let name = &name[..name.find(|character| !is_name(character)).unwrap()];
            assert!(documented.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
            count += 1;
        }
        assert!(count > 5);
    }
}
