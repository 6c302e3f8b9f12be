//! How many messages may be in flight, as it is set.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// How many messages may be in flight, over all streams of a server.
///
/// Made from a number or from a range, and as text, for flags and the environment, `512` or `64..4096`.
///
/// ```
/// use numaflow_sdk::MaxInFlight;
///
/// assert_eq!("64..4096".parse(), Ok(MaxInFlight::from(64..=4096)));
/// assert_eq!("512".parse(), Ok(MaxInFlight::Fixed(512)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaxInFlight {
    /// This many.
    Fixed(usize),
    /// As many as what handlers wait for serves at once, found out from their latency and looked for all the time: more
    /// would wait longer and not be done sooner. For handlers that wait for something that slows down under load, such as
    /// a database. Handlers that are ready at once say nothing about it, and batch mappers neither.
    Adaptive {
        /// The least, and where it starts.
        floor: usize,
        /// The most.
        ceiling: usize,
    },
}

impl MaxInFlight {
    /// What it starts with.
    pub(crate) const fn first(self) -> usize {
        match self {
            Self::Fixed(messages) | Self::Adaptive { floor: messages, .. } => messages,
        }
    }

    /// # Errors
    ///
    /// What is wrong with it, after the name of the option.
    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Self::Fixed(0) | Self::Adaptive { floor: 0, .. } => Err("must be above zero".to_owned()),
            Self::Adaptive { floor, ceiling } if floor > ceiling => {
                Err(format!("has a floor of {floor}, which is above its ceiling of {ceiling}"))
            }
            Self::Fixed(_) | Self::Adaptive { .. } => Ok(()),
        }
    }
}

impl From<usize> for MaxInFlight {
    fn from(messages: usize) -> Self {
        Self::Fixed(messages)
    }
}

impl From<RangeInclusive<usize>> for MaxInFlight {
    fn from(range: RangeInclusive<usize>) -> Self {
        let (floor, ceiling) = range.into_inner();
        Self::Adaptive { floor, ceiling }
    }
}

impl FromStr for MaxInFlight {
    type Err = String;

    /// # Errors
    ///
    /// What is wrong with the text, and the choices there are.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.split_once("..") {
            None => text.parse().map(Self::Fixed),
            Some((floor, ceiling)) => {
                let ceiling = ceiling.strip_prefix('=').unwrap_or(ceiling);
                floor.parse().and_then(|floor| Ok(Self::Adaptive { floor, ceiling: ceiling.parse()? }))
            }
        };
        parsed.ok().filter(|limit| limit.check().is_ok()).ok_or_else(|| {
            format!(
                "is {text:?}; give a whole number above zero, or the floor and the ceiling of one, such as 64..4096"
            )
        })
    }
}

impl fmt::Display for MaxInFlight {
    /// The text that it is made from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(messages) => write!(f, "{messages}"),
            Self::Adaptive { floor, ceiling } => write!(f, "{floor}..{ceiling}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_text() {
        for text in ["1", "4096", "1..1", "64..4096"] {
            assert_eq!(text.parse::<MaxInFlight>().unwrap().to_string(), text);
        }
        assert_eq!("64..=128".parse(), Ok(MaxInFlight::from(64..=128)));
        for text in ["", "0", "-1", "many", "0..5", "5..4", "..4", "4..", "4...5", "1..2..3", "64-128"] {
            let problem = text.parse::<MaxInFlight>().unwrap_err();
            assert!(problem.starts_with(&format!("is {text:?}; give a whole number")), "{problem}");
        }
    }
}
