//! What becomes of a record that cannot be done with as usual, and when an ack is answered.

use clap::ValueEnum;

/// What becomes of a record that was nacked as often as it may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Exhausted {
    /// It is delivered again all the same. Nothing is lost, and a record that can never be handled holds its partition's
    /// offset. The default without a dead-letter topic.
    #[default]
    Redeliver,
    /// It goes to the dead-letter topic, and is done once the brokers have confirmed it there. The default with one.
    DeadLetter,
    /// Its partition goes no further until somebody has dealt with it; the others go on.
    Halt,
}

/// What becomes of a record that is larger than the platform takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Oversize {
    /// Its partition goes no further until somebody has dealt with it; the others go on. The default without a dead-letter
    /// topic, because it loses nothing.
    #[default]
    Halt,
    /// It goes to the dead-letter topic, and is done once the brokers have confirmed it there. The default with one.
    DeadLetter,
    /// It counts as done, and is counted and named in the log: a loss by choice.
    Skip,
}

/// What becomes of records that cannot be read: their checksum is wrong, or they are in no known form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Damaged {
    /// Their partition goes no further until somebody has dealt with it; the others go on. The default, because it loses
    /// nothing that another replica of the log may have.
    #[default]
    Halt,
    /// They are passed over, counted and named in the log: a loss by choice.
    Skip,
}

/// The properties of its record that a message carries beside key, value, headers and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum RecordMetadata {
    /// Only properties without which the record could not be restored: a binary key, a tombstone, headers that are not
    /// text, repeated or without a value. Most records have none of these, and then the message has no user metadata. The
    /// default, because user metadata is the most expensive part of a message for the platform.
    #[default]
    Essential,
    /// As `essential`, and one header, `kafka-position`, with `topic:partition:offset`. It costs the platform about a
    /// twentieth of a message, where the same in user metadata costs it half a message or more.
    Position,
    /// As `essential`, and topic, partition, offset, timestamp type and leader epoch in user metadata. With a map the
    /// platform's CPU per message is about twice that of `essential`.
    Full,
}

/// Whether messages carry the name of their topic in the header `X-NF-Kafka-TopicName`, which the platform's built-in
/// Kafka source sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TopicHeader {
    /// With several topics or a pattern, because a map could not tell their records apart otherwise. The default.
    #[default]
    Auto,
    /// For maps that rely on it.
    Always,
    /// For maps that do not need to know the topic.
    Never,
}

/// When the platform's ack is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Durability {
    /// When it is noted in memory, for the next commit. What a crash before that commit takes is delivered again. The
    /// default, since the platform makes one call at a time and waits for this one.
    #[default]
    Recorded,
    /// When the brokers have confirmed the commit of all that can be committed with it: each partition up to its first record
    /// that is not done. For an ack in order that is the commit of its own records. One behind a record that is not done
    /// does not wait for that one, which the platform would ack only after this answer, and becomes durable with it.
    Committed,
}

/// Reads one of the names that a choice has.
///
/// # Errors
///
/// What is wrong with the text, with the names there are, as the end of a sentence that begins with the setting's place.
pub(super) fn choice<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names: Vec<_> = T::value_variants().iter().map(name).collect();
        match names.split_last() {
            Some((last, first)) => format!("is {text:?}; give {} or {last}", first.join(", ")),
            None => format!("is {text:?}"),
        }
    })
}

/// The name by which a choice is set.
pub(super) fn name<T: ValueEnum>(choice: &T) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_by_their_names() {
        assert_eq!(choice("dead-letter"), Ok(Exhausted::DeadLetter));
        assert_eq!(choice("skip"), Ok(Oversize::Skip));
        assert_eq!(choice("skip"), Ok(Damaged::Skip));
        assert_eq!(choice("committed"), Ok(Durability::Committed));
        assert_eq!(choice("essential"), Ok(RecordMetadata::Essential));
        assert_eq!(choice("always"), Ok(TopicHeader::Always));
        assert_eq!(choice::<Exhausted>("stop").unwrap_err(), "is \"stop\"; give redeliver, dead-letter or halt");
        assert!(choice::<Exhausted>("Halt").is_err());
        assert_eq!(choice::<Durability>("").unwrap_err(), "is \"\"; give recorded or committed");
        assert_eq!(name(&Exhausted::DeadLetter), "dead-letter");
    }
}
