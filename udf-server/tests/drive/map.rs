//! What the driver does to a map.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use numaflow_sdk::{HandlerError, MapMode, MapRequest, Message, map};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use udf_server::drive::{Drive, Until};

use crate::stage::{Stage, lines_of, run, settings};

#[tokio::test]
async fn every_message_has_one_outcome_in_every_mode() {
    for mode in [MapMode::Unary, MapMode::Batch, MapMode::Stream] {
        every_message_has_one_outcome(mode).await;
    }
}

async fn every_message_has_one_outcome(mode: MapMode) {
    let mut stage = Stage::new();
    let map = map::from_fn(async |request: MapRequest| {
        let value = request.value().clone();
        Ok(match &value[..] {
            b"none" => vec![],
            b"drop" => vec![Message::to_drop()],
            b"dead" => vec![Message::new(value).with_tags(["dead-letter"])],
            b"two" => vec![Message::new("2"), Message::new("2"), Message::new("?").with_tags(["x", "dead-letter"])],
            _ => vec![Message::new(request.id().to_owned())],
        })
    });
    let mut settings = settings(stage.lines(["none", "drop", "dead", "two", "one", ""]), Until::Told);
    settings.map = Some(stage.serve("map", map::service(map).mode(mode)));
    settings.out = stage.out();
    let counts = run(settings).await.counts;
    assert_eq!((counts.read, counts.mapped, counts.dropped, counts.dead_letters), (6, 3, 2, 1), "{mode}");
    // The ids: vertex, offset in base64, partition, index.
    assert_eq!(lines_of(&stage.path("out")), ["2", "2", "drive-NQ==-0-0", "drive-Ng==-0-0"]);
    assert_eq!(lines_of(&stage.path("out.dead")), ["dead", "?"]);
    assert_eq!((counts.outputs, counts.acked), (4, 6));
}

#[tokio::test(start_paused = true)]
async fn what_was_in_flight_is_sent_again_with_the_same_ids() {
    let mut stage = Stage::new();
    let seen: Arc<Mutex<HashMap<String, Vec<String>>>> = Arc::default();
    let log = seen.clone();
    let map = map::from_fn(move |request: MapRequest| {
        let mut log = log.lock().unwrap();
        let ids = log.entry(String::from_utf8(request.value().to_vec()).unwrap()).or_default();
        ids.push(request.id().to_owned());
        let times = ids.len();
        async move {
            match &request.value()[..] {
                // Not answered the first time, so in flight when the other one breaks the stream.
                b"slow" if times == 1 => std::future::pending().await,
                b"poison" if times <= 3 => Err(HandlerError::new("as the script says")),
                _ => Ok(request.into_message()),
            }
        }
    });
    let mut settings = settings(stage.lines(["a", "slow", "b", "poison"]), Until::Told);
    settings.map = Some(stage.serve("map", map::service(map)));
    settings.out = stage.out();
    let begun = Instant::now();
    let report = run(settings).await;
    // The server goes on for a second before it ends the stream; the driver pauses before it sends for the third time.
    assert!(begun.elapsed() >= Duration::from_secs(3 + 2), "{:?}", begun.elapsed());
    let seen = seen.lock().unwrap();
    for (value, times) in [("a", 1), ("b", 1), ("slow", 2), ("poison", 4)] {
        assert_eq!(seen[value].len(), times, "{seen:?}");
        assert!(seen[value].iter().all(|id| *id == seen[value][0]), "{seen:?}");
    }
    assert_eq!(lines_of(&stage.path("out")), ["a", "slow", "b", "poison"]);
    let counts = report.counts;
    assert_eq!((counts.map_reconnects, counts.redriven, counts.acked), (3, 4, 4));
}

#[tokio::test]
async fn no_more_than_the_concurrency_is_in_flight() {
    let mut stage = Stage::new();
    let (started, mut starts) = mpsc::channel(16);
    let (go, gate) = watch::channel(false);
    let map = map::from_fn(move |request: MapRequest| {
        let (started, mut gate) = (started.clone(), gate.clone());
        async move {
            started.send(()).await?;
            gate.wait_for(|open| *open).await?;
            Ok(request.into_message())
        }
    });
    let mut settings = settings(stage.lines(["1", "2", "3", "4", "5"]), Until::Told);
    settings.map = Some(stage.serve("map", map::service(map)));
    settings.concurrency = 2;
    let check = async {
        starts.recv().await.unwrap();
        starts.recv().await.unwrap();
        // Whatever else the driver has to do, it does before it lets the test go on.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(starts.try_recv().is_err(), "a third message in flight");
        go.send_replace(true);
        while starts.recv().await.is_some() {}
    };
    tokio::select! {
        report = run(settings) => assert_eq!(report.counts.mapped, 5),
        () = check => panic!("the handler is gone"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_never_ends_is_given_up_after_the_grace_period() {
    let mut stage = Stage::new();
    let (started, mut starts) = mpsc::channel(1);
    let map = map::from_fn(move |_: MapRequest| {
        let started = started.clone();
        async move {
            started.send(()).await?;
            std::future::pending::<Result<Message, HandlerError>>().await
        }
    });
    let (until, told) = watch::channel(Until::Told);
    let mut settings = settings(stage.lines(["1"]), Until::Told);
    settings.until = told;
    settings.map = Some(stage.serve("map", map::service(map)));
    let stop = async {
        starts.recv().await.unwrap();
        until.send_replace(Until::Now);
    };
    let begun = Instant::now();
    let grace = settings.grace;
    let (report, ()) = tokio::join!(Drive::new(settings).0.run(), stop);
    let report = report.unwrap();
    assert_eq!((report.unresolved, report.counts.read, report.counts.acked), (1, 1, 0));
    assert!(begun.elapsed() >= grace);
}
