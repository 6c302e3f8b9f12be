//! Which records an ack is for: a driver knows records by their places, and after a log was cut a place has another record.

use std::collections::HashMap;

use super::super::journal::{Deed, Line, Place};
use super::super::truth::Numbered;

/// What one driver has at each place, by the numbers.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<Place, Vec<u64>>);

impl Held {
    /// Follows a line of the driver's journal. An ack is for the records that it returns.
    pub(super) fn follow(&mut self, line: &Line) -> impl Iterator<Item = Numbered> + '_ {
        let place = line.place;
        let acked = match line.deed {
            Deed::Took { number } => {
                self.0.insert(place, vec![number]);
                None
            }
            Deed::Mistook { number } => {
                self.0.entry(place).or_default().push(number);
                None
            }
            Deed::Acks => self.0.get(&place),
            Deed::Acked | Deed::Nacked | Deed::LetGo | Deed::Broke | Deed::Connected => None,
        };
        acked.into_iter().flatten().map(move |number| (place, *number))
    }
}
