//! The demo's run: broker, servers, producer and platform, and all of them away again at the end.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use numaflow_sdk::{Environment, ServeError, check_socket_path};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::args::DemoArgs;
use super::input::{self, Input};
use super::outcome::{Lines, Outcome};
use super::process::{Gone, Spec};
use super::{DemoTopic, ProduceError, Progress, Totals, produce};
use crate::config::Layers;
use crate::drive::{self, Destination, Drive, ServerAt, Settings, Until, show};
use crate::error::Failure;
use crate::kafka::{KafkaArgs, KafkaConfig};
use crate::print::line;
use crate::serve::ServerArgs;
use crate::signals::signals;

/// How often it is looked whether the servers are there.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The longer of the sockets' names.
const SOURCE_SOCKET: &str = "source.sock";

/// Runs the command.
pub(crate) fn command(args: &DemoArgs, environment: &dyn Environment) -> Result<(), Failure> {
    let input = input::open(args.input.as_deref())?;
    // Before anything is started, and before anything is overwritten.
    drive::check(args.lines().as_ref(), Some(&Destination::File(args.out.clone())), Some(&args.dead()))?;
    let name = args.topic.clone().unwrap_or_else(a_name);
    let kafka = real_kafka(args, &name, environment)?;
    let failed = |what: &str, error: io::Error| Failure::Run(format!("{what}: {error}"));
    // Before there is a folder that a signal would leave behind.
    let signals = signals().map_err(|error| failed("signals cannot be handled", error))?;
    let directory = tempfile::Builder::new()
        .prefix("udf-demo-")
        .tempdir()
        .map_err(|error| failed("no folder can be made for the sockets", error))?;
    fits(directory.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("the runtime cannot be started", error))?;
    let topic = match &kafka {
        None => DemoTopic::embedded(&name, &name),
        Some(config) => DemoTopic::create(config.brokers().clone(), &name, &name),
    };
    let topic = Arc::new(topic.map_err(|error| Failure::run(&error))?);

    let demo = Demo { args, directory, topic: topic.clone(), embedded: kafka.is_none() };
    let result = runtime.block_on(demo.run(input, signals));
    // A read of standard input may stand still for ever.
    runtime.shutdown_background();
    let removed = if args.keep { Ok(()) } else { topic.remove().map_err(|error| Failure::run(&error)) };
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(failure) => {
            remove_if_empty(&args.out);
            if let Err(left) = removed {
                // What is left has to be known too; the exit code is that of the run.
                _ = left.report();
            }
            return Err(failure);
        }
    };
    removed?;
    print(&outcome, args.json)?;
    if outcome.problems.is_empty() { Ok(()) } else { Err(Failure::Run(outcome.problems.join("; "))) }
}

/// Whether the servers' sockets can have their names in this folder.
fn fits(directory: &Path) -> Result<(), Failure> {
    let Err(ServeError::SocketPathTooLong { path, limit }) = check_socket_path(&directory.join(SOURCE_SOCKET)) else {
        return Ok(());
    };
    Err(Failure::configuration(format!(
        "the folder for temporary files, {}, has too long a name for sockets below it ({} bytes, and {limit} is the \
         most): set TMPDIR to a shorter one",
        std::env::temp_dir().display(),
        path.as_os_str().len()
    )))
}

/// A run that failed before anything came out leaves no output behind.
fn remove_if_empty(out: &Path) {
    if out.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
        // Best effort: the error that matters is the run's.
        drop(std::fs::remove_file(out));
    }
}

/// A name that no other run has.
fn a_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("udf-server-demo-{}-{}", now.as_secs(), std::process::id())
}

/// The variables that a demo itself reads: the others are for servers, and not for those of a demo.
struct BrokersOnly<'a>(&'a dyn Environment);

impl Environment for BrokersOnly<'_> {
    fn get(&self, name: &str) -> Result<Option<String>, String> {
        match name {
            "UDF_BROKERS" | "UDF_CONNECT_TIMEOUT" => self.0.get(name),
            _ => Ok(None),
        }
    }
}

