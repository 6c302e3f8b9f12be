//! The server: what its handler does is up to each message.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use numaflow_sdk::{HandlerError, MapRequest, Message, map};

/// Set for the process that serves.
pub(crate) const VARIABLE: &str = "SIGTERM_TEST_SERVER";

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
    numaflow_sdk::run(map::service(map::from_fn(handle)))
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

fn block(id: &str) -> ! {
    say("blocks", id);
    loop {
        std::thread::park();
    }
}

fn say(what: &str, id: &str) {
    // One write for a line, so that those of two threads do not mix.
    std::io::stderr().write_all(format!("{what} {id}\n").as_bytes()).unwrap();
}
