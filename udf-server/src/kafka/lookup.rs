//! Questions to the brokers about many partitions, with an answer for each of them.
//!
//! The client library asks the leaders of all partitions at once, and its answer fails as a whole where one leader is away or
//! denies one partition. Such a question is asked again in parts: by leader, and within a leader in halves. So the partitions
//! that can be answered are, and each of the others has its own reason.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

/// How long the brokers have to answer one request for offsets. A leader that is away takes this time twice.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the brokers do not answer for a partition, or for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// There is no such topic.
    NoTopic,
    /// The topic has no such partition.
    NoPartition,
    /// All replicas of the partition are away.
    NoLeader,
    /// Anything else, by its code.
    Code(Code),
}

impl Unanswered {
    /// The reason that an error code gives.
    pub(super) fn of(code: Code) -> Self {
        if matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic) {
            Self::NoTopic
        } else if code == Code::UnknownPartition {
            Self::NoPartition
        } else if code == Code::LeaderNotAvailable {
            Self::NoLeader
        } else {
            Self::Code(code)
        }
    }

    /// The reason that an error gives.
    pub(super) fn of_error(error: &KafkaError) -> Self {
        Self::of(code(error))
    }

    /// The error code of the reason.
    pub(crate) fn code(self) -> Code {
        match self {
            Self::NoTopic => Code::UnknownTopicOrPartition,
            Self::NoPartition => Code::UnknownPartition,
            Self::NoLeader => Code::LeaderNotAvailable,
            Self::Code(code) => code,
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTopic => f.write_str("the topic does not exist"),
            Self::NoPartition => f.write_str("the partition does not exist"),
            Self::NoLeader => f.write_str("the partition has no leader: all its replicas are away"),
            Self::Code(code) => write!(f, "the brokers do not answer for it: {code}"),
        }
    }
}

/// The answer for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// `None` where there is no such offset, as for a time after the last record.
    pub(super) offset: Result<Option<i64>, Unanswered>,
}

impl Answer {
    pub(super) fn of(element: &TopicPartitionListElem<'_>) -> Self {
        let offset = offset(element);
        Self { topic: element.topic().to_owned(), partition: element.partition(), offset }
    }

    fn without(element: &TopicPartitionListElem<'_>, reason: Unanswered) -> Self {
        Self { topic: element.topic().to_owned(), partition: element.partition(), offset: Err(reason) }
    }

    pub(super) fn is(&self, topic: &str, partition: i32) -> bool {
        self.partition == partition && self.topic == topic
    }
}

/// The offset of a partition in an answer of the brokers.
pub(super) fn offset(element: &TopicPartitionListElem<'_>) -> Result<Option<i64>, Unanswered> {
    element.error().map_err(|error| Unanswered::of_error(&error))?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some(offset),
        Offset::Invalid | Offset::Stored | Offset::Beginning | Offset::End | Offset::OffsetTail(_) => None,
    })
}

/// What can be asked of the brokers: a client, or a double of it.
pub(super) trait Ask {
    /// Asks for the offset that each partition's own offset stands for: a time, the beginning or the end. Fails as a whole.
    fn offsets(&self, questions: TopicPartitionList) -> KafkaResult<TopicPartitionList>;
    /// The leaders of a topic's partitions.
    fn leaders(&self, topic: &str) -> Result<Leaders, Unanswered>;
}

/// The leader of each partition of a topic; `None` for a partition that has none.
pub(super) type Leaders = BTreeMap<i32, Option<i32>>;

impl<C: ConsumerContext> Ask for BaseConsumer<C> {
    fn offsets(&self, questions: TopicPartitionList) -> KafkaResult<TopicPartitionList> {
        self.offsets_for_times(questions, TIMEOUT)
    }

    fn leaders(&self, topic: &str) -> Result<Leaders, Unanswered> {
        let metadata = self.fetch_metadata(Some(topic), TIMEOUT).map_err(|error| Unanswered::of_error(&error))?;
        leaders(&metadata, topic)
    }
}

/// The leaders of a topic's partitions, in what the brokers tell of the topic.
pub(super) fn leaders(metadata: &Metadata, topic: &str) -> Result<Leaders, Unanswered> {
    let found = metadata.topics().iter().find(|found| found.name() == topic).ok_or(Unanswered::NoTopic)?;
    if let Some(error) = found.error() {
        return Err(Unanswered::of(error.into()));
    }
    let is_there = |leader: &i32| metadata.brokers().iter().any(|broker| broker.id() == *leader);
    let leader = |partition: &rdkafka::metadata::MetadataPartition| Some(partition.leader()).filter(is_there);
    Ok(found.partitions().iter().map(|partition| (partition.id(), leader(partition))).collect())
}

