//! A map as a user of `numaflow-sdk` would write it: flight records are read from JSON or CSV, filtered, given a
//! computed field, and enriched with the cities of their airports.
//!
//! [`mapper`] is what a server runs. The work is in [`flight`], which knows nothing of Numaflow and is tested without
//! it; `src/main.rs` is all that is left for the program.
//!
//! | The line | What becomes of it |
//! | --- | --- |
//! | a flight with a delay and a distance | a JSON object with more fields, keyed `ORIGIN-DESTINATION` |
//! | a flight whose delay or distance is unknown, and a CSV header | dropped |
//! | anything else | passed on unchanged, tagged `dead-letter`, with the reason in its user metadata |

mod airports;
mod flight;
mod record;

use std::sync::Arc;

use numaflow_sdk::map::{self, Mapper};
use numaflow_sdk::{MapRequest, Message};

pub use airports::{Airports, Place};
pub use flight::{Outcome, flight, origin};
pub use record::{Field, Reason};

/// The tag of what could not be read as a flight. An edge of the pipeline that asks for it carries these messages alone.
pub const DEAD_LETTER: &str = "dead-letter";

/// The group of user metadata that holds the reason, under the key `reason`, for which a message is a dead letter.
pub const METADATA_GROUP: &str = "flights";

/// Makes the map, with the airports that come with this package.
#[must_use]
pub fn mapper() -> impl Mapper {
    let airports = Arc::new(Airports::bundled());
    map::from_fn(move |request: MapRequest| {
        let airports = Arc::clone(&airports);
        async move { Ok(message(request, &airports)) }
    })
}

fn message(request: MapRequest, airports: &Airports) -> Message {
    match flight(request.value(), airports) {
        Outcome::Mapped { key, value } => Message::new(value).with_keys([key]),
        Outcome::Dropped => Message::to_drop(),
        Outcome::DeadLetter { reason } => {
            let mut metadata = request.user_metadata().clone();
            metadata.insert(METADATA_GROUP, "reason", reason.to_string());
            request.into_message().with_tags([DEAD_LETTER]).with_user_metadata(metadata)
        }
    }
}
