//! The crate `numaflow` 0.6.0. Its HTTP/2 windows cannot be set: they are hyper's, 1 MiB a stream and 1 MiB a connection.

use std::time::SystemTime;

use numaflow::batchmap::{self, BatchMapper, BatchResponse, Datum};
use numaflow::map::{self, MapRequest, Mapper};
use numaflow::shared::ServerExtras;
use numaflow::source::{self, Message, NackOffset, Offset, SourceReadRequest, Sourcer};
use tokio::sync::mpsc::{Receiver, Sender};

use super::Serving;
use super::records::{KEY, Numbers};
use crate::Outcome;
use crate::handler::Handler;

struct Identity {
    handler: Handler,
}

#[tonic::async_trait]
impl Mapper for Identity {
    async fn map(&self, input: MapRequest) -> Vec<map::Message> {
        self.handler.run(&input.value).await;
        vec![map::Message::new(input.value).with_keys(input.keys)]
    }
}

#[tonic::async_trait]
impl BatchMapper for Identity {
    async fn batchmap(&self, mut input: Receiver<Datum>) -> Vec<BatchResponse> {
        let mut responses = Vec::new();
        while let Some(datum) = input.recv().await {
            self.handler.run(&datum.value).await;
            let mut response = BatchResponse::from_id(datum.id);
            response.append(batchmap::Message::new(datum.value).with_keys(datum.keys));
            responses.push(response);
        }
        responses
    }
}

pub(super) async fn map(serving: Serving) -> Outcome<()> {
    let Serving { socket, info, handler, .. } = serving;
    map::Server::new(Identity { handler }).with_socket_file(socket).with_server_info_file(info).start().await
}

pub(super) async fn batch_map(serving: Serving) -> Outcome<()> {
    let Serving { socket, info, handler, .. } = serving;
    batchmap::Server::new(Identity { handler }).with_socket_file(socket).with_server_info_file(info).start().await
}

pub(super) async fn source(serving: Serving) -> Outcome<()> {
    let Serving { socket, info, value_size, .. } = serving;
    let generator = Generator { numbers: Numbers::default(), value: vec![b'x'; value_size] };
    source::Server::new(generator).with_socket_file(socket).with_server_info_file(info).start().await
}

struct Generator {
    numbers: Numbers,
    value: Vec<u8>,
}

#[tonic::async_trait]
impl Sourcer for Generator {
    async fn read(&self, request: SourceReadRequest, transmitter: Sender<Message>) {
        for _ in 0..request.count {
            let message = Message {
                value: self.value.clone(),
                offset: Offset { offset: self.numbers.next().to_vec(), partition_id: 0 },
                event_time: SystemTime::now().into(),
                keys: vec![KEY.to_owned()],
                headers: std::collections::HashMap::new(),
                user_metadata: None,
            };
            if transmitter.send(message).await.is_err() {
                return;
            }
        }
    }

    async fn ack(&self, _offsets: Vec<Offset>) {}

    async fn nack(&self, _offsets: Vec<NackOffset>) {}

    async fn pending(&self) -> Option<usize> {
        None
    }
}