/// Asks for the offset that each partition's own offset stands for. The order of the answers is not that of the questions.
pub(super) fn offsets(brokers: &impl Ask, questions: &TopicPartitionList) -> Vec<Answer> {
    if questions.count() == 0 {
        return Vec::new();
    }
    match brokers.offsets(questions.clone()) {
        Ok(list) => answers(&list),
        Err(error) => {
            tracing::debug!(%error, "a question about offsets is asked again by leader");
            by_leader(brokers, questions)
        }
    }
}

/// Asks the leaders one after the other.
fn by_leader(brokers: &impl Ask, questions: &TopicPartitionList) -> Vec<Answer> {
    let mut known: BTreeMap<String, Result<Leaders, Unanswered>> = BTreeMap::new();
    let mut of_leaders: BTreeMap<i32, TopicPartitionList> = BTreeMap::new();
    let mut answers = Vec::new();
    for element in questions.elements() {
        let topic = element.topic();
        let leaders = known.entry(topic.to_owned()).or_insert_with(|| brokers.leaders(topic));
        let leader = match leaders {
            Err(reason) => Err(*reason),
            Ok(leaders) => match leaders.get(&element.partition()) {
                None => Err(Unanswered::NoPartition),
                Some(None) => Err(Unanswered::NoLeader),
                Some(Some(leader)) => Ok(*leader),
            },
        };
        match leader {
            Ok(leader) => add(of_leaders.entry(leader).or_default(), &element),
            Err(reason) => answers.push(Answer::without(&element, reason)),
        }
    }
    for questions in of_leaders.values() {
        answers.extend(in_halves(brokers, questions));
    }
    answers
}

/// Asks one leader, in parts where it denies some partition.
fn in_halves(brokers: &impl Ask, questions: &TopicPartitionList) -> Vec<Answer> {
    let error = match brokers.offsets(questions.clone()) {
        Ok(list) => return answers(&list),
        Err(error) => error,
    };
    let elements = questions.elements();
    if elements.len() == 1 || is_of_broker(code(&error)) {
        return elements.iter().map(|element| Answer::without(element, Unanswered::of_error(&error))).collect();
    }
    let (first, second) = elements.split_at(elements.len() / 2);
    let half = |elements: &[TopicPartitionListElem<'_>]| {
        let mut list = TopicPartitionList::new();
        elements.iter().for_each(|element| add(&mut list, element));
        in_halves(brokers, &list)
    };
    [half(first), half(second)].concat()
}

/// Whether an error is about the broker, so that each of its partitions would have the same.
pub(super) fn is_of_broker(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut | Code::RequestTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown
    )
}

pub(super) fn code(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Unknown)
}

fn answers(list: &TopicPartitionList) -> Vec<Answer> {
    list.elements().iter().map(Answer::of).collect()
}

