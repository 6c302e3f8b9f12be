//! Lines of a file or of standard input in the place of a source.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use numaflow_sdk::source::{Message, Offset, ReadRequest};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::DriveError;

/// The most that waits between the thread that reads and the driver: this many chunks, each of this many lines or, before
/// it comes to that, bytes.
const CHUNKS: usize = 2;
const CHUNK_LINES: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;
/// The most bytes of a batch, before its last message: a run holds a batch in memory until it is acked.
pub(super) const BATCH_BYTES: usize = 32 << 20;
/// Leaves room for the rest of a request below the protocol's 64 MiB.
const LONGEST_LINE: usize = (64 << 20) - (64 << 10);

/// Where lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lines {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Lines {
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    /// What the system knows of them; standard input may well be a file.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Self::File(path) => path.metadata(),
            Self::Stdin => File::from(io::stdin().as_fd().try_clone_to_owned()?).metadata(),
        }
    }
}

/// The lines that were read and not yet asked for, and those that were nacked.
#[derive(Debug)]
pub(super) struct LineSource {
    name: String,
    chunks: mpsc::Receiver<io::Result<Vec<Bytes>>>,
    waiting: VecDeque<Message>,
    /// Of the values that wait.
    bytes: usize,
    numbered: u64,
    ended: bool,
}

impl LineSource {
    /// Opens the file and starts the thread that reads it: a thread, because a read of standard input can block for
    /// ever, and must not keep the program from ending.
    pub(super) fn open(lines: &Lines) -> Result<Self, DriveError> {
        let name = lines.name();
        let failed = |source| DriveError::Open { name: name.clone(), source };
        let input: Box<dyn Read + Send> = match lines {
            Lines::File(path) => Box::new(File::open(path).map_err(failed)?),
            Lines::Stdin => Box::new(io::stdin()),
        };
        let (sender, chunks) = mpsc::channel(CHUNKS);
        std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || read_lines(BufReader::with_capacity(256 << 10, input), &sender))
            .map_err(failed)?;
        Ok(Self { name, chunks, waiting: VecDeque::new(), bytes: 0, numbered: 0, ended: false })
    }

    /// Reads up to as many lines as were asked for, waiting for the first at most for the time given; `None` at the end.
    /// Safe to cancel.
    pub(super) async fn read(&mut self, request: ReadRequest) -> Result<Option<Vec<Message>>, DriveError> {
        let deadline = Instant::now() + request.timeout;
        while !self.ended && self.waiting.len() < request.count && self.bytes < BATCH_BYTES {
            let chunk = if self.waiting.is_empty() {
                match timeout_at(deadline, self.chunks.recv()).await {
                    Ok(chunk) => chunk,
                    Err(_) => break,
                }
            } else {
                match self.chunks.try_recv() {
                    Ok(chunk) => Some(chunk),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => None,
                }
            };
            match chunk {
                Some(Ok(lines)) => self.number(lines),
                Some(Err(source)) => return Err(DriveError::Input { name: self.name.clone(), source }),
                None => self.ended = true,
            }
        }
        if self.ended && self.waiting.is_empty() {
            return Ok(None);
        }
        let lengths = self.waiting.iter().map(|message| message.value().len());
        let count = count_within(request.count, BATCH_BYTES, lengths);
        let batch: Vec<Message> = self.waiting.drain(..count).collect();
        self.bytes -= batch.iter().map(|message| message.value().len()).sum::<usize>();
        Ok(Some(batch))
    }

    /// Puts nacked lines back, to be read again.
    pub(super) fn nack(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.bytes += message.value().len();
            self.waiting.push_back(message);
        }
    }

    fn number(&mut self, lines: Vec<Bytes>) {
        let now = SystemTime::now();
        for line in lines {
            self.numbered += 1;
            self.bytes += line.len();
            self.waiting.push_back(Message::new(line, Offset::new(self.numbered.to_string(), 0), now));
        }
    }
}

/// How many values of these lengths make a batch: at most so many, and none more once they have come to so many bytes.
pub(super) fn count_within(most: usize, most_bytes: usize, lengths: impl Iterator<Item = usize>) -> usize {
    let mut bytes: usize = 0;
    let fits = |length: &usize| {
        let fits = bytes < most_bytes;
        bytes = bytes.saturating_add(*length);
        fits
    };
    lengths.take(most).take_while(fits).count()
}

