//! What a program's `main` calls: the one place that reads the environment and handles signals.

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::error::chain;
use crate::logging::{self, Listener};
use crate::panic::{Panic, catch, catching};
use crate::server::{Description, Drained, Files, Server};
use crate::service::{Context, Service};
use crate::settings::{ProcessEnvironment, Settings, refuse_arguments};
use crate::signals::stop_signals;
use crate::time::bounded;
use crate::{HandlerError, ServeError};

/// What is added to the drain's time before the process ends without the runtime's help. A runtime that works is done
/// before the drain's time is over, so this is for a machine that is slow.
const MARGIN: Duration = Duration::from_millis(100);

/// How long a server that was told to stop while it starts may take to say that it listens, or to end. Only a set-up that
/// blocks its thread takes longer than a moment. A server may have its files already and be about to drain, so on a machine
/// that is busy it must not be given up early.
const START_MARGIN: Duration = Duration::from_secs(5);

/// How long the main thread waits for a line of the program's log: it keeps the drain's deadline, and a subscriber may wait
/// for whoever reads what it writes.
const LOG_PATIENCE: Duration = Duration::from_millis(100);

/// Serves until the process is told to stop by SIGTERM, SIGINT or SIGHUP ([`stop_signals`]), drains, and returns the exit
/// code. Works as PID 1.
///
/// Every option of [`Settings`] is set by its environment variable: `UDF_` and the option's name, such as
/// `UDF_MAX_IN_FLIGHT`. A `UDF_` variable that is no option is named in a warning, with the option whose name is nearest.
/// There are no command-line arguments and no file: an argument is an error that names the variable to set. A program with
/// arguments of its own calls [`run_server_with`]. Container name and replica come from the variables that the platform
/// sets (`NUMAFLOW_UD_CONTAINER_TYPE`, `NUMAFLOW_REPLICA`).
///
/// A second signal other than SIGHUP, which a terminal that is closed may send twice, ends the process at once, and the
/// drain's deadline does so even when handlers block every thread of the runtime.
///
/// The exit code is 0 after a drain, 64 when a setting is wrong, 1 otherwise and after a panic that ends the server
/// ([`exit_on_panic`](crate::map::MapService::exit_on_panic)); the reason is on standard error. `main` returns it: a program
/// that drops it ends with 0 whatever happened.
///
/// What goes wrong is logged. In a program that has set up no log, warnings and errors are on standard error; see
/// [`logging`](crate::logging). Messages that a drain had to give up are among them; the platform sends them again.
///
/// ```no_run
/// use numaflow_sdk::{MapRequest, Message, map};
///
/// fn main() -> std::process::ExitCode {
///     numaflow_sdk::run(map::service(map::from_fn(async |request: MapRequest| {
///         Ok(Message::new(request.value().to_ascii_uppercase()))
///     })))
/// }
/// ```
#[must_use = "the exit code says whether the server has failed: return it from main"]
pub fn run<S: Service>(service: S) -> ExitCode {
    run_with(async || Ok(service))
}

/// Like [`run`], for a service that takes something asynchronous to make, such as a connection to a database. `set_up`
/// runs inside the runtime that will serve; its panic is its failure, and ends the process with exit code 1. It may also set
/// up the program's log.
///
/// ```no_run
/// use numaflow_sdk::{MapRequest, Message, map};
///
/// fn main() -> std::process::ExitCode {
///     numaflow_sdk::run_with(async || {
///         let prefix = tokio::fs::read("/etc/prefix").await?;
///         Ok(map::service(map::from_fn(move |request: MapRequest| {
///             let value = [&prefix, &request.value()[..]].concat();
///             async move { Ok(Message::new(value)) }
///         })))
///     })
/// }
/// ```
#[must_use = "the exit code says whether the server has failed: return it from main"]
pub fn run_with<F, Fut, S>(set_up: F) -> ExitCode
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<S, HandlerError>> + Send,
    S: Service,
{
    let settings =
        refuse_arguments(std::env::args_os().skip(1)).and_then(|()| Settings::from_environment(&ProcessEnvironment));
    let result = settings.and_then(|settings| {
        #[cfg(feature = "admin")]
        if settings.admin.is_some() {
            // Before the set-up, which may make counters: one that is made without a recorder stays silent for ever.
            crate::admin::recorder::install();
        }
        let set_up = async move || {
            let service = set_up().await.map_err(|error| ServeError::SetUp { source: error.into_error() })?;
            Ok(Server::new(service).settings(settings))
        };
        run_server(set_up, Settings::unknown_variables(&ProcessEnvironment, &[]))
    });
    let code = match result {
        Ok(Drained { after_panic: false, .. }) => ExitCode::SUCCESS,
        Ok(_) => {
            print("error: the server has drained, and ends with an error because a handler panicked");
            ExitCode::FAILURE
        }
        Err(error) => {
            print(&format!("error: {}", chain(&error)));
            if error.is_configuration() { ExitCode::from(64) } else { ExitCode::FAILURE }
        }
    };
    logging::flush(logging::LAST_LINES);
    code
}

