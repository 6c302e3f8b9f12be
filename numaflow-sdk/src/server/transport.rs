//! The byte stream under a connection: it can be ended from this side, and it sees which requests HTTP/2 refuses.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::outgoing::Outgoing;
use super::together::Turn;

/// For how long a connection reads on before the other tasks of its thread get their turn. A peer can send frames that take
/// much longer to handle than to send, such as settings that change every stream.
const TURN: Duration = Duration::from_millis(2);

/// What a connection and its byte stream know of each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    hung_up: AtomicBool,
    broken: AtomicBool,
    full: AtomicBool,
}

impl Line {
    /// Ends the reading side of the connection, as if its peer had closed it: HTTP/2 writes what it has and ends. Takes
    /// effect when the connection is polled next.
    pub(super) fn hang_up(&self) {
        self.0.hung_up.store(true, Ordering::Relaxed);
    }

    fn has_hung_up(&self) -> bool {
        self.0.hung_up.load(Ordering::Relaxed)
    }

    /// Makes the byte stream fail, so that HTTP/2 ends the connection, and all calls on it, in good order. Takes effect when
    /// the connection is polled next.
    pub(super) fn break_off(&self) {
        self.0.broken.store(true, Ordering::Relaxed);
    }

    fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Relaxed)
    }

    /// Whether something could not be written yet, because the peer does not take what was written before.
    pub(super) fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    fn set_full(&self, full: bool) {
        self.0.full.store(full, Ordering::Relaxed);
    }
}

/// A byte stream that can be made to end, and to fail.
pub(super) struct Transport<I, F> {
    io: I,
    line: Line,
    /// What the line was last told.
    full: bool,
    turn: Turn,
    /// When the second read began of those that found something, one after the other.
    reads_since: Option<Instant>,
    /// Whether the last read found something.
    found: bool,
    outgoing: Outgoing,
    /// Called for every request that HTTP/2 refuses before the service sees it.
    refused: F,
}

impl<I, F: FnMut()> Transport<I, F> {
    pub(super) fn new(io: I, turn: Turn, line: Line, refused: F) -> Self {
        Self { io, line, full: false, turn, reads_since: None, found: false, outgoing: Outgoing::default(), refused }
    }

    fn note_write(&mut self, written: &Poll<io::Result<usize>>) {
        let full = written.is_pending();
        if full != self.full {
            self.full = full;
            self.line.set_full(full);
        }
    }

    /// Whether the connection has read for as long as it may. Asks for the time only where one read follows another.
    fn has_had_its_turn(&mut self) -> bool {
        if !self.found {
            self.reads_since = None;
            return false;
        }
        let now = Instant::now();
        now.saturating_duration_since(*self.reads_since.get_or_insert(now)) >= TURN
    }

    fn check(&self) -> io::Result<()> {
        if self.line.is_broken() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the drain's time is over"));
        }
        Ok(())
    }
}

impl<I: AsyncRead + Unpin, F: FnMut() + Unpin> AsyncRead for Transport<I, F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if self.line.has_hung_up() {
            return Poll::Ready(Ok(()));
        }
        if self.has_had_its_turn() {
            self.found = false;
            self.turn.end_for_input();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.found = read.is_ready();
        read
    }
}

impl<I: AsyncWrite + Unpin, F: FnMut() + Unpin> AsyncWrite for Transport<I, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.note_write(&written);
        if let Poll::Ready(Ok(count)) = written {
            this.outgoing.pass(&bytes[..count], &mut this.refused);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.note_write(&written);
        if let Poll::Ready(Ok(mut count)) = written {
            for slice in slices {
                let part = &slice[..count.min(slice.len())];
                this.outgoing.pass(part, &mut this.refused);
                count -= part.len();
                if count == 0 {
                    break;
                }
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
