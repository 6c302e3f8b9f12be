//! Moving what a group has committed: what it would come to, as a plan that can be looked at before it is carried out.

use std::time::SystemTime;

use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::group::{Group, PartitionOffsets};
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

    fn includes(&self, offsets: &PartitionOffsets) -> bool {
        self.topic == offsets.topic && self.partition.is_none_or(|partition| partition == offsets.partition)
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

/// What moving the selected partitions, or all, would come to.
pub(crate) fn plan(group: &Group, target: Target, selected: &[Selected]) -> Result<Vec<Move>, PlanError> {
    let resolved = match target {
        Target::Start(start) => group.resolved(start.question(SystemTime::now())),
        // How far the partition reaches back.
        Target::Offset(_) => group.resolved(Offset::Beginning),
    };
    moves(&resolved.map_err(PlanError::Kafka)?, target, selected).map_err(PlanError::Senseless)
}

fn moves(
    resolved: &[(PartitionOffsets, Option<i64>)],
    target: Target,
    selected: &[Selected],
) -> Result<Vec<Move>, Vec<String>> {
    let mut problems = Vec::new();
    for selected in selected {
        if !resolved.iter().any(|(offsets, _)| selected.includes(offsets)) {
            let partition = selected.partition.map(|partition| format!(" with a partition {partition}"));
            problems.push(format!("no topic {}{} is read", selected.topic, partition.unwrap_or_default()));
        }
    }
    let mut moves = Vec::new();
    for (offsets, answer) in resolved {
        if !selected.is_empty() && !selected.iter().any(|selected| selected.includes(offsets)) {
            continue;
        }
        let new = match target {
            // No record is that late: the end.
            Target::Start(_) => answer.unwrap_or(offsets.end),
            Target::Offset(offset) => {
                let first = answer.unwrap_or(0);
                if offset < first || offset > offsets.end {
                    problems.push(format!(
                        "the partition {}:{} has offsets from {first} to {}, and {offset} is none of them",
                        offsets.topic, offsets.partition, offsets.end
                    ));
                }
                offset
            }
        };
        let now = offsets.committed.unwrap_or(offsets.start);
        moves.push(Move {
            topic: offsets.topic.clone(),
            partition: offsets.partition,
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
    let now = group.offsets()?;
    let committed = |one: &Move| {
        let found = now.iter().find(|now| now.topic == one.topic && now.partition == one.partition);
        found.and_then(|found| found.committed)
    };
    Ok(moves.iter().all(|one| committed(one) == Some(one.new)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn partition(partition: i32, committed: Option<i64>) -> PartitionOffsets {
        PartitionOffsets { topic: "t".to_owned(), partition, committed, start: 10, end: 50 }
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
        let resolved =
            [(partition(0, Some(30)), Some(20)), (partition(1, Some(30)), None), (partition(2, None), Some(20))];
        let moves = moves(&resolved, Target::Start(Start::Ago(Duration::from_secs(1))), &[]).unwrap();
        let counts: Vec<_> = moves.iter().map(|one| (one.committed, one.new, one.skipped)).collect();
        // Without a commit the group would go on with its start.
        assert_eq!(counts, [(Some(30), 20, -10), (Some(30), 50, 20), (None, 20, 10)]);
    }

    #[test]
    fn an_offset_must_be_there() {
        let resolved = [(partition(0, Some(30)), Some(10)), (partition(1, Some(30)), Some(25))];
        assert!(moves(&resolved, Target::Offset(50), &[]).is_ok());
        let problems = moves(&resolved, Target::Offset(20), &[]).unwrap_err();
        assert_eq!(problems, ["the partition t:1 has offsets from 25 to 50, and 20 is none of them"]);
        assert_eq!(moves(&resolved, Target::Offset(20), &[selected("t:0")]).unwrap().len(), 1);
        assert_eq!(moves(&resolved, Target::Offset(51), &[]).unwrap_err().len(), 2);
    }

    #[test]
    fn what_is_selected_must_be_read() {
        let resolved = [(partition(0, None), Some(10)), (partition(1, None), Some(10))];
        let of = |text| moves(&resolved, Target::Start(Start::Earliest), &[selected(text)]);
        assert_eq!(of("t").unwrap().len(), 2);
        assert_eq!(of("t:1").unwrap()[0].partition, 1);
        assert_eq!(of("u").unwrap_err(), ["no topic u is read"]);
        assert_eq!(of("t:2").unwrap_err(), ["no topic t with a partition 2 is read"]);
        assert!(Selected::parse("t:x").is_err() && Selected::parse("t:-1").is_err());
    }
}
