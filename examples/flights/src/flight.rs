//! What becomes of one line.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::airports::{Airports, Place};
use crate::record::{Field, Reason, Record};

/// What becomes of a line.
#[derive(Debug)]
pub enum Outcome {
    /// A flight goes on.
    Mapped {
        /// The origin and the destination, joined by `-`.
        key: String,
        /// A JSON object on one line.
        value: Vec<u8>,
    },
    /// A flight of no use: how late it was, or how far it went, is not known.
    Dropped,
    /// Not a flight.
    DeadLetter {
        /// Why.
        reason: Reason,
    },
}

/// Turns a line into what the map answers.
///
/// The line is a JSON object with the fields `date`, `delay`, `distance`, `origin` and `destination`, or the same as
/// five CSV columns. The output holds these five in the line's order and as the line writes them, then what was
/// computed; other fields of the object are left out.
///
/// ```
/// use flights::{Airports, Outcome, flight};
///
/// let line = br#"{"date":"2001/01/01 08:00","delay":30,"distance":400,"origin":"SFO","destination":"LAX"}"#;
/// let Outcome::Mapped { key, value } = flight(line, &Airports::bundled()) else { unreachable!("it is a flight") };
/// assert_eq!(key, "SFO-LAX");
/// assert!(String::from_utf8_lossy(&value).contains(r#""delay_per_100_miles":7.5,"origin_city":"San Francisco""#));
/// ```
#[must_use]
pub fn flight(line: &[u8], airports: &Airports) -> Outcome {
    match read(line, airports) {
        Ok(outcome) => outcome,
        Err(reason) => Outcome::DeadLetter { reason },
    }
}

/// The origin of the flight on a line, by which a producer may key its records; `None` where the line is no flight.
#[must_use]
pub fn origin(line: &[u8]) -> Option<String> {
    let record = Record::parse(line).ok()?;
    Some(record.text(Field::Origin).ok()?.into_owned())
}

fn read(line: &[u8], airports: &Airports) -> Result<Outcome, Reason> {
    let record = Record::parse(line)?;
    let origin = record.text(Field::Origin)?;
    let destination = record.text(Field::Destination)?;

    // A CSV header ends here as well: its delay is the word `delay`.
    let (Some(delay), Some(distance)) = (record.number(Field::Delay), record.number(Field::Distance)) else {
        return Ok(Outcome::Dropped);
    };
    if distance <= 0.0 {
        return Ok(Outcome::Dropped);
    }

    let delay_per_100_miles = (delay / distance) * 100.0;
    if !(distance.is_finite() && delay_per_100_miles.is_finite()) {
        return Err(Reason::OutOfRange);
    }

    let unknown = Place::default();
    let flight = Flight {
        fields: &record.fields,
        delay_per_100_miles,
        origin: airports.place(&origin).unwrap_or(&unknown),
        destination: airports.place(&destination).unwrap_or(&unknown),
    };
    let value = serde_json::to_vec(&flight).map_err(Reason::NotJson)?;
    Ok(Outcome::Mapped { key: format!("{origin}-{destination}"), value })
}

/// The output. Its order of fields is the input's, so it writes itself.
struct Flight<'a> {
    fields: &'a [(Field, Cow<'a, RawValue>)],
    delay_per_100_miles: f64,
    origin: &'a Place,
    destination: &'a Place,
}

impl Serialize for Flight<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.fields.len() + 5))?;
        for (field, json) in self.fields {
            object.serialize_entry(field.name(), json)?;
        }
        object.serialize_entry("delay_per_100_miles", &self.delay_per_100_miles)?;
        object.serialize_entry("origin_city", &self.origin.city)?;
        object.serialize_entry("origin_state", &self.origin.state)?;
        object.serialize_entry("destination_city", &self.destination.city)?;
        object.serialize_entry("destination_state", &self.destination.state)?;
        object.end()
    }
}
