//! The server: what its handler does is up to each message.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use numaflow_sdk::{HandlerError, MapRequest, Message, ProcessEnvironment, Server, Settings, map};
use tokio::sync::Notify;

/// Set for the process that serves.
pub(crate) const VARIABLE: &str = "SIGTERM_TEST_SERVER";
/// Its value where the server panics in its set-up,
pub(crate) const SET_UP_PANICS: &str = "set-up panics";
/// where it stops by itself once a handler blocks its thread,
pub(crate) const STOPS_ITSELF: &str = "stops itself";
/// and where it does when it is told to stop.
pub(crate) const SHUTDOWN_PANICS: &str = "shutdown panics";

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
        Ok(STOPS_ITSELF) => {
            let settings = Settings::from_environment(&ProcessEnvironment).unwrap();
            let server = async || Ok(Server::new(service).settings(settings).stop_when(BLOCKED.notified()));
            numaflow_sdk::run_server_with(server).unwrap();
            ExitCode::SUCCESS
        }
        _ => numaflow_sdk::run(service),
    }
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

/// A handler blocks its thread.
static BLOCKED: Notify = Notify::const_new();

fn block(id: &str) -> ! {
    say("blocks", id);
    // From another thread: what this one wakes waits for it.
    std::thread::spawn(|| BLOCKED.notify_one());
    loop {
        std::thread::park();
    }
}

fn say(what: &str, id: &str) {
    // One write for a line, so that those of two threads do not mix.
    std::io::stderr().write_all(format!("{what} {id}\n").as_bytes()).unwrap();
}
