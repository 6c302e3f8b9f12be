//! Sources: records read, acked and delivered again.

use std::time::Duration;

use super::contract::RECORDS;
use crate::outcome::{Unproven, check};
use crate::wire::source::{Reader, Record};
use crate::{Case, Kind};

mod ack;
mod counts;
mod nack;
mod read;
mod restart;
mod stream;

pub(super) const CASES: &[&[Case]] =
    &[stream::CASES, read::CASES, ack::CASES, nack::CASES, counts::CASES, restart::CASES];

const SOURCES: &[Kind] = &[Kind::Source];

/// A read's timeout where there is more than enough to read.
const PLENTY: Duration = Duration::from_secs(2);
/// A read's timeout where what is there is wanted.
const WHAT_IS_THERE: Duration = Duration::from_millis(100);
/// What the contract's offsets begin with: bytes that are no text.
const BINARY: &[u8] = &[0x00, 0xff, 0x80];

/// Reads exactly this many.
async fn read_exactly(reader: &mut Reader, count: usize) -> Result<Vec<Record>, Unproven> {
    let records = reader.read(count, PLENTY).await?;
    check(records.len() == count, &format!("{count} records"), || format!("{}", records.len()))?;
    Ok(records)
}

/// Reads until nothing is left.
async fn read_all(reader: &mut Reader) -> Result<Vec<Record>, Unproven> {
    let records = reader.read(RECORDS + 1, WHAT_IS_THERE).await?;
    check(records.len() <= RECORDS, &format!("at most {RECORDS} records in all"), || "more".to_owned())?;
    Ok(records)
}
