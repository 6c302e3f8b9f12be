//! Layers of tower's around a map do what they do elsewhere.

use std::convert::Infallible;
use std::time::Duration;

use numaflow_sdk::map::{self, FailurePolicy};
use numaflow_sdk::{HandlerError, MapRequest, Message, NackOptions, Server};
use tower::{BoxError, Service, ServiceBuilder, service_fn};

use crate::step::{Director, LONG, serve, steps};
use crate::support::{status, within};

/// A service whose calls report their start and wait for their go.
fn stepping() -> (
    impl Service<MapRequest, Response = Message, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static,
    Director,
) {
    let (steps, director) = steps();
    let service = service_fn(move |request: MapRequest| {
        let steps = steps.clone();
        async move {
            steps.step(&request).await.map_err(|_| BoxError::from("the test is over"))?;
            Ok::<_, BoxError>(request.into_message())
        }
    });
    (service, director)
}

#[tokio::test]
async fn a_timeout_is_a_failure_and_goes_by_the_policy() {
    for policy in [FailurePolicy::Fail, FailurePolicy::Drop] {
        let (service, _director) = stepping();
        let service = ServiceBuilder::new().timeout(Duration::from_millis(10)).service(service);
        let client = serve(Server::new(map::tower_service(service).on_failure(policy.clone()))).await;
        let mut stream = client.open().await.unwrap();
        stream.send("1", MapRequest::new("x")).await.unwrap();
        stream.close();
        let answer = within(LONG, stream.recv()).await;
        if policy == FailurePolicy::Fail {
            let error = answer.unwrap_err();
            assert_eq!(status(&error), ("INTERNAL", "UDF_EXECUTION_ERROR(udf): request timed out"));
        } else {
            assert!(answer.unwrap().unwrap().messages[0].is_drop());
        }
    }
}

/// Fails as its message asks for.
async fn failing(request: MapRequest) -> Result<Message, HandlerError> {
    let error = HandlerError::new("no use");
    Err(match &request.value()[..] {
        b"drop" => error.drop(),
        b"nack" => error.nack(NackOptions::new()),
        _ => error.dead_letter("bad", request),
    })
}

/// What an error says of its message goes through layers that box errors, and through those that don't.
#[tokio::test]
async fn an_error_decides_its_message_through_layers() {
    let boxing = ServiceBuilder::new()
        .timeout(LONG)
        .concurrency_limit(1)
        .service_fn(async |request: MapRequest| failing(request).await.map_err(HandlerError::boxed));
    let plain = ServiceBuilder::new().concurrency_limit(1).service(service_fn(failing));
    for service in [map::tower_service(boxing), map::tower_service(plain)] {
        let client = serve(Server::new(service)).await;
        let mut stream = client.open().await.unwrap();
        let mut answer =
            async |text: &str| within(LONG, stream.map(MapRequest::new(text.to_owned()))).await.unwrap().remove(0);
        assert!(answer("drop").await.is_drop());
        assert_eq!(answer("nack").await.tags(), Message::to_nack(NackOptions::new()).tags());
        let dead = answer("other").await;
        assert_eq!((dead.tags(), &dead.value()[..]), (&["bad".to_owned()][..], &b"other"[..]));
    }
}

/// One at a time on all streams together, and no more is read meanwhile than one message a stream; an idle stream keeps
/// nothing from the others.
#[tokio::test]
async fn a_concurrency_limit_is_one_for_all_streams() {
    let (service, mut director) = stepping();
    let service = ServiceBuilder::new().concurrency_limit(1).service(service);
    let client = serve(Server::new(map::tower_service(service))).await;
    let mut idle = client.open().await.unwrap();
    let mut streams = [client.open().await.unwrap(), client.open().await.unwrap()];
    for stream in &mut streams {
        for id in ["1", "2", "3"] {
            stream.send(id, MapRequest::new("x")).await.unwrap();
        }
    }
    for _ in 0..6 {
        director.started().await;
        assert!(within(LONG, client.is_ready()).await.unwrap());
        assert!(!director.has_started());
        director.go(1);
    }
    for mut stream in streams {
        for id in ["1", "2", "3"] {
            assert_eq!(within(LONG, stream.recv()).await.unwrap().unwrap().id, id);
        }
    }
    director.go(1);
    assert_eq!(within(LONG, idle.map(MapRequest::new("x"))).await.unwrap().len(), 1);
}

