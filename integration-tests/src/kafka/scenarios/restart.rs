//! The main container starts again and again, and the sidecar lives.

use std::path::Path;
use std::time::{Duration, Instant};

use kafka_broker::Broker;

use super::super::Outcome;
use super::super::clock;
use super::super::faults::Fault;
use super::super::journal::{self, Deed};
use super::super::member::Orders;
use super::super::producers::Producers;
use super::super::report::Verdict;
use super::super::scene::Scene;
use super::super::stage::{Site, Stage};
use super::super::verdict::Happened;

const PARTITIONS: i32 = 12;
const RESTARTS: usize = 3;
const RECORDS: u64 = 4_000;
const PRODUCING: Duration = Duration::from_secs(8);
/// Enough is in flight at any time.
const DRIVER: [&str; 2] = ["--work", "1000"];
/// How long the next driver may take to have an ack answered.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it on a broker that serves.
pub(in super::super) fn run(broker: &Broker, program: &Path, folder: &Path) -> Outcome<Verdict> {
    let began = Instant::now();
    let stage = Stage::new(&Site::of_broker(broker), "restart", PARTITIONS)?;
    let mut scene = Scene::new(program, folder, stage, 0, 1, &Orders::new(&[], &DRIVER))?;
    let outcome = restart(&mut scene);
    let (figures, violations) = scene.judge(outcome)?;
    Ok(Verdict { name: "restart".to_owned(), faults: RESTARTS, figures, time: began.elapsed(), violations })
}

fn restart(scene: &mut Scene) -> Outcome<()> {
    scene.start()?;
    let producers = Producers::start(&scene.stage, 0, RECORDS, PRODUCING)?;
    let source = scene.members[0].source.as_ref().map(super::super::process::Process::id);
    for driver in 0..=RESTARTS {
        scene.wait_for("answered ack", PATIENCE, |scene| {
            let lines = journal::read_all(&scene.folder)?;
            Ok(lines.iter().any(|line| line.driver == driver && line.deed == Deed::Acked))
        })?;
        if driver < RESTARTS {
            let from = clock::now();
            scene.members[0].kill_driver()?;
            scene.members[0].start_driver()?;
            scene.happened.push(Happened { fault: Fault::KillDriver(0), from, to: clock::now() });
        }
    }
    producers.finish()?;
    scene.wait_for_commits()?;
    if scene.members[0].source.as_ref().map(super::super::process::Process::id) != source {
        return Err("the source is not the one of the beginning".into());
    }
    scene.end()
}
