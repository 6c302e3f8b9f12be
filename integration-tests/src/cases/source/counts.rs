//! How much is pending, and which partitions there are: what the source says, and what its SDK says for it.

use super::{SOURCES, read_exactly};
use crate::case::{Case, Level, Recipe};
use crate::outcome::{Unproven, check};
use crate::server::Launcher;
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::source::{Partitions, Reader, give_back, offsets, partitions, pending};

/// Makes the contract's source leave to its SDK what can be left to it.
const DEFAULTS: (&str, Option<&str>) = ("CONFORMANCE_DEFAULTS", Some("1"));
const REPLICA: &str = "NUMAFLOW_REPLICA";

pub(super) const CASES: &[Case] = &[
    Case {
        id: "source.pending.result",
        level: Level::Must,
        section: "5.7 PendingFn",
        sentence: "PendingFn has its result set, and counts what was not read yet.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(pending_result(target))),
    },
    Case {
        id: "source.pending.unknown",
        level: Level::Must,
        section: "5.7 PendingFn",
        sentence: "PendingFn says -1 for a source that does not know what is pending.",
        kinds: SOURCES,
        recipe: Recipe::Process(|launcher| Box::pin(pending_unknown(launcher))),
    },
    Case {
        id: "source.partitions.result",
        level: Level::Must,
        section: "5.8 PartitionsFn",
        sentence: "PartitionsFn has its result set, and names the partitions of what is read.",
        kinds: SOURCES,
        recipe: Recipe::Server(|target| Box::pin(partitions_result(target))),
    },
    Case {
        id: "source.partitions.replica",
        level: Level::Must,
        section: "5.8 PartitionsFn",
        sentence: "A source that says nothing of its partitions has one, the number in NUMAFLOW_REPLICA.",
        kinds: SOURCES,
        recipe: Recipe::Process(|launcher| Box::pin(default_partition(launcher, Some("3"), 3))),
    },
    Case {
        id: "source.partitions.replica-unset",
        level: Level::Must,
        section: "5.8 PartitionsFn",
        sentence: "A source that says nothing of its partitions has partition 0 where NUMAFLOW_REPLICA is not set.",
        kinds: SOURCES,
        recipe: Recipe::Process(|launcher| Box::pin(default_partition(launcher, None, 0))),
    },
    Case {
        id: "source.partitions.replica-invalid",
        level: Level::Must,
        section: "5.8 PartitionsFn",
        sentence: "A source that says nothing of its partitions has partition 0 where NUMAFLOW_REPLICA is no number.",
        kinds: SOURCES,
        recipe: Recipe::Process(|launcher| Box::pin(default_partition(launcher, Some("none"), 0))),
    },
];

async fn pending_result(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut reader = Reader::open(&connection).await?;
    let before = pending(&connection).await?;
    let records = read_exactly(&mut reader, 5).await?;
    let after = pending(&connection).await?;
    check(after == before - 5, &format!("{} after reading 5 of {before}", before - 5), || after.to_string())?;
    give_back(&connection, &records).await
}

async fn pending_unknown(launcher: &Launcher) -> Result<(), Unproven> {
    let server = launcher.start_with(&[DEFAULTS]).await?;
    let count = pending(&Connection::to(&server.target).await?).await?;
    server.kill().await;
    if count > 0 {
        return Err(Unproven::NotOffered("a source that does not say how much is pending".to_owned()));
    }
    check(count == -1, "-1, for not known", || count.to_string())
}

async fn partitions_result(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let listed = partitions(&connection).await?;
    let came = || format!("{listed:?}");
    check(!listed.partitions.is_empty(), "at least one partition", came)?;
    check(listed.partitions.iter().all(|id| (0..=65_535).contains(id)), "partitions from 0 to 65,535", came)?;
    check(listed.total_partitions.is_none_or(|total| total >= 0), "a total that is not negative", came)?;
    let mut reader = Reader::open(&connection).await?;
    let records = read_exactly(&mut reader, 10).await?;
    let unlisted = offsets(&records).into_iter().find(|offset| !listed.partitions.contains(&offset.partition_id));
    check(unlisted.is_none(), "records of listed partitions only", || format!("{unlisted:?} beside {listed:?}"))?;
    give_back(&connection, &records).await
}

async fn default_partition(launcher: &Launcher, replica: Option<&str>, expected: i32) -> Result<(), Unproven> {
    let server = launcher.start_with(&[DEFAULTS, (REPLICA, replica)]).await?;
    let Partitions { partitions, .. } = partitions(&Connection::to(&server.target).await?).await?;
    server.kill().await;
    if partitions == [0, 1] {
        return Err(Unproven::NotOffered("a source that does not say which partitions it has".to_owned()));
    }
    check(partitions == [expected], &format!("partition {expected} and no other"), || format!("{partitions:?}"))
}
