//! A map that does what its input says, in each of the three modes.

use futures_util::future::join_all;
use numaflow::batchmap::{self, BatchMapper, BatchResponse, Datum};
use numaflow::map::{self, MapRequest, Mapper, UserMetadata};
use numaflow::mapstream::{self, MapStreamRequest, MapStreamer};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::contract::instruction::Instruction;
use crate::contract::latches::Latches;
use crate::contract::{ASKED_FOR, NOT_OFFERED, panicked};

#[derive(Default)]
pub(crate) struct Contract {
    latches: Latches,
}

/// What the SDK's three types of requests have in common.
struct Input {
    value: Vec<u8>,
    keys: Vec<String>,
    times: String,
}

/// What the SDK's three types of messages have in common.
trait Message: Send + Sized {
    fn new(value: impl Into<Vec<u8>>) -> Self;
    fn echo(input: Input) -> Self;
    fn tagged(tag: &str) -> Self;
    fn to_drop() -> Self;
    fn to_nack() -> Self;

    /// Only unary messages can carry it.
    fn with_user_metadata() -> Self {
        Self::new(NOT_OFFERED)
    }
}

macro_rules! message {
    ($message:ty $(, $user_metadata:item)?) => {
        impl Message for $message {
            fn new(value: impl Into<Vec<u8>>) -> Self {
                Self::new(value.into())
            }

            fn echo(input: Input) -> Self {
                Self::new(input.value).with_keys(input.keys)
            }

            fn tagged(tag: &str) -> Self {
                Self::new(Vec::new()).with_tags(vec![tag.to_owned()])
            }

            fn to_drop() -> Self {
                Self::message_to_drop()
            }

            fn to_nack() -> Self {
                to_nack!($message)
            }

            $($user_metadata)?
        }
    };
}

message!(batchmap::Message);
message!(mapstream::Message);
message!(
    map::Message,
    fn with_user_metadata() -> Self {
        let mut metadata = UserMetadata::new();
        metadata.add_kv("conformance".to_owned(), "bytes".to_owned(), vec![0x00, 0xff, 0x80]);
        Self::new(b"metadata".to_vec()).with_user_metadata(metadata)
    }
);

/// Where the outputs of a message go: they are collected, or leave one by one.
trait Output<M>: Send {
    fn send(&mut self, message: M) -> impl Future<Output = ()> + Send;
}

impl<M: Send> Output<M> for Vec<M> {
    async fn send(&mut self, message: M) {
        self.push(message);
    }
}

impl<M: Send> Output<M> for Sender<M> {
    async fn send(&mut self, message: M) {
        // It fails when the stream has ended, and then nobody wants the message.
        _ = Self::send(self, message).await;
    }
}

impl Contract {
    async fn answer<M: Message>(&self, input: Input, outputs: &mut impl Output<M>) {
        match Instruction::parse(&input.value) {
            Instruction::Empty => {}
            Instruction::Drop => outputs.send(M::to_drop()).await,
            Instruction::Nack => outputs.send(M::to_nack()).await,
            Instruction::Fail => {
                outputs.send(M::new("fail")).await;
                outputs.send(M::tagged("U+005C__FAIL__")).await;
            }
            Instruction::Times => outputs.send(M::new(input.times)).await,
            Instruction::Metadata => outputs.send(M::with_user_metadata()).await,
            Instruction::Many(count) => many(count, outputs).await,
            Instruction::ManyThenPanic(count) => {
                many(count, outputs).await;
                panicked(ASKED_FOR);
            }
            Instruction::Hold(name) => {
                self.latches.released(name).await;
                outputs.send(M::echo(input)).await;
            }
            Instruction::Release(name) => {
                self.latches.release(name);
                outputs.send(M::echo(input)).await;
            }
            Instruction::First(name) => {
                outputs.send(M::new("first")).await;
                self.latches.released(name).await;
                outputs.send(M::new("last")).await;
            }
            Instruction::Panic(text) => panicked(text),
            // A handler cannot fail but by a panic. A batch leaves out what it is to skip before that comes here.
            Instruction::Error(_) | Instruction::Skip => outputs.send(M::new(NOT_OFFERED)).await,
            Instruction::Echo => outputs.send(M::echo(input)).await,
        }
    }
}

async fn many<M: Message>(count: usize, outputs: &mut impl Output<M>) {
    for number in 0..count {
        outputs.send(M::new(number.to_string())).await;
    }
}

#[tonic::async_trait]
impl Mapper for Contract {
    async fn map(&self, input: MapRequest) -> Vec<map::Message> {
        let MapRequest { value, keys, eventtime, watermark, .. } = input;
        let mut messages = Vec::new();
        self.answer(Input { value, keys, times: format!("{eventtime} {watermark}") }, &mut messages).await;
        messages
    }
}

#[tonic::async_trait]
impl BatchMapper for Contract {
    async fn batchmap(&self, mut input: Receiver<Datum>) -> Vec<BatchResponse> {
        let mut answers = Vec::new();
        while let Some(Datum { id, value, keys, event_time, watermark, .. }) = input.recv().await {
            if Instruction::parse(&value) != Instruction::Skip {
                answers.push(async move {
                    let mut message = Vec::new();
                    self.answer(Input { value, keys, times: format!("{event_time} {watermark}") }, &mut message).await;
                    BatchResponse { id, message }
                });
            }
        }
        join_all(answers).await
    }
}

#[tonic::async_trait]
impl MapStreamer for Contract {
    async fn map_stream(&self, input: MapStreamRequest, mut tx: Sender<mapstream::Message>) {
        let MapStreamRequest { value, keys, eventtime, watermark, .. } = input;
        self.answer(Input { value, keys, times: format!("{eventtime} {watermark}") }, &mut tx).await;
    }
}
