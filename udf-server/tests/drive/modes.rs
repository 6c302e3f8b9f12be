//! What the driver does to maps in batch and in stream mode.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use numaflow_sdk::map::{self, BatchAnswers, MapService, Outputs};
use numaflow_sdk::{HandlerError, MapMode, MapRequest, Message};
use tokio::time::Instant;
use udf_server::drive::Until;

use crate::stage::{Stage, lines_of, outcome, run, settings};

const FAIL: &str = "U+005C__FAIL__";

/// A batch map that keeps the ids of its batches and answers as `answer` does.
fn batches<F>(answer: F) -> (MapService, Arc<Mutex<Vec<Vec<String>>>>)
where
    F: Fn(usize, Vec<MapRequest>) -> Result<BatchAnswers, HandlerError> + Clone + Send + Sync + 'static,
{
    let seen: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let log = seen.clone();
    let mapper = map::batch_from_fn(move |requests: Vec<MapRequest>| {
        let mut log = log.lock().unwrap();
        log.push(requests.iter().map(|request| String::from_utf8(request.value().to_vec()).unwrap()).collect());
        let (number, answer) = (log.len(), answer.clone());
        async move { answer(number, requests) }
    });
    (map::batch_service(mapper), seen)
}

fn echo(requests: Vec<MapRequest>) -> BatchAnswers {
    requests.into_iter().map(|request| (request.id().to_owned(), request.into_message())).collect()
}

