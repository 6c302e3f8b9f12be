//! What a driver writes down, line by line, and how it is read again.
//!
//! An ack is written before it is sent, so what the group commits can never be ahead of what the journal says, however the
//! driver ends. Each driver process has a file of its own: a line that was cut off is the last one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::clock::{self, Micros};

/// Where a record is: its partition and its offset.
pub(super) type Place = (i32, i64);

/// What a driver did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// It took a record with this number, which it did not have in flight.
    Took { number: u64 },
    /// It was given a record with this number, and has another one in flight at that place: it takes it for that one.
    Mistook { number: u64 },
    /// It is about to ack the record, for the first time.
    Acks,
    /// The ack was answered.
    Acked,
    /// It was told that the record is nacked.
    Nacked,
    /// It forgot the record, with neither an ack nor a nack.
    LetGo,
    /// It broke a stream; the place says nothing.
    Broke,
    /// It connected; the place says nothing.
    Connected,
}

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// Whose it is: the place of the journal among those of its folder.
    pub(super) driver: usize,
    pub(super) at: Micros,
    pub(super) place: Place,
    pub(super) deed: Deed,
}

impl Line {
    fn write(&self, text: &mut Vec<u8>) -> io::Result<()> {
        let (letter, number) = match self.deed {
            Deed::Took { number } => ('T', number),
            Deed::Mistook { number } => ('M', number),
            Deed::Acks => ('A', 0),
            Deed::Acked => ('D', 0),
            Deed::Nacked => ('N', 0),
            Deed::LetGo => ('L', 0),
            Deed::Broke => ('B', 0),
            Deed::Connected => ('C', 0),
        };
        writeln!(text, "{letter} {} {} {} {number}", self.at, self.place.0, self.place.1)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let letter = parts.next()?;
        let at = parts.next()?.parse().ok()?;
        let place = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let number = parts.next()?.parse().ok()?;
        let deed = match letter {
            "T" => Deed::Took { number },
            "M" => Deed::Mistook { number },
            "A" => Deed::Acks,
            "D" => Deed::Acked,
            "N" => Deed::Nacked,
            "L" => Deed::LetGo,
            "B" => Deed::Broke,
            "C" => Deed::Connected,
            _ => return None,
        };
        Some(Self { driver: 0, at, place, deed })
    }
}

/// A driver's side of its journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    lines: Vec<u8>,
}

impl Journal {
    /// A journal that nobody has written yet.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create_new(path)?, lines: Vec::new() })
    }

    /// Adds a line, which is not written yet.
    pub(super) fn note(&mut self, place: Place, deed: Deed) -> io::Result<()> {
        Line { driver: 0, at: clock::now(), place, deed }.write(&mut self.lines)
    }

    /// Writes what was added. From here on it outlives this process.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            self.file.write_all(&self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }
}

/// The journals of a folder and how long each is, in a fixed order.
pub(super) type Extent = Vec<(PathBuf, usize)>;

/// How much of the journals of a folder is written.
pub(super) fn extent(folder: &Path) -> io::Result<Extent> {
    let mut extent = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            let length = usize::try_from(path.metadata()?.len()).unwrap_or(usize::MAX);
            extent.push((path, length));
        }
    }
    extent.sort();
    Ok(extent)
}

/// All lines of the journals of a folder, in the order of time.
pub(super) fn read_all(folder: &Path) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (driver, (path, length)) in extent(folder)?.into_iter().enumerate() {
        lines.extend(Reading::open(&path)?.lines_to(length).map(|line| Line { driver, ..line }));
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// One journal, read from its beginning on.
#[derive(Debug)]
pub(super) struct Reading {
    text: String,
    at: usize,
}

impl Reading {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { text: fs::read_to_string(path)?, at: 0 })
    }

    /// The lines not read yet that were complete when the journal was `length` long.
    pub(super) fn lines_to(&mut self, length: usize) -> impl Iterator<Item = Line> {
        let length = length.min(self.text.len()).max(self.at);
        let part = &self.text[self.at..length];
        let complete = part.rfind('\n').map_or(0, |end| end + 1);
        self.at += complete;
        part[..complete].lines().filter_map(Line::read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_up_to_the_last_complete_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.journal");
        let mut journal = Journal::create(&path).unwrap();
        journal.note((3, 17), Deed::Took { number: 99 }).unwrap();
        journal.write().unwrap();
        let first = extent(folder.path()).unwrap()[0].1;
        journal.note((3, 17), Deed::Acks).unwrap();
        journal.write().unwrap();
        let second = extent(folder.path()).unwrap()[0].1;

        let mut reading = Reading::open(&path).unwrap();
        let deeds = |lines: Vec<Line>| lines.iter().map(|line| (line.place, line.deed)).collect::<Vec<_>>();
        assert_eq!(deeds(reading.lines_to(first - 1).collect()), []);
        assert_eq!(deeds(reading.lines_to(first).collect()), [((3, 17), Deed::Took { number: 99 })]);
        assert_eq!(deeds(reading.lines_to(second - 1).collect()), []);
        assert_eq!(deeds(reading.lines_to(second).collect()), [((3, 17), Deed::Acks)]);
    }
}
