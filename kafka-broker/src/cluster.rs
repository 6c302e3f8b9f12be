//! Several brokers that are one cluster, with a link of a proxy between any two of them and between each and its clients.
//!
//! Every node is a broker and a controller. What clients are told to connect to is a link. Nodes know each other by names,
//! `node-1` and so on, and each node has a file of hosts of its own, in which a name is the address of the link from this
//! node to that one: so each direction between two nodes is a link of its own, for the brokers and for the controllers.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;

use crate::broker::{ATTEMPTS, Broker};
use crate::error::StartError;
use crate::options::{Listener, Options, Security};
use crate::properties::{CONTROLLER, Endpoint, Layout, PLAIN, free_ports};
use crate::proxy::{Link, Proxy};
use crate::start;

/// The listener that brokers use among themselves.
const REPLICATION: &str = "REPLICATION";
/// What holds for clusters, unless the options say otherwise.
const PROPERTIES: [(&str, &str); 17] = [
    ("default.replication.factor", "3"),
    ("offsets.topic.replication.factor", "3"),
    // So that the groups of a run have several coordinators.
    ("offsets.topic.num.partitions", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    ("transaction.state.log.num.partitions", "3"),
    ("share.coordinator.state.topic.replication.factor", "3"),
    ("share.coordinator.state.topic.min.isr", "2"),
    // Whoever is behind, or gone, is noticed within seconds. The defaults are made for slower networks.
    ("replica.lag.time.max.ms", "2000"),
    ("replica.socket.timeout.ms", "4000"),
    ("replica.fetch.backoff.ms", "200"),
    ("controller.quorum.election.timeout.ms", "1000"),
    ("controller.quorum.fetch.timeout.ms", "2000"),
    ("controller.quorum.request.timeout.ms", "2000"),
    ("controller.socket.timeout.ms", "4000"),
    ("socket.connection.setup.timeout.ms", "2000"),
    // Leaders return to where they were soon after a node is back.
    ("leader.imbalance.check.interval.seconds", "10"),
];

/// Who uses a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The clients of a broker, on all listeners but the direct one.
    Clients,
    /// Brokers: followers, which fetch from leaders, and transactions.
    Replication,
    /// Controllers: their quorum, and the brokers that report to the active one.
    Controllers,
}

/// Between whom a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    /// The node that connects; `None` for clients.
    pub from: Option<u32>,
    /// The node that is connected to.
    pub to: u32,
    /// What for.
    pub channel: Channel,
}

impl Way {
    /// Whether it begins or ends at another node of the cluster, and at `node`.
    #[must_use]
    pub fn is_between_others_and(self, node: u32) -> bool {
        self.from.is_some_and(|from| from == node || self.to == node)
    }

    /// Whether it is that of the clients of `node`.
    #[must_use]
    pub fn is_of_clients_of(self, node: u32) -> bool {
        self.from.is_none() && self.to == node
    }
}

/// The links of a cluster, each with those it is between.
type Links = Vec<(Way, Link)>;

/// A cluster whose nodes can be killed and whose links can be broken, one by one.
///
/// Dropped, its nodes are killed, and their data is removed. The same happens when the process that started it ends in any
/// other way.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Broker>,
    links: Links,
    // Dropped after the links.
    _proxy: Proxy,
}

impl Cluster {
    /// The listener of each node that clients reach directly, whatever is done to the links; it asks nobody who they are.
    pub const DIRECT: &str = "DIRECT";

