//! What can be set on a server from outside the program: one list of names for flags, environment and files.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::map::{Execution, FailurePolicy};
use crate::{MapMode, MaxInFlight, ServeError};

/// Where values of environment variables come from: the process, or a test.
pub trait Environment {
    /// The value of a variable; `None` when it is not set.
    ///
    /// # Errors
    ///
    /// What is wrong with a value that is not UTF-8.
    fn get(&self, name: &str) -> Result<Option<String>, String>;

    /// The names of all variables that are set, as far as they are UTF-8. Nothing by default, and then no variable is found
    /// to be unknown.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Result<Option<String>, String> {
        match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err("is not UTF-8".to_owned()),
        }
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

/// The options of a server that are set from outside the program; what is `None` keeps its default.
///
/// An option has one name: `max-in-flight` is `UDF_MAX_IN_FLIGHT` in the environment, which is where [`run`](crate::run)
/// looks, and `--max-in-flight` as a flag or `max-in-flight` in a file of a program that has these, such as `udf-server`. The
/// last two come from the platform and have only its variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// `socket`: see [`Server::socket_path`](crate::Server::socket_path).
    pub socket_path: Option<PathBuf>,
    /// `server-info`: see [`Server::server_info_path`](crate::Server::server_info_path).
    pub server_info_path: Option<PathBuf>,
    /// `socket-mode`, octal: see [`Server::socket_mode`](crate::Server::socket_mode).
    pub socket_mode: Option<u32>,
    /// `max-in-flight`, a number or a range (`64..4096`): see [`Server::max_in_flight`](crate::Server::max_in_flight).
    pub max_in_flight: Option<MaxInFlight>,
    /// `max-in-flight-bytes`, with an optional suffix (`64MiB`): see
    /// [`Server::max_in_flight_bytes`](crate::Server::max_in_flight_bytes).
    pub max_in_flight_bytes: Option<usize>,
    /// `drain-timeout`, with a unit (`25s`): see [`Server::drain_timeout`](crate::Server::drain_timeout).
    pub drain_timeout: Option<Duration>,
    /// `slow-after`, with a unit (`30s`): see [`Server::slow_after`](crate::Server::slow_after).
    pub slow_after: Option<Duration>,
    /// `admin`, a port (of the loopback interface) or an address with its port: see
    /// [`Server::admin`](crate::Server::admin).
    pub admin: Option<SocketAddr>,
    /// `map-mode` (`unary`, `batch` or `stream`): see [`MapService::mode`](crate::map::MapService::mode).
    pub map_mode: Option<MapMode>,
    /// `on-failure`: see [`MapService::on_failure`](crate::map::MapService::on_failure).
    pub on_failure: Option<FailurePolicy>,
    /// `attempts`: see [`MapService::retry`](crate::map::MapService::retry).
    pub attempts: Option<u32>,
    /// `execution`: see [`MapService::execution`](crate::map::MapService::execution).
    pub execution: Option<Execution>,
    /// `max-batch-bytes`, with an optional suffix: see
    /// [`MapService::max_batch_bytes`](crate::map::MapService::max_batch_bytes).
    pub max_batch_bytes: Option<usize>,
    /// `NUMAFLOW_UD_CONTAINER_TYPE`: see [`Server::container_type`](crate::Server::container_type).
    pub container_type: Option<String>,
    /// `NUMAFLOW_REPLICA`: see [`Server::replica`](crate::Server::replica).
    pub replica: Option<u16>,
}

impl Settings {
    /// The names of the options that all servers have, as flags and files spell them.
    pub const NAMES: [&'static str; 8] = [
        "socket",
        "server-info",
        "socket-mode",
        "max-in-flight",
        "max-in-flight-bytes",
        "drain-timeout",
        "slow-after",
        "admin",
    ];

