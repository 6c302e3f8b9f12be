//! What the group commits: the acked prefix of each partition, and nothing more.

use std::time::Duration;

use numaflow_sdk::source::{Message, Offset};

use crate::harness::{self, PATIENCE, Platform, Sampler, everywhere, place, prefixes};

/// Every third record first, and backwards: as far from in order as it gets.
fn shuffled(messages: &[Message]) -> Vec<&Message> {
    let (thirds, rest): (Vec<_>, Vec<_>) = messages.iter().enumerate().partition(|(index, _)| index % 3 == 0);
    rest.into_iter().rev().chain(thirds).map(|(_, message)| message).collect()
}

pub(crate) async fn acks_out_of_order_never_commit_past_the_smallest_unacked() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 50);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(300).await;
    let sampler = Sampler::new(broker.addresses());

    let mut acked = Vec::new();
    for chunk in shuffled(&messages).chunks(20) {
        platform.ack(chunk.iter().copied()).await;
        acked.extend(chunk.iter().map(|message| place(message.offset())));
        // Nothing is acked meanwhile, so whatever the samples see was committed for what is acked by now.
        sampler.wait_for(&prefixes(&acked));
    }
    assert_eq!(sampler.committed(), everywhere(50));
    assert_eq!(source.in_flight(), 0);
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn acks_twice_of_strangers_and_of_garbage_succeed_without_effect() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 10);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(60).await;
    let first: Vec<&Message> = messages.iter().filter(|message| place(message.offset()).1 < 4).collect();
    platform.ack(first.iter().copied()).await;
    platform.ack(first.iter().copied()).await;
    assert_eq!(source.unknown_acks(), 24);

    let strangers = ["numbers:0:10", "numbers:0:999", "numbers:77:0", "other:0:5", "numbers:0:05", "", "\u{0}"];
    for token in strangers {
        platform.acks.ack(vec![Offset::new(token.to_owned(), 0)]).await.unwrap();
    }
    platform.acks.ack(vec![Offset::new(vec![0, 0xff, 0x80], 3)]).await.unwrap();
    assert_eq!(source.unknown_acks(), 24 + 8);
    assert_eq!(source.in_flight(), 36);
    let sampler = Sampler::new(broker.addresses());
    sampler.wait_for(&everywhere(4));
    assert!(source.close(PATIENCE).await);
    assert_eq!(sampler.committed(), everywhere(4), "the last commit says the same");
}

pub(crate) async fn a_restarted_source_reads_on_at_the_first_record_not_acked() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 20);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(120).await;
    let done = |message: &&Message| place(message.offset()).1 != 5;
    platform.ack(messages.iter().filter(done)).await;
    drop(platform);
    assert!(source.close(PATIENCE).await);
    assert_eq!(Sampler::new(broker.addresses()).committed(), everywhere(5));

    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let again = platform.read_all(15 * 6).await;
    let mut places: Vec<_> = again.iter().map(|message| place(message.offset())).collect();
    places.sort_unstable();
    let expected: Vec<_> = (0..6).flat_map(|partition| (5..20).map(move |number| (partition, number))).collect();
    assert_eq!(places, expected);
    assert_eq!(
        again[0].offset().as_bytes(),
        messages.iter().find(|m| m.value() == again[0].value()).unwrap().offset().as_bytes()
    );
    platform.ack(&again).await;
    assert!(source.close(PATIENCE).await);
    assert_eq!(Sampler::new(broker.addresses()).committed(), everywhere(20));
}

pub(crate) async fn a_draining_source_hands_out_nothing_and_commits_what_is_still_acked() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 10);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(30).await;
    source.drain();
    assert!(platform.read(100, Duration::from_millis(100)).await.is_empty());
    platform.ack(&messages).await;
    assert_eq!(source.in_flight(), 0);
    let acked: Vec<_> = messages.iter().map(|message| place(message.offset())).collect();
    assert!(source.close(PATIENCE).await);
    assert_eq!(Sampler::new(broker.addresses()).committed(), prefixes(&acked));
}
