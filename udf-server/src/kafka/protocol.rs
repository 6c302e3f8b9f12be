//! How members and brokers agree on who reads what.

use clap::ValueEnum;
use rdkafka::ClientConfig;

/// The protocol of the consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum GroupProtocol {
    /// The one that all brokers know: a member among them assigns the partitions, with `cooperative-sticky`. The default,
    /// because the client library does not survive every turn of the other one.
    #[default]
    Classic,
    /// That of Kafka 4 (KIP-848): the brokers assign the partitions, and a change stops nobody who keeps his.
    Consumer,
    /// That of Kafka 4 where the brokers know it, and the classic one where they don't.
    Auto,
}

/// Defaults that only the classic protocol knows.
const CLASSIC_DEFAULTS: [(&str, &str); 3] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "45000"),
    ("heartbeat.interval.ms", "1000"),
];

impl GroupProtocol {
    /// Whether it is that of Kafka 4, as long as nothing is known of the brokers.
    pub(super) fn is_new(self) -> bool {
        self != Self::Classic
    }

    /// The defaults that only members by this protocol have.
    pub(super) fn defaults(self) -> &'static [(&'static str, &'static str)] {
        if self.is_new() { &[] } else { &CLASSIC_DEFAULTS }
    }

    /// Has a client speak this protocol.
    pub(super) fn apply(self, client: &mut ClientConfig) {
        if self.is_new() {
            client.set("group.protocol", "consumer");
        }
        if self == Self::Auto {
            // The library takes none of them for the new protocol, and they are meant for the other one.
            for (name, _) in CLASSIC_DEFAULTS {
                client.remove(name);
            }
        }
    }

    /// Whether a property has a default for some protocol.
    pub(super) fn has_default(name: &str) -> bool {
        CLASSIC_DEFAULTS.into_iter().any(|(known, _)| known == name)
    }
}
