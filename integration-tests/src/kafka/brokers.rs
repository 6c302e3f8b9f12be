//! The brokers that a run is on, and what is done to them.

use std::fs;
use std::path::Path;

use kafka_broker::{Broker, Cluster};

use super::Outcome;
use super::faults::Fault;
use super::scene::Scene;
use super::stage::{Replication, Site, Stage};
use cluster::Nodes;

pub(super) mod cluster;

/// The brokers of a run.
pub(super) enum Brokers<'a> {
    /// One broker.
    One(One<'a>),
    /// A cluster.
    Cluster(Nodes<'a>),
}

/// One broker.
#[derive(Debug)]
pub(super) struct One<'a> {
    broker: &'a mut Broker,
    is_down: bool,
}

impl<'a> Brokers<'a> {
    /// One broker that serves.
    pub(super) fn one(broker: &'a mut Broker) -> Self {
        Self::One(One { broker, is_down: false })
    }

    /// The nodes of a cluster that serves, which keeps its topics like that.
    pub(super) fn cluster(cluster: &'a mut Cluster, replication: Replication) -> Outcome<Self> {
        Ok(Self::Cluster(Nodes::new(cluster, replication)?))
    }

    /// Where a stage is made on them.
    pub(super) fn site(&self) -> Site {
        match self {
            Self::One(one) => Site::of_broker(one.broker),
            Self::Cluster(nodes) => nodes.site(),
        }
    }

    /// Has the brokers keep what the group of a stage commits as they keep its topic.
    pub(super) fn prepare(&self, stage: &Stage) -> Outcome<()> {
        match self {
            Self::One(_) => Ok(()),
            Self::Cluster(nodes) => nodes.prepare(stage),
        }
    }

    /// Begins a fault of brokers.
    pub(super) fn begin(&mut self, fault: Fault) -> Outcome<()> {
        match self {
            Self::One(one) => one.begin(fault),
            Self::Cluster(nodes) => nodes.begin(fault),
        }
    }

    /// Makes a fault of brokers good; `false` when it is not over yet, and has to be asked for again.
    pub(super) fn end(&mut self, fault: Fault, scene: &mut Scene) -> Outcome<bool> {
        match self {
            Self::One(one) => one.bring_back().map(|()| true),
            Self::Cluster(nodes) => nodes.end(fault, scene),
        }
    }

    /// Whether a fault of the cluster can begin: no other one is in progress, and all replicas are in sync.
    pub(super) fn are_whole(&self, scene: &Scene) -> Outcome<bool> {
        match self {
            Self::One(_) => Ok(true),
            Self::Cluster(nodes) => nodes.are_whole(scene),
        }
    }

    /// Has all brokers serve that were killed or stopped, and all links pass.
    pub(super) fn bring_back(&mut self) -> Outcome<()> {
        match self {
            Self::One(one) => one.bring_back(),
            Self::Cluster(nodes) => nodes.bring_back(),
        }
    }

    /// Keeps the brokers' own logs in a folder, and the log of a topic of one partition as each of them has it.
    pub(super) fn keep(&self, topic: &str, folder: &Path) -> Outcome<()> {
        let nodes: Vec<&Broker> = match self {
            Self::One(one) => vec![one.broker],
            Self::Cluster(nodes) => nodes.all(),
        };
        for (number, node) in (1..).zip(nodes) {
            fs::write(folder.join(format!("node-{number}.log")), node.log())?;
            let segment = node.segment(topic, 0);
            if segment.exists() {
                fs::copy(segment, folder.join(format!("node-{number}.{topic}.segment")))?;
            }
        }
        Ok(())
    }

    /// Has what is made new through the brokers find them. In a cluster enough of them are there at any time.
    pub(super) fn serve(&mut self) -> Outcome<()> {
        match self {
            Self::One(one) => one.bring_back(),
            Self::Cluster(_) => Ok(()),
        }
    }
}

impl One<'_> {
    fn begin(&mut self, fault: Fault) -> Outcome<()> {
        if fault == Fault::CrashBroker {
            self.is_down = true;
            return Ok(self.broker.crash()?);
        }
        if self.is_down { Ok(()) } else { Ok(self.broker.pause()?) }
    }

    /// Has the broker serve, whatever was done to it.
    fn bring_back(&mut self) -> Outcome<()> {
        if std::mem::take(&mut self.is_down) {
            self.broker.restart()?;
        }
        Ok(self.broker.resume()?)
    }
}
