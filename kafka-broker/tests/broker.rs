//! A broker's life, and that nothing of it is left afterwards.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kafka_broker::proxy::Link;
use kafka_broker::{Broker, Cluster, Listener, Options, Security, StartError};
use libtest_mimic::{Arguments, Failed, Trial};

/// Set for this binary when it is started as a process of its own: what it is to do.
const ROLE: &str = "KAFKA_BROKER_TEST_ROLE";
/// Longer than anything takes that happens at all, on a machine whose cores are busy: a tool of Kafka's starts a virtual
/// machine each time it looks.
const PATIENCE: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        return play(&role);
    }
    let arguments = Arguments::from_args();
    let ignored = if arguments.list { None } else { kafka_broker::ignored() };
    let with_broker = |name: &str, test: fn() -> Result<(), Failed>| {
        let name = ignored.as_ref().map_or(name.to_owned(), |reason| format!("{name} ({reason})"));
        Trial::test(name, test).with_ignored_flag(ignored.is_some())
    };
    let trials = vec![
        with_broker("it_keeps_its_topics_and_its_address_over_a_crash", life),
        with_broker("it_starts_with_the_archive_of_its_classes", archive),
        with_broker("a_paused_one_is_killed_when_it_is_dropped", dropped),
        with_broker("it_ends_when_its_owner_is_killed", || orphaned("running")),
        with_broker("it_ends_when_its_owner_is_killed_while_it_is_paused", || orphaned("paused")),
        with_broker("one_that_cannot_start_shows_its_log", broken),
        with_broker("listeners_ask_who_is_there", listeners),
        with_broker("a_cluster_goes_on_without_a_node_that_is_cut_off_or_killed", cluster),
        with_broker("processes_that_fetch_at_the_same_time_fetch_once", fetching),
        Trial::test("without_java_it_says_what_to_install", without_java),
        Trial::test("without_maven_or_its_network_it_says_what_to_do", without_maven),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What the processes do that tests start.
fn play(role: &str) -> ExitCode {
    if role == "available" {
        return match kafka_broker::available() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let broker = Broker::start(Options::new()).unwrap();
    if role == "paused" {
        broker.pause().unwrap();
    }
    println!("{}", broker.pid().unwrap());
    loop {
        thread::park();
    }
}

fn process(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, role).stdout(Stdio::piped());
    command
}

/// Waits until something holds.
fn wait_until(what: &str, holds: impl Fn() -> bool) -> Result<(), Failed> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("not within {} s: {what}", PATIENCE.as_secs()).into());
        }
        thread::yield_now();
    }
    Ok(())
}

