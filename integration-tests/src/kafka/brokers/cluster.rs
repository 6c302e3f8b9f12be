//! What is done to a cluster, and what it has done to its logs meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use kafka_broker::proxy::Link;
use kafka_broker::{Broker, Channel, Cluster, Way};
use rdkafka::ClientConfig;
use rdkafka::admin::{AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::kafka::Outcome;
use crate::kafka::clock::{self, Micros};
use crate::kafka::faults::cluster::NODES;
use crate::kafka::faults::{Breakage, Fault, Peers};
use crate::kafka::producers;
use crate::kafka::scene::Scene;
use crate::kafka::stage::{Replication, Site, Stage, options, wait_for};
use crate::kafka::truth::Numbered;
use crate::kafka::verdict::{Cut, Log};

/// The topic that groups commit to.
const OFFSETS: &str = "__consumer_offsets";
/// How slow a slow link is. A request of a follower has some hundred bytes, and is sent twice a second where nothing comes.
const SLOW: NonZeroU32 = NonZeroU32::MIN.saturating_add(1_999);
/// How long the brokers may take to tell of the partitions.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the others may take until they are no longer in sync with a node that they do not follow, and until there are
/// leaders after it was killed.
const CHANGE: Duration = Duration::from_secs(60);
/// How long it is waited for followers of partitions that may have no new records.
const NO_RECORDS: Duration = Duration::from_secs(10);
/// For how long a node then gets records that only it has, and for how long its partitions have no leader.
const ALONE: Duration = Duration::from_secs(2);

/// The nodes of a cluster.
pub(in super::super) struct Nodes<'a> {
    cluster: &'a mut Cluster,
    replication: Replication,
    onlooker: BaseConsumer,
    down: BTreeSet<u32>,
    /// How far [`Fault::LoneLeader`] has come, while there is one.
    lone: Option<Lone>,
}

/// A node that is alone in sync.
#[derive(Debug)]
struct Lone {
    began: Micros,
    /// The partitions that it leads, as it was found out last.
    led: Vec<Partition>,
    step: Step,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The others are still in sync, as far as anybody knows.
    Followed,
    /// It gets records that only it has.
    Alone,
    /// It is killed.
    Killed,
    /// Its partitions have become what they are without it.
    Missed,
}

/// A partition by its topic.
type Partition = (String, i32);

/// Who keeps a partition.
#[derive(Debug)]
struct Kept {
    leader: i32,
    replicas: usize,
    in_sync: Vec<i32>,
}

impl<'a> Nodes<'a> {
    /// The nodes of a cluster that serves, which keeps its topics like that.
    pub(in super::super) fn new(cluster: &'a mut Cluster, replication: Replication) -> Outcome<Self> {
        let onlooker = ClientConfig::new().set("bootstrap.servers", cluster.direct()).set("log_level", "0").create()?;
        Ok(Self { cluster, replication, onlooker, down: BTreeSet::new(), lone: None })
    }

    pub(in super::super) fn site(&self) -> Site {
        Site::of_cluster(self.cluster, self.replication)
    }

    /// Has the group's offsets kept as the topic is.
    pub(in super::super) fn prepare(&self, stage: &Stage) -> Outcome<()> {
        // Their topic is made when somebody asks for the first time.
        let onlooker = stage.onlooker()?;
        let deadline = Instant::now() + CHANGE;
        while let Err(error) = stage.committed(&onlooker, PATIENCE) {
            if Instant::now() > deadline {
                return Err(error);
            }
        }
        let config = AlterConfig::new(ResourceSpecifier::Topic(OFFSETS)).set("cleanup.policy", "compact");
        let config =
            self.replication.settings().into_iter().fold(config, |config, (name, value)| config.set(name, value));
        for altered in wait_for(stage.admin()?.alter_configs([&config], &options()))? {
            altered.map_err(|(_, error)| format!("the brokers refuse settings of {OFFSETS}: {error}"))?;
        }
        Ok(())
    }

