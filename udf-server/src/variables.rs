//! `UDF_` variables that no command knows: mostly misspelt settings.

use clap::{Args, Command};
use numaflow_sdk::{Environment, Settings};

#[cfg(feature = "kafka")]
use crate::kafka::KafkaArgs;
use crate::serve::ServerArgs;

/// A sentence about each `UDF_` variable that is not a setting of any command. A setting of another command is none of
/// them: containers of one pod may share their variables.
pub(crate) fn unknown(environment: &dyn Environment) -> Vec<String> {
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Settings::unknown_variables(environment, &names)
}

/// The settings that are not the library's: those with a flag among the options that have a variable.
fn names() -> Vec<String> {
    let command = ServerArgs::augment_args(Command::new("settings"));
    #[cfg(feature = "kafka")]
    let command = KafkaArgs::augment_args(command);
    let flags = command.get_arguments().filter_map(|argument| argument.get_long());
    // The file is named by its flag alone.
    flags.filter(|name| *name != "config").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Variables;

    #[test]
    fn settings_of_all_commands_are_known() {
        let names = names();
        assert!(names.iter().any(|name| name == "log-format"), "{names:?}");
        #[cfg(feature = "kafka")]
        for name in ["brokers", "topics", "group", "dead-letter-topic", "connect-timeout"] {
            assert!(names.iter().any(|known| known == name), "{name} is not among {names:?}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_named() {
        let environment = Variables::from([
            ("UDF_LOG_FROMAT", "json"),
            ("UDF_LOG_FORMAT", "json"),
            ("UDF_MAP_MODE", "batch"),
            ("UDF_CONFIG", "kafka.yaml"),
        ]);
        assert_eq!(
            unknown(&environment),
            ["UDF_CONFIG is not a setting", "UDF_LOG_FROMAT is not a setting; did you mean UDF_LOG_FORMAT?"]
        );
    }
}
