//! How brokers are reached: addresses, and the properties that go through to the client library.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use numaflow_sdk::parse_duration;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::address::Address;
use super::auth;
use super::statistics;
use crate::config::{Layers, read_text};

/// How long the brokers have for their first answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Properties of the client library that are not the user's to set, and why.
const OWNED: [(&str, &str); 13] = [
    ("bootstrap.servers", "it is set by --brokers"),
    ("metadata.broker.list", "it is set by --brokers"),
    ("group.id", "it is set by --group"),
    ("group.protocol", "it is set by --group-protocol"),
    ("auto.offset.reset", "it is set by --start"),
    ("enable.auto.commit", "only what is acked may be committed, and the source sees to that"),
    ("auto.commit.enable", "only what is acked may be committed, and the source sees to that"),
    ("enable.auto.offset.store", "only what is acked may be stored, and the source sees to that"),
    ("offset.store.method", "offsets are kept by the group, where every replica finds them"),
    ("enable.partition.eof", "the source has no use for these events"),
    ("log.queue", "the source reads the log itself"),
    ("statistics.interval.ms", "the source reads the statistics itself"),
    ("plugin.library.paths", "the source loads no code at run time"),
];

/// The flags of everything that talks to Kafka.
#[derive(Debug, Clone, Default, Args)]
pub struct BrokerArgs {
    /// Brokers to ask first, with commas between
    #[arg(long, value_name = "HOST:PORT,..")]
    pub brokers: Option<String>,
    /// A property of librdkafka; may be given several times, and as the maps properties and properties-from-files in the
    /// file given by --config
    #[arg(long = "property", value_name = "KEY=VALUE")]
    pub properties: Vec<String>,
    /// How long the brokers have for their first answer [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub connect_timeout: Option<String>,
}

impl BrokerArgs {
    /// What flags, environment and file say of the brokers; `None` where they name none. Mistakes are noted in `layers`.
    pub fn brokers(&self, layers: &mut Layers<'_>) -> Option<Brokers> {
        let addresses = layers.list("brokers", self.brokers.as_deref(), address);
        self.with_addresses(addresses, layers)
    }

    /// As [`BrokerArgs::brokers`], where there must be some.
    pub fn required_brokers(&self, layers: &mut Layers<'_>) -> Option<Brokers> {
        let addresses = layers.required_list("brokers", self.brokers.as_deref(), address);
        self.with_addresses(addresses, layers)
    }

    fn with_addresses(&self, addresses: Option<Vec<String>>, layers: &mut Layers<'_>) -> Option<Brokers> {
        let Properties { values: properties, places, .. } = self.properties(layers);
        let connect_timeout = layers.parsed("connect-timeout", self.connect_timeout.as_deref(), parse_duration);
        let connect_timeout = connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        addresses.map(|addresses| Brokers { addresses: addresses.join(","), connect_timeout, properties, places })
    }

    fn properties(&self, layers: &mut Layers<'_>) -> Properties {
        let mut found = Properties::default();
        let file = layers.file().map(|path| path.display().to_string()).unwrap_or_default();
        for (name, path) in layers.mapping(FROM_FILES) {
            match read_secret(Path::new(&path.text)) {
                Ok(value) => found.set(name, value, Place::Secret(path.text), Some((FROM_FILES, path.line))),
                // Not the path: somebody may have given the secret itself.
                Err(error) => {
                    let rule = format!("the file that is to hold the property{} cannot be read: {error}", known(&name));
                    layers.problem_at(FROM_FILES, path.line, &rule);
                }
            }
        }
        for (name, value) in layers.mapping(PROPERTIES) {
            let place = Place::Open(format!("{PROPERTIES} in {file}"));
            found.set(name, value.text, place, Some((PROPERTIES, value.line)));
        }
        for text in &self.properties {
            match text.split_once('=') {
                Some((name, value)) => {
                    found.set(name.to_owned(), value.to_owned(), Place::Open("--property".to_owned()), None);
                }
                // What follows the name may be a secret after another sign.
                None => {
                    let name = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next().unwrap_or_default();
                    layers.problem(format!("--property {name} has no =; give it as KEY=VALUE"));
                }
            }
        }
        let before = layers.problems();
        for (name, value) in &found.values {
            let line = found.lines.get(name).copied();
            match (check(name, value), line) {
                (Ok(()), _) => {}
                (Err(Refusal::Unknown), Some((setting, line))) => {
                    layers.problem_at(setting, line, "the key is not a property of librdkafka");
                }
                (Err(Refusal::Unknown), None) => {
                    layers.problem(format!("the property {name} is not accepted: No such configuration property"));
                }
                (Err(Refusal::Other(problem)), Some((setting, line))) => layers.problem_at(setting, line, &problem),
                (Err(Refusal::Other(problem)), None) => layers.problem(problem),
            }
        }
        // What is wrong by itself need not be told again.
        if layers.problems() == before {
            for problem in auth::problems(&found.values) {
                layers.problem(problem);
            }
        }
        found
    }
}

