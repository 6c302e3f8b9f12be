//! The messages in flight: each is answered once, by itself, or the run has failed.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::wire::{Answer, Template};

/// How many later messages may be sent before one counts as forgotten by the server. A power of two, so that the low bits of
/// a number are its place.
const PATIENCE: u32 = 1 << 16;
/// Ids have nine digits.
const NUMBERS: u32 = 1_000_000_000;

/// What a while of load showed.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) messages: u64,
    pub(crate) time: Duration,
    /// Of every message, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Window {
    pub(crate) fn new() -> Outcome<Self> {
        // Up to a minute, to three digits.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?;
        Ok(Self { messages: 0, time: Duration::ZERO, latency })
    }

    /// Counts messages that were answered after this long.
    pub(crate) fn record(&mut self, messages: u64, latency: Duration) {
        self.messages += messages;
        self.latency.saturating_record_n(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), messages);
    }
}

/// Requests to be written, and what is known of those that were.
#[derive(Debug)]
pub(crate) struct Flight {
    template: Template,
    value_size: usize,
    next: u32,
    in_flight: usize,
    /// The number of each message in flight, and since when it counts.
    since: Vec<Option<(u32, Instant)>>,
}

impl Flight {
    pub(crate) fn new(value_size: usize) -> Outcome<Self> {
        Ok(Self {
            template: Template::new(value_size)?,
            value_size,
            next: 0,
            in_flight: 0,
            since: vec![None; PATIENCE as usize],
        })
    }

    /// How many messages are sent and not answered.
    pub(crate) fn len(&self) -> usize {
        self.in_flight
    }

    /// The size of a request on the wire.
    pub(crate) fn request_size(&self) -> usize {
        self.template.size()
    }

    /// Writes the next request; its latency counts from `since`.
    pub(crate) fn depart(&mut self, since: Instant, out: &mut Vec<u8>) -> Outcome<()> {
        let number = self.next;
        let place = &mut self.since[(number % PATIENCE) as usize];
        if let Some((forgotten, _)) = place {
            return Err(format!("message {forgotten} is not answered, but {PATIENCE} later ones were sent").into());
        }
        *place = Some((number, since));
        self.template.write(number, out);
        self.next = (number + 1) % NUMBERS;
        self.in_flight += 1;
        Ok(())
    }

    /// Holds an answer against its request, and says since when that counts.
    pub(crate) fn arrive(&mut self, answer: Answer) -> Outcome<Instant> {
        let number = answer.number.ok_or("an answer has an id that was never sent")?;
        let place = &mut self.since[(number % PATIENCE) as usize];
        let Some((_, since)) = place.take_if(|(expected, _)| *expected == number) else {
            return Err(format!("message {number} is answered, but is not in flight").into());
        };
        let expected = Answer {
            number: Some(number),
            results: 1,
            value_size: self.value_size,
            value_number: u64::from(number),
            handshake: false,
            end_of_batch: false,
        };
        if answer != expected {
            return Err(format!("message {number} is answered with {answer:?} instead of {expected:?}").into());
        }
        self.in_flight -= 1;
        Ok(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u32) -> Answer {
        Answer {
            number: Some(number),
            results: 1,
            value_size: 64,
            value_number: u64::from(number),
            ..Answer::default()
        }
    }

    fn with_two_sent() -> Flight {
        let mut flight = Flight::new(64).unwrap();
        let mut out = Vec::new();
        for _ in 0..2 {
            flight.depart(Instant::now(), &mut out).unwrap();
        }
        assert_eq!(out.len(), 2 * flight.request_size());
        flight
    }

    #[test]
    fn answers_come_in_any_order() {
        let mut flight = with_two_sent();
        flight.arrive(answer(1)).unwrap();
        flight.arrive(answer(0)).unwrap();
        assert_eq!(flight.len(), 0);
    }

    #[test]
    fn a_second_answer_is_not_taken() {
        let mut flight = with_two_sent();
        flight.arrive(answer(1)).unwrap();
        flight.arrive(answer(1)).unwrap_err();
        flight.arrive(answer(PATIENCE)).unwrap_err();
        assert_eq!(flight.len(), 1);
    }

    #[test]
    fn an_answer_with_another_value_is_not_taken() {
        let wrong = [
            Answer { value_size: 63, ..answer(0) },
            Answer { value_number: 1, ..answer(0) },
            Answer { results: 2, ..answer(0) },
            Answer { results: 0, ..answer(0) },
            Answer { number: None, ..answer(0) },
        ];
        for wrong in wrong {
            with_two_sent().arrive(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_message_that_is_never_answered_is_noticed() {
        let mut flight = Flight::new(64).unwrap();
        let mut out = Vec::new();
        for number in 0..PATIENCE {
            flight.depart(Instant::now(), &mut out).unwrap();
            if number > 0 {
                flight.arrive(answer(number)).unwrap();
            }
        }
        flight.depart(Instant::now(), &mut out).unwrap_err();
    }
}
