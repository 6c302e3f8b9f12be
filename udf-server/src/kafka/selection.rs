//! Which topics are read: by name, or by a pattern that their names match.

use clap::ValueEnum;
use regex::bytes::{RegexSet, RegexSetBuilder};

/// By what the platform tells partitions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartitionIds {
    /// By numbers of their own, which come from the topic's place in the list and the partition's number. A partition keeps
    /// its number wherever it is read.
    Partition,
    /// Not at all: whatever a replica reads has the number of the replica. The only way where it is not known beforehand
    /// which topics there are.
    Replica,
}

/// The topics that are to be read, of those there are.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    named: Vec<String>,
    patterns: RegexSet,
    /// Read by no pattern.
    except: Option<String>,
}

/// Whether a topic is given by a pattern: no topic's name begins so.
pub(super) fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// Says what is wrong with a pattern. The last line of the regular expression's own error is the reason; those before it show
/// the pattern.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let reason = |error: regex::Error| {
        let text = error.to_string();
        let last = text.lines().next_back().unwrap_or_default();
        let reason = last.strip_prefix("error: ").unwrap_or(last);
        format!(
            "is {pattern:?}; this is not a regular expression: {reason}. Commas stand between topics: a pattern that has one \
             goes into a list in the file"
        )
    };
    compiled(&[pattern]).map(drop).map_err(reason)
}

fn compiled(patterns: &[&str]) -> Result<RegexSet, regex::Error> {
    // Names of topics are ASCII.
    RegexSetBuilder::new(patterns).unicode(false).build()
}

impl Selection {
    /// What `topics` say, names or patterns, but for a topic that no pattern is to match.
    pub(super) fn new(topics: &[String], except: Option<&str>) -> Result<Self, String> {
        let (patterns, named): (Vec<&str>, Vec<&str>) =
            topics.iter().map(String::as_str).partition(|topic| is_pattern(topic));
        let patterns = compiled(&patterns).map_err(|error| error.to_string())?;
        Ok(Self { named: named.into_iter().map(str::to_owned).collect(), patterns, except: except.map(str::to_owned) })
    }

    /// Those that are given by name.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(String::as_str)
    }

    /// Whether there may be others.
    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether a topic is read by a pattern, and not by its name. Kafka's own topics, which begin with two underscores, are
    /// not: what they hold is nobody's but the brokers'.
    pub(super) fn finds(&self, topic: &str) -> bool {
        let is_barred = topic.starts_with("__") || self.except.as_deref() == Some(topic);
        !is_barred && self.patterns.is_match(topic.as_bytes()) && self.named().all(|named| named != topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(topics: &[&str], except: Option<&str>) -> Selection {
        Selection::new(&topics.iter().map(|topic| (*topic).to_owned()).collect::<Vec<_>>(), except).unwrap()
    }

    #[test]
    fn patterns_find_what_is_not_named() {
        let selection = selection(&["orders", "^orders\\..*", "^.*-log$"], Some("orders.dead"));
        assert_eq!(selection.named().collect::<Vec<_>>(), ["orders"]);
        assert!(selection.has_patterns());
        for (topic, found) in [
            ("orders", false),
            ("orders.eu", true),
            ("orders.dead", false),
            ("of-orders.eu", false),
            ("a-log", true),
            ("a-logs", false),
            ("__a-log", false),
        ] {
            assert_eq!(selection.finds(topic), found, "{topic}");
        }
    }

    #[test]
    fn names_alone_find_nothing() {
        let selection = selection(&["a", "b.c"], None);
        assert!(!selection.has_patterns() && !selection.finds("b.c") && !selection.finds("bxc"));
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        assert!(
            check("^a(b").unwrap_err().starts_with("is \"^a(b\"; this is not a regular expression: unclosed group. ")
        );
        assert_eq!(check("^a[0-9]{2}$"), Ok(()));
    }
}
