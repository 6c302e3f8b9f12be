//! A server: its options, the bind, and the loop that accepts connections until it drains.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::time::{sleep_until, timeout_at};

use crate::additions::{Additions, AdminPage};
use crate::in_flight::InFlight;
use crate::limit::{Limits, MaxInFlight, default_max_bytes, warn_beyond_memory};
use crate::metrics::Metrics;
use crate::metrics::text::MetricsText;
use crate::panic;
use crate::service::{Context, Service};
use crate::time::bounded;
use crate::{ServeError, Settings};

mod condition;
mod connection;
mod description;
pub(crate) mod drain;
mod drained;
pub(crate) mod info;
pub(crate) mod observer;
mod outgoing;
pub(crate) mod socket;

pub use socket::check_path as check_socket_path;

pub(crate) mod together;
mod transport;

pub use description::Description;
pub use drain::Draining;
pub use drained::{AbandonedMessage, Drained};
pub(crate) use socket::Files;

use condition::{Condition, Watched};
use drain::Drain;
use observer::Observer;

/// Where the platform looks for sockets and info files.
const RUNTIME_DIRECTORY: &str = "/var/run/numaflow";
/// Bounds memory, not throughput: the platform keeps 500 messages in flight unless told otherwise.
const DEFAULT_MAX_IN_FLIGHT: MaxInFlight = MaxInFlight::Fixed(4096);
/// The message size that the platform's client is limited to, both ways.
const DEFAULT_MAX_MESSAGE_SIZE: usize = 64 << 20;
/// The platform's container may run under another uid, and the volume is the pod's own.
const DEFAULT_SOCKET_MODE: u32 = 0o666;
/// Below the 30 s that Kubernetes gives a pod.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// Well above what a handler takes that works, and below what the platform's own probes need to give a container up.
const DEFAULT_SLOW_AFTER: Duration = Duration::from_secs(30);
/// The part of the drain in which streams are made to end, at most.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// The part of the drain in which connections are broken off, at most.
const BREAKING_TIME: Duration = Duration::from_millis(100);

/// A server that is set up and not yet listening.
///
/// ```no_run
/// use numaflow_sdk::{MapRequest, Message, Server, map};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let upper = map::from_fn(async |r: MapRequest| Ok(Message::new(r.value().to_ascii_uppercase())));
/// let bound = Server::new(map::service(upper))
///     .socket_path("/tmp/map.sock")
///     .server_info_path("/tmp/mapper-server-info")
///     .bind()?; // listening, and the info file is there
/// bound.serve_until(async { drop(tokio::signal::ctrl_c().await) }).await?;
/// # Ok(())
/// # }
/// ```
pub struct Server<S> {
    service: S,
    drain: Drain,
    options: Options,
    on_shutdown: Vec<OnShutdown>,
    stop_when: Option<Condition>,
    additions: Additions,
}

type OnShutdown = Box<dyn FnOnce() + Send + Sync>;

#[derive(Debug, Clone)]
struct Options {
    /// Where none is set it is the one of the service's kind, which is known when all is set.
    socket_path: Option<PathBuf>,
    server_info_path: Option<PathBuf>,
    socket_mode: u32,
    max_in_flight: Chosen<MaxInFlight>,
    max_in_flight_bytes: Chosen<usize>,
    max_message_size: usize,
    drain_timeout: Chosen<Duration>,
    slow_after: Duration,
    admin: Option<SocketAddr>,
    panic_hook: bool,
    log_to_stderr: bool,
    container_type: Option<String>,
    replica: u16,
}

/// A value, and where it comes from: the start block says both.
#[derive(Debug, Clone)]
struct Chosen<T> {
    value: T,
    origin: Cow<'static, str>,
}

impl<T> Chosen<T> {
    fn default(value: T) -> Self {
        Self { value, origin: "default".into() }
    }

    fn set(value: T) -> Self {
        Self { value, origin: "set".into() }
    }
}

