//! The run of one seed.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kafka_broker::Broker;

use super::Outcome;
use super::clock;
use super::faults::{self, Fault, MEMBERS, Planned};
use super::member::{Member, Orders};
use super::producers::Producers;
use super::report::{Progress, Verdict};
use super::sampler::Sampler;
use super::stage::Stage;
use super::truth::{self, Truth};
use super::verdict::{Evidence, Happened, Violation};

/// The partitions at the start.
const PARTITIONS: i32 = 12;
/// How many partitions a topic grows by.
const GROWTH: i32 = 2;
/// How long the broker waits for a member.
pub(super) const SESSION: Duration = Duration::from_secs(6);
/// After this long the source delivers again what is not acked.
const INFLIGHT_TIMEOUT: &str = "3s";
/// How long the group may take, once nothing goes wrong any more, until everything is done.
const CALM: Duration = Duration::from_secs(120);
/// How often the run looks whether something is due.
const TICK: Duration = Duration::from_millis(20);

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) seed: u64,
    pub(super) records: u64,
    /// The source under test.
    pub(super) program: &'a Path,
    /// Where logs and journals go.
    pub(super) folder: &'a Path,
}

/// What is to be undone, and when.
#[derive(Debug)]
struct Open {
    due: Instant,
    fault: Fault,
    /// Its place among those that happened.
    index: usize,
}

/// The run while it goes on.
struct Chaos<'a> {
    broker: &'a mut Broker,
    stage: Arc<Stage>,
    members: Vec<Member>,
    happened: Vec<Happened>,
    open: Vec<Open>,
    broker_is_down: bool,
}

impl Run<'_> {
    /// Runs the seed on a broker that serves, and judges it.
    pub(super) fn run(&self, broker: &mut Broker, progress: &Progress) -> Outcome<Verdict> {
        let began = Instant::now();
        let stage = Arc::new(Stage::new(broker.address(), &format!("chaos-{}", self.seed), PARTITIONS)?);
        let plan = faults::plan(self.seed, SESSION);
        let length = plan.last().map_or(Duration::ZERO, |planned| planned.at + planned.lasts);
        let sampler = Sampler::start(&stage, self.folder)?;
        let producers = Producers::start(&stage, self.seed, self.records, length)?;
        let members = (0..MEMBERS).map(|index| self.member(&stage, index)).collect();
        let mut chaos = Chaos {
            broker,
            stage: stage.clone(),
            members,
            happened: Vec::new(),
            open: Vec::new(),
            broker_is_down: false,
        };
        let gone_through = chaos.go_through(&plan, &sampler, producers, progress);
        let samples = sampler.finish()?;
        let mut violations = Vec::new();
        if let Err(error) = gone_through {
            violations.push(Violation { invariant: "the run", what: error.to_string() });
        }
        progress.say("reading the truth");
        // Not only for it to be read: a fault may have been open when the run failed.
        chaos.bring_broker_back()?;
        let truth = Truth::read(&stage)?;
        let dead_letters = truth::read_dead_letters(&stage)?;
        let evidence = Evidence {
            topic: &stage.topic,
            truth: &truth,
            dead_letters: &dead_letters,
            samples: &samples,
            folder: self.folder,
            faults: &chaos.happened,
        };
        let (figures, found) = evidence.judge()?;
        violations.splice(0..0, found);
        let faults = chaos.happened.len();
        drop(chaos);
        stage.remove()?;
        Ok(Verdict { seed: self.seed, faults, figures, time: began.elapsed(), violations })
    }

    fn member(&self, stage: &Stage, index: usize) -> Member {
        let dead_letters = stage.dead_letter_topic();
        let session = SESSION.as_millis();
        let source = [
            "--inflight-timeout".to_owned(),
            INFLIGHT_TIMEOUT.to_owned(),
            "--max-deliveries".to_owned(),
            "5".to_owned(),
            "--dead-letter-topic".to_owned(),
            dead_letters,
            "--max-in-flight-bytes".to_owned(),
            "64MiB".to_owned(),
            "--property".to_owned(),
            format!("session.timeout.ms={session}"),
            "--property".to_owned(),
            "heartbeat.interval.ms=500".to_owned(),
            "--property".to_owned(),
            "topic.metadata.refresh.interval.ms=2000".to_owned(),
        ];
        let driver = [("--nacked", "10"), ("--forgotten", "3"), ("--broken", "15"), ("--poison-every", "499")];
        let driver = driver.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect();
        let orders = Orders { source: source.into(), driver };
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(index as u64 * 100);
        Member::new(format!("member-{index}"), stage, self.program, self.folder, orders, seed)
    }
}