/// The settings that hold properties, in the file.
const PROPERTIES: &str = "properties";
const FROM_FILES: &str = "properties-from-files";

/// The name of a property, with a space before it, if it is one: any other text may be a piece of a value.
fn known(name: &str) -> String {
    match check(name, "") {
        Err(Refusal::Unknown) => String::new(),
        Ok(()) | Err(Refusal::Other(_)) => format!(" {name}"),
    }
}

/// Properties as they were found.
#[derive(Debug, Default)]
struct Properties {
    values: BTreeMap<String, String>,
    places: BTreeMap<String, Place>,
    /// Of those that come from the settings file: the setting that holds them, and the line.
    lines: BTreeMap<String, (&'static str, usize)>,
}

impl Properties {
    /// A later one takes the place of an earlier one.
    fn set(&mut self, name: String, value: String, place: Place, line: Option<(&'static str, usize)>) {
        match line {
            Some(line) => self.lines.insert(name.clone(), line),
            None => self.lines.remove(&name),
        };
        self.places.insert(name.clone(), place);
        self.values.insert(name, value);
    }
}

/// Where a property was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In a file of its own, which makes it a secret whatever its name.
    Secret(String),
    /// Among the flags, or in the file with the settings.
    Open(String),
}

/// Brokers, and how to talk to them.
#[derive(Clone)]
pub struct Brokers {
    pub(super) addresses: String,
    pub(super) connect_timeout: Duration,
    properties: BTreeMap<String, String>,
    /// Of those that were not set by a method.
    places: BTreeMap<String, Place>,
}

impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be secrets.
        f.debug_struct("Brokers")
            .field("addresses", &self.addresses)
            .field("connect_timeout", &self.connect_timeout)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

impl Brokers {
    /// Brokers that need nothing but their addresses: `host:port`, with commas between.
    #[must_use]
    pub fn new(addresses: impl Into<String>) -> Self {
        Self {
            addresses: addresses.into(),
            connect_timeout: CONNECT_TIMEOUT,
            properties: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// Sets how long the brokers have for their first answer.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets a property of the client library, unchecked: an unknown one makes the start fail.
    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// The addresses.
    #[must_use]
    pub fn addresses(&self) -> &str {
        &self.addresses
    }

    /// How long they have for their first answer.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// The properties that were set. They may be secrets.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.properties.remove(name);
    }

    /// The files that properties were read from, or that they name, by the properties' names.
    pub(super) fn files(&self) -> BTreeMap<String, PathBuf> {
        let secrets = self.places.iter().filter_map(|(name, place)| match place {
            Place::Secret(path) => Some((name.clone(), PathBuf::from(path))),
            Place::Open(_) => None,
        });
        let is_file = |name: &str, value: &str| auth::FILES.contains(&name) && value != "probe";
        let named = self.properties.iter().filter(|(name, value)| is_file(name, value));
        let mut files: BTreeMap<_, _> = named.map(|(name, path)| (name.clone(), PathBuf::from(path))).collect();
        files.extend(secrets);
        files
    }

    /// The same with what the properties' own files hold now.
    ///
    /// # Errors
    ///
    /// One cannot be read, or is empty; nothing of what it holds.
    pub(super) fn renewed(&self) -> Result<Self, String> {
        let mut renewed = self.clone();
        for (name, place) in &self.places {
            let Place::Secret(path) = place else { continue };
            let value = read_secret(Path::new(path));
            let value =
                value.map_err(|error| format!("the file {path} of the property {name} cannot be read: {error}"))?;
            if value.is_empty() {
                return Err(format!("the file {path} of the property {name} is empty"));
            }
            renewed.properties.insert(name.clone(), value);
        }
        Ok(renewed)
    }

    /// Where a property was found.
    pub(super) fn place(&self, name: &str) -> Option<&Place> {
        self.places.get(name)
    }

    /// A text of the client library's, without the values of properties: it may quote them, a path for one.
    pub(super) fn without_values(&self, text: &str) -> String {
        let mut values: Vec<&str> =
            self.properties.values().map(String::as_str).filter(|value| !value.is_empty()).collect();
        // A value may be a part of another.
        values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
        values.into_iter().fold(text.to_owned(), |text, value| without(&text, value))
    }

    /// What the client library needs to know: `defaults`, unless a property says otherwise.
    pub(crate) fn client<'a>(&self, defaults: impl IntoIterator<Item = (&'a str, &'a str)>) -> ClientConfig {
        // Before the client library does so, and without OpenSSL's clean-up at the end of the process: threads of clients
        // that are still closing then would use what it frees.
        openssl_sys::init();
        let mut client = ClientConfig::new();
        client.set("client.id", "udf-server");
        client.extend(defaults.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        client.extend(self.properties.clone());
        client.set("bootstrap.servers", &self.addresses);
        client.set("statistics.interval.ms", statistics::INTERVAL_MILLIS);
        // Of what is left to it our own callbacks choose what to tell; and they read in it which records are gone. Without
        // a level it would be that of a log that we don't have. The property `debug` says what there is below `info`.
        client.set_log_level(RDKafkaLogLevel::Debug);
        client
    }
}

/// A text with an ellipsis for each place where a value stands by itself, and not within a longer word such as a property's name.
fn without(text: &str, value: &str) -> String {
    let is_inner = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '.' | '_');
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(value) {
        let (before, after) = (&rest[..start], &rest[start + value.len()..]);
        let stands_alone = !before.ends_with(is_inner) && !after.starts_with(is_inner);
        kept.push_str(before);
        kept.push_str(if stands_alone { "…" } else { value });
        rest = after;
    }
    kept + rest
}

/// Takes any text but an empty one.
pub(super) fn not_empty(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// Takes an address, in one way of writing.
fn address(text: &str) -> Result<String, String> {
    Address::parse(text).map(|_| text.to_owned())
}

/// A property's value from a file, without the line break at its end.
fn read_secret(path: &Path) -> std::io::Result<String> {
    let mut text = read_text(path)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// Why a property is refused. Nothing of its value, which may be a secret, is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    /// There is no property of this name.
    Unknown,
    /// Another reason, in a sentence that names the property.
    Other(String),
}

fn check(name: &str, value: &str) -> Result<(), Refusal> {
    if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Err(Refusal::Other(format!("the property {name} cannot be set: {reason}")));
    }
    let not_accepted = |rule: &str| Err(Refusal::Other(format!("the property {name} is not accepted: {rule}")));
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => Err(Refusal::Unknown),
        Err(KafkaError::ClientConfig(_, problem, _, _)) if problem.contains("available at build time") => {
            Err(Refusal::Other(format!(
                "the property {name} is of OAUTHBEARER/OIDC, which this program was built without: build it with the \
                 feature kafka-oidc"
            )))
        }
        Err(KafkaError::ClientConfig(_, problem, _, _)) => not_accepted(&rule(&problem)),
        Err(_) => not_accepted("librdkafka refuses its value"),
    }
}

