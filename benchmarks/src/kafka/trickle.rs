//! Records that are produced at a rate, and how long each takes to the client of the source.

use std::time::{Duration, Instant};

use tokio::time::interval;

use super::cluster::Producer;
use super::positions::Positions;
use crate::Outcome;
use crate::flight::Window;
use crate::reading::Reading;

/// How long the last records may take once nothing more is produced.
const LAST_RECORDS: Duration = Duration::from_secs(20);

/// A topic that is written to, and read through a source.
pub(super) struct Trickle {
    producer: Producer,
    reading: Reading<Positions>,
    value: Vec<u8>,
    /// From which the times in the values are counted.
    began: Instant,
}

impl Trickle {
    pub(super) fn new(producer: Producer, reading: Reading<Positions>, value_size: usize) -> Self {
        Self { producer, reading, value: vec![b'x'; value_size], began: Instant::now() }
    }

    /// Produces so many records, evenly, and reads and acks until all of them have come.
    ///
    /// A record's latency is from when it is handed to the producer until the read that brings it has ended: only then does
    /// the platform go on with what it has read.
    pub(super) async fn run(&mut self, rate: u32, records: u64) -> Outcome<Window> {
        let Self { producer, reading, value, began } = self;
        let began = *began;
        let since_began = || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let started = Instant::now();
        let period = Duration::from_secs(1) / rate;
        let produce = async {
            let mut due = interval(period);
            for _ in 0..records {
                due.tick().await;
                let now = since_began().to_le_bytes();
                value[..now.len()].copy_from_slice(&now);
                if !producer.send(value)? {
                    return Err("the producer cannot keep the pace".into());
                }
            }
            Outcome::Ok(())
        };
        let patience = period * u32::try_from(records)? + LAST_RECORDS;
        let consume = async {
            let mut window = Window::new()?;
            while window.messages < records {
                reading.read().await?;
                let now = since_began();
                for &produced in reading.numbers() {
                    window.record(1, Duration::from_nanos(now.saturating_sub(produced)));
                }
                reading.ack().await?;
                if started.elapsed() > patience {
                    let missing = records - window.messages;
                    return Err(format!("{missing} records did not come within {LAST_RECORDS:?}").into());
                }
            }
            window.time = started.elapsed();
            Outcome::Ok(window)
        };
        let ((), window) = tokio::try_join!(produce, consume)?;
        // Tells the producer what has become of its records, which nobody else asks.
        self.producer.flush().await?;
        Ok(window)
    }
}