    /// The names of the options that only maps have.
    pub const MAP_NAMES: [&'static str; 5] = ["map-mode", "on-failure", "attempts", "execution", "max-batch-bytes"];

    /// The environment variable of an option: `UDF_` and its name in capitals.
    #[must_use]
    pub fn variable(name: &str) -> String {
        format!("UDF_{}", name.to_ascii_uppercase().replace('-', "_"))
    }

    /// Sets an option by its name from text.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, or that there is no such option.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        match name {
            "socket" => self.socket_path = Some(parse_path(text)?),
            "server-info" => self.server_info_path = Some(parse_path(text)?),
            "socket-mode" => self.socket_mode = Some(parse_mode(text)?),
            "max-in-flight" => self.max_in_flight = Some(text.parse()?),
            "max-in-flight-bytes" => self.max_in_flight_bytes = Some(parse_size(text)?),
            "drain-timeout" => self.drain_timeout = Some(parse_duration(text)?),
            "slow-after" => self.slow_after = Some(parse_duration(text)?),
            "admin" => self.admin = Some(parse_address(text)?),
            "map-mode" => self.map_mode = Some(text.parse()?),
            "on-failure" => self.on_failure = Some(text.parse()?),
            "attempts" => self.attempts = Some(parse_attempts(text)?),
            "execution" => self.execution = Some(text.parse()?),
            "max-batch-bytes" => self.max_batch_bytes = Some(parse_size(text)?),
            _ => {
                let names: Vec<_> = Self::NAMES.into_iter().chain(Self::MAP_NAMES).collect();
                return Err(format!("is not an option; there are {}", names.join(", ")));
            }
        }
        Ok(())
    }

    /// Reads what the platform tells its containers: the name of the container and the index of the replica.
    ///
    /// # Errors
    ///
    /// [`ServeError::Environment`] where a variable is not UTF-8. A replica that is no number counts as unset, as in
    /// every SDK.
    pub fn from_platform(environment: &(impl Environment + ?Sized)) -> Result<Self, ServeError> {
        let get = |name: &str| {
            let named = |problem| ServeError::Environment { problems: vec![format!("{name} {problem}")] };
            environment.get(name).map_err(named)
        };
        Ok(Self {
            container_type: get("NUMAFLOW_UD_CONTAINER_TYPE")?,
            replica: get("NUMAFLOW_REPLICA")?.and_then(|text| text.parse().ok()),
            ..Self::default()
        })
    }

    /// Reads the `UDF_` variable of every option, and what [`Settings::from_platform`] reads.
    ///
    /// # Errors
    ///
    /// [`ServeError::Environment`] that names every variable whose value cannot be used.
    pub fn from_environment(environment: &(impl Environment + ?Sized)) -> Result<Self, ServeError> {
        let mut settings = Self::from_platform(environment)?;
        let mut problems = Vec::new();
        for name in Self::NAMES.into_iter().chain(Self::MAP_NAMES) {
            let variable = Self::variable(name);
            let result = match environment.get(&variable) {
                Ok(Some(text)) => settings.set(name, &text),
                Ok(None) => Ok(()),
                Err(problem) => Err(problem),
            };
            if let Err(problem) = result {
                problems.push(format!("{variable} {problem}"));
            }
        }
        if problems.is_empty() { Ok(settings) } else { Err(ServeError::Environment { problems }) }
    }

    /// Names each `UDF_` variable that is not the variable of an option, in one sentence with the option whose name is
    /// nearest, if one is near: such a variable has no effect, and is mostly a misspelt one. `others` are the names of the
    /// options that the program has besides these.
    ///
    /// Variables that Kubernetes makes for a service whose name begins with `udf-` are left out.
    #[must_use]
    pub fn unknown_variables(environment: &(impl Environment + ?Sized), others: &[&str]) -> Vec<String> {
        let options = || Self::NAMES.iter().chain(&Self::MAP_NAMES).chain(others).map(|name| Self::variable(name));
        let mut unknown: Vec<String> = environment
            .names()
            .into_iter()
            .filter(|name| {
                name.starts_with("UDF_") && !is_of_kubernetes(name) && options().all(|option| option != *name)
            })
            .collect();
        unknown.sort_unstable();
        unknown
            .into_iter()
            .map(|name| match nearest(&name, options()) {
                Some(option) => format!("{name} is not a setting; did you mean {option}?"),
                None => format!("{name} is not a setting"),
            })
            .collect()
    }

    /// These settings, and those of `lower` where these have none.
    #[must_use]
    pub fn or(self, lower: Self) -> Self {
        Self {
            socket_path: self.socket_path.or(lower.socket_path),
            server_info_path: self.server_info_path.or(lower.server_info_path),
            socket_mode: self.socket_mode.or(lower.socket_mode),
            max_in_flight: self.max_in_flight.or(lower.max_in_flight),
            max_in_flight_bytes: self.max_in_flight_bytes.or(lower.max_in_flight_bytes),
            drain_timeout: self.drain_timeout.or(lower.drain_timeout),
            slow_after: self.slow_after.or(lower.slow_after),
            admin: self.admin.or(lower.admin),
            map_mode: self.map_mode.or(lower.map_mode),
            on_failure: self.on_failure.or(lower.on_failure),
            attempts: self.attempts.or(lower.attempts),
            execution: self.execution.or(lower.execution),
            max_batch_bytes: self.max_batch_bytes.or(lower.max_batch_bytes),
            container_type: self.container_type.or(lower.container_type),
            replica: self.replica.or(lower.replica),
        }
    }
}

