//! Which errors of a producer pass by themselves, and which last until somebody acts. Pure.

use rdkafka::error::RDKafkaErrorCode as Code;

/// What an error means for the letter that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may pass by itself: brokers that are away, a leader that moves, replicas that are behind. Every error that is not
    /// known to last is one of these.
    Passing,
    /// The brokers do not take that many bytes. In a batch this is said of all its letters, so each is tried alone before it
    /// counts as lasting.
    TooLarge,
    /// It lasts until somebody changes the topic, a right or a setting.
    Lasting,
}

/// What an error means.
#[expect(clippy::wildcard_enum_match_arm, reason = "the client library has 150 codes")]
pub(super) fn verdict(code: Code) -> Verdict {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => Verdict::TooLarge,
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::DelegationTokenAuthorizationFailed
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::InvalidRequiredAcks
        | Code::InvalidArgument
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature => Verdict::Lasting,
        _ => Verdict::Passing,
    }
}

/// What to do about an error that lasts, as the end of a sentence.
#[expect(clippy::wildcard_enum_match_arm, reason = "the client library has 150 codes")]
pub(super) fn remedy(code: Code) -> &'static str {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            "raise max.message.bytes of the topic"
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => "create the topic",
        Code::InvalidTopic => "correct --dead-letter-topic",
        Code::TopicAuthorizationFailed => "give this user the right WRITE on the topic",
        Code::ClusterAuthorizationFailed => "give this user the right IDEMPOTENT_WRITE on the cluster",
        _ => "see the settings of the topic and the log of the brokers",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_last_are_told_from_those_that_pass() {
        let table = [
            (Code::MessageSizeTooLarge, Verdict::TooLarge),
            (Code::MessageBatchTooLarge, Verdict::TooLarge),
            (Code::UnknownTopicOrPartition, Verdict::Lasting),
            (Code::UnknownTopic, Verdict::Lasting),
            (Code::UnknownPartition, Verdict::Lasting),
            (Code::InvalidTopic, Verdict::Lasting),
            (Code::TopicAuthorizationFailed, Verdict::Lasting),
            (Code::ClusterAuthorizationFailed, Verdict::Lasting),
            (Code::InvalidRecord, Verdict::Lasting),
            (Code::InvalidTimestamp, Verdict::Lasting),
            (Code::PolicyViolation, Verdict::Lasting),
            (Code::UnsupportedForMessageFormat, Verdict::Lasting),
            (Code::BrokerTransportFailure, Verdict::Passing),
            (Code::AllBrokersDown, Verdict::Passing),
            (Code::MessageTimedOut, Verdict::Passing),
            (Code::RequestTimedOut, Verdict::Passing),
            (Code::QueueFull, Verdict::Passing),
            (Code::PurgeQueue, Verdict::Passing),
            (Code::PurgeInflight, Verdict::Passing),
            (Code::Fatal, Verdict::Passing),
            (Code::NotLeaderForPartition, Verdict::Passing),
            (Code::LeaderNotAvailable, Verdict::Passing),
            (Code::NotEnoughReplicas, Verdict::Passing),
            (Code::NotEnoughReplicasAfterAppend, Verdict::Passing),
            (Code::KafkaStorageError, Verdict::Passing),
            (Code::OutOfOrderSequenceNumber, Verdict::Passing),
            (Code::Authentication, Verdict::Passing),
            (Code::SaslAuthenticationFailed, Verdict::Passing),
            (Code::ThrottlingQuotaExceeded, Verdict::Passing),
            (Code::InvalidMessage, Verdict::Passing),
            (Code::Unknown, Verdict::Passing),
        ];
        for (code, expected) in table {
            assert_eq!(verdict(code), expected, "{code:?}");
        }
    }

    #[test]
    fn who_is_refused_is_told_what_to_do() {
        assert_eq!(remedy(Code::MessageSizeTooLarge), "raise max.message.bytes of the topic");
        assert_eq!(remedy(Code::UnknownTopic), "create the topic");
        assert_eq!(remedy(Code::TopicAuthorizationFailed), "give this user the right WRITE on the topic");
    }
}
