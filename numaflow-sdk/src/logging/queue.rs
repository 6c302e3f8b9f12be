//! A bounded queue of lines and the loop that writes them.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes that wait to be written: thousands of lines. As many may be in the hands of the loop.
const CAPACITY: usize = 1 << 20;
/// The pause before another try where the file is set to return instead of waiting.
const WOULD_BLOCK: Duration = Duration::from_millis(10);

/// The queue. Whoever pushes waits for nobody: the lock is held for the copying of a line.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    text: Vec<u8>,
    /// How many lines `text` has.
    lines: u64,
    /// The lines that were dropped and not yet told of.
    untold: u64,
    /// Whether the loop has lines in its hands.
    writing: bool,
    /// Whether somebody has waited for the loop in vain since it last wrote something.
    stuck: bool,
    /// Whether there is no loop.
    closed: bool,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let state = State { text: Vec::new(), lines: 0, untold: 0, writing: false, stuck: false, closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new(), dropped: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, or drops it where there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.closed || state.text.len().saturating_add(line.len()) > CAPACITY {
            self.lost(&mut state, 1);
            return;
        }
        state.text.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        self.filled.notify_one();
    }

    fn lost(&self, state: &mut State, lines: u64) {
        state.untold += lines;
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// How many lines were dropped in all.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// There will be no loop: everything is dropped.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Waits until nothing is left to be written, for so long at the most. Returns whether that is so.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        let mut state = self.lock();
        while state.writing || !state.text.is_empty() {
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                state.stuck = true;
                return false;
            }
            state = self.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Takes a line and waits until it is written, for so long at the most, and not at all while others wait in vain.
    pub(super) fn push_and_flush(&self, line: &[u8], patience: Duration) {
        self.push(line);
        if !self.lock().stuck {
            self.flush(patience);
        }
    }

    /// Writes what is in the queue, for ever. `tell` is told how many lines were dropped, once lines are written again.
    pub(super) fn write_to(&self, mut out: impl Write, mut tell: impl FnMut(u64)) {
        let mut text = Vec::new();
        // The lines that were dropped, once others are written again.
        let mut untold = 0;
        loop {
            let lines = self.take(&mut text, untold > 0);
            // There is room for the news now.
            if untold > 0 {
                tell(untold);
                untold = 0;
            }
            let written = write_all(&mut out, &text);
            text.clear();
            let mut state = self.lock();
            state.stuck = false;
            match written {
                Ok(()) => untold = std::mem::take(&mut state.untold),
                Err(_) => self.lost(&mut state, lines),
            }
        }
    }

    /// Takes all lines; waits for the first one unless `at_once`.
    fn take(&self, text: &mut Vec<u8>, at_once: bool) -> u64 {
        let mut state = self.lock();
        state.writing = at_once;
        while state.text.is_empty() && !at_once {
            self.emptied.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        std::mem::swap(&mut state.text, text);
        std::mem::take(&mut state.lines)
    }
}

fn write_all(out: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => text = text.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that has the same file may have set it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(WOULD_BLOCK),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Hands each write over and waits for what becomes of it.
    struct Stepped {
        writes: SyncSender<Vec<u8>>,
        results: Receiver<io::Result<()>>,
    }

    impl Write for Stepped {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.writes.send(text.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            // A test that is over.
            self.results.recv().map_err(|_| ErrorKind::BrokenPipe)?.map(|()| text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue, its writes, their results, and the reported numbers of dropped lines.
    type Steps = (Arc<Queue>, Receiver<Vec<u8>>, SyncSender<io::Result<()>>, Receiver<u64>);

    fn stepped() -> Steps {
        let queue = Arc::new(Queue::new());
        let (writes, written) = sync_channel(0);
        let (go, results) = sync_channel(0);
        let (tell, told) = sync_channel(8);
        let loops = queue.clone();
        thread::spawn(move || loops.write_to(Stepped { writes, results }, |lines| tell.send(lines).unwrap()));
        (queue, written, go, told)
    }

    fn next(written: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(written.recv_timeout(LONG).unwrap()).unwrap()
    }

    #[test]
    fn lines_are_written_in_sequence() {
        let (queue, written, go, _told) = stepped();
        queue.push(b"one\n");
        assert_eq!(next(&written), "one\n");
        queue.push(b"two\n");
        queue.push(b"three\n");
        assert!(!queue.flush(Duration::from_millis(1)), "one is in the loop's hands");
        go.send(Ok(())).unwrap();
        assert_eq!(next(&written), "two\nthree\n");
        go.send(Ok(())).unwrap();
        assert!(queue.flush(LONG));
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn a_full_queue_drops_whole_lines_and_tells_of_them_once() {
        let (queue, written, go, told) = stepped();
        queue.push(b"first\n");
        assert_eq!(next(&written), "first\n");
        let half = vec![b'x'; CAPACITY / 2];
        for _ in 0..5 {
            queue.push(&half);
        }
        assert_eq!(queue.dropped(), 3);
        go.send(Ok(())).unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), 3);
        // What is pushed as it is told finds room.
        queue.push(b"room again\n");
        assert_eq!(written.recv_timeout(LONG).unwrap().len(), CAPACITY);
        go.send(Ok(())).unwrap();
        assert_eq!(next(&written), "room again\n");
        go.send(Ok(())).unwrap();
        assert!(queue.flush(LONG));
        assert!(told.try_recv().is_err(), "told once");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_when_it_can() {
        let (queue, written, go, told) = stepped();
        queue.push(b"one\n");
        next(&written);
        queue.push(b"two\n");
        queue.push(b"three\n");
        go.send(Err(ErrorKind::StorageFull.into())).unwrap();
        assert_eq!(next(&written), "two\nthree\n");
        go.send(Err(ErrorKind::StorageFull.into())).unwrap();
        assert!(queue.flush(LONG), "a failed write leaves nothing to wait for");
        assert_eq!(queue.dropped(), 3);
        queue.push(b"four\n");
        next(&written);
        go.send(Ok(())).unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), 3);
    }

    #[test]
    fn a_write_that_would_block_is_tried_again() {
        let (queue, written, go, _told) = stepped();
        queue.push(b"one\n");
        for _ in 0..3 {
            assert_eq!(next(&written), "one\n");
            go.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        }
        assert_eq!(next(&written), "one\n");
        go.send(Ok(())).unwrap();
        assert!(queue.flush(LONG));
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn nobody_waits_for_a_writer_that_others_wait_for_in_vain() {
        let (queue, written, go, _told) = stepped();
        queue.push_and_flush(b"one\n", Duration::from_millis(1));
        assert_eq!(next(&written), "one\n");
        // Would be a test without an end.
        queue.push_and_flush(b"two\n", Duration::MAX);
        go.send(Ok(())).unwrap();
        assert_eq!(next(&written), "two\n");
        go.send(Ok(())).unwrap();
        assert!(queue.flush(LONG));
    }

    #[test]
    fn without_a_loop_all_is_dropped() {
        let queue = Queue::new();
        queue.close();
        queue.push(b"one\n");
        assert!(queue.flush(LONG));
        assert_eq!(queue.dropped(), 1);
    }
}
