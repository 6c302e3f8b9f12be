//! Which topics a commit is for. Pure: no client.
//!
//! The brokers answer a commit partition by partition, and the client library makes one answer of theirs: where one partition
//! is refused, all of them count as refused. So after such an answer each topic is committed by itself, until it is known
//! which of them are refused. From then on the others are committed together, and the refused ones in turn with them, each by
//! itself.

use std::collections::{BTreeSet, VecDeque};

use rdkafka::error::RDKafkaErrorCode as Code;

/// What the answers to commits have said of topics.
#[derive(Debug, Default)]
pub(super) struct CommitScopes {
    /// A commit of each of these, by itself, was refused. The one that waits longest comes first.
    refused: VecDeque<String>,
    /// A commit of several topics was refused, and these are to be committed by themselves.
    doubtful: VecDeque<String>,
    /// The last commit was for a topic that is refused.
    was_refused: bool,
}

/// Which topics a commit is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// All but these.
    Without(Vec<String>),
    Only(String),
}

impl Scope {
    pub(super) fn includes(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Without(topics) => topics.iter().all(|refused| refused != topic),
            Self::Only(only) => only == topic,
        }
    }
}

/// Whether the brokers refuse topics or partitions with this error, and not the commit as a whole.
pub(super) fn is_of_topic(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::UnknownTopicOrPartition
            | Code::OffsetMetadataTooLarge
            | Code::InvalidCommitOffsetSize
    )
}

impl CommitScopes {
    /// What the next commit is for. `open` are the topics that have something to commit.
    pub(super) fn next(&mut self, open: &BTreeSet<&str>) -> Scope {
        self.doubtful.retain(|topic| open.contains(&**topic));
        if let Some(topic) = self.doubtful.front() {
            return Scope::Only(topic.clone());
        }
        if self.refused.is_empty() || open.is_empty() {
            return Scope::All;
        }
        let are_others_open = open.iter().any(|topic| !self.is_refused(topic));
        let place = self.refused.iter().position(|topic| open.contains(&**topic));
        self.was_refused = !are_others_open || !self.was_refused;
        match place {
            Some(place) if self.was_refused => {
                self.refused.rotate_left(place + 1);
                Scope::Only(self.refused.back().cloned().unwrap_or_default())
            }
            _ => Scope::Without(self.refused.iter().cloned().collect()),
        }
    }

    fn is_refused(&self, topic: &str) -> bool {
        self.refused.iter().any(|refused| refused == topic)
    }

    /// Whether a commit is refused for a topic, or for one of several.
    pub(super) fn any_refused(&self) -> bool {
        !self.refused.is_empty() || !self.doubtful.is_empty()
    }

    /// Takes note that these topics are not read any more.
    pub(super) fn keep(&mut self, is_read: impl Fn(&str) -> bool) {
        self.refused.retain(|topic| is_read(topic));
        self.doubtful.retain(|topic| is_read(topic));
    }

    /// Takes note that a commit of these topics has succeeded.
    pub(super) fn succeeded(&mut self, topics: &BTreeSet<&str>) {
        self.keep(|topic| !topics.contains(topic));
    }

    /// Takes note that a commit of these topics was refused for one of them, or for more.
    pub(super) fn refused(&mut self, topics: &BTreeSet<&str>) {
        self.doubtful.retain(|topic| !topics.contains(&**topic));
        match topics.first() {
            Some(topic) if topics.len() == 1 => {
                if !self.is_refused(topic) {
                    self.refused.push_back((*topic).to_owned());
                }
            }
            _ => {
                let doubtful = topics.iter().filter(|topic| !self.is_refused(topic));
                let doubtful: Vec<_> = doubtful.map(|topic| (*topic).to_owned()).collect();
                self.doubtful.extend(doubtful);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn set(bits: u8) -> BTreeSet<&'static str> {
        NAMES.into_iter().enumerate().filter(|(place, _)| bits & 1 << place != 0).map(|(_, name)| name).collect()
    }

    /// Commits what is open once, and returns the topics that the brokers were asked for.
    fn turn(
        scopes: &mut CommitScopes,
        open: &mut BTreeSet<&'static str>,
        refusing: &BTreeSet<&str>,
    ) -> BTreeSet<&'static str> {
        let scope = scopes.next(open);
        let asked: BTreeSet<_> = open.iter().copied().filter(|topic| scope.includes(topic)).collect();
        if asked.is_disjoint(refusing) {
            scopes.succeeded(&asked);
            open.retain(|topic| !asked.contains(topic));
        } else {
            scopes.refused(&asked);
        }
        asked
    }

    #[test]
    fn the_topic_that_is_refused_is_found_and_holds_up_no_other() {
        let (mut scopes, mut open, refusing) = (CommitScopes::default(), set(0b111), set(0b010));
        let asked: Vec<_> = (0..4).map(|_| turn(&mut scopes, &mut open, &refusing)).collect();
        assert_eq!(asked, [set(0b111), set(0b001), set(0b010), set(0b100)]);
        assert!(scopes.any_refused());
        for _ in 0..2 {
            open = set(0b111);
            let asked: Vec<_> = (0..2).map(|_| turn(&mut scopes, &mut open, &refusing)).collect();
            assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([set(0b101), set(0b010)]));
        }
        // The right is given back.
        while !open.is_empty() {
            turn(&mut scopes, &mut open, &set(0));
        }
        assert!(!scopes.any_refused());
        assert_eq!(scopes.next(&set(0b111)), Scope::All);
    }

    #[test]
    fn topics_that_are_not_read_any_more_are_forgotten() {
        let mut scopes = CommitScopes::default();
        scopes.refused(&set(0b001));
        scopes.refused(&set(0b110));
        assert!(scopes.any_refused());
        scopes.keep(|topic| topic == "e");
        assert!(!scopes.any_refused());
    }

    proptest! {
        /// Whatever is refused, and whenever that changes: every topic that is open is asked for soon, and those that are not
        /// refused are committed then.
        #[test]
        fn every_topic_has_its_turn(changes in proptest::collection::vec((0..32_u8, 0..32_u8), 1..8)) {
            let mut scopes = CommitScopes::default();
            for (opened, refusing) in changes {
                let (mut open, refusing) = (set(opened), set(refusing));
                let mut left = open.clone();
                // All at once, each alone if that is refused, and those that were refused before in turn with the others.
                for _ in 0..=4 * NAMES.len() {
                    let asked = turn(&mut scopes, &mut open, &refusing);
                    prop_assert!(open.is_empty() || !asked.is_empty(), "a turn goes by without a commit");
                    left.retain(|topic| !asked.contains(topic));
                }
                prop_assert!(left.is_empty(), "never asked for: {left:?}");
                prop_assert_eq!(&open, &set(opened).intersection(&refusing).copied().collect::<BTreeSet<_>>());
            }
        }
    }
}