    /// Begins a fault.
    pub(in super::super) fn begin(&mut self, fault: Fault) -> Outcome<()> {
        match fault {
            Fault::KillNode(node) => self.kill(node)?,
            Fault::CutOff { node, from, how } => {
                let is_cut = |way: Way| match from {
                    Peers::Nodes => way.is_between_others_and(node),
                    Peers::Clients => way.is_of_clients_of(node),
                    Peers::All => way.is_between_others_and(node) || way.is_of_clients_of(node),
                };
                self.cluster.links(is_cut).for_each(match how {
                    Breakage::Cut => Link::cut,
                    Breakage::Stall => Link::stall,
                    Breakage::HalfOpen => Link::half_open,
                });
            }
            Fault::SlowFollower { slow, gone } => {
                let follows = |node| move |way: Way| way.from == Some(node) && way.channel == Channel::Replication;
                self.cluster.links(follows(slow)).for_each(|link| link.slow(SLOW));
                self.cluster.links(follows(gone)).for_each(Link::cut);
            }
            Fault::LoneLeader(node) => {
                let follows_it = |way: Way| way.to == node && way.channel == Channel::Replication;
                self.cluster.links(follows_it).for_each(Link::cut);
                let (began, since) = (clock::now(), Instant::now());
                self.lone = Some(Lone { began, led: Vec::new(), step: Step::Followed, since });
            }
            Fault::CrashBroker
            | Fault::PauseBroker
            | Fault::KillSource(_)
            | Fault::TerminateSource(_)
            | Fault::StopSource(_)
            | Fault::KillDriver(_)
            | Fault::StopDriver(_)
            | Fault::Scale
            | Fault::Grow
            | Fault::Retention
            | Fault::Recreate
            | Fault::Refuse => {}
        }
        Ok(())
    }

    /// Ends a fault; `false` while it goes on.
    pub(in super::super) fn end(&mut self, fault: Fault, scene: &mut Scene) -> Outcome<bool> {
        if let (Fault::LoneLeader(node), Some(lone)) = (fault, self.lone.take()) {
            return self.go_on(node, lone, scene);
        }
        self.bring_back()?;
        Ok(true)
    }

    /// Whether all partitions of the stage and of the offsets have a leader and all their replicas.
    pub(in super::super) fn are_whole(&self, scene: &Scene) -> Outcome<bool> {
        let is_whole = |kept: &Kept| kept.leader >= 0 && kept.in_sync.len() == kept.replicas;
        Ok(self.kept(&scene.stage).is_ok_and(|kept| kept.values().all(is_whole)))
    }

    /// Has all nodes serve and all links pass.
    pub(in super::super) fn bring_back(&mut self) -> Outcome<()> {
        self.lone = None;
        self.cluster.heal();
        while let Some(node) = self.down.pop_first() {
            self.node(node)?.restart()?;
        }
        Ok(())
    }

    /// All nodes, in the order of their numbers.
    pub(in super::super) fn all(&self) -> Vec<&Broker> {
        self.cluster.ids().filter_map(|id| self.cluster.node(id)).collect()
    }

    fn node(&mut self, node: u32) -> Outcome<&mut Broker> {
        self.cluster.node_mut(node).ok_or_else(|| format!("the cluster has no node {node}").into())
    }

    fn kill(&mut self, node: u32) -> Outcome<()> {
        self.down.insert(node);
        Ok(self.node(node)?.crash()?)
    }

