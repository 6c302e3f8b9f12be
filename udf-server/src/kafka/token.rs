//! The offset that the platform gets for a record, and the partition id that goes with it.
//!
//! Both are functions of topic, partition, offset and the configured list of topics alone: the platform makes message
//! ids from them, so a redelivery, another pod and a later process must come to the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{PoisonError, RwLock};

/// Partition ids per topic where there are several topics.
pub(super) const STRIDE: u16 = 1024;
/// Partition ids in all.
const IDS: u32 = 1 << 16;

/// `topic:partition:offset`. A topic's name has no colon (Kafka allows letters, digits, `.`, `_` and `-`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl<'a> Token<'a> {
    /// Reads a token; `None` for anything that [`Token`] would not have written in exactly this form.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (topic, rest) = str::from_utf8(bytes).ok()?.split_once(':')?;
        let (partition, offset) = rest.split_once(':')?;
        Some(Self { topic, partition: number(partition)?.try_into().ok()?, offset: number(offset)? })
    }
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

/// A number in the one form it is written in: digits without a sign or leading zeros.
fn number(text: &str) -> Option<i64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// The ids of partitions.
#[derive(Debug)]
pub(super) enum Topics {
    /// The configured topics, in the order that gives them their ids. They are the platform's ids, too.
    Listed(Vec<String>),
    /// Whatever this replica reads is one partition to the platform. The ids are our own, and given as partitions come.
    OfReplica {
        /// The platform's id.
        replica: u16,
        /// Only ever grows, so that an id means the same as long as the process lives. Locked to be read for as long as a
        /// look takes, and to be written when a partition comes for the first time.
        met: RwLock<Met>,
    },
}

/// The partitions that have come so far.
#[derive(Debug, Default)]
pub(super) struct Met {
    ids: HashMap<String, BTreeMap<i32, u16>>,
    /// The other way round: the place of each is its id.
    places: Vec<(String, i32)>,
}

impl Topics {
    /// All that a replica reads is one partition to the platform.
    pub(super) fn of_replica(replica: u16) -> Self {
        Self::OfReplica { replica, met: RwLock::default() }
    }

    /// The id of a partition: its number where there is one topic, otherwise the number within the topic's own stretch of
    /// [`STRIDE`] ids. `None` where there is no such id, or no such topic.
    pub(super) fn partition_id(&self, topic: &str, partition: i32) -> Option<u16> {
        let names = match self {
            Self::Listed(names) => names,
            Self::OfReplica { met, .. } => {
                let met = met.read().unwrap_or_else(PoisonError::into_inner);
                return met.ids.get(topic)?.get(&partition).copied();
            }
        };
        let slot = names.iter().position(|name| name == topic)?;
        let partition = u16::try_from(partition).ok()?;
        if names.len() == 1 {
            return Some(partition);
        }
        let start = u16::try_from(slot).ok()?.checked_mul(STRIDE)?;
        (partition < STRIDE).then(|| start.checked_add(partition))?
    }

    /// How many of a topic's partitions have an id, and can be read.
    pub(super) fn readable(&self, topic: &str, partitions: i32) -> u32 {
        let partitions = u32::try_from(partitions).unwrap_or(0);
        match self {
            // An id is given when a partition comes.
            Self::OfReplica { .. } => partitions,
            Self::Listed(names) if names.len() == 1 => partitions.min(IDS),
            Self::Listed(_) if self.partition_id(topic, 0).is_some() => partitions.min(STRIDE.into()),
            Self::Listed(_) => 0,
        }
    }

    /// As [`Topics::partition_id`], of a partition that has come: where ids are our own, it gets one.
    pub(super) fn meet(&self, topic: &str, partition: i32) -> Option<u16> {
        if let Some(id) = self.partition_id(topic, partition) {
            return Some(id);
        }
        let Self::OfReplica { met, .. } = self else { return None };
        let mut met = met.write().unwrap_or_else(PoisonError::into_inner);
        let id = u16::try_from(met.places.len()).ok()?;
        met.ids.entry(topic.to_owned()).or_default().insert(partition, id);
        met.places.push((topic.to_owned(), partition));
        Some(id)
    }

