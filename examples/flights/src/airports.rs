//! Where the airports are.

use std::collections::HashMap;

use serde::Deserialize;

/// The places of airports by their code, such as `SFO`.
#[derive(Debug, Clone)]
pub struct Airports {
    places: HashMap<String, Place>,
}

/// Where an airport is, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The city.
    pub city: Option<String>,
    /// The state, by its two letters.
    pub state: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    iata: String,
    city: String,
    state: String,
}

impl Airports {
    /// Reads the table that is built into the program, which therefore needs no file where it runs.
    #[must_use]
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a test reads the same bytes")]
    pub fn bundled() -> Self {
        Self::from_csv(include_bytes!("../../data/airports.csv")).expect("the table is part of the program")
    }

    /// Reads a table with a header that names at least the columns `iata`, `city` and `state`. A city or state that is
    /// written `NA` is not known.
    ///
    /// # Errors
    ///
    /// When a column is missing, or a row has another number of columns than the header.
    pub fn from_csv(table: &[u8]) -> Result<Self, csv::Error> {
        let places = csv::Reader::from_reader(table)
            .into_deserialize::<Row>()
            .map(|row| row.map(|Row { iata, city, state }| (iata, Place { city: known(city), state: known(state) })))
            .collect::<Result<_, _>>()?;
        Ok(Self { places })
    }

    /// Where this airport is; `None` when it is not in the table.
    #[must_use]
    pub fn place(&self, code: &str) -> Option<&Place> {
        self.places.get(code)
    }
}

fn known(text: String) -> Option<String> {
    (text != "NA").then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(city: &str, state: &str) -> Place {
        Place { city: Some(city.to_owned()), state: Some(state.to_owned()) }
    }

    #[test]
    fn the_bundled_table_is_read_to_its_end() {
        let airports = Airports::bundled();
        assert_eq!(airports.places.len(), 3376);
        assert_eq!(airports.place("SFO"), Some(&place("San Francisco", "CA")));
        assert_eq!(airports.place("N25"), Some(&place("Westport, NY", "NY")), "a quoted city keeps its comma");
        assert_eq!(airports.place("MQT"), Some(&Place::default()), "NA means not known");
        assert_eq!(airports.place("sfo"), None);
    }

    #[test]
    fn a_table_without_states_is_refused() {
        assert!(Airports::from_csv(b"iata,city\nSFO,San Francisco\n").is_err());
    }
}
