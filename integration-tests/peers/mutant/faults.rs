//! All faults, by what they are about.

use numaflow_conformance::Kind;

use crate::edits::Edits;
use crate::fault::{Fault, How};

mod acks;
mod calls;
mod failures;
mod maps;
mod modes;
mod process;
mod reads;

const ALL: &[Kind] = Kind::ALL;
const MAPS: &[Kind] = &[Kind::UnaryMap, Kind::BatchMap, Kind::StreamMap];
const UNARY: &[Kind] = &[Kind::UnaryMap];
const BATCH: &[Kind] = &[Kind::BatchMap];
const STREAM: &[Kind] = &[Kind::StreamMap];
const SOURCE: &[Kind] = &[Kind::Source];

/// What the others are compared with: the server as it is, by itself and behind the relay.
const NONE: &[Fault] = &[
    Fault { name: "none", sentence: "The server as it is.", kinds: ALL, cases: &[], how: How::Unmutated },
    Fault {
        name: "none-relayed",
        sentence: "The server as it is, behind the relay.",
        kinds: ALL,
        cases: &[],
        how: How::Relay(|_| Edits::default()),
    },
];

pub(crate) fn all() -> impl Iterator<Item = &'static Fault> {
    let tables = [
        NONE,
        process::FAULTS,
        calls::FAULTS,
        failures::FAULTS,
        maps::FAULTS,
        modes::FAULTS,
        reads::FAULTS,
        acks::FAULTS,
    ];
    tables.into_iter().flatten()
}
