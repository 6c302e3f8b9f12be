//! The group as its coordinator sees it: who belongs to it, who owns what, and what is committed.

use std::collections::BTreeMap;

/// A member as the group knows it. A process that starts again, or has been evicted and joins again, is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub(super) member: usize,
    pub(super) life: u8,
}

/// An `OffsetCommit` on its way, and the partitions whose revoke is confirmed after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Request {
    /// That in which the client believes to be.
    pub(super) generation: i32,
    pub(super) offsets: Vec<(u16, i64)>,
    /// The partitions of which the source knows that their logs were cut.
    pub(super) cut: Vec<u16>,
    pub(super) gives_back: Vec<u16>,
    /// The client sends it of itself, as partitions go.
    pub(super) is_last: bool,
    /// The client library sends it a second time, in another generation than the source meant it for. What it then moves of
    /// another member's partition no source can help.
    pub(super) is_renewed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Whose requests are taken, and of which generation.
    pub(super) current: BTreeMap<Identity, i32>,
    /// By partition: who has it, as far as the group knows.
    pub(super) owners: Vec<Option<Identity>>,
    /// By partition.
    committed: Vec<i64>,
    /// By partition: the offset at which its log was cut.
    cut: Vec<Option<i64>>,
    /// Requests on their way, in the order in which they were sent. Nobody has an empty list.
    pub(super) wire: BTreeMap<Identity, Vec<Request>>,
    /// Some committed offset went backwards.
    pub(super) went_back: bool,
    /// Some commit was taken from a member that did not own the partition.
    pub(super) trespassed: bool,
}

impl Group {
    pub(super) fn new(members: usize, partitions: usize) -> Self {
        Self {
            current: (0..members).map(|member| (Identity { member, life: 0 }, 0)).collect(),
            owners: vec![None; partitions],
            committed: vec![0; partitions],
            cut: vec![None; partitions],
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

    /// Sends a request, unless it says nothing.
    pub(super) fn send(&mut self, from: Identity, request: Request) {
        if !request.offsets.is_empty() || !request.gives_back.is_empty() {
            self.wire.entry(from).or_default().push(request);
        }
    }

    /// Takes a request that has come, or never came. As a broker does, it looks at who commits and in which generation, and
    /// not at whose partition it is. A client that gives a partition back does so also when its last commit failed.
    ///
    /// What the source is told: whether its offsets are committed, unless the client sent them of itself.
    pub(super) fn serve(&mut self, from: Identity, place: usize, arrived: bool) -> Option<bool> {
        let requests = self.wire.get_mut(&from)?;
        let Request { generation, offsets, cut, gives_back, is_last, is_renewed } = requests.remove(place);
        if requests.is_empty() {
            self.wire.remove(&from);
        }
        if self.current.get(&from) != Some(&generation) {
            return (!is_last).then_some(false);
        }
        for (partition, offset) in offsets.into_iter().filter(|_| arrived) {
            let offset = if cut.contains(&partition) { offset } else { self.in_log(partition, offset) };
            self.trespassed |= !self.owns(from, partition) && !is_renewed;
            let committed = &mut self.committed[usize::from(partition)];
            self.went_back |= offset < *committed;
            *committed = offset;
        }
        self.free(from, |partition| gives_back.contains(&partition));
        (!is_last).then_some(arrived)
    }

    /// The log of a partition is cut. What is committed beyond that is about records that are gone: it counts as committed up
    /// to there, also where it comes from a source that does not know yet.
    pub(super) fn cut(&mut self, partition: u16, at: i64) {
        self.cut[usize::from(partition)] = Some(at);
        self.committed[usize::from(partition)] = self.in_log(partition, self.committed(partition));
    }

    /// Where a partition's log was cut.
    pub(super) fn cut_of(&self, partition: u16) -> Option<i64> {
        self.cut[usize::from(partition)]
    }

    /// As much of an offset of the former log as is in the new one.
    fn in_log(&self, partition: u16, offset: i64) -> i64 {
        self.cut_of(partition).map_or(offset, |at| offset.min(at))
    }

    /// Sends the first request of a member that was evicted again, as that of the member that its client is now.
    pub(super) fn renew(&mut self, from: Identity, to: Identity, generation: i32) -> Option<()> {
        // The client does not join again before its own last commit is answered.
        let requests = self.wire.get_mut(&from).filter(|requests| !requests[0].is_last)?;
        let request = Request { generation, is_renewed: true, ..requests.remove(0) };
        if requests.is_empty() {
            self.wire.remove(&from);
        }
        self.wire.entry(to).or_default().push(request);
        Some(())
    }

    /// A member joins again, without these partitions: they are free. It learns of its new generation later.
    pub(super) fn rejoin(&mut self, identity: Identity, without: &[u16]) {
        if let Some(generation) = self.current.get_mut(&identity) {
            *generation += 1;
        }
        self.free(identity, |partition| without.contains(&partition));
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
