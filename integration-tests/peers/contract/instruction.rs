//! What the value of a map's input asks for.

/// An input, understood. The names are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instruction<'a> {
    Empty,
    Drop,
    Nack,
    Fail,
    Times,
    Metadata,
    Many(usize),
    Hold(&'a str),
    Release(&'a str),
    First(&'a str),
    Panic(&'a str),
    ManyThenPanic(usize),
    Error(&'a str),
    Skip,
    /// Anything else goes on as it came.
    Echo,
}

impl<'a> Instruction<'a> {
    /// Understands a value; one that is no text, or no instruction to the letter, is to be echoed.
    pub(crate) fn parse(value: &'a [u8]) -> Self {
        let text = str::from_utf8(value).unwrap_or_default();
        match text {
            "empty" => Self::Empty,
            "drop" => Self::Drop,
            "nack" => Self::Nack,
            "fail" => Self::Fail,
            "times" => Self::Times,
            "metadata" => Self::Metadata,
            "skip" => Self::Skip,
            _ => match text.split_once(' ') {
                Some(("many", count)) => count.parse().map_or(Self::Echo, Self::Many),
                Some(("many-then-panic", count)) => count.parse().map_or(Self::Echo, Self::ManyThenPanic),
                Some(("hold", name)) => Self::Hold(name),
                Some(("release", name)) => Self::Release(name),
                Some(("first", name)) => Self::First(name),
                Some(("panic", text)) => Self::Panic(text),
                Some(("error", text)) => Self::Error(text),
                _ => Self::Echo,
            },
        }
    }
}
