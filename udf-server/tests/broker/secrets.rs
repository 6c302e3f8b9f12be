//! Secrets that are renewed in their files while the source runs.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kafka_broker::{Broker, Listener, Options, Security};
use numaflow_sdk::Environment;
use serde_json::Value;
use udf_server::config::Layers;
use udf_server::kafka::{Brokers, KafkaArgs, KafkaConfig};

use crate::endpoint::Endpoint;
use crate::harness::{PATIENCE, Platform, Stage, deadline, start};

const PASSWORD: &str = "the-first-one";

struct Nothing;

impl Environment for Nothing {
    fn get(&self, _name: &str) -> Result<Option<String>, String> {
        Ok(None)
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// The brokers take the new password only, and connections break: the source goes on with what the file has by then.
pub(crate) async fn a_password_that_is_renewed_in_its_file_is_used(stage: Stage) {
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let listener = Listener::new("LOGIN", Security::Sasl)
        .with_property("sasl.enabled.mechanisms", "SCRAM-SHA-512")
        .with_property("scram-sha-512.sasl.jaas.config", module);
    let broker = Broker::start(Options::new().with_listener(listener)).unwrap();
    let plain = Stage::new(broker.address(), stage.topic);
    plain.create_topic(1).await;
    let set_password = |broker: &Broker, password: &str| {
        let credentials = format!("SCRAM-SHA-512=[password={password}]");
        let address = broker.address();
        let user = ["--bootstrap-server", &address, "--alter", "--entity-type", "users", "--entity-name", "bob"];
        run(broker.tool("kafka.admin.ConfigCommand", user).args(["--add-config", &credentials]));
    };
    set_password(&broker, PASSWORD);

    let folder = tempfile::tempdir().unwrap();
    let (password, settings) = (folder.path().join("password"), folder.path().join("settings"));
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let mut file = fs::File::create(&settings).unwrap();
    writeln!(file, "brokers: {}\ntopics: {}\ngroup: {}", broker.listener("LOGIN").unwrap(), plain.topic, plain.group)
        .unwrap();
    writeln!(
        file,
        "properties: {{security.protocol: sasl_plaintext, sasl.mechanism: SCRAM-SHA-512, sasl.username: bob}}"
    )
    .unwrap();
    writeln!(file, "properties-from-files: {{sasl.password: {}}}\nrevoke-timeout: 100ms", password.display()).unwrap();
    let mut layers = Layers::new(&Nothing, Some(&settings)).unwrap();
    let platform = layers.platform();
    let config = KafkaArgs::default().config(&mut layers, &platform).unwrap();
    layers.finish().unwrap();

    let change = |broker: &Broker| set_password(broker, "the-second-one");
    goes_on(&plain, broker, config, change, || fs::write(&password, "the-second-one\n").unwrap()).await;
}

/// The same with the certificate that shows the brokers who the client is.
pub(crate) async fn a_certificate_that_is_renewed_in_its_file_is_used(stage: Stage) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let keytool = |arguments: &[&str]| run(Command::new("keytool").args(arguments).args(["-storepass", PASSWORD]));
    // A key with a certificate of its own, and the certificate alone.
    let certify = |name: &str| {
        let (store, certificate) = (path(&format!("{name}.p12")), path(&format!("{name}.pem")));
        let key = ["-genkeypair", "-keyalg", "RSA", "-validity", "3650", "-storetype", "PKCS12", "-alias", name];
        let subject = format!("CN={name}");
        keytool(&[&key[..], &["-dname", &subject, "-ext", "san=ip:127.0.0.1", "-keystore", &store]].concat());
        keytool(&["-exportcert", "-rfc", "-alias", name, "-keystore", &store, "-file", &certificate]);
    };
    let trust = |name: &str| {
        drop(fs::remove_file(path("trusted.p12")));
        let certificate = path(&format!("{name}.pem"));
        let import = ["-importcert", "-noprompt", "-storetype", "PKCS12", "-alias", name, "-file", &certificate];
        keytool(&[&import[..], &["-keystore", &path("trusted.p12")]].concat());
    };
    // As a certificate manager does it, so that nobody reads half of it.
    let hand_out = |name: &str| {
        fs::copy(path(&format!("{name}.p12")), path("next")).unwrap();
        fs::rename(path("next"), path("client.p12")).unwrap();
    };
    for name in ["broker", "first", "second"] {
        certify(name);
    }
    trust("first");
    hand_out("first");
    let listener = [
        ("ssl.keystore.type", "PKCS12"),
        ("ssl.keystore.location", &path("broker.p12")),
        ("ssl.keystore.password", PASSWORD),
        ("ssl.key.password", PASSWORD),
        ("ssl.truststore.type", "PKCS12"),
        ("ssl.truststore.location", &path("trusted.p12")),
        ("ssl.truststore.password", PASSWORD),
        ("ssl.client.auth", "required"),
    ]
    .into_iter()
    .fold(Listener::new("TLS", Security::Tls), |listener, (name, value)| listener.with_property(name, value));
    let broker = Broker::start(Options::new().with_listener(listener)).unwrap();
    let plain = Stage::new(broker.address(), stage.topic);
    plain.create_topic(1).await;
    assert!(Path::new(&path("client.p12")).exists());
    let brokers = Brokers::new(broker.listener("TLS").unwrap())
        .with_property("security.protocol", "ssl")
        .with_property("ssl.ca.location", path("broker.pem"))
        .with_property("ssl.keystore.location", path("client.p12"))
        .with_property("ssl.keystore.password", PASSWORD);
    let config = KafkaConfig::new(brokers, &plain.topic, &plain.group).with_revoke_timeout(Duration::from_millis(100));

    goes_on(&plain, broker, config, |_| trust("second"), || hand_out("second")).await;
}

/// What is committed stays so, what is in flight comes again, and what comes later is read, after the brokers were started
/// again with the new secret (`change`) and it was renewed in its file (`renew`).
async fn goes_on(
    plain: &Stage,
    mut broker: Broker,
    config: KafkaConfig,
    change: impl FnOnce(&Broker),
    renew: impl FnOnce(),
) {
    plain.fill(1, 0, 100);
    let source = start(config).await;
    let endpoint = Endpoint::of(&source);
    let mut platform = Platform::connect(&source).await;
    let before = platform.read_all(100).await;
    platform.ack(&before[..50]).await;
    plain.sampler(1).wait_for(&[(0, (50, 50))].into());

    // The commit of these has no answer: the brokers are away, and refuse the client when they are back.
    change(&broker);
    broker.stop().unwrap();
    platform.ack(&before[50..60]).await;
    endpoint.until("acked", |page| page["partitions"][0]["commit_point"] == 60).await;
    broker.restart().unwrap();
    endpoint.until("refused", |page| page["refused"] != Value::Null).await;
    renew();
    plain.fill(1, 100, 100);
    let sampler = plain.sampler(1);
    let last = deadline() + PATIENCE;
    let mut places = Vec::new();
    while places.last() != Some(&(0, 199)) {
        assert!(tokio::time::Instant::now() < last, "{} came: {:#}", places.len(), endpoint.page().await);
        let messages = platform.read(500, Duration::from_millis(500)).await;
        places.extend(plain.places(&messages));
        platform.ack(&messages).await;
    }
    places.sort_unstable();
    places.dedup();
    let first = places[0].1;
    assert!((50..=60).contains(&first), "{first}");
    assert_eq!(places, (first..200).map(|offset| (0, offset)).collect::<Vec<_>>());
    sampler.wait_for(&[(0, (200, 200))].into());
    let page = endpoint.until("was renewed", |page| page["totals"]["secret_renewals"] == 1).await;
    assert_eq!(page["state"], "assigned");
    assert!(source.close(PATIENCE).await);
}