/// Whether Kubernetes makes such a variable for a service, for the programs that know services by them.
fn is_of_kubernetes(variable: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| variable.ends_with(end))
        || variable.contains("_SERVICE_PORT_")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
            variable.split_once("_PORT_").is_some_and(|(_, rest)| {
                rest.starts_with(|first: char| first.is_ascii_digit()) && rest.contains(protocol)
            })
        })
}

/// The name that is most like `name`, if one is much like it.
fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    /// Of 1, which is the same: enough for a letter or two that are wrong, missing or too many.
    const LIKE: f64 = 0.75;
    let part = |name: &str| name.trim_start_matches("UDF_").to_owned();
    let wanted = part(name);
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&wanted, &part(&name)), name))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

/// Refuses every command-line argument, as [`run`](crate::run) takes none, and says which variable it stands for.
pub(crate) fn refuse_arguments(arguments: impl Iterator<Item = OsString>) -> Result<(), ServeError> {
    let options = || Settings::NAMES.into_iter().chain(Settings::MAP_NAMES).map(Settings::variable);
    let mut problems = Vec::new();
    let mut is_value = false;
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let flag = argument.strip_prefix("--").filter(|flag| !flag.is_empty());
        // What follows a flag is its value: one sentence for both.
        if flag.is_none() && std::mem::take(&mut is_value) {
            continue;
        }
        let variable = flag.and_then(|flag| {
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            is_value = value.is_none();
            nearest(&Settings::variable(name), options())
        });
        problems.push(match variable {
            Some(variable) => format!("{argument:?}: set the environment variable {variable} instead"),
            None => format!(
                "{argument:?}: the settings are the environment variables {}",
                options().collect::<Vec<_>>().join(", ")
            ),
        });
    }
    if problems.is_empty() { Ok(()) } else { Err(ServeError::Arguments { problems }) }
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty; give a path".to_owned()) } else { Ok(text.into()) }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("is {text:?}; give the permissions in octal, such as 0666")),
    }
}

fn parse_attempts(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(attempts) if attempts > 0 => Ok(attempts),
        _ => Err(format!("is {text:?}; give the tries in all, 1 for no other than the first")),
    }
}

/// A bare port is one of the loopback interface: whoever wants to be reached from outside says so.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").unwrap_or(text).parse::<u16>();
    port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).or_else(|_| text.parse()).map_err(|_| {
        format!("is {text:?}; give a port of this host, such as 9090, or an address and a port, such as 0.0.0.0:9090")
    })
}

/// Parses a number of bytes above zero: `1048576`, `1024KiB`, `1MiB`, `1GiB`.
///
/// # Errors
///
/// What is wrong with the text.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text);
    let unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0_usize,
    };
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("is {text:?}; give a number of bytes, such as 1048576, 512KiB or 64MiB"))
}