    /// Takes the next step of [`Fault::LoneLeader`], if it is time for it; `false` unless it was the last one.
    fn go_on(&mut self, node: u32, mut lone: Lone, scene: &mut Scene) -> Outcome<bool> {
        let id = i32::try_from(node)?;
        // While leaders change the brokers may not answer.
        let kept = self.kept(&scene.stage).unwrap_or_default();
        let is_led =
            |partition: &Partition, by: &dyn Fn(i32) -> bool| kept.get(partition).is_some_and(|kept| by(kept.leader));
        let next = match lone.step {
            Step::Followed => {
                let led = kept.iter().filter(|((topic, _), kept)| kept.leader == id && is_cut(topic, scene));
                // A follower of a partition without new records stays in sync: there is nothing that it does not have.
                let alone = led.clone().filter(|(_, kept)| kept.in_sync == [id]);
                let is_of_topic = |partition: &Partition| partition.0 == scene.stage.topic;
                let followed = led.filter(|(partition, kept)| kept.in_sync != [id] && is_of_topic(partition)).count();
                lone.led = alone.map(|(partition, _)| partition.clone()).collect();
                let is_time = followed == 0 || lone.since.elapsed() > NO_RECORDS;
                (is_time && lone.led.iter().any(is_of_topic)).then_some(Step::Alone)
            }
            Step::Alone if lone.since.elapsed() < ALONE => None,
            Step::Alone => {
                // Meanwhile it may have lost the followers of more of them. Where a log can be cut, all that it leads count:
                // of one that somebody else has as a whole nothing is found to be cut.
                let is_unclean = self.replication == Replication::Unclean;
                let led = kept.iter().filter(|((topic, _), kept)| {
                    kept.leader == id && is_cut(topic, scene) && (is_unclean || kept.in_sync == [id])
                });
                let led: Vec<Partition> = led.map(|(partition, _)| partition.clone()).collect();
                if led.is_empty() {
                    // The brokers did not answer.
                    self.lone = Some(lone);
                    return Ok(false);
                }
                lone.led = led;
                self.kill(node)?;
                Some(Step::Killed)
            }
            Step::Killed if self.replication == Replication::Unclean => {
                let others_lead = |leader: i32| leader >= 0 && leader != id;
                lone.led.iter().all(|partition| is_led(partition, &others_lead)).then_some(Step::Missed)
            }
            Step::Killed => {
                lone.led.iter().all(|partition| is_led(partition, &|leader| leader < 0)).then_some(Step::Missed)
            }
            Step::Missed if self.replication == Replication::Unclean => {
                let cuts = self.cuts(node, &lone, scene)?;
                self.bring_back()?;
                let to = clock::now();
                for cut in cuts {
                    scene.log(&format!("the cluster has cut {:?}, with {} records", cut.log, cut.lost.len()))?;
                    scene.cuts.push(Cut { to, ..cut });
                }
                return Ok(true);
            }
            Step::Missed if lone.since.elapsed() < ALONE => None,
            Step::Missed => {
                self.bring_back()?;
                return Ok(true);
            }
        };
        if let Some(step) = next {
            scene.log(&format!("node {node}: {step:?}, {:?}", lone.led))?;
            lone = Lone { step, since: Instant::now(), ..lone };
        } else if lone.since.elapsed() > CHANGE {
            let step = lone.step;
            return Err(format!("node {node} is {step:?} for more than {} s: {kept:?}", CHANGE.as_secs()).into());
        }
        self.lone = Some(lone);
        Ok(false)
    }

    /// What the new leaders have cut off from the logs of a node that is down.
    fn cuts(&self, node: u32, lone: &Lone, scene: &Scene) -> Outcome<Vec<Cut>> {
        let node = self.cluster.node(node).ok_or("the node is not there")?;
        let topic = &scene.stage.topic;
        let mine = lone.led.iter().filter(|(led, _)| led == topic).map(|(_, partition)| *partition);
        let logs: BTreeMap<i32, Vec<Numbered>> = read_segments(node, topic, mine)?;
        let mut cuts = Vec::new();
        let cut = |log, lost| Cut { log, lost, from: lone.began, to: lone.began };
        let present = self.logs_of_leaders(scene, logs.keys().copied())?;
        for (partition, log) in logs {
            let from = self.beginning_of_last_leader(topic, partition)?;
            // The new leader may have had others before, which nobody had taken from it.
            let others = |record: &&Numbered| present.get(&partition).is_some_and(|present| !present.contains(record));
            let from = log.iter().find(others).map_or(from, |((_, offset), _)| from.min(*offset));
            let lost: BTreeSet<Numbered> = log.into_iter().filter(|((_, offset), _)| *offset >= from).collect();
            if !lost.is_empty() {
                cuts.push(cut(Log::Partition { partition, from }, lost));
            }
        }
        if lone.led.iter().any(|(led, _)| led == OFFSETS) {
            cuts.push(cut(Log::Offsets, BTreeSet::new()));
        }
        Ok(cuts)
    }

