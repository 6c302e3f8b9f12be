//! What every run has: a topic, members that read it, a sampler that looks on, and the verdict at the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;
use super::clock;
use super::member::{Member, Orders};
use super::process::LOOK;
use super::sampler::Sampler;
use super::stage::Stage;
use super::truth::{self, Truth};
use super::verdict::{Cut, Evidence, Figures, Happened, Log, SESSION, Violation};

/// How long the group may take, once nothing goes wrong any more, until everything is committed.
const CALM: Duration = Duration::from_secs(120);

/// A run while it goes on.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) stage: Arc<Stage>,
    pub(super) members: Vec<Member>,
    pub(super) happened: Vec<Happened>,
    pub(super) cuts: Vec<Cut>,
    pub(super) folder: PathBuf,
    sampler: Sampler,
}

impl Scene {
    /// Makes the topic, and the members with their orders, none of which runs yet.
    pub(super) fn new(
        program: &Path,
        folder: &Path,
        stage: Stage,
        seed: u64,
        members: usize,
        orders: &Orders,
    ) -> Outcome<Self> {
        let mut orders = orders.clone();
        for property in [
            &format!("session.timeout.ms={}", SESSION.as_millis()),
            "heartbeat.interval.ms=500",
            "topic.metadata.refresh.interval.ms=2000",
        ] {
            orders.source.extend(["--property".to_owned(), property.to_owned()]);
        }
        let member = |index: usize| {
            let seed = seed.wrapping_mul(1_000).wrapping_add(index as u64 * 100);
            Member::new(format!("member-{index}"), &stage, program, folder, orders.clone(), seed)
        };
        let members = (0..members).map(member).collect();
        let stage = Arc::new(stage);
        let sampler = Sampler::start(&stage, folder)?;
        Ok(Self { stage, members, happened: Vec::new(), cuts: Vec::new(), folder: folder.to_owned(), sampler })
    }

    /// Writes a line to the log of the run, beside those of its processes.
    pub(super) fn log(&self, what: &str) -> Outcome<()> {
        let mut log = File::options().append(true).create(true).open(self.folder.join("run.log"))?;
        Ok(writeln!(log, "{} {what}", clock::now())?)
    }

    /// Starts all members.
    pub(super) fn start(&mut self) -> Outcome<()> {
        self.members.iter_mut().try_for_each(Member::start)
    }

    /// Fails if a process has ended that nobody has ended.
    pub(super) fn check(&mut self) -> Outcome<()> {
        self.members.iter_mut().try_for_each(Member::check)
    }

    /// Lets time pass in which no process may end.
    pub(super) fn pass(&mut self, time: Duration) -> Outcome<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check()?;
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits for something, during which no process may end.
    pub(super) fn wait_for(
        &mut self,
        what: &str,
        patience: Duration,
        mut is_so: impl FnMut(&mut Self) -> Outcome<bool>,
    ) -> Outcome<()> {
        let deadline = Instant::now() + patience;
        while !is_so(self)? {
            self.check()?;
            if Instant::now() > deadline {
                return Err(format!("no {what} within {} s", patience.as_secs()).into());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Whether a source has written such a line to its log.
    pub(super) fn any_log_has(&self, is_it: impl Fn(&str) -> bool) -> Outcome<bool> {
        for member in 0..self.members.len() {
            let log = fs::read_to_string(self.folder.join(format!("member-{member}.source.log")))?;
            if log.lines().any(&is_it) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes all records that are in every third partition by now, whatever the group has of them.
    pub(super) fn remove_records(&mut self) -> Outcome<()> {
        let from = clock::now();
        let truth = Truth::read(&self.stage)?;
        let is_removed = |partition: i32| partition % 3 == 0;
        let ends: BTreeMap<i32, i64> = truth.ends.into_iter().filter(|(partition, _)| is_removed(*partition)).collect();
        // While leaders change, a broker may refuse.
        self.wait_for("removal of records", CALM, |scene| {
            let removed = scene.stage.remove_before(&ends);
            if let Err(error) = &removed {
                scene.log(&format!("no records are removed yet: {error}"))?;
            }
            Ok(removed.is_ok())
        })?;
        let lost = truth.records.into_iter().filter(|((partition, _), _)| is_removed(*partition)).collect();
        self.log(&format!("removed all before {ends:?}"))?;
        self.cuts.push(Cut { log: Log::Beginning, lost, from, to: clock::now() });
        Ok(())
    }

    /// Waits until each member has as many partitions as the others, and together they have all.
    pub(super) fn settle(&mut self) -> Outcome<()> {
        let each = usize::try_from(self.stage.partitions())? / self.members.len();
        self.wait_for("even share of the partitions", CALM, |scene| {
            for member in &scene.members {
                if member.assigned()? != Some(each) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Waits until the group has committed all records there are.
    pub(super) fn wait_for_commits(&mut self) -> Outcome<()> {
        let ends = Truth::read(&self.stage)?.ends;
        let behind = |scene: &Self| {
            let committed = scene.sampler.latest();
            let behind = ends.iter().find(|(partition, end)| committed.get(partition).is_none_or(|at| at < end));
            behind.map(|(partition, end)| (*partition, *end, committed.get(partition).copied()))
        };
        let waited = self.wait_for("end", CALM, |scene| Ok(behind(scene).is_none()));
        match behind(self) {
            Some((partition, end, committed)) if waited.is_err() => {
                self.check()?;
                let committed = committed.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string());
                Err(format!(
                    "after {} s in which nothing went wrong {committed} is committed of partition {partition}, whose records \
                     end at {end}",
                    CALM.as_secs()
                )
                .into())
            }
            _ => waited,
        }
    }

    /// Ends all members as pods end: first the platform, then the source, in order.
    pub(super) fn end(&mut self) -> Outcome<()> {
        for member in &mut self.members {
            member.kill_driver()?;
            member.terminate_source()?;
        }
        self.wait_for("end of the sources", CALM, |scene| {
            scene.members.iter_mut().try_fold(true, |all, member| Ok(member.source_is_gone()? && all))
        })
    }

    /// Judges the run, which ended as `outcome` says. The broker has to serve. The topics of a run that was right are removed.
    pub(super) fn judge(self, outcome: Outcome<()>) -> Outcome<(Figures, Vec<Violation>)> {
        // Whatever still runs ends here, so that the journals stay as they are.
        drop(self.members);
        let samples = self.sampler.finish()?;
        let truth = Truth::read(&self.stage)?;
        let dead_letters = truth::read_dead_letters(&self.stage)?;
        let evidence = Evidence {
            topic: &self.stage.topic,
            truth: &truth,
            dead_letters: &dead_letters,
            samples: &samples,
            folder: &self.folder,
            faults: &self.happened,
            cuts: &self.cuts,
        };
        let (figures, mut violations) = evidence.judge()?;
        if let Err(error) = outcome {
            // The others may be no more than the consequence.
            violations.insert(0, Violation { invariant: "the run", what: error.to_string() });
        }
        if violations.is_empty() {
            self.stage.remove()?;
        }
        Ok((figures, violations))
    }
}
