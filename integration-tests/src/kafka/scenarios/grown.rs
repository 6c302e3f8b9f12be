//! A topic that grows beyond the ids that there are for its partitions, beside another topic. Those without an id are not
//! read, and hold up none of the others.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::Outcome;
use super::super::clock;
use super::super::faults::Fault;
use super::super::member::Orders;
use super::super::producers::Producers;
use super::super::report::Verdict;
use super::super::scene::Scene;
use super::super::stage::{Site, Stage};
use super::super::verdict::Happened;
use super::login::wait_for_acks;

/// The partitions that get records.
const PARTITIONS: i32 = 6;
/// All of them once the topic has grown: two more than a topic beside others has ids.
const GROWN: i32 = 1_026;
const MEMBERS: usize = 2;
const RECORDS: u64 = 3_000;
const PRODUCING: Duration = Duration::from_secs(20);
/// Some are in flight when partitions come.
const DRIVER: [&str; 2] = ["--work", "200"];
/// How long it may take until a source tells of the partitions that it cannot read.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs it on brokers that serve.
pub(in super::super) fn run(site: &Site, program: &Path, folder: &Path) -> Outcome<Verdict> {
    let began = Instant::now();
    let stage = Stage::new(site, "grown", PARTITIONS)?;
    stage.make_beside()?;
    let mut orders = Orders::new(&[], &DRIVER);
    orders.topics = Some(format!("{},{}", stage.topic, stage.topic_beside()));
    let mut scene = Scene::new(program, folder, stage, 0, MEMBERS, &orders)?;
    let outcome = grow(&mut scene);
    let faults = scene.happened.len();
    let (figures, violations) = scene.judge(outcome)?;
    Ok(Verdict { name: "grown".to_owned(), faults, figures, time: began.elapsed(), violations })
}

fn grow(scene: &mut Scene) -> Outcome<()> {
    scene.start()?;
    let producers = Producers::start(&scene.stage, 0, RECORDS, PRODUCING)?;
    wait_for_acks(scene)?;
    let from = clock::now();
    scene.stage.grow_without_records(GROWN)?;
    scene.happened.push(Happened { fault: Fault::Grow, from, to: clock::now() });
    scene.wait_for("word of partitions that are not read", PATIENCE, |scene| {
        scene.any_log_has(|line| line.contains("ERROR") && line.contains("the partition is not read"))
    })?;
    for member in 0..MEMBERS {
        let from = clock::now();
        scene.members[member].kill_source()?;
        scene.members[member].start_source()?;
        scene.happened.push(Happened { fault: Fault::KillSource(member), from, to: clock::now() });
        wait_for_acks(scene)?;
    }
    producers.finish()?;
    scene.wait_for_commits()?;
    scene.end()?;
    scene.stage.delete_beside()
}
