//! The broker's configuration file and its ports.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::options::Options;

/// What holds for every broker, unless the options say otherwise.
const PROPERTIES: [(&str, &str); 25] = [
    // One process is everything there is.
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    // Topics of Kafka's own have one partition, so that the first group and the first transaction are served at once.
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    // Groups form without waiting for members to come, and tests may ask for short sessions.
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "200"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    // A broker that was killed may come back once the session of its former self is over.
    ("broker.session.timeout.ms", "2000"),
    ("broker.heartbeat.interval.ms", "500"),
    // A topic that is misspelt is an error, not another topic.
    ("auto.create.topics.enable", "false"),
    // Small machines: few threads, little memory.
    ("num.network.threads", "2"),
    ("num.io.threads", "2"),
    ("log.cleaner.dedupe.buffer.size", "4194304"),
    // A topic that is deleted is gone from the disk soon.
    ("log.segment.delete.delay.ms", "1000"),
];

/// Ports to choose from. They lie below those that Linux gives to outgoing connections: while a broker is down, one of
/// its clients' attempts to reconnect could otherwise come to own its port.
const PORTS: std::ops::Range<u16> = 14_000..32_000;
/// How many ports are tried before all are taken for taken.
const ATTEMPTS: usize = 200;

/// One port for each name: the plain listener, the controller, further listeners.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    controller: u16,
    pub(crate) others: Vec<u16>,
}

impl Ports {
    /// Chooses ports that are free now. Another process may still be quicker to take them.
    pub(crate) fn choose(options: &Options) -> io::Result<Self> {
        // Held until all are chosen, so that they differ.
        let mut held = Vec::new();
        for _ in 0..ATTEMPTS {
            if held.len() == options.listeners.len() + 2 {
                break;
            }
            held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS))).ok());
        }
        let ports: Vec<u16> = held.iter().map(|held| Ok(held.local_addr()?.port())).collect::<io::Result<_>>()?;
        match &ports[..] {
            [plain, controller, others @ ..] if others.len() == options.listeners.len() => {
                Ok(Self { plain: *plain, controller: *controller, others: others.to_vec() })
            }
            _ => Err(io::Error::other("no port could be bound on 127.0.0.1")),
        }
    }
}

/// The text of `server.properties`.
pub(crate) fn text(options: &Options, ports: &Ports, logs: &Path) -> String {
    let Ports { plain, controller, others } = ports;
    let mut advertised = format!("PLAINTEXT://127.0.0.1:{plain}");
    let mut protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned();
    let mut guarded = BTreeMap::new();
    for (listener, port) in options.listeners.iter().zip(others) {
        let (name, protocol) = (&listener.name, listener.security.protocol());
        // Writing to a string does not fail.
        _ = write!(advertised, ",{name}://127.0.0.1:{port}");
        _ = write!(protocols, ",{name}:{protocol}");
        let prefix = format!("listener.name.{}", name.to_lowercase());
        guarded.extend(listener.properties.iter().map(|(name, value)| (format!("{prefix}.{name}"), value.clone())));
    }
    let mut properties: BTreeMap<String, String> =
        PROPERTIES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    properties.extend([
        ("controller.quorum.voters".to_owned(), format!("1@127.0.0.1:{controller}")),
        ("listeners".to_owned(), format!("{advertised},CONTROLLER://127.0.0.1:{controller}")),
        ("advertised.listeners".to_owned(), advertised),
        ("listener.security.protocol.map".to_owned(), protocols),
        ("log.dirs".to_owned(), logs.display().to_string()),
    ]);
    properties.extend(guarded);
    properties.extend(options.properties.iter().cloned());
    // A backslash begins an escape in this format.
    properties.into_iter().map(|(name, value)| format!("{name}={}\n", value.replace('\\', "\\\\"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Listener, Security};

    #[test]
    fn options_come_over_defaults_and_listeners_keep_to_themselves() {
        let listener = Listener::new("LOGIN", Security::Sasl).with_property("plain.sasl.jaas.config", "a\\b;");
        let options = Options::new().with_property("num.io.threads", "7").with_listener(listener);
        let ports = Ports { plain: 1, controller: 2, others: vec![3] };
        let text = text(&options, &ports, Path::new("/x"));
        for line in [
            "num.io.threads=7",
            "listeners=PLAINTEXT://127.0.0.1:1,LOGIN://127.0.0.1:3,CONTROLLER://127.0.0.1:2",
            "advertised.listeners=PLAINTEXT://127.0.0.1:1,LOGIN://127.0.0.1:3",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT",
            "listener.name.login.plain.sasl.jaas.config=a\\\\b;",
            "log.dirs=/x",
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line}\n{text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("num.io.threads=")).count(), 1);
    }

    #[test]
    fn ports_are_free_and_differ() {
        let options = Options::new().with_listener(Listener::new("A", Security::Tls));
        let Ports { plain, controller, others } = Ports::choose(&options).unwrap();
        let ports = std::collections::BTreeSet::from([plain, controller, others[0]]);
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
