//! Errors and panics of handlers: one status, the others answered, the server alive.

use std::time::Duration;

use numaflow_sdk::source::{Batch, NackOffset, Offset, ReadRequest, Sourcer, service};
use numaflow_sdk::testing::{self, MapStream, SourceClient};
use numaflow_sdk::{HandlerError, MapRequest, Message, NackOptions, Server, map};

use crate::step::LONG;
use crate::support::{status, within};

async fn poisonable() -> MapStream {
    let mapper = map::from_fn(async |request: MapRequest| match &request.value()[..] {
        b"panic" => panic!("the poison was taken"),
        b"late panic" => {
            tokio::task::yield_now().await;
            panic!("{}", "ü".repeat(1 << 20));
        }
        b"error" => Err(HandlerError::new("the lookup failed")),
        _ => Ok(request.into_message()),
    });
    let server = Server::new(map::service(mapper)).container_type("my-udf");
    testing::MapClient::over(testing::serve(server)).await.unwrap().open().await.unwrap()
}

#[tokio::test]
async fn a_panic_is_told_with_its_place_and_its_backtrace() {
    let error = poisonable().await.map(MapRequest::new("panic")).await.unwrap_err();
    let (name, message) = status(&error);
    assert_eq!(name, "INTERNAL");
    assert!(message.starts_with("UDF_EXECUTION_ERROR(my-udf): the poison was taken at "), "{message}");
    assert!(message.contains("failures.rs:"), "{message}");
    assert!(error.status().unwrap().details.as_ref().unwrap().contains("poisonable"), "{error:?}");
}

#[tokio::test]
async fn a_panic_with_a_megabyte_of_text_still_arrives() {
    let error = poisonable().await.map(MapRequest::new("late panic")).await.unwrap_err();
    assert!(status(&error).1.starts_with("UDF_EXECUTION_ERROR(my-udf): üüü"));
}

#[tokio::test]
async fn an_error_is_told() {
    let error = poisonable().await.map(MapRequest::new("error")).await.unwrap_err();
    assert_eq!(status(&error), ("INTERNAL", "UDF_EXECUTION_ERROR(my-udf): the lookup failed"));
}

/// A redrive that sends the poison first must still let the others through, or they never get through.
#[tokio::test]
async fn those_behind_the_poison_are_answered() {
    for poison in ["panic", "late panic", "error"] {
        let mut stream = poisonable().await;
        stream.send("poison", MapRequest::new(poison)).await.unwrap();
        for id in 0..499 {
            stream.send(id.to_string(), MapRequest::new("fine")).await.unwrap();
        }
        let mut answered = 0;
        let error = loop {
            match stream.recv().await {
                Ok(answer) => {
                    assert_ne!(answer.unwrap().id, "poison");
                    answered += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(answered, 499, "after {poison}");
        assert_eq!(status(&error).0, "INTERNAL");
    }
}

/// The second panic is told as the second, and the server lives through both.
#[tokio::test]
async fn every_panic_is_told_as_itself() {
    let mapper = map::from_fn(async |request: MapRequest| -> Result<Message, HandlerError> {
        panic!("{}", String::from_utf8_lossy(request.value()))
    });
    let client = testing::map(mapper).await.unwrap();
    for text in ["one", "two"] {
        let error = client.open().await.unwrap().map(MapRequest::new(text)).await.unwrap_err();
        assert!(status(&error).1.starts_with(&format!("UDF_EXECUTION_ERROR(udf): {text} at ")), "{error}");
    }
}

struct Failing;

impl Sourcer for Failing {
    async fn read(&self, _: ReadRequest, _: &mut Batch) -> Result<(), HandlerError> {
        panic!("nothing to read");
    }
    async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
        Err("the acks are lost".into())
    }
    async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
        panic!("no nacks");
    }
    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        Err("no idea".into())
    }
}

#[tokio::test]
async fn a_source_fails_with_the_same_status_in_every_call() {
    let client = SourceClient::over(testing::serve(Server::new(service(Failing)))).await.unwrap();
    let mut reads = client.read_stream().await.unwrap();
    let mut acks = client.ack_stream().await.unwrap();
    let offset = Offset::new("1", 0);
    let read = reads.read(ReadRequest::new(1, Duration::from_secs(1))).await.unwrap_err();
    let ack = acks.ack(vec![offset.clone()]).await.unwrap_err();
    let nack = client.nack(vec![NackOffset::new(offset, NackOptions::new())]).await.unwrap_err();
    let pending = client.pending().await.unwrap_err();
    for (error, text) in
        [(read, "nothing to read at "), (ack, "the acks are lost"), (nack, "no nacks at "), (pending, "no idea")]
    {
        let (name, message) = status(&error);
        assert_eq!(name, "INTERNAL");
        assert!(message.starts_with(&format!("UDF_EXECUTION_ERROR(udsource): {text}")), "{message}");
    }
    assert!(within(LONG, client.is_ready()).await.unwrap());
}
