//! Secrets in files: read again while the source runs, and used by new clients when they have changed.
//!
//! The client library reads certificates and keys when a client is made, and passwords come to it as text. So a thread
//! looks at the files; once they have changed, and stayed as they are from one look to the next, every client of the source
//! is made anew: the member of the group, the one that asks for offsets, and the producer of dead letters. The member gives
//! its partitions back first, as it does when the group wants them: what is in flight has the revoke timeout to be acked.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::time::Instant;

use super::brokers::Brokers;
use super::client::StartError;
use super::config::KafkaConfig;
use super::context::Context;
use super::rebalance::Rebalancing;
use super::shared::Shared;
use super::thread::Worker;
use super::threads;

/// How often the files are read. They are small, and a refusal by the brokers is mended within seconds.
pub(super) const PERIOD: Duration = Duration::from_secs(2);
/// How long the member may take to leave the group before its successor joins.
const CLOSING: Duration = Duration::from_secs(4);
/// How long it may take in all. The group gives up a member that is silent sooner.
const CLOSED: Duration = Duration::from_secs(5 * 60);
/// How long the thread sleeps while it waits for that.
const TICK: Duration = Duration::from_millis(20);

/// The files of a source's secrets, as they are now and as they are used.
#[derive(Debug)]
struct Files {
    paths: BTreeMap<String, PathBuf>,
    used: BTreeMap<String, Option<u64>>,
    seen: BTreeMap<String, Option<u64>>,
}

impl Files {
    fn new(paths: BTreeMap<String, PathBuf>) -> Self {
        let now = fingerprints(&paths);
        Self { paths, used: now.clone(), seen: now }
    }

    /// Reads the files, and tells the properties whose files have changed. A change counts once it was seen twice: a
    /// certificate and its key are two files, and are written one after the other.
    fn look(&mut self) -> Vec<String> {
        let now = fingerprints(&self.paths);
        let is_settled = now == self.seen;
        self.seen = now;
        // A file that is not there now is being replaced, or the old content has to do.
        let is_new = |(name, content): (&String, &Option<u64>)| {
            (content.is_some() && self.used.get(name) != Some(content)).then(|| name.clone())
        };
        if is_settled { self.seen.iter().filter_map(is_new).collect() } else { Vec::new() }
    }

    /// Takes note that what was seen last is used, or was found to be of no use.
    fn take(&mut self) {
        for (name, content) in &self.seen {
            if content.is_some() {
                self.used.insert(name.clone(), *content);
            }
        }
    }

    /// The properties whose files cannot be read.
    fn missing(&self) -> Vec<&str> {
        self.seen.iter().filter(|(_, content)| content.is_none()).map(|(name, _)| name.as_str()).collect()
    }
}

fn fingerprints(paths: &BTreeMap<String, PathBuf>) -> BTreeMap<String, Option<u64>> {
    paths.iter().map(|(name, path)| (name.clone(), fingerprint(path).ok())).collect()
}