impl Chaos<'_> {
    /// Has everything go wrong that is planned, then waits until everything is done.
    fn go_through(
        &mut self,
        plan: &[Planned],
        sampler: &Sampler,
        producers: Producers,
        progress: &Progress,
    ) -> Outcome<()> {
        let began = Instant::now();
        for member in &mut self.members {
            member.start()?;
        }
        for planned in plan {
            self.wait_until(began + planned.at)?;
            progress.say(&format!("{:.0?}: {} for {:.1?}", began.elapsed(), planned.fault, planned.lasts));
            self.begin(planned)?;
        }
        while let Some(due) = self.open.iter().map(|open| open.due).max() {
            self.wait_until(due)?;
        }
        let sent = producers.sent();
        progress.say(&format!("{sent} records are sent; waiting for the rest"));
        producers.finish()?;
        let ends = Truth::read(&self.stage)?.ends;
        self.wait_for_commits(&ends, sampler)?;
        for member in &mut self.members {
            // In the order of a pod that ends.
            member.kill_driver()?;
            member.terminate_source()?;
        }
        for member in &mut self.members {
            member.finish_source()?;
        }
        Ok(())
    }

    /// Ends faults that are due, and sees that nothing else ends, until a time.
    fn wait_until(&mut self, time: Instant) -> Outcome<()> {
        loop {
            let now = Instant::now();
            while let Some(index) = self.open.iter().position(|open| open.due <= now) {
                let open = self.open.swap_remove(index);
                self.end(open.fault)?;
                if let Some(happened) = self.happened.get_mut(open.index) {
                    happened.to = clock::now();
                }
            }
            for member in &mut self.members {
                member.check()?;
            }
            if now >= time {
                return Ok(());
            }
            thread::sleep(TICK);
        }
    }

    fn begin(&mut self, planned: &Planned) -> Outcome<()> {
        let from = clock::now();
        self.happened.push(Happened { fault: planned.fault, from, to: from });
        self.open.push(Open {
            due: Instant::now() + planned.lasts,
            fault: planned.fault,
            index: self.happened.len() - 1,
        });
        match planned.fault {
            Fault::KillSource(member) => self.members[member].kill_source(),
            Fault::TerminateSource(member) => self.members[member].terminate_source(),
            Fault::StopSource(member) => stop(self.members[member].source.as_mut()),
            Fault::KillDriver(member) => self.members[member].kill_driver(),
            Fault::StopDriver(member) => stop(self.members[member].driver.as_mut()),
            Fault::CrashBroker => {
                self.broker_is_down = true;
                Ok(self.broker.crash()?)
            }
            Fault::PauseBroker if !self.broker_is_down => Ok(self.broker.pause()?),
            Fault::PauseBroker => Ok(()),
            Fault::Scale => {
                for member in &mut self.members[1..] {
                    member.kill_driver()?;
                    member.terminate_source()?;
                }
                Ok(())
            }
            Fault::Grow => {
                self.bring_broker_back()?;
                self.stage.grow(GROWTH)
            }
        }
    }

    fn end(&mut self, fault: Fault) -> Outcome<()> {
        match fault {
            Fault::KillSource(member) | Fault::TerminateSource(member) => self.members[member].start_source(),
            Fault::StopSource(member) => go_on(self.members[member].source.as_mut()),
            Fault::KillDriver(member) => self.members[member].start_driver(),
            Fault::StopDriver(member) => go_on(self.members[member].driver.as_mut()),
            Fault::CrashBroker | Fault::PauseBroker => self.bring_broker_back(),
            Fault::Scale => self.members[1..].iter_mut().try_for_each(Member::start),
            Fault::Grow => Ok(()),
        }
    }

    /// Has the broker serve, whatever was done to it.
    fn bring_broker_back(&mut self) -> Outcome<()> {
        if std::mem::take(&mut self.broker_is_down) {
            self.broker.restart()?;
        }
        Ok(self.broker.resume()?)
    }

    /// Waits until the group has committed everything.
    fn wait_for_commits(&mut self, ends: &std::collections::BTreeMap<i32, i64>, sampler: &Sampler) -> Outcome<()> {
        let deadline = Instant::now() + CALM;
        loop {
            let committed = sampler.latest();
            let behind = ends.iter().find(|(partition, end)| committed.get(partition).is_none_or(|at| at < end));
            let Some((partition, end)) = behind else { return Ok(()) };
            if Instant::now() > deadline {
                let at = committed.get(partition);
                return Err(format!(
                    "{} s after the last fault the group has committed {at:?} of partition {partition}, and its records end \
                     at {end}",
                    CALM.as_secs()
                )
                .into());
            }
            self.wait_until(Instant::now() + TICK)?;
        }
    }
}

fn stop(process: Option<&mut super::process::Process>) -> Outcome<()> {
    Ok(process.map_or(Ok(()), super::process::Process::stop)?)
}

fn go_on(process: Option<&mut super::process::Process>) -> Outcome<()> {
    Ok(process.map_or(Ok(()), super::process::Process::go_on)?)
}
