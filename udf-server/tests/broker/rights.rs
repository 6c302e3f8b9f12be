//! Topics that the source's user may not see.

use crate::endpoint::Endpoint;
use crate::harness::{Guarded, PATIENCE, Platform, Stage, start};

/// It is waited for, and the other topic is read.
pub(crate) async fn a_topic_that_may_not_be_seen_at_the_start_holds_up_no_other(_: Stage) {
    let broker = Guarded::start();
    let [read, denied] = broker.two_topics().await;
    broker.allow(&["--operation", "Read", "--topic", &read.topic, "--group", &read.group]);
    let source = start(broker.config(&read, &[&denied.topic, &read.topic])).await;
    let endpoint = Endpoint::of(&source);
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(5).await;
    platform.ack(&messages).await;
    let page = endpoint.until("missing", |page| page["missing_topics"][0]["topic"] == *denied.topic).await;
    let reason = page["missing_topics"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("uthorization"), "{reason}");

    broker.allow(&["--operation", "Read", "--topic", &denied.topic]);
    let messages = platform.read_all(5).await;
    assert_eq!(denied.places(&messages), (0..5).map(|offset| (0, offset)).collect::<Vec<_>>());
    platform.ack(&messages).await;
    endpoint.becomes_ready().await;
    assert!(source.close(PATIENCE).await);
}

/// Brokers leave it out of the topics that a pattern is compared with, as if it were deleted. It is not, and its records are left.
pub(crate) async fn a_topic_of_a_pattern_that_may_no_longer_be_seen_is_not_gone(_: Stage) {
    let broker = Guarded::start();
    let [kept, denied, one, two, three] =
        ["kept", "denied", "1", "2", "3"].map(|name| broker.stage("topics").beside(name));
    for stage in [&kept, &denied] {
        stage.create_topic(1).await;
        stage.fill(1, 0, 5);
    }
    broker.allow(&["--operation", "Read", "--topic", "topics.", "--resource-pattern-type", "prefixed"]);
    broker.allow(&["--operation", "Read", "--group", &kept.group]);
    let source = start(broker.config(&kept, &["^topics[.].*"]).with_replica_id(0)).await;
    let endpoint = Endpoint::of(&source);
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(10).await;
    platform.ack(&messages).await;

    let all = ["--operation", "All", "--topic", &denied.topic];
    broker.deny(&all);
    denied.fill(1, 5, 5);
    let is_denied = |right: &str| right.contains(&denied.topic);
    endpoint.until("denied", |page| page["denied_right"].as_str().is_some_and(is_denied)).await;
    // Each is found by another look at the topics that there are.
    for later in [&one, &two, &three] {
        later.create_topic(1).await;
        later.fill(1, 0, 1);
        let messages = platform.read_all(1).await;
        platform.ack(&messages).await;
    }
    let page = endpoint.page().await;
    assert!(page["topics"].as_array().unwrap().iter().any(|topic| *topic == *denied.topic), "{page:#}");
    assert!(page["denied_right"].as_str().is_some_and(is_denied), "{page:#}");

    broker.deny_no_more(&all);
    let messages = platform.read_all(5).await;
    assert_eq!(denied.places(&messages), (5..10).map(|offset| (0, offset)).collect::<Vec<_>>());
    platform.ack(&messages).await;
    assert!(source.close(PATIENCE).await);
}
