//! The two generations of the platform, and acks message by message.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use numaflow_sdk::{HandlerError, MapMode, MapRequest, Message, map, source};
use tokio::sync::watch;
use udf_server::drive::{Ended, Input, Platform, Settings, Until};

use crate::script::{Call, Read, Script, ack, read};
use crate::stage::{Stage, lines_of, run, settings};

/// Longer than a run takes.
const LIMIT: Duration = Duration::from_secs(60);

fn scripted(stage: &mut Stage, script: &Script, until: Until) -> Settings {
    let at = stage.serve("source", source::service(script.clone()));
    let mut settings = settings(Input::Server(at), until);
    settings.out = stage.out();
    settings
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[tokio::test(start_paused = true)]
async fn platform_1_8_nacks_what_is_not_acked_and_exits() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1"]), read(["2", "bad", "3"]), read(["4"])]);
    let mut settings = scripted(&mut stage, &script, Until::Resolved(5));
    settings.platform = Platform::V1_8;
    let map = map::from_fn(async |request: MapRequest| match &request.value()[..] {
        b"value bad" => Err(HandlerError::new("as the script says")),
        _ => Ok(request.into_message()),
    });
    settings.map = Some(stage.serve("map", map::service(map)));
    let report = run(settings).await;
    let Ended::Exited(reason) = &report.ended else { panic!("{report}") };
    assert!(reason.contains("the map's stream failed") && reason.contains("as the script says"), "{reason}");
    let nack = |offset: &str| (offset.to_owned(), None);
    assert_eq!(script.settled(), [ack(["1"]), Call::Nack(["2", "bad", "3"].map(nack).to_vec())]);
    let counts = report.counts;
    assert_eq!((counts.map_reconnects, counts.acked, report.unresolved), (0, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn platform_1_8_exits_when_a_stream_of_the_source_breaks() {
    for (script, what) in [
        (Script::new([Read { offsets: vec!["1"], fails: true }]), "the source's read stream failed"),
        (Script::new([read(["1"])]).failing(1, 0), "the source's ack stream failed"),
    ] {
        let mut stage = Stage::new();
        let mut settings = scripted(&mut stage, &script, Until::Resolved(1));
        settings.platform = Platform::V1_8;
        let report = run(settings).await;
        assert!(matches!(&report.ended, Ended::Exited(reason) if reason.contains(what)), "{report}");
        assert_eq!(report.counts.acked, 0);
    }
}

#[tokio::test]
async fn platform_1_8_passes_the_fail_tag_on() {
    let mut stage = Stage::new();
    let map = map::from_fn(async |_: MapRequest| Ok(Message::to_fail()));
    let mut settings = settings(stage.lines(["1", "2"]), Until::Told);
    settings.platform = Platform::V1_8;
    settings.map = Some(stage.serve("map", map::service(map)));
    settings.out = stage.out();
    let counts = run(settings).await.counts;
    assert_eq!((counts.mapped, counts.retried, counts.outputs), (2, 0, 2));
    assert_eq!(lines_of(&stage.path("out")), ["", ""]);
}

/// The first message is answered only when the second is acked: for that, it must be acked by itself.
#[tokio::test]
async fn streaming_acks_come_one_by_one_in_the_order_of_answers() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1", "2"]), read(["3"])]);
    let acked = script.clone();
    let mut settings = scripted(&mut stage, &script, Until::Resolved(3));
    settings.streaming_acks = true;
    settings.read_timeout = Duration::from_millis(1);
    let map = map::from_fn(move |request: MapRequest| {
        let acked = acked.clone();
        async move {
            while request.value() == "value 1" && !acked.settled().contains(&ack(["3"])) {
                tokio::task::yield_now().await;
            }
            Ok(request.into_message())
        }
    });
    settings.map = Some(stage.serve("map", map::service(map)));
    let report = run(settings).await;
    assert_eq!(script.settled(), [ack(["2"]), ack(["3"]), ack(["1"])]);
    assert!(!script.overlapped());
    assert_eq!(lines_of(&stage.path("out")), ["value 2", "value 3", "value 1"]);
    assert_eq!((report.counts.acked, report.unresolved), (3, 0));
}

#[tokio::test]
async fn streaming_keeps_no_more_in_flight_than_the_concurrency_and_ends_with_its_input() {
    for mode in [MapMode::Unary, MapMode::Batch, MapMode::Stream] {
        let mut stage = Stage::new();
        let at_work: Arc<Mutex<(usize, usize)>> = Arc::default();
        let counted = at_work.clone();
        let map = map::from_fn(move |request: MapRequest| {
            let counted = counted.clone();
            async move {
                {
                    let (now, most) = &mut *counted.lock().unwrap();
                    *now += 1;
                    *most = (*most).max(*now);
                }
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                counted.lock().unwrap().0 -= 1;
                Ok(request.into_message())
            }
        });
        let lines: Vec<String> = (10..60).map(|number| number.to_string()).collect();
        let mut settings = settings(stage.lines(lines.iter().map(String::as_str)), Until::Told);
        settings.map = Some(stage.serve("map", map::service(map).mode(mode)));
        settings.out = stage.out();
        settings.streaming_acks = true;
        settings.concurrency = 3;
        settings.faults.nack_every = std::num::NonZeroU64::new(50);
        let report = run(settings).await;
        // The last message is nacked when the input has come to its end, and comes again.
        assert_eq!(sorted(lines_of(&stage.path("out"))), lines, "{mode}");
        assert_eq!((report.counts.read, report.counts.nacked, report.counts.acked), (51, 1, 50), "{mode}");
        assert_eq!(at_work.lock().unwrap().1, 3, "{mode}");
    }
}

#[tokio::test]
async fn streaming_ends_when_nothing_is_pending_or_when_told() {
    let mut stage = Stage::new();
    let script = Script::new([read(["1"]), read([]), read(["2"])]);
    let mut idle = scripted(&mut stage, &script, Until::Idle);
    idle.streaming_acks = true;
    idle.read_timeout = Duration::from_millis(1);
    let report = run(idle).await;
    assert_eq!((report.counts.acked, report.counts.pending, report.ended), (2, Some(0), Ended::Done));

    let mut stage = Stage::new();
    let (until, told) = watch::channel(Until::Told);
    let script = Script::new([read(["1"])]);
    let mut settings = scripted(&mut stage, &script, Until::Told);
    settings.until = told;
    settings.grace = 2 * LIMIT;
    settings.streaming_acks = true;
    settings.read_timeout = Duration::from_millis(1);
    let (drive, mut watcher) = udf_server::drive::Drive::new(settings);
    let stop = async {
        watcher.counts.wait_for(|counts| counts.acked == 1).await.unwrap();
        until.send_replace(Until::Now);
    };
    let both = async { tokio::join!(drive.run(), stop).0 };
    let report = tokio::time::timeout(LIMIT, both).await.unwrap().unwrap();
    assert_eq!(report.ended, Ended::Stopped);
}
