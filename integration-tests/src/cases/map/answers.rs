//! What an answer consists of.

use std::collections::HashMap;

use bytes::Bytes;

use crate::case::{Case, Kind, Level, Recipe};
use crate::cases::contract;
use crate::outcome::{Unproven, check};
use crate::target::Target;
use crate::wire::Connection;
use crate::wire::common::{KeyValueGroup, Metadata, Timestamp};
use crate::wire::map::{Input, MapRequest, MapStream, Output, handshake, is_echo};

const DROP_TAG: &str = "U+005C__DROP__";
const NACK_TAG: &str = "U+005C__NACK__";
const FAIL_TAG: &str = "U+005C__FAIL__";

pub(super) const CASES: &[Case] = &[
    Case {
        id: "map.minimal-message",
        level: Level::Must,
        section: "4.3 Rules common to the three modes",
        sentence: "A message from before 1970 that has no value, keys, headers, metadata or watermark is answered.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(minimal_message(target))),
    },
    Case {
        id: "map.keys",
        level: Level::Must,
        section: "2.6 Headers and keys",
        sentence: "The keys of a result are those that the handler gave it, in their order, also where there are none.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(keys(target))),
    },
    Case {
        id: "map.outputs",
        level: Level::Must,
        section: "4.9 What the platform builds from a result",
        sentence: "All outputs of a message come, in their order.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(outputs(target))),
    },
    Case {
        id: "map.empty-output",
        level: Level::Must,
        section: "4.4 Unary mode",
        sentence: "A message without output is answered, with its id and no results.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(empty_output(target))),
    },
    Case {
        id: "map.drop",
        level: Level::Must,
        section: "2.4 Tags and reserved tags",
        sentence: "A drop is one result with the DROP tag.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(drop_tag(target))),
    },
    Case {
        id: "map.nack",
        level: Level::Must,
        section: "4.8 Nack from a map",
        sentence: "A nack is one result with the NACK tag and its options.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(nack_tag(target))),
    },
    Case {
        id: "map.fail",
        level: Level::Should,
        section: "4.7 FAIL retry",
        sentence: "A result with the FAIL tag is the last one of its message, and the answer ends with it.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(fail_tag(target))),
    },
    Case {
        id: "map.user-metadata",
        level: Level::Should,
        section: "2.1 Metadata",
        sentence: "A result carries the user metadata that the handler gave it, and none of the platform's own.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(user_metadata(target))),
    },
    Case {
        id: "map.handshake.repeated",
        level: Level::Should,
        section: "4.3 Rules common to the three modes",
        sentence: "A second handshake on a stream is ignored.",
        kinds: Kind::MAPS,
        recipe: Recipe::Server(|target| Box::pin(handshake_repeated(target))),
    },
];

/// The answer to a message with this input.
async fn mapped(stream: &mut MapStream, id: &str, input: Input) -> Result<Vec<Output>, Unproven> {
    let request = Some(Input { event_time: input.event_time.or(Some(Timestamp { seconds: 1, nanos: 0 })), ..input });
    stream.call.send(&MapRequest { request, id: id.to_owned(), ..MapRequest::default() }).await;
    stream.end_batch().await;
    stream.answer(id).await
}

/// The answer to a message that is nothing but its value, on a stream of its own.
async fn answer_to(target: &Target, value: &str) -> Result<Vec<Output>, Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let results = stream.map("the only one", value.to_owned()).await?;
    stream.finish().await?;
    Ok(results)
}

async fn minimal_message(target: &Target) -> Result<(), Unproven> {
    let before_the_epoch = Timestamp { seconds: -1, nanos: 999_000_000 };
    let input = Input { event_time: Some(before_the_epoch), ..Input::default() };
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    is_echo(&mapped(&mut stream, "minimal", input).await?, b"")?;
    stream.finish().await
}

async fn keys(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    for keys in [&["b", "", "ü", "a", "b"][..], &["one"], &[]] {
        let keys: Vec<String> = keys.iter().copied().map(str::to_owned).collect();
        let input = Input { keys: keys.clone(), value: "echo".into(), ..Input::default() };
        let results = mapped(&mut stream, "keys", input).await?;
        let kept = matches!(&results[..], [output] if output.keys == keys);
        check(kept, &format!("one result with the keys {keys:?}"), || format!("{results:?}"))?;
    }
    stream.finish().await
}

async fn outputs(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    for count in [1, 2, 1000] {
        super::are_numbers(&stream.map("many", contract::many(count)).await?, count)?;
    }
    stream.finish().await
}

async fn empty_output(target: &Target) -> Result<(), Unproven> {
    let results = answer_to(target, contract::EMPTY).await?;
    check(results.is_empty(), "no results", || format!("{results:?}"))
}

async fn drop_tag(target: &Target) -> Result<(), Unproven> {
    let results = answer_to(target, contract::DROP).await?;
    let dropped = matches!(&results[..], [output] if output.tags == [DROP_TAG]);
    check(dropped, "one result with the DROP tag", || format!("{results:?}"))
}

async fn nack_tag(target: &Target) -> Result<(), Unproven> {
    let results = answer_to(target, contract::NACK).await?;
    let nacked = matches!(&results[..], [output] if output.tags == [NACK_TAG]
    && output.nack_options.as_ref().is_some_and(|options| {
        options.reason.as_deref() == Some(contract::NACK_REASON)
            && options.max_deliveries == Some(contract::NACK_MAX_DELIVERIES)
            && options.delay == Some(contract::NACK_DELAY_MS)
    }));
    check(nacked, "one result with the NACK tag and the contract's options", || format!("{results:?}"))
}

async fn fail_tag(target: &Target) -> Result<(), Unproven> {
    let results = answer_to(target, contract::FAIL).await?;
    let failed = matches!(&results[..], [first, last]
        if first.value == contract::FAIL && first.tags.is_empty() && last.value.is_empty() && last.tags == [FAIL_TAG]);
    check(failed, "a result, then one with the FAIL tag, then the end of the answer", || format!("{results:?}"))
}

async fn user_metadata(target: &Target) -> Result<(), Unproven> {
    let group = |name: &str, key: &str| {
        let values = HashMap::from([(key.to_owned(), Bytes::from_static(b"from the platform"))]);
        HashMap::from([(name.to_owned(), KeyValueGroup { key_value: values })])
    };
    let metadata = Metadata {
        previous_vertex: "in".to_owned(),
        sys_metadata: group("tracing", "traceparent"),
        user_metadata: group("another", "key"),
    };
    let input = Input { value: contract::METADATA.into(), metadata: Some(metadata), ..Input::default() };
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    let results = mapped(&mut stream, "metadata", input).await?;
    stream.finish().await?;
    let [Output { metadata: Some(metadata), .. }] = &results[..] else {
        return Err(Unproven::broken("one result with metadata", format!("{results:?}")));
    };
    let group = metadata.user_metadata.get(contract::METADATA_GROUP);
    let value = group.and_then(|group| group.key_value.get(contract::METADATA_KEY));
    let given = value.is_some_and(|value| value == contract::METADATA_VALUE);
    check(given, "the user metadata of the contract, byte for byte", || format!("{metadata:?}"))?;
    let own = metadata.sys_metadata.is_empty() && metadata.previous_vertex.is_empty();
    check(own, "no system metadata and no previous vertex", || format!("{metadata:?}"))
}

async fn handshake_repeated(target: &Target) -> Result<(), Unproven> {
    let connection = Connection::to(target).await?;
    let mut stream = MapStream::open(&connection).await?;
    stream.call.send(&handshake()).await;
    stream.echo("after the second handshake").await?;
    stream.finish().await
}
