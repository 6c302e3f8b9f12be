//! The run of one seed.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Outcome;
use super::brokers::Brokers;
use super::clock;
use super::faults::{Fault, MEMBERS, Planned};
use super::member::{Member, Orders};
use super::process::Process;
use super::producers::Producers;
use super::report::{Progress, Verdict};
use super::scene::Scene;
use super::stage::{Replication, Stage};
use super::verdict::Happened;

/// The partitions at the start.
const PARTITIONS: i32 = 12;
/// How many partitions a topic grows by.
const GROWTH: i32 = 2;
/// When a source that has yet to end is looked at again.
const RETRY: Duration = Duration::from_millis(50);

/// What the sources are told. What is forgotten comes again after the timeout; what is nacked so often is given up.
const SOURCE: [&str; 6] = ["--inflight-timeout", "3s", "--max-deliveries", "5", "--max-in-flight-bytes", "64MiB"];
/// What the drivers are told.
const DRIVER: [&str; 8] = ["--nacked", "10", "--forgotten", "3", "--broken", "15", "--poison-every", "499"];

/// How long the brokers may take until a cluster has all its replicas in sync.
const RECOVERY: Duration = Duration::from_secs(120);

/// What the drivers are told as well where logs are cut: there are records in flight then from before the cut.
const SLOW: [&str; 2] = ["--work", "8000"];

/// What a seed is run with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) name: &'a str,
    pub(super) seed: u64,
    pub(super) records: u64,
    /// What goes wrong, and how long that takes in all.
    pub(super) plan: &'a [Planned],
    pub(super) length: Duration,
    /// The source under test.
    pub(super) program: &'a Path,
    /// Where logs and journals go.
    pub(super) folder: &'a Path,
}

/// What is to be made good, and when.
#[derive(Debug)]
struct Open {
    due: Instant,
    fault: Fault,
    /// Its place among those that happened.
    index: usize,
}

/// The run while it goes on.
struct Chaos<'a> {
    brokers: Brokers<'a>,
    scene: Scene,
    open: Vec<Open>,
}

impl Run<'_> {
    /// Runs the seed on brokers that serve, and judges it.
    pub(super) fn run(&self, brokers: Brokers<'_>, progress: &Progress) -> Outcome<Verdict> {
        let began = Instant::now();
        let stage = Stage::new(&brokers.site(), &format!("chaos-{}", self.seed), PARTITIONS)?;
        brokers.prepare(&stage)?;
        let mut orders = Orders::new(&SOURCE, &DRIVER);
        orders.source.extend(["--dead-letter-topic".to_owned(), stage.dead_letter_topic()]);
        if stage.site.replication == Replication::Unclean {
            orders.driver.extend(SLOW.map(str::to_owned));
        }
        let scene = Scene::new(self.program, self.folder, stage, self.seed, MEMBERS, &orders)?;
        let producers = Producers::start(&scene.stage, self.seed, self.records, self.length)?;
        let mut chaos = Chaos { brokers, scene, open: Vec::new() };
        let outcome = chaos.go_through(self.plan, producers, progress);
        progress.say("judging");
        // A fault may be open when the run has failed.
        if let Err(error) = chaos.brokers.bring_back() {
            // Nothing can be judged without brokers. Why the run failed, if it did, says more.
            return Err(outcome.err().unwrap_or(error));
        }
        let faults = chaos.scene.happened.len();
        let dead_letter_topic = chaos.scene.stage.dead_letter_topic();
        let (figures, violations) = chaos.scene.judge(outcome)?;
        if !violations.is_empty() {
            chaos.brokers.keep(&dead_letter_topic, self.folder)?;
        }
        let name = self.name.to_owned();
        Ok(Verdict { name, faults, figures, time: began.elapsed(), violations })
    }
}