    /// The topic and the partition that have this id.
    pub(super) fn place(&self, id: u16) -> Option<(String, i32)> {
        match self {
            Self::Listed(names) => {
                if let [topic] = &names[..] {
                    return Some((topic.clone(), id.into()));
                }
                let topic = names.get(usize::from(id / STRIDE))?;
                Some((topic.clone(), (id % STRIDE).into()))
            }
            Self::OfReplica { met, .. } => {
                let met = met.read().unwrap_or_else(PoisonError::into_inner);
                met.places.get(usize::from(id)).cloned()
            }
        }
    }

    /// The replica's id, where the platform knows partitions by that.
    pub(super) fn replica(&self) -> Option<u16> {
        match self {
            Self::Listed(_) => None,
            Self::OfReplica { replica, .. } => Some(*replica),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics(names: &[&str]) -> Topics {
        Topics::Listed(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn anything_but_the_written_form_is_no_token() {
        for text in [
            "",
            ":",
            "::",
            "a",
            "a:1",
            "a:1:",
            "a::1",
            "a:1:2:3",
            "a:01:2",
            "a:1:02",
            "a:-1:2",
            "a:+1:2",
            "a:1:-2",
            "a: 1:2",
            "a:1:2 ",
            "a:2147483648:1",
            "a:1:9223372036854775808",
            "a:1:x",
        ] {
            assert_eq!(Token::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Token::parse(b"a:\xff:1"), None);
    }

    #[test]
    fn ids_of_one_topic_are_its_partitions() {
        let one = topics(&["a"]);
        assert_eq!(one.partition_id("a", 5000), Some(5000));
        assert_eq!(one.partition_id("a", 65_536), None);
        assert_eq!(one.partition_id("b", 0), None);
        assert_eq!(one.place(5000), place("a", 5000));
    }

    #[test]
    fn ids_of_several_topics_never_meet() {
        let two = topics(&["b", "a"]);
        assert_eq!(two.partition_id("b", 3), Some(3));
        assert_eq!(two.partition_id("a", 3), Some(1027));
        assert_eq!(two.partition_id("b", 1024), None);
        assert_eq!((two.place(3), two.place(1027), two.place(2048)), (place("b", 3), place("a", 3), None));
        let names: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
        let many = Topics::Listed(names);
        assert_eq!(many.partition_id("t63", 1023), Some(u16::MAX));
        assert_eq!(many.partition_id("t64", 0), None);
    }

    #[test]
    fn partitions_without_an_id_are_not_readable() {
        let one = topics(&["a"]);
        assert_eq!((one.readable("a", 3), one.readable("a", 70_000)), (3, 65_536));
        let two = topics(&["a", "b"]);
        assert_eq!((two.readable("b", 1024), two.readable("b", 1025), two.readable("c", 3)), (1024, 1024, 0));
        assert_eq!(Topics::of_replica(7).readable("a", 1025), 1025);
    }

    fn place(topic: &str, partition: i32) -> Option<(String, i32)> {
        Some((topic.to_owned(), partition))
    }

    #[test]
    fn where_the_replica_is_the_partition_ids_are_given_once() {
        let topics = Topics::of_replica(7);
        assert_eq!((topics.replica(), topics.partition_id("a", 5000)), (Some(7), None));
        let ids = [("a", 5000), ("b", 0), ("a", 0), ("b", 0)].map(|(topic, partition)| topics.meet(topic, partition));
        assert_eq!(ids, [Some(0), Some(1), Some(2), Some(1)]);
        assert_eq!((topics.partition_id("b", 0), topics.place(0)), (Some(1), place("a", 5000)));
        assert_eq!(topics.place(3), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            topic in "[a-zA-Z0-9._-]{1,40}", partition in 0..=i32::MAX, offset in 0..=i64::MAX,
        ) {
            let token = Token { topic: &topic, partition, offset };
            let text = token.to_string();
            prop_assert_eq!(Token::parse(text.as_bytes()), Some(token));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            if let Some(token) = Token::parse(&bytes) {
                prop_assert_eq!(token.to_string().into_bytes(), bytes.clone());
            }
        }
    }
}
