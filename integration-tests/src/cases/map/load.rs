//! As many messages as the platform keeps in flight, for as long as it takes to show what gives way.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::{IN_FLIGHT, answers_one_by_one};
use crate::case::{Case, Kind, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::map::{MapStream, brief, is_echo};

pub(super) const CASES: &[Case] = &[Case {
    id: "map.load",
    level: Level::Must,
    section: "4.3 Rules common to the three modes",
    sentence: "Each of 20,000 messages, 500 of them in flight all the time, is answered.",
    kinds: Kind::MAPS,
    recipe: Recipe::Server(|target| Box::pin(load(target))),
}];

const MESSAGES: usize = 20_000;
/// A server that needs longer for all of them has shown enough.
const LONGEST: Duration = Duration::from_secs(10);
/// A server that takes no message for this long has come to a standstill.
const STALL: Duration = Duration::from_secs(5);

async fn load(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let value = Bytes::from(vec![b'x'; 256]);
    let started = Instant::now();
    let mut ids = (0..MESSAGES).map(|number| format!("load-{number}")).take_while(|_| started.elapsed() < LONGEST);
    if answers_one_by_one(target.kind) {
        let mut unanswered = HashSet::with_capacity(IN_FLIGHT);
        loop {
            while unanswered.len() < IN_FLIGHT
                && let Some(id) = ids.next()
            {
                send(&mut stream, &id, &value).await?;
                unanswered.insert(id);
            }
            if unanswered.is_empty() {
                break;
            }
            let answer = stream.next_answer("an answer, with messages in flight").await?;
            let came = || format!("one with the id {}", brief(&answer.id));
            check(unanswered.remove(&answer.id), "an answer to a message that has none", came)?;
            is_echo(&answer.results, &value)?;
        }
    } else {
        loop {
            let batch: Vec<String> = ids.by_ref().take(IN_FLIGHT).collect();
            if batch.is_empty() {
                break;
            }
            for id in &batch {
                send(&mut stream, id, &value).await?;
            }
            stream.end_batch().await;
            for results in stream.answers(batch).await?.values() {
                is_echo(results, &value)?;
            }
        }
    }
    stream.finish().await
}

async fn send(stream: &mut MapStream, id: &str, value: &Bytes) -> Result<(), Unproven> {
    timeout(STALL, stream.send(id, value.clone()))
        .await
        .map_err(|_| Unproven::broken("the server to read on", format!("nothing read for {STALL:?}, at {id}")))
}
