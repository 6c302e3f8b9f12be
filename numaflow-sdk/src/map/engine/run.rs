//! How a stream runs handlers: in place, on tasks, in the order of keys; and what becomes of their answers and failures.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::{Context as TaskContext, Poll};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};

use super::{CHUNK, Ended, EndedCall, MapBody};
use crate::error;
use crate::in_flight::Stage;
use crate::map::attempt::{Done, Failed, Progress, attempt};
use crate::map::execution::{Call, Execution, OnTask, panicked};
use crate::map::handler::Handler;
use crate::map::order::{Admission, Keys};
use crate::map::outputs::{Outlet, UntilOver};
use crate::map::policy::{Failure, Resolution, resolve};
use crate::map::work::{Few, Held, Work};
use crate::metrics::{self, Outcome};
use crate::panic::catching;
use crate::text::Text;

/// After a handler that waited, so many messages are copied out of the buffer they were received in, where they are the
/// smaller part of it: those that wait too would each keep all of it.
const COPIED_AFTER_WAIT: u32 = 1024;
/// The boxes of calls that have ended which a stream keeps for the next ones.
const BOXES_KEPT: usize = 64;

/// A call that goes on as a task, and what goes with it.
struct Spawned {
    ids: Few<Text>,
    /// The bytes of its messages.
    size: usize,
    call: Call,
    held: Held,
    outlet: Option<Outlet>,
    /// Where it may be tried again, or waits until its handler is ready.
    progress: Option<Progress>,
    keys: Option<Keys>,
}

impl<H: Handler> MapBody<H> {
    /// Starts a call, unless it has to wait for one with the same keys.
    pub(super) fn begin(&mut self, work: Work<H::Request>, cx: &mut TaskContext<'_>) {
        let Some(order) = &mut self.order else {
            return self.run(work, None, cx);
        };
        match order.admit(work) {
            Admission::Now(work, keys) => self.run(work, keys, cx),
            Admission::Later => {}
            Admission::Never => self.lose(Outcome::Cancelled, 1),
        }
    }

    /// Starts the calls whose turn has come, within the bounds that reading has. Those that are left start when the stream
    /// is polled again, which it is, because either a chunk is handed over or the stream's turn has ended.
    pub(super) fn run_next(&mut self, cx: &mut TaskContext<'_>) {
        while self.writer.len() < CHUNK
            && self.has_turn()
            && let Some((work, keys)) = self.next.pop_front()
        {
            self.run(work, Some(keys), cx);
        }
    }

    /// Puts a call in its box, once its handler is ready for it.
    fn prepare(
        &mut self,
        call: &mut Call,
        request: H::Request,
        outlet: Option<&Outlet>,
        progress: &mut Option<Progress>,
        cx: &mut TaskContext<'_>,
    ) {
        let ready = self.handler.poll_ready(cx);
        match ready {
            Poll::Ready(Ok(())) if !self.keeps_inputs => {
                call.set(self.handler.call(request, outlet));
            }
            Poll::Ready(Err(error)) => call.set(async move { Err(error.into()) }),
            Poll::Ready(Ok(())) | Poll::Pending => {
                // The handler goes along, with its place in whatever it waits for, and a new one serves the next message.
                let next = Box::new((*self.handler).clone());
                let handler = std::mem::replace(&mut self.handler, next);
                let progress = match progress {
                    None if ready.is_ready() => Progress::default(),
                    progress => progress.get_or_insert_default().clone(),
                };
                let ready = ready.is_pending().then(|| {
                    let (ready, not_ready) = oneshot::channel();
                    self.not_ready = Some(not_ready);
                    ready
                });
                let outlet = outlet.cloned();
                if self.keeps_inputs {
                    let (options, metrics) = (self.options.clone(), self.context.metrics.clone());
                    call.set(attempt(handler, ready, request, outlet, progress, options, metrics));
                } else {
                    call.set(once_ready(handler, ready, request, outlet, progress));
                }
            }
        }
    }

