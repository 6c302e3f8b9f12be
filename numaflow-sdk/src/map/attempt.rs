//! One call of a handler: what it comes to, and the attempts that it may take.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::handler::{Answers, Handler, Request as _};
use super::options::Options;
use super::outputs::Outlet;
use super::policy::Failure;
use crate::in_flight::Stage;
use crate::metrics::{Metrics, add};
use crate::panic::catch;
use crate::{HandlerError, MapRequest};

/// What a call came to.
pub(super) type Done = Result<Answers, Box<Failed>>;

/// A call that failed, for good as far as attempts go.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// The messages of the call, where the policy needs them.
    pub(super) inputs: Vec<MapRequest>,
}

impl From<Failure> for Box<Failed> {
    fn from(failure: Failure) -> Self {
        Self::new(Failed { failure, inputs: Vec::new() })
    }
}

impl From<HandlerError> for Box<Failed> {
    fn from(error: HandlerError) -> Self {
        Failure::Error(error).into()
    }
}

/// How far a call is, for the task that it is on to show: only of calls that may be tried again or have to wait until their
/// handler is ready.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    const RETRYING: u8 = 1;
    const NOT_READY: u8 = 2;

    /// Waits before the next attempt.
    async fn wait(&self, delay: Duration) {
        self.0.store(Self::RETRYING, Relaxed);
        sleep(delay).await;
        self.handler().await;
    }

    /// Waits until a handler is ready.
    pub(super) async fn until_ready<H: Handler>(&self, handler: &mut H) -> Result<(), HandlerError> {
        let mut waits = false;
        let ready = poll_fn(|cx| {
            let polled = handler.poll_ready(cx);
            if polled.is_pending() {
                waits = true;
                self.0.store(Self::NOT_READY, Relaxed);
            }
            polled
        })
        .await;
        if waits {
            self.handler().await;
        }
        ready
    }

    /// The handler runs next. The task shows it first: the handler may take or block its thread.
    async fn handler(&self) {
        self.0.store(0, Relaxed);
        yield_now().await;
    }

    /// The stage of the call's messages.
    pub(super) fn stage(&self) -> Stage {
        match self.0.load(Relaxed) {
            Self::RETRYING => Stage::Retrying,
            Self::NOT_READY => Stage::NotReady,
            _ => Stage::Handler,
        }
    }
}

/// Calls a handler until it succeeds or is not to be called again. Keeps a copy of the request, so it is only for policies
/// that need one. `ready` is dropped when the handler is ready for the first time.
pub(super) async fn attempt<H: Handler>(
    handler: Box<H>,
    ready: Option<oneshot::Sender<()>>,
    request: H::Request,
    outlet: Option<Outlet>,
    progress: Progress,
    options: Arc<Options>,
    metrics: Arc<Metrics>,
) -> Done {
    let begun = Instant::now();
    // The handler that came along may be ready already; a clone of it would have to become so.
    let (next, mut now, mut ready) = ((*handler).clone(), Some(handler), ready);
    let mut attempts = 0;
    loop {
        let mut handler = now.take().unwrap_or_else(|| Box::new(next.clone()));
        let (request_now, outlet_now, ready) = (request.clone(), outlet.clone(), ready.take());
        let progress = &progress;
        let call = async move {
            progress.until_ready(&mut *handler).await?;
            drop(ready);
            handler.call(request_now, outlet_now.as_ref()).await
        };
        let failure = match catch(call).await {
            Ok(Ok(answers)) => return Ok(answers),
            Ok(Err(failed)) => failed.failure,
            Err(panic) => Failure::Panic(panic),
        };
        attempts += 1;
        let output_left = outlet.as_ref().is_some_and(Outlet::was_used);
        let delay = if failure.may_retry(output_left) {
            options.retry.delay(attempts, begun.elapsed(), fastrand::f64())
        } else {
            None
        };
        let Some(delay) = delay else {
            return Err(Box::new(Failed { failure, inputs: request.into_messages() }));
        };
        metrics.handler_failed(failure.kind());
        add(&metrics.handler_retries, 1);
        if let Some(more) = options.told.retries.pass(Instant::now()) {
            let failure = failure.text();
            crate::logging::info!(
                failure,
                attempts,
                ?delay,
                more,
                "the handler failed and will be called again (told once in 10 s; `more` others since the last time)"
            );
        }
        progress.wait(delay).await;
    }
}