impl<S: Service> Server<S> {
    /// Creates a server with the defaults that the platform expects of this kind of service.
    #[must_use]
    pub fn new(service: S) -> Self {
        let (max_bytes, origin) = default_max_bytes();
        Self {
            service,
            drain: Drain::new(),
            on_shutdown: Vec::new(),
            stop_when: None,
            additions: Additions::default(),
            options: Options {
                socket_path: None,
                server_info_path: None,
                socket_mode: DEFAULT_SOCKET_MODE,
                max_in_flight: Chosen::default(DEFAULT_MAX_IN_FLIGHT),
                max_in_flight_bytes: Chosen { value: max_bytes, origin: origin.into() },
                max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
                drain_timeout: Chosen::default(DEFAULT_DRAIN_TIMEOUT),
                slow_after: DEFAULT_SLOW_AFTER,
                admin: None,
                panic_hook: true,
                log_to_stderr: true,
                container_type: None,
                replica: 0,
            },
        }
    }

    /// Where to listen. By default the name that the platform dials, in `/var/run/numaflow`.
    ///
    /// A client must call the server by the name of a host in `:authority`, such as `localhost`. HTTP/2 refuses others with
    /// PROTOCOL_ERROR, such as the path of the socket, which some gRPC libraries use by default; the log says so.
    ///
    /// Folders that are missing are made. A socket that a dead process left is replaced; one that is listened on, or
    /// anything that is not a socket, makes `bind` fail.
    #[must_use]
    pub fn socket_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.socket_path = Some(path.into());
        self
    }

    /// Where to write the server-info file. By default the name that the platform reads, in `/var/run/numaflow`.
    #[must_use]
    pub fn server_info_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.server_info_path = Some(path.into());
        self
    }

    /// The permissions of the socket. 0666 by default: the platform's container may run under another uid, and the
    /// volume is the pod's own.
    #[must_use]
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.options.socket_mode = mode;
        self
    }

    /// The most messages in flight, over all streams; for a source, the most acks, nacks and calls for pending messages or
    /// partitions. 4,096 by default: eight times what the platform keeps in flight,
    /// unless its read batch size or concurrency was raised. At the limit the server reads no further, and HTTP/2 holds
    /// the peer back; nothing is refused.
    ///
    /// A range (`64..=4096`) makes it a limit that finds itself between the two: see [`MaxInFlight::Adaptive`].
    #[must_use]
    pub fn max_in_flight(mut self, messages: impl Into<MaxInFlight>) -> Self {
        self.options.max_in_flight = Chosen::set(messages.into());
        self
    }

    /// The most bytes of messages in flight, over all streams; a single message above it is in flight alone. An ack or a nack
    /// of a source counts as its request and up to 4 MiB for its offsets, of which it gets no more at once. By default a
    /// quarter of the container's memory limit, at least 64 MiB (in a container with less than 128 MiB, half of its limit)
    /// and at most 256 MiB, which is also what it is without a memory limit. A value above the memory limit is taken, with
    /// a warning in the log.
    #[must_use]
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.options.max_in_flight_bytes = Chosen::set(bytes);
        self
    }

    /// The largest message taken or sent. 64 MiB by default, which is the platform's own limit. Requests that carry nothing
    /// (`IsReady`, `PendingFn`, `PartitionsFn`) have a limit of 4 KiB.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.options.max_message_size = bytes;
        self
    }

    /// How long a drain may take. 25 s by default, below the 30 s that Kubernetes gives a pod. `Duration::MAX` is no limit.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = Chosen::set(timeout);
        self
    }

    /// The age at which a message in flight, or a call of a source, is named in the log, and again whenever its age has
    /// doubled. 30 s by default: well above what a handler takes that works, and below the five minutes after which the
    /// platform's probes restart a container. A plain thread looks for such messages, so that handlers that block every
    /// thread of the runtime are found too.
    #[must_use]
    pub fn slow_after(mut self, age: Duration) -> Self {
        self.options.slow_after = age;
        self
    }

    /// Where to listen for those who operate the server. Off by default. A port of zero lets the system choose one, which
    /// [`Bound::admin_address`] tells. Nobody is asked who they are, so choose an address that only they can reach.
    ///
    /// `/metrics` is for Prometheus: what the server counts, and what the program counts through the `metrics` crate,
    /// unless it has installed a recorder of its own. `/livez` fails when the runtime has run nothing for a minute,
    /// `/readyz` from the start of the drain on, and `/inflight` lists what is in flight, the oldest first.
    ///
    /// Needs the feature `admin`; without it, `bind` fails.
    #[must_use]
    pub fn admin(mut self, address: impl Into<SocketAddr>) -> Self {
        self.options.admin = Some(address.into());
        self
    }

    /// Gives the admin endpoint a page of the program's own: `page` is called for each request of `path`, which begins with
    /// a slash. Without an admin endpoint it is never called.
    ///
    /// Like all that the endpoint asks of the program, it is called on the one plain thread that answers everybody, so it
    /// must not block or wait for the runtime; a lock that is held for moments only is fine. If it panics, the answer is
    /// 500, and nothing else comes of it.
    ///
    /// ```
    /// # use numaflow_sdk::{AdminPage, MapRequest, Message, Server, map};
    /// # let service = map::service(map::from_fn(async |r: MapRequest| Ok(Message::new(r.value().clone()))));
    /// let server = Server::new(service).admin_page("/tables", || AdminPage::json(r#"{"airports": 3376}"#));
    /// ```
    #[must_use]
    pub fn admin_page(mut self, path: impl Into<String>, page: impl Fn() -> AdminPage + Send + Sync + 'static) -> Self {
        self.additions.add_page(path.into(), page);
        self
    }

    /// Adds to `/metrics` what `write` writes, for what the program counts anyway: it is called when somebody asks, and
    /// counting costs nothing more. The macros of the crate `metrics` need no such call.
    ///
    /// For `write` the same holds as for a page of [`Server::admin_page`].
    #[must_use]
    pub fn metrics_from(mut self, write: impl Fn(&mut MetricsText) + Send + Sync + 'static) -> Self {
        self.additions.add_metrics(write);
        self
    }

    /// Makes `/readyz` fail while `check` says why the program is not ready, and show that reason. The gRPC method
    /// `IsReady` has no part in it: the platform restarts the pod when that fails.
    ///
    /// For `check` the same holds as for a page of [`Server::admin_page`].
    #[must_use]
    pub fn ready_when(mut self, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.additions.add_check(check);
        self
    }

    /// Whether `bind` chains a panic hook in, once a process and in front of the one that is there, which it goes on to
    /// call. On by default: where a handler panicked is known to the hook only. Off, for a program that has hooks of its own
    /// and wants no other, all is the same but that statuses, dead letters and the log have no location and no backtrace.
    /// A hook that another server of the process has chained in stays.
    #[must_use]
    pub fn panic_hook(mut self, panic_hook: bool) -> Self {
        self.options.panic_hook = panic_hook;
        self
    }

    /// Whether [`run`](crate::run), [`run_with`](crate::run_with) and [`run_server_with`](crate::run_server_with) write
    /// warnings and errors to standard error in a program that has set up no log (see [`logging`](crate::logging)). On by
    /// default: a failure that nobody is told of can't be found. [`Bound::serve_until`] never does.
    #[must_use]
    pub fn log_to_stderr(mut self, log_to_stderr: bool) -> Self {
        self.options.log_to_stderr = log_to_stderr;
        self
    }

    pub(crate) fn logs_to_stderr(&self) -> bool {
        self.options.log_to_stderr
    }

    /// The name of the container, as the platform knows it (`NUMAFLOW_UD_CONTAINER_TYPE`): it files errors under it. By
    /// default that of this kind of service.
    #[must_use]
    pub fn container_type(mut self, name: impl Into<String>) -> Self {
        self.options.container_type = Some(name.into());
        self
    }

    /// The index of this replica (`NUMAFLOW_REPLICA`), which is the partition of a source that has none. 0 by default.
    #[must_use]
    pub fn replica(mut self, replica: u16) -> Self {
        self.options.replica = replica;
        self
    }

    /// Takes over what was set from outside the program; what was not stays as it is.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.service.configure(&settings);
        let Settings {
            socket_path,
            server_info_path,
            socket_mode,
            max_in_flight,
            max_in_flight_bytes,
            drain_timeout,
            slow_after,
            admin,
            container_type,
            replica,
            ..
        } = settings;
        let options = &mut self.options;
        fn replace<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        replace(&mut options.socket_path, socket_path.map(Some));
        replace(&mut options.server_info_path, server_info_path.map(Some));
        replace(&mut options.socket_mode, socket_mode);
        replace(&mut options.max_in_flight, max_in_flight.map(Chosen::set));
        replace(&mut options.max_in_flight_bytes, max_in_flight_bytes.map(Chosen::set));
        replace(&mut options.drain_timeout, drain_timeout.map(Chosen::set));
        replace(&mut options.slow_after, slow_after);
        replace(&mut options.admin, admin.map(Some));
        replace(&mut options.container_type, container_type.map(Some));
        replace(&mut options.replica, replica);
        self
    }

    /// Runs `action` when the server is asked to stop, before anything else of the drain. It must not block.
    ///
    /// If it panics, the server drains all the same, and [`ServeError::OnShutdown`] is what comes of it.
    #[must_use]
    pub fn on_shutdown(mut self, action: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.on_shutdown.push(Box::new(action));
        self
    }

    /// As [`Server::on_shutdown`], before all others, and by the thread that finds out that the server is to drain.
    pub(crate) fn tell_of_drain(self, herald: impl Fn() + Send + Sync + 'static) -> Self {
        self.drain.tell(herald);
        self
    }

    /// Stops the server as a signal does once `condition` is ready: for a service that finds out that it cannot go on. The
    /// server drains, and ends without an error: what was wrong is for the program to tell.
    ///
    /// A thread of its own polls it, inside the runtime that serves, so that it also ends a server whose handlers block
    /// every worker of the runtime. It must not block. If it panics, the server drains all the same, and
    /// [`ServeError::OnShutdown`] is what comes of it. The last call counts.
    #[must_use]
    pub fn stop_when(mut self, condition: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop_when = Some(Box::pin(condition));
        self
    }

    /// Tells when the server was asked to stop, for whoever has something to do then.
    #[must_use]
    pub fn draining(&self) -> Draining {
        self.drain.draining()
    }

    /// Listens on the socket and then writes the server-info file, so that whoever sees the file can connect.
    ///
    /// # Errors
    ///
    /// A zero limit or an empty range of one, a page whose path is none or taken, a socket path that is too long or taken, a
    /// folder that cannot be made, a file that cannot be written, an admin address that is taken. Nothing that was made
    /// stays.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn bind(self) -> Result<Bound<S>, ServeError> {
        self.bind_with(Arc::default())
    }

    /// As [`Server::bind`], with `files` for whoever may have to remove the files before it has returned.
    pub(crate) fn bind_with(mut self, files: Arc<Files>) -> Result<Bound<S>, ServeError> {
        self.options.check()?;
        self.service.check()?;
        self.additions.check()?;
        warn_beyond_memory(self.options.max_in_flight_bytes.value);
        let kind = self.service.kind();
        let stop_when = self.stop_when.take();
        let serving = self.into_serving();
        let Options { socket_path, server_info_path, socket_mode, slow_after, admin, .. } = &serving.options;
        let observer = Observer::start(kind, &serving.context, *slow_after, *admin)?;
        let socket_path = in_runtime_directory(socket_path.as_ref(), kind.socket_name());
        let server_info_path = in_runtime_directory(server_info_path.as_ref(), kind.server_info_name());
        let listener = socket::bind(&socket_path, &server_info_path, *socket_mode, kind, &files)?;
        let bind_error = |source| ServeError::Bind { path: socket_path.clone(), source };
        let listener = UnixListener::from_std(listener).map_err(bind_error)?;
        Ok(Bound { listener, files, socket_path, server_info_path, serving, stop_when, observer })
    }

    fn into_serving(self) -> Serving<S> {
        let Self { service, drain, options, on_shutdown, additions, .. } = self;
        if options.panic_hook {
            panic::install_hook();
        }
        let context = Context {
            container_type: options
                .container_type
                .clone()
                .unwrap_or_else(|| service.kind().container_type().to_owned()),
            replica: options.replica,
            max_message_size: options.max_message_size,
            limits: Limits::new(options.max_in_flight.value, options.max_in_flight_bytes.value),
            in_flight: InFlight::default(),
            metrics: Arc::new(Metrics::default()),
            limit_told: AtomicBool::new(false),
            refusal_told: Mutex::new(None),
            drain: drain.clone(),
            additions,
        };
        Serving { service: Arc::new(service), context: Arc::new(context), drain, options, on_shutdown }
    }

    /// Serves one connection that is there already, without socket and info file, until the peer closes it.
    ///
    /// # Errors
    ///
    /// A zero limit.
    #[cfg(feature = "testing")]
    pub async fn serve_connection<I>(self, io: I) -> Result<(), ServeError>
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        self.options.check()?;
        self.service.check()?;
        let serving = self.into_serving();
        connection::serve(io, serving.service, serving.context).await;
        Ok(())
    }
}

