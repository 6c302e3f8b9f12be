//! From the bytes of a line to the five fields of a flight.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::str::Utf8Error;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};

/// A field that every flight has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// When the flight was to leave.
    Date,
    /// How late it arrived, in minutes; negative when it was early.
    Delay,
    /// How far it went, in miles.
    Distance,
    /// The airport it left.
    Origin,
    /// The airport it went to.
    Destination,
}

impl Field {
    /// Every field, in the order of the columns of a CSV line.
    pub const ALL: [Self; 5] = [Self::Date, Self::Delay, Self::Distance, Self::Origin, Self::Destination];

    /// The name, as JSON and CSV write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Delay => "delay",
            Self::Distance => "distance",
            Self::Origin => "origin",
            Self::Destination => "destination",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a line is a dead letter.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The line is not text.
    NotUtf8(Utf8Error),
    /// The line begins like a JSON object and is none, or names one of the five fields twice.
    NotJson(serde_json::Error),
    /// The CSV reader gave up.
    NotCsv(csv::Error),
    /// The line is CSV of another shape.
    NotFiveColumns(usize),
    /// A line break outside quotes makes the line more than one CSV row.
    MoreThanOneRow,
    /// A field is not there.
    Missing(Field),
    /// A field that has to be text is none.
    NotText(Field, serde_json::Error),
    /// A number of the line, or the delay per 100 miles, is beyond what an `f64` holds.
    OutOfRange,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8(error) => write!(f, "the line is not UTF-8: {error}"),
            Self::NotJson(error) => write!(f, "the line is not a JSON object of a flight: {error}"),
            Self::NotCsv(error) => write!(f, "the line cannot be read as CSV: {error}"),
            Self::NotFiveColumns(columns) => {
                write!(f, "the line is not a JSON object, and the number of its CSV columns is {columns} instead of 5")
            }
            Self::MoreThanOneRow => f.write_str("the line is not a JSON object, and as CSV it has more than one row"),
            Self::Missing(field) => write!(f, "the field {field} is missing"),
            Self::NotText(field, error) => write!(f, "the field {field} is not text: {error} of the field"),
            Self::OutOfRange => f.write_str("a number is beyond the range of a 64-bit float"),
        }
    }
}

impl Error for Reason {}

/// A flight as its line tells it.
pub(crate) struct Record<'a> {
    /// The five fields in the line's order, each as the JSON text that stands for it.
    pub(crate) fields: Vec<(Field, Cow<'a, RawValue>)>,
}

impl<'a> Record<'a> {
    /// Reads a line: a JSON object when it begins with `{`, five CSV columns when not.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Reason> {
        let line = std::str::from_utf8(line).map_err(Reason::NotUtf8)?;
        let fields = if line.starts_with('{') { from_json(line)? } else { from_csv(line)? };
        let record = Self { fields };
        for field in Field::ALL {
            record.json(field)?;
        }
        record.text(Field::Date)?;
        Ok(record)
    }

    /// The text of a field that has to be text.
    pub(crate) fn text(&self, field: Field) -> Result<Cow<'_, str>, Reason> {
        let Text(text) = serde_json::from_str(self.json(field)?).map_err(|error| Reason::NotText(field, error))?;
        Ok(text)
    }

    /// The number in a field; `None` when it holds something else, be it a number in quotes.
    pub(crate) fn number(&self, field: Field) -> Option<f64> {
        let json = self.json(field).ok()?;
        // Not serde_json: by default its last digit may be off by one.
        json.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| json.parse().ok()).flatten()
    }

    fn json(&self, field: Field) -> Result<&str, Reason> {
        let found = self.fields.iter().find(|(name, _)| *name == field);
        found.map(|(_, json)| json.get()).ok_or(Reason::Missing(field))
    }
}

/// A JSON string without its escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn from_json(line: &str) -> Result<Vec<(Field, Cow<'_, RawValue>)>, Reason> {
    let mut json = serde_json::Deserializer::from_str(line);
    let fields = json.deserialize_map(Fields).map_err(Reason::NotJson)?;
    json.end().map_err(Reason::NotJson)?;
    Ok(fields)
}

/// Collects the five fields of an object as they stand there, and leaves the others out.
struct Fields;

impl<'a> Visitor<'a> for Fields {
    type Value = Vec<(Field, Cow<'a, RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut object: M) -> Result<Self::Value, M::Error> {
        let mut fields = Self::Value::with_capacity(Field::ALL.len());
        while let Some(Text(name)) = object.next_key()? {
            let json: &RawValue = object.next_value()?;
            let Some(field) = Field::ALL.into_iter().find(|field| field.name() == name) else { continue };
            if fields.iter().any(|(seen, _)| *seen == field) {
                return Err(M::Error::duplicate_field(field.name()));
            }
            fields.push((field, Cow::Borrowed(json)));
        }
        Ok(fields)
    }
}

fn from_csv(line: &str) -> Result<Vec<(Field, Cow<'_, RawValue>)>, Reason> {
    let mut rows =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes()).into_records();
    let row = rows.next().transpose().map_err(Reason::NotCsv)?.unwrap_or_default();
    if rows.next().is_some() {
        return Err(Reason::MoreThanOneRow);
    }
    if row.len() != Field::ALL.len() {
        return Err(Reason::NotFiveColumns(row.len()));
    }
    Field::ALL.into_iter().zip(&row).map(|(field, column)| Ok((field, Cow::Owned(json_of(field, column)?)))).collect()
}

/// The JSON text of a CSV column: in the columns of numbers what JSON would call a number, or else a string.
fn json_of(field: Field, column: &str) -> Result<Box<RawValue>, Reason> {
    let numeric = matches!(field, Field::Delay | Field::Distance);
    match serde_json::from_str::<&RawValue>(column) {
        // A value with space around it is a shorter text.
        Ok(json) if numeric && json.get() == column => Ok(json.to_owned()),
        Ok(_) | Err(_) => to_raw_value(column).map_err(Reason::NotJson),
    }
}
