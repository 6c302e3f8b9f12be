//! A platform that is stopped for longer than `max.poll.interval.ms`.

use std::path::Path;
use std::time::{Duration, Instant};

use kafka_broker::Broker;

use super::super::Outcome;
use super::super::journal::{self, Deed};
use super::super::member::Orders;
use super::super::producers::Producers;
use super::super::report::Verdict;
use super::super::scene::Scene;
use super::super::stage::{Site, Stage};
use super::super::verdict::Violation;

const PARTITIONS: i32 = 12;
const MEMBERS: usize = 2;
const RECORDS: u64 = 6_000;
/// They come before and during the stall.
const PRODUCING: Duration = Duration::from_secs(12);
/// The least that the client library takes with the session timeout of the run; waiting for acks at a revoke may take a
/// tenth of it.
const SOURCE: [&str; 4] = ["--property", "max.poll.interval.ms=6000", "--revoke-timeout", "500ms"];
const STALL: Duration = Duration::from_secs(10);
/// Enough is in flight at any time.
const DRIVER: [&str; 2] = ["--work", "1000"];

/// Runs it on a broker that serves.
pub(in super::super) fn run(broker: &Broker, program: &Path, folder: &Path) -> Outcome<Verdict> {
    let began = Instant::now();
    let stage = Stage::new(&Site::of_broker(broker), "stall", PARTITIONS)?;
    let mut scene = Scene::new(program, folder, stage, 0, MEMBERS, &Orders::new(&SOURCE, &DRIVER))?;
    let outcome = stall(&mut scene);
    let (figures, mut violations) = scene.judge(outcome)?;
    // Another owner of the partitions would have delivered again what is in flight here.
    if figures.redelivered > 0 {
        let what = format!("{} records were delivered again: the group has rebalanced", figures.redelivered);
        violations.push(Violation { invariant: "I10", what });
    }
    Ok(Verdict { name: "stall".to_owned(), faults: 1, figures, time: began.elapsed(), violations })
}

fn stall(scene: &mut Scene) -> Outcome<()> {
    // One after the other, so that the second one's coming is no reason for a redelivery: there is nothing yet.
    scene.start()?;
    scene.settle()?;
    let producers = Producers::start(&scene.stage, 0, RECORDS, PRODUCING)?;
    scene.wait_for("record in flight", Duration::from_secs(60), |scene| {
        let lines = journal::read_all(&scene.folder)?;
        Ok((0..MEMBERS).all(|driver| lines.iter().any(|line| line.driver == driver && line.deed == Deed::Acked)))
    })?;
    if let Some(driver) = &mut scene.members[0].driver {
        driver.stop()?;
    }
    scene.pass(STALL)?;
    if let Some(driver) = &mut scene.members[0].driver {
        driver.go_on()?;
    }
    producers.finish()?;
    scene.wait_for_commits()?;
    scene.end()
}
