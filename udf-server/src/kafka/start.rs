//! Where a group that has committed nothing yet starts to read.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};
use numaflow_sdk::parse_duration;
use rdkafka::topic_partition_list::Offset;

/// Where a group that has committed nothing yet starts to read.
///
/// It holds for a partition as long as the group has committed nothing of it; after that the group's own offsets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the oldest record there is: nothing is left out, which is why it is the default.
    #[default]
    Earliest,
    /// With the first record that comes.
    Latest,
    /// With the first record whose timestamp is this time or later.
    At(SystemTime),
    /// With the first record that is no older than this, counted back from when the partition's start is looked up.
    Ago(Duration),
}

impl Start {
    /// Reads `earliest`, `latest`, a time of RFC 3339 such as `2026-01-31T12:00:00Z`, or a duration such as `6h`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, as the end of a sentence that begins with the setting's place.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Ok(duration) = parse_duration(text) {
            return Ok(Self::Ago(duration));
        }
        text.parse::<Timestamp>().map(|time| Self::At(time.into())).map_err(|_| {
            format!(
                "is {text:?}; give earliest, latest, a time such as 2026-01-31T12:00:00Z, or how far back, such as 6h"
            )
        })
    }

    /// What the brokers are asked for the offset to start with.
    pub(super) fn question(self, now: SystemTime) -> Offset {
        match self {
            Self::Earliest => Offset::Beginning,
            Self::Latest => Offset::End,
            Self::At(time) => Offset::Offset(millis(time)),
            Self::Ago(duration) => Offset::Offset(now.checked_sub(duration).map_or(0, millis)),
        }
    }
}

/// Milliseconds since 1970, and 0 before: what is negative means something else to Kafka.
fn millis(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::At(time) => match Timestamp::try_from(*time) {
                Ok(time) => write!(f, "{time}"),
                Err(_) => f.write_str("a time beyond the calendar"),
            },
            Self::Ago(duration) => match SignedDuration::try_from(*duration) {
                Ok(duration) => write!(f, "{duration:#}"),
                Err(_) => f.write_str("earliest"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_written() {
        let noon = UNIX_EPOCH + Duration::from_secs(1_769_860_800);
        for (text, start) in [
            ("earliest", Start::Earliest),
            ("latest", Start::Latest),
            ("2026-01-31T12:00:00Z", Start::At(noon)),
            ("6h", Start::Ago(Duration::from_secs(6 * 3600))),
        ] {
            assert_eq!(Start::parse(text).as_ref(), Ok(&start), "{text}");
            assert_eq!(start.to_string(), text);
        }
        assert_eq!(Start::parse("2026-01-31T13:00:00+01:00"), Ok(Start::At(noon)));
    }

    #[test]
    fn what_is_no_start_is_told_with_what_is() {
        // A time without its offset from UTC would be another one on another machine.
        for text in
            ["", "yesterday", "Earliest", "6", "0s", "-6h", "2026-01-31", "2026-01-31T12:00:00", "2026-13-31T12:00:00Z"]
        {
            let problem = Start::parse(text).unwrap_err();
            assert!(problem.starts_with(&format!("is {text:?}; give earliest, latest, a time such as")), "{problem}");
        }
    }

    #[test]
    fn times_are_asked_for_in_milliseconds_and_never_below_zero() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let asked = |start: Start| start.question(now);
        assert_eq!(asked(Start::Earliest), Offset::Beginning);
        assert_eq!(asked(Start::Latest), Offset::End);
        assert_eq!(asked(Start::At(UNIX_EPOCH + Duration::from_millis(1500))), Offset::Offset(1500));
        assert_eq!(asked(Start::Ago(Duration::from_secs(1))), Offset::Offset(999_000));
        assert_eq!(asked(Start::At(UNIX_EPOCH - Duration::from_secs(1))), Offset::Offset(0));
        assert_eq!(asked(Start::Ago(Duration::from_secs(2000))), Offset::Offset(0));
        assert_eq!(asked(Start::Ago(Duration::MAX)), Offset::Offset(0));
    }
}
