//! Where a setting comes from: a flag beats the environment, which beats the file.
//!
//! A value of the file is never quoted in a mistake: it may be a secret, or have swallowed one.

mod file;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use numaflow_sdk::{Environment, Settings};

use crate::error::Failure;
use file::{File, Texts};

pub use file::Given;
#[cfg(feature = "kafka")]
pub(crate) use file::read_text;

/// The three places, asked by the one name that a setting has in all of them. Collects mistakes, so that one run reports
/// them all.
pub struct Layers<'a> {
    environment: &'a dyn Environment,
    file: Option<File>,
    found: BTreeMap<&'static str, Found>,
    problems: Vec<String>,
}

/// A setting's text and the place it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The text, as it was given.
    pub text: String,
    /// The place as people know it: `--group`, `UDF_GROUP`, `group in kafka.yaml`.
    pub place: String,
    /// The line of the file, from 1; `None` where the text comes from elsewhere.
    pub line: Option<usize>,
}

impl Found {
    /// What is wrong with the text, from what a parser says of it: `is "VALUE"; RULE`. Of a value from the file only the
    /// rule is told.
    fn mistake(&self, problem: &str) -> String {
        let Self { text, place, line } = self;
        let Some(line) = line else {
            return format!("{place} {problem}");
        };
        let quoted = format!("is {text:?}; ");
        match problem.strip_prefix(&quoted) {
            Some(rule) => format!("{place}, line {line}: {rule}"),
            // There is nothing to quote.
            None if text.trim().is_empty() => format!("{place}, line {line}: {problem}"),
            None => format!("{place}, line {line}: not a value that this setting takes; --help tells which it does"),
        }
    }
}

impl<'a> Layers<'a> {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is larger than 1 MiB, or is not a YAML mapping.
    pub fn new(environment: &'a dyn Environment, file: Option<&Path>) -> Result<Self, Failure> {
        let file = file.map(File::read).transpose()?;
        Ok(Self { environment, file, found: BTreeMap::new(), problems: Vec::new() })
    }

    /// The text of a setting; `flag` is what the command line says. A list of the file is the text of its elements with
    /// commas between.
    pub fn text(&mut self, name: &'static str, flag: Option<&str>) -> Option<Found> {
        self.look(name, flag).map(|(found, _)| found)
    }

    /// The text of a setting, and each text of a list in the file.
    fn look(&mut self, name: &'static str, flag: Option<&str>) -> Option<(Found, Option<Vec<Given>>)> {
        // Asked for even when a flag wins, so that the key counts as known.
        let in_file = self.file.as_mut().and_then(|file| file.texts(name, &mut self.problems));
        let looked = if let Some(text) = flag {
            Some((Found { text: text.to_owned(), place: format!("--{name}"), line: None }, None))
        } else if let Some(found) = self.variable(name) {
            Some((found, None))
        } else {
            in_file.and_then(|texts| self.of_file(name, texts))
        };
        if let Some((found, _)) = &looked {
            self.found.insert(name, found.clone());
        }
        looked
    }

    fn variable(&mut self, name: &str) -> Option<Found> {
        let variable = Settings::variable(name);
        match self.environment.get(&variable) {
            Ok(text) => text.map(|text| Found { text, place: variable, line: None }),
            Err(problem) => {
                self.problems.push(format!("{variable} {problem}"));
                None
            }
        }
    }

    fn of_file(&mut self, name: &str, texts: Texts) -> Option<(Found, Option<Vec<Given>>)> {
        let file = self.file.as_ref()?;
        let place = format!("{name} in {}", file.path().display());
        let (text, line, list) = match texts {
            Texts::One(Given { text, line }) => (text, line, None),
            Texts::List(list) => {
                let text = list.iter().map(|given| given.text.as_str()).collect::<Vec<_>>().join(",");
                (text, list.first()?.line, Some(list))
            }
        };
        if text.contains(['\n', '\r']) {
            self.problems.push(format!("{place}, line {line}: the value has several lines"));
            return None;
        }
        Some((Found { text, place, line: Some(line) }, list))
    }

    /// What was found of a setting that has been asked for; `None` where its default holds.
    #[must_use]
    pub fn found(&self, name: &str) -> Option<&Found> {
        self.found.get(name)
    }

