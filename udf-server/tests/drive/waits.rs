//! How long the driver waits for a server, and what it says when it gives up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use numaflow_sdk::map::{self, BatchAnswers};
use numaflow_sdk::{HandlerError, MapRequest, Message, source};
use udf_server::drive::{DriveError, ServerAt, Settings, Until};

use crate::script::Script;
use crate::stage::{Stage, outcome, run, settings};

/// The sentence with which a run gives up.
async fn given_up(settings: Settings) -> String {
    let error = outcome(settings).await.unwrap_err();
    assert!(matches!(error, DriveError::GaveUp { .. }), "{error:?}");
    error.to_string()
}

fn with_map(stage: &Stage, map: ServerAt) -> Settings {
    let mut settings = settings(stage.lines(["1", "2"]), Until::Told);
    settings.map = Some(map);
    settings.wait = Some(Duration::from_millis(300));
    settings.pauses.dial = Duration::from_millis(20);
    settings.pauses.redrive = Duration::from_millis(20);
    settings
}

#[tokio::test]
async fn a_batch_map_without_its_info_file_is_named() {
    let mut stage = Stage::new();
    let echo = map::batch_from_fn(|requests: Vec<MapRequest>| async move {
        let answers = requests.into_iter().map(|request| (request.id().to_owned(), request.into_message()));
        Ok::<BatchAnswers, HandlerError>(answers.collect())
    });
    let map = stage.serve("map", map::batch_service(echo));
    let said = given_up(with_map(&stage, ServerAt { info: None, ..map })).await;
    assert!(said.contains("answers of the map with 2 messages in flight"), "{said}");
    assert!(said.contains("by --map-info") && said.contains("--wait gives it more time"), "{said}");
}

#[tokio::test]
async fn a_source_in_the_place_of_a_map_is_named() {
    let mut stage = Stage::new();
    let source = stage.serve("source", source::service(Script::new([])));
    let said = given_up(with_map(&stage, ServerAt { info: None, ..source })).await;
    assert!(said.contains("asked for map.v1.Map"), "{said}");
    assert!(said.contains("another kind of server is there: give a source by --source"), "{said}");
}

#[tokio::test]
async fn an_info_file_that_never_comes_is_named() {
    let mut stage = Stage::new();
    let map = stage.serve("map", map::service(map::from_fn(async |request: MapRequest| Ok(request.into_message()))));
    let said = given_up(with_map(&stage, ServerAt { info: Some(stage.path("other")), ..map })).await;
    assert!(said.contains("the server-info file ") && said.contains("other"), "{said}");
}

#[tokio::test]
async fn a_map_that_fails_for_ever_is_given_up_and_one_that_comes_round_is_not() {
    let mut stage = Stage::new();
    let failures = Arc::new(AtomicU32::new(u32::MAX));
    let left = failures.clone();
    let map = map::from_fn(move |request: MapRequest| {
        let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        async move {
            if fails { Err(HandlerError::new("as the script says")) } else { Ok::<Message, _>(request.into_message()) }
        }
    });
    let map = stage.serve("map", map::service(map));
    let mut settings = with_map(&stage, map.clone());
    // The server answers what else it has for a second before it ends the stream.
    settings.wait = Some(Duration::from_secs(5));
    let said = given_up(settings).await;
    assert!(said.contains("to work again") && said.contains("as the script says"), "{said}");
    failures.store(3, Ordering::Relaxed);
    let mut settings = with_map(&stage, map);
    settings.wait = Some(Duration::from_secs(60));
    assert_eq!(run(settings).await.counts.mapped, 2);
}