    /// Runs a call: in place as far as it goes, on a task from there on.
    pub(super) fn run(&mut self, work: Work<H::Request>, keys: Option<Keys>, cx: &mut TaskContext<'_>) {
        let Work { ids, request, held, size } = work;
        let outlet = match (&self.outputs, ids.as_slice()) {
            (Some((sink, _)), [id]) => Some(sink.outlet(id.clone())),
            _ => None,
        };
        let mut call = self.boxes.pop().unwrap_or_else(|| ReusableBoxFuture::new(pending()));
        let mut progress = self.options.retry.is_some().then(Progress::default);
        let in_place = self.runs_in_place();
        let held = if in_place {
            self.show(&ids, held.as_ref(), size);
            held
        } else {
            let held = match (held, ids.as_slice()) {
                (None, [id, ..]) => Some(self.held(self.list(id, size))),
                (held, _) => held,
            };
            held.inspect(|held| held.stage(Stage::Handler))
        };
        if self.context.in_flight.is_sealed() {
            self.lose(Outcome::Cancelled, ids.as_slice().len());
            return self.stop(error::draining());
        }
        // User code runs also before there is a future: what it panics with there is what the call comes to.
        let polled = catching(|| {
            self.prepare(&mut call, request, outlet.as_ref(), &mut progress, cx);
            if in_place { call.poll(cx) } else { Poll::Pending }
        });
        let polled = polled.unwrap_or_else(|panic| Poll::Ready(panicked(&mut call, panic)));
        if in_place || polled.is_ready() {
            let now = Instant::now();
            let took = now - self.now;
            self.now = now;
            self.options.pace.observe(took, ids.as_slice().first());
            if let Poll::Ready(done) = polled {
                outlet.iter().for_each(Outlet::end);
                self.keep(call);
                self.writer.tally.took(took);
                let before = self.writer.len();
                self.finish(ids, done, outlet.as_ref(), keys);
                if let Some(mut held) = held {
                    held.answered(self.writer.len() - before);
                    self.keep_until_sent(held);
                }
                return;
            }
            self.copies_left = COPIED_AFTER_WAIT;
        }
        // What the stream has in hand gets an entry of its own.
        let mut held =
            held.unwrap_or_else(|| Held::new(self.permit.take(), self.hold.take(), self.current.enter(Stage::Handler)));
        // It keeps what it was received in, which is counted in full.
        held.pins(std::mem::take(&mut self.pinned));
        self.spawn(Spawned { ids, size, call, held, outlet, progress, keys });
    }

    /// Shows the messages of a call that is about to be polled in place: those that are listed are so in their own right,
    /// and a single one that is not is what the stream has in hand.
    #[inline]
    fn show(&self, ids: &Few<Text>, held: Option<&Held>, size: usize) {
        match (held, ids) {
            (Some(held), _) => {
                self.current.rest(self.now);
                held.stage(Stage::Handler);
            }
            (None, Few::One(id)) => self.current.begin(id, size, self.now),
            (None, Few::Many(_)) => {}
        }
    }

    fn runs_in_place(&mut self) -> bool {
        self.heavy = self.options.pace.is_heavy(self.heavy);
        match self.options.execution {
            Execution::Automatic => !self.heavy,
            Execution::Tasks | Execution::Blocking { .. } => false,
        }
    }

    fn spawn(&mut self, call: Spawned) {
        let Spawned { ids, size, call, mut held, outlet, progress, keys } = call;
        let begun = self.now;
        if let Some(outlet) = &outlet {
            outlet.keep(held.take_permit());
        }
        let may_block = matches!(self.options.execution, Execution::Blocking { .. });
        let mut call = OnTask::new(call, (!may_block).then(|| self.options.pace.clone()));
        let outlet = UntilOver::new(outlet);
        let run = async move {
            let done = match progress {
                None => (&mut call).await,
                Some(progress) => shown(&mut call, &progress, &held).await,
            };
            let took = begun.elapsed();
            let size = match &done {
                Ok(answers) => answers.size(ids.as_slice()),
                Err(failed) if failed.inputs.is_empty() => 0,
                Err(_) => size,
            };
            let outlet = outlet.end();
            held.answered(size);
            Ended::Call(EndedCall { ids, done, call: call.into_call(), held, outlet, keys, took })
        };
        match self.options.execution {
            Execution::Automatic | Execution::Tasks => drop(self.tasks.spawn(run)),
            Execution::Blocking { .. } => {
                let threads = self.options.threads.clone();
                let container = self.context.container_type.clone();
                self.tasks.spawn(async move {
                    let thread = threads.acquire_owned().await;
                    let runtime = Handle::current();
                    // Where this task is aborted, the handler is dropped at its next await, as on any task.
                    let aborted = CancellationToken::new();
                    let _aborted = aborted.clone().drop_guard();
                    let blocking = tokio::task::spawn_blocking(move || {
                        // Held to the end, also where nobody waits for it any more: the thread is taken that long.
                        let _thread = thread;
                        runtime.block_on(aborted.run_until_cancelled(run))
                    });
                    match blocking.await {
                        Ok(Some(ended)) => ended,
                        // Only where this task is gone.
                        Ok(None) => pending().await,
                        Err(error) => Ended::Status(error::handler_lost(&container, &error)),
                    }
                });
            }
        }
    }

    /// Keeps the box of a call that has ended for the next one.
    fn keep(&mut self, call: Call) {
        if self.boxes.len() < BOXES_KEPT {
            self.boxes.push(call);
        }
    }

