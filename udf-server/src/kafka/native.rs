//! The calls of the client library that its safe interface does not have, and all the unsafe code there is: `fetch` takes
//! many records at once, `commit` gets an answer, `epoch` reads and sets leader epochs, `generation` tells which generation of
//! the group we are in, `position` how far partitions are read, `rights` what we may do, `topic_ids` which topics there are;
//! the last two share the way to put a question, `admin`. `bootstrap` adds brokers to a client.
//! `decompress` stands before calls that the library makes of itself, `heap` has freed memory go back to the system, and
//! `abort` explains a process that the library aborts.

pub(super) mod abort;
mod admin;
pub(super) mod bootstrap;
pub(super) mod commit;
pub mod decompress;
pub(super) mod epoch;
pub(super) mod fetch;
pub(super) mod generation;
pub(super) mod heap;
pub(super) mod position;
pub(super) mod rights;
pub(super) mod topic_ids;
