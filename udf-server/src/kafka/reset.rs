//! Moving what a group has committed: what it would come to, as a plan that can be looked at before it is carried out.

use std::time::SystemTime;

use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::group::{Group, NoAnswer, Offsets, PartitionOffsets};
use super::lookup::Answer;
use super::positions;
use super::start::Start;

/// Where a group is moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A place that the brokers find.
    Start(Start),
    /// This offset of every partition that is moved.
    Offset(i64),
}

impl Target {
    /// Reads an offset, or what [`Start::parse`] takes.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Offset).map_err(|_| format!("is {text:?}; there is no such offset"));
        }
        Start::parse(text).map(Self::Start).map_err(|problem| format!("{problem}, or an offset, such as 1000"))
    }
}

/// A topic, or one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selected {
    pub(crate) topic: String,
    pub(crate) partition: Option<i32>,
}

impl Selected {
    /// Reads `topic` or `topic:partition`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((topic, partition)) = text.split_once(':') else {
            return Ok(Self { topic: text.to_owned(), partition: None });
        };
        match partition.parse() {
            Ok(partition) if partition >= 0 => Ok(Self { topic: topic.to_owned(), partition: Some(partition) }),
            _ => Err(format!("is {text:?}; give a topic, or a topic and the number of a partition, such as orders:3")),
        }
    }

    fn includes(&self, topic: &str, partition: i32) -> bool {
        self.topic == topic && self.partition.is_none_or(|selected| selected == partition)
    }
}

/// One partition's move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// What the group has committed; `None` for nothing.
    pub(crate) committed: Option<i64>,
    pub(crate) new: i64,
    /// Offsets between where the group would go on without the move and where it goes on with it: below zero they are
    /// read again, above they are skipped. There may be fewer records than offsets.
    pub(crate) skipped: i64,
}

/// Why there is no plan.
#[derive(Debug)]
pub(crate) enum PlanError {
    /// The brokers do not tell.
    Kafka(rdkafka::error::KafkaError),
    /// It makes no sense, and why.
    Senseless(Vec<String>),
}

/// What moving the selected partitions, or all, would come to. A partition for which the brokers do not answer is a problem
/// only where it is one of these.
pub(crate) fn plan(group: &Group, target: Target, selected: &[Selected]) -> Result<Vec<Move>, PlanError> {
    let resolved = match target {
        Target::Start(start) => group.resolved(start.question(SystemTime::now())),
        // How far the partition reaches back.
        Target::Offset(_) => group.resolved(Offset::Beginning),
    };
    let (offsets, answers) = resolved.map_err(PlanError::Kafka)?;
    moves(&offsets, &answers, target, selected).map_err(PlanError::Senseless)
}

fn moves(
    Offsets { known, unanswered }: &Offsets,
    answers: &[Answer],
    target: Target,
    selected: &[Selected],
) -> Result<Vec<Move>, Vec<String>> {
    let mut problems = Vec::new();
    for selected in selected {
        let is_known = known.iter().any(|offsets| selected.includes(&offsets.topic, offsets.partition));
        let is_unanswered = |about: &NoAnswer| {
            about.topic == selected.topic && about.partition.is_none_or(|it| selected.includes(&about.topic, it))
        };
        if !is_known && !unanswered.iter().any(is_unanswered) {
            let partition = selected.partition.map(|partition| format!(" with a partition {partition}"));
            problems.push(format!("no topic {}{} is read", selected.topic, partition.unwrap_or_default()));
        }
    }
    let is_selected = |topic: &str, partition: Option<i32>| {
        let includes = |selected: &Selected| match partition {
            Some(partition) => selected.includes(topic, partition),
            None => selected.topic == topic,
        };
        selected.is_empty() || selected.iter().any(includes)
    };
    for NoAnswer { topic, partition, reason } in unanswered {
        if is_selected(topic, *partition) {
            let partition = partition.map(|partition| format!(":{partition}")).unwrap_or_default();
            problems.push(format!("{topic}{partition} cannot be moved: {reason}; give --topic for those that can"));
        }
    }
    let mut moves = Vec::new();
    for offsets in known {
        let PartitionOffsets { topic, partition, .. } = offsets;
        if !is_selected(topic, Some(*partition)) {
            continue;
        }
        let answer = answers.iter().find(|answer| answer.is(topic, *partition));
        let answer = match answer.map_or(Ok(None), |answer| answer.offset) {
            Ok(answer) => answer,
            Err(reason) => {
                problems
                    .push(format!("{topic}:{partition} cannot be moved: {reason}; give --topic for those that can"));
                continue;
            }
        };
        let new = match target {
            // No record is that late: the end.
            Target::Start(_) => answer.unwrap_or(offsets.end),
            Target::Offset(offset) => {
                let first = answer.unwrap_or(0);
                if offset < first || offset > offsets.end {
                    problems.push(format!(
                        "the partition {topic}:{partition} has offsets from {first} to {}, and {offset} is none of them",
                        offsets.end
                    ));
                }
                offset
            }
        };
        let now = offsets.committed.unwrap_or(offsets.start);
        moves.push(Move {
            topic: topic.clone(),
            partition: *partition,
            committed: offsets.committed,
            new,
            skipped: new.saturating_sub(now),
        });
    }
    if problems.is_empty() { Ok(moves) } else { Err(problems) }
}

