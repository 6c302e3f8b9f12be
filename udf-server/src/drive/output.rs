//! Where outputs go: one a line.

use std::collections::BTreeMap;
use std::ffi::OsStr;
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
    /// A JSON object with the id of the message that it came of, its keys, tags, user metadata, and value: under `value` where
    /// that is text, otherwise in base64 under `value_base64`. User metadata is an object of groups, `user_metadata`, and
    /// what of it is no text is under `user_metadata_base64`. A dead letter has its reason there.
    Json,
}

/// A line of [`Format::Json`].
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    keys: Vec<&'a str>,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Groups::is_empty")]
    user_metadata: Groups<'a, &'a str>,
    #[serde(skip_serializing_if = "Groups::is_empty")]
    user_metadata_base64: Groups<'a, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Values by group and key.
type Groups<'a, T> = BTreeMap<&'a str, BTreeMap<&'a str, T>>;

/// The user metadata of an output: what is text, and the rest in base64.
fn user_metadata(message: &Message) -> (Groups<'_, &str>, Groups<'_, String>) {
    let metadata = message.user_metadata();
    let (mut texts, mut others) = (Groups::new(), Groups::new());
    for group in metadata.groups() {
        for (key, value) in metadata.entries(group) {
            match str::from_utf8(value) {
                Ok(text) => {
                    texts.entry(group).or_default().insert(key, text);
                }
                Err(_) => {
                    others.entry(group).or_default().insert(key, BASE64.encode(value));
                }
            }
        }
    }
    (texts, others)
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

/// Says, without changing anything, whether the outputs can be made: each in a folder that is there, and no two of input,
/// outputs and dead letters in one file, whatever names and links lead to it.
pub(crate) fn check(
    input: Option<&Lines>,
    out: Option<&Destination>,
    dead_letters: Option<&Path>,
) -> Result<(), DriveError> {
    let place = |path: &Path| match writable(path) {
        Ok(place) => Ok((path.display().to_string(), place)),
        Err(source) => Err(DriveError::Open { name: path.display().to_string(), source }),
    };
    // An input that cannot be looked at fails when it is opened, before any output is.
    let input = input.and_then(|lines| Some((lines.name(), Place::of(&lines.metadata().ok()?))));
    let out_place = match out {
        Some(Destination::File(path)) => Some(place(path)?),
        Some(Destination::Stdout) => {
            let metadata = io::stdout().as_fd().try_clone_to_owned().and_then(|fd| std::fs::File::from(fd).metadata());
            Some(("standard output".to_owned(), metadata.map_or(Place::Other, |metadata| Place::of(&metadata))))
        }
        None => None,
    };
    let dead_letters = dead_letters_path(out, dead_letters).map(|path| place(&path)).transpose()?;
    for (output, there) in out_place.iter().chain(&dead_letters) {
        if let Some((input, read)) = &input
            && read.is_same(there)
        {
            return Err(DriveError::SameFile { input: input.clone(), output: output.clone() });
        }
    }
    match (out_place, dead_letters) {
        (Some((out, there)), Some((dead_letters, other))) if there.is_same(&other) => {
            Err(DriveError::SameOutput { out, dead_letters })
        }
        (_, _) => Ok(()),
    }
}

/// What tells a file from others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A plain file: its device and inode.
    File(u64, u64),
    /// A file that is not there yet: its path without links.
    New(PathBuf),
    /// A terminal, a pipe, a device: several may write to it.
    Other,
}

impl Place {
    fn of(metadata: &Metadata) -> Self {
        if metadata.is_file() { Self::File(metadata.dev(), metadata.ino()) } else { Self::Other }
    }

    fn is_same(&self, other: &Self) -> bool {
        *self != Self::Other && self == other
    }
}

/// The most links that lead from one to the next, as in Linux.
const LINKS: usize = 40;

/// Where a file is that can be written or made.
fn writable(path: &Path) -> io::Result<Place> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) => {
            // Others than plain files may wait for a reader when they are opened.
            if metadata.is_file() {
                OpenOptions::new().write(true).open(path)?;
            }
            Ok(Place::of(&metadata))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_file(path.to_owned()).map(Place::New),
        Err(error) => Err(error),
    }
}

/// The path of a file that is not there, without links: a link without its file has it made at its other end.
fn new_file(mut path: PathBuf) -> io::Result<PathBuf> {
    for _ in 0..LINKS {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize()?;
        if !folder.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            Err(_) => return Ok(folder.join(path.file_name().unwrap_or(OsStr::new("")))),
        }
    }
    Err(io::Error::other("too many links"))
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
                let (user_metadata, user_metadata_base64) = user_metadata(message);
                let line = Line {
                    id,
                    keys: message.keys().iter().map(|key| &**key).collect(),
                    tags: message.tags(),
                    user_metadata,
                    user_metadata_base64,
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn same(input: Option<&Path>, out: &Path, dead_letters: Option<&Path>) -> Option<String> {
        let input = input.map(|path| Lines::File(path.to_owned()));
        let out = Destination::File(out.to_owned());
        check(input.as_ref(), Some(&out), dead_letters).err().map(|error| error.to_string())
    }

    #[test]
    fn one_file_is_found_by_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("there"), "").unwrap();
        fs::hard_link(path("there"), path("hard")).unwrap();
        symlink("there", path("soft")).unwrap();
        symlink("new", path("dangling")).unwrap();
        fs::create_dir(path("sub")).unwrap();
        let across = path("sub").join("..");
        for (one, other) in [
            (path("there"), path("there")),
            (path("there"), path("hard")),
            (path("soft"), path("hard")),
            (path("there"), across.join("there")),
            (path("new"), path("new")),
            (path("new"), across.join("new")),
            (path("dangling"), path("new")),
            (path("new"), path("dangling")),
        ] {
            let problem = same(None, &one, Some(&other));
            assert!(problem.is_some_and(|text| text.contains("the same file")), "{one:?} {other:?}");
        }
        let problem = same(Some(&path("hard")), &path("soft"), None).unwrap();
        assert!(problem.contains("the same file as the input"), "{problem}");
        let problem = same(Some(&path("there")), &path("new"), Some(&path("soft"))).unwrap();
        assert!(problem.contains("the same file as the input"), "{problem}");
        assert_eq!(same(Some(&path("there")), &path("new"), Some(&path("other"))), None);
        assert_eq!(same(None, Path::new("/dev/null"), Some(Path::new("/dev/null"))), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "nothing was made");
    }

    #[tokio::test]
    async fn a_line_of_json_has_the_reason_of_a_dead_letter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut metadata = numaflow_sdk::UserMetadata::default();
        metadata.insert("failure", "reason", "no such city");
        metadata.insert("failure", "raw", &b"\xff"[..]);
        let message = Message::new("v").with_tags(["dead-letter"]).with_user_metadata(metadata);
        let mut writer = Writer::create(&path).await.unwrap();
        writer.output(Format::Json, "id-1", &message).await.unwrap();
        writer.output(Format::Json, "id-2", &Message::new(&b"\xff"[..])).await.unwrap();
        writer.flush().await.unwrap();
        let expected = concat!(
            r#"{"id":"id-1","keys":[],"tags":["dead-letter"],"user_metadata":{"failure":{"reason":"no such city"}},"#,
            r#""user_metadata_base64":{"failure":{"raw":"/w=="}},"value":"v"}"#,
            "\n",
            r#"{"id":"id-2","keys":[],"tags":[],"value_base64":"/w=="}"#,
            "\n",
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}
