//! The trouble that the driver itself makes.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use numaflow_sdk::{MapMode, MapRequest, map, source};
use prost::Message as _;
use tokio::time::Instant;
use udf_server::drive::{Drive, Ended, Generate, Input, Until};

use crate::rogue::{MapFrame, SET, send, serve};
use crate::script::{Call, Script, ack, read};
use crate::stage::{Stage, lines_of, run, settings};

fn generate(count: u64) -> Input {
    Input::Generate(Generate { count: NonZeroU64::new(count).unwrap(), value_bytes: 3, keys: None })
}

/// How often each value was seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, u32>>>);

impl Seen {
    fn note(&self, request: &MapRequest) {
        let value = String::from_utf8(request.value().to_vec()).unwrap();
        *self.0.lock().unwrap().entry(value).or_default() += 1;
    }

    fn times(&self) -> BTreeMap<String, u32> {
        self.0.lock().unwrap().clone()
    }
}

fn all(numbers: std::ops::RangeInclusive<u32>, times: impl Fn(u32) -> u32) -> BTreeMap<String, u32> {
    numbers.map(|number| (format!("{number:03}"), times(number))).collect()
}

#[tokio::test]
async fn what_was_to_be_killed_vanishes_without_an_ack_or_a_word() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1", "2"]), read(["3", "4", "5"])]);
    let source = stage.serve("source", source::service(script.clone()));
    // Answers all but the last one, which is in flight when the driver vanishes.
    let (map, endings) = serve(&mut stage, "map", r#"{"language":"go"}"#, |arrived| {
        let frame = MapFrame::decode(arrived.bytes).unwrap();
        match frame.parts.first().map(|part| &part.value[..]) {
            None => vec![send(&MapFrame { handshake: SET, ..MapFrame::default() })],
            Some(value) if value.ends_with(b"5") => vec![],
            Some(_) => vec![send(&MapFrame { parts: vec![], id: frame.id, ..MapFrame::default() })],
        }
    });
    let mut settings = settings(Input::Server(source), Until::Told);
    settings.map = Some(map);
    settings.faults.kill_after = NonZeroU64::new(4);
    let report = run(settings).await;
    assert_eq!(report.ended, Ended::Killed);
    assert_eq!((report.counts.acked, report.unresolved), (2, 3));
    assert_eq!(script.settled(), [ack(["1", "2"])]);
    while endings.all().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(endings.all(), ["MapFn: connection lost"]);
}

#[tokio::test]
async fn without_a_map_messages_count_as_they_are_read() {
    let stage = Stage::new();
    for streaming in [false, true] {
        let mut settings = settings(generate(10), Until::Told);
        settings.out = stage.out();
        settings.batch_size = 3;
        settings.streaming_acks = streaming;
        settings.faults.kill_after = NonZeroU64::new(5);
        let report = run(settings).await;
        assert_eq!(report.ended, Ended::Killed);
        let written = lines_of(&stage.path("out"));
        assert_eq!(written, if streaming { vec!["001", "002", "003", "004"] } else { vec!["001", "002", "003"] });
    }
}

#[tokio::test]
async fn it_leaves_the_map_s_stream_and_every_message_gets_through() {
    for mode in [MapMode::Unary, MapMode::Batch, MapMode::Stream] {
        let mut stage = Stage::new();
        let seen = Seen::default();
        let log = seen.clone();
        let map = map::from_fn(move |request: MapRequest| {
            log.note(&request);
            async move { Ok(request.into_message()) }
        });
        let mut settings = settings(generate(20), Until::Told);
        settings.map = Some(stage.serve("map", map::service(map).mode(mode)));
        settings.out = stage.out();
        settings.faults.reconnect_every = NonZeroU64::new(7);
        settings.pauses.redrive = Duration::from_millis(1);
        let counts = run(settings).await.counts;
        let expected: Vec<String> = (1..=20).map(|number| format!("{number:03}")).collect();
        assert_eq!(lines_of(&stage.path("out")), expected, "{mode}");
        assert!(counts.map_reconnects >= 1 && counts.redriven >= 13, "{mode} {counts:?}");
        assert_eq!(u64::from(seen.times().values().sum::<u32>()), 20 + counts.redriven, "{mode}");
    }
}