/// Carries a plan out, and looks whether it came to what was planned.
pub(crate) fn carry_out(group: &mut Group, moves: &[Move]) -> KafkaResult<bool> {
    let partitions: Vec<_> = moves.iter().map(|one| (one.topic.clone(), one.partition)).collect();
    // What goes with commits tells partitions that come later from those that the group began with.
    let beginnings = positions::look_up(group, group.start(), &partitions, SystemTime::now())?;
    let mut offsets = TopicPartitionList::new();
    for (one, beginning) in moves.iter().zip(beginnings) {
        let mut element = offsets.add_partition(&one.topic, one.partition);
        element.set_offset(Offset::Offset(one.new))?;
        element.set_metadata(beginning.metadata);
    }
    group.commit(&offsets)?;
    let now = group.offsets()?.known;
    let committed = |one: &Move| {
        let found = now.iter().find(|now| now.topic == one.topic && now.partition == one.partition);
        found.and_then(|found| found.committed)
    };
    Ok(moves.iter().all(|one| committed(one) == Some(one.new)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::lookup::Unanswered;
    use super::*;

    fn partition(partition: i32, committed: Option<i64>) -> PartitionOffsets {
        PartitionOffsets { topic: "t".to_owned(), partition, committed, start: 10, end: 50 }
    }

    /// The partitions of `t` with these commits, and what the brokers answered for each.
    fn resolved(partitions: &[(Option<i64>, Option<i64>)]) -> (Offsets, Vec<Answer>) {
        let (mut offsets, mut answers) = (Offsets::default(), Vec::new());
        for (number, (committed, answer)) in (0..).zip(partitions) {
            offsets.known.push(partition(number, *committed));
            answers.push(Answer { topic: "t".to_owned(), partition: number, offset: Ok(*answer) });
        }
        (offsets, answers)
    }

    fn selected(text: &str) -> Selected {
        Selected::parse(text).unwrap()
    }

    #[test]
    fn targets_are_offsets_or_starts() {
        assert_eq!(Target::parse("0"), Ok(Target::Offset(0)));
        assert_eq!(Target::parse("1000"), Ok(Target::Offset(1000)));
        assert_eq!(Target::parse("latest"), Ok(Target::Start(Start::Latest)));
        assert_eq!(Target::parse("6h"), Ok(Target::Start(Start::Ago(Duration::from_secs(21_600)))));
        for text in ["", "-1", "99999999999999999999", "yesterday"] {
            assert!(Target::parse(text).unwrap_err().starts_with(&format!("is {text:?}; ")), "{text}");
        }
    }

    #[test]
    fn what_is_read_again_and_what_is_skipped_is_counted() {
        let (offsets, answers) = resolved(&[(Some(30), Some(20)), (Some(30), None), (None, Some(20))]);
        let moves = moves(&offsets, &answers, Target::Start(Start::Ago(Duration::from_secs(1))), &[]).unwrap();
        let counts: Vec<_> = moves.iter().map(|one| (one.committed, one.new, one.skipped)).collect();
        // Without a commit the group would go on with its start.
        assert_eq!(counts, [(Some(30), 20, -10), (Some(30), 50, 20), (None, 20, 10)]);
    }

    #[test]
    fn an_offset_must_be_there() {
        let (offsets, answers) = resolved(&[(Some(30), Some(10)), (Some(30), Some(25))]);
        let moves = |target, selected: &[_]| moves(&offsets, &answers, target, selected);
        assert!(moves(Target::Offset(50), &[]).is_ok());
        let problems = moves(Target::Offset(20), &[]).unwrap_err();
        assert_eq!(problems, ["the partition t:1 has offsets from 25 to 50, and 20 is none of them"]);
        assert_eq!(moves(Target::Offset(20), &[selected("t:0")]).unwrap().len(), 1);
        assert_eq!(moves(Target::Offset(51), &[]).unwrap_err().len(), 2);
    }

    #[test]
    fn what_is_selected_must_be_read() {
        let (offsets, answers) = resolved(&[(None, Some(10)), (None, Some(10))]);
        let of = |text| moves(&offsets, &answers, Target::Start(Start::Earliest), &[selected(text)]);
        assert_eq!(of("t").unwrap().len(), 2);
        assert_eq!(of("t:1").unwrap()[0].partition, 1);
        assert_eq!(of("u").unwrap_err(), ["no topic u is read"]);
        assert_eq!(of("t:2").unwrap_err(), ["no topic t with a partition 2 is read"]);
        assert!(Selected::parse("t:x").is_err() && Selected::parse("t:-1").is_err());
    }

    #[test]
    fn a_partition_without_an_answer_holds_up_no_move_of_another() {
        let (mut offsets, mut answers) = resolved(&[(Some(30), Some(10)), (Some(30), None)]);
        answers[1].offset = Err(Unanswered::NoLeader);
        let missing = NoAnswer { topic: "u".to_owned(), partition: None, reason: Unanswered::NoTopic };
        offsets.unanswered.push(missing);
        let moves = |selected: &[_]| moves(&offsets, &answers, Target::Start(Start::Earliest), selected);
        assert_eq!(moves(&[selected("t:0")]).unwrap().len(), 1);
        let reason = "cannot be moved: the partition has no leader: all its replicas are away";
        let problems = moves(&[selected("t")]).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(&format!("t:1 {reason}")), "{problems:?}");
        assert_eq!(moves(&[]).unwrap_err().len(), 2);
        let problems = moves(&[selected("u:3")]).unwrap_err();
        assert!(problems[0].starts_with("u cannot be moved: the topic does not exist"), "{problems:?}");
    }
}