/// Whether the process is there. One that has ended and that nobody has waited for has no command line any more.
fn runs(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// How many processes have this folder in their command line.
fn processes_of(folder: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let command = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    processes.map(command).filter(|line| String::from_utf8_lossy(line).contains(folder)).count()
}

/// The folder of a broker's data, which its process works in.
fn folder(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/cwd")).unwrap().display().to_string()
}

fn topics(broker: &Broker, arguments: &[&str]) -> String {
    let address = broker.address();
    let arguments = ["--bootstrap-server", &address].into_iter().chain(arguments.iter().copied());
    let output = broker.tool("org.apache.kafka.tools.TopicCommand", arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn life() -> Result<(), Failed> {
    let mut broker = Broker::start(Options::new()).unwrap();
    topics(&broker, &["--create", "--topic", "kept"]);
    let (address, pid) = (broker.address(), broker.pid().unwrap());
    broker.crash()?;
    assert!(!runs(pid));
    assert_eq!(broker.pid(), None);
    assert!(broker.pause().is_err());
    broker.restart()?;
    assert_eq!(broker.address(), address);
    assert_eq!(topics(&broker, &["--list"]).trim(), "kept");
    assert!(broker.data_size()? > 0);
    let folder = folder(broker.pid().unwrap());
    let in_order = Path::new(&folder).join("data/.kafka_cleanshutdown");
    assert!(!in_order.exists());
    broker.stop()?;
    assert!(in_order.exists());
    assert_eq!(processes_of(&folder), 0, "the guard is gone, too");
    assert!(Path::new(&folder).exists());
    drop(broker);
    assert!(!Path::new(&folder).exists());
    Ok(())
}

fn archive() -> Result<(), Failed> {
    let broker = Broker::start(Options::new()).unwrap();
    let maps = fs::read_to_string(format!("/proc/{}/maps", broker.pid().unwrap()))?;
    let is_ours = |line: &str| line.contains(".java-") && line.ends_with(".jsa");
    assert!(maps.lines().any(is_ours), "{maps}");
    Ok(())
}

fn dropped() -> Result<(), Failed> {
    let broker = Broker::start(Options::new()).unwrap();
    let pid = broker.pid().unwrap();
    let folder = folder(pid);
    broker.pause()?;
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    wait_until("its process is stopped", || state().contains(") T "))?;
    broker.resume()?;
    wait_until("it goes on", || !state().contains(") T "))?;
    broker.pause()?;
    drop(broker);
    assert!(!runs(pid));
    assert_eq!(processes_of(&folder), 0);
    assert!(!Path::new(&folder).exists());
    Ok(())
}

fn orphaned(role: &str) -> Result<(), Failed> {
    let mut owner = process(role).spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let pid = pid.trim().parse::<u32>();
    let folder = pid.clone().map(folder);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let (pid, folder) = (pid?, folder?);
    wait_until("the broker is gone", || !runs(pid))?;
    wait_until("its data is gone", || !Path::new(&folder).exists())?;
    wait_until("its guard is gone", || processes_of(&folder) == 0)
}

fn broken() -> Result<(), Failed> {
    let Err(error) = Broker::start(Options::new().with_property("num.io.threads", "none")) else {
        return Err("it has started".into());
    };
    assert!(matches!(error, StartError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("num.io.threads"), "{error}");
    let Err(error) = Broker::start(Options::new().with_heap("1x")) else {
        return Err("it has started".into());
    };
    assert!(error.to_string().contains("Xmx1x"), "{error}");
    Ok(())
}

fn listeners() -> Result<(), Failed> {
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    let listener = Listener::new("LOGIN", Security::Sasl)
        .with_property("sasl.enabled.mechanisms", "PLAIN")
        .with_property("plain.sasl.jaas.config", format!("{module} user_alice=\"secret\";"));
    let broker = Broker::start(Options::new().with_listener(listener)).unwrap();
    assert_eq!(broker.listener("OTHER"), None);
    let address = broker.listener("LOGIN").unwrap();
    let list = |password: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN").unwrap();
        writeln!(file, "sasl.jaas.config={module} username=\"alice\" password=\"{password}\";").unwrap();
        let config = file.path().to_str().unwrap();
        let arguments = ["--bootstrap-server", &address, "--command-config", config, "--list"];
        broker.tool("org.apache.kafka.tools.TopicCommand", arguments).output().unwrap()
    };
    assert!(list("secret").status.success());
    let refused = list("wrong");
    assert!(!refused.status.success());
    let said = [refused.stdout, refused.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains("Authentication failed"), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

/// The node that leads the controllers.
fn active_controller(cluster: &Cluster) -> u32 {
    let direct = cluster.direct();
    let arguments = ["--bootstrap-server", &direct, "describe", "--status"];
    let tool = "org.apache.kafka.tools.MetadataQuorumCommand";
    let output = cluster.node(1).unwrap().tool(tool, arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().find_map(|line| line.strip_prefix("LeaderId:")).unwrap().trim().parse().unwrap()
}

fn cluster() -> Result<(), Failed> {
    let mut cluster = Cluster::start(3, &Options::new().with_heap("320m")).unwrap();
    let folders: Vec<_> = cluster.ids().map(|id| folder(cluster.node(id).unwrap().pid().unwrap())).collect();
    let direct = cluster.direct();
    let topics = |cluster: &Cluster, server: &str, arguments: &[&str]| {
        let arguments = ["--bootstrap-server", server].into_iter().chain(arguments.iter().copied());
        let output = cluster.node(1).unwrap().tool("org.apache.kafka.tools.TopicCommand", arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let created = topics(&cluster, &cluster.address(), &["--create", "--topic", "kept", "--partitions", "3"]);
    assert!(created.is_some(), "through the links of clients");
    // How many replicas of the topic's partitions are in sync, as those say that are still together.
    let in_sync = |cluster: &Cluster, server: &str| {
        let described = topics(cluster, server, &["--describe", "--topic", "kept"])?;
        let replicas = described.lines().filter_map(|line| line.split_once("\tIsr: ")?.1.split('\t').next());
        Some(replicas.flat_map(|replicas| replicas.split(',')).count())
    };
    wait_until("all replicas are in sync", || in_sync(&cluster, &direct) == Some(9))?;
    // The one that leads the controllers: were there a way around the links, the cluster would go on with it.
    let active = active_controller(&cluster);
    let of_others = cluster.ids().filter(|id| *id != active);
    let others: Vec<_> = of_others.map(|id| cluster.node(id).unwrap().listener(Cluster::DIRECT).unwrap()).collect();
    let others = others.join(",");
    cluster.links(|way| way.is_between_others_and(active)).for_each(Link::cut);
    wait_until("the node that is cut off is not in sync", || in_sync(&cluster, &others) == Some(6))?;
    cluster.heal();
    wait_until("it is again", || in_sync(&cluster, &direct) == Some(9))?;
    // A follower without records does not know the epoch of its leader, and any of the nodes may lead.
    let leaders_began = || cluster.ids().filter_map(|id| cluster.node(id).unwrap().leader_epochs("kept", 0).pop());
    wait_until("a leader has begun with the first record", || leaders_began().any(|(_, offset)| offset == 0))?;
    cluster.node_mut(active).unwrap().crash()?;
    wait_until("the node that is killed is not in sync", || in_sync(&cluster, &others) == Some(6))?;
    cluster.node_mut(active).unwrap().restart()?;
    wait_until("it is in the end", || in_sync(&cluster, &direct) == Some(9))?;
    drop(cluster);
    for folder in folders {
        assert_eq!(processes_of(&folder), 0);
        assert!(!Path::new(&folder).exists());
    }
    Ok(())
}

fn fetching() -> Result<(), Failed> {
    let folder = tempfile::tempdir().unwrap();
    let jars = folder.path().join("jars");
    let fetch = || process("available").env("KAFKA_JARS", &jars).stderr(Stdio::piped()).spawn().unwrap();
    let outputs: Vec<_> =
        [fetch(), fetch(), fetch()].into_iter().map(|process: Child| process.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let said: String = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect();
    assert_eq!(said.matches("fetching Apache Kafka").count(), 1, "{said}");
    assert!(fs::read_dir(&jars).unwrap().count() > 40);
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["jars", "jars.lock"], "nothing is left of what was fetched in vain");
    Ok(())
}

/// A stand-in for Java, where only its version is asked for.
const JAVA: (&str, &str) = ("java", "#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n");

/// What `available` says where there are no jars, and no programs but these scripts.
fn unavailable(programs: &[(&str, &str)]) -> Result<String, Failed> {
    let (path, jars) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for (name, script) in programs {
        let program = path.path().join(name);
        fs::write(&program, script)?;
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let output = process("available").env("PATH", path.path()).env("KAFKA_JARS", jars.path().join("jars")).output()?;
    assert!(!output.status.success());
    let left: Vec<_> = fs::read_dir(jars.path())?.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "jars.lock"), "{left:?}");
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(said.lines().count(), 1, "{said}");
    Ok(said)
}

fn without_java() -> Result<(), Failed> {
    let said = unavailable(&[])?;
    assert!(said.starts_with("Apache Kafka cannot run here: there is no java on the PATH; install a Java"), "{said}");
    let said = unavailable(&[("java", "#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")])?;
    assert!(said.contains("java is of version 11; install a Java runtime of version 17 or newer"), "{said}");
    Ok(())
}

fn without_maven() -> Result<(), Failed> {
    let said = unavailable(&[JAVA])?;
    assert!(said.contains("there is no mvn on the PATH; install Maven, or set KAFKA_JARS"), "{said}");
    let said = unavailable(&[JAVA, ("mvn", "#!/bin/sh\necho '[INFO] x'; echo '[ERROR] no network'; exit 1\n")])?;
    assert!(said.contains("Maven cannot fetch Kafka's jars ([ERROR] no network); see to its network"), "{said}");
    Ok(())
}
