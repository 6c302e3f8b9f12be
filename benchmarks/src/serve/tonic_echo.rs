//! A plain tonic server: the generated types, and the stream of requests turned into the stream of answers.

use std::convert::Infallible;
use std::future::Ready;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use http::{Request, Response};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::{CONNECTION_WINDOW, FRAME, MAX_MESSAGE, STREAM_WINDOW, Serving, Setting};
use crate::Outcome;
use crate::handler::Handler;
use crate::pb::map::v1::{MapRequest, MapResponse, map_response};

/// What waiting handlers may be ahead of their answers.
const QUEUE: usize = 500;

pub(super) async fn serve(serving: Serving) -> Outcome<()> {
    listen(&serving, Map { handler: serving.handler }).await
}

/// Serves a service on the socket.
pub(super) async fn listen<S>(serving: &Serving, service: S) -> Outcome<()>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
{
    let listener = UnixListenerStream::new(UnixListener::bind(&serving.socket)?);
    let mut server = Server::builder();
    if serving.setting == Setting::Equal {
        server = server
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME);
    }
    server.add_service(service).serve_with_incoming(listener).await?;
    Ok(())
}

/// The service that a proto compiler would generate.
#[derive(Debug, Clone)]
struct Map {
    handler: Handler,
}

impl NamedService for Map {
    const NAME: &'static str = "map.v1.Map";
}

impl Service<Request<Body>> for Map {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<MapResponse, MapRequest>::default();
            Ok(Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE).streaming(service, request).await)
        })
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<MapResponse, Status>> + Send>>;

impl StreamingService<MapRequest> for Map {
    type Response = MapResponse;
    type ResponseStream = Answers;
    type Future = Ready<Result<tonic::Response<Answers>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<MapRequest>>) -> Self::Future {
        let requests = request.into_inner();
        let answers: Answers = match self.handler {
            Handler::Identity => Box::pin(requests.map(|request| Ok(answer(request?)))),
            handler @ (Handler::Wait { .. } | Handler::Compute { .. }) => {
                Box::pin(ReceiverStream::new(answers_of_tasks(requests, handler)))
            }
        };
        std::future::ready(Ok(tonic::Response::new(answers)))
    }
}

/// Runs a task for every message, as one does who wants messages to wait beside each other.
fn answers_of_tasks(
    mut requests: Streaming<MapRequest>,
    handler: Handler,
) -> mpsc::Receiver<Result<MapResponse, Status>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let run = async move {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { break };
                    let sender = sender.clone();
                    tasks.spawn(async move {
                        if let Some(request) = &request.request {
                            handler.run(&request.value).await;
                        }
                        // The stream is gone, and with it whoever wants the answer.
                        drop(sender.send(Ok(answer(request))).await);
                    });
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "nothing drains here: the process is killed")]
    tokio::spawn(run);
    receiver
}

fn answer(request: MapRequest) -> MapResponse {
    let result = |request: crate::pb::map::v1::map_request::Request| map_response::Result {
        keys: request.keys,
        value: request.value,
        ..map_response::Result::default()
    };
    MapResponse {
        results: request.request.map(result).into_iter().collect(),
        id: request.id,
        handshake: request.handshake,
        status: request.status,
    }
}