    /// Takes what tasks have come to.
    pub(super) fn take_ended(&mut self, cx: &mut TaskContext<'_>) {
        while self.writer.len() < CHUNK {
            self.take_outputs(cx);
            // Polling says that there is nothing once this task has had its share of the thread. New messages would be read
            // all the same, and what has ended would pile up.
            let ended = match self.tasks.try_join_next() {
                Some(ended) => Poll::Ready(Some(ended)),
                None => self.tasks.poll_join_next(cx),
            };
            match ended {
                Poll::Ready(Some(Ok(Ended::Call(ended)))) => {
                    self.ended = self.ended.saturating_add(1);
                    let EndedCall { ids, done, call, held, outlet, keys, took } = ended;
                    self.keep(call);
                    self.writer.tally.took(took);
                    if done.is_ok() && !H::WHOLE_BATCH {
                        self.context.limits.observe(took, self.now);
                    }
                    self.finish(ids, done, outlet.as_ref(), keys);
                    self.keep_until_sent(held);
                    self.run_next(cx);
                }
                Poll::Ready(Some(Ok(Ended::Status(status)))) => self.fail(status),
                Poll::Ready(Some(Err(error))) => self.fail(error::handler_lost(&self.context.container_type, &error)),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// Stream mode: writes outputs as they are made, up to a chunk: handlers on other threads go on making them.
    fn take_outputs(&mut self, cx: &mut TaskContext<'_>) {
        if let Some((_, outputs)) = &mut self.outputs {
            while self.writer.len() < CHUNK
                && let Poll::Ready(Some(output)) = outputs.poll_recv(cx)
            {
                self.writer.output(&output.id, &output.message);
            }
        }
    }

    /// Stream mode: writes all outputs that were made before this call. Not by polling, which finds nothing once this task
    /// has had its share of the thread, and an output would then leave behind the end of its message.
    fn write_outputs(&mut self) {
        if let Some((_, outputs)) = &mut self.outputs {
            for _ in 0..outputs.len() {
                let Ok(output) = outputs.try_recv() else { return };
                self.writer.output(&output.id, &output.message);
            }
        }
    }

    /// Writes the answers of a call, or does what its failure asks for.
    fn finish(&mut self, ids: Few<Text>, done: Done, outlet: Option<&Outlet>, keys: Option<Keys>) {
        // What it sent goes before the end of it.
        self.write_outputs();
        let ids = ids.as_slice();
        let written = done.and_then(|answers| self.writer.answers(ids, &answers));
        let lost = match written {
            Ok(()) => {
                self.core.answered(ids.len());
                0
            }
            Err(failed) => self.failed(ids, *failed, outlet.is_some_and(Outlet::was_used)),
        };
        if let (Some(order), Some(keys)) = (&mut self.order, keys) {
            if lost > 0 {
                let behind = order.broken(&keys);
                self.lose(Outcome::Cancelled, behind);
            } else {
                self.next.extend(order.finished(keys));
            }
        }
    }

    /// Does what the policy, or the error itself, says about a failure: how many messages are lost to the stream.
    fn failed(&mut self, ids: &[Text], failed: Failed, output_left: bool) -> usize {
        let Failed { failure, inputs } = failed;
        let kind = failure.kind();
        self.context.metrics.handler_failed(kind);
        if self.options.exit_on_panic && kind == metrics::Failure::Panic {
            self.context.drain.end_after_panic();
        }
        let id = ids.first().map(Text::as_str).unwrap_or_default();
        crate::logging::error!(id, messages = ids.len(), failure = failure.text(), "the handler failed");
        // What an error brings along is one message, which can't stand for each of a batch.
        let brought = failure.brought_input().filter(|_| ids.len() == 1).cloned();
        let mut inputs = brought.into_iter().chain(inputs);
        for (index, id) in ids.iter().enumerate() {
            let answered = match resolve(&self.options.on_failure, &failure, inputs.next(), output_left) {
                // A dead letter that is larger than the peer takes has no way out but the status.
                Resolution::Answer(messages) => self.writer.instead(id, &messages).is_ok(),
                Resolution::EndStream => false,
            };
            if !answered {
                let lost = ids.len() - index;
                self.lose(Outcome::from(kind), lost);
                self.end_for(failure);
                return lost;
            }
            self.core.answered(1);
        }
        0
    }

    /// These messages will not be answered: the stream ends before.
    pub(super) fn lose(&mut self, outcome: Outcome, messages: usize) {
        self.core.lost(messages);
        self.writer.tally.finished(outcome, messages);
    }

    /// The stream ends with the status of this failure.
    fn end_for(&mut self, failure: Failure) {
        match failure {
            Failure::Error(error) => self.fail(error::handler_failed(&self.context.container_type, &error)),
            Failure::Panic(panic) => {
                let context = self.context.clone();
                // Resolving a backtrace takes long, and other messages must not wait for it.
                self.tasks
                    .spawn_blocking(move || Ended::Status(error::handler_panicked(&context.container_type, &panic)));
            }
        }
    }
}

/// Brings a call to its end, and shows what its messages wait for meanwhile.
async fn shown(call: &mut OnTask, progress: &Progress, held: &Held) -> Done {
    let mut call = pin!(call);
    let mut shown = Stage::Handler;
    poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        let stage = progress.stage();
        if stage != shown {
            shown = stage;
            held.stage(stage);
        }
        polled
    })
    .await
}

/// Calls a handler when it is ready, and tells the stream that it is.
async fn once_ready<H: Handler>(
    mut handler: Box<H>,
    ready: Option<oneshot::Sender<()>>,
    request: H::Request,
    outlet: Option<Outlet>,
    progress: Progress,
) -> Done {
    progress.until_ready(&mut *handler).await?;
    // The stream reads on, if it is still there.
    drop(ready);
    handler.call(request, outlet.as_ref()).await
}