/// Sends chunks of lines until the input ends or nobody wants more. What is there is sent before a read may block.
fn read_lines(mut input: impl BufRead, chunks: &mpsc::Sender<io::Result<Vec<Bytes>>>) {
    loop {
        let mut lines = Vec::with_capacity(CHUNK_LINES);
        let mut bytes = 0;
        let more = loop {
            match read_line(&mut input) {
                Ok(Some((line, buffered))) => {
                    bytes += line.len();
                    lines.push(line);
                    if lines.len() == CHUNK_LINES || bytes > CHUNK_BYTES || !buffered {
                        break true;
                    }
                }
                Ok(None) => break false,
                Err(error) => {
                    // Lines before the bad one come first; a closed channel means that nobody listens.
                    drop(chunks.blocking_send(Ok(lines)));
                    drop(chunks.blocking_send(Err(error)));
                    return;
                }
            }
        };
        if (!lines.is_empty() && chunks.blocking_send(Ok(lines)).is_err()) || !more {
            return;
        }
    }
}

/// The next line without its line break, and whether another whole line is in the buffer; `None` at the end.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<(Bytes, bool)>> {
    let mut line = Vec::new();
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok((!line.is_empty()).then(|| (Bytes::from(line), false)));
        }
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&buffer[..end]);
            let another = buffer[end + 1..].contains(&b'\n');
            input.consume(end + 1);
            return Ok(Some((Bytes::from(line), another)));
        }
        line.extend_from_slice(buffer);
        let taken = buffer.len();
        input.consume(taken);
        if line.len() > LONGEST_LINE {
            return Err(io::Error::other("a line is longer than the 64 MiB that the protocol allows a message"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn all(input: &[u8]) -> Vec<Bytes> {
        let mut input = BufReader::with_capacity(5, input);
        std::iter::from_fn(|| read_line(&mut input).unwrap().map(|(line, _)| line)).collect()
    }

    #[test]
    fn lines_are_split_at_line_feeds_and_nothing_else() {
        assert_eq!(all(b""), [""; 0]);
        assert_eq!(all(b"a\n\nlonger than the buffer\nno end"), ["a", "", "longer than the buffer", "no end"]);
        assert_eq!(all(b"\xff\r\n"), [&b"\xff\r"[..]]);
    }

    #[test]
    fn a_batch_ends_with_the_message_that_reaches_its_bytes() {
        let count = |most, lengths: &[usize]| count_within(most, 10, lengths.iter().copied());
        assert_eq!(count(3, &[1, 1, 1, 1]), 3);
        assert_eq!(count(9, &[60, 60]), 1);
        assert_eq!(count(9, &[4, 5, 60, 60]), 3);
        assert_eq!(count(9, &[0, 0]), 2);
        assert_eq!(count(9, &[]), 0);
    }

    #[tokio::test]
    async fn batches_of_long_lines_are_bounded_in_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = vec![b'x'; 20 << 20];
        for _ in 0..5 {
            std::io::Write::write_all(&mut file.as_file(), &line).unwrap();
            std::io::Write::write_all(&mut file.as_file(), b"\n").unwrap();
        }
        let mut source = LineSource::open(&Lines::File(file.path().to_owned())).unwrap();
        let mut batches = Vec::new();
        while let Some(batch) = source.read(ReadRequest::new(500, Duration::from_secs(60))).await.unwrap() {
            batches.push(batch.len());
        }
        assert_eq!(batches.iter().sum::<usize>(), 5);
        assert!(batches.iter().all(|length| *length <= 2), "{batches:?}");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let error = read_line(&mut BufReader::new(io::repeat(b'x'))).unwrap_err();
        assert!(error.to_string().contains("64 MiB"), "{error}");
    }

    #[tokio::test]
    async fn batches_hold_what_was_asked_for_and_nacked_lines_come_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1\n2\n3\n").unwrap();
        let mut source = LineSource::open(&Lines::File(file.path().to_owned())).unwrap();
        let two = ReadRequest::new(2, Duration::from_secs(60));
        let mut offsets = Vec::new();
        while let Some(batch) = source.read(two).await.unwrap() {
            assert!(batch.len() <= 2);
            if offsets.is_empty() {
                source.nack(batch.first().cloned());
            }
            offsets.extend(batch.iter().map(|message| message.offset().clone()));
        }
        offsets.sort_unstable();
        assert_eq!(offsets, ["1", "1", "2", "3"].map(|number| Offset::new(number, 0)));
    }
}
