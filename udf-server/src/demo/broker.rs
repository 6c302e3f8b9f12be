//! A Kafka broker inside this process, for a demo that needs nothing else.

use std::fmt;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;

/// A broker that other processes reach by TCP on the loopback interface. It goes when this is dropped, records included.
///
/// It keeps about five megabytes of each partition and drops the oldest beyond that, silently: whoever produces must stay
/// well below, counted from what the group has committed.
pub struct EmbeddedBroker {
    addresses: String,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Starts a broker that has one topic.
    ///
    /// # Errors
    ///
    /// What the client library says when it cannot listen.
    pub fn start(topic: &str, partitions: i32) -> Result<Self, EmbeddedBrokerError> {
        let failed = |problem: String| EmbeddedBrokerError { problem };
        let (started, start) = mpsc::sync_channel(1);
        let (stop, stopped) = mpsc::sync_channel::<()>(1);
        let topic = topic.to_owned();
        // The broker's handle may not change threads, so it stays on one of its own.
        let thread = thread::Builder::new()
            .name("broker".to_owned())
            .spawn(move || {
                let cluster = match listen(&topic, partitions) {
                    Ok(cluster) => cluster,
                    Err(error) => {
                        // The other end waits for this.
                        _ = started.send(Err(error.to_string()));
                        return;
                    }
                };
                _ = started.send(Ok(cluster.bootstrap_servers()));
                // Ends when the other end is dropped.
                _ = stopped.recv();
            })
            .map_err(|error| failed(error.to_string()))?;
        let addresses = start.recv().map_err(|_| failed("its thread has ended".to_owned()))?.map_err(failed)?;
        Ok(Self { addresses, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: `host:port`.
    #[must_use]
    pub fn addresses(&self) -> &str {
        &self.addresses
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic, and there would be nothing to do about it.
            _ = thread.join();
        }
    }
}

fn listen(
    topic: &str,
    partitions: i32,
) -> KafkaResult<MockCluster<'static, rdkafka::producer::DefaultProducerContext>> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(topic, partitions, 1)?;
    Ok(cluster)
}

/// The embedded broker cannot start.
#[derive(Debug)]
#[non_exhaustive]
pub struct EmbeddedBrokerError {
    /// What the client library or the system says.
    pub problem: String,
}

impl fmt::Display for EmbeddedBrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the embedded broker cannot start: {}", self.problem)
    }
}

impl std::error::Error for EmbeddedBrokerError {}
