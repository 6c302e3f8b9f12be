//! Sources that have to log in: their rights are taken and given back, and their password is changed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kafka_broker::proxy::Link;
use kafka_broker::{Cluster, Listener, Options, Security};

use super::super::Outcome;
use super::super::clock;
use super::super::faults::Fault;
use super::super::journal::{self, Deed};
use super::super::member::Orders;
use super::super::producers::Producers;
use super::super::report::Verdict;
use super::super::scene::Scene;
use super::super::stage::{Replication, Site, Stage};
use super::super::verdict::Happened;
use super::refused;

/// The listener of the cluster that asks who is there.
const LOGIN: &str = "LOGIN";
/// Who the sources are, and what they say at first.
const USER: &str = "reader";
const PASSWORD: &str = "first";
const PARTITIONS: i32 = 6;
const MEMBERS: usize = 2;
const RECORDS: u64 = 4_000;
/// They come while rights are taken and passwords are changed.
const PRODUCING: Duration = Duration::from_secs(40);
const DRIVER: [&str; 2] = ["--work", "500"];
/// For how long a right is taken, and for how long the password of the file is not that of the brokers.
const AWAY: Duration = Duration::from_secs(5);
/// How long it may take until records are acked.
const PATIENCE: Duration = Duration::from_secs(60);

/// The options of a cluster that these scenarios can run on. Who does not log in may do everything.
pub(in super::super) fn options(options: Options) -> Options {
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let listener = Listener::new(LOGIN, Security::Sasl)
        .with_property("sasl.enabled.mechanisms", "SCRAM-SHA-256")
        .with_property("scram-sha-256.sasl.jaas.config", module);
    options
        .with_listener(listener)
        .with_property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .with_property("super.users", "User:ANONYMOUS")
        .with_format_argument(format!("--add-scram=SCRAM-SHA-256=[name={USER},password={PASSWORD}]"))
}

/// What is taken from the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Taken {
    /// The right to read the topic, then that to be in the group and to commit.
    Rights,
    /// The right to write dead letters, from the beginning on. The sources start anew when they have it.
    Letters,
    /// The password: it is another one, and a little later it is so in the file that the sources have it from.
    Password,
}

/// Runs it on a cluster that serves, with [`options`].
pub(in super::super) fn run(cluster: &Cluster, taken: Taken, program: &Path, folder: &Path) -> Outcome<Verdict> {
    let began = Instant::now();
    let address = cluster.listener(LOGIN).ok_or("the cluster has no listener that asks who is there")?;
    let site = Site { address, ..Site::of_cluster(cluster, Replication::Safe) };
    let name = match taken {
        Taken::Rights => "rights",
        Taken::Letters => "letters-forbidden",
        Taken::Password => "password",
    };
    let stage = Stage::new(&site, name, PARTITIONS)?;
    let secret = folder.join("password");
    fs::write(&secret, PASSWORD)?;
    let mut orders = Orders::new(&[], &DRIVER);
    let username = format!("sasl.username={USER}");
    for property in ["security.protocol=sasl_plaintext", "sasl.mechanism=SCRAM-SHA-256", &username] {
        orders.source.extend(["--property".to_owned(), property.to_owned()]);
    }
    // What comes from files is named in a file of settings alone.
    let settings = folder.join("settings.yaml");
    fs::write(&settings, format!("properties-from-files:\n  sasl.password: {}\n", secret.display()))?;
    orders.source.extend(["--config".to_owned(), settings.display().to_string()]);
    if taken == Taken::Letters {
        orders
            .source
            .extend(["--max-deliveries", "2", "--dead-letter-topic", &stage.dead_letter_topic()].map(str::to_owned));
        orders.driver.extend(["--poison-every", "40"].map(str::to_owned));
    }
    let mut scene = Scene::new(program, folder, stage, 0, MEMBERS, &orders)?;
    let outcome = take(&mut scene, cluster, taken, &secret);
    let faults = scene.happened.len();
    let (figures, violations) = scene.judge(outcome)?;
    set_password(cluster, PASSWORD)?;
    Ok(Verdict { name: name.to_owned(), faults, figures, time: began.elapsed(), violations })
}