/// Serves what `set_up` makes until the process is told to stop, as [`run`] does, but takes no setting from the environment
/// and returns how it went. For programs that have arguments or a configuration of their own. (`TOKIO_WORKER_THREADS`, which is
/// tokio's, says how many threads the runtime has.)
///
/// ```no_run
/// use numaflow_sdk::{MapRequest, ProcessEnvironment, ServeError, Server, Settings, map, run_server_with};
///
/// fn main() -> Result<(), ServeError> {
///     let table = std::env::args().nth(1).unwrap_or_default();
///     run_server_with(async move || {
///         let service = map::service(map::from_fn(move |request: MapRequest| {
///             let message = request.into_message().with_keys([table.clone()]);
///             async move { Ok(message) }
///         }));
///         // The UDF_ variables, as `run` reads them.
///         Ok(Server::new(service).settings(Settings::from_environment(&ProcessEnvironment)?))
///     })?;
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// What `set_up` returns, what [`Server::bind`] returns, a runtime that cannot be started, and a panic of `set_up`, which
/// is its failure, of [`Server::on_shutdown`], or of whatever else runs outside of handlers.
pub fn run_server_with<F, Fut, S>(set_up: F) -> Result<Drained, ServeError>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<Server<S>, ServeError>> + Send + 'static,
    S: Service,
{
    let result = run_server(set_up, Vec::new());
    logging::flush(logging::LAST_LINES);
    result
}

/// As [`run_server_with`]. `warnings` are logged once the program has had the chance to set up its log.
fn run_server<F, Fut, S>(set_up: F, warnings: Vec<String>) -> Result<Drained, ServeError>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<Server<S>, ServeError>> + Send + 'static,
    S: Service,
{
    let runtime_error = |source| ServeError::Runtime { source };
    logging::replace_default_hook();
    // Signals and the drain's deadline are kept by plain threads: handlers that block every worker of the runtime also
    // stop all its timers and its signal handling.
    let (events, queue) = sync_channel(8);
    forward_signals(events.clone()).map_err(runtime_error)?;
    let runtime = runtime().map_err(runtime_error)?;
    let shutdown = CancellationToken::new();
    let set_up = catching(set_up).map_err(set_up_panicked)?;
    // Shared from the start on: a signal may end the process while the server makes its files.
    let files = Arc::new(Files::default());
    let serve = serve(set_up, warnings, shutdown.clone(), events.clone(), files.clone());
    runtime.spawn(async move {
        // The main thread waits for this event, and nothing but it: the threads that send signals never end.
        let result =
            catch(serve).await.unwrap_or_else(|panic| Err(ServeError::Panicked { message: panic.to_string() }));
        drop(events.send(Event::Finished(result)));
    });

    let mut serving: Option<Serving> = None;
    let mut deadline: Option<Instant> = None;
    let mut signalled = false;
    let result = loop {
        let event = match deadline {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => queue.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        match (event, &serving) {
            // A terminal that is closed and its shell both send it.
            (Ok(Event::Signal(SIGHUP)), _) if signalled => {}
            (Ok(Event::Finished(result)), _) => break result,
            (Ok(Event::Bound(bound)), _) => {
                announce(&bound.description.to_string());
                // A signal may have come first.
                deadline = deadline.map(|_| bound.deadline());
                serving = Some(bound);
            }
            (Ok(Event::Signal(_)), Some(serving)) if !signalled => {
                signalled = true;
                shutdown.cancel();
                // A drain that began by itself keeps its deadline.
                if deadline.is_none() {
                    deadline = Some(draining(serving));
                }
            }
            // It began by itself.
            (Ok(Event::Draining), Some(serving)) if deadline.is_none() => deadline = Some(draining(serving)),
            (Ok(Event::Draining), _) => {}
            (Ok(Event::Signal(_)), Some(serving)) => {
                break Ok(serving.cut_off(&files, "a second signal cuts the drain short"));
            }
            (Err(_), Some(serving)) => {
                break Ok(
                    serving.cut_off(&files, "the drain's time is over, and handlers block the threads of the runtime")
                );
            }
            // Not listening yet, as far as is known here: what was begun is given up.
            (Ok(Event::Signal(_)), None) if !signalled => {
                signalled = true;
                deadline = Some(Instant::now() + START_MARGIN);
                shutdown.cancel();
            }
            (Ok(Event::Signal(_)) | Err(_), None) => break Ok(Drained::default()),
        }
    };
    // Also where a panic has kept the server from it, or where it has not got as far as to tell that it listens.
    files.remove();
    if let Ok(drained) | Err(ServeError::OnShutdown { drained, .. }) = &result
        && logging::listener() == Listener::Nobody
    {
        drained.print();
    }
    // Does not wait for tasks: those that can be were waited for.
    runtime.shutdown_background();
    result
}

/// With two threads at least, also where there is one core: a handler that blocks one must leave one for the others.
fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    let one_core = thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    // The variable is tokio's own, and says what it says.
    if one_core && std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(2);
    }
    builder.enable_all().build()
}

