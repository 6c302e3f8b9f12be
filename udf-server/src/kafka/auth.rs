//! What properties of TLS and SASL must say together.
//!
//! The client library takes each of them by itself, and says of most mistakes nothing but that a broker went away.

use std::collections::BTreeMap;
use std::fs::File;

use rdkafka::ClientConfig;

/// Mechanisms that log in by name and password.
const BY_PASSWORD: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
/// Properties that name a file which must be readable.
pub(super) const FILES: [&str; 5] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.crl.location", "ssl.keystore.location"];

/// What is wrong with these properties together; nothing of their values, which may be secrets, but of those that choose.
pub(super) fn problems(properties: &BTreeMap<String, String>) -> Vec<String> {
    let features = features();
    let get = |name: &str| properties.get(name).map(String::as_str);
    let protocol = get("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
    let mut problems = unreadable(properties);
    if !protocol.ends_with("ssl")
        && let Some(name) = properties.keys().find(|name| FILES.contains(&name.as_str()) || name.ends_with(".pem"))
    {
        let with_tls = if protocol.starts_with("sasl") { "sasl_ssl" } else { "ssl" };
        problems.push(format!(
            "the property {name} is set, and security.protocol is {protocol}, which is without TLS: set it to {with_tls}"
        ));
    }
    // The library knows the mechanism by two names.
    let mechanism = get("sasl.mechanism").or_else(|| get("sasl.mechanisms"));
    if !protocol.starts_with("sasl") {
        if mechanism.is_some() || get("sasl.username").is_some() {
            problems.push(format!(
                "sasl.* properties are set, and security.protocol is {protocol}, with which nobody logs in: set it to \
                 sasl_ssl, or to sasl_plaintext where there is no TLS"
            ));
        }
        return problems;
    }
    match mechanism {
        None if !features.gssapi => problems.push(format!(
            "security.protocol is {protocol}, and nothing says how to log in: set sasl.mechanism to PLAIN, SCRAM-SHA-256, \
             SCRAM-SHA-512 or OAUTHBEARER"
        )),
        Some("GSSAPI") if !features.gssapi => problems.push(
            "sasl.mechanism is GSSAPI, and this program was built without Kerberos: build it with the feature kafka-gssapi"
                .to_owned(),
        ),
        None | Some("GSSAPI") => {}
        Some(mechanism) if BY_PASSWORD.contains(&mechanism) => {
            for name in ["sasl.username", "sasl.password"] {
                if get(name).is_none_or(str::is_empty) {
                    problems.push(format!("sasl.mechanism is {mechanism}, and {name} is not set"));
                }
            }
        }
        Some("OAUTHBEARER") => {
            let unsecured = get("enable.sasl.oauthbearer.unsecure.jwt") == Some("true");
            if get("sasl.oauthbearer.method") != Some("oidc") && !unsecured {
                let without = if features.oidc { "" } else { ", which this program was built without (feature kafka-oidc)" };
                problems.push(format!(
                    "sasl.mechanism is OAUTHBEARER, and nothing says where tokens come from: set \
                     sasl.oauthbearer.method=oidc{without}"
                ));
            }
        }
        Some(_) => problems.push(
            "sasl.mechanism is no mechanism that there is: give PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI"
                .to_owned(),
        ),
    }
    problems
}

fn unreadable(properties: &BTreeMap<String, String>) -> Vec<String> {
    let problem = |name: &&str| {
        let path = properties.get(*name).filter(|path| *path != "probe")?;
        let error = File::open(path).err()?;
        Some(format!("the file that the property {name} names cannot be read: {error}"))
    };
    FILES.iter().filter_map(problem).collect()
}

/// What the client library was built with, of what not every build has.
#[derive(Debug, Clone, Copy)]
struct Features {
    gssapi: bool,
    oidc: bool,
}

fn features() -> Features {
    let list = ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features"));
    let oidc = list.unwrap_or_default().split(',').any(|feature| feature == "oidc");
    // Built by cmake, the library lists GSSAPI whether it has it or not.
    Features { gssapi: cfg!(feature = "kafka-gssapi"), oidc }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(properties: &[(&str, &str)]) -> Vec<String> {
        problems(&properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_belongs_together_is_fine() {
        let login = [("sasl.username", "me"), ("sasl.password", "secret")];
        for mechanism in BY_PASSWORD {
            let all = [&login[..], &[("security.protocol", "SASL_SSL"), ("sasl.mechanisms", mechanism)]].concat();
            assert_eq!(of(&all), Vec::<String>::new());
        }
        assert_eq!(of(&[]), Vec::<String>::new());
        assert_eq!(of(&[("security.protocol", "ssl"), ("ssl.ca.location", "/dev/null")]), Vec::<String>::new());
        assert_eq!(of(&[("security.protocol", "ssl"), ("ssl.ca.location", "probe")]), Vec::<String>::new());
    }

    #[test]
    fn properties_without_effect_are_mistakes() {
        let problems = of(&[("sasl.mechanism", "PLAIN"), ("ssl.ca.location", "/nowhere/ca.pem")]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("the file that the property ssl.ca.location names cannot be read: "));
        assert!(problems[1].contains("is plaintext, which is without TLS: set it to ssl"), "{problems:?}");
        assert!(problems[2].contains("with which nobody logs in"), "{problems:?}");
    }

    #[test]
    fn a_login_says_how_and_who() {
        let sasl = ("security.protocol", "sasl_ssl");
        let problems = of(&[sasl, ("sasl.mechanism", "PLAIN"), ("sasl.username", "me")]);
        assert_eq!(problems, ["sasl.mechanism is PLAIN, and sasl.password is not set"]);
        assert!(of(&[sasl, ("sasl.mechanism", "plain")])[0].contains("no mechanism that there is: give PLAIN"));
        assert!(of(&[sasl, ("sasl.mechanism", "OAUTHBEARER")])[0].contains("set sasl.oauthbearer.method=oidc"));
    }

    #[test]
    fn what_this_build_lacks_is_named_with_its_feature() {
        let sasl = ("security.protocol", "sasl_ssl");
        if !features().gssapi {
            assert!(of(&[sasl])[0].contains("nothing says how to log in"));
            assert!(of(&[sasl, ("sasl.mechanism", "GSSAPI")])[0].contains("build it with the feature kafka-gssapi"));
        }
        assert_eq!(features().oidc, cfg!(feature = "kafka-oidc"));
    }
}