#[tokio::test]
async fn a_read_is_a_batch() {
    let mut stage = Stage::new();
    let (map, seen) = batches(|_, requests| Ok(echo(requests)));
    let mut settings = settings(stage.lines(["1", "2", "3", "4", "5"]), Until::Told);
    settings.map = Some(stage.serve("map", map));
    settings.out = stage.out();
    settings.batch_size = 3;
    // Which is for other modes.
    settings.concurrency = 1;
    let counts = run(settings).await.counts;
    assert_eq!(*seen.lock().unwrap(), [vec!["1", "2", "3"], vec!["4", "5"]]);
    assert_eq!(lines_of(&stage.path("out")), ["1", "2", "3", "4", "5"]);
    assert_eq!((counts.mapped, counts.acked, counts.redriven), (5, 5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_failed_is_sent_again_as_a_whole() {
    let mut stage = Stage::new();
    let (map, seen) = batches(|number, requests| match number {
        1..=3 => Err(HandlerError::new("as the script says")),
        _ => Ok(echo(requests)),
    });
    let mut settings = settings(stage.lines(["1", "2", "3"]), Until::Told);
    settings.map = Some(stage.serve("map", map));
    settings.out = stage.out();
    let begun = Instant::now();
    let counts = run(settings).await.counts;
    // At once the first time, after a pause then.
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(*seen.lock().unwrap(), [["1", "2", "3"]; 4]);
    assert_eq!(lines_of(&stage.path("out")), ["1", "2", "3"]);
    assert_eq!((counts.map_reconnects, counts.redriven, counts.acked), (3, 9, 3));
}

#[tokio::test(start_paused = true)]
async fn answers_of_a_batch_that_broke_do_not_count() {
    let mut stage = Stage::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    // Served in batches, but answered one by one: the others are answered before the stream breaks.
    let map = map::from_fn(move |request: MapRequest| {
        let call = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match &request.value()[..] {
                b"poison" if call < 3 => Err(HandlerError::new("as the script says")),
                _ => Ok(Message::new(format!("{} by call {call}", String::from_utf8_lossy(request.value())))),
            }
        }
    });
    let mut settings = settings(stage.lines(["a", "b", "poison"]), Until::Told);
    settings.map = Some(stage.serve("map", map::service(map).mode(MapMode::Batch)));
    settings.out = stage.out();
    let counts = run(settings).await.counts;
    assert_eq!(lines_of(&stage.path("out")), ["a by call 3", "b by call 4", "poison by call 5"]);
    assert_eq!((counts.map_reconnects, counts.redriven), (1, 3));
}

#[tokio::test]
async fn what_asks_for_it_is_sent_again_as_a_smaller_batch() {
    let mut stage = Stage::new();
    let (map, seen) = batches(|number, requests| {
        let mut answers = BatchAnswers::new();
        for request in requests {
            let id = request.id().to_owned();
            match &request.value()[..] {
                b"2" | b"4" if number == 1 => answers.push(id, Message::new("").with_tags([FAIL])),
                _ => answers.push(id, request.into_message()),
            }
        }
        Ok(answers)
    });
    let mut settings = settings(stage.lines(["1", "2", "3", "4"]), Until::Told);
    settings.map = Some(stage.serve("map", map));
    settings.out = stage.out();
    let counts = run(settings).await.counts;
    assert_eq!(*seen.lock().unwrap(), [vec!["1", "2", "3", "4"], vec!["2", "4"]]);
    assert_eq!(lines_of(&stage.path("out")), ["1", "2", "3", "4"]);
    assert_eq!((counts.retried, counts.map_reconnects, counts.acked), (2, 0, 4));
}

#[tokio::test]
async fn outputs_are_taken_up_to_their_end() {
    let mut stage = Stage::new();
    let failed = Arc::new(AtomicU32::new(0));
    let map = map::stream_from_fn(move |request: MapRequest, mut outputs: Outputs| {
        let failed = failed.clone();
        async move {
            let times: u32 = String::from_utf8_lossy(request.value()).parse()?;
            for index in 0..times {
                outputs.send(Message::new(format!("{times}.{index}"))).await?;
            }
            if times == 2 && failed.fetch_add(1, Ordering::SeqCst) == 0 {
                outputs.send(Message::new("").with_tags([FAIL])).await?;
            }
            Ok(())
        }
    });
    let mut settings = settings(stage.lines(["3", "0", "2", "1"]), Until::Told);
    settings.map = Some(stage.serve("map", map::stream_service(map)));
    settings.out = stage.out();
    settings.concurrency = 2;
    let counts = run(settings).await.counts;
    assert_eq!(lines_of(&stage.path("out")), ["3.0", "3.1", "3.2", "2.0", "2.1", "1.0"]);
    assert_eq!((counts.mapped, counts.dropped, counts.outputs), (3, 1, 6));
    assert_eq!((counts.retried, counts.acked), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn in_stream_mode_there_is_a_pause_before_anything_is_sent_again() {
    let mut stage = Stage::new();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = calls.clone();
    let map = map::stream_from_fn(move |request: MapRequest, mut outputs: Outputs| {
        let log = log.clone();
        async move {
            outputs.send(request.into_message()).await?;
            let mut calls = log.lock().unwrap();
            calls.push(Instant::now());
            if calls.len() == 1 { Err(HandlerError::new("after an output")) } else { Ok(()) }
        }
    });
    let mut settings = settings(stage.lines(["once"]), Until::Told);
    settings.map = Some(stage.serve("map", map::stream_service(map)));
    settings.out = stage.out();
    let pause = settings.pauses.redrive;
    let counts = run(settings).await.counts;
    let calls = calls.lock().unwrap();
    // The server goes on for a second before it ends the stream.
    assert!(calls[1] - calls[0] >= Duration::from_secs(1) + pause, "{calls:?}");
    // What left before the failure came again, and is written once.
    assert_eq!(lines_of(&stage.path("out")), ["once"]);
    assert_eq!((counts.map_reconnects, counts.redriven), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_map_that_comes_back_in_another_mode_ends_the_run() {
    let mut stage = Stage::new();
    let info = stage.path("map-info");
    let replaced = info.clone();
    let map = map::from_fn(move |_: MapRequest| {
        let content = r#"{"language":"go","metadata":{"MAP_MODE":"batch-map"}}U+005C__END__"#;
        std::fs::write(&replaced, content).unwrap();
        async { Err::<Message, _>(HandlerError::new("as the script says")) }
    });
    let mut settings = settings(stage.lines(["1"]), Until::Told);
    settings.map = Some(stage.serve("map", map::service(map)));
    let error = outcome(settings).await.unwrap_err().to_string();
    assert!(error.contains("was served as unary-map, and is now as batch-map"), "{error}");
}
