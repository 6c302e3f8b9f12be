//! The group as its coordinator sees it: who belongs to it, who owns what, and what is committed.

use std::collections::{BTreeMap, BTreeSet};

/// A member as the group knows it. A process that starts again, or has been evicted and joins again, is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub(super) member: usize,
    pub(super) life: u8,
}

/// An `OffsetCommit` on its way, and the partitions whose revoke is confirmed after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) offsets: Vec<(u16, i64)>,
    pub(super) gives_back: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Whose requests are taken.
    pub(super) current: BTreeSet<Identity>,
    /// By partition: who has it, as far as the group knows.
    pub(super) owners: Vec<Option<Identity>>,
    /// By partition.
    committed: Vec<i64>,
    /// Requests on their way. A client sends one at a time.
    pub(super) wire: BTreeMap<Identity, Request>,
    /// Some committed offset went backwards.
    pub(super) went_back: bool,
    /// Some commit was taken from a member that did not own the partition.
    pub(super) trespassed: bool,
}

impl Group {
    pub(super) fn new(members: usize, partitions: usize) -> Self {
        Self {
            current: (0..members).map(|member| Identity { member, life: 0 }).collect(),
            owners: vec![None; partitions],
            committed: vec![0; partitions],
            wire: BTreeMap::new(),
            went_back: false,
            trespassed: false,
        }
    }

    /// The partitions that a member has, as far as the group knows.
    pub(super) fn owned(&self, identity: Identity) -> impl Iterator<Item = u16> {
        (0..).zip(&self.owners).filter(move |(_, owner)| **owner == Some(identity)).map(|(partition, _)| partition)
    }

    pub(super) fn committed(&self, partition: u16) -> i64 {
        self.committed[usize::from(partition)]
    }

    pub(super) fn owns(&self, identity: Identity, partition: u16) -> bool {
        self.owners[usize::from(partition)] == Some(identity)
    }

    /// Takes a request that has come, or never came. As a broker does, it looks at who commits, and not at whose partition
    /// it is. A client that gives a partition back does so also when its last commit failed.
    pub(super) fn serve(&mut self, from: Identity, arrived: bool) {
        let Some(Request { offsets, gives_back }) = self.wire.remove(&from) else { return };
        if !self.current.contains(&from) {
            return;
        }
        for (partition, offset) in offsets.into_iter().filter(|_| arrived) {
            self.trespassed |= !self.owns(from, partition);
            let committed = &mut self.committed[usize::from(partition)];
            self.went_back |= offset < *committed;
            *committed = offset;
        }
        self.free(from, |partition| gives_back.contains(&partition));
    }

    /// Ends a membership, and what it owned is free.
    pub(super) fn evict(&mut self, identity: Identity) {
        self.current.remove(&identity);
        self.free(identity, |_| true);
    }

    fn free(&mut self, identity: Identity, which: impl Fn(u16) -> bool) {
        for (partition, owner) in (0..).zip(&mut self.owners) {
            if *owner == Some(identity) && which(partition) {
                *owner = None;
            }
        }
    }
}
