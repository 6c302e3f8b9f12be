//! The broker is away for a minute.

use std::path::Path;
use std::time::{Duration, Instant};

use kafka_broker::{Broker, Options};

use super::super::Outcome;
use super::super::clock::{self, micros};
use super::super::faults::Fault;
use super::super::journal::{self, Deed, Line};
use super::super::member::Orders;
use super::super::producers::Producers;
use super::super::report::Verdict;
use super::super::scene::Scene;
use super::super::stage::{Site, Stage};
use super::super::verdict::Happened;

/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 12;
const MEMBERS: usize = 2;
/// Half of them come before, the others while the broker is away: they wait in the producers.
const RECORDS: u64 = 4_000;
const PRODUCING: Duration = Duration::from_secs(8);
/// Some records are worked on for long, so that there are acks while the broker is away.
const DRIVER: [&str; 2] = ["--work", "3000"];

/// A broker that is away, and two sources that wait for it. Meanwhile there is time for other things.
#[derive(Debug)]
pub(in super::super) struct Outage {
    broker: Broker,
    scene: Scene,
    producers: Producers,
    began: Instant,
    away: Instant,
}

impl Outage {
    /// Has two sources work on a broker of their own, and crashes it.
    pub(in super::super) fn begin(program: &Path, folder: &Path) -> Outcome<Self> {
        let began = Instant::now();
        let mut broker = Broker::start(Options::new())?;
        let stage = Stage::new(&Site::of_broker(&broker), "outage", PARTITIONS)?;
        let mut scene = Scene::new(program, folder, stage, 0, MEMBERS, &Orders::new(&[], &DRIVER))?;
        scene.start()?;
        let producers = Producers::start(&scene.stage, 0, RECORDS, PRODUCING)?;
        scene.wait_for("record in flight at each driver", Duration::from_secs(60), |scene| {
            let lines = journal::read_all(&scene.folder)?;
            let is_of = |line: &Line, driver| line.driver == driver && matches!(line.deed, Deed::Took { .. });
            let took = |driver| lines.iter().filter(|line| is_of(line, driver)).count();
            Ok((0..MEMBERS).all(|driver| took(driver) > 100) && producers.sent() > RECORDS / 2)
        })?;
        broker.crash()?;
        let from = clock::now();
        scene.happened.push(Happened { fault: Fault::CrashBroker, from, to: from });
        Ok(Self { broker, scene, producers, began, away: Instant::now() })
    }

    /// Waits until the minute is over, brings the broker back, and judges.
    pub(in super::super) fn finish(self) -> Outcome<Verdict> {
        let Self { mut broker, mut scene, producers, began, away } = self;
        let survived = scene.pass(AWAY.saturating_sub(away.elapsed()));
        broker.restart()?;
        let outcome = survived.and_then(|()| come_back(&mut scene, producers));
        let faults = scene.happened.len();
        let (figures, violations) = scene.judge(outcome)?;
        Ok(Verdict { name: "outage".to_owned(), faults, figures, time: began.elapsed(), violations })
    }
}

/// What has to be so once the broker is back.
fn come_back(scene: &mut Scene, producers: Producers) -> Outcome<()> {
    let Some(happened) = scene.happened.last_mut() else { return Ok(()) };
    happened.to = clock::now();
    let (from, to) = (happened.from, happened.from + micros(AWAY));
    producers.finish()?;
    scene.wait_for_commits()?;
    let lines = journal::read_all(&scene.folder)?;
    let connections = lines.iter().filter(|line| line.deed == Deed::Connected).count();
    if connections != MEMBERS {
        return Err(format!("the {MEMBERS} drivers had to connect {connections} times").into());
    }
    // The first second may be that of acks that were on their way.
    let away = from + micros(Duration::from_secs(1))..to;
    if !lines.iter().any(|line| line.deed == Deed::Acked && away.contains(&line.at)) {
        return Err("no ack was answered while the broker was away".into());
    }
    scene.end()
}
