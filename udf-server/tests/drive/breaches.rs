//! What the driver says of servers that break the protocol, and what it does about it as the platform.

use std::time::Duration;

use bytes::Bytes;
use numaflow_sdk::testing::MOST_OUTPUTS;
use prost::Message as _;
use tokio::time::sleep;
use udf_server::drive::{Breach, Drive, DriveError, Ended, Input, Platform, Report, Settings, Until};

use crate::rogue::{AckFrame, Arrived, Flag, MapFrame, Part, Place, ReadFrame, Record, SET, Step, send, serve};
use crate::stage::{Stage, lines_of, outcome, run, settings};

/// Of a paused clock, which takes no time.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const UNARY: &str = r#"{"language":"go","version":"0.12.0","metadata":{"MAP_MODE":"unary-map"}}"#;
const BATCH: &str = r#"{"language":"go","version":"0.12.0","metadata":{"MAP_MODE":"batch-map"}}"#;
const STREAM: &str = r#"{"language":"go","version":"0.12.0","metadata":{"MAP_MODE":"stream-map"}}"#;

fn handshake() -> Step {
    send(&MapFrame { handshake: SET, ..MapFrame::default() })
}

fn answer(id: &str) -> Step {
    let parts = vec![Part { value: Bytes::from_static(b"answer") }];
    send(&MapFrame { parts, id: id.to_owned(), ..MapFrame::default() })
}

fn eot(id: &str) -> Step {
    send(&MapFrame { id: id.to_owned(), status: SET, ..MapFrame::default() })
}

/// Settings for three lines and a map that does as `script` says with each request after the handshake.
fn scripted(
    stage: &mut Stage,
    info: &str,
    script: impl Fn(Arrived, MapFrame) -> Vec<Step> + Send + Sync + 'static,
) -> Settings {
    let (at, _) = serve(stage, "map", info, move |arrived| {
        let frame = MapFrame::decode(arrived.bytes.clone()).unwrap();
        if frame.handshake.is_some() { vec![handshake()] } else { script(arrived, frame) }
    });
    let mut settings = settings(stage.lines(["1", "2", "3"]), Until::Told);
    settings.map = Some(at);
    settings.out = stage.out();
    settings
}

/// What was broken: rule, how often, what the first time.
fn broken(report: &Report) -> Vec<(Breach, u64, &str)> {
    report.breaches.iter().map(|breached| (breached.breach, breached.times, &*breached.first)).collect()
}

#[tokio::test]
async fn answers_that_nobody_waits_for_are_ignored_and_told() {
    let mut stage = Stage::new();
    let settings = scripted(&mut stage, UNARY, |_, frame| {
        // Unknown, and once more what was answered already.
        vec![answer("nobody"), answer(&frame.id), answer(&frame.id)]
    });
    let (drive, mut watcher) = Drive::new(settings);
    let report = drive.run().await.unwrap();
    let [(Breach::UnknownId, times @ 5..=6, "\"nobody\"")] = broken(&report)[..] else { panic!("{report}") };
    let notice = watcher.notices.recv().await.unwrap().to_string();
    assert!(notice.contains("an id that no message waits under") && notice.contains("ignores it"), "{notice}");
    // Told once, counted always.
    assert!(watcher.notices.recv().await.is_none());
    let summary = report.to_string();
    assert!(summary.contains(&format!("ignores it: {times} times")), "{summary}");
    assert_eq!((report.counts.mapped, report.ended), (3, Ended::Done));
}

#[tokio::test]
async fn a_batch_that_ends_early_is_sent_again_and_told() {
    let mut stage = Stage::new();
    let settings = scripted(&mut stage, BATCH, |arrived, frame| match (arrived.stream, frame.status) {
        (1, None) if arrived.frame == 2 => vec![],
        (_, None) => vec![answer(&frame.id)],
        (_, Some(_)) => vec![eot("")],
    });
    let report = run(settings).await;
    assert_eq!(broken(&report), [(Breach::PartialBatch, 1, "1 of 3 unanswered")]);
    assert_eq!((report.counts.map_reconnects, report.counts.redriven, report.counts.mapped), (1, 3, 3));
}

