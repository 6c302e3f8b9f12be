//! The way to a map's stream: dial, handshake, and again after it broke.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use numaflow_sdk::testing::{ClientError, MapClient, MapMode, MapReceiver, MapSender};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::context::{Context, Trouble};
use super::super::{DriveError, ServerAt};

/// A stream, or the way to one.
#[expect(clippy::large_enum_variant, reason = "there is one of it, nearly always open")]
pub(super) enum Stream {
    Open(MapSender, MapReceiver),
    Opening(Opening),
}

type Opening = Pin<Box<dyn Future<Output = Result<(MapSender, MapReceiver), DriveError>> + Send>>;

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(..) => "Open",
            Self::Opening(_) => "Opening",
        })
    }
}

impl Stream {
    /// A stream that is opened as soon as somebody waits for it, and after a pause if so told.
    pub(super) fn new(server: &ServerAt, mode: MapMode, context: &Context, pause: bool) -> Self {
        Self::Opening(Box::pin(open(server.clone(), mode, context.clone(), pause)))
    }

    /// Both directions, once it is open. Safe to cancel: the next call goes on with the same attempt.
    pub(super) async fn open(&mut self) -> Result<(&MapSender, &mut MapReceiver), DriveError> {
        if let Self::Opening(opening) = self {
            let (sender, receiver) = opening.await?;
            *self = Self::Open(sender, receiver);
        }
        match self {
            Self::Open(sender, receiver) => Ok((sender, receiver)),
            // It was replaced above.
            Self::Opening(_) => std::future::pending().await,
        }
    }
}

/// Dials until there is a stream.
async fn open(
    server: ServerAt,
    mode: MapMode,
    context: Context,
    mut pause: bool,
) -> Result<(MapSender, MapReceiver), DriveError> {
    let mut trouble = Trouble::default();
    loop {
        if pause {
            sleep(context.pauses.redrive).await;
        }
        let client = MapClient::from(server.dial(MapClient::SERVICE, &context).await?);
        if let Some(info) = server.info(&context).await?
            && info.map_mode() != mode
        {
            return Err(DriveError::MapMode { socket: server.socket.clone(), was: mode, is: info.map_mode() });
        }
        match context.patiently("the map's answer to the handshake", client.open()).await? {
            Ok(stream) => return Ok(stream.split()),
            Err(error) => context.lost(&server, "the map's stream", error, &mut trouble)?,
        }
        pause = true;
    }
}

/// The next answer, not before it may be taken. Safe to cancel.
pub(super) async fn receive(
    receiver: &mut MapReceiver,
    not_before: Option<Instant>,
) -> Result<Option<numaflow_sdk::testing::MapAnswer>, ClientError> {
    if let Some(instant) = not_before {
        sleep_until(instant).await;
    }
    receiver.recv().await
}