impl Options {
    fn check(&self) -> Result<(), ServeError> {
        let limits =
            [("max_in_flight_bytes", self.max_in_flight_bytes.value), ("max_message_size", self.max_message_size)];
        let refused = |name, problem: &str| Err(ServeError::Option { name, problem: problem.to_owned() });
        if let Some((name, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return refused(name, "must be above zero");
        }
        if let Err(problem) = self.max_in_flight.value.check() {
            return refused("max_in_flight", &problem);
        }
        if self.slow_after.is_zero() {
            return refused("slow_after", "must be above zero");
        }
        if self.admin.is_some() && !cfg!(feature = "admin") {
            return refused("admin", "this program was built without it: build numaflow-sdk with its feature `admin`");
        }
        Ok(())
    }
}

fn in_runtime_directory(path: Option<&PathBuf>, name: &str) -> PathBuf {
    path.cloned().unwrap_or_else(|| Path::new(RUNTIME_DIRECTORY).join(name))
}

struct Serving<S> {
    service: Arc<S>,
    context: Arc<Context>,
    drain: Drain,
    options: Options,
    on_shutdown: Vec<OnShutdown>,
}

/// A server that listens. Dropped without being served, it removes its files.
#[must_use = "a server that is bound serves nobody until `serve_until` is called"]
pub struct Bound<S> {
    listener: UnixListener,
    files: Arc<Files>,
    socket_path: PathBuf,
    server_info_path: PathBuf,
    serving: Serving<S>,
    stop_when: Option<Condition>,
    observer: Observer,
}

impl<S: Service> Bound<S> {
    /// Serves until `shutdown` is ready, or what [`Server::stop_when`] waits for, then drains. A connection has at most 1,024
    /// streams at a time.
    ///
    /// A drain goes on serving what its peers have open and send, until they have closed their streams. Five seconds
    /// before its time is over (a fifth of it, if it is shorter than 25 s) it stops reading, answers what is in flight and
    /// ends the streams with UNAVAILABLE, and just before its deadline it aborts what is left. Once no stream is open, it waits
    /// for no connection that has nothing in flight. The files are removed in any case.
    ///
    /// What it had to give up is in the result, and in the log at level WARN.
    ///
    /// The deadline is kept by a timer of the runtime, which a handler that blocks every worker thread also blocks;
    /// [`run`](crate::run) keeps it in that case too.
    ///
    /// # Errors
    ///
    /// [`ServeError::OnShutdown`] after the drain, where an action of [`Server::on_shutdown`] panicked. Failures of single
    /// connections and streams are theirs alone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops accepting and removes the files, but leaves connections to themselves.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Result<Drained, ServeError> {
        // Looks on until this function is over.
        let Self { listener, files, mut serving, stop_when, observer, .. } = self;
        observer.serving();
        let on_shutdown = std::mem::take(&mut serving.on_shutdown);
        let drain = serving.drain.clone();
        // Dropped last: a condition that blocks its thread holds up nothing of the drain.
        let mut stop_when = stop_when
            .map(|condition| Watched::start(condition, drain.clone()))
            .transpose()
            .map_err(|source| ServeError::Runtime { source })?;
        tokio::pin!(shutdown);
        tokio::select! {
            () = accept(&listener, &serving) => {}
            () = &mut shutdown => {}
            () = drain.asked() => {}
        }
        let begun = drain.begin();
        let mut panicked = stop_when.as_mut().and_then(Watched::panic).map(|panic| {
            crate::logging::error!(%panic, "the future given to stop_when panicked");
            panic.to_string()
        });
        if panicked.is_none() && drain.has_panicked() {
            crate::logging::error!("draining, because a handler panicked");
        }
        for action in on_shutdown {
            // The messages that are in flight have no part in it: the drain goes on.
            if let Err(panic) = panic::catching(action) {
                crate::logging::error!(%panic, "an action given to on_shutdown panicked");
                // For whoever ends the drain without this function.
                drain.end_after_panic();
                panicked.get_or_insert(panic.to_string());
            }
        }
        drain.start();
        let drain_timeout = bounded(serving.options.drain_timeout.value);
        let deadline = begun + drain_timeout;
        let closing_time = CLOSING_TIME.min(drain_timeout / 5);
        let breaking_time = BREAKING_TIME.min(drain_timeout / 10);
        // A peer that lost its connection may still come back for what it has in flight.
        tokio::select! {
            () = accept(&listener, &serving) => {}
            () = drain.streams_closed() => {}
            () = sleep_until(deadline - closing_time) => {}
        }
        drop(listener);
        drain.close();
        let in_time = timeout_at(deadline - breaking_time, drain.connections_closed()).await.is_ok();
        let drained = serving.context.abandon();
        drained.log(if in_time { "the drain is over" } else { "the drain's time is over" });
        if !in_time {
            drain.cut();
            // Breaking off takes one poll each; those that a handler keeps from being polled are left behind.
            drop(timeout_at(deadline, drain.connections_closed()).await);
        }
        files.remove();
        match panicked {
            Some(message) => Err(ServeError::OnShutdown { message, drained }),
            None => Ok(drained),
        }
    }