#[tokio::test]
async fn outputs_in_an_eot_are_lost_and_told() {
    let mut stage = Stage::new();
    let settings = scripted(&mut stage, STREAM, |_, frame| {
        let parts = vec![Part { value: Bytes::from_static(b"lost") }];
        vec![answer(&frame.id), send(&MapFrame { parts, id: frame.id, status: SET, ..MapFrame::default() })]
    });
    let report = run(settings).await;
    assert_eq!(broken(&report), [(Breach::OutputsInEot, 3, "1 outputs")]);
    assert_eq!(lines_of(&stage.path("out")), ["answer"; 3]);
}

#[tokio::test]
async fn a_map_that_ends_its_stream_with_ok_is_dialled_again() {
    let mut stage = Stage::new();
    let settings = scripted(&mut stage, UNARY, |arrived, frame| match arrived.stream {
        1 => vec![answer(&frame.id), Step::End(0)],
        _ => vec![answer(&frame.id)],
    });
    let report = run(settings).await;
    assert_eq!(broken(&report), [(Breach::MapEnded, 1, "with 2 messages in flight")]);
    assert_eq!((report.counts.map_reconnects, report.counts.redriven, report.counts.mapped), (1, 2, 3));
}

#[tokio::test]
async fn platform_1_8_exits_where_main_goes_on() {
    for (info, ends_early, breach) in [(UNARY, false, Breach::MapEnded), (BATCH, true, Breach::PartialBatch)] {
        let mut stage = Stage::new();
        let mut settings = scripted(&mut stage, info, move |_, _| match ends_early {
            true => vec![eot("")],
            false => vec![Step::End(0)],
        });
        settings.platform = Platform::V1_8;
        let report = run(settings).await;
        assert!(matches!(&report.ended, Ended::Exited(reason) if reason.contains("1.8")), "{:?}", report.ended);
        assert_eq!((report.breaches[0].breach, report.counts.map_reconnects), (breach, 0));
        assert!(report.breaches[0].platform.contains("exits"), "{report}");
    }
}

