//! What the driver does to a source.

use std::sync::Mutex;
use std::time::Duration;

use numaflow_sdk::{MapRequest, Message, NackOptions, map, source};
use tokio::sync::watch;
use udf_server::drive::{Drive, DriveError, Input, Settings, Until};

use crate::script::{Call, Read, Script, ack, read};
use crate::stage::{Stage, lines_of, run, settings};

/// Settings for a script served in `stage`.
fn scripted(stage: &mut Stage, script: &Script, until: Until) -> Settings {
    let at = stage.serve("source", source::service(script.clone()));
    let mut settings = settings(Input::Server(at), until);
    settings.out = stage.out();
    settings
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time() {
    let mut stage = Stage::new();
    // Longer than the driver waits between two questions for pending messages or partitions.
    let script = Script::new([read(["1", "2"]), read(["3"])]).taking(Duration::from_secs(12));
    let report = run(scripted(&mut stage, &script, Until::Resolved(3))).await;
    let log = script.log();
    assert!(!script.overlapped(), "{log:?}");
    for question in [Call::Pending, Call::Partitions] {
        assert!(log.iter().filter(|call| **call == question).count() > 1, "{log:?}");
    }
    assert_eq!((report.counts.read, report.counts.acked), (3, 3));
}

#[tokio::test]
async fn a_batch_is_acked_in_read_order_once_it_is_written() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1", "2", "3"]), read(["4"])]);
    let report = run(scripted(&mut stage, &script, Until::Resolved(4))).await;
    assert_eq!(script.settled(), [ack(["1", "2", "3"]), ack(["4"])]);
    assert_eq!(lines_of(&stage.path("out")), ["value 1", "value 2", "value 3", "value 4"]);
    assert_eq!((report.counts.mapped, report.counts.pending, report.unresolved), (4, Some(0), 0));
    // The second read asks for no more than is missing.
    let reads: Vec<Call> = script.log().into_iter().filter(|call| matches!(call, Call::Read(_))).collect();
    assert_eq!(reads, [Call::Read(4), Call::Read(1)]);
}

#[tokio::test(start_paused = true)]
async fn acks_are_sent_again_until_they_are_answered() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1", "2"]), read(["3"])]).failing(3, 0);
    let report = run(scripted(&mut stage, &script, Until::Resolved(3))).await;
    let first = ack(["1", "2"]);
    assert_eq!(script.settled(), [first.clone(), first.clone(), first.clone(), first, ack(["3"])]);
    let counts = report.counts;
    assert_eq!((counts.ack_reconnects, counts.acked, counts.outputs, counts.read_reconnects), (3, 3, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_read_stream_broke_is_kept() {
    let mut stage = Stage::new();
    let broken = Read { offsets: vec!["1", "2"], fails: true };
    let script = Script::new([broken, read(["3"])]);
    let report = run(scripted(&mut stage, &script, Until::Resolved(3))).await;
    assert_eq!(script.settled(), [ack(["1", "2"]), ack(["3"])]);
    assert_eq!(lines_of(&stage.path("out")), ["value 1", "value 2", "value 3"]);
    assert_eq!((report.counts.read_reconnects, report.counts.ack_reconnects), (1, 0));
}

#[tokio::test]
async fn a_message_that_comes_again_while_in_flight_is_dropped() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1", "2", "1"]), read(["3"])]);
    let report = run(scripted(&mut stage, &script, Until::Resolved(3))).await;
    assert_eq!(script.settled(), [ack(["1", "2"]), ack(["3"])]);
    assert_eq!((report.counts.in_flight_duplicates, report.counts.read, report.counts.outputs), (1, 3, 3));
}

#[tokio::test]
async fn a_message_that_comes_again_after_its_ack_is_acked_and_not_written() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1", "a"]), read(["1", "2", "a"])]);
    let mut settings = scripted(&mut stage, &script, Until::Idle);
    settings.read_timeout = Duration::from_millis(1);
    let report = run(settings).await;
    assert_eq!(script.settled(), [ack(["1", "a"]), ack(["1", "2", "a"])]);
    assert_eq!(lines_of(&stage.path("out")), ["value 1", "value a", "value 2"]);
    assert_eq!((report.counts.redelivered, report.counts.acked, report.counts.read), (2, 5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_nack_goes_out_after_the_ack_and_is_tried_again() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1", "2", "3"]), read(["2"])]).failing(0, 2);
    let mut settings = scripted(&mut stage, &script, Until::Resolved(3));
    let nacked = Mutex::new(false);
    let map = map::from_fn(move |request: MapRequest| {
        let first = request.value() == "value 2" && !std::mem::replace(&mut *nacked.lock().unwrap(), true);
        async move {
            Ok(match first {
                // The other output must not be written: the redelivery writes it.
                true => {
                    vec![Message::new("too early"), Message::to_nack(NackOptions::new().with_reason("not yet"))]
                }
                false => vec![request.into_message()],
            })
        }
    });
    settings.map = Some(stage.serve("map", map::service(map)));
    let report = run(settings).await;
    let nack = Call::Nack(vec![("2".to_owned(), Some("not yet".to_owned()))]);
    assert_eq!(script.settled(), [ack(["1", "3"]), nack.clone(), nack.clone(), nack, ack(["2"])]);
    assert_eq!(lines_of(&stage.path("out")), ["value 1", "value 3", "value 2"]);
    assert_eq!((report.counts.nacked, report.counts.mapped, report.counts.redelivered), (1, 3, 0));
}

#[tokio::test]
async fn it_ends_when_nothing_is_pending() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1"]), read([]), read(["2"])]);
    let mut settings = scripted(&mut stage, &script, Until::Idle);
    settings.read_timeout = Duration::from_millis(1);
    let report = run(settings).await;
    assert_eq!((report.counts.acked, report.counts.pending), (2, Some(0)));
}

#[tokio::test]
async fn it_waits_for_a_source_that_is_not_there_and_can_be_told_to_stop() {
    let stage = Stage::new();
    let (until, told) = watch::channel(Until::Told);
    let mut settings = Settings::new(Input::Server(stage.at("source")), told);
    settings.out = stage.out();
    std::fs::write(stage.path("out"), "of an earlier run\n").unwrap();
    std::fs::write(stage.path("out.dead"), "of an earlier run\n").unwrap();
    let (drive, mut watcher) = Drive::new(settings);
    let stop = async {
        let notice = watcher.notices.recv().await.unwrap().to_string();
        assert!(notice.contains("source.sock"), "{notice}");
        until.send_replace(Until::Now);
    };
    let (report, ()) = tokio::join!(drive.run(), stop);
    assert!(matches!(report.unwrap_err(), DriveError::NotReached));
    assert_eq!(lines_of(&stage.path("out")), ["of an earlier run"]);
    assert_eq!(lines_of(&stage.path("out.dead")), ["of an earlier run"]);
}
