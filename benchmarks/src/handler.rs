//! What the servers do with a message before they answer with it.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A map that answers with the value it was sent, and what it does first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    /// Nothing.
    Identity,
    /// Waits with every so many messages, by the number in the value; the others it answers at once.
    Wait { every: u64, millis: u64 },
    /// Computes: this many rounds of [`compute`].
    Compute { rounds: u64 },
}

impl Handler {
    /// How long to wait with this message; `None` to answer at once.
    pub(crate) fn wait(self, value: &[u8]) -> Option<Duration> {
        match self {
            Self::Wait { every, millis } => {
                number(value).is_multiple_of(every).then_some(Duration::from_millis(millis))
            }
            Self::Identity | Self::Compute { .. } => None,
        }
    }

    /// The whole of the work with a message.
    pub(crate) async fn run(self, value: &[u8]) {
        if let Self::Compute { rounds } = self {
            compute(rounds);
        }
        if let Some(time) = self.wait(value) {
            tokio::time::sleep(time).await;
        }
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => write!(f, "identity"),
            Self::Wait { every, millis } => write!(f, "wait:{every}:{millis}"),
            Self::Compute { rounds } => write!(f, "compute:{rounds}"),
        }
    }
}

impl FromStr for Handler {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next();
        let numbers: Vec<u64> = parts.map(str::parse).collect::<Result<_, _>>().unwrap_or_default();
        match (name, &numbers[..]) {
            (Some("identity"), []) => Ok(Self::Identity),
            (Some("wait"), &[every, millis]) if every > 0 => Ok(Self::Wait { every, millis }),
            (Some("compute"), &[rounds]) => Ok(Self::Compute { rounds }),
            _ => Err("is none of identity, wait:EVERY:MILLISECONDS, compute:ROUNDS".to_owned()),
        }
    }
}

/// The number that the load client writes at the beginning of every value.
fn number(value: &[u8]) -> u64 {
    value.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// Work that only the core's own speed limits: no memory, no system call.
pub(crate) fn compute(rounds: u64) {
    let mut state = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
}

/// How many rounds of [`compute`] take `time` on this machine now, by the fastest of several trials.
pub(crate) fn rounds_for(time: Duration) -> u64 {
    const TRIAL: u64 = 1_000_000;
    let fastest = (0..10)
        .map(|_| {
            let started = Instant::now();
            compute(TRIAL);
            started.elapsed()
        })
        .min()
        .unwrap_or(time);
    let rounds = u128::from(TRIAL) * time.as_nanos() / fastest.as_nanos().max(1);
    u64::try_from(rounds).unwrap_or(u64::MAX).max(1)
}
