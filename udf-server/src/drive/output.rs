//! Where outputs go: one a line.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use numaflow_sdk::Message;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{DriveError, Lines};

/// Buffered beyond this, lines are written before the batch is complete.
const BUFFERED: usize = 4 << 20;

/// Where lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file, made new.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// What a line holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// The value as it is: what a map makes is JSON lines where its values are.
    #[default]
    Value,
    /// A JSON object with the id of the message that it came of, its keys, tags, and value: under `value` where that is text,
    /// otherwise in base64 under `value_base64`.
    Json,
}

/// A line of [`Format::Json`].
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    keys: Vec<&'a str>,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// The outputs of a run and its dead letters.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    lines: Option<Writer>,
    /// Where dead letters go, and the writer once there was one.
    dead_letters: Option<(PathBuf, Option<Writer>)>,
}

impl Output {
    /// Makes the file. The file for dead letters is made with the first of them; without a path of its own it stands
    /// beside the output, and one that an earlier run left there is removed.
    pub(super) async fn open(
        out: Option<&Destination>,
        dead_letters: Option<&Path>,
        format: Format,
    ) -> Result<Self, DriveError> {
        let lines = match out {
            None => None,
            Some(Destination::Stdout) => Some(Writer::stdout()?),
            Some(Destination::File(path)) => Some(Writer::create(path).await?),
        };
        let dead_letters = dead_letters_path(out, dead_letters);
        if let Some(path) = &dead_letters
            && std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
        {
            std::fs::remove_file(path)
                .map_err(|source| DriveError::Open { name: path.display().to_string(), source })?;
        }
        Ok(Self { format, lines, dead_letters: dead_letters.map(|path| (path, None)) })
    }

    /// Writes an output of the message with this id.
    pub(super) async fn write(&mut self, id: &str, message: &Message) -> Result<(), DriveError> {
        match &mut self.lines {
            Some(writer) => writer.output(self.format, id, message).await,
            None => Ok(()),
        }
    }

    /// Writes an output of the message with this id to the dead letters.
    pub(super) async fn write_dead_letter(&mut self, id: &str, message: &Message) -> Result<(), DriveError> {
        let Some((path, writer)) = &mut self.dead_letters else {
            return Ok(());
        };
        let writer = match writer {
            Some(writer) => writer,
            None => writer.insert(Writer::create(path).await?),
        };
        writer.output(self.format, id, message).await
    }

    /// Hands everything to the system: what is acked after this survives the driver.
    pub(super) async fn flush(&mut self) -> Result<(), DriveError> {
        let dead_letters = self.dead_letters.as_mut().and_then(|(_, writer)| writer.as_mut());
        for writer in self.lines.iter_mut().chain(dead_letters) {
            writer.flush().await?;
        }
        Ok(())
    }
}

/// Says, without changing anything, whether the outputs can be made: each in a folder that is there, and neither of them
/// the file that is read.
pub(crate) fn check(
    input: Option<&Lines>,
    out: Option<&Destination>,
    dead_letters: Option<&Path>,
) -> Result<(), DriveError> {
    // An input that cannot be looked at fails when it is opened, before any output is.
    let read = input.and_then(|lines| Some((lines.name(), lines.metadata().ok()?)));
    let written = match out {
        Some(Destination::File(path)) => Some(path.clone()),
        Some(Destination::Stdout) | None => None,
    };
    for path in written.into_iter().chain(dead_letters_path(out, dead_letters)) {
        let name = || path.display().to_string();
        let there = writable(&path).map_err(|source| DriveError::Open { name: name(), source })?;
        if let (Some((input, read)), Some(there)) = (&read, there)
            && read.is_file()
            && (read.dev(), read.ino()) == (there.dev(), there.ino())
        {
            return Err(DriveError::SameFile { input: input.clone(), output: name() });
        }
    }
    Ok(())
}

/// What is known of a file that can be written; `None` where it can be made.
fn writable(path: &Path) -> io::Result<Option<Metadata>> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) => {
            // Others than plain files may wait for a reader when they are opened.
            if metadata.is_file() {
                OpenOptions::new().write(true).open(path)?;
            }
            Ok(Some(metadata))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if folder.metadata()?.is_dir() { Ok(None) } else { Err(io::ErrorKind::NotADirectory.into()) }
        }
        Err(error) => Err(error),
    }
}

/// Where dead letters go: the path given, or one beside the output.
fn dead_letters_path(out: Option<&Destination>, dead_letters: Option<&Path>) -> Option<PathBuf> {
    match (dead_letters, out) {
        (Some(path), _) => Some(path.to_owned()),
        (None, Some(Destination::File(out))) => Some(beside(out)),
        (None, _) => None,
    }
}

/// `out.jsonl` -> `out.jsonl.dead`
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".dead");
    name.into()
}

struct Writer {
    name: String,
    to: Box<dyn AsyncWrite + Send + Unpin>,
    buffer: Vec<u8>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Writer {
    async fn create(path: &Path) -> Result<Self, DriveError> {
        let name = path.display().to_string();
        match File::create(path).await {
            Ok(file) => Ok(Self { name, to: Box::new(file), buffer: Vec::new() }),
            Err(source) => Err(DriveError::Open { name, source }),
        }
    }

    fn stdout() -> Result<Self, DriveError> {
        let name = "standard output".to_owned();
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(stdout) => {
                Ok(Self { name, to: Box::new(File::from_std(std::fs::File::from(stdout))), buffer: Vec::new() })
            }
            Err(source) => Err(DriveError::Open { name, source }),
        }
    }

    async fn output(&mut self, format: Format, id: &str, message: &Message) -> Result<(), DriveError> {
        let value = &message.value()[..];
        match format {
            Format::Value => self.buffer.extend_from_slice(value),
            Format::Json => {
                let text = str::from_utf8(value).ok();
                let line = Line {
                    id,
                    keys: message.keys().iter().map(|key| &**key).collect(),
                    tags: message.tags(),
                    value: text,
                    value_base64: text.is_none().then(|| BASE64.encode(value)),
                };
                serde_json::to_writer(&mut self.buffer, &line)
                    .map_err(|error| DriveError::Output { name: self.name.clone(), source: error.into() })?;
            }
        }
        self.buffer.push(b'\n');
        if self.buffer.len() > BUFFERED { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), DriveError> {
        let written = match self.to.write_all(&self.buffer).await {
            Ok(()) => self.to.flush().await,
            failed => failed,
        };
        self.buffer.clear();
        written.map_err(|source| DriveError::Output { name: self.name.clone(), source })
    }
}
