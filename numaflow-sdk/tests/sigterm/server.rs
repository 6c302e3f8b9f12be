//! The server: what its handler does is up to each message.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use numaflow_sdk::{HandlerError, MapRequest, Message, ProcessEnvironment, Server, Settings, map};
use tokio::sync::Semaphore;

use crate::process::WORKERS;

/// Set for the process that serves.
pub(crate) const VARIABLE: &str = "SIGTERM_TEST_SERVER";
/// Its value where the server panics in its set-up,
pub(crate) const SET_UP_PANICS: &str = "set-up panics";
/// where it stops by itself once a handler blocks its thread,
pub(crate) const STOPS_ITSELF: &str = "stops itself";
/// where it does so once handlers block every thread of the runtime,
pub(crate) const STOPS_WHEN_ALL_BLOCK: &str = "stops when all block";
/// and where it does when it is told to stop.
pub(crate) const SHUTDOWN_PANICS: &str = "shutdown panics";
/// Its value where handlers say nothing of themselves,
pub(crate) const QUIET: &str = "quiet";
/// and where the program has a log of its own besides, on standard output.
pub(crate) const OWN_LOG: &str = "own log";

/// What a handler does with its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Answers at once.
    Quick,
    /// Answers after so many milliseconds.
    Slow(u64),
    /// Waits for ever.
    Waits,
    /// Blocks the thread that serves its stream for ever.
    Blocks,
    /// Blocks some other thread for ever.
    BlocksLater,
}

impl Doing {
    pub(crate) fn to_text(self) -> String {
        match self {
            Self::Quick => "quick".to_owned(),
            Self::Slow(millis) => millis.to_string(),
            Self::Waits => "waits".to_owned(),
            Self::Blocks => "blocks".to_owned(),
            Self::BlocksLater => "blocks later".to_owned(),
        }
    }

    fn parse(text: &str) -> Result<Self, HandlerError> {
        Ok(match text {
            "quick" => Self::Quick,
            "waits" => Self::Waits,
            "blocks" => Self::Blocks,
            "blocks later" => Self::BlocksLater,
            millis => Self::Slow(millis.parse()?),
        })
    }
}

pub(crate) fn run() -> ExitCode {
    let service = map::service(map::from_fn(handle));
    match std::env::var(VARIABLE).as_deref() {
        Ok(SET_UP_PANICS) => numaflow_sdk::run_with(async || {
            tokio::task::yield_now().await;
            assert!(VARIABLE.is_empty(), "no database");
            Ok(service)
        }),
        Ok(SHUTDOWN_PANICS) => {
            let settings = Settings::from_environment(&ProcessEnvironment).unwrap();
            let server = async || {
                let server = Server::new(service).settings(settings);
                Ok(server.on_shutdown(|| assert!(VARIABLE.is_empty(), "nobody to tell")))
            };
            match numaflow_sdk::run_server_with(server) {
                Ok(_) => ExitCode::SUCCESS,
                Err(error) => {
                    say("error:", &error.to_string());
                    ExitCode::FAILURE
                }
            }
        }
        Ok(STOPS_ITSELF) => stops_when(service, 1),
        Ok(STOPS_WHEN_ALL_BLOCK) => stops_when(service, WORKERS),
        Ok(QUIET) => numaflow_sdk::run(map::service(map::from_fn(quiet))),
        Ok(OWN_LOG) => numaflow_sdk::run_with(async || {
            // Only in the set-up, which is not too late for it.
            tracing::subscriber::set_global_default(OwnLog).map_err(HandlerError::new)?;
            Ok(map::service(map::from_fn(quiet)))
        }),
        _ => numaflow_sdk::run(service),
    }
}

/// Serves until so many handlers block their thread.
fn stops_when(service: map::MapService, blocked: usize) -> ExitCode {
    let settings = Settings::from_environment(&ProcessEnvironment).unwrap();
    let all = async move {
        for _ in 0..blocked {
            BLOCKED.acquire().await.unwrap().forget();
        }
    };
    let server = async || Ok(Server::new(service).settings(settings).stop_when(all));
    numaflow_sdk::run_server_with(server).unwrap();
    ExitCode::SUCCESS
}

/// What the message says: `fail TEXT`, `panic TEXT`, `block`, or an answer.
#[expect(clippy::panic, reason = "a handler that panics is what is tested")]
async fn quiet(request: MapRequest) -> Result<Message, HandlerError> {
    let text = std::str::from_utf8(request.value())?;
    match text.split_once(' ') {
        Some(("fail", text)) => Err(HandlerError::new(text)),
        Some(("panic", text)) => panic!("{text}"),
        _ if text == "block" => loop {
            std::thread::park();
        },
        _ => Ok(request.into_message()),
    }
}

/// Prints as simply as it can: a closed standard output makes it panic, and one that nobody reads makes it wait.
struct OwnLog;

impl tracing::Subscriber for OwnLog {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    #[expect(clippy::print_stdout, reason = "a subscriber that prints is what is tested")]
    fn event(&self, event: &tracing::Event<'_>) {
        println!("{event:?}");
    }
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

/// Says on standard error what it has in hand before it does anything: what it was given must be accounted for.
async fn handle(request: MapRequest) -> Result<Message, HandlerError> {
    let id = request.id().to_owned();
    say("taken", &id);
    match Doing::parse(std::str::from_utf8(request.value())?.trim_end())? {
        Doing::Quick => {}
        Doing::Slow(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        Doing::Waits => std::future::pending().await,
        Doing::Blocks => block(&id),
        Doing::BlocksLater => {
            tokio::task::yield_now().await;
            block(&id);
        }
    }
    Ok(request.into_message())
}

/// The handlers that block their thread.
static BLOCKED: Semaphore = Semaphore::const_new(0);

fn block(id: &str) -> ! {
    say("blocks", id);
    // From another thread: what this one wakes waits for it.
    std::thread::spawn(|| BLOCKED.add_permits(1));
    loop {
        std::thread::park();
    }
}

fn say(what: &str, id: &str) {
    // One write for a line, so that those of two threads do not mix.
    std::io::stderr().write_all(format!("{what} {id}\n").as_bytes()).unwrap();
}
