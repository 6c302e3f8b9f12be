//! A topic that is deleted and made again under its name, with other records at the same offsets.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::Outcome;
use super::super::clock;
use super::super::faults::Fault;
use super::super::journal::{self, Deed};
use super::super::member::Orders;
use super::super::producers::Producers;
use super::super::report::Verdict;
use super::super::scene::Scene;
use super::super::stage::{Site, Stage};
use super::super::truth::Truth;
use super::super::verdict::{Cut, Happened, Log};

const PARTITIONS: i32 = 6;
const MEMBERS: usize = 2;
/// The records of each topic.
const RECORDS: u64 = 2_000;
const PRODUCING: Duration = Duration::from_secs(4);
/// Some are in flight when the topic goes.
const DRIVER: [&str; 2] = ["--work", "1000"];
/// The topic is deleted twice: it is created again at once the first time, and after a pause the second time.
const PAUSES: [Duration; 2] = [Duration::ZERO, Duration::from_secs(5)];
/// How long the first acks may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it on brokers that serve.
pub(in super::super) fn run(site: &Site, program: &Path, folder: &Path) -> Outcome<Verdict> {
    let began = Instant::now();
    let stage = Stage::new(site, "recreated", PARTITIONS)?;
    let mut scene = Scene::new(program, folder, stage, 0, MEMBERS, &Orders::new(&[], &DRIVER))?;
    let outcome = recreate(&mut scene);
    let faults = scene.happened.len();
    let (figures, violations) = scene.judge(outcome)?;
    Ok(Verdict { name: "recreated".to_owned(), faults, figures, time: began.elapsed(), violations })
}

fn recreate(scene: &mut Scene) -> Outcome<()> {
    scene.start()?;
    produce(scene, 0)?;
    for (pause, topic) in PAUSES.into_iter().zip(1..) {
        let from = clock::now();
        let old = Truth::read(&scene.stage)?;
        scene.stage.delete_topic()?;
        scene.pass(pause)?;
        scene.stage.make_topic_again()?;
        let to = clock::now();
        scene.happened.push(Happened { fault: Fault::Recreate, from, to });
        for partition in 0..PARTITIONS {
            let of_partition = old.records.iter().filter(|((of, _), _)| *of == partition);
            let lost: BTreeSet<_> = of_partition.map(|(place, number)| (*place, *number)).collect();
            scene.cuts.push(Cut { log: Log::Partition { partition, from: 0 }, lost, from, to });
        }
        produce(scene, topic * RECORDS)?;
    }
    scene.wait_for_commits()?;
    scene.end()
}

/// Produces records, numbered from `first` on, and waits until some of them are acked.
fn produce(scene: &mut Scene, first: u64) -> Outcome<()> {
    Producers::start_at(&scene.stage, first, first, RECORDS, PRODUCING)?.finish()?;
    scene.wait_for("ack of a record of the new topic", PATIENCE, |scene| {
        let lines = journal::read_all(&scene.folder)?;
        let taken = lines.iter().filter(|line| matches!(line.deed, Deed::Took { number } if number >= first));
        let taken: BTreeSet<_> = taken.map(|line| (line.driver, line.place)).collect();
        Ok(lines.iter().any(|line| line.deed == Deed::Acked && taken.contains(&(line.driver, line.place))))
    })
}
