//! The broker's configuration file and its ports.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use crate::options::Options;

/// What holds for every broker, unless the options say otherwise.
const PROPERTIES: [(&str, &str); 22] = [
    // One process is everything that a node has.
    ("process.roles", "broker,controller"),
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

/// The listener of every broker that asks nobody who they are.
pub(crate) const PLAIN: &str = "PLAINTEXT";
/// The listener of the controller.
pub(crate) const CONTROLLER: &str = "CONTROLLER";

/// Where clients or other nodes find a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) protocol: &'static str,
    /// The port of this machine that the broker listens at.
    pub(crate) port: u16,
    /// What it tells others to connect to: `host:port`.
    pub(crate) advertised: String,
}

impl Endpoint {
    /// One that is reached at the port itself.
    pub(crate) fn direct(name: impl Into<String>, protocol: &'static str, port: u16) -> Self {
        Self { name: name.into(), protocol, port, advertised: format!("127.0.0.1:{port}") }
    }
}

/// A node's place in its cluster, and its addresses.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) node: u32,
    /// The first one is that of [`Broker::address`](crate::Broker::address).
    pub(crate) endpoints: Vec<Endpoint>,
    /// Where other controllers and brokers find its controller: the active one tells followers to fetch from there.
    pub(crate) controller: Endpoint,
    /// The controllers of the cluster, as `controller.quorum.voters` has them.
    pub(crate) voters: String,
    /// The listener that other brokers use.
    pub(crate) inter_broker: &'static str,
    /// The hosts that the node knows, in the form of `/etc/hosts`; `None` for those of the machine.
    pub(crate) hosts: Option<String>,
    /// Keeps its ports for it, also while it does not run.
    pub(crate) _claims: Vec<Claim>,
}

impl Layout {
    /// The layout of a broker that is alone, at ports that are free now. Another process may still be quicker to take them.
    pub(crate) fn alone(options: &Options) -> io::Result<Self> {
        let (ports, claims) = free_ports(options.listeners.len() + 2)?;
        let [controller, plain, others @ ..] = &ports[..] else { return Err(no_port()) };
        let mut endpoints = vec![Endpoint::direct(PLAIN, PLAIN, *plain)];
        endpoints.extend(options.listeners.iter().zip(others).map(|(listener, port)| listener.endpoint(*port)));
        Ok(Self {
            node: 1,
            endpoints,
            controller: Endpoint::direct(CONTROLLER, PLAIN, *controller),
            voters: format!("1@127.0.0.1:{controller}"),
            inter_broker: PLAIN,
            hosts: None,
            _claims: claims,
        })
    }
}

/// Keeps a TCP port from all others who choose one by [`free_ports`], in whatever process, until it is dropped: a broker that
/// was killed comes back to its port, and would otherwise find that of a new broker there. It is the UDP port of the same
/// number, which the system gives to one process only, and takes back when that one ends.
#[derive(Debug)]
pub(crate) struct Claim {
    _socket: UdpSocket,
}

impl Claim {
    /// `None` where the port is somebody's.
    fn of(port: u16) -> Option<Self> {
        let address = (Ipv4Addr::LOCALHOST, port);
        let claim = Self { _socket: UdpSocket::bind(address).ok()? };
        TcpListener::bind(address).is_ok().then_some(claim)
    }
}

/// Chooses so many ports that are free now, and claims them.
pub(crate) fn free_ports(count: usize) -> io::Result<(Vec<u16>, Vec<Claim>)> {
    let (mut ports, mut claims) = (Vec::new(), Vec::new());
    for _ in 0..ATTEMPTS {
        if ports.len() == count {
            return Ok((ports, claims));
        }
        let port = fastrand::u16(PORTS);
        if let Some(claim) = Claim::of(port) {
            ports.push(port);
            claims.push(claim);
        }
    }
    Err(no_port())
}

fn no_port() -> io::Error {
    io::Error::other("no port could be bound on 127.0.0.1")
}

/// The text of `server.properties`.
pub(crate) fn text(options: &Options, layout: &Layout, logs: &Path) -> String {
    let (mut listeners, mut advertised, mut protocols) = (Vec::new(), Vec::new(), Vec::new());
    for Endpoint { name, protocol, port, advertised: address } in
        [&layout.controller].into_iter().chain(&layout.endpoints)
    {
        listeners.push(format!("{name}://127.0.0.1:{port}"));
        advertised.push(format!("{name}://{address}"));
        protocols.push(format!("{name}:{protocol}"));
    }
    let mut guarded = BTreeMap::new();
    for listener in &options.listeners {
        let prefix = format!("listener.name.{}", listener.name.to_lowercase());
        guarded.extend(listener.properties.iter().map(|(name, value)| (format!("{prefix}.{name}"), value.clone())));
    }
    let mut properties: BTreeMap<String, String> =
        PROPERTIES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    properties.extend([
        ("node.id".to_owned(), layout.node.to_string()),
        ("controller.listener.names".to_owned(), CONTROLLER.to_owned()),
        ("inter.broker.listener.name".to_owned(), layout.inter_broker.to_owned()),
        ("controller.quorum.voters".to_owned(), layout.voters.clone()),
        ("listeners".to_owned(), listeners.join(",")),
        ("advertised.listeners".to_owned(), advertised.join(",")),
        ("listener.security.protocol.map".to_owned(), protocols.join(",")),
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
        let layout = Layout {
            node: 7,
            endpoints: vec![Endpoint::direct(PLAIN, PLAIN, 1), options.listeners[0].endpoint(3)],
            controller: Endpoint { advertised: "node-7:2".to_owned(), ..Endpoint::direct(CONTROLLER, PLAIN, 2) },
            voters: "7@127.0.0.1:2".to_owned(),
            inter_broker: PLAIN,
            hosts: None,
            _claims: Vec::new(),
        };
        let text = text(&options, &layout, Path::new("/x"));
        for line in [
            "num.io.threads=7",
            "node.id=7",
            "listeners=CONTROLLER://127.0.0.1:2,PLAINTEXT://127.0.0.1:1,LOGIN://127.0.0.1:3",
            "advertised.listeners=CONTROLLER://node-7:2,PLAINTEXT://127.0.0.1:1,LOGIN://127.0.0.1:3",
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
        let layout = Layout::alone(&options).unwrap();
        let mut ports: std::collections::BTreeSet<u16> =
            layout.endpoints.iter().map(|endpoint| endpoint.port).collect();
        ports.insert(layout.controller.port);
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }

    /// It is to come back to them.
    #[test]
    fn the_ports_of_a_broker_that_is_down_are_nobody_elses() {
        let layout = Layout::alone(&Options::new()).unwrap();
        assert!(Claim::of(layout.controller.port).is_none());
        assert!(Claim::of(layout.endpoints[0].port).is_none());
    }
}
