//! A settings file: read whole, within a bound, and asked by the names of settings.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::File as SystemFile;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use numaflow_sdk::Settings;

use super::yaml::{self, Entry, Node, Value};
use crate::error::Failure;

/// The most bytes of a settings file, and of the file of one property: far more than any has, and little enough that a
/// device which never ends, such as `/dev/zero`, is refused at once.
const MOST: u64 = 1 << 20;

/// A settings file.
pub(super) struct File {
    path: PathBuf,
    entries: Vec<Entry>,
    asked: BTreeSet<&'static str>,
}

/// A text in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The text, as it stands in the file.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let unusable = |problem: String| Failure::configuration(format!("the file {} {problem}", path.display()));
        let text = read_text(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
        let entries = yaml::mapping(&text).map_err(|problem| {
            unusable(format!("cannot be used: line {}, column {}: {}", problem.line, problem.column, problem.rule))
        })?;
        Ok(Self { path: path.to_owned(), entries, asked: BTreeSet::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A line of the file, for people.
    pub(super) fn place(&self, line: usize) -> String {
        format!("{}, line {line}", self.path.display())
    }

    /// Where a mistake is; a colon and the rule follow.
    pub(super) fn at(&self, name: &str, line: usize) -> String {
        format!("{name} in {}", self.place(line))
    }

    /// What the file says of a setting.
    fn node(&mut self, name: &'static str) -> Option<&Node> {
        self.asked.insert(name);
        self.entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
    }

    /// The texts of a setting: one, or those of a list.
    pub(super) fn texts(&mut self, name: &'static str, problems: &mut Vec<String>) -> Option<Texts> {
        let node = self.node(name)?.clone();
        let texts = match node.value {
            Value::Text(text) => Some(Texts::One(Given { text, line: node.line })),
            Value::List(nodes) => nodes.into_iter().map(given).collect::<Option<Vec<_>>>().map(Texts::List),
            Value::Null | Value::Mapping(_) => None,
        };
        if texts.is_none() {
            problems.push(format!("{}: not a text, a number or a list of texts", self.at(name, node.line)));
        }
        texts
    }

    /// The entries of a setting that is a mapping of texts, and the lines of those that are no texts.
    pub(super) fn mapping(&mut self, name: &'static str, problems: &mut Vec<String>) -> Vec<(String, Given)> {
        self.each(name, "a text, a number or true or false", problems, |node| given(node.clone()))
    }

    /// As [`File::mapping`], where each value is a list of texts.
    pub(super) fn lists(&mut self, name: &'static str, problems: &mut Vec<String>) -> Vec<(String, Vec<String>)> {
        self.each(name, "a list of texts", problems, |node| match &node.value {
            Value::List(nodes) => {
                nodes.iter().map(|node| given(node.clone()).map(|given| given.text)).collect::<Option<Vec<_>>>()
            }
            Value::Null | Value::Text(_) | Value::Mapping(_) => None,
        })
    }

    fn each<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        problems: &mut Vec<String>,
        convert: impl Fn(&Node) -> Option<T>,
    ) -> Vec<(String, T)> {
        let Some(Node { line, value }) = self.node(name).cloned() else { return Vec::new() };
        let Value::Mapping(entries) = value else {
            problems.push(format!("{}: not a mapping", self.at(name, line)));
            return Vec::new();
        };
        let mut found = Vec::with_capacity(entries.len());
        for Entry { key, line, node } in entries {
            match convert(&node) {
                Some(value) => found.push((key, value)),
                None => problems.push(format!("{}: the value is not {wanted}", self.at(name, line))),
            }
        }
        found
    }

    /// Names the keys that nobody asked for: by their lines, as a key may be a piece of a value in the wrong place.
    pub(super) fn unknown(&self) -> Vec<String> {
        let unknown = self.entries.iter().filter(|entry| !self.asked.contains(entry.key.as_str()));
        let others = Settings::NAMES.into_iter().chain(Settings::MAP_NAMES);
        let problem = |entry: &Entry| {
            if let Some(name) = others.clone().find(|name| *name == entry.key) {
                return format!("{}: is not a setting of this command, but of others", self.at(name, entry.line));
            }
            let nearest = nearest(&entry.key, self.asked.iter().copied());
            let advice = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            format!("{}: the key is not a setting of this command{advice}", self.place(entry.line))
        };
        unknown.map(problem).collect()
    }
}

/// The texts of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Texts {
    One(Given),
    List(Vec<Given>),
}

fn given(node: Node) -> Option<Given> {
    match node.value {
        Value::Text(text) => Some(Given { text, line: node.line }),
        Value::Null | Value::List(_) | Value::Mapping(_) => None,
    }
}

/// The name that is at most two typing errors away.
fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No name is longer, and a key may be any text.
    if text.len() > 40 {
        return None;
    }
    let far = names.map(|name| (distance(text, name), name)).min()?;
    (far.0 <= 2 && far.0 < far.1.len() / 2).then_some(far.1)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, to) in right.bytes().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// Reads a small file, which may be a pipe, whole.
///
/// # Errors
///
/// One that is too large; what the system says. Neither quotes the file.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    SystemFile::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::other(format!("it is larger than {} KiB, which no settings are", MOST >> 10)));
    }
    let not_text = |error: &dyn Display| io::Error::other(format!("it is not UTF-8: {error}"));
    String::from_utf8(bytes).map_err(|error| not_text(&error.utf8_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused() {
        let error = read_text(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1024 KiB, which no settings are");
        assert_eq!(read_text(Path::new("/dev/null")).unwrap(), "");
    }

    #[test]
    fn the_largest_file_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let most = usize::try_from(MOST).unwrap();
        std::fs::write(file.path(), "#".repeat(most)).unwrap();
        assert_eq!(read_text(file.path()).unwrap().len(), most);
        std::fs::write(file.path(), "#".repeat(most + 1)).unwrap();
        assert!(read_text(file.path()).is_err());
    }

    #[test]
    fn a_name_that_is_nearly_right_is_found() {
        let names = ["group", "topics", "start", "on-damaged"];
        let nearest = |text| nearest(text, names.into_iter());
        assert_eq!(nearest("grop"), Some("group"));
        assert_eq!(nearest("on_damaged"), Some("on-damaged"));
        assert_eq!(nearest("topic"), Some("topics"));
        assert_eq!(nearest("hunter2"), None);
        assert_eq!(nearest(""), None);
    }
}
