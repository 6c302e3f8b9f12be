//! Unary maps: what goes in comes out, once, under the id it came with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use numaflow_sdk::map::{self, FailurePolicy, Mapper};
use numaflow_sdk::{HandlerError, MapRequest, Message, Messages, NackOptions, UserMetadata, testing};
use tokio::sync::{Semaphore, mpsc};

use crate::step::LONG;
use crate::support::within;

#[tokio::test]
async fn everything_a_request_holds_reaches_the_handler() {
    let (seen, mut requests) = mpsc::channel(1);
    let client = testing::map(map::from_fn(move |request: MapRequest| {
        let seen = seen.clone();
        async move {
            seen.send(request).await?;
            Ok(Messages::none())
        }
    }))
    .await
    .unwrap();
    let mut metadata = UserMetadata::new();
    metadata.insert("group", "key", vec![0, 0xff]);
    let event_time = UNIX_EPOCH - Duration::from_millis(1);
    let request = MapRequest::new("value")
        .with_keys(["a", "b"])
        .with_header("name", "text")
        .with_event_time(event_time)
        .with_watermark(UNIX_EPOCH)
        .with_user_metadata(metadata.clone());
    client.open().await.unwrap().map(request).await.unwrap();
    let seen = requests.recv().await.unwrap();
    assert_eq!(seen.value(), "value");
    assert_eq!(seen.keys(), ["a", "b"]);
    assert_eq!(seen.headers(), &HashMap::from([("name".to_owned(), "text".to_owned())]));
    assert_eq!(seen.event_time(), Some(event_time));
    assert_eq!(seen.watermark(), Some(UNIX_EPOCH));
    assert_eq!(seen.user_metadata(), &metadata);
    assert_eq!(seen.system_metadata().groups().count(), 0);
    assert_eq!(seen.previous_vertex(), "");
}

#[tokio::test]
async fn a_request_may_be_empty() {
    let client = testing::map(map::from_fn(async |request: MapRequest| {
        let absent = request.event_time().is_none() && request.watermark().is_none();
        Ok(Message::new(if absent && request.keys().is_empty() { "empty" } else { "not empty" }))
    }))
    .await
    .unwrap();
    let answer = client.open().await.unwrap().map(MapRequest::new("")).await.unwrap();
    assert_eq!(answer, [Message::new("empty")]);
}

#[tokio::test]
async fn everything_an_answer_holds_reaches_the_platform() {
    let mut metadata = UserMetadata::new();
    metadata.insert("g", "k", "v");
    let answers = vec![
        Message::new("one").with_keys(["k"]).with_tags(["t", "u"]).with_user_metadata(metadata),
        Message::to_drop(),
        Message::to_nack(
            NackOptions::new().with_reason("r").with_max_deliveries(3).with_delay(Duration::from_millis(1500)),
        ),
    ];
    let expected = answers.clone();
    let client = testing::map(map::from_fn(move |_: MapRequest| {
        let answers = answers.clone();
        async move { Ok(answers) }
    }))
    .await
    .unwrap();
    let got = client.open().await.unwrap().map(MapRequest::new("x")).await.unwrap();
    assert_eq!(got, expected);
    assert_eq!(got[1].tags(), ["U+005C__DROP__"]);
    assert_eq!(got[2].tags(), ["U+005C__NACK__"]);
}

#[tokio::test]
async fn ids_are_echoed_byte_for_byte() {
    let client = testing::map(map::from_fn(async |r: MapRequest| Ok(Message::new(r.id().to_owned())))).await.unwrap();
    let mut stream = client.open().await.unwrap();
    let ids = ["mv-MQ==-0-0", "\u{0}\n\u{10ffff}", "e\u{301} ", &"x".repeat(10 << 10)];
    for id in ids {
        stream.send(id, MapRequest::new("")).await.unwrap();
        let answer = stream.recv().await.unwrap().unwrap();
        assert_eq!((&*answer.id, &answer.messages[0].value()[..]), (id, id.as_bytes()));
    }
}

#[tokio::test]
async fn the_same_id_twice_is_answered_twice() {
    let client = testing::map(map::from_fn(async |r: MapRequest| Ok(r.into_message()))).await.unwrap();
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("a")).await.unwrap();
    stream.send("1", MapRequest::new("b")).await.unwrap();
    stream.close();
    let mut values = Vec::new();
    while let Some(answer) = stream.recv().await.unwrap() {
        assert_eq!(answer.id, "1");
        values.push(answer.messages[0].value().clone());
    }
    values.sort();
    assert_eq!(values, ["a", "b"]);
}

