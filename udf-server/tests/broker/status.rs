//! What `/kafka` and `/readyz` tell.

use serde_json::{Value, json};
use udf_server::kafka::GroupProtocol;

use crate::endpoint::Endpoint;
use crate::harness::{self, PATIENCE, Platform, Stage};

fn has(page: &Value, partitions: usize) -> bool {
    page["state"] == "assigned" && page["partitions"].as_array().unwrap().len() == partitions
}

/// Where there are more members than partitions, some wait for the others to go: that is no trouble of theirs.
pub(crate) async fn a_member_without_partitions_is_ready_and_takes_over(stage: Stage) {
    stage.create_topic(1).await;
    stage.fill(1, 0, 10);
    let first = stage.start().await;
    let (mut one, endpoint) = (Platform::connect(&first).await, Endpoint::of(&first));
    let messages = one.read_all(10).await;
    one.ack(&messages[..4]).await;
    endpoint.until("committed", |page| page["partitions"][0]["committed"] == 4).await;
    let page = endpoint.until("told the ends", |page| page["pending"] == 6).await;
    assert!(has(&page, 1), "{page:#}");
    endpoint.becomes_ready().await;
    let figures = ["commit_point", "position", "end", "lag", "in_flight"].map(|name| &page["partitions"][0][name]);
    assert_eq!(figures, [4, 10, 10, 6, 6], "{page:#}");

    let second = stage.start().await;
    let waiting = Endpoint::of(&second);
    waiting.until("a member", |page| page["state"] != "joining").await;
    let page = waiting.until("told the ends", |page| !page["pending"].is_null()).await;
    assert!(has(&page, 0), "{page:#}");
    waiting.becomes_ready().await;
    assert_eq!((&page["pending"], &page["totals"]["assigned_partitions"]), (&json!(6), &json!(0)));

    drop(one);
    assert!(first.close(PATIENCE).await);
    let page = waiting.until("taken over", |page| has(page, 1) && page["partitions"][0]["position"] == 10).await;
    // It has committed nothing itself: this is what the brokers say of the group.
    let figures = ["commit_point", "committed", "lag", "held_records", "in_flight"];
    assert_eq!(figures.map(|name| &page["partitions"][0][name]), [4, 4, 6, 6, 0], "{page:#}");
    assert_eq!(page["partitions"][0]["oldest_unacked"], Value::Null, "nobody reads");
    assert!(second.close(PATIENCE).await);
}

/// The library does not tell the members of such a group that they have no partitions.
pub(crate) async fn a_member_without_partitions_is_ready_with_the_new_protocol(stage: Stage) {
    stage.create_topic(1).await;
    let config = stage.config_by(GroupProtocol::Consumer);
    let first = harness::start(config.clone()).await;
    let endpoint = Endpoint::of(&first);
    endpoint.until("assigned", |page| has(page, 1)).await;
    let second = harness::start(config).await;
    let waiting = Endpoint::of(&second);
    waiting.until("a member", |page| has(page, 0)).await;
    waiting.becomes_ready().await;
    endpoint.becomes_ready().await;
    assert!(first.close(PATIENCE).await);
    waiting.until("taken over", |page| has(page, 1)).await;
    assert!(second.close(PATIENCE).await);
}
