//! What the map answers, by kind of line.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod any_bytes;
mod data;
mod lines;
mod protocol;

use std::sync::LazyLock;

use flights::{Airports, Outcome};

static AIRPORTS: LazyLock<Airports> = LazyLock::new(Airports::bundled);

fn flight(line: impl AsRef<[u8]>) -> Outcome {
    flights::flight(line.as_ref(), &AIRPORTS)
}
