//! The crate `numaflow` 0.6.0. Its HTTP/2 windows cannot be set: they are hyper's, 1 MiB a stream and 1 MiB a connection.

use numaflow::map::{MapRequest, Mapper, Message, Server};
use numaflow::shared::ServerExtras;

use super::Serving;
use crate::Outcome;
use crate::handler::Handler;

struct Identity {
    handler: Handler,
}

#[tonic::async_trait]
impl Mapper for Identity {
    async fn map(&self, input: MapRequest) -> Vec<Message> {
        self.handler.run(&input.value).await;
        vec![Message::new(input.value).with_keys(input.keys)]
    }
}

pub(super) async fn map(serving: Serving) -> Outcome<()> {
    let Serving { socket, info, handler, .. } = serving;
    Server::new(Identity { handler }).with_socket_file(socket).with_server_info_file(info).start().await
}
