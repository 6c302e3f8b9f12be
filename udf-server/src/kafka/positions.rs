//! Where to begin with partitions of which the group has committed nothing, so that nothing is left out by accident.
//!
//! * A group that starts with what comes commits where it starts, at once. Otherwise a crash before the first ack would
//!   start again at a later end, and leave out what came between.
//! * A partition that was added after the group had started begins with its first record: its producers did not wait for
//!   the group to notice it.
//!
//! * So does a topic that a pattern finds while we run.
//!
//! The first two can only be told apart by how many partitions the topic had when the group started. So the number goes with
//! every commit, as its metadata: members that start at the same time would otherwise take each other's first commits
//! for those of a group that is long at work.

use std::time::SystemTime;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::epochs::Epochs;
use super::group::{Group, TIMEOUT};
use super::lookup::{self, Answer, Unanswered};
use super::native::epoch::epochs;
use super::start::Start;

/// What the metadata of our commits begins with.
const MARK: &str = "partitions at the group's start: ";
/// What is between that number and the last leader epochs.
const EPOCHS: &str = "; epochs: ";

/// Where to begin with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// With what the group has committed.
    Committed(Committed),
    /// With this offset, as the group has committed nothing of it.
    Start(i64),
    /// With its oldest record, as the group has committed nothing of it.
    Oldest,
}

impl Place {
    /// The offset to begin with; `None` where the client library finds it by itself.
    pub(super) fn offset(&self) -> Option<i64> {
        match self {
            Self::Committed(committed) => Some(committed.offset),
            Self::Start(offset) => Some(*offset),
            Self::Oldest => None,
        }
    }

    /// The offset that the group is to commit as the partition begins, since nothing was committed.
    pub(super) fn start(&self) -> Option<i64> {
        if let Self::Start(offset) = self { Some(*offset) } else { None }
    }
}

/// What the group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) offset: i64,
    /// The leader epochs of the records before the offset, as far as the commit has them.
    pub(super) epochs: Epochs,
}

impl Committed {
    /// The commit of an offset with the leader epoch of the record before it.
    fn new(offset: i64, epoch: Option<i32>, metadata: &str) -> Self {
        let known = metadata.split_once(EPOCHS).and_then(|(_, epochs)| Epochs::parse(epochs)).unwrap_or_default();
        if known.before(offset) == epoch {
            return Self { offset, epochs: known };
        }
        // Another program has made it.
        let mut epochs = Epochs::default();
        if let Some(epoch) = epoch {
            epochs.note(offset - 1, epoch);
        }
        Self { offset, epochs }
    }
}

/// A partition and where to begin with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// An error where the brokers do not answer for the partition: it is to be asked for again.
    pub(super) place: Result<Place, Unanswered>,
    /// What goes with its commits.
    pub(super) metadata: String,
}

/// The metadata of commits in a group that started when the topic had so many partitions.
fn metadata(partitions: i32) -> String {
    format!("{MARK}{partitions}")
}

fn partitions_at_start(metadata: &str) -> Option<i32> {
    metadata.split(EPOCHS).next()?.strip_prefix(MARK)?.parse().ok()
}

/// The metadata of a commit of this offset.
pub(super) fn commit_metadata(start: &str, epochs: &Epochs, offset: i64) -> String {
    format!("{start}{EPOCHS}{}", epochs.to_text(offset))
}

/// What is known of one topic's commits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct History {
    committed: bool,
    partitions_at_start: Option<i32>,
    /// Why the commits of some partition are not known.
    unanswered: Option<Unanswered>,
}

impl History {
    fn note(&mut self, element: &TopicPartitionListElem<'_>) {
        match lookup::offset(element) {
            Ok(Some(_)) => {
                self.committed = true;
                // The group's first members may have seen the topic grow: what any of them started with counts as old.
                self.partitions_at_start = self.partitions_at_start.max(partitions_at_start(element.metadata()));
            }
            Ok(None) => {}
            Err(reason) => self.unanswered = Some(reason),
        }
    }

    /// Whether a partition without a commit came after the group had started.
    fn is_new(self, partition: i32) -> bool {
        self.committed && self.partitions_at_start.is_none_or(|count| partition >= count)
    }
}

