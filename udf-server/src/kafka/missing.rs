//! Topics that do not exist, or may not be seen, when the source starts: they are waited for, and the source fails when that takes
//! too long.

use std::time::Duration;

use tokio::time::Instant;

use super::group::Group;
use super::shared::Shared;

/// The wait for topics that the brokers have not told of since the source started.
#[derive(Debug)]
pub(super) struct Missing {
    patience: Option<Duration>,
    since: Instant,
    brokers: String,
}

impl Missing {
    /// Begins to wait, for as long as `patience`; without end where that is `None`.
    pub(super) fn new(group: &Group, patience: Option<Duration>) -> Self {
        for (topic, reason) in group.never_met() {
            tracing::warn!(
                topic,
                %reason,
                ?patience,
                "the topic cannot be read yet; the source waits for it and reads the others"
            );
        }
        Self { patience, since: Instant::now(), brokers: group.brokers().to_owned() }
    }

    /// Fails the source if the time is over and a topic has not come.
    pub(super) fn check(&self, group: &Group, shared: &Shared) {
        if let Some(reason) = self.failure(group.never_met().map(|(topic, _)| topic), Instant::now()) {
            shared.fail(reason);
        }
    }

    fn failure<'a>(&self, topics: impl Iterator<Item = &'a str>, now: Instant) -> Option<String> {
        let patience = self.patience.filter(|patience| now.duration_since(self.since) >= *patience)?;
        let topics: Vec<&str> = topics.collect();
        if topics.is_empty() {
            return None;
        }
        let (names, brokers) = (topics.join(", "), &self.brokers);
        Some(format!(
            "the brokers {brokers} have had no topic {names} for {patience:?} (--missing-topic-timeout): create it, correct \
             --topics, or allow this user to DESCRIBE it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_fails_when_a_topic_has_not_come_in_time() {
        let since = Instant::now();
        let missing = |patience| Missing { patience, since, brokers: "b:9092".to_owned() };
        let of = |patience, topics: &[&str], at| missing(patience).failure(topics.iter().copied(), since + at);
        let minute = Duration::from_secs(60);
        assert_eq!(of(Some(minute), &["a"], minute / 2), None);
        assert_eq!(of(Some(minute), &[], minute), None);
        assert_eq!(of(None, &["a"], minute * 60), None);
        let reason = of(Some(minute), &["a", "b"], minute).unwrap();
        assert!(reason.starts_with("the brokers b:9092 have had no topic a, b for 60s"), "{reason}");
    }
}
