//! Sources: user code that produces messages and learns what became of them.
//!
//! Implement [`Sourcer`] and hand it to [`service`]; a [`Server`](crate::Server) or [`run`](crate::run) does the rest.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::time::SystemTime;
//!
//! use numaflow_sdk::source::{self, Batch, Message, NackOffset, Offset, ReadRequest, Sourcer};
//! use numaflow_sdk::HandlerError;
//!
//! /// Counts for ever.
//! #[derive(Default)]
//! struct Counter(AtomicU64);
//!
//! impl Sourcer for Counter {
//!     async fn read(&self, _request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
//!         while !batch.is_full() {
//!             let next = self.0.fetch_add(1, Ordering::Relaxed).to_string();
//!             let offset = Offset::new(next.clone(), 0);
//!             batch.push(Message::new(next, offset, SystemTime::now())).await?;
//!         }
//!         Ok(())
//!     }
//!     async fn ack(&self, _offsets: Vec<Offset>) -> Result<(), HandlerError> {
//!         Ok(())
//!     }
//!     async fn nack(&self, _offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
//!         Ok(())
//!     }
//! }
//!
//! let service = source::service(Counter::default());
//! # drop(service);
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::{HandlerError, NackOptions};

mod ack;
mod batch;
mod calls;
mod held;
mod message;
mod offset;
mod read;
mod service;
mod wire;

pub use batch::{Batch, BatchFull, BatchMessage};
pub use message::{EncodedEntries, EncodedMessage, Message, MessageRef, MetadataGroup};
pub use offset::Offset;
pub use service::{SourceService, service};

/// A source of messages.
///
/// The platform calls one method at a time and waits for each: while a read waits, acks wait too. A source should all the
/// same bear calls that overlap, because other clients and later platforms may do that.
///
/// # Cancel safety
///
/// A future returned here is dropped at any `.await` when the peer goes away or a drain passes its deadline. Messages
/// already pushed may or may not have been sent; treat them as not acked.
pub trait Sourcer: Send + Sync + 'static {
    /// Reads up to `request.count` messages into `batch` and returns.
    ///
    /// Return as soon as there are that many, and with what there is when `request.timeout` is over. Returning with
    /// nothing at all is fine: the server then waits out the timeout itself before it tells the platform that the batch is
    /// over, because the platform would ask again at once ([`Batch::end_early`] turns that off).
    ///
    /// A message that was neither acked nor nacked must not be read again in the same session, and must be after a
    /// restart, with the same [`Offset`].
    ///
    /// A read shares a task with its connection. While the peer does not take what was pushed, it is not polled: timers of
    /// its own are seen late then. Work that blocks its thread belongs into `tokio::task::spawn_blocking`, because it holds
    /// up the connection, `IsReady` included; after 20 ms in one poll the server moves the read to a task of its own, and
    /// starts the next thousand on such.
    ///
    /// # Errors
    ///
    /// An error ends the read stream with the status of a failed handler. The platform keeps what it received of the
    /// batch, reconnects and reads on.
    fn read(&self, request: ReadRequest, batch: &mut Batch) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Takes note that these messages are done with. Returning is the only confirmation the platform gets, so return
    /// when the ack is as durable as your guarantees need.
    ///
    /// Must be idempotent, and must succeed for offsets this source does not know: the platform sends acks again when an
    /// answer was lost, also to a new process.
    ///
    /// A request with more than a hundred thousand offsets, which no batch of the platform has, comes in several calls, one
    /// after the other; it is answered once, after the last one.
    ///
    /// An ack that does not wait runs in the task of its connection. Work that blocks its thread belongs into
    /// `tokio::task::spawn_blocking`, because the runtime has few threads; after 20 ms in one poll the server starts the next
    /// thousand acks of the stream on tasks of their own, so that they do not hold up the connection.
    ///
    /// # Errors
    ///
    /// An error ends the ack stream, and the platform sends the same acks again for ever, blocking reads meanwhile.
    fn ack(&self, offsets: Vec<Offset>) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Takes note that these messages are to be delivered again, by the options of each.
    ///
    /// Must be idempotent, because the platform tries again when it gets no answer. A request whose offsets and options take
    /// more than 4 MiB comes in several calls, one after the other; it is answered once, after the last one.
    ///
    /// # Errors
    ///
    /// An error makes the platform try again, every 100 ms for two minutes.
    fn nack(&self, offsets: Vec<NackOffset>) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Called when a peer has opened a new read stream, before its first read. What an earlier stream was sent and has not
    /// acked or nacked must be read again, because the new peer may never have seen it; acks for it are still valid.
    fn reader_connected(&self) {}

    /// How many messages wait to be read; `None` (the default) when that is not known. The platform scales by this: zero
    /// lets it scale to nothing, so a source without an end says `None`.
    ///
    /// # Errors
    ///
    /// The platform only logs an error.
    fn pending(&self) -> impl Future<Output = Result<Option<u64>, HandlerError>> + Send {
        async { Ok(None) }
    }

    /// The partitions that this replica reads; `None` (the default) for a source without partitions, for which the
    /// server answers with the replica's index.
    ///
    /// # Errors
    ///
    /// The platform ignores an error.
    fn partitions(&self) -> impl Future<Output = Result<Option<Partitions>, HandlerError>> + Send {
        async { Ok(None) }
    }
}

