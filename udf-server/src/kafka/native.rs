//! The calls of the client library that its safe interface does not have, and all the unsafe code there is: `fetch` takes
//! many records at once, `commit` gets an answer, `epoch` tells whether the group has taken us in.

pub(super) mod commit;
pub(super) mod epoch;
pub(super) mod fetch;
