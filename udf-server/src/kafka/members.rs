//! Who is in a group, as far as the brokers tell.

use std::fmt;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    id: String,
    client: String,
    host: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} at {}", self.id, self.client, self.host.trim_start_matches('/'))
    }
}

/// What the brokers say of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Membership {
    /// There is no such group, or nobody is in it.
    Empty,
    /// These are in it.
    Members(Vec<Member>),
    /// A group of the new protocol (`--group-protocol consumer`): who is in it is not told by the call that the client
    /// library has for us.
    Unknown,
}

/// Asks who is in a group.
pub(super) fn membership<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    timeout: Duration,
) -> KafkaResult<Membership> {
    let list = consumer.fetch_group_list(Some(group), timeout)?;
    let Some(found) = list.groups().iter().find(|found| found.name() == group) else {
        return Ok(Membership::Empty);
    };
    let member = |member: &rdkafka::groups::GroupMemberInfo| Member {
        id: member.id().to_owned(),
        client: member.client_id().to_owned(),
        host: member.client_host().to_owned(),
    };
    Ok(match (found.members(), found.state()) {
        // It was listed, and is not there for those who ask by the old protocol.
        ([], "Dead") => Membership::Unknown,
        ([], _) => Membership::Empty,
        (members, _) => Membership::Members(members.iter().map(member).collect()),
    })
}
