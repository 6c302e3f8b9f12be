//! The map as the platform meets it.

use flights::{DEAD_LETTER, METADATA_GROUP, mapper};
use numaflow_sdk::{MapRequest, Message, UserMetadata, testing};

use crate::data::{AWKWARD, lines};

/// What the map answers to one request through the whole protocol.
async fn answer(request: MapRequest) -> Message {
    let mut stream = testing::map(mapper()).await.unwrap().open().await.unwrap();
    let [message] = stream.map(request).await.unwrap().try_into().unwrap();
    message
}

#[tokio::test]
async fn a_flight_is_keyed_by_its_route() {
    let message = answer(MapRequest::new("2001/01/01 08:00,30,400,SFO,LAX").with_keys(["SFO"])).await;
    assert_eq!(message.keys(), ["SFO-LAX"]);
    assert!(message.value().ends_with(br#""destination_city":"Los Angeles","destination_state":"CA"}"#));
    assert!(message.tags().is_empty());
    assert!(message.user_metadata().is_empty());
}

#[tokio::test]
async fn a_header_is_dropped() {
    assert_eq!(answer(MapRequest::new("date,delay,distance,origin,destination")).await, Message::to_drop());
}

#[tokio::test]
async fn a_dead_letter_is_the_request_and_the_reason() {
    let mut metadata = UserMetadata::new();
    metadata.insert("trace", "id", "7");
    let line = b"\xff not a flight \r";
    let message = answer(MapRequest::new(&line[..]).with_keys(["a", "b"]).with_user_metadata(metadata.clone())).await;
    metadata.insert(METADATA_GROUP, "reason", "the line is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0");
    let expected = Message::new(&line[..]).with_keys(["a", "b"]).with_tags([DEAD_LETTER]).with_user_metadata(metadata);
    assert_eq!(message, expected);
}

#[tokio::test]
async fn a_long_line_comes_through() {
    let line = lines(AWKWARD).find(|line| line.len() == 900_000).unwrap();
    let message = answer(MapRequest::new(line)).await;
    assert!(message.value().len() < 300, "the long field is left out");
}
