//! What would be used of all settings, and where each comes from: for people to look at, so no secret is in it.

use std::path::Path;

use numaflow_sdk::{Kind, default_max_in_flight_bytes};
use serde::Serialize;

use crate::config::Layers;
use crate::kafka::size;
use crate::serve::ServerArgs;

/// Parts of a property's name that tell a secret.
const SECRET: [&str; 8] = ["password", "secret", "key", "token", "jaas", "oauthbearer.config", "pem", "kinit.cmd"];

/// Parts of a value that tell that a secret is in it.
const SWALLOWED: [&str; 2] = ["password", "secret"];

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Used {
    pub(crate) name: String,
    /// `None` for a secret.
    pub(crate) value: Option<String>,
    pub(crate) from: String,
}

impl Used {
    /// A setting, with the place that it was found in when it was asked for.
    pub(crate) fn setting(layers: &Layers<'_>, name: &str, value: impl Into<String>) -> Self {
        let from = layers.found(name).map_or_else(|| "default".to_owned(), |found| found.place.clone());
        Self { name: name.to_owned(), value: Some(value.into()), from }
    }

    /// A property, whose value is hidden where its name tells a secret. One that has several lines, or the name of a secret in
    /// it, has swallowed others.
    pub(crate) fn property(name: &str, value: &str, from: impl Into<String>) -> Self {
        let lower = name.to_ascii_lowercase();
        let secret = SECRET.iter().any(|part| lower.contains(part))
            || value.contains(['\n', '\r'])
            || SWALLOWED.iter().any(|part| value.contains(part));
        Self { name: name.to_owned(), value: (!secret).then(|| value.to_owned()), from: from.into() }
    }

    /// The same without its value.
    pub(crate) fn hidden(self) -> Self {
        Self { value: None, ..self }
    }
}

impl ServerArgs {
    /// What a source would use of what was asked for.
    pub(crate) fn used(&self, layers: &Layers<'_>) -> Vec<Used> {
        let directory = Path::new("/var/run/numaflow");
        let defaults = [
            ("socket", directory.join(Kind::Source.socket_name()).display().to_string()),
            ("server-info", directory.join(Kind::Source.server_info_name()).display().to_string()),
            ("socket-mode", "0666".to_owned()),
            ("max-in-flight-bytes", size(default_max_in_flight_bytes())),
            ("drain-timeout", "25s".to_owned()),
            ("slow-after", "30s".to_owned()),
            ("admin", "off".to_owned()),
            ("log-format", "text".to_owned()),
        ];
        let used = |(name, default)| {
            let value = layers.found(name).map_or(default, |found| found.text.clone());
            Used::setting(layers, name, value)
        };
        defaults.into_iter().map(used).collect()
    }
}

/// Settings as a table: name, value, place.
pub(crate) fn table(settings: &[Used]) -> String {
    let shown = |setting: &Used| setting.value.clone().unwrap_or_else(|| "(hidden)".to_owned());
    let width = |text: &dyn Fn(&Used) -> usize| settings.iter().map(text).max().unwrap_or(0);
    let names = width(&|setting| setting.name.len());
    // A long value would push all places out of sight.
    let values = width(&|setting| shown(setting).len()).min(48);
    let line = |setting: &Used| format!("  {:names$}  {:values$}  {}\n", setting.name, shown(setting), setting.from);
    settings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_hidden() {
        for name in [
            "sasl.password",
            "ssl.key.pem",
            "ssl.keystore.location",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.token.endpoint.url",
            "sasl.jaas.config",
            "sasl.oauthbearer.config",
            "SASL.PASSWORD",
        ] {
            assert_eq!(Used::property(name, "hunter2", "--property").value, None, "{name}");
        }
        assert_eq!(Used::property("sasl.username", "me", "--property").value.as_deref(), Some("me"));
        assert_eq!(Used::property("client.id", "me\nhunter2", "--property").value, None);
        assert_eq!(Used::property("client.id", "me, sasl.password: hunter2", "--property").value, None);
    }

    #[test]
    fn a_table_has_its_columns_below_each_other() {
        let settings = [Used::property("a", "1", "x"), Used::property("sasl.password", "hunter2", "--property")];
        assert_eq!(table(&settings), "  a              1         x\n  sasl.password  (hidden)  --property\n");
    }
}
