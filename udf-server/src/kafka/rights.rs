//! Rights that the brokers deny. Pure.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::time::Instant;

/// A denial that is older than this is over: whatever was denied is tried again within seconds.
const OVER: Duration = Duration::from_secs(60);

/// The brokers deny a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denial {
    /// What the brokers answered.
    pub(super) code: Code,
    /// The right that is missing, and on what.
    pub(super) right: String,
    /// When it was denied last.
    pub(super) last: Instant,
}

impl Denial {
    /// Whether it is still so, as far as that is known.
    pub(super) fn holds(&self, now: Instant) -> bool {
        now.duration_since(self.last) < OVER
    }
}

/// The right that is missing where the brokers answer with this error; `None` for an error of another kind. `about` is what
/// is known of the resource: its name, or what the client library says.
#[expect(clippy::wildcard_enum_match_arm, reason = "the client library has 150 codes")]
pub(super) fn missing(code: Code, about: &str) -> Option<String> {
    match code {
        Code::GroupAuthorizationFailed => Some(format!("READ on the group ({about})")),
        Code::TopicAuthorizationFailed => Some(format!("READ on the topic ({about})")),
        Code::ClusterAuthorizationFailed => Some(format!("on the cluster ({about})")),
        Code::TransactionalIdAuthorizationFailed | Code::DelegationTokenAuthorizationFailed => {
            Some(format!("for {about}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_that_is_missing_is_named() {
        let right = |code| missing(code, "flights");
        assert_eq!(right(Code::GroupAuthorizationFailed).as_deref(), Some("READ on the group (flights)"));
        assert_eq!(right(Code::TopicAuthorizationFailed).as_deref(), Some("READ on the topic (flights)"));
        assert_eq!(right(Code::ClusterAuthorizationFailed).as_deref(), Some("on the cluster (flights)"));
        for code in [Code::BrokerTransportFailure, Code::SaslAuthenticationFailed, Code::UnknownMemberId] {
            assert_eq!(right(code), None, "{code:?}");
        }
    }

    #[test]
    fn a_denial_is_over_when_it_is_not_repeated() {
        let now = Instant::now();
        let denial = Denial { code: Code::GroupAuthorizationFailed, right: String::new(), last: now };
        assert!(denial.holds(now + OVER / 2));
        assert!(!denial.holds(now + OVER));
    }
}