    /// The file, where there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(File::path)
    }

    /// How many mistakes were noted so far.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.problems.len()
    }

    /// A setting parsed by `parse`, whose error completes the sentence that begins with the setting's place: `is "VALUE";`,
    /// with the value in Rust's quotes, and then the rule, without the value.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        flag: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.text(name, flag)?;
        self.parse(&found, parse)
    }

    /// As [`Layers::parsed`], for a setting without a default: not to set it is a mistake.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        flag: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.text(name, flag).or_else(|| self.missing(name))?;
        self.parse(&found, parse)
    }

    /// A setting that is a list: texts with commas between, or a list of the file, whose texts keep their commas. `parse` is
    /// told each text, without the spaces around it. `None` where the setting is not given, or a mistake was noted.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        flag: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let (found, list) = self.look(name, flag)?;
        let elements = list.unwrap_or_else(|| {
            let line = found.line.unwrap_or_default();
            found.text.split(',').map(|text| Given { text: text.to_owned(), line }).collect()
        });
        let mut parsed = Vec::with_capacity(elements.len());
        let mut seen: Vec<String> = Vec::with_capacity(elements.len());
        let several = elements.len() > 1;
        for (index, Given { text, line }) in elements.into_iter().enumerate() {
            let text = text.trim().to_owned();
            let line = found.line.map(|_| line);
            let place = match (several, line) {
                (false, _) => found.place.clone(),
                (true, Some(_)) => format!("{}, item {}", found.place, index + 1),
                (true, None) => format!("{}, item {},", found.place, index + 1),
            };
            let element = Found { text, place, line };
            if seen.contains(&element.text) {
                let problem = format!("is {:?}; give each item of the list once", element.text);
                self.problems.push(element.mistake(&problem));
                continue;
            }
            parsed.push(self.parse(&element, &parse));
            seen.push(element.text);
        }
        parsed.into_iter().collect()
    }

    /// As [`Layers::list`], for a setting without a default: not to set it is a mistake.
    pub fn required_list<T>(
        &mut self,
        name: &'static str,
        flag: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let before = self.problems();
        let list = self.list(name, flag, parse);
        if list.is_none() && self.problems() == before {
            self.missing(name);
        }
        list
    }

    /// Notes that a setting is not given.
    fn missing(&mut self, name: &'static str) -> Option<Found> {
        let variable = Settings::variable(name);
        self.problems.push(format!("{name} is not set: give --{name}, {variable} or {name} in the file"));
        None
    }

    fn parse<T>(&mut self, found: &Found, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        parse(&found.text).map_err(|problem| self.problems.push(found.mistake(&problem))).ok()
    }

    /// A mapping of texts, which only the file can hold, in the order of the file.
    pub fn mapping(&mut self, name: &'static str) -> Vec<(String, Given)> {
        self.file.as_mut().map(|file| file.mapping(name, &mut self.problems)).unwrap_or_default()
    }

    /// A mapping of lists of texts, which only the file can hold.
    pub fn lists(&mut self, name: &'static str) -> BTreeMap<String, Vec<String>> {
        self.file.as_mut().map(|file| file.lists(name, &mut self.problems)).unwrap_or_default().into_iter().collect()
    }

    /// Notes a mistake in a line of the file, in a setting that only the file can hold.
    pub fn problem_at(&mut self, name: &str, line: usize, rule: &str) {
        let place = self.file.as_ref().map(|file| file.at(name, line)).unwrap_or_default();
        self.problems.push(format!("{place}: {rule}"));
    }

    /// What the platform tells its containers.
    pub fn platform(&mut self) -> Settings {
        Settings::from_platform(self.environment).unwrap_or_else(|error| {
            self.problems.push(error.to_string());
            Settings::default()
        })
    }

    /// Notes a mistake.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Ends the collecting.
    ///
    /// # Errors
    ///
    /// Every mistake found, and every key of the file that nobody asked for.
    pub fn finish(mut self) -> Result<(), Failure> {
        if let Some(file) = &self.file {
            self.problems.extend(file.unknown());
        }
        if self.problems.is_empty() { Ok(()) } else { Err(Failure::Configuration(self.problems)) }
    }
}