/// The Kafka that the user named, if any.
fn real_kafka(args: &DemoArgs, name: &str, environment: &dyn Environment) -> Result<Option<KafkaConfig>, Failure> {
    let environment = BrokersOnly(environment);
    let mut layers = Layers::new(&environment, args.config.as_deref())?;
    if layers.text("brokers", args.brokers.brokers.as_deref()).is_none() {
        if args.topic.is_some() || args.keep {
            layers.problem("--topic and --keep are for a Kafka named by --brokers");
        }
        // Without brokers nothing in the file is of use.
        return layers.finish().map(|()| None);
    }
    let kafka = KafkaArgs {
        brokers: args.brokers.clone(),
        topics: Some(name.to_owned()),
        group: Some(name.to_owned()),
        ..KafkaArgs::default()
    };
    // The file is the source's too, and may hold what a server can be told.
    let server = ServerArgs::default();
    let settings = server.settings(&mut layers);
    let config = kafka.config(&mut layers, &settings);
    server.log_format(&mut layers);
    drop(crate::kafka_source::runtimes(&mut layers));
    layers.finish()?;
    Ok(config)
}

fn print(outcome: &Outcome, json: bool) -> Result<(), Failure> {
    if json { line(serde_json::to_string(outcome).map_err(|error| Failure::run(&error))?) } else { line(outcome) }
}

struct Demo<'a> {
    args: &'a DemoArgs,
    directory: TempDir,
    topic: Arc<DemoTopic>,
    embedded: bool,
}