    /// What those have that lead partitions of the topic now.
    fn logs_of_leaders(
        &self,
        scene: &Scene,
        partitions: impl Iterator<Item = i32>,
    ) -> Outcome<BTreeMap<i32, BTreeSet<Numbered>>> {
        let topic = &scene.stage.topic;
        let kept = self.kept(&scene.stage)?;
        let mut led: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            let leader = kept.get(&(topic.clone(), partition)).map(|kept| kept.leader);
            let leader = leader.ok_or_else(|| format!("nobody keeps {topic}:{partition}"))?;
            led.entry(u32::try_from(leader)?).or_default().push(partition);
        }
        let mut logs = BTreeMap::new();
        for (leader, partitions) in led {
            let node = self.cluster.node(leader).ok_or("the leader is not there")?;
            let read = read_segments(node, topic, partitions.into_iter())?;
            logs.extend(read.into_iter().map(|(partition, log)| (partition, log.into_iter().collect())));
        }
        Ok(logs)
    }

    /// With which record the present leader of a partition began.
    fn beginning_of_last_leader(&self, topic: &str, partition: i32) -> Outcome<i64> {
        let nodes = (1..=NODES).filter(|node| !self.down.contains(node)).filter_map(|node| self.cluster.node(node));
        let epochs = nodes.flat_map(|node| node.leader_epochs(topic, partition).last().copied());
        let (_, from) = epochs.max().ok_or_else(|| format!("no leader of {topic}:{partition} has begun"))?;
        Ok(from)
    }

    /// Who keeps the partitions of the stage and of the offsets.
    fn kept(&self, stage: &Stage) -> Outcome<BTreeMap<Partition, Kept>> {
        let dead_letters = stage.dead_letter_topic();
        let metadata = self.onlooker.fetch_metadata(None, PATIENCE)?;
        let mut kept = BTreeMap::new();
        for topic in metadata.topics() {
            if ![&*stage.topic, &*dead_letters, OFFSETS].contains(&topic.name()) {
                continue;
            }
            for partition in topic.partitions() {
                let (leader, replicas) = (partition.leader(), partition.replicas().len());
                let in_sync = partition.isr().to_vec();
                kept.insert((topic.name().to_owned(), partition.id()), Kept { leader, replicas, in_sync });
            }
        }
        Ok(kept)
    }
}

/// Whether a topic is one that is kept as the stage says. The dead-letter topic always needs two replicas.
fn is_cut(topic: &str, scene: &Scene) -> bool {
    topic == OFFSETS || topic == scene.stage.topic
}

/// What is on the disk of a broker of some partitions, whether it was ever committed or not. Kafka's own tool reads it.
fn read_segments(
    broker: &Broker,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
) -> Outcome<BTreeMap<i32, Vec<Numbered>>> {
    let files: Vec<_> = partitions.map(|partition| (partition, broker.segment(topic, partition))).collect();
    if files.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<_> = files.iter().map(|(_, file)| file.display().to_string()).collect();
    let arguments = ["--print-data-log".to_owned(), "--files".to_owned(), names.join(",")];
    let output = broker.tool("org.apache.kafka.tools.DumpLogSegments", arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(
            format!("the logs of {topic} cannot be read: {text}{}", String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    Ok(numbers(&text, &files))
}

/// The records that the tool prints of each of these files.
fn numbers(text: &str, files: &[(i32, impl AsRef<Path>)]) -> BTreeMap<i32, Vec<Numbered>> {
    let mut logs: BTreeMap<i32, Vec<Numbered>> = files.iter().map(|(partition, _)| (*partition, Vec::new())).collect();
    let mut now = None;
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("Dumping ") {
            now = files.iter().find(|(_, known)| known.as_ref() == Path::new(file)).map(|(partition, _)| *partition);
        }
        let record = line.strip_prefix("| offset: ").and_then(|record| {
            let offset = record.split(' ').next()?.parse().ok()?;
            Some((offset, producers::number_of(record.split_once("payload: ")?.1.as_bytes())?))
        });
        if let (Some(partition), Some((offset, number))) = (now, record) {
            logs.entry(partition).or_default().push(((partition, offset), number));
        }
    }
    logs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tool_prints_is_read() {
        let text = "Dumping /x/t-3/0.log\nLog starting offset: 0\nbaseOffset: 0 lastOffset: 1 count: 2\n\
                    | offset: 0 CreateTime: 17 keySize: -1 valueSize: 9 sequence: 0 headerKeys: [] payload: 41 ....\n\
                    | offset: 1 CreateTime: 17 keySize: -1 valueSize: 9 sequence: 1 headerKeys: [] payload: 42 ....\n\
                    Dumping /x/t-5/0.log\n\
                    | offset: 7 CreateTime: 17 keySize: -1 valueSize: 9 sequence: -1 headerKeys: [] payload: 43 ....\n\
                    | offset: 8 CreateTime: 17 keySize: 4 valueSize: 6 endTxnMarker: ABORT coordinatorEpoch: 0\n";
        let logs = numbers(text, &[(3, "/x/t-3/0.log"), (5, "/x/t-5/0.log"), (6, "/x/t-6/0.log")]);
        let wanted = [(3, vec![((3, 0), 41), ((3, 1), 42)]), (5, vec![((5, 7), 43)]), (6, vec![])];
        assert_eq!(logs, BTreeMap::from(wanted));
    }
}