impl Chaos<'_> {
    /// Has everything go wrong that is planned, then waits until everything is done.
    fn go_through(&mut self, plan: &[Planned], producers: Producers, progress: &Progress) -> Outcome<()> {
        let began = Instant::now();
        self.scene.start()?;
        for planned in plan {
            self.wait_until(began + planned.at)?;
            // New partitions need all nodes as well.
            if planned.fault.is_of_cluster() || planned.fault == Fault::Grow {
                self.wait_until_whole()?;
            }
            progress.say(&format!("{:.0?}: {} for {:.1?}", began.elapsed(), planned.fault, planned.lasts));
            self.scene.log(&format!("{} for {:?}", planned.fault, planned.lasts))?;
            self.begin(planned)?;
        }
        while let Some(due) = self.open.iter().map(|open| open.due).max() {
            self.wait_until(due)?;
        }
        progress.say("waiting until everything is done");
        producers.finish()?;
        self.scene.wait_for_commits()?;
        self.scene.end()
    }

    /// Waits until no fault of the cluster is open and all replicas are in sync: two such faults at a time would leave
    /// nothing that serves.
    fn wait_until_whole(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + RECOVERY;
        while self.open.iter().any(|open| open.fault.is_of_cluster()) || !self.brokers.are_whole(&self.scene)? {
            self.wait_until(Instant::now() + RETRY)?;
            if Instant::now() > deadline {
                return Err(format!("the cluster is not whole after {} s", RECOVERY.as_secs()).into());
            }
        }
        Ok(())
    }

    /// Makes good what is due until a time.
    fn wait_until(&mut self, time: Instant) -> Outcome<()> {
        loop {
            let due = self.open.iter().map(|open| open.due).min().filter(|due| *due < time).unwrap_or(time);
            self.scene.pass(due.saturating_duration_since(Instant::now()))?;
            let now = Instant::now();
            while let Some(index) = self.open.iter().position(|open| open.due <= now) {
                let mut open = self.open.swap_remove(index);
                if !self.end(open.fault)? {
                    open.due = now + RETRY;
                    self.open.push(open);
                    continue;
                }
                self.scene.log(&format!("the end of {}", open.fault))?;
                if let Some(happened) = self.scene.happened.get_mut(open.index) {
                    happened.to = clock::now();
                }
            }
            if now >= time {
                return Ok(());
            }
        }
    }

    fn begin(&mut self, planned: &Planned) -> Outcome<()> {
        let from = clock::now();
        let index = self.scene.happened.len();
        self.scene.happened.push(Happened { fault: planned.fault, from, to: from });
        self.open.push(Open { due: Instant::now() + planned.lasts, fault: planned.fault, index });
        let members = &mut self.scene.members;
        match planned.fault {
            Fault::KillSource(member) => members[member].kill_source(),
            Fault::TerminateSource(member) => members[member].terminate_source(),
            Fault::StopSource(member) => members[member].stop_source(),
            Fault::KillDriver(member) => members[member].kill_driver(),
            Fault::StopDriver(member) => Ok(members[member].driver.as_mut().map_or(Ok(()), Process::stop)?),
            Fault::Scale => members[1..].iter_mut().try_for_each(|member| {
                member.kill_driver()?;
                member.terminate_source()
            }),
            Fault::Grow => {
                self.brokers.serve()?;
                self.scene.stage.grow(GROWTH)
            }
            Fault::Retention => self.scene.remove_records(),
            Fault::CrashBroker
            | Fault::PauseBroker
            | Fault::KillNode(_)
            | Fault::CutOff { .. }
            | Fault::SlowFollower { .. }
            | Fault::LoneLeader(_)
            | Fault::Recreate
            | Fault::Refuse => self.brokers.begin(planned.fault),
        }
    }

    /// Makes a fault good; `false` when a source has to end first.
    fn end(&mut self, fault: Fault) -> Outcome<bool> {
        let members = &mut self.scene.members;
        match fault {
            Fault::KillSource(member) | Fault::TerminateSource(member) => {
                if !members[member].source_is_gone()? {
                    return Ok(false);
                }
                members[member].start_source()?;
            }
            Fault::Scale => {
                for member in &mut members[1..] {
                    if !member.source_is_gone()? {
                        return Ok(false);
                    }
                }
                members[1..].iter_mut().try_for_each(Member::start)?;
            }
            Fault::StopSource(member) => go_on(members[member].source.as_mut())?,
            Fault::KillDriver(member) => members[member].start_driver()?,
            Fault::StopDriver(member) => go_on(members[member].driver.as_mut())?,
            Fault::Grow | Fault::Retention => {}
            Fault::CrashBroker
            | Fault::PauseBroker
            | Fault::KillNode(_)
            | Fault::CutOff { .. }
            | Fault::SlowFollower { .. }
            | Fault::LoneLeader(_)
            | Fault::Recreate
            | Fault::Refuse => return self.brokers.end(fault, &mut self.scene),
        }
        Ok(true)
    }
}

fn go_on(process: Option<&mut Process>) -> Outcome<()> {
    Ok(process.map_or(Ok(()), Process::go_on)?)
}
