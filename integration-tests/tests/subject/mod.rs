//! The handler contract with numaflow-sdk, as any user of it would write it.

pub(crate) mod map;
pub(crate) mod source;