/// Parses a time above zero: `500ms`, `25s`, `2m`, `6h`, `7d`.
///
/// # Errors
///
/// What is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0_u64,
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("is {text:?}; give a time with its unit, such as 500ms, 25s or 2m"))
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    impl Environment for HashMap<&str, &str> {
        fn get(&self, name: &str) -> Result<Option<String>, String> {
            Ok(self.get(name).map(|value| (*value).to_owned()))
        }

        fn names(&self) -> Vec<String> {
            self.keys().map(|name| (*name).to_owned()).collect()
        }
    }

    #[test]
    fn an_unknown_variable_is_named_with_the_option_that_is_meant() {
        let environment = HashMap::from([
            ("UDF_MAX_INFLIGHT", "1"),
            ("UDF_MAX_IN_FLIGHT", "1"),
            ("UDF_DEADLETTER_TOPIC", "d"),
            ("UDF_TABLE", "t"),
            ("UDF_CACHE_SERVICE_HOST", "10.0.0.1"),
            ("UDF_CACHE_SERVICE_PORT_HTTP", "80"),
            ("UDF_CACHE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("UDF_CACHE_PORT", "tcp://10.0.0.1:80"),
            ("HOME", "/"),
        ]);
        let unknown = "is not a setting";
        assert_eq!(
            Settings::unknown_variables(&environment, &["dead-letter-topic"]),
            [
                format!("UDF_DEADLETTER_TOPIC {unknown}; did you mean UDF_DEAD_LETTER_TOPIC?"),
                format!("UDF_MAX_INFLIGHT {unknown}; did you mean UDF_MAX_IN_FLIGHT?"),
                format!("UDF_TABLE {unknown}"),
            ]
        );
    }

    #[test]
    fn an_argument_is_refused_with_the_variable_to_set() {
        let refused = |arguments: &[&str]| match refuse_arguments(arguments.iter().map(OsString::from)) {
            Err(ServeError::Arguments { problems }) => problems,
            other => panic!("{other:?}"),
        };
        assert!(refuse_arguments(std::iter::empty()).is_ok());
        let problems = refused(&["--max-in-flight", "8", "--drain-timeout=5s", "--socket_path", "/s"]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(problems[0], "\"--max-in-flight\": set the environment variable UDF_MAX_IN_FLIGHT instead");
        assert_eq!(problems[1], "\"--drain-timeout=5s\": set the environment variable UDF_DRAIN_TIMEOUT instead");
        assert!(problems[2].contains("the settings are the environment variables UDF_SOCKET, "), "{problems:?}");
        let help = refused(&["--help"]);
        assert!(
            help[0].contains("UDF_SOCKET, UDF_SERVER_INFO, ") && help[0].ends_with("UDF_MAX_BATCH_BYTES"),
            "{help:?}"
        );
        let config = refused(&["kafka.yaml"]);
        assert!(config[0].starts_with("\"kafka.yaml\": the settings are"), "{config:?}");
    }

    #[test]
    fn every_name_can_be_set() {
        let texts = ["/tmp/s", "/tmp/i", "0600", "64..128", "1MiB", "1500ms", "2m", "0.0.0.0:9090"];
        let map_texts = ["batch", "nack:5s", "3", "blocking:8", "2MiB"];
        assert_eq!((texts.len(), map_texts.len()), (Settings::NAMES.len(), Settings::MAP_NAMES.len()));
        let mut settings = Settings::default();
        let names = Settings::NAMES.into_iter().chain(Settings::MAP_NAMES);
        for (name, text) in names.zip(texts.into_iter().chain(map_texts)) {
            settings.set(name, text).unwrap();
        }
        assert_eq!(settings.socket_mode, Some(0o600));
        assert_eq!(settings.max_in_flight, Some(MaxInFlight::from(64..=128)));
        assert_eq!(settings.max_in_flight_bytes, Some(1 << 20));
        assert_eq!(settings.drain_timeout, Some(Duration::from_millis(1500)));
        assert_eq!(settings.slow_after, Some(Duration::from_secs(120)));
        assert_eq!(settings.admin, Some(([0, 0, 0, 0], 9090).into()));
        assert_eq!((settings.map_mode, settings.attempts), (Some(MapMode::Batch), Some(3)));
        assert_eq!(settings.max_batch_bytes, Some(2 << 20));
        assert_eq!(settings.clone().or(Settings::default()), settings);
        assert_eq!(Settings::default().or(settings.clone()), settings);
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("2000ms", 2), ("25s", 25), ("2m", 120), ("6h", 21_600), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "0s", "-1s", "1.5s", "1w", "1 s", "213503982335d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_port_is_one_of_the_loopback_interface() {
        let parsed = |text| parse_address(text).map(|address| address.to_string());
        assert_eq!(parsed("9090").as_deref(), Ok("127.0.0.1:9090"));
        assert_eq!(parsed("localhost:9090").as_deref(), Ok("127.0.0.1:9090"));
        assert_eq!(parsed("0").as_deref(), Ok("127.0.0.1:0"));
        assert_eq!(parsed("[::1]:9090").as_deref(), Ok("[::1]:9090"));
        for text in ["", ":9090", "65536", "0.0.0.0", "metrics:9090", "on"] {
            let problem = parsed(text).unwrap_err();
            assert!(problem.starts_with(&format!("is {text:?}; give a port")), "{problem}");
        }
    }

    #[test]
    fn the_platform_names_container_and_replica() {
        let environment =
            HashMap::from([("NUMAFLOW_UD_CONTAINER_TYPE", "udf"), ("NUMAFLOW_REPLICA", "3"), ("UDF_SOCKET", "s")]);
        let settings = Settings::from_platform(&environment).unwrap();
        assert_eq!((settings.container_type.as_deref(), settings.replica), (Some("udf"), Some(3)));
        assert_eq!(settings.socket_path, None);
        let environment = HashMap::from([("NUMAFLOW_REPLICA", "none")]);
        assert_eq!(Settings::from_environment(&environment).unwrap(), Settings::default());
    }

    #[test]
    fn one_run_reports_every_mistake() {
        let environment = HashMap::from([
            ("UDF_MAX_IN_FLIGHT", "0"),
            ("UDF_DRAIN_TIMEOUT", "25"),
            ("UDF_SOCKET_MODE", "rw"),
            ("UDF_MAX_IN_FLIGHT_BYTES", "99999999999GiB"),
        ]);
        let error = Settings::from_environment(&environment).unwrap_err().to_string();
        for name in environment.keys() {
            assert!(error.contains(name), "{name} is missing from: {error}");
        }
    }
}
