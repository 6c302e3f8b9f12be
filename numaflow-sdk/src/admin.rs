//! The endpoint for those who operate a server: HTTP/1 on a plain thread with a small runtime of its own.
//!
//! A thread of its own, because handlers that block every worker of the server's runtime are among the things that it has
//! to tell of. It reads what the server shares and never waits for it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::ServeError;
use crate::kind::Kind;
use crate::server::observer::Thread;
use crate::service::Context;

mod host;
mod pages;
mod places;
mod pulse;
pub(crate) mod recorder;

use places::{Asked, Places};
use pulse::Pulse;

/// More than Prometheus, the probes and a few people need. Beyond them the oldest connection loses its place.
const MAX_CONNECTIONS: usize = 32;
/// From a connection's start to the end of the head of its request: those who ask send it at once.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// From a connection's start to the end of its one answer.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How often the log says that connections lose their places, at the most.
const CROWD_PAUSE: Duration = Duration::from_mins(1);
/// More than the head of any request that makes sense here.
const MAX_HEAD: usize = 16 << 10;
/// How often the runtime shows that it lives, and how often the recorder forgets samples that it has counted.
const PERIOD: Duration = Duration::from_secs(5);
/// An accept that fails does so for want of file descriptors or memory, and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the endpoint tells of.
#[derive(Debug)]
struct Observed {
    kind: Kind,
    started: SystemTime,
    context: Arc<Context>,
    pulse: Pulse,
    serving: AtomicBool,
}

/// The endpoint, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    observed: Arc<Observed>,
    _heart: AbortOnDropHandle<()>,
    _thread: Thread<oneshot::Sender<Infallible>>,
}

impl Admin {
    /// Listens, and beats a pulse in the runtime that this is called in.
    pub(crate) fn start(kind: Kind, context: &Arc<Context>, address: SocketAddr) -> Result<Self, ServeError> {
        recorder::install();
        let pulse = Pulse::new(Instant::now());
        let (started, serving) = (SystemTime::now(), AtomicBool::new(false));
        let observed = Arc::new(Observed { kind, started, context: context.clone(), pulse, serving });
        let (stop, stopped) = oneshot::channel();
        let (report, reported) = sync_channel(1);
        let run = {
            let observed = observed.clone();
            move || run(address, &observed, stopped, |listening| drop(report.send(listening)))
        };
        let thread = Thread::start("admin", stop, run).map_err(|source| ServeError::Runtime { source })?;
        let address = reported
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread has panicked")))
            .map_err(|source| ServeError::BindAdmin { address, source })?;
        let heart = AbortOnDropHandle::new(tokio::runtime::Handle::current().spawn(beat(observed.clone())));
        Ok(Self { address, observed, _heart: heart, _thread: thread })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server accepts connections from now on.
    pub(crate) fn serving(&self) {
        self.observed.serving.store(true, Ordering::Relaxed);
    }
}

/// Runs in the server's runtime.
async fn beat(observed: Arc<Observed>) {
    loop {
        observed.pulse.beat(Instant::now());
        sleep(PERIOD).await;
    }
}

/// The thread: reports where it listens, or that it can't, then answers until `stopped`.
fn run(
    address: SocketAddr,
    observed: &Arc<Observed>,
    stopped: oneshot::Receiver<Infallible>,
    report: impl FnOnce(io::Result<SocketAddr>),
) {
    // Made here and not by the caller: a runtime must not be dropped inside another one, which a failure would do.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(error)),
    };
    runtime.block_on(async {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                report(listener.local_addr());
                serve(&listener, observed, stopped).await;
            }
            Err(error) => report(Err(error)),
        }
    });
}

async fn serve(listener: &TcpListener, observed: &Arc<Observed>, mut stopped: oneshot::Receiver<Infallible>) {
    let mut places = Places::new(MAX_CONNECTIONS);
    let mut told: Option<Instant> = None;
    let mut upkeep = interval(PERIOD);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = upkeep.tick() => recorder::upkeep(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let crowded = places.take(|asked| answer(stream, observed.clone(), asked));
                    if crowded && told.is_none_or(|told| told.elapsed() >= CROWD_PAUSE) {
                        told = Some(Instant::now());
                        crate::logging::warn!(
                            connections = MAX_CONNECTIONS,
                            "the admin endpoint has as many connections as it takes: the oldest idle ones are closed \
                             (told once a minute)"
                        );
                    }
                    // It reads what its peer has sent before the next one can take its place.
                    yield_now().await;
                }
                Err(error) => {
                    crate::logging::warn!(%error, "a connection to the admin endpoint cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// One connection, one answer: those who ask do so every few seconds, and a connection that is kept would keep its place.
async fn answer(stream: TcpStream, observed: Arc<Observed>, asked: Asked) {
    let answer = service_fn(|request| {
        asked.set();
        let page = pages::answer(&observed, &request, Instant::now());
        async { Ok::<_, Infallible>(page) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => crate::logging::debug!(%error, "a connection to the admin endpoint ended"),
        Err(_) => crate::logging::debug!("a connection to the admin endpoint took too long"),
    }
}