/// Looks up where to begin with each of these partitions. Asks the brokers, up to four times. It fails as a whole only where
/// the group's coordinator does not answer.
pub(super) fn look_up(
    group: &mut Group,
    start: Start,
    partitions: &[(String, i32)],
    now: SystemTime,
) -> KafkaResult<Vec<Beginning>> {
    group.refresh();
    let committed = group.client().committed_offsets(with(group.partitions(), partitions), TIMEOUT)?;
    let committed = with_epochs(&committed);
    let mut beginnings = Vec::new();
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in partitions {
        let question = match start {
            // The client library finds it by itself.
            Start::Earliest => None,
            _ if group.is_new(topic) => Some(Offset::Beginning),
            Start::Latest | Start::At(_) | Start::Ago(_) => Some(start.question(now)),
        };
        let (beginning, question) = begin(&committed, topic, *partition, question);
        beginnings.push(beginning);
        if let Some(question) = question {
            asked.add_partition_offset(topic, *partition, question)?;
        }
    }
    // There may be no record as late as that; then the partition begins with what comes.
    let mut late = TopicPartitionList::new();
    for answer in lookup::offsets(group.client(), &asked) {
        if answer.offset == Ok(None) {
            late.add_partition_offset(&answer.topic, answer.partition, Offset::End)?;
        }
        settle(&mut beginnings, &answer);
    }
    for answer in lookup::offsets(group.client(), &late) {
        settle(&mut beginnings, &answer);
    }
    Ok(beginnings)
}

