//! What the server under test is asked to do: the values of the handler contract (CONTRACT.md).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Unproven;
use crate::wire::Connection;
use crate::wire::map::MapStream;

/// Answered with no output.
pub(super) const EMPTY: &str = "empty";
/// Answered with a drop.
pub(super) const DROP: &str = "drop";
/// Answered with a nack that has the options below.
pub(super) const NACK: &str = "nack";
pub(super) const NACK_REASON: &str = "asked to";
pub(super) const NACK_MAX_DELIVERIES: u32 = 3;
pub(super) const NACK_DELAY_MS: u64 = 1500;
/// Answered with a result of this value, and then one with the FAIL tag.
pub(super) const FAIL: &str = "fail";
/// Answered with a result that has the user metadata below.
pub(super) const METADATA: &str = "metadata";
pub(super) const METADATA_GROUP: &str = "conformance";
pub(super) const METADATA_KEY: &str = "bytes";
pub(super) const METADATA_VALUE: &[u8] = &[0x00, 0xff, 0x80];
/// Left out by the function that answers a batch.
pub(super) const SKIP: &str = "skip";
/// Answered with the message's times as text.
pub(super) const TIMES: &str = "times";

/// The records that a fresh source has.
pub(super) const RECORDS: usize = 1000;

/// The text of panics and errors whose text does not matter: our own servers under test do not report those.
pub(super) const ASKED_FOR: &str = "the suite asked for this";

/// Answered with as many results, whose values are the numbers from 0 on.
pub(super) fn many(count: usize) -> String {
    format!("many {count}")
}

/// As [`many`], and then the handler panics, or throws.
pub(super) fn many_then_panic(count: usize) -> String {
    format!("many-then-panic {count}")
}

/// Makes the handler fail with this text, without a panic.
pub(super) fn error(text: &str) -> String {
    format!("error {text}")
}

/// A read of so many records fails.
pub(super) const FAILING_READ: usize = 997;
/// A read of so many records panics, or throws.
pub(super) const PANICKING_READ: usize = 998;

/// Makes the handler panic, or throw, with this text.
pub(super) fn panic(text: &str) -> String {
    format!("panic {text}")
}

/// Holds handlers until it is released. Its name is new in every run, because a server remembers what was released.
pub(super) struct Latch(String);

impl Latch {
    pub(super) fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self(format!("{now}-{}", MADE.fetch_add(1, Ordering::Relaxed)))
    }

    /// The value whose answer waits for the release.
    pub(super) fn hold(&self) -> String {
        format!("hold {}", self.0)
    }

    /// The value whose first output comes at once, and the last one after the release.
    pub(super) fn first(&self) -> String {
        format!("first {}", self.0)
    }

    /// The value that releases all that waits, and is answered itself.
    pub(super) fn release(&self) -> String {
        format!("release {}", self.0)
    }

    /// Releases what is held, over a stream of its own.
    pub(super) async fn release_over(&self, connection: &Connection) -> Result<(), Unproven> {
        let mut stream = MapStream::open(connection).await?;
        stream.map("release", self.release()).await?;
        stream.finish().await
    }
}
