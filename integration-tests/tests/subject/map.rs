//! A map that does what its input says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use numaflow_sdk::map::Mapper;
use numaflow_sdk::{HandlerError, MapRequest, Message, Messages, NackOptions};
use tokio::sync::watch;

/// The latches by name, each with whether it was released.
#[derive(Default)]
pub(crate) struct Contract {
    latches: Mutex<HashMap<String, watch::Sender<bool>>>,
}

impl Contract {
    fn latch(&self, name: &str) -> watch::Sender<bool> {
        let mut latches = self.latches.lock().unwrap_or_else(PoisonError::into_inner);
        latches.entry(name.to_owned()).or_default().clone()
    }
}

impl Mapper for Contract {
    async fn map(&self, request: MapRequest) -> Result<Messages, HandlerError> {
        // Large values are only ever echoed.
        let text = std::str::from_utf8(request.value()).unwrap_or_default();
        Ok(match text.split_once(' ').unwrap_or((text, "")) {
            ("empty", "") => Messages::none(),
            ("drop", "") => Message::to_drop().into(),
            ("nack", "") => Message::to_nack(
                NackOptions::new()
                    .with_reason("asked to")
                    .with_max_deliveries(3)
                    .with_delay(Duration::from_millis(1500)),
            )
            .into(),
            ("times", "") => Message::new(format!("{:?} {:?}", request.event_time(), request.watermark())).into(),
            ("hold", name) => {
                self.latch(name).subscribe().wait_for(|released| *released).await?;
                request.into_message().into()
            }
            ("release", name) => {
                self.latch(name).send_replace(true);
                request.into_message().into()
            }
            ("panic", text) => panicked(text),
            _ => request.into_message().into(),
        })
    }
}

#[expect(clippy::panic, reason = "the contract asks for one")]
fn panicked(text: &str) -> Messages {
    panic!("{text}")
}
