//! When a read returns, and what comes again.

use std::time::Duration;

use numaflow_sdk::NackOptions;
use numaflow_sdk::source::NackOffset;
use tokio::time::Instant;

use crate::harness::{self, PATIENCE, Platform, Sampler, everywhere, place};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn an_empty_read_waits_and_one_with_messages_does_not() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 1);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(6).await;

    let began = Instant::now();
    assert!(platform.read(10, 10 * SECOND).await.is_empty());
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(50), "the platform would ask again at once: {waited:?}");
    assert!(waited < 5 * SECOND, "acks would wait for the read: {waited:?}");

    platform.ack(&messages).await;
    let began = Instant::now();
    assert!(platform.read(10, SECOND).await.is_empty());
    assert!(began.elapsed() >= SECOND, "nothing is in flight, so there is nothing to hurry for: {:?}", began.elapsed());

    harness::fill(broker.addresses(), 1, 1);
    let began = Instant::now();
    assert!(!platform.read(10, 10 * SECOND).await.is_empty());
    assert!(began.elapsed() < 5 * SECOND, "there is something, and no more to wait for: {:?}", began.elapsed());
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_read_lingers_only_where_records_come_quickly() {
    const LINGER: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(120);
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 1);
    let config = harness::config(broker.addresses()).with_linger(LINGER);
    let source = harness::start_with(config).await;
    let mut platform = Platform::connect(&source).await;
    let first = platform.read_all(6).await;

    // What is given back is there at once, and something more may come.
    let offsets = first.iter().map(|message| NackOffset::new(message.offset().clone(), NackOptions::new())).collect();
    platform.client.nack(offsets).await.unwrap();
    let began = Instant::now();
    let again = platform.read(10, LONG).await;
    assert_eq!(again.len(), 6);
    assert!(began.elapsed() >= LINGER, "{:?}", began.elapsed());

    platform.ack(&again).await;
    // By then the read has waited for longer than it lingers.
    let producer = tokio::task::spawn_blocking({
        let addresses = broker.addresses().to_owned();
        move || {
            std::thread::sleep(LINGER * 2);
            harness::fill(&addresses, 1, 1);
            Instant::now()
        }
    });
    let late = platform.read(10, LONG).await;
    let ended = Instant::now();
    assert!(!late.is_empty());
    let filled = producer.await.unwrap();
    assert!(ended < filled + LINGER / 2, "it lingered: {:?}", ended - filled);
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_read_holds_at_most_what_was_asked_for() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 5);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let mut messages = platform.read_all(1).await;
    while messages.len() < 30 {
        let batch = platform.read(4, SECOND).await;
        assert!(batch.len() <= 4);
        messages.extend(batch);
    }
    let mut places: Vec<_> = messages.iter().map(|message| place(message.offset())).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 30, "each came once");
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_nacked_message_comes_again_after_its_delay_and_holds_the_commit_back() {
    const DELAY: Duration = Duration::from_millis(700);
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 10);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(60).await;
    let (nacked, rest): (Vec<_>, Vec<_>) =
        messages.iter().partition(|message| place(message.offset()).1 == 3 && place(message.offset()).0 != 0);
    platform.ack(rest).await;
    let nacks = |delay| {
        let options = NackOptions::new().with_delay(delay).with_max_deliveries(1);
        nacked.iter().map(|message| NackOffset::new(message.offset().clone(), options.clone())).collect()
    };
    let began = Instant::now();
    platform.client.nack(nacks(DELAY)).await.unwrap();
    platform.client.nack(nacks(DELAY)).await.unwrap();
    assert_eq!(source.unknown_acks(), 5, "the second has no effect");

    let sampler = Sampler::new(broker.addresses());
    let mut held = everywhere(3);
    held.insert(0, 10);
    sampler.wait_for(&held);

    let mut again = platform.read(10, 10 * SECOND).await;
    assert!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
    again.extend(platform.read_all(5 - again.len()).await);
    let tokens = |messages: &[&numaflow_sdk::source::Message]| {
        let mut tokens: Vec<_> = messages.iter().map(|message| place(message.offset())).collect();
        tokens.sort_unstable();
        tokens
    };
    assert_eq!(tokens(&again.iter().collect::<Vec<_>>()), tokens(&nacked));
    platform.ack(&again).await;
    sampler.wait_for(&everywhere(10));
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_new_read_stream_gets_what_was_not_answered_and_old_acks_count() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 10);
    let source = harness::start(broker.addresses()).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(60).await;
    platform.ack(&messages[..20]).await;

    platform.reads = platform.client.read_stream().await.unwrap();
    // An ack for what is about to be sent again: it was sent once, so it counts, and the message stays away.
    platform.ack(&messages[20..25]).await;
    let again = platform.read_all(35).await;
    let mut places: Vec<_> = again.iter().map(|message| place(message.offset())).collect();
    let mut expected: Vec<_> = messages[25..].iter().map(|message| place(message.offset())).collect();
    places.sort_unstable();
    expected.sort_unstable();
    assert_eq!(places, expected);
    assert!(platform.read(10, SECOND).await.is_empty());
    platform.ack(&messages[25..]).await;
    Sampler::new(broker.addresses()).wait_for(&everywhere(10));
    assert!(source.close(PATIENCE).await);
}

pub(crate) async fn a_partition_is_read_no_further_than_it_may_have_unfinished() {
    let broker = harness::broker();
    harness::fill(broker.addresses(), 0, 10);
    let config = harness::config(broker.addresses()).with_partition_limits(4, 1 << 20);
    let source = harness::start_with(config).await;
    let mut platform = Platform::connect(&source).await;
    let messages = platform.read_all(24).await;
    assert!(platform.read(10, SECOND).await.is_empty());
    assert!(messages.iter().all(|message| place(message.offset()).1 < 4), "{messages:?}");
    platform.ack(&messages).await;
    platform.read_all(24).await;
    assert!(source.close(PATIENCE).await);
}