/// Says that the drain has begun, and returns when it is over.
fn draining(serving: &Serving) -> Instant {
    let timeout = serving.description.drain_timeout;
    announce(&format!("draining for {timeout:?} at the most; a second signal ends it at once"));
    serving.deadline()
}

enum Event {
    Bound(Serving),
    Signal(i32),
    /// The drain has begun, by a signal or by itself.
    Draining,
    Finished(Result<Drained, ServeError>),
}

/// What the main thread has to know of a server that listens.
struct Serving {
    description: Description,
    context: Arc<Context>,
}

impl Serving {
    /// When a drain that starts now is over, whatever handlers do.
    fn deadline(&self) -> Instant {
        Instant::now() + bounded(self.description.drain_timeout) + MARGIN
    }

    /// Ends the drain without the runtime.
    fn cut_off(&self, files: &Files, reason: &str) -> Drained {
        // Streams take no new messages from here on: none that is taken later would be listed.
        self.context.drain.close();
        let drained = self.context.abandon();
        files.remove();
        let (told, reason) = (drained.clone(), reason.to_owned());
        logging::aside(logging::LAST_LINES, move || told.log(&reason));
        drained
    }
}

async fn serve<S: Service>(
    set_up: impl Future<Output = Result<Server<S>, ServeError>>,
    warnings: Vec<String>,
    shutdown: CancellationToken,
    events: SyncSender<Event>,
    files: Arc<Files>,
) -> Result<Drained, ServeError> {
    let server = tokio::select! {
        // A signal during the set-up is not lost on a set-up that is done at the same time.
        biased;
        () = shutdown.cancelled() => return Ok(Drained::default()),
        server = catch(set_up) => server.map_err(set_up_panicked)??,
    };
    if server.logs_to_stderr() {
        logging::install_fallback();
    }
    for warning in warnings {
        logging::warn!("the environment has a variable without effect: {warning}");
    }
    let began = events.clone();
    let bound = server.tell_of_drain(move || drop(began.try_send(Event::Draining))).bind_with(files)?;
    let serving = Serving { description: bound.describe(), context: bound.context() };
    // The queue has room: a signal or two is all that can be in it.
    drop(events.try_send(Event::Bound(serving)));
    bound.serve_until(shutdown.cancelled_owned()).await
}

fn set_up_panicked(panic: Panic) -> ServeError {
    ServeError::SetUp { source: format!("it panicked: {panic}").into() }
}

fn forward_signals(events: SyncSender<Event>) -> io::Result<()> {
    let mut signals = Signals::new(stop_signals())?;
    let forward = move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(())
}

/// Says what the server does: in the program's log, or on standard error where it has none.
fn announce(news: &str) {
    if logging::listener() != Listener::Program {
        return print(news);
    }
    let news = news.to_owned();
    logging::aside(LOG_PATIENCE, move || news.lines().for_each(|line| tracing::info!("{line}")));
}

fn print(text: &str) {
    // The writer takes everything.
    drop(writeln!(logging::stderr(), "{text}"));
}

/// The compiler names an exit code that is dropped. Apart from that, both programs are the same:
///
/// ```no_run
/// # #![deny(unused_must_use)]
/// # use numaflow_sdk::{MapRequest, map, run};
/// let exit_code = run(map::service(map::from_fn(async |request: MapRequest| Ok(request.into_message()))));
/// ```
///
/// ```compile_fail
/// # #![deny(unused_must_use)]
/// # use numaflow_sdk::{MapRequest, map, run};
/// run(map::service(map::from_fn(async |request: MapRequest| Ok(request.into_message()))));
/// ```
#[cfg(doctest)]
struct DroppedExitCode;