/// Waits where the value says so, until the test says go on.
struct Gate {
    started: mpsc::Sender<()>,
    go: Arc<Semaphore>,
}

impl Mapper for Gate {
    async fn map(&self, request: MapRequest) -> Result<Messages, HandlerError> {
        if request.value() == "wait" {
            self.started.send(()).await?;
            self.go.acquire().await?.forget();
        }
        Ok(request.into_message().into())
    }
}

#[tokio::test]
async fn a_message_overtakes_five_hundred_that_wait() {
    let (started, mut starts) = mpsc::channel(500);
    let go = Arc::new(Semaphore::new(0));
    let client = testing::map(Gate { started, go: go.clone() }).await.unwrap();
    let mut stream = client.open().await.unwrap();
    for id in 0..500 {
        stream.send(id.to_string(), MapRequest::new("wait")).await.unwrap();
    }
    for _ in 0..500 {
        starts.recv().await.unwrap();
    }
    assert!(within(LONG, client.is_ready()).await.unwrap());
    stream.send("first", MapRequest::new("go")).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().id, "first");
    go.add_permits(500);
    stream.close();
    let mut answered = 0;
    while stream.recv().await.unwrap().is_some() {
        answered += 1;
    }
    assert_eq!(answered, 500, "a half-close loses no answer");
}

#[tokio::test]
async fn a_peer_that_goes_takes_its_handlers_with_it() {
    struct Gone(mpsc::Sender<()>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.try_send(()).unwrap();
        }
    }
    let (started, mut starts) = mpsc::channel(1);
    let (gone, mut goes) = mpsc::channel(1);
    let client = testing::map(map::from_fn(move |_: MapRequest| {
        let (started, guard) = (started.clone(), Gone(gone.clone()));
        async move {
            started.send(()).await?;
            std::future::pending::<()>().await;
            drop(guard);
            Ok(Messages::none())
        }
    }))
    .await
    .unwrap();
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("")).await.unwrap();
    starts.recv().await.unwrap();
    drop((stream, client));
    within(LONG, goes.recv()).await.unwrap();
}

#[tokio::test]
async fn sixty_mebibytes_there_and_back() {
    let client = testing::map(map::from_fn(async |r: MapRequest| Ok(r.into_message()))).await.unwrap();
    let value = Bytes::from(vec![7; 60 << 20]);
    let answer = client.open().await.unwrap().map(MapRequest::new(value.clone())).await.unwrap();
    assert!(answer[0].value() == &value);
}

#[derive(serde::Deserialize)]
struct Order {
    price: f64,
    amount: f64,
}

#[derive(serde::Serialize)]
struct Total {
    total: f64,
}

async fn typed(on_failure: FailurePolicy, value: &'static str) -> Result<Vec<Message>, testing::ClientError> {
    let mapper = map::typed(on_failure, async |order: Order| {
        Ok((order.amount > 0.0).then_some(Total { total: order.price * order.amount }))
    });
    let request = MapRequest::new(value).with_keys(["k"]).with_event_time(SystemTime::now());
    testing::map(mapper).await?.open().await?.map(request).await
}

#[tokio::test]
async fn a_typed_map_takes_and_gives_json() {
    let answer = typed(FailurePolicy::Fail, r#"{"price": 2.5, "amount": 4}"#).await.unwrap();
    assert_eq!(answer, [Message::new(r#"{"total":10.0}"#).with_keys(["k"])]);
    let answer = typed(FailurePolicy::Fail, r#"{"price": 2.5, "amount": 0}"#).await.unwrap();
    assert!(answer[0].is_drop());
}

#[tokio::test]
async fn a_typed_map_does_as_told_with_what_it_cannot_read() {
    let text = "not json";
    assert!(typed(FailurePolicy::Drop, text).await.unwrap()[0].is_drop());
    let nack = typed(FailurePolicy::Nack(NackOptions::new().with_max_deliveries(2)), text).await.unwrap();
    let options = nack[0].nack_options().unwrap();
    assert_eq!(options.max_deliveries, Some(2));
    assert!(options.reason.as_ref().unwrap().contains("not what the map expects"));
    let dead = typed(FailurePolicy::DeadLetter { tag: "bad".to_owned() }, text).await.unwrap();
    assert_eq!((dead[0].value(), dead[0].tags()), (&Bytes::from(text), &["bad".to_owned()][..]));
    assert_eq!(dead[0].keys(), ["k"]);
    assert!(dead[0].user_metadata().get("numaflow-sdk", "error").is_some());
    let error = typed(FailurePolicy::Fail, text).await.unwrap_err();
    assert_eq!(error.status().unwrap().name, "INTERNAL");
}
