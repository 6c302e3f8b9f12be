//! SIGTERMs at random moments, from when the info file appears.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use numaflow_sdk::MapRequest;
use numaflow_sdk::testing::MapClient;
use tokio::sync::{Notify, Semaphore};
use tokio::time::sleep;

use crate::hearing::Hearing;
use crate::process::{End, Process, WORKERS};
use crate::server::Doing;

const RUNS: u64 = 24;
/// The runs at a time.
const ABREAST: usize = 4;
/// The messages that the peer keeps unanswered.
const UNANSWERED: usize = 300;
/// From so many on a run is busy.
const BUSY: usize = 100;
/// The latest moment of the signal, and what slow handlers take at most, in milliseconds.
const LATEST: u64 = 500;
const SLOWEST: u64 = 900;
/// The bytes of a message in every other run: a few fill a chunk of answers, so that a handler may block its thread while
/// HTTP/2 has not written the chunk before.
const LARGE: usize = 2000;

/// What gets stuck in a run.
#[derive(Debug, Clone, Copy)]
enum Stuck {
    Nothing,
    /// One handler, waiting.
    Waiting,
    /// The thread that serves the stream.
    Thread,
    /// Every thread of the runtime.
    EveryThread,
}

/// What came of a run.
#[derive(Debug)]
struct Report {
    seed: u64,
    stuck: Stuck,
    /// Messages without an answer when the signal was sent.
    unanswered: usize,
    sent: HashSet<String>,
    received: HashSet<String>,
    end: End,
}

#[expect(clippy::print_stdout, reason = "the seed, and what it came to")]
pub(crate) fn all() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let runs = number("DRAIN_RUNS").unwrap_or(RUNS);
    let seed = number("DRAIN_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let reports = runtime.block_on(tasks.run_until(async {
        let places = std::rc::Rc::new(Semaphore::new(ABREAST));
        let mut all = tokio::task::JoinSet::new();
        for index in 0..runs {
            let places = places.clone();
            all.spawn_local(async move {
                let _place = places.acquire().await.unwrap();
                run(index, seed + index).await
            });
        }
        all.join_all().await
    }));
    let problems: Vec<_> = reports.iter().filter_map(|report| report.check().err()).collect();
    let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
    let busy = reports.iter().filter(|report| report.unanswered >= BUSY).count();
    let slowest = reports.iter().map(|report| report.end.took).max().unwrap_or_default();
    println!(
        "{runs} SIGTERMs from DRAIN_SEED={seed}: {busy} with 100 messages or more in flight, {} sent, {} answered, {} \
         abandoned, {} never read; the slowest end took {slowest:?}",
        sum(|report| report.sent.len()),
        sum(|report| report.received.len()),
        sum(|report| report.end.abandoned.len()),
        sum(Report::never_read),
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(busy as u64 >= runs / 2, "of {runs} processes {busy} had 100 messages in flight");
}

impl Report {
    /// What the server never read is the peer's to send again, and it knows: it has no answer.
    fn never_read(&self) -> usize {
        let Self { sent, received, end, .. } = self;
        sent.iter().filter(|id| !received.contains(*id) && !end.abandoned.contains(*id)).count()
    }

    /// Every message that a handler was given was answered or is named, and no other is.
    fn check(&self) -> Result<(), String> {
        let Self { seed, stuck, sent, received, end, .. } = self;
        let problem = |problem: String| format!("DRAIN_SEED={seed} DRAIN_RUNS=1, stuck: {stuck:?}: {problem}");
        end.check().map_err(problem)?;
        let lost: Vec<_> =
            end.taken.iter().filter(|id| !received.contains(*id) && !end.abandoned.contains(*id)).collect();
        if !lost.is_empty() {
            let said = end.said.join("\n");
            return Err(problem(format!("taken, not answered and not named: {lost:?}; the process said:\n{said}")));
        }
        let made_up: Vec<_> = end.abandoned.union(received).filter(|id| !sent.contains(*id)).collect();
        if !made_up.is_empty() {
            return Err(problem(format!("answered or named, and never sent: {made_up:?}")));
        }
        Ok(())
    }
}

async fn run(index: u64, seed: u64) -> Report {
    let mut random = fastrand::Rng::with_seed(seed);
    // A third of the runs, in turn.
    let stuck = match random.u32(..9) {
        0 => Stuck::Waiting,
        1 => Stuck::Thread,
        2 => Stuck::EveryThread,
        _ => Stuck::Nothing,
    };
    let moment = Duration::from_millis(random.u64(..=LATEST));
    let padding = if random.bool() { 0 } else { LARGE };
    let process = Process::start().await;
    let socket = process.socket();
    let (sent, received) = (RefCell::new(HashSet::new()), RefCell::new(HashSet::new()));
    let unanswered = Cell::new(0);
    let busy = Notify::new();
    let peer = async {
        // During the drain of a process that nobody has connected to, there may be nobody to connect to.
        let Ok(socket) = Hearing::connect(&socket).await else { return };
        let Ok(client) = MapClient::over(socket).await else { return };
        let Ok(stream) = client.open().await else { return };
        let (sender, mut receiver) = stream.split();
        let places = Semaphore::new(UNANSWERED);
        let send = async {
            let mut what = doings(stuck, &mut random);
            for number in 0_u64.. {
                places.acquire().await.unwrap().forget();
                let (id, doing) = (format!("{index}-{number}"), what.next().unwrap());
                sent.borrow_mut().insert(id.clone());
                if sent.borrow().len() >= received.borrow().len() + BUSY {
                    busy.notify_one();
                }
                if sender.send(id, MapRequest::new(format!("{:padding$}", doing.to_text()))).await.is_err() {
                    return;
                }
            }
        };
        let receive = async {
            while let Ok(Some(answer)) = receiver.recv().await {
                assert!(received.borrow_mut().insert(answer.id), "answered twice");
                places.add_permits(1);
            }
            // The sender may wait for answers that will not come.
            places.close();
        };
        tokio::select! {
            // Never closes: what is there to receive is received, although nothing can be sent.
            () = async { send.await; std::future::pending().await } => {}
            () = receive => {}
        }
    };
    let stop = async {
        // In every other run at any moment, in the others at a busy one, however slow the machine.
        if index.is_multiple_of(2) {
            busy.notified().await;
        }
        sleep(moment).await;
        unanswered.set(sent.borrow().len() - received.borrow().len());
        process.terminate();
        process.end().await
    };
    let ((), end) = tokio::join!(peer, stop);
    let (sent, received) = (sent.into_inner(), received.into_inner());
    Report { seed, stuck, unanswered: unanswered.get(), sent, received, end }
}

/// What the messages of a run ask for, in their order.
fn doings(stuck: Stuck, random: &mut fastrand::Rng) -> impl Iterator<Item = Doing> {
    let first = random.usize(..150);
    let (stuck, doing) = match stuck {
        Stuck::Nothing => (0, Doing::Quick),
        Stuck::Waiting => (1, Doing::Waits),
        Stuck::Thread => (1, Doing::Blocks),
        Stuck::EveryThread => (WORKERS, Doing::BlocksLater),
    };
    (0..).map(move |number: usize| {
        if (first..first + stuck).contains(&number) {
            doing
        } else if random.bool() {
            Doing::Quick
        } else {
            Doing::Slow(random.u64(..=SLOWEST))
        }
    })
}