    /// What this server is, for the block at its start.
    #[must_use]
    pub fn describe(&self) -> Description {
        let options = &self.serving.options;
        Description {
            kind: self.serving.service.kind(),
            socket_path: self.socket_path.clone(),
            server_info_path: self.server_info_path.clone(),
            max_in_flight: options.max_in_flight.value,
            max_in_flight_bytes: options.max_in_flight_bytes.value,
            drain_timeout: options.drain_timeout.value,
            admin: self.admin_address(),
            admin_pages: self.serving.context.additions.paths().map(str::to_owned).collect(),
            aborts: cfg!(panic = "abort"),
            origins: [
                options.max_in_flight.origin.clone(),
                options.max_in_flight_bytes.origin.clone(),
                options.drain_timeout.origin.clone(),
            ],
            service: self.serving.service.describe(),
        }
    }

    /// Where the admin endpoint listens, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.observer.admin_address()
    }

    /// What the streams know, for whoever may have to tell of it when the runtime cannot.
    pub(crate) fn context(&self) -> Arc<Context> {
        self.serving.context.clone()
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Bound<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("options", &self.serving.options).finish_non_exhaustive()
    }
}

/// Accepts connections; never returns.
async fn accept<S: Service>(listener: &UnixListener, serving: &Serving<S>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection::serve(stream, serving.service.clone(), serving.context.clone());
                serving.drain.spawn_connection(connection);
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// An accept that fails does so for want of file descriptors or memory, and would fail again at once.
async fn pause_after(error: &io::Error) {
    crate::logging::warn!(%error, "a connection cannot be accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MapRequest, map};

    #[tokio::test]
    async fn a_program_that_aborts_says_so_at_its_start() {
        let directory = tempfile::TempDir::new().unwrap();
        let server = Server::new(map::service(map::from_fn(async |request: MapRequest| Ok(request.into_message()))));
        let server = server.socket_path(directory.path().join("s")).server_info_path(directory.path().join("i"));
        let unwinds = server.bind().unwrap().describe();
        assert!(!unwinds.to_string().contains("panics"), "{unwinds}");
        let aborts = Description { aborts: true, ..unwinds };
        assert!(aborts.to_string().contains("\n  panics       each ends the process"), "{aborts}");
    }
}
