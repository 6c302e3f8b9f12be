//! A map that does what its input says, in each of the three modes.

use std::time::Duration;

use futures_util::future::try_join_all;
use numaflow_sdk::map::{BatchAnswers, BatchMapper, Mapper, Outputs, StreamMapper};
use numaflow_sdk::{HandlerError, MapRequest, Message, Messages, NackOptions, UserMetadata};

use crate::contract::instruction::Instruction;
use crate::contract::latches::Latches;
use crate::contract::{ASKED_FOR, NOT_OFFERED, panicked};

#[derive(Default)]
pub(crate) struct Contract {
    latches: Latches,
}

/// Where the outputs of a message go: they are collected, or leave one by one.
trait Output: Send {
    fn send(&mut self, message: Message) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl Output for Vec<Message> {
    async fn send(&mut self, message: Message) -> Result<(), HandlerError> {
        self.push(message);
        Ok(())
    }
}

impl Output for Outputs {
    async fn send(&mut self, message: Message) -> Result<(), HandlerError> {
        Ok(Self::send(self, message).await?)
    }
}

impl Contract {
    async fn answer(&self, request: MapRequest, outputs: &mut impl Output) -> Result<(), HandlerError> {
        // What the instruction borrows from outlives the request, which an echo takes apart.
        let value = request.value().clone();
        match Instruction::parse(&value) {
            Instruction::Empty => Ok(()),
            Instruction::Drop => outputs.send(Message::to_drop()).await,
            Instruction::Nack => {
                let delay = Duration::from_millis(1500);
                let options = NackOptions::new().with_reason("asked to").with_max_deliveries(3).with_delay(delay);
                outputs.send(Message::to_nack(options)).await
            }
            Instruction::Fail => {
                outputs.send(Message::new("fail")).await?;
                outputs.send(Message::to_fail()).await
            }
            Instruction::Times => {
                let times = format!("{:?} {:?}", request.event_time(), request.watermark());
                outputs.send(Message::new(times)).await
            }
            Instruction::Metadata => {
                let mut metadata = UserMetadata::new();
                metadata.insert("conformance", "bytes", [0x00, 0xff, 0x80].as_slice());
                outputs.send(Message::new("metadata").with_user_metadata(metadata)).await
            }
            Instruction::Many(count) => many(count, outputs).await,
            Instruction::ManyThenPanic(count) => {
                many(count, outputs).await?;
                panicked(ASKED_FOR)
            }
            Instruction::Hold(name) => {
                self.latches.released(name).await;
                outputs.send(request.into_message()).await
            }
            Instruction::Release(name) => {
                self.latches.release(name);
                outputs.send(request.into_message()).await
            }
            Instruction::First(name) => {
                outputs.send(Message::new("first")).await?;
                self.latches.released(name).await;
                outputs.send(Message::new("last")).await
            }
            Instruction::Panic(text) => panicked(text),
            Instruction::Error(text) => Err(HandlerError::new(text)),
            // A batch leaves it out before it comes here.
            Instruction::Skip => outputs.send(Message::new(NOT_OFFERED)).await,
            Instruction::Echo => outputs.send(request.into_message()).await,
        }
    }

    async fn answer_all(&self, request: MapRequest) -> Result<Vec<Message>, HandlerError> {
        let mut messages = Vec::new();
        self.answer(request, &mut messages).await?;
        Ok(messages)
    }
}

async fn many(count: usize, outputs: &mut impl Output) -> Result<(), HandlerError> {
    for number in 0..count {
        outputs.send(Message::new(number.to_string())).await?;
    }
    Ok(())
}

impl Mapper for Contract {
    async fn map(&self, request: MapRequest) -> Result<Messages, HandlerError> {
        Ok(self.answer_all(request).await?.into())
    }
}

impl BatchMapper for Contract {
    async fn map_batch(&self, requests: Vec<MapRequest>) -> Result<BatchAnswers, HandlerError> {
        let answered = requests.into_iter().filter(|request| Instruction::parse(request.value()) != Instruction::Skip);
        let answers = answered.map(async |request| {
            let id = request.id().to_owned();
            Ok::<_, HandlerError>((id, self.answer_all(request).await?))
        });
        Ok(try_join_all(answers).await?.into_iter().collect())
    }
}

impl StreamMapper for Contract {
    async fn map_stream(&self, request: MapRequest, mut outputs: Outputs) -> Result<(), HandlerError> {
        self.answer(request, &mut outputs).await
    }
}