/// The rule in a text of librdkafka's about a value, which most of these texts quote.
fn rule(problem: &str) -> String {
    if let Some((_, range)) = problem.split_once(" is outside allowed range ") {
        return format!("give a number in {}", range.trim());
    }
    if problem.starts_with("Expected bool value") {
        return "give true or false".to_owned();
    }
    if problem.contains("be set to empty value") {
        return "it is empty".to_owned();
    }
    if let Some((_, reason)) = problem.split_once(" not supported in this build: ") {
        return format!("this build does not support it: {}", reason.trim());
    }
    "librdkafka does not take this value; its list of properties (CONFIGURATION.md) tells which it takes".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{Variables, file};

    fn with(properties: &[&str]) -> Result<Brokers, String> {
        let environment = Variables::default();
        let mut layers = Layers::new(&environment, None).unwrap();
        let properties = properties.iter().map(|text| (*text).to_owned()).collect();
        let args = BrokerArgs { brokers: Some("b:9092".to_owned()), properties, connect_timeout: None };
        let brokers = args.brokers(&mut layers);
        layers.finish().map_err(|failure| failure.to_string())?;
        Ok(brokers.unwrap())
    }

    #[test]
    fn values_keep_their_colons_and_equals_signs() {
        let brokers = with(&["sasl.oauthbearer.config=url=https://host:8443/a?b=c"]).unwrap();
        assert_eq!(brokers.property("sasl.oauthbearer.config"), Some("url=https://host:8443/a?b=c"));
    }

    #[test]
    fn what_the_source_owns_is_refused_with_the_reason() {
        for (name, reason) in OWNED {
            let error = with(&[&format!("{name}=true")]).unwrap_err();
            assert_eq!(error, format!("error: the property {name} cannot be set: {reason}"));
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let error = with(&["fetch.wiat.max.ms=5", "fetch.wait.max.ms=soon", "check.crcs"]).unwrap_err();
        assert!(error.contains("the property fetch.wiat.max.ms is not accepted: No such"), "{error}");
        assert!(error.contains("the property fetch.wait.max.ms is not accepted"), "{error}");
        assert!(error.contains("--property check.crcs has no ="), "{error}");
    }

    #[test]
    fn no_mistake_shows_a_secret() {
        for property in ["sasl.password:hunter2", "sasl.password hunter2", "ssl.key.password", "sasl.password=hunter2"]
        {
            let error = with(&[property]).err().unwrap_or_default();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn texts_of_the_library_lose_the_values() {
        let brokers =
            Brokers::new("b:9092").with_property("ssl.ca.location", "/etc/a").with_property("sasl.password", "ssl");
        let brokers = brokers.with_property("ssl.key.location", "/etc/a.pem");
        assert_eq!(brokers.without_values("ssl.ca failed: fopen(/etc/a, r)"), "ssl.ca failed: fopen(…, r)");
        assert_eq!(brokers.without_values("/etc/a.pem: ssl"), "…: …");
    }

    #[test]
    fn tokens_by_oidc_need_their_feature() {
        let error = with(&["sasl.oauthbearer.method=oidc"]).err().unwrap_or_default();
        assert_eq!(
            error.contains("build it with the feature kafka-oidc"),
            cfg!(not(feature = "kafka-oidc")),
            "{error}"
        );
    }

    #[test]
    fn the_file_takes_plain_numbers_and_reads_secrets() {
        let secret = file("pass:w=rd\n");
        let yaml = file(&format!(
            "brokers: a:1,b:2\nconnect-timeout: 3s\n\
             properties: {{security.protocol: sasl_ssl, sasl.mechanism: PLAIN, sasl.username: me, session.timeout.ms: 6000, check.crcs: false, client.id: me}}\n\
             properties-from-files: {{sasl.password: {}}}\n",
            secret.path().display()
        ));
        let environment = Variables::default();
        let mut layers = Layers::new(&environment, Some(yaml.path())).unwrap();
        let args = BrokerArgs { properties: vec!["check.crcs=true".to_owned()], ..BrokerArgs::default() };
        let brokers = args.brokers(&mut layers).unwrap();
        layers.finish().unwrap();
        assert_eq!(brokers.addresses(), "a:1,b:2");
        assert_eq!(brokers.connect_timeout, Duration::from_secs(3));
        assert_eq!(brokers.property("session.timeout.ms"), Some("6000"));
        assert_eq!(brokers.property("check.crcs"), Some("true"), "a flag beats the file");
        assert_eq!(brokers.property("sasl.password"), Some("pass:w=rd"));
        assert!(!format!("{brokers:?}").contains("w=rd"), "secrets stay out of the log");
        let client = brokers.client([("client.id", "default"), ("fetch.min.bytes", "1")]);
        assert_eq!((client.get("client.id"), client.get("fetch.min.bytes")), (Some("me"), Some("1")));
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_named() {
        let yaml = file("brokers: a:1\nproperties-from-files: {sasl.password: /nowhere/secret}\n");
        let environment = Variables::default();
        let mut layers = Layers::new(&environment, Some(yaml.path())).unwrap();
        BrokerArgs::default().brokers(&mut layers);
        let error = layers.finish().unwrap_err().to_string();
        assert!(
            error.contains("line 2: the file that is to hold the property sasl.password cannot be read: No such file"),
            "{error}"
        );
    }
}