/// A number that differs where the content does; the content itself is not kept. Certificates may be a folder of files.
fn fingerprint(path: &Path) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        entries.sort_unstable();
        for file in entries.iter().filter(|file| file.is_file()) {
            file.hash(&mut hasher);
            fs::read(file)?.hash(&mut hasher);
        }
    } else {
        fs::read(path)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Looks at the files of the source's secrets until it stops, if there are any.
pub(super) fn watch(config: KafkaConfig, shared: Arc<Shared>) -> Result<(), StartError> {
    let paths = config.brokers.files();
    if paths.is_empty() {
        return Ok(());
    }
    // Before the first client is made of them, so that no change is missed.
    let files = Files::new(paths);
    let in_work = shared.clone();
    let work = move |files: &mut Files| {
        let (mut told, mut refused) = (false, None);
        while !in_work.stopped() {
            thread::park_timeout(PERIOD);
            let changed = files.look();
            if !changed.is_empty() {
                refused = renew(&config, &in_work, &changed).err();
                files.take();
            }
            let missing = files.missing().join(" ");
            if !missing.is_empty() && !told {
                tracing::warn!(
                    properties = missing,
                    "files of secrets cannot be read now; what was read of them before stays in use"
                );
            }
            told = !missing.is_empty();
            let unreadable = told.then(|| format!("the files of these properties cannot be read: {missing}"));
            in_work.progress.trouble().unusable_secrets = unreadable.or_else(|| refused.clone());
        }
    };
    threads::spawn("kafka-secrets", shared, || files, work).map_err(|source| StartError::Thread { source })
}

/// Has the clients made anew.
///
/// # Errors
///
/// If the library does not take what the files hold now.
fn renew(config: &KafkaConfig, shared: &Shared, changed: &[String]) -> Result<(), String> {
    let properties = changed.join(" ");
    let renewed = config.brokers.renewed().and_then(|brokers| {
        let config = KafkaConfig { brokers, ..config.clone() };
        config.accepted().map(|()| config.brokers)
    });
    match renewed {
        Ok(brokers) => {
            tracing::info!(properties, "files of secrets have changed; the Kafka clients are made anew");
            shared.renewed.send_replace(Some(brokers));
            shared.wake_worker();
            Ok(())
        }
        Err(problem) => {
            tracing::error!(
                properties,
                problem,
                "files of secrets have changed, and cannot be used: the clients keep the old ones until the files change \
                 again"
            );
            Err(format!("{properties}: {problem}"))
        }
    }
}

impl Worker {
    /// Begins to put a client with renewed secrets in the place of this one, once there are such and no rebalance is being
    /// answered.
    pub(super) fn renew_in_turn(&mut self, now: Instant) {
        if !matches!(self.rebalancing, Rebalancing::No) || !self.renewed.has_changed().unwrap_or(false) {
            return;
        }
        let Some(brokers) = self.renewed.borrow_and_update().clone() else { return };
        if let Some(letters) = &mut self.letters {
            letters.renew(&brokers, now);
        }
        self.config.brokers = brokers;
        self.begin_renewal(now);
    }

    /// Puts the client with renewed secrets in the place of the one that has given its partitions back, at these points.
    pub(super) fn renew(&mut self, points: &[(u16, Option<i64>)]) {
        self.store_last(points);
        self.forget();
        self.consumer.context().leave();
        self.close_client();
        self.shared.counters.renewals.add(1);
        self.begin_with_new_client(Duration::ZERO);
    }

    /// Closes the client, which commits what is stored and leaves the group. Brokers that do not answer, or refuse us, make
    /// that take longer than anybody should wait.
    fn close_client(&mut self) {
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!(%error, "the client is closed already");
            return;
        }
        let began = Instant::now();
        while !self.consumer.closed() {
            self.consumer.poll(TICK);
            let now = Instant::now();
            self.shared.progress.poll(now);
            if now.duration_since(began) >= CLOSING {
                tracing::debug!("the old client is left to close by itself");
                return;
            }
        }
    }
}

/// Lets a client go where nobody waits for it: that takes as long as brokers that are away let it.
pub(super) fn let_go(consumer: Arc<BaseConsumer<Context>>) {
    let work = move || {
        // One that is closing already says so. Without polls it would never end, and stay a member that answers nothing.
        if let Err(error) = consumer.close_queue() {
            tracing::debug!(%error, "the old client closes");
        }
        let began = Instant::now();
        while !consumer.closed() && began.elapsed() < CLOSED {
            consumer.poll(TICK);
        }
    };
    // Without a thread it goes here.
    if let Err(error) = thread::Builder::new().name("kafka-closing".to_owned()).spawn(work) {
        tracing::debug!(%error, "the old client is closed in place");
    }
}

/// Takes over what the files of secrets hold now; `true` if that has changed.
pub(super) fn take_renewed(
    config: &mut KafkaConfig,
    renewed: &mut tokio::sync::watch::Receiver<Option<Brokers>>,
) -> bool {
    if !renewed.has_changed().unwrap_or(false) {
        return false;
    }
    let Some(brokers) = renewed.borrow_and_update().clone() else { return false };
    config.brokers = brokers;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "first").unwrap();
        let authorities = folder.path().join("authorities");
        fs::create_dir(&authorities).unwrap();
        let paths = [("sasl.password", path.clone()), ("ssl.ca.location", authorities.clone())];
        let mut files = Files::new(paths.map(|(name, path)| (name.to_owned(), path)).into());
        assert!(files.look().is_empty());
        fs::write(&path, "second").unwrap();
        assert!(files.look().is_empty(), "it may not be all");
        fs::write(&path, "third").unwrap();
        assert!(files.look().is_empty(), "nor is it");
        assert_eq!(files.look(), ["sasl.password"]);
        files.take();
        assert!(files.look().is_empty());
        fs::write(authorities.join("one.pem"), "a certificate").unwrap();
        assert!(files.look().is_empty());
        assert_eq!(files.look(), ["ssl.ca.location"]);
        files.take();
        fs::remove_file(&path).unwrap();
        assert!(files.look().is_empty() && files.look().is_empty(), "what is gone is no news");
        assert_eq!(files.missing(), ["sasl.password"]);
        fs::write(&path, "third").unwrap();
        assert!(files.look().is_empty() && files.look().is_empty(), "and is what it was");
    }
}