/// What goes with the commits of a partition, and what the brokers are to be asked for its first offset, if anything. `start`
/// is the question for a partition without a commit; none where it begins with its oldest record in any case.
fn begin(
    committed: &[(TopicPartitionListElem<'_>, Option<i32>)],
    topic: &str,
    partition: i32,
    start: Option<Offset>,
) -> (Beginning, Option<Offset>) {
    let of_topic = || committed.iter().filter(|(element, _)| element.topic() == topic);
    let mut history = History::default();
    of_topic().for_each(|(element, _)| history.note(element));
    let count = history.partitions_at_start.unwrap_or_else(|| i32::try_from(of_topic().count()).unwrap_or(i32::MAX));
    let own = of_topic().find(|(element, _)| element.partition() == partition);
    let own = own.map_or(Ok(None), |(element, epoch)| {
        let committed = |offset| Place::Committed(Committed::new(offset, *epoch, element.metadata()));
        Ok(lookup::offset(element)?.map(committed))
    });
    let (place, question) = match (own, history.unanswered, start) {
        (Ok(Some(place)), _, _) => (Ok(place), None),
        (Ok(None), _, None) => (Ok(Place::Oldest), None),
        // Whether the partition is new is not known either.
        (Err(reason), _, _) | (Ok(None), Some(reason), _) => (Err(reason), None),
        (Ok(None), None, _) if history.is_new(partition) => (Ok(Place::Oldest), Some(Offset::Beginning)),
        (Ok(None), None, question) => (Ok(Place::Oldest), question),
    };
    let beginning = Beginning { topic: topic.to_owned(), partition, place, metadata: metadata(count) };
    (beginning, question)
}

/// The elements of a list, with their leader epochs.
fn with_epochs(list: &TopicPartitionList) -> Vec<(TopicPartitionListElem<'_>, Option<i32>)> {
    list.elements().into_iter().zip(epochs(list)).collect()
}

/// The list, and these partitions where it does not have them.
fn with(mut list: TopicPartitionList, partitions: &[(String, i32)]) -> TopicPartitionList {
    for (topic, partition) in partitions {
        if list.find_partition(topic, *partition).is_none() {
            list.add_partition(topic, *partition);
        }
    }
    list
}

/// Takes an answer over.
fn settle(beginnings: &mut [Beginning], answer: &Answer) {
    if let Some(beginning) = beginnings.iter_mut().find(|it| answer.is(&it.topic, it.partition)) {
        beginning.place = answer.offset.map(|offset| offset.map_or(Place::Oldest, Place::Start));
    }
}

#[cfg(test)]
mod tests {
    use super::super::native::epoch::set_of_last;
    use super::*;

    /// What is committed of a topic `t`, with the metadata.
    fn committed(partitions: &[(i32, Option<i64>, &str)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset, metadata) in partitions {
            let mut element = list.add_partition("t", *partition);
            element.set_offset(offset.map_or(Offset::Invalid, Offset::Offset)).unwrap();
            element.set_metadata(metadata);
        }
        list
    }

    fn question(list: &TopicPartitionList, partition: i32) -> (Option<Offset>, String) {
        let (beginning, question) = begin(&with_epochs(list), "t", partition, Some(Offset::End));
        (question, beginning.metadata)
    }

    #[test]
    fn a_group_without_commits_begins_as_it_is_told() {
        let list = committed(&[(0, None, ""), (1, None, ""), (2, None, "")]);
        assert_eq!(question(&list, 1), (Some(Offset::End), metadata(3)));
    }

    #[test]
    fn members_that_start_together_do_not_take_each_other_for_old() {
        let mark = metadata(3);
        let list = committed(&[(0, Some(7), &mark), (1, None, ""), (2, None, "")]);
        assert_eq!(question(&list, 1), (Some(Offset::End), mark.clone()));
        assert_eq!(question(&list, 0), (None, mark), "the group's own commit holds");
    }

    #[test]
    fn a_partition_that_came_later_is_read_from_its_first_record() {
        let mark = metadata(2);
        let list = committed(&[(0, Some(7), &mark), (1, None, ""), (2, None, "")]);
        assert_eq!(question(&list, 2), (Some(Offset::Beginning), mark));
        let list = committed(&[(0, Some(7), "of another program"), (1, None, "")]);
        assert_eq!(question(&list, 1).0, Some(Offset::Beginning), "nothing says how the group started");
    }

    #[test]
    fn other_topics_say_nothing() {
        let mut list = committed(&[(0, None, "")]);
        list.add_partition_offset("other", 0, Offset::Offset(9)).unwrap();
        assert_eq!(question(&list, 0), (Some(Offset::End), metadata(1)));
    }

    #[test]
    fn one_without_an_answer_waits_and_holds_up_no_other() {
        let brokers = lookup::tests::Brokers { leaderless: vec![1], ..lookup::tests::Brokers::default() };
        let list = committed(&[(0, None, ""), (1, None, ""), (2, None, "")]);
        let mut asked = TopicPartitionList::new();
        let mut beginnings: Vec<_> = (0..3)
            .map(|partition| {
                let (beginning, question) = begin(&with_epochs(&list), "t", partition, Some(Offset::End));
                asked.add_partition_offset("t", partition, question.unwrap()).unwrap();
                beginning
            })
            .collect();
        lookup::offsets(&brokers, &asked).iter().for_each(|answer| settle(&mut beginnings, answer));
        let places: Vec<_> = beginnings.into_iter().map(|beginning| beginning.place).collect();
        assert_eq!(places, [Ok(Place::Start(100)), Err(Unanswered::NoLeader), Ok(Place::Start(100))]);
    }

    #[test]
    fn the_last_epochs_are_those_of_the_commit() {
        let mut epochs = Epochs::default();
        [(5, 2), (9, 3)].into_iter().for_each(|(offset, epoch)| epochs.note(offset, epoch));
        let text = commit_metadata(&metadata(4), &epochs, 12);
        assert_eq!(text, "partitions at the group's start: 4; epochs: 2@5 3@9");
        assert_eq!(partitions_at_start(&text), Some(4));
        assert_eq!(Committed::new(12, Some(3), &text).epochs, epochs);
        let other = Committed::new(12, Some(4), &text).epochs;
        assert_eq!((other.before(12), other.before(11)), (Some(4), None), "another program has committed since");
        assert_eq!(Committed::new(12, None, &text).epochs, Epochs::default());
    }

    #[test]
    fn a_group_begins_with_its_commit_and_the_epoch_of_it() {
        let mut list = committed(&[(0, None, ""), (1, Some(7), "")]);
        set_of_last(&mut list, 3);
        let begin = |partition, start| begin(&with_epochs(&list), "t", partition, start);
        for start in [None, Some(Offset::End)] {
            let (beginning, question) = begin(1, start);
            let committed = Committed::new(7, Some(3), "");
            assert_eq!((beginning.place, question), (Ok(Place::Committed(committed)), None));
        }
        let (beginning, question) = begin(0, None);
        assert_eq!((beginning.place, question), (Ok(Place::Oldest), None), "the library finds it by itself");
    }
}