    /// Starts a cluster of so many nodes, each with these options, and waits until all serve. Internal topics have three
    /// replicas where there are as many nodes; replicas that do not keep up leave the set of those in sync after 2 s.
    ///
    /// # Errors
    ///
    /// [`StartError::Unavailable`] where no broker can run, [`StartError::Failed`] when a node didn't start.
    pub fn start(nodes: u32, options: &Options) -> Result<Self, StartError> {
        let java = start::find_java()?;
        let options = cluster_options(nodes, options);
        let mut attempt = 1;
        loop {
            let proxy = Proxy::start().map_err(StartError::system("a thread for its links"))?;
            let (layouts, links) = match lay_out(nodes, &options, &proxy) {
                Err(_) if attempt < ATTEMPTS => {
                    attempt += 1;
                    continue;
                }
                laid_out => laid_out.map_err(StartError::system("addresses for its links"))?,
            };
            let nodes = layouts.into_iter().map(|layout| Broker::new(options.clone(), java.clone(), layout));
            let mut cluster = Self { nodes: nodes.collect::<Result<_, _>>()?, links, _proxy: proxy };
            match cluster.launch() {
                Ok(()) => return Ok(cluster),
                Err(StartError::Failed { .. })
                    if attempt < ATTEMPTS && cluster.nodes.iter().any(Broker::port_was_taken) =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where clients find it through its links: `bootstrap.servers`.
    #[must_use]
    pub fn address(&self) -> String {
        join(self.nodes.iter().map(Broker::address))
    }

    /// Where clients find the listener of this name on all nodes; `None` if there is no such listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<String> {
        let addresses: Option<Vec<_>> = self.nodes.iter().map(|node| node.listener(name)).collect();
        addresses.map(join)
    }

    /// Where clients find it whatever is done to the links.
    #[must_use]
    pub fn direct(&self) -> String {
        self.listener(Self::DIRECT).unwrap_or_default()
    }

    /// The numbers of its nodes.
    pub fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        1..=u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// A node by its number, which is at least 1.
    #[must_use]
    pub fn node(&self, id: u32) -> Option<&Broker> {
        self.nodes.get(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    /// A node by its number, to kill it or to have it back. It serves again when the others do, too: of three nodes two have
    /// to be there.
    pub fn node_mut(&mut self, id: u32) -> Option<&mut Broker> {
        self.nodes.get_mut(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    /// The links that are chosen.
    pub fn links(&self, is_chosen: impl Fn(Way) -> bool) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |(way, _)| is_chosen(*way)).map(|(_, link)| link)
    }

    /// Heals all links.
    pub fn heal(&self) {
        self.links(|_| true).for_each(Link::heal);
    }

    /// Makes the nodes' data folders, runs them, and waits until all serve.
    fn launch(&mut self) -> Result<(), StartError> {
        thread::scope(|scope| {
            let configured: Vec<_> = self.nodes.iter().map(|node| scope.spawn(|| node.configure())).collect();
            configured.into_iter().try_for_each(|configured| {
                configured
                    .join()
                    .unwrap_or_else(|_| Err(StartError::system("a thread")(io::Error::other("it panicked"))))
            })
        })?;
        // None serves before most of them run.
        let logged: Vec<usize> = self.nodes.iter_mut().map(Broker::spawn).collect::<Result<_, _>>()?;
        self.nodes.iter_mut().zip(logged).try_for_each(|(node, logged)| node.wait_until_it_serves(logged))
    }
}

fn join(addresses: impl IntoIterator<Item = String>) -> String {
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

/// The options of each node: what holds for clusters, then what was asked for, and the listener without a link.
fn cluster_options(nodes: u32, options: &Options) -> Options {
    let replicas = nodes.min(3).to_string();
    let in_sync = nodes.min(2).to_string();
    let property = |(name, value): (&str, &str)| {
        let value = match value {
            "3" if name.ends_with("replication.factor") => &replicas,
            "2" if name.ends_with("min.isr") => &in_sync,
            value => value,
        };
        (name.to_owned(), value.to_owned())
    };
    let mut all = options.clone();
    all.properties.splice(0..0, PROPERTIES.into_iter().map(property));
    all.with_listener(Listener::new(Cluster::DIRECT, Security::Plain))
}

/// Chooses the addresses of all nodes and opens the links between them.
fn lay_out(nodes: u32, options: &Options, proxy: &Proxy) -> io::Result<(Vec<Layout>, Links)> {
    let mut links = Vec::new();
    let mut layouts = Vec::new();
    let mut voters = Vec::new();
    for node in 1..=nodes {
        let (ports, mut claims) = free_ports(options.listeners.len() + 3)?;
        let [controller, replication, plain, others @ ..] = &ports[..] else {
            return Err(io::Error::other("too few ports"));
        };
        let mut endpoints = vec![Endpoint::direct(PLAIN, PLAIN, *plain)];
        endpoints.extend(options.listeners.iter().zip(others).map(|(listener, port)| listener.endpoint(*port)));
        for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.name != Cluster::DIRECT) {
            let (at, claim) = free_ports(1)?;
            let [at] = at[..] else { return Err(io::Error::other("too few ports")) };
            claims.extend(claim);
            let link = proxy.link((Ipv4Addr::LOCALHOST, at).into(), (Ipv4Addr::LOCALHOST, endpoint.port).into())?;
            endpoint.advertised = link.address().to_string();
            links.push((Way { from: None, to: node, channel: Channel::Clients }, link));
        }
        for (channel, port) in [(Channel::Replication, *replication), (Channel::Controllers, *controller)] {
            for from in (1..=nodes).filter(|from| *from != node) {
                let at = SocketAddr::from((link_address(from, node)?, port));
                let link = proxy.link(at, (Ipv4Addr::LOCALHOST, port).into())?;
                links.push((Way { from: Some(from), to: node, channel }, link));
            }
        }
        // Told to connect to a name, the others come through their links.
        let of_nodes = |name: &str, port: u16| Endpoint {
            advertised: format!("node-{node}:{port}"),
            ..Endpoint::direct(name, PLAIN, port)
        };
        endpoints.push(of_nodes(REPLICATION, *replication));
        voters.push(format!("{node}@node-{node}:{controller}"));
        let (controller, hosts) = (of_nodes(CONTROLLER, *controller), Some(hosts(node, nodes)?));
        let voters = String::new();
        layouts.push(Layout { node, endpoints, controller, voters, inter_broker: REPLICATION, hosts, _claims: claims });
    }
    let voters = join(voters);
    for layout in &mut layouts {
        layout.voters.clone_from(&voters);
    }
    Ok((layouts, links))
}

/// The hosts as a node knows them: itself directly, the others through the links from it to them.
fn hosts(node: u32, nodes: u32) -> io::Result<String> {
    // Java asks for the name of the machine, too.
    let machine = std::fs::read_to_string(Path::new("/etc/hostname")).unwrap_or_default();
    let mut hosts = format!("127.0.0.1 localhost {}\n", machine.trim());
    for other in 1..=nodes {
        let address = if other == node { Ipv4Addr::LOCALHOST } else { link_address(node, other)? };
        // Writing to a string does not fail.
        _ = writeln!(hosts, "{address} node-{other}");
    }
    Ok(hosts)
}

/// The address of this machine at which the links from a node to another one listen, at the other one's ports.
fn link_address(from: u32, to: u32) -> io::Result<Ipv4Addr> {
    let octet = |node: u32| u8::try_from(node).map_err(|_| io::Error::other("a cluster has at most 255 nodes"));
    Ok(Ipv4Addr::new(127, 77, octet(from)?, octet(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_knows_the_others_by_the_links_from_itself_to_them() {
        let proxy = Proxy::start().unwrap();
        let options = cluster_options(3, &Options::new().with_listener(Listener::new("LOGIN", Security::Sasl)));
        let (layouts, links) = lay_out(3, &options, &proxy).unwrap();
        let second = &layouts[1];
        assert!(second.hosts.as_ref().unwrap().ends_with("127.77.2.1 node-1\n127.0.0.1 node-2\n127.77.2.3 node-3\n"));
        let names: Vec<&str> = second.endpoints.iter().map(|endpoint| &*endpoint.name).collect();
        assert_eq!(names, ["PLAINTEXT", "LOGIN", "DIRECT", "REPLICATION"]);
        // Two of clients, and to and from each of the two others those of brokers and those of controllers.
        let of = |chosen: fn(Way) -> bool| links.iter().filter(|(way, _)| chosen(*way)).count();
        assert_eq!((of(|way| way.is_of_clients_of(2)), of(|way| way.is_between_others_and(2))), (2, 8));
        assert_eq!(second.controller.advertised, format!("node-2:{}", second.controller.port));
        let wanted = Way { from: Some(1), to: 2, channel: Channel::Replication };
        let (_, link) = links.iter().find(|(way, _)| *way == wanted).unwrap();
        let port = second.endpoints[3].port;
        assert_eq!(link.address(), (Ipv4Addr::new(127, 77, 1, 2), port).into());
        assert_eq!(second.endpoints[3].advertised, format!("node-2:{port}"));
    }

    #[test]
    fn a_single_node_has_one_replica_of_everything() {
        let options = cluster_options(1, &Options::new());
        let value = |name: &str| options.properties.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!(value("offsets.topic.replication.factor"), "1");
        assert_eq!(value("transaction.state.log.min.isr"), "1");
        assert_eq!(value("offsets.topic.num.partitions"), "3");
    }
}
