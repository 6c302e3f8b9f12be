//! The faults that the mutant says it can have.

use serde::{Deserialize, Deserializer};

use crate::{Case, Kind, cases};

/// One of them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Fault {
    /// What the mutant is told to have it.
    pub(super) name: String,
    /// The kinds of server that can have it.
    #[serde(deserialize_with = "kinds")]
    pub(super) kinds: Vec<Kind>,
    /// The ids of the cases that have to catch it; none for a server without a fault.
    pub(super) cases: Vec<String>,
    /// Where in the mutant it is.
    place: String,
}

fn kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Kind>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}

impl Fault {
    /// The cases that have to catch it, once for each kind.
    pub(super) fn catchers(&self) -> impl Iterator<Item = (Kind, &'static Case)> {
        self.kinds.iter().flat_map(|kind| {
            let known = self.cases.iter().filter_map(|id| cases::find(id));
            known.filter(|case| case.applies_to(*kind)).map(|case| (*kind, case))
        })
    }

    /// Whether the server is behind something that changes what goes over its socket.
    pub(super) fn is_relayed(&self) -> bool {
        self.place == "relay"
    }

    /// Whether it can be that there never is a server.
    pub(super) fn may_not_start(&self) -> bool {
        self.place == "start"
    }
}

/// Checks that the faults name cases that there are.
pub(super) fn check(faults: &[Fault]) -> Result<(), String> {
    for fault in faults {
        if let Some(unknown) = fault.cases.iter().find(|id| cases::find(id).is_none()) {
            return Err(format!("the fault {} is to be caught by {unknown}, which is no case", fault.name));
        }
    }
    Ok(())
}