fn add(list: &mut TopicPartitionList, element: &TopicPartitionListElem<'_>) {
    let mut added = list.add_partition(element.topic(), element.partition());
    if let Err(error) = added.set_offset(element.offset()) {
        tracing::error!(%error, "a question about an offset cannot be repeated");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    /// Brokers with topics of four partitions each, led by two brokers in turn. Like those of the client library, an answer
    /// fails as a whole for one partition that has none.
    #[derive(Debug, Default)]
    pub(in crate::kafka) struct Brokers {
        /// These partitions of any topic have no leader.
        pub(in crate::kafka) leaderless: Vec<i32>,
        /// The leaders deny these partitions.
        pub(in crate::kafka) denied: Vec<i32>,
        /// This broker does not answer.
        pub(in crate::kafka) silent: Option<i32>,
        /// This topic does not exist.
        pub(in crate::kafka) missing: Option<&'static str>,
        /// How many questions there were.
        pub(in crate::kafka) asked: Cell<usize>,
    }

    const PARTITIONS: i32 = 4;

    impl Ask for Brokers {
        fn offsets(&self, mut questions: TopicPartitionList) -> KafkaResult<TopicPartitionList> {
            self.asked.set(self.asked.get() + 1);
            let failed = |code| Err(KafkaError::OffsetFetch(code));
            for element in questions.elements() {
                let (topic, partition) = (element.topic(), element.partition());
                if self.missing == Some(topic) || self.leaderless.contains(&partition) {
                    return failed(Code::UnknownPartition);
                }
                if self.silent == Some(partition % 2) {
                    return failed(Code::OperationTimedOut);
                }
                if self.denied.contains(&partition) {
                    return failed(Code::NotLeaderForPartition);
                }
            }
            questions.set_all_offsets(Offset::Offset(100))?;
            Ok(questions)
        }

        fn leaders(&self, topic: &str) -> Result<Leaders, Unanswered> {
            if self.missing == Some(topic) {
                return Err(Unanswered::NoTopic);
            }
            let leader = |partition: i32| Some(partition % 2).filter(|_| !self.leaderless.contains(&partition));
            Ok((0..PARTITIONS).map(|partition| (partition, leader(partition))).collect())
        }
    }

    /// The answers for the partitions 0 to 3 of some topics, in order.
    fn ask(brokers: &Brokers, topics: &[&str]) -> Vec<Result<Option<i64>, Unanswered>> {
        let mut questions = TopicPartitionList::new();
        for topic in topics {
            questions.add_partition_range(topic, 0, PARTITIONS - 1);
        }
        questions.set_all_offsets(Offset::End).unwrap();
        let mut answers = offsets(brokers, &questions);
        answers.sort_unstable_by_key(|answer| (answer.topic.clone(), answer.partition));
        let places = |answer: &Answer| (answer.topic.clone(), answer.partition);
        let all = topics.iter().flat_map(|topic| (0..PARTITIONS).map(|partition| ((*topic).to_owned(), partition)));
        assert_eq!(answers.iter().map(places).collect::<Vec<_>>(), all.collect::<Vec<_>>(), "each is answered once");
        answers.into_iter().map(|answer| answer.offset).collect()
    }

    const KNOWN: Result<Option<i64>, Unanswered> = Ok(Some(100));

    #[test]
    fn brokers_that_answer_are_asked_once() {
        let brokers = Brokers::default();
        assert_eq!(ask(&brokers, &["a", "b"]), [KNOWN; 8]);
        assert_eq!(brokers.asked.get(), 1);
        assert_eq!(offsets(&brokers, &TopicPartitionList::new()), []);
    }

    #[test]
    fn a_topic_that_is_missing_holds_up_no_other() {
        let brokers = Brokers { missing: Some("b"), ..Brokers::default() };
        let expected = [[KNOWN; 4], [Err(Unanswered::NoTopic); 4], [KNOWN; 4]];
        assert_eq!(ask(&brokers, &["a", "b", "c"]), expected.concat());
    }

    #[test]
    fn a_partition_without_a_leader_holds_up_no_other() {
        let brokers = Brokers { leaderless: vec![1], ..Brokers::default() };
        assert_eq!(ask(&brokers, &["a"]), [KNOWN, Err(Unanswered::NoLeader), KNOWN, KNOWN]);
    }

    #[test]
    fn a_partition_that_its_leader_denies_holds_up_no_other() {
        let brokers = Brokers { denied: vec![2], ..Brokers::default() };
        let denied = Err(Unanswered::Code(Code::NotLeaderForPartition));
        assert_eq!(ask(&brokers, &["a"]), [KNOWN, KNOWN, denied, KNOWN]);
    }

    #[test]
    fn a_broker_that_is_silent_holds_up_its_own_partitions_alone_and_is_asked_twice() {
        let brokers = Brokers { silent: Some(1), ..Brokers::default() };
        let silent = Err(Unanswered::Code(Code::OperationTimedOut));
        assert_eq!(ask(&brokers, &["a"]), [KNOWN, silent, KNOWN, silent]);
        assert_eq!(brokers.asked.get(), 3, "all, then each of two leaders");
    }

    #[test]
    fn partitions_that_are_not_there_are_named_so() {
        let mut questions = TopicPartitionList::new();
        questions.add_partition_offset("a", PARTITIONS, Offset::End).unwrap();
        questions.add_partition_offset("a", 1, Offset::End).unwrap();
        let brokers = Brokers { leaderless: vec![1], ..Brokers::default() };
        let answers = offsets(&brokers, &questions);
        let reasons: Vec<_> = answers.into_iter().map(|answer| answer.offset).collect();
        assert_eq!(reasons, [Err(Unanswered::NoPartition), Err(Unanswered::NoLeader)]);
    }
}
