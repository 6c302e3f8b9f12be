//! Several members of one group.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_broker::{Broker, Options};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::time::Instant;
use udf_server::kafka::GroupProtocol;

use crate::harness::{self, PATIENCE, Platform, Stage, answer, deadline, everywhere};

/// The streams of the one that stays are the same all along: nothing there is restarted.
pub(crate) async fn one_that_joins_and_leaves_restarts_nobody_and_loses_nothing(stage: Stage) {
    stage.create_topic(6).await;
    let deadline = deadline();
    let (mut produced, mut seen) = (0, BTreeSet::new());
    let first = stage.start().await;
    let mut one = Platform::connect(&first).await;
    let second = stage.start().await;
    let mut other = Platform::connect(&second).await;
    // Records come all the while.
    while one.assigned().await != 3 || other.assigned().await != 3 {
        assert!(Instant::now() < deadline, "{} and {} partitions", one.assigned().await, other.assigned().await);
        stage.fill(6, produced, 5);
        produced += 5;
        for platform in [&mut one, &mut other] {
            seen.extend(stage.places(&platform.read_and_ack().await));
        }
    }
    let both = [one.client.partitions().await.unwrap().active, other.client.partitions().await.unwrap().active];
    assert_eq!(both.concat().into_iter().collect::<BTreeSet<_>>().len(), 6, "each has an owner: {both:?}");
    for platform in [&mut one, &mut other] {
        seen.extend(stage.places(&platform.read_and_ack().await));
    }

    drop(other);
    assert!(second.close(PATIENCE).await);
    while one.assigned().await != 6 || seen.len() < usize::try_from(6 * produced).unwrap() {
        assert!(Instant::now() < deadline, "{} of {} records came", seen.len(), 6 * produced);
        if one.assigned().await != 6 {
            stage.fill(6, produced, 5);
            produced += 5;
        }
        seen.extend(stage.places(&one.read_and_ack().await));
    }
    stage.sampler(6).wait_for(&everywhere(6, produced));
    assert!(one.client.is_ready().await.unwrap());
    assert_eq!((first.failure(), second.failure()), (None, None));
    assert!(first.close(PATIENCE).await);
}

/// The newer process of two with the same name owns it; the older one can only end.
pub(crate) async fn a_static_member_whose_place_is_taken_says_so(stage: Stage) {
    stage.create_topic(2).await;
    stage.fill(2, 0, 5);
    let config = stage.config().with_instance_id("replica 0");
    let first = harness::start(config.clone()).await;
    let mut one = Platform::connect(&first).await;
    one.read_all(10).await;
    assert_eq!(first.failure(), None);

    let second = harness::start(config).await;
    let mut other = Platform::connect(&second).await;
    let reason = tokio::time::timeout(PATIENCE, first.failed()).await.unwrap();
    assert!(reason.contains("static member"), "{reason}");
    assert!(one.client.is_ready().await.unwrap());
    other.read_all(10).await;
    assert_eq!(second.failure(), None);
    for source in [first, second] {
        assert!(source.close(PATIENCE).await);
    }
}

pub(crate) async fn a_group_protocol_that_brokers_do_not_know_is_named_or_not_used(stage: Stage) {
    let broker = Broker::start(Options::new().with_format_argument("--feature=group.version=0")).unwrap();
    let old = Stage::new(broker.address(), stage.topic.clone());
    for stage in [&old, &stage] {
        stage.create_topic(1).await;
        stage.fill(1, 0, 10);
    }
    let source = harness::start(old.config_by(GroupProtocol::Consumer)).await;
    let reason = tokio::time::timeout(PATIENCE, source.failed()).await.unwrap();
    assert!(reason.contains("--group-protocol consumer"), "{reason}");
    assert!(source.close(PATIENCE).await);

    // Who is in a group by the new protocol is not told by this question.
    for (stage, told) in [(&old, 1), (&stage, 0)] {
        let source = harness::start(stage.config_by(GroupProtocol::Auto)).await;
        let mut platform = Platform::connect(&source).await;
        let messages = platform.read_all(10).await;
        let consumer: BaseConsumer = stage.client().create().unwrap();
        let groups = answer(|| consumer.fetch_group_list(Some(&stage.group), PATIENCE));
        assert_eq!(groups.groups().iter().map(|group| group.members().len()).sum::<usize>(), told);
        platform.ack(&messages).await;
        stage.sampler(1).wait_for(&everywhere(1, 10));
        assert_eq!(source.failure(), None);
        assert!(source.close(PATIENCE).await);
    }
}

pub(crate) async fn a_late_ack_leaves_the_offset_of_the_new_owner_alone(stage: Stage) {
    stage.create_topic(4).await;
    stage.fill(4, 0, 10);
    let sampler = stage.sampler(4);
    let first = stage.start().await;
    let mut one = Platform::connect(&first).await;
    let messages = one.read_all(40).await;
    one.ack(messages.iter().filter(|message| stage.place(message).1 < 2)).await;
    sampler.wait_for(&everywhere(4, 2));

    let second = stage.start().await;
    let mut other = Platform::connect(&second).await;
    // What is in flight at the first of them comes again at the second.
    let again = other.read_all(16).await;
    let taken: BTreeSet<i32> = stage.places(&again).into_iter().map(|(partition, _)| partition).collect();
    assert_eq!((taken.len(), one.assigned().await), (2, 2), "{taken:?}");
    other.ack(again.iter().filter(|message| stage.place(message).1 < 5)).await;
    let mut expected = everywhere(4, 2);
    expected.extend(taken.iter().map(|partition| (*partition, (5, 5))));
    sampler.wait_for(&expected);

    // Late for those that are taken; in time for the others, whose commits come no sooner than any that would be wrong.
    one.ack(&messages).await;
    let mut expected = everywhere(4, 10);
    expected.extend(taken.iter().map(|partition| (*partition, (5, 5))));
    sampler.wait_for(&expected);
    assert_eq!(first.in_flight(), 0);
    // Leaving, it commits what it has to. Nobody reads at the second meanwhile, so nothing there is done.
    assert!(first.close(PATIENCE).await);
    sampler.wait_for(&expected);

    other.ack(again.iter().filter(|message| stage.place(message).1 >= 5)).await;
    sampler.wait_for(&everywhere(4, 10));
    assert!(other.read(10, Duration::from_millis(100)).await.is_empty());
    assert!(second.close(PATIENCE).await);
}
