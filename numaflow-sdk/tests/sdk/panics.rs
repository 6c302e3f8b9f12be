//! Code of the user's that panics where it is not a handler's call: that ends one stream at most, and neither the others nor
//! their connection.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use numaflow_sdk::map::{self, FailurePolicy};
use numaflow_sdk::source::{Batch, NackOffset, Offset, ReadRequest, Sourcer};
use numaflow_sdk::testing::{self, ClientError, MapClient, SourceClient};
use numaflow_sdk::{HandlerError, MapRequest, Message, Server};
use tower::Service;

use crate::step::{LONG, serve};
use crate::support::{status, within};

/// An error that cannot be told.
#[derive(Default)]
struct Unspeakable {
    drop_panics: bool,
}

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words for it");
    }
}

impl fmt::Debug for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no name for it");
    }
}

impl std::error::Error for Unspeakable {}

impl Drop for Unspeakable {
    fn drop(&mut self) {
        assert!(!self.drop_panics, "not to be dropped");
    }
}

async fn ask(client: &MapClient, value: &'static str) -> Result<Vec<Message>, ClientError> {
    let mut stream = within(LONG, client.open()).await?;
    within(LONG, stream.map(MapRequest::new(value))).await
}

async fn unspeakable(request: MapRequest) -> Result<Message, HandlerError> {
    match &request.value()[..] {
        b"fine" => Ok(request.into_message()),
        value => Err(Unspeakable { drop_panics: value == b"drop panics" }.into()),
    }
}

#[tokio::test]
async fn an_error_whose_text_panics_is_told_without_it() {
    let client = testing::map(map::from_fn(unspeakable)).await.unwrap();
    let mut other = client.open().await.unwrap();
    other.map(MapRequest::new("fine")).await.unwrap();
    let error = ask(&client, "unspeakable").await.unwrap_err();
    let (name, text) = status(&error);
    assert_eq!(name, "INTERNAL");
    let start =
        "UDF_EXECUTION_ERROR(udf): an error whose text cannot be made, because that panics: no words for it at ";
    assert!(text.starts_with(start), "{text}");
    within(LONG, other.map(MapRequest::new("fine"))).await.unwrap();
}

#[tokio::test]
async fn an_error_whose_text_panics_goes_by_the_policy() {
    for policy in [FailurePolicy::Drop, "nack".parse().unwrap(), "dead-letter:bad".parse().unwrap()] {
        let client = serve(Server::new(map::service(map::from_fn(unspeakable)).on_failure(policy))).await;
        assert_eq!(ask(&client, "unspeakable").await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_error_of_a_source_whose_text_panics_is_told_without_it() {
    struct Failing;
    impl Sourcer for Failing {
        async fn read(&self, _: ReadRequest, _: &mut Batch) -> Result<(), HandlerError> {
            Ok(())
        }
        async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
            Ok(())
        }
        async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
            Ok(())
        }
        async fn pending(&self) -> Result<Option<u64>, HandlerError> {
            Err(Unspeakable::default().into())
        }
    }
    let server = Server::new(numaflow_sdk::source::service(Failing));
    let client = SourceClient::over(testing::serve(server)).await.unwrap();
    let error = within(LONG, client.pending()).await.unwrap_err();
    assert_eq!(status(&error).0, "INTERNAL");
    assert!(within(LONG, client.is_ready()).await.unwrap());
}

#[tokio::test]
async fn an_error_that_panics_as_it_goes_ends_its_stream_alone() {
    let service = map::service(map::from_fn(unspeakable)).on_failure(FailurePolicy::Drop);
    let client = serve(Server::new(service)).await;
    let mut other = client.open().await.unwrap();
    other.map(MapRequest::new("fine")).await.unwrap();
    ask(&client, "drop panics").await.unwrap_err();
    within(LONG, other.map(MapRequest::new("fine"))).await.unwrap();
    ask(&client, "fine").await.unwrap();
}

/// A service that panics when it is cloned or dropped, while it is told to.
struct Brittle {
    clone_panics: Arc<AtomicBool>,
    drop_panics: Arc<AtomicBool>,
}

impl Clone for Brittle {
    fn clone(&self) -> Self {
        assert!(!self.clone_panics.load(Ordering::SeqCst), "no second one");
        Self { clone_panics: self.clone_panics.clone(), drop_panics: self.drop_panics.clone() }
    }
}

impl Drop for Brittle {
    fn drop(&mut self) {
        assert!(!self.drop_panics.swap(false, Ordering::SeqCst), "not this one");
    }
}

impl Service<MapRequest> for Brittle {
    type Response = Message;
    type Error = Infallible;
    type Future = Ready<Result<Message, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: MapRequest) -> Self::Future {
        ready(Ok(request.into_message()))
    }
}

#[tokio::test]
async fn a_service_that_panics_at_a_stream_s_begin_or_end_leaves_the_others_alone() {
    let (clone_panics, drop_panics) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let service = Brittle { clone_panics: clone_panics.clone(), drop_panics: drop_panics.clone() };
    let client = serve(Server::new(map::tower_service(service))).await;
    let mut other = client.open().await.unwrap();
    other.map(MapRequest::new("fine")).await.unwrap();

    clone_panics.store(true, Ordering::SeqCst);
    let error = ask(&client, "fine").await.unwrap_err();
    clone_panics.store(false, Ordering::SeqCst);
    let (name, text) = status(&error);
    assert_eq!(name, "INTERNAL");
    assert!(text.starts_with("UDF_EXECUTION_ERROR(udf): no second one at "), "{text}");
    within(LONG, other.map(MapRequest::new("fine"))).await.unwrap();

    let mut brief = client.open().await.unwrap();
    brief.map(MapRequest::new("fine")).await.unwrap();
    drop_panics.store(true, Ordering::SeqCst);
    brief.close();
    // However it ends: its answers were all received.
    drop(within(LONG, brief.recv()).await);
    assert!(!drop_panics.load(Ordering::SeqCst));
    within(LONG, other.map(MapRequest::new("fine"))).await.unwrap();
}