impl fmt::Debug for Layers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The file's values may be secrets.
        f.debug_struct("Layers").field("problems", &self.problems).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;
    use std::io::Write;

    use super::*;

    /// An environment that holds just these variables.
    #[derive(Debug, Default)]
    pub(crate) struct Variables(HashMap<&'static str, &'static str>);

    impl<const N: usize> From<[(&'static str, &'static str); N]> for Variables {
        fn from(variables: [(&'static str, &'static str); N]) -> Self {
            Self(variables.into())
        }
    }

    impl Environment for Variables {
        fn get(&self, name: &str) -> Result<Option<String>, String> {
            Ok(self.0.get(name).map(|value| (*value).to_owned()))
        }

        fn names(&self) -> Vec<String> {
            self.0.keys().map(|name| (*name).to_owned()).collect()
        }
    }

    /// A file with this text, which goes with the handle.
    pub(crate) fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file() {
        let file = file("group: from-file\ntopics: [a, b]\nlinger: 2\n");
        let environment = Variables::from([("UDF_GROUP", "from-environment")]);
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        assert_eq!(layers.text("group", Some("from-flag")).unwrap().place, "--group");
        assert_eq!(layers.text("group", None).unwrap().text, "from-environment");
        assert_eq!(layers.text("topics", None).unwrap().text, "a,b");
        assert_eq!(layers.text("linger", None).unwrap().text, "2");
        assert_eq!(layers.text("brokers", None), None);
        layers.finish().unwrap();
    }

    #[test]
    fn one_run_reports_every_mistake() {
        let file = file("grop: x\nmax-in-flight: none\n");
        let environment = Variables::from([("UDF_DRAIN_TIMEOUT", "25")]);
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        layers.text("group", None);
        for name in Settings::NAMES {
            let mut settings = Settings::default();
            layers.parsed(name, None, |text| settings.set(name, text));
        }
        let text = layers.finish().unwrap_err().to_string();
        assert!(text.contains("UDF_DRAIN_TIMEOUT is \"25\""), "{text}");
        assert!(text.contains("line 2: give a whole number"), "{text}");
        assert!(text.contains("line 1: the key is not a setting of this command; did you mean group?"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_mapping_is_refused() {
        let file = file("- a\n- b\n");
        let error = Layers::new(&Variables::default(), Some(file.path())).unwrap_err();
        assert!(error.to_string().contains("is not a YAML mapping"), "{error}");
    }

    #[test]
    fn a_value_of_the_file_is_not_quoted() {
        let file = file("linger: hunter2\ntopics: [a, hunter2]\ngroup: |\n  hunter2\n  x\nstart: {hunter2: x}\n");
        let environment = Variables::default();
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        layers.parsed("linger", None, numaflow_sdk::parse_duration);
        layers.list("topics", None, |text| if text == "a" { Ok(()) } else { Err(format!("has {text:?} in it")) });
        layers.text("group", None);
        layers.text("start", None);
        let name = file.path().display();
        let error = layers.finish().unwrap_err().to_string();
        for expected in [
            format!("linger in {name}, line 1: give a time with its unit, such as 500ms, 25s or 2m"),
            format!(
                "topics in {name}, item 2, line 2: not a value that this setting takes; --help tells which it does"
            ),
            "the value has several lines".to_owned(),
            format!("start in {name}, line 6: not a text, a number or a list of texts"),
        ] {
            assert!(error.contains(&expected), "{error}");
        }
        assert!(!error.contains("hunter2") && error.lines().count() == 4, "{error}");
    }

    #[test]
    fn items_of_a_list_keep_their_commas() {
        let file = file("topics: [a, '^a{1,2}$']\n");
        let environment = Variables::default();
        let mut layers = Layers::new(&environment, Some(file.path())).unwrap();
        let text = |text: &str| Ok(text.to_owned());
        assert_eq!(layers.list("topics", None, text).unwrap(), ["a", "^a{1,2}$"]);
        assert_eq!(layers.list("topics", Some("a, b"), text).unwrap(), ["a", "b"]);
        assert_eq!(layers.list("topics", Some("a,b,a"), text), Some(vec!["a".to_owned(), "b".to_owned()]));
        let error = layers.finish().unwrap_err().to_string();
        assert_eq!(error, "error: --topics, item 3, is \"a\"; give each item of the list once");
    }
}
