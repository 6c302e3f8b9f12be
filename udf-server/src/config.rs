//! Where a setting comes from: a flag beats the environment, which beats the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use numaflow_sdk::{Environment, Settings};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Failure;

/// The three places, asked by the one name that a setting has in all of them. Collects mistakes, so that one run reports
/// them all.
pub struct Layers<'a> {
    environment: &'a dyn Environment,
    file: Option<File>,
    found: BTreeMap<&'static str, Found>,
    problems: Vec<String>,
}

struct File {
    path: PathBuf,
    values: serde_json::Map<String, Value>,
    asked: BTreeSet<&'static str>,
}

/// A setting's text and the place it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The text, as it was given.
    pub text: String,
    /// The place as people know it: `--group`, `UDF_GROUP`, `group in kafka.yaml`.
    pub place: String,
}

impl<'a> Layers<'a> {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is not a YAML mapping.
    pub fn new(environment: &'a dyn Environment, file: Option<&Path>) -> Result<Self, Failure> {
        let file = file.map(File::read).transpose()?;
        Ok(Self { environment, file, found: BTreeMap::new(), problems: Vec::new() })
    }

    /// The text of a setting; `flag` is what the command line says.
    pub fn text(&mut self, name: &'static str, flag: Option<&str>) -> Option<Found> {
        let found = self.look(name, flag)?;
        self.found.insert(name, found.clone());
        Some(found)
    }

    fn look(&mut self, name: &'static str, flag: Option<&str>) -> Option<Found> {
        // Asked for even when a flag wins, so that the key counts as known.
        let in_file = self.file.as_mut().and_then(|file| file.text(name, &mut self.problems));
        if let Some(text) = flag {
            return Some(Found { text: text.to_owned(), place: format!("--{name}") });
        }
        let variable = Settings::variable(name);
        match self.environment.get(&variable) {
            Ok(Some(text)) => return Some(Found { text, place: variable }),
            Ok(None) => {}
            Err(problem) => self.problems.push(format!("{variable} {problem}")),
        }
        in_file
    }

    /// What was found of a setting that has been asked for; `None` where its default holds.
    #[must_use]
    pub fn found(&self, name: &str) -> Option<&Found> {
        self.found.get(name)
    }

    /// The file, where there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// How many mistakes were noted so far.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.problems.len()
    }

    /// A setting parsed by `parse`, whose error completes the sentence that begins with the setting's place.
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
        let Some(found) = self.text(name, flag) else {
            let variable = Settings::variable(name);
            self.problems.push(format!("{name} is not set: give --{name}, {variable} or {name} in the file"));
            return None;
        };
        self.parse(&found, parse)
    }

    fn parse<T>(&mut self, found: &Found, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(&found.text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(format!("{} {problem}", found.place));
                None
            }
        }
    }

    /// A structured value that only the file can hold, such as a map.
    pub fn structured<T: DeserializeOwned>(&mut self, name: &'static str) -> Option<T> {
        let file = self.file.as_mut()?;
        file.asked.insert(name);
        let value = file.values.get(name)?.clone();
        match serde_json::from_value(value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(format!("{name} in {} is not what it should be: {error}", file.path.display()));
                None
            }
        }
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
            for key in file.values.keys().filter(|key| !file.asked.contains(key.as_str())) {
                self.problems.push(format!("{key} in {} is not a setting of this command", file.path.display()));
            }
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

impl File {
    fn read(path: &Path) -> Result<Self, Failure> {
        let unusable = |problem: String| Failure::configuration(format!("the file {} {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
        let value: Value = if text.trim().is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            // Only `true` and `false`: a topic may well be called `y` or `on`.
            let options = serde_saphyr::options! { strict_booleans: true };
            serde_saphyr::from_str_with_options(&text, options)
                .map_err(|error| unusable(format!("is not YAML: {error}")))?
        };
        match value {
            Value::Object(values) => Ok(Self { path: path.to_owned(), values, asked: BTreeSet::new() }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(unusable("is not a YAML mapping of settings".to_owned()))
            }
        }
    }

    fn text(&mut self, name: &'static str, problems: &mut Vec<String>) -> Option<Found> {
        self.asked.insert(name);
        let place = format!("{name} in {}", self.path.display());
        let text = match self.values.get(name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            // A list is the comma-separated text of its elements.
            Value::Array(elements) if elements.iter().all(Value::is_string) => {
                elements.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            Value::Null | Value::Array(_) | Value::Object(_) => {
                problems.push(format!("{place} is not a text, a number or a list of texts"));
                return None;
            }
        };
        Some(Found { text, place })
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
        for name in Settings::NAMES {
            let mut settings = Settings::default();
            layers.parsed(name, None, |text| settings.set(name, text));
        }
        let text = layers.finish().unwrap_err().to_string();
        assert!(text.contains("UDF_DRAIN_TIMEOUT is \"25\""), "{text}");
        assert!(text.contains("max-in-flight in "), "{text}");
        assert!(text.contains("grop in "), "{text}");
    }

    #[test]
    fn a_file_that_is_no_mapping_is_refused() {
        let file = file("- a\n- b\n");
        let error = Layers::new(&Variables::default(), Some(file.path())).unwrap_err();
        assert!(error.to_string().contains("is not a YAML mapping"), "{error}");
    }
}