/// What a stream has read and not started is one message: the rest of it waits with the peer.
#[tokio::test]
async fn a_service_that_is_not_ready_is_back_pressure() {
    let (service, mut director) = stepping();
    let service = ServiceBuilder::new().concurrency_limit(1).service(service);
    let (_directory, address, client) = crate::admin::serve(Server::new(map::tower_service(service))).await;
    let mut stream = client.open().await.unwrap();
    for id in 0..50 {
        stream.send(id.to_string(), MapRequest::new("x")).await.unwrap();
    }
    director.started().await;
    assert!(within(LONG, client.is_ready()).await.unwrap());
    let listed = crate::admin::in_flight(address, "").await;
    assert!(listed["count"].as_u64().unwrap() <= 2, "{listed}");
    director.go(50);
    for _ in 0..50 {
        within(LONG, stream.recv()).await.unwrap().unwrap();
    }
}

/// A limit of a layer that is reached shows as what a message waits for, and no longer once there is room.
#[tokio::test]
async fn a_message_that_waits_for_its_service_is_listed_so() {
    for attempts in [1, 2] {
        let (service, mut director) = stepping();
        let service = map::tower_service(ServiceBuilder::new().concurrency_limit(1).service(service));
        let service = service.retry(map::Retry::attempts(attempts));
        let (_directory, address, client) = crate::admin::serve(Server::new(service)).await;
        let mut stream = client.open().await.unwrap();
        for id in ["first", "second"] {
            stream.send(id, MapRequest::new("x")).await.unwrap();
        }
        director.started().await;
        let listed_as = async |stage: &str, id: &str| {
            let is_listed = |listed: &serde_json::Value| {
                let mut messages = listed["messages"].as_array().unwrap().iter();
                messages.any(|message| message["id"] == id && message["stage"] == stage)
            };
            while !is_listed(&crate::admin::in_flight(address, "").await) {
                tokio::task::yield_now().await;
            }
        };
        within(LONG, listed_as("not_ready", "second")).await;
        director.go(1);
        director.started().await;
        within(LONG, listed_as("handler", "second")).await;
        director.go(1);
        for id in ["first", "second"] {
            assert_eq!(within(LONG, stream.recv()).await.unwrap().unwrap().id, id);
        }
    }
}

/// A rate limit is one for all streams behind a buffer, which is how tower shares it.
#[tokio::test]
async fn a_rate_limit_behind_a_buffer() {
    let (service, mut director) = stepping();
    director.go(100);
    let hour = Duration::from_secs(3600);
    let service = ServiceBuilder::new().buffer(4).rate_limit(5, hour).service(service);
    let client = serve(Server::new(map::tower_service(service))).await;
    let mut streams = [client.open().await.unwrap(), client.open().await.unwrap()];
    for stream in &mut streams {
        for id in 0..10 {
            stream.send(id.to_string(), MapRequest::new("x")).await.unwrap();
        }
    }
    for _ in 0..5 {
        director.started().await;
    }
    assert!(within(LONG, client.is_ready()).await.unwrap());
    assert!(!director.has_started());
}

#[tokio::test]
async fn a_buffer_serves_all_streams_and_tells_of_its_end() {
    let upper = service_fn(async |request: MapRequest| {
        assert!(request.value() != "panic", "as asked");
        Ok::<_, Infallible>(Message::new(request.value().to_ascii_uppercase()))
    });
    let client = serve(Server::new(map::tower_service(ServiceBuilder::new().buffer(1).service(upper)))).await;
    let (one, other) = (client.open().await.unwrap(), client.open().await.unwrap());
    for mut stream in [one, other] {
        for _ in 0..200 {
            stream.send("1", MapRequest::new("x")).await.unwrap();
        }
        for _ in 0..200 {
            assert_eq!(within(LONG, stream.recv()).await.unwrap().unwrap().messages, [Message::new("X")]);
        }
    }
}
