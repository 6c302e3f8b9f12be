//! What is measured: each scenario is one or more comparisons.

use std::time::Duration;

use clap::ValueEnum;

use crate::Outcome;
use crate::beside::{BESIDE, Beside};
use crate::compare::{Pace, Plan};
use crate::handler::{Handler, rounds_for};
use crate::progress::Progress;
use crate::results::{Comparison, Sample};
use crate::serve::{Mode, Peer, Service, Setting, Spec};
use crate::subject::{map_at_a_rate, map_at_start, map_under_load, source_under_load, work_alone};

/// The size of values where only one is measured.
const VALUE: usize = 256;

/// A part of `map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// the identity map under full load, in unary mode
    Throughput,
    /// the same in batch mode
    Batch,
    /// one message in ten waits for 1 ms
    Mixed,
    /// each message takes 100 us of computing, on one core and on two
    Compute,
    /// each message waits for 10 ms, beside the same in tokio alone
    Wait,
    /// latency at 10 and 1,000 messages a second, in unary and in batch mode
    Latency,
    /// time until the server listens, and its memory when idle
    Start,
}

/// What all scenarios are told.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) peers: Vec<Peer>,
    pub(crate) sizes: Vec<usize>,
    pub(crate) in_flight: usize,
    pub(crate) pace: Pace,
    pub(crate) progress: Progress,
    /// Another build of this program, whose server is measured in place of the other peers.
    pub(crate) beside: Option<Beside>,
}

impl Bench {
    pub(crate) async fn map(&self, scenario: Scenario, settings: &[Setting]) -> Outcome<Vec<Comparison>> {
        let mut comparisons = Vec::new();
        match scenario {
            Scenario::Throughput => {
                for &setting in settings {
                    for &size in &self.sizes {
                        comparisons.push(self.throughput(setting, size).await?);
                    }
                }
            }
            Scenario::Batch => comparisons.push(self.batch().await?),
            Scenario::Mixed => comparisons.push(self.mixed().await?),
            Scenario::Compute => comparisons.push(self.compute().await?),
            Scenario::Wait => comparisons.push(self.wait().await?),
            Scenario::Latency => {
                comparisons.push(self.latency(10, self.pace.measured * 5).await?);
                comparisons.push(self.latency(1000, self.pace.measured * 2).await?);
            }
            Scenario::Start => comparisons.push(self.start().await?),
        }
        Ok(comparisons)
    }

    pub(crate) async fn source(&self, settings: &[Setting]) -> Outcome<Vec<Comparison>> {
        let mut comparisons = Vec::new();
        for &setting in settings {
            for &size in &self.sizes {
                comparisons.push(self.generated(setting, size).await?);
            }
        }
        Ok(comparisons)
    }

    async fn throughput(&self, setting: Setting, size: usize) -> Outcome<Comparison> {
        let setting_name = setting.name();
        let windows = setting == Setting::Equal && self.peers.contains(&Peer::Published);
        let plan = Plan::new(
            format!("map/{setting_name}/{size}"),
            format!("Identity map, {size} B, {setting_name} settings"),
            windows.then_some("The published SDK's connection window cannot be set: it is hyper's, 1 MiB."),
        );
        let servers = self.servers(&MAP_PEERS, |peer| Spec::new(peer, setting));
        self.under_load(plan, servers, Mode::Unary, size).await
    }

    async fn batch(&self) -> Outcome<Comparison> {
        let plan = Plan::new(
            "map/batch".to_owned(),
            format!("Identity map in batch mode, {VALUE} B, equal settings"),
            Some("One batch is in flight at a time, as the platform has it."),
        );
        let servers = self.servers(&MAP_PEERS, batch_server);
        self.under_load(plan, servers, Mode::Batch, VALUE).await
    }

    async fn mixed(&self) -> Outcome<Comparison> {
        let plan = Plan::new(
            "map/mixed".to_owned(),
            format!("One message in ten waits for 1 ms, {VALUE} B, equal settings"),
            Some("The tonic server runs a task for every message."),
        );
        let handler = Handler::Wait { every: 10, millis: 1 };
        let servers = self.servers(&SDKS, |peer| Spec { handler, ..Spec::new(peer, Setting::Equal) });
        self.under_load(plan, servers, Mode::Unary, VALUE).await
    }

    async fn compute(&self) -> Outcome<Comparison> {
        let handler = Handler::Compute { rounds: rounds_for(Duration::from_micros(100)) };
        let plan = Plan::new(
            "map/compute".to_owned(),
            "100 us of computing a message, on one core and on two".to_owned(),
            Some(
                "The server is kept to its cores and has as many workers; the load client is not, and shares them. The bare \
                 loop does the same computing without any server: what the machine allows.",
            ),
        );
        let servers = [("on one core", 1), ("on two cores", 2)].into_iter().flat_map(|(name, cores)| {
            let spec =
                |peer| Spec { handler, workers: Some(cores), cores: Some(cores), ..Spec::new(peer, Setting::Equal) };
            let servers = self.servers(&[Peer::Ours, Peer::Bare], spec);
            servers.into_iter().map(move |(peer, spec)| (format!("{peer}, {name}"), spec))
        });
        self.under_load(plan, servers.collect(), Mode::Unary, VALUE).await
    }