impl<S: Sourcer> Sourcer for Arc<S> {
    fn read(&self, request: ReadRequest, batch: &mut Batch) -> impl Future<Output = Result<(), HandlerError>> + Send {
        (**self).read(request, batch)
    }

    fn ack(&self, offsets: Vec<Offset>) -> impl Future<Output = Result<(), HandlerError>> + Send {
        (**self).ack(offsets)
    }

    fn nack(&self, offsets: Vec<NackOffset>) -> impl Future<Output = Result<(), HandlerError>> + Send {
        (**self).nack(offsets)
    }

    fn reader_connected(&self) {
        (**self).reader_connected();
    }

    fn pending(&self) -> impl Future<Output = Result<Option<u64>, HandlerError>> + Send {
        (**self).pending()
    }

    fn partitions(&self) -> impl Future<Output = Result<Option<Partitions>, HandlerError>> + Send {
        (**self).partitions()
    }
}

/// What the platform asks of a read (`source.v1.ReadRequest.Request`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadRequest {
    /// The most messages the batch may hold: the vertex's read batch size, 500 unless set otherwise.
    pub count: usize,
    /// How long to wait for them: the vertex's read timeout, one second unless set otherwise.
    pub timeout: Duration,
}

impl ReadRequest {
    /// Creates a request.
    #[must_use]
    pub const fn new(count: usize, timeout: Duration) -> Self {
        Self { count, timeout }
    }
}

/// A message to be delivered again, and how (`source.v1.NackRequest.Request`, one offset of it).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NackOffset {
    /// Which message.
    pub offset: Offset,
    /// What was asked for; empty where nothing was. The offsets of one element of a request share theirs.
    pub options: Arc<NackOptions>,
}

impl NackOffset {
    /// Creates a nack.
    #[must_use]
    pub fn new(offset: Offset, options: impl Into<Arc<NackOptions>>) -> Self {
        Self { offset, options: options.into() }
    }
}

/// The partitions of a source (`source.v1.PartitionsResponse.Result`). They drive the platform's watermark: one that is
/// listed but idle may hold it back, one that is read but not listed may be lost to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partitions {
    /// Those that this replica reads now.
    pub active: Vec<u16>,
    /// How many the whole source has, where that is known (platform 1.8.0 and later).
    pub total: Option<u32>,
}

impl Partitions {
    /// Creates the answer of a replica that reads these partitions.
    #[must_use]
    pub fn new(active: impl IntoIterator<Item = u16>) -> Self {
        Self { active: active.into_iter().collect(), total: None }
    }

    /// Says how many partitions the whole source has.
    #[must_use]
    pub fn with_total(mut self, total: u32) -> Self {
        self.total = Some(total);
        self
    }
}
