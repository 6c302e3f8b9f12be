//! `NUMAFLOW_RUNTIME`: which implementation of the Kafka source runs.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use numaflow_sdk::Environment;

use crate::error::Failure;

/// The variable that chooses.
pub const VARIABLE: &str = "NUMAFLOW_RUNTIME";
/// The name of the implementation in this program.
const OURS: &str = "rust";

/// An implementation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runtime {
    /// The one in this program.
    Rust,
    /// Another program, which takes this one's place: it serves the same socket and info file.
    External(Vec<String>),
}

impl Runtime {
    /// Chooses: unset or `rust` is this program; any other name is looked up in `runtimes`, the commands configured by
    /// name.
    ///
    /// # Errors
    ///
    /// A name that is neither, with those that are known; a command without a word.
    pub fn choose(environment: &dyn Environment, runtimes: &BTreeMap<String, Vec<String>>) -> Result<Self, Failure> {
        let name =
            environment.get(VARIABLE).map_err(|problem| Failure::configuration(format!("{VARIABLE} {problem}")))?;
        match name.as_deref() {
            None | Some("" | OURS) => Ok(Self::Rust),
            Some(name) => match runtimes.get(name) {
                Some(command) if !command.is_empty() => Ok(Self::External(command.clone())),
                Some(_) => Err(Failure::configuration(format!("runtimes.{name} is empty: give a command as a list"))),
                None => {
                    let mut known = vec![OURS];
                    known.extend(runtimes.keys().map(String::as_str));
                    Err(Failure::configuration(format!(
                        "{VARIABLE} is {name:?}, which is not a known runtime (known: {}); configure its command as \
                         runtimes.{name} in the file given by --config",
                        known.join(", ")
                    )))
                }
            },
        }
    }
}

/// Replaces this process by a command. Returns only when that fails.
#[must_use]
pub fn exec(command: &[String]) -> Failure {
    let Some((program, arguments)) = command.split_first() else {
        return Failure::configuration("the runtime's command is empty");
    };
    let error = Command::new(program).args(arguments).exec();
    // The command may come from a file with secrets, and the system's reason quotes none of it.
    Failure::configuration(format!("the program of the runtime that {VARIABLE} names cannot be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Variable(Option<&'static str>);

    impl Environment for Variable {
        fn get(&self, _name: &str) -> Result<Option<String>, String> {
            Ok(self.0.map(str::to_owned))
        }
    }

    fn runtimes() -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([("java".to_owned(), vec!["java".to_owned(), "-jar".to_owned()])])
    }

    #[test]
    fn ours_is_the_default() {
        for name in [None, Some(""), Some("rust")] {
            assert_eq!(Runtime::choose(&Variable(name), &runtimes()).unwrap(), Runtime::Rust);
        }
    }

    #[test]
    fn a_configured_name_is_another_program() {
        let chosen = Runtime::choose(&Variable(Some("java")), &runtimes()).unwrap();
        assert_eq!(chosen, Runtime::External(vec!["java".to_owned(), "-jar".to_owned()]));
    }

    #[test]
    fn an_unknown_name_lists_those_known() {
        let error = Runtime::choose(&Variable(Some("go")), &runtimes()).unwrap_err().to_string();
        assert!(error.contains("\"go\"") && error.contains("known: rust, java"), "{error}");
    }
}
