//! A dead-letter topic that does not take what is given up: its records may be too small, or it is not there.

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

const PARTITIONS: i32 = 6;
const MEMBERS: usize = 2;
const RECORDS: u64 = 1_500;
const PRODUCING: Duration = Duration::from_secs(4);
/// Some records are never accepted.
const DRIVER: [&str; 4] = ["--poison-every", "40", "--work", "20"];
const SOURCE: [&str; 2] = ["--max-deliveries", "2"];
/// How long it may take until a source says that its dead letters are refused.
const PATIENCE: Duration = Duration::from_secs(60);
/// For how long the topic then goes on refusing.
const MEANWHILE: Duration = Duration::from_secs(3);

/// Why the topic does not take a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Refusal {
    /// No record of it may be as large as the letters are.
    TooSmall,
    /// It is not there.
    Gone,
}

/// Runs it on brokers that serve.
pub(in super::super) fn run(site: &Site, refusal: Refusal, program: &Path, folder: &Path) -> Outcome<Verdict> {
    let began = Instant::now();
    let stage = Stage::new(site, "refused", PARTITIONS)?;
    let mut orders = Orders::new(&SOURCE, &DRIVER);
    orders.source.extend(["--dead-letter-topic".to_owned(), stage.dead_letter_topic()]);
    let mut scene = Scene::new(program, folder, stage, 0, MEMBERS, &orders)?;
    let outcome = refuse(&mut scene, refusal);
    let faults = scene.happened.len();
    let (figures, violations) = scene.judge(outcome)?;
    Ok(Verdict { name: format!("refused, {refusal:?}"), faults, figures, time: began.elapsed(), violations })
}

fn refuse(scene: &mut Scene, refusal: Refusal) -> Outcome<()> {
    // The sources are at work before the topic refuses: at its start a source may look for it.
    scene.start()?;
    scene.settle()?;
    let from = clock::now();
    match refusal {
        Refusal::TooSmall => scene.stage.limit_dead_letters(Some(60))?,
        Refusal::Gone => scene.stage.delete_dead_letters()?,
    }
    Producers::start(&scene.stage, 0, RECORDS, PRODUCING)?.finish()?;
    scene.wait_for("word of the dead letters that are refused", PATIENCE, |scene| is_told(scene))?;
    scene.pass(MEANWHILE)?;
    match refusal {
        Refusal::TooSmall => scene.stage.limit_dead_letters(None)?,
        Refusal::Gone => scene.stage.make_dead_letters()?,
    }
    // The sources try again by themselves.
    scene.happened.push(Happened { fault: Fault::Refuse, from, to: clock::now() });
    scene.wait_for_commits()?;
    scene.end()
}

/// Whether a source has told of the dead-letter topic, as a warning or an error.
pub(super) fn is_told(scene: &Scene) -> Outcome<bool> {
    let topic = scene.stage.dead_letter_topic();
    scene.any_log_has(|line| line.contains(&topic) && (line.contains("WARN") || line.contains("ERROR")))
}
