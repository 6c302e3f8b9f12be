//! The address of a broker. Pure.
//!
//! The client library takes nearly any text: it dials `host:99999` at port 34463, and passes over addresses with another
//! protocol than its own with a line in its log.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The port of an address that names none.
const PORT: u16 = 9092;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Address {
    /// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, as the end of a sentence that begins with the setting's place.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refused = |rule: &str| Err(format!("is {text:?}; {rule}"));
        if text.is_empty() {
            return refused("give host:port");
        }
        if text.contains("${") || text.contains("$(") {
            return refused("nobody has filled in the variable: give host:port");
        }
        if text.contains("://") {
            return refused("give host:port, and the protocol as the property security.protocol");
        }
        if text.contains('@') {
            return refused("give host:port, and who logs in as the properties sasl.username and sasl.password");
        }
        if text.contains(|sign: char| sign.is_whitespace() || matches!(sign, ',' | ';' | '|')) {
            return refused("give host:port; several addresses have a comma between them, or are a list in the file");
        }
        if text.contains('/') {
            return refused("give host:port, without a path");
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((host, rest)) = rest.split_once(']') else {
                return refused("the bracket is not closed: give [IPv6]:port");
            };
            let address = host.split_once('%').map_or(host, |(address, _)| address);
            if address.parse::<Ipv6Addr>().is_err() {
                return refused("only an IPv6 address stands in brackets");
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return refused("give [IPv6]:port"),
            }
        } else {
            match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return refused("give host:port; an IPv6 address stands in brackets, such as [::1]:9092");
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if !host.contains(':') && !is_host(host) {
            return refused("give a host's name, of letters, digits, hyphens and dots, or an IP address");
        }
        let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        match port.map(|port| port.parse().ok().filter(|number| is_number(port) && *number > 0)) {
            None => Ok(Self { host: host.to_owned(), port: PORT }),
            Some(Some(port)) => Ok(Self { host: host.to_owned(), port }),
            Some(None) => refused("give a port from 1 to 65535"),
        }
    }
}

/// Whether a text is an IPv4 address, or a name that is none: names that end in a number are never resolved.
fn is_host(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let is_number = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.split('.').all(is_label) && (!is_number || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, address) in [
            ("kafka", "kafka:9092"),
            ("kafka:9093", "kafka:9093"),
            ("my_kafka-0.kafka.svc.cluster.local.:1", "my_kafka-0.kafka.svc.cluster.local.:1"),
            ("127.0.0.1:65535", "127.0.0.1:65535"),
            ("[::1]:9093", "[::1]:9093"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]:9092"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), address, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_their_reason() {
        for (text, rule) in [
            ("", "give host:port"),
            ("127.0.0.1:99999", "from 1 to 65535"),
            ("k:0", "from 1 to 65535"),
            ("k:", "from 1 to 65535"),
            ("k:+1", "from 1 to 65535"),
            ("k:9092x", "from 1 to 65535"),
            ("${BROKERS}", "nobody has filled in the variable"),
            ("$(BROKERS):9092", "nobody has filled in the variable"),
            ("a:1;b:2", "a comma between them"),
            ("a:1 b:2", "a comma between them"),
            ("a:1,b:2", "a comma between them"),
            ("http://k:9092", "security.protocol"),
            ("SASL_SSL://k:9092", "security.protocol"),
            ("PLAINTEXT://k:9092", "security.protocol"),
            ("me:secret@k:9092", "sasl.username"),
            ("k:9092/topic", "without a path"),
            ("::1", "in brackets"),
            ("::1:9092", "in brackets"),
            ("[::1", "not closed"),
            ("[k]:9092", "only an IPv6 address"),
            ("[::1]9092", "[IPv6]:port"),
            ("999.0.0.1", "or an IP address"),
            ("10.0.0:9092", "or an IP address"),
            ("a..b:1", "of letters, digits"),
            (":9092", "of letters, digits"),
            ("kä:9092", "of letters, digits"),
            ("{{brokers}}", "of letters, digits"),
        ] {
            let problem = Address::parse(text).unwrap_err();
            assert!(problem.starts_with(&format!("is {text:?}; ")) && problem.contains(rule), "{problem}");
        }
    }
}
