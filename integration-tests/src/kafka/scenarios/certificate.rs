//! A client certificate that is renewed: the broker trusts the new one alone, and a little later it is in the sources' file.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_broker::{Cluster, Listener, Options, Security};

use super::super::Outcome;
use super::super::clock;
use super::super::faults::Fault;
use super::super::member::Orders;
use super::super::producers::Producers;
use super::super::report::Verdict;
use super::super::scene::Scene;
use super::super::stage::{Replication, Site, Stage};
use super::super::verdict::Happened;
use super::login::wait_for_acks;

/// The listener that asks for a certificate.
const LISTENER: &str = "TLS";
/// What opens the stores of keys, which are in a folder that is gone after the run.
const OPENED_BY: &str = "changeit";
const PARTITIONS: i32 = 6;
const MEMBERS: usize = 2;
const RECORDS: u64 = 4_000;
const PRODUCING: Duration = Duration::from_secs(40);
const DRIVER: [&str; 2] = ["--work", "500"];
/// For how long the broker refuses the certificate of the sources' file.
const REFUSED: Duration = Duration::from_secs(5);

/// Runs it on a node of its own.
pub(in super::super) fn run(heap: &str, program: &Path, folder: &Path) -> Outcome<Verdict> {
    let began = Instant::now();
    let keys = Keys { folder };
    keys.make()?;
    let listener = Listener::new(LISTENER, Security::Tls)
        .with_property("ssl.keystore.type", "PKCS12")
        .with_property("ssl.keystore.location", keys.path("server.p12"))
        .with_property("ssl.keystore.password", OPENED_BY)
        .with_property("ssl.key.password", OPENED_BY)
        .with_property("ssl.truststore.type", "PKCS12")
        .with_property("ssl.truststore.location", keys.path("trusted.p12"))
        .with_property("ssl.truststore.password", OPENED_BY)
        .with_property("ssl.client.auth", "required");
    let mut cluster = Cluster::start(1, &Options::new().with_heap(heap).with_listener(listener))?;
    let address = cluster.listener(LISTENER).ok_or("the node has no listener that asks for a certificate")?;
    let site = Site { address, ..Site::of_cluster(&cluster, Replication::Single) };
    let stage = Stage::new(&site, "certificate", PARTITIONS)?;
    let mut orders = Orders::new(&[], &DRIVER);
    for property in [
        "security.protocol=ssl",
        "ssl.endpoint.identification.algorithm=none",
        &format!("ssl.ca.location={}", keys.path("server.pem")),
        &format!("ssl.keystore.location={}", keys.path("client.p12")),
        &format!("ssl.keystore.password={OPENED_BY}"),
    ] {
        orders.source.extend(["--property".to_owned(), property.to_owned()]);
    }
    let mut scene = Scene::new(program, folder, stage, 0, MEMBERS, &orders)?;
    let outcome = renew(&mut scene, &mut cluster, &keys);
    let faults = scene.happened.len();
    let (figures, violations) = scene.judge(outcome)?;
    Ok(Verdict { name: "certificate".to_owned(), faults, figures, time: began.elapsed(), violations })
}

fn renew(scene: &mut Scene, cluster: &mut Cluster, keys: &Keys<'_>) -> Outcome<()> {
    scene.start()?;
    let producers = Producers::start(&scene.stage, 0, RECORDS, PRODUCING)?;
    wait_for_acks(scene)?;
    let from = clock::now();
    keys.put("trusted-second.p12", "trusted.p12")?;
    cluster.node_mut(1).ok_or("the cluster has no node")?.restart()?;
    scene.pass(REFUSED)?;
    keys.put("second.p12", "client.p12")?;
    scene.happened.push(Happened { fault: Fault::CrashBroker, from, to: clock::now() });
    wait_for_acks(scene)?;
    producers.finish()?;
    scene.wait_for_commits()?;
    scene.end()
}

/// The keys and certificates of the run, made by Java's own tool: each signs itself, and is trusted as it is.
struct Keys<'a> {
    folder: &'a Path,
}

impl Keys<'_> {
    fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Makes the broker's key and two of clients, of which the first one is trusted and used.
    fn make(&self) -> Outcome<()> {
        for name in ["server", "first", "second"] {
            let (store, certificate) = (self.path(&format!("{name}.p12")), self.path(&format!("{name}.pem")));
            let subject = format!("CN={name}");
            keytool(&["-genkeypair", "-keyalg", "EC", "-alias", name, "-dname", &subject, "-keystore", &store])?;
            keytool(&["-exportcert", "-rfc", "-alias", name, "-keystore", &store, "-file", &certificate])?;
        }
        for name in ["first", "second"] {
            let (trusted, certificate) = (self.path(&format!("trusted-{name}.p12")), self.path(&format!("{name}.pem")));
            keytool(&["-importcert", "-noprompt", "-alias", name, "-keystore", &trusted, "-file", &certificate])?;
        }
        self.put("trusted-first.p12", "trusted.p12")?;
        self.put("first.p12", "client.p12")
    }

    /// Puts a file in the place of another one, at once and as a whole.
    fn put(&self, file: &str, place: &str) -> Outcome<()> {
        fs::copy(self.path(file), self.path("new"))?;
        Ok(fs::rename(self.path("new"), self.path(place))?)
    }
}

fn keytool(arguments: &[&str]) -> Outcome<()> {
    let output =
        Command::new("keytool").args(arguments).args(["-storetype", "PKCS12", "-storepass", OPENED_BY]).output();
    let output = output.map_err(|error| format!("keytool, which comes with Java, cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("keytool failed: {}", String::from_utf8_lossy(&said)).into())
}