#[tokio::test]
async fn every_third_message_is_sent_twice_and_written_once() {
    for mode in [MapMode::Unary, MapMode::Batch] {
        let mut stage = Stage::new();
        let seen = Seen::default();
        let log = seen.clone();
        let map = map::from_fn(move |request: MapRequest| {
            log.note(&request);
            async move { Ok(request.into_message()) }
        });
        let mut settings = settings(generate(10), Until::Told);
        settings.map = Some(stage.serve("map", map::service(map).mode(mode)));
        settings.out = stage.out();
        settings.faults.duplicate_every = NonZeroU64::new(3);
        let report = run(settings).await;
        assert_eq!(seen.times(), all(1..=10, |number| if number % 3 == 0 { 2 } else { 1 }), "{mode}");
        assert_eq!(lines_of(&stage.path("out")).len(), 10);
        // That the map answers twice is no fault of its.
        assert_eq!((report.breaches.len(), report.counts.mapped), (0, 10), "{mode}");
        assert!(report.counts.duplicate_answers >= 2, "{mode} {report}");
    }
}

#[tokio::test]
async fn every_second_message_is_nacked_once_and_written_when_it_comes_again() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1", "2", "3"]), read(["2", "4"]), read(["4"])]);
    let at = stage.serve("source", source::service(script.clone()));
    let mut settings = settings(Input::Server(at), Until::Resolved(4));
    settings.out = stage.out();
    settings.faults.nack_every = NonZeroU64::new(2);
    let counts = run(settings).await.counts;
    let nack = |offset: &str| Call::Nack(vec![(offset.to_owned(), Some("drive nacks on purpose".to_owned()))]);
    assert_eq!(script.settled(), [ack(["1", "3"]), nack("2"), ack(["2", "4"])]);
    assert_eq!(lines_of(&stage.path("out")), ["value 1", "value 3", "value 2", "value 4"]);
    assert_eq!((counts.nacked, counts.acked, counts.redelivered), (1, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_leaves_each_answer_for_its_time() {
    let mut stage = Stage::new();
    let map = map::from_fn(async |request: MapRequest| Ok(request.into_message()));
    let mut settings = settings(generate(10), Until::Told);
    settings.map = Some(stage.serve("map", map::service(map)));
    settings.faults.answer_pause = Duration::from_secs(3);
    let begun = Instant::now();
    let counts = run(settings).await.counts;
    assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(counts.mapped, 10);
}

#[tokio::test(start_paused = true)]
async fn messages_are_read_at_the_rate() {
    let mut settings = settings(generate(41), Until::Told);
    settings.rate = std::num::NonZeroU32::new(4);
    let begun = Instant::now();
    let counts = run(settings).await.counts;
    let took = begun.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&took), "{took:?}");
    assert_eq!(counts.acked, 41);
}

#[tokio::test]
async fn a_slow_rate_does_not_hold_up_the_end() {
    let (until, told) = tokio::sync::watch::channel(Until::Told);
    let mut settings = settings(generate(100), Until::Told);
    settings.until = told;
    settings.rate = std::num::NonZeroU32::new(1);
    settings.grace = Duration::from_secs(3600);
    let (drive, mut watcher) = Drive::new(settings);
    let stop = async {
        watcher.counts.wait_for(|counts| counts.acked == 1).await.unwrap();
        until.send_replace(Until::Now);
    };
    let (report, ()) = tokio::join!(drive.run(), stop);
    let report = report.unwrap();
    assert_eq!((report.ended, report.counts.read), (Ended::Stopped, 1));
}
