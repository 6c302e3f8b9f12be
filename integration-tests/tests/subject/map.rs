//! A map that does what its input says, in the three modes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use numaflow_sdk::map::{BatchAnswers, BatchMapper, Mapper, Outputs, SendError, StreamMapper};
use numaflow_sdk::{HandlerError, IntoMessages, MapRequest, Message, Messages, NackOptions, UserMetadata};
use tokio::sync::watch;

const NOT_OFFERED: &str = "not offered";
const SKIP: &[u8] = b"skip";

/// The latches by name, each with whether it was released.
#[derive(Default)]
pub(crate) struct Contract {
    latches: Mutex<HashMap<String, watch::Sender<bool>>>,
}

/// Where the outputs of a message go.
trait Taker: Send {
    fn take(&mut self, output: Message) -> impl Future<Output = Result<(), SendError>> + Send;
}

impl Taker for Vec<Message> {
    async fn take(&mut self, output: Message) -> Result<(), SendError> {
        self.push(output);
        Ok(())
    }
}

impl Taker for Outputs {
    async fn take(&mut self, output: Message) -> Result<(), SendError> {
        self.send(output).await
    }
}

impl Contract {
    fn latch(&self, name: &str) -> watch::Sender<bool> {
        let mut latches = self.latches.lock().unwrap_or_else(PoisonError::into_inner);
        latches.entry(name.to_owned()).or_default().clone()
    }

    async fn released(&self, name: &str) -> Result<(), HandlerError> {
        self.latch(name).subscribe().wait_for(|released| *released).await?;
        Ok(())
    }

    async fn answer(&self, request: MapRequest, outputs: &mut impl Taker) -> Result<(), HandlerError> {
        // Large values are only ever echoed.
        let value = request.value().clone();
        let text = std::str::from_utf8(&value).unwrap_or_default();
        let output = match text.split_once(' ').unwrap_or((text, "")) {
            ("empty", "") => return Ok(()),
            ("drop", "") => Message::to_drop(),
            ("nack", "") => Message::to_nack(
                NackOptions::new()
                    .with_reason("asked to")
                    .with_max_deliveries(3)
                    .with_delay(Duration::from_millis(1500)),
            ),
            ("fail", "") => {
                outputs.take(Message::new("fail")).await?;
                Message::to_fail()
            }
            ("times", "") => Message::new(format!("{:?} {:?}", request.event_time(), request.watermark())),
            ("metadata", "") => {
                let mut metadata = UserMetadata::new();
                metadata.insert("conformance", "bytes", &[0x00, 0xff, 0x80][..]);
                Message::new("metadata").with_user_metadata(metadata)
            }
            ("many", count) => return many(count, outputs).await,
            ("hold", name) => {
                self.released(name).await?;
                request.into_message()
            }
            ("release", name) => {
                self.latch(name).send_replace(true);
                request.into_message()
            }
            ("first", name) => {
                outputs.take(Message::new("first")).await?;
                self.released(name).await?;
                Message::new("last")
            }
            ("panic", text) => return panicked(text),
            ("many-then-panic", count) => {
                many(count, outputs).await?;
                return panicked("the suite asked for this");
            }
            ("error", text) => return Err(HandlerError::new(text)),
            ("skip", "") => Message::new(NOT_OFFERED),
            _ => request.into_message(),
        };
        Ok(outputs.take(output).await?)
    }
}

async fn many(count: &str, outputs: &mut impl Taker) -> Result<(), HandlerError> {
    for number in 0..count.parse::<usize>()? {
        outputs.take(Message::new(number.to_string())).await?;
    }
    Ok(())
}

#[expect(clippy::panic, reason = "the contract asks for one")]
fn panicked(text: &str) -> Result<(), HandlerError> {
    panic!("{text}")
}

impl Mapper for Contract {
    async fn map(&self, request: MapRequest) -> Result<Messages, HandlerError> {
        let mut outputs = Vec::new();
        self.answer(request, &mut outputs).await?;
        Ok(outputs.into_messages())
    }
}

impl BatchMapper for Contract {
    async fn map_batch(&self, requests: Vec<MapRequest>) -> Result<BatchAnswers, HandlerError> {
        let answered = requests.into_iter().filter(|request| &request.value()[..] != SKIP).map(async |request| {
            let id = request.id().to_owned();
            Ok::<_, HandlerError>((id, self.map(request).await?))
        });
        Ok(try_join_all(answered).await?.into_iter().collect())
    }
}

impl StreamMapper for Contract {
    async fn map_stream(&self, request: MapRequest, mut outputs: Outputs) -> Result<(), HandlerError> {
        self.answer(request, &mut outputs).await
    }
}