impl Demo<'_> {
    async fn run(self, input: Input, mut signals: watch::Receiver<u32>) -> Result<Outcome, Failure> {
        let again = signals.clone();
        let (until, told) = watch::channel(Until::Told);
        let (drive, watcher) = Drive::new(self.settings(told.clone()));
        let mut servers = Servers::start([self.source(), self.map()]);
        let too_long = self.path("too-long");
        let progress = Arc::new(Progress::default());
        let mut producer = Box::pin(self.produce(input, too_long.clone(), progress.clone()));
        let mut produced = None;
        let mut cut_short = None;
        let listening = self.listening(told.clone());
        let mut drive = Box::pin(async {
            listening.await;
            tokio::join!(drive.run(), show(watcher, told)).0
        });
        let driven = loop {
            tokio::select! {
                driven = &mut drive => break driven,
                result = &mut producer, if produced.is_none() && cut_short.is_none() => match result {
                    Ok(totals) if totals.records + totals.too_long > 0 => {
                        until.send_replace(Until::Resolved(totals.records));
                        produced = Some(totals);
                    }
                    Ok(totals) => {
                        produced = Some(totals);
                        until.send_replace(Until::Now);
                    }
                    Err(error) => {
                        cut_short = Some(Failure::run(&error));
                        until.send_replace(Until::Now);
                    }
                },
                gone = servers.gone(), if cut_short.is_none() => {
                    cut_short = Some(gone.into());
                    until.send_replace(Until::Now);
                }
                interrupted = signals.wait_for(|count| *count > 0), if cut_short.is_none() => {
                    drop(interrupted);
                    cut_short = Some(Failure::Run("interrupted; the output holds what was done until then".to_owned()));
                    until.send_replace(Until::Now);
                }
                () = twice(again.clone()), if cut_short.is_some() => {
                    return Err(Failure::Run("stopped at once by a second signal".to_owned()));
                }
            }
        };
        progress.stop();
        drop(drive);
        let stopped = servers.stop().await;
        if let Some(failure) = cut_short {
            return Err(failure);
        }
        let totals = produced.unwrap_or_default();
        if produced.is_some() && totals.records + totals.too_long == 0 {
            return Err(Failure::configuration("the input holds no line that is not empty"));
        }
        let report = driven.map_err(Failure::from)?;
        stopped?;
        self.outcome(totals, report, &too_long).await
    }

    /// Waits until both servers are there, or the run is cut short. The platform finds them by dialling every second; a
    /// demo need not wait that long, nor say that it waits.
    async fn listening(&self, mut told: watch::Receiver<Until>) {
        let infos = [self.path("source-info"), self.path("map-info")];
        let there = async {
            while !infos.iter().all(|info| info.exists()) {
                sleep(LOOK_AGAIN).await;
            }
        };
        tokio::select! {
            () = there => {}
            _ = told.wait_for(|until| *until == Until::Now) => {}
        }
    }

    async fn outcome(&self, totals: Totals, report: drive::Report, too_long: &Path) -> Result<Outcome, Failure> {
        let (out, dead) = (self.args.out.clone(), self.args.dead());
        append(too_long, &dead)
            .map_err(|error| Failure::Run(format!("{} cannot be written: {error}", dead.display())))?;
        let topic = self.topic.clone();
        let counted = tokio::task::spawn_blocking(move || {
            let offsets = topic.offsets().map_err(|error| Failure::run(&error))?;
            let lines = Lines::count(&out, &dead)
                .map_err(|error| Failure::Run(format!("the output cannot be read again: {error}")))?;
            Ok::<_, Failure>((offsets, lines))
        });
        let (offsets, lines) = counted.await.map_err(|error| Failure::run(&error))??;
        Ok(Outcome::new(totals, report, &offsets, lines))
    }

    /// Produces on a thread of its own: it blocks. Lines that are too long for the brokers are put aside.
    async fn produce(&self, input: Input, too_long: PathBuf, progress: Arc<Progress>) -> Result<Totals, ProduceError> {
        let topic = self.topic.clone();
        let producing = tokio::task::spawn_blocking(move || {
            let mut aside: Option<BufWriter<File>> = None;
            let put_aside = |line: &[u8]| {
                let file = match &mut aside {
                    Some(file) => file,
                    None => aside.insert(BufWriter::new(File::create(&too_long)?)),
                };
                file.write_all(line)?;
                file.write_all(b"\n")
            };
            let totals = produce(&topic, input, flights::origin, put_aside, &progress)?;
            if let Some(mut file) = aside {
                file.flush().map_err(|source| ProduceError::TooLong { source })?;
            }
            Ok(totals)
        });
        producing.await.unwrap_or(Err(ProduceError::Stopped))
    }

    fn settings(&self, until: watch::Receiver<Until>) -> Settings {
        let source = ServerAt { socket: self.path(SOURCE_SOCKET), info: Some(self.path("source-info")) };
        let mut settings = Settings::new(drive::Input::Server(source), until);
        settings.map = Some(ServerAt { socket: self.path("map.sock"), info: Some(self.path("map-info")) });
        settings.out = Some(Destination::File(self.args.out.clone()));
        settings.dead_letters = Some(self.args.dead());
        settings
    }

    fn source(&self) -> Spec {
        let mut arguments = self.server(&["kafka-source"], "source");
        let mut set = |flag: &str, value: &str| arguments.extend([flag.into(), value.into()]);
        set("--topics", self.topic.name());
        set("--group", self.topic.config().group());
        // The producer may be ahead of the group, and a file may say otherwise.
        set("--start", "earliest");
        let brokers = self.topic.config().brokers();
        set("--brokers", brokers.addresses());
        set("--connect-timeout", &format!("{}ms", brokers.connect_timeout().as_millis()));
        if self.embedded {
            // The embedded broker takes this long, less a second, to hand over what a dead source held.
            set("--property", "session.timeout.ms=6000");
        } else {
            arguments.extend(self.args.for_the_source());
        }
        Spec { name: "kafka-source", arguments, log: self.path("source.log") }
    }

    fn map(&self) -> Spec {
        let arguments = self.server(&["flights-map", "--map-mode", &self.args.map_mode], "map");
        Spec { name: "map", arguments, log: self.path("map.log") }
    }

    /// The arguments of a server, by the name of its files.
    fn server(&self, command: &[&str], name: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = command.iter().map(OsString::from).collect();
        arguments.extend(["--socket".into(), self.path(&format!("{name}.sock")).into()]);
        arguments.extend(["--server-info".into(), self.path(&format!("{name}-info")).into()]);
        arguments
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

async fn twice(mut signals: watch::Receiver<u32>) {
    drop(signals.wait_for(|count| *count > 1).await);
}

/// Adds what is in one file, if there is one, to another.
fn append(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = match File::open(from) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut to = OpenOptions::new().create(true).append(true).open(to)?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}

/// The servers at work.
struct Servers {
    supervisors: JoinSet<Result<(), Gone>>,
    stops: Vec<oneshot::Sender<()>>,
}

impl Servers {
    fn start(specs: impl IntoIterator<Item = Spec>) -> Self {
        let mut servers = Self { supervisors: JoinSet::new(), stops: Vec::new() };
        for spec in specs {
            let (stop, stopped) = oneshot::channel();
            servers.stops.push(stop);
            servers.supervisors.spawn(spec.supervise(stopped));
        }
        servers
    }

    /// Waits for a server that has ended for good.
    async fn gone(&mut self) -> Gone {
        while let Some(result) = self.supervisors.join_next().await {
            match result {
                Ok(Ok(())) => {}
                Ok(Err(gone)) => return gone,
                Err(error) => return Gone::unsupervised(&error),
            }
        }
        std::future::pending().await
    }

    /// Stops all servers and waits for them.
    async fn stop(mut self) -> Result<(), Gone> {
        for stop in self.stops.drain(..) {
            // It may have ended before.
            _ = stop.send(());
        }
        let mut first = Ok(());
        while let Some(result) = self.supervisors.join_next().await {
            let result = result.unwrap_or_else(|error| Err(Gone::unsupervised(&error)));
            first = first.and(result);
        }
        first
    }
}