    async fn wait(&self) -> Outcome<Comparison> {
        let plan = Plan::new(
            "map/wait".to_owned(),
            format!("Each message waits for 10 ms, {} at once", self.in_flight),
            Some("The bare loop is as many tokio tasks, each of which waits for 10 ms again and again."),
        );
        let handler = Handler::Wait { every: 1, millis: 10 };
        let spec = |peer| Spec { handler, in_flight: self.in_flight, ..Spec::new(peer, Setting::Equal) };
        self.under_load(plan, self.servers(&[Peer::Ours, Peer::Bare], spec), Mode::Unary, VALUE).await
    }

    async fn latency(&self, rate: u32, time: Duration) -> Outcome<Comparison> {
        let plan = Plan::new(
            format!("map/latency/{rate}"),
            format!("{rate} messages a second, {VALUE} B, equal settings"),
            Some(
                "From a message's arrival until its answer. In batch mode the client collects as the platform does: up to \
                 500 messages, or for 1 s from the first.",
            ),
        );
        let unary = self.servers(&SDKS, |peer| Spec::new(peer, Setting::Equal));
        let batch = self.servers(&SDKS, batch_server);
        let unary = unary.into_iter().map(|(name, spec)| (format!("{name}, unary"), (spec, Mode::Unary)));
        let batch = batch.into_iter().map(|(name, spec)| (format!("{name}, batch"), (spec, Mode::Batch)));
        self.run(plan, unary.chain(batch).collect(), async |(spec, mode)| {
            map_at_a_rate(spec, *mode, VALUE, rate, time).await
        })
        .await
    }

    async fn start(&self) -> Outcome<Comparison> {
        let plan = Plan::new(
            "map/start".to_owned(),
            "Start, and memory when idle".to_owned(),
            Some("Until the server-info file is there; memory once a client is connected and has shaken hands."),
        );
        let servers = self.servers(&[Peer::Ours, Peer::Published], |peer| Spec::new(peer, Setting::Default));
        self.run(plan, servers, async |spec| map_at_start(spec).await).await
    }

    async fn generated(&self, setting: Setting, size: usize) -> Outcome<Comparison> {
        let setting_name = setting.name();
        let plan = Plan::new(
            format!("source/{setting_name}/{size}"),
            format!("Generated records of {size} B, {setting_name} settings"),
            Some(
                "Reads of 500 records, each acked before the next; a record's latency is that of its read and its ack.",
            ),
        )
        .of_records();
        let servers =
            self.servers(&SDKS, |peer| Spec { service: Service::Source, value_size: size, ..Spec::new(peer, setting) });
        self.run(plan, servers, async |spec| source_under_load(spec, size, self.pace).await).await
    }

    /// The servers of the requested peers. With `--beside` they are ours, from both builds.
    fn servers(&self, peers: &[Peer], spec: impl Fn(Peer) -> Spec) -> Vec<(String, Spec)> {
        if let Some(beside) = &self.beside {
            let ours = spec(Peer::Ours);
            let other = Spec { program: Some(beside.program().to_owned()), ..ours.clone() };
            return vec![(Peer::Ours.name(), ours), (BESIDE.to_owned(), other)];
        }
        let chosen = peers.iter().filter(|peer| self.peers.contains(peer));
        chosen.map(|&peer| (peer.name(), spec(peer))).collect()
    }

    async fn under_load(
        &self,
        plan: Plan,
        servers: Vec<(String, Spec)>,
        mode: Mode,
        size: usize,
    ) -> Outcome<Comparison> {
        self.run(plan, servers, async |spec| match spec.peer {
            Peer::Bare => work_alone(spec, self.pace).await,
            Peer::Ours | Peer::Published | Peer::Tonic | Peer::H2 => {
                map_under_load(spec, mode, size, self.in_flight, self.pace).await
            }
        })
        .await
    }

    async fn run<S>(
        &self,
        plan: Plan,
        subjects: Vec<(String, S)>,
        measure: impl AsyncFn(&S) -> Outcome<Sample>,
    ) -> Outcome<Comparison> {
        plan.run(subjects, self.pace.rounds, &self.progress, measure).await
    }
}

const MAP_PEERS: [Peer; 4] = [Peer::Ours, Peer::Published, Peer::Tonic, Peer::H2];
/// Those of them that somebody would run.
const SDKS: [Peer; 3] = [Peer::Ours, Peer::Published, Peer::Tonic];

fn batch_server(peer: Peer) -> Spec {
    Spec { service: Service::BatchMap, ..Spec::new(peer, Setting::Equal) }
}