fn take(scene: &mut Scene, cluster: &Cluster, taken: Taken, secret: &Path) -> Outcome<()> {
    let (topic, group) = (scene.stage.topic.clone(), scene.stage.group.clone());
    let read_topic = ["--operation", "Read", "--operation", "Describe", "--topic", &topic];
    let use_group = ["--operation", "Read", "--operation", "Describe", "--group", &group];
    rights(cluster, "--add", &read_topic)?;
    rights(cluster, "--add", &use_group)?;
    let letters = scene.stage.dead_letter_topic();
    let see_letters = ["--operation", "Describe", "--topic", &letters];
    let write_letters = ["--operation", "Write", "--operation", "Describe", "--topic", &letters];
    if taken == Taken::Letters {
        rights(cluster, "--add", &see_letters)?;
    }
    scene.start()?;
    let producers = Producers::start(&scene.stage, 0, RECORDS, PRODUCING)?;
    wait_for_acks(scene)?;
    match taken {
        Taken::Rights => {
            for right in [&read_topic, &use_group] {
                let from = clock::now();
                rights(cluster, "--remove", right)?;
                scene.pass(AWAY)?;
                rights(cluster, "--add", right)?;
                scene.happened.push(Happened { fault: Fault::Refuse, from, to: clock::now() });
                wait_for_acks(scene)?;
            }
        }
        Taken::Letters => {
            let from = clock::now();
            scene.wait_for("word of the dead letters that are refused", PATIENCE, |scene| refused::is_told(scene))?;
            rights(cluster, "--add", &write_letters)?;
            // The sources try again by themselves.
            scene.happened.push(Happened { fault: Fault::Refuse, from, to: clock::now() });
        }
        Taken::Password => {
            let from = clock::now();
            set_password(cluster, "second")?;
            // Who is connected stays so: all have to log in again.
            let of_clients = || cluster.links(|way| way.from.is_none());
            of_clients().for_each(Link::cut);
            scene.pass(Duration::from_secs(1))?;
            of_clients().for_each(Link::heal);
            scene.pass(AWAY)?;
            fs::write(secret, "second")?;
            scene.happened.push(Happened { fault: Fault::Refuse, from, to: clock::now() });
            wait_for_acks(scene)?;
        }
    }
    producers.finish()?;
    scene.wait_for_commits()?;
    scene.end()
}

/// Waits until a record is acked that was taken from now on.
pub(super) fn wait_for_acks(scene: &mut Scene) -> Outcome<()> {
    let since = clock::now();
    scene.wait_for("ack of a record that came later", PATIENCE, |scene| {
        let lines = journal::read_all(&scene.folder)?;
        let taken = |line: &&journal::Line| line.at > since && matches!(line.deed, Deed::Took { .. });
        let places: Vec<_> = lines.iter().filter(taken).map(|line| line.place).collect();
        Ok(lines.iter().any(|line| line.at > since && line.deed == Deed::Acked && places.contains(&line.place)))
    })
}

/// Gives the sources rights, or takes them.
fn rights(cluster: &Cluster, what: &str, rights: &[&str]) -> Outcome<()> {
    let principal = format!("User:{USER}");
    let mut arguments = vec![what, "--force", "--allow-principal", &principal];
    arguments.extend(rights);
    tool(cluster, "org.apache.kafka.tools.AclCommand", &arguments)
}

/// Has the brokers take another password from the sources.
fn set_password(cluster: &Cluster, password: &str) -> Outcome<()> {
    let secret = format!("SCRAM-SHA-256=[password={password}]");
    let arguments = ["--alter", "--entity-type", "users", "--entity-name", USER, "--add-config", &secret];
    tool(cluster, "kafka.admin.ConfigCommand", &arguments)
}

/// Runs one of Kafka's tools.
fn tool(cluster: &Cluster, class: &str, arguments: &[&str]) -> Outcome<()> {
    let direct = cluster.direct();
    let arguments = ["--bootstrap-server", &direct].into_iter().chain(arguments.iter().copied());
    let node = cluster.node(1).ok_or("the cluster has no node")?;
    let output = node.tool(class, arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{class} failed: {}", String::from_utf8_lossy(&said)).into())
}
