//! Calls of a source that are neither reads nor `IsReady`: each is in flight as a message of a map is. It needs a permit, its
//! bytes count against the limit, and it is listed from when it was received until its answer is written. A read waits for
//! messages, so it needs no permit, and is listed once its time is over.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::Instant;
use tonic::Status;

use super::service::guarded;
use super::wire::{AckRequest, Acks, Nacks, decode_ack, decode_nack};
use super::{Offset, Sourcer};
use crate::field::read::DecodeError;
use crate::in_flight::{Entry, Stage};
use crate::limit::{Hold, Permit, Share};
use crate::metrics::{Metrics, Tally, add};
use crate::service::Context;
use crate::unary::Request;
use crate::{HandlerError, error};

/// A request above this size is checked on a thread where nothing waits: of two-byte offsets, a megabyte takes about ten
/// milliseconds.
const LARGE: usize = 256 << 10;
/// The most bytes of an offset that are shown.
const SHOWN: usize = 32;

/// A call that runs, which the limits count until it is dropped.
#[derive(Debug)]
struct Running {
    metrics: Arc<Metrics>,
    begun: Instant,
    _permit: Permit,
    _hold: Option<Hold>,
}

impl Drop for Running {
    fn drop(&mut self) {
        Tally::new(self.metrics.clone()).took(self.begun.elapsed());
    }
}

/// Waits until there is room for a call that takes so many bytes, and lists it meanwhile.
///
/// # Errors
///
/// When the server ends and has named what it gives up: the call would be named nowhere.
async fn admit(context: &Context, share: &Share, id: &str, bytes: usize) -> Result<(Running, Entry), Status> {
    let begun = Instant::now();
    let mut waiting = None;
    let running = poll_fn(|cx| {
        let room = poll_room(context, share, bytes, cx);
        if room.is_pending() && waiting.is_none() {
            context.limit_reached();
            waiting = Some(context.in_flight.enter(id, bytes, Stage::Queued, begun));
        }
        room
    })
    .await;
    let entry = match waiting {
        Some(entry) => {
            entry.stage(Stage::Handler);
            entry
        }
        None => context.in_flight.enter(id, bytes, Stage::Handler, begun),
    };
    if context.in_flight.is_sealed() {
        return Err(error::draining());
    }
    Ok((running, entry))
}

/// Room for both or none: a call that waits for bytes keeps no permit from others.
fn poll_room(context: &Context, share: &Share, bytes: usize, cx: &TaskContext<'_>) -> Poll<Running> {
    let permit = ready!(share.poll_permit(cx));
    let hold = match bytes {
        0 => None,
        bytes => Some(ready!(share.poll_hold(bytes, cx))),
    };
    Poll::Ready(Running { metrics: context.metrics.clone(), begun: Instant::now(), _permit: permit, _hold: hold })
}

/// What a request of an `AckFn` stream comes to.
#[derive(Debug)]
pub(super) enum Acked {
    /// It is a handshake, with `sot = true`.
    Handshake,
    /// There is nothing in it to be answered.
    Nothing,
    /// All is acked. An ack that is listed stays so until the answer is written.
    Done(Option<Entry>),
}

/// Carries out a request of an `AckFn` stream.
pub(super) async fn ack<S: Sourcer>(
    sourcer: Arc<S>,
    context: Arc<Context>,
    share: Share,
    request: Request,
    is_first: bool,
) -> Result<Acked, Status> {
    let AckRequest { handshake, acks } = checked(&request, decode_ack).await?;
    if is_first {
        return if handshake == Some(true) { Ok(Acked::Handshake) } else { Err(error::no_handshake()) };
    }
    let Some(acks) = acks else {
        // A second handshake means nothing.
        return if handshake.is_some() { Ok(Acked::Nothing) } else { Err(error::empty_message()) };
    };
    let count = acks.count();
    if count == 0 {
        return Ok(Acked::Done(None));
    }
    let id = id("AckFn", count, acks.first());
    let (running, entry) = admit(&context, &share, &id, request.pinned.saturating_add(acks.cost())).await?;
    // The offsets that are left keep the message.
    drop(request);
    ack_in_parts(&*sourcer, &context, acks).await?;
    drop(running);
    Ok(Acked::Done(Some(entry)))
}

async fn ack_in_parts<S: Sourcer>(sourcer: &S, context: &Arc<Context>, mut acks: Acks) -> Result<(), Status> {
    loop {
        let part = acks.take();
        let count = part.len();
        guarded(context, async { sourcer.ack(part).await }).await?;
        add(&context.metrics.source.acks, count);
        if acks.count() == 0 {
            return Ok(());
        }
        yield_now().await;
    }
}

/// Carries out a `NackFn` call.
pub(super) async fn nack<S: Sourcer>(
    sourcer: Arc<S>,
    context: Arc<Context>,
    share: Share,
    request: Request,
) -> Result<Option<Entry>, Status> {
    let nacks = checked(&request, decode_nack).await?;
    let count = nacks.count();
    if count == 0 {
        return Ok(None);
    }
    let id = id("NackFn", count, nacks.first());
    let (running, entry) = admit(&context, &share, &id, request.pinned.saturating_add(nacks.cost())).await?;
    drop(request);
    nack_in_parts(&*sourcer, &context, nacks).await?;
    drop(running);
    Ok(Some(entry))
}

async fn nack_in_parts<S: Sourcer>(sourcer: &S, context: &Arc<Context>, mut nacks: Nacks) -> Result<(), Status> {
    loop {
        let part = nacks.take();
        let count = part.len();
        guarded(context, async { sourcer.nack(part).await }).await?;
        add(&context.metrics.source.nacks, count);
        if nacks.count() == 0 {
            return Ok(());
        }
        yield_now().await;
    }
}

/// Asks the source for something.
pub(super) async fn ask<T>(
    context: Arc<Context>,
    id: &'static str,
    question: impl Future<Output = Result<T, HandlerError>>,
) -> Result<(T, Entry), Status> {
    let (running, entry) = admit(&context, &context.limits.share(), id, 0).await?;
    let answer = guarded(&context, question).await?;
    drop(running);
    Ok((answer, entry))
}

/// The request after `check`.
async fn checked<T: Send + 'static>(
    request: &Request,
    check: fn(&Bytes, &[u8]) -> Result<T, DecodeError>,
) -> Result<T, Status> {
    let message = request.message.clone();
    let check = move || check(&message, &message);
    let checked = if request.message.len() > LARGE {
        // Fails only where the runtime shuts down.
        tokio::task::spawn_blocking(check).await.map_err(|_| error::draining())?
    } else {
        check()
    };
    checked.map_err(|problem| error::bad_message(&problem))
}

/// The name of a call with offsets in logs and on `/inflight`.
fn id(method: &str, count: usize, first: Option<Offset>) -> String {
    let Some(first) = first else { return method.to_owned() };
    let (bytes, partition) = (first.as_bytes(), first.partition_id());
    let shown = bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii();
    let ellipsis = if bytes.len() > SHOWN { "…" } else { "" };
    format!("{method}: {count} offsets, the first is {shown}{ellipsis} of partition {partition}")
}
