//! The offset that the platform gets for a record, and the partition id that goes with it.
//!
//! Both are functions of topic, partition, offset and the configured list of topics alone: the platform makes message
//! ids from them, so a redelivery, another pod and a later process must come to the same.

use std::fmt;

/// Partition ids per topic where there are several topics.
pub(super) const STRIDE: u16 = 1024;

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

/// The configured topics, in the order that gives them their partition ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topics(Vec<String>);

impl Topics {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The id by which the platform knows a partition: its number where there is one topic, otherwise the number within
    /// the topic's own stretch of [`STRIDE`] ids. `None` where there is no such id, or no such topic.
    pub(super) fn partition_id(&self, topic: &str, partition: i32) -> Option<u16> {
        let slot = self.0.iter().position(|name| name == topic)?;
        let partition = u16::try_from(partition).ok()?;
        if self.0.len() == 1 {
            return Some(partition);
        }
        let start = u16::try_from(slot).ok()?.checked_mul(STRIDE)?;
        (partition < STRIDE).then(|| start.checked_add(partition))?
    }

    /// The topic and the partition that have this id.
    pub(super) fn place(&self, id: u16) -> Option<(&str, i32)> {
        if let [topic] = &self.0[..] {
            return Some((topic, id.into()));
        }
        let topic = self.0.get(usize::from(id / STRIDE))?;
        Some((topic, (id % STRIDE).into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics(names: &[&str]) -> Topics {
        Topics::new(names.iter().map(|name| (*name).to_owned()).collect())
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
        assert_eq!(one.place(5000), Some(("a", 5000)));
    }

    #[test]
    fn ids_of_several_topics_never_meet() {
        let two = topics(&["b", "a"]);
        assert_eq!(two.partition_id("b", 3), Some(3));
        assert_eq!(two.partition_id("a", 3), Some(1027));
        assert_eq!(two.partition_id("b", 1024), None);
        assert_eq!((two.place(3), two.place(1027), two.place(2048)), (Some(("b", 3)), Some(("a", 3)), None));
        let names: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
        let many = Topics::new(names);
        assert_eq!(many.partition_id("t63", 1023), Some(u16::MAX));
        assert_eq!(many.partition_id("t64", 0), None);
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
