//! `numaflow-sdk`, by its public API, as a UDF's `main` uses it.

use std::time::SystemTime;

use bytes::Bytes;
use numaflow_sdk::source::{Batch, Message, NackOffset, Offset, ReadRequest, Sourcer};
use numaflow_sdk::{HandlerError, MapMode, MapRequest, Server, map, run_server_with, source};

use super::Serving;
use super::records::{KEY, Numbers};
use crate::Outcome;
use crate::handler::Handler;

pub(super) fn map(serving: Serving, mode: MapMode) -> Outcome<()> {
    match serving.handler {
        Handler::Identity => {
            let identity = map::from_fn(async |request: MapRequest| Ok(request.into_message()));
            serve(serving, map::service(identity).mode(mode))
        }
        handler @ (Handler::Wait { .. } | Handler::Compute { .. }) => serve(
            serving,
            map::service(map::from_fn(move |request: MapRequest| async move {
                handler.run(request.value()).await;
                Ok(request.into_message())
            }))
            .mode(mode),
        ),
    }
}

pub(super) fn source(serving: Serving) -> Outcome<()> {
    let generator = Generator { numbers: Numbers::default(), value: vec![b'x'; serving.value_size].into() };
    serve(serving, source::service(generator))
}

pub(super) fn serve(serving: Serving, service: impl numaflow_sdk::Service) -> Outcome<()> {
    run_server_with(async move || Ok(Server::new(service).socket_path(serving.socket).server_info_path(serving.info)))?;
    Ok(())
}

struct Generator {
    numbers: Numbers,
    value: Bytes,
}

impl Sourcer for Generator {
    async fn read(&self, _request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        while !batch.is_full() {
            let offset = Offset::new(Bytes::copy_from_slice(&self.numbers.next()), 0);
            batch.push(Message::new(self.value.clone(), offset, SystemTime::now()).with_keys([KEY])).await?;
        }
        Ok(())
    }

    async fn ack(&self, _offsets: Vec<Offset>) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn nack(&self, _offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        Ok(())
    }
}