#[tokio::test]
async fn a_map_without_a_handshake_ends_the_run() {
    for (script, problem) in [
        ((|| answer("id")) as fn() -> Step, "the first answer is not a handshake"),
        (|| Step::End(0), "the stream ended before the handshake"),
    ] {
        let mut stage = Stage::new();
        let (at, _) = serve(&mut stage, "map", UNARY, move |_| vec![script()]);
        let mut settings = settings(stage.lines(["1"]), Until::Told);
        settings.map = Some(at);
        let error = outcome(settings).await.unwrap_err();
        let text = udf_server::error::chain(&error);
        assert!(matches!(error, DriveError::Server { .. }), "{text}");
        assert!(text.contains(problem) && text.contains("the platform exits"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_map_that_never_answers_is_named() {
    let mut stage = Stage::new();
    let settings = scripted(&mut stage, UNARY, |_, _| vec![]);
    let (drive, mut watcher) = Drive::new(settings);
    let named = async {
        let notice = watcher.notices.recv().await.unwrap().to_string();
        assert_eq!(
            notice,
            "waiting for answers of the map with 3 messages in flight, for 10 s now: the platform waits for ever"
        );
    };
    tokio::select! {
        report = drive.run() => panic!("{report:?}"),
        () = named => {}
        () = sleep(DAY) => panic!("it was not named"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_never_answered_is_named() {
    let mut stage = Stage::new();
    let (at, _) = serve(&mut stage, "map", UNARY, |_| vec![]);
    let mut settings = settings(stage.lines(["1"]), Until::Told);
    settings.map = Some(at);
    let (drive, mut watcher) = Drive::new(settings);
    tokio::select! {
        report = drive.run() => panic!("{report:?}"),
        notice = watcher.notices.recv() => {
            let notice = notice.unwrap().to_string();
            assert!(notice.starts_with("waiting for the map's answer to the handshake, for 10 s"), "{notice}");
        }
        () = sleep(DAY) => panic!("it was not named"),
    }
}

fn record(offset: &'static [u8]) -> ReadFrame {
    let offset = Some(Place { offset: Bytes::from_static(offset) });
    let result = Record { payload: Bytes::from_static(b"value"), offset, event_time: Some(Flag::default()) };
    ReadFrame { result: Some(result), ..ReadFrame::default() }
}

/// Settings for a source that answers its first read with these frames, and the others with nothing.
fn reading(stage: &mut Stage, first: Vec<ReadFrame>, ends: bool) -> Settings {
    let (at, _) =
        serve(stage, "source", UNARY, move |arrived| match (&*arrived.method, arrived.frame, arrived.stream) {
            ("ReadFn", 1, _) => vec![send(&ReadFrame { handshake: SET, ..ReadFrame::default() })],
            ("ReadFn", 2, 1) if ends => first.iter().map(send).chain([Step::End(0)]).collect(),
            ("ReadFn", 2, 1) => first.iter().map(send).collect(),
            ("ReadFn", _, _) => vec![send(&ReadFrame { status: SET, ..ReadFrame::default() })],
            ("AckFn", 1, _) => vec![send(&AckFrame { handshake: SET })],
            ("AckFn", _, _) => vec![send(&AckFrame::default())],
            // Pending and partitions are not offered.
            (_, _, _) => vec![Step::End(12)],
        });
    settings(Input::Server(at), Until::Resolved(2))
}

#[tokio::test]
async fn more_messages_than_asked_for_are_taken_and_told() {
    let mut stage = Stage::new();
    let end = ReadFrame { status: SET, ..ReadFrame::default() };
    let mut settings = reading(&mut stage, vec![record(b"1"), record(b"2"), end], false);
    settings.batch_size = 1;
    let report = run(settings).await;
    assert_eq!(broken(&report), [(Breach::TooMany, 1, "2 instead of 1")]);
    assert_eq!(report.counts.acked, 2);
}

#[tokio::test]
async fn a_read_stream_that_ends_with_ok_is_told() {
    let mut stage = Stage::new();
    let mut settings = reading(&mut stage, vec![record(b"1"), record(b"2")], true);
    settings.batch_size = 5;
    let report = run(settings).await;
    assert_eq!(broken(&report), [(Breach::ReadEnded, 1, "after 2 messages of a batch")]);
    assert_eq!(report.counts.acked, 2);
}

#[tokio::test]
async fn a_message_that_the_platform_cannot_take_ends_the_run() {
    let mut stage = Stage::new();
    let error = outcome(reading(&mut stage, vec![record(b"")], false)).await.unwrap_err();
    let text = udf_server::error::chain(&error);
    assert!(text.contains("a message whose offset is empty, and the platform exits"), "{text}");
}

/// The protocol has no limit. An output has two bytes on the wire, and takes some hundred bytes of memory.
#[tokio::test]
async fn too_many_outputs_are_refused() {
    fn outputs(count: usize, frame: MapFrame) -> Step {
        let empty = MapFrame { parts: vec![Part::default()], ..MapFrame::default() }.encode_to_vec();
        let id = MapFrame { id: frame.id, ..MapFrame::default() };
        Step::Send([empty.repeat(count), id.encode_to_vec()].concat())
    }
    let mut stage = Stage::new();
    let mut settings = scripted(&mut stage, UNARY, |_, frame| vec![outputs(MOST_OUTPUTS + 1, frame)]);
    settings.wait = Some(Duration::from_secs(2));
    let said = outcome(settings).await.unwrap_err().to_string();
    assert!(said.contains("RESOURCE_EXHAUSTED: an answer has more than 262144 outputs"), "{said}");

    let mut stage = Stage::new();
    let half = MOST_OUTPUTS / 2 + 1;
    let settings =
        scripted(&mut stage, STREAM, move |_, frame| vec![outputs(half, frame.clone()), outputs(half, frame)]);
    let error = outcome(settings).await.unwrap_err();
    assert!(matches!(error, DriveError::TooManyOutputs { .. }), "{error}");
    assert!(error.to_string().contains("with more than 262144 outputs"), "{error}");
}
