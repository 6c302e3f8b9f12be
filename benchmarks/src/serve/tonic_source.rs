//! A plain tonic source: the generated types, and each read request turned into its records as the stream is polled.

use std::convert::Infallible;
use std::future::Ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use futures_core::Stream;
use http::{Request, Response};
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::records::{KEY, Numbers};
use super::{MAX_MESSAGE, Serving};
use crate::Outcome;
use crate::pb::source::v1::read_response::{self, status::Code};
use crate::pb::source::v1::{AckRequest, AckResponse, Handshake, Offset, ReadRequest, ReadResponse, ack_response};

pub(super) async fn serve(serving: Serving) -> Outcome<()> {
    let value = vec![b'x'; serving.value_size].into();
    super::tonic_echo::listen(
        &serving,
        Source { generator: Arc::new(Generator { numbers: Numbers::default(), value }) },
    )
    .await
}

#[derive(Debug)]
struct Generator {
    numbers: Numbers,
    value: Bytes,
}

/// The service that a proto compiler would generate.
#[derive(Debug, Clone)]
struct Source {
    generator: Arc<Generator>,
}

impl NamedService for Source {
    const NAME: &'static str = "source.v1.Source";
}

impl Service<Request<Body>> for Source {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let generator = self.generator.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/source.v1.Source/ReadFn" => {
                    let codec = ProstCodec::<ReadResponse, ReadRequest>::default();
                    Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE).streaming(Read { generator }, request).await
                }
                "/source.v1.Source/AckFn" => {
                    let codec = ProstCodec::<AckResponse, AckRequest>::default();
                    Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE).streaming(Ack, request).await
                }
                _ => Status::unimplemented("the load client calls ReadFn and AckFn only").into_http(),
            })
        })
    }
}

struct Read {
    generator: Arc<Generator>,
}

impl StreamingService<ReadRequest> for Read {
    type Response = ReadResponse;
    type ResponseStream = Records;
    type Future = Ready<Result<tonic::Response<Records>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<ReadRequest>>) -> Self::Future {
        let records = Records { generator: self.generator.clone(), requests: request.into_inner(), missing: None };
        std::future::ready(Ok(tonic::Response::new(records)))
    }
}

/// The answers to read requests, made when they are asked for.
struct Records {
    generator: Arc<Generator>,
    requests: Streaming<ReadRequest>,
    /// How many records the current request still lacks; `None` between requests.
    missing: Option<u64>,
}

impl Stream for Records {
    type Item = Result<ReadResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let response = match this.missing {
            None => match ready!(Pin::new(&mut this.requests).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(ReadRequest { handshake: Some(Handshake { sot }), .. })) => {
                    ReadResponse { handshake: Some(Handshake { sot }), ..ReadResponse::default() }
                }
                Some(Ok(ReadRequest { request, handshake: None })) => {
                    this.missing = request.map(|request| request.num_records);
                    return self.poll_next(cx);
                }
            },
            Some(0) => {
                this.missing = None;
                let status =
                    read_response::Status { eot: true, code: Code::Success.into(), ..read_response::Status::default() };
                ReadResponse { status: Some(status), ..ReadResponse::default() }
            }
            Some(missing) => {
                this.missing = Some(missing - 1);
                let offset = Bytes::copy_from_slice(&this.generator.numbers.next());
                let result = read_response::Result {
                    payload: this.generator.value.clone(),
                    offset: Some(Offset { offset, partition_id: 0 }),
                    event_time: Some(SystemTime::now().into()),
                    keys: vec![KEY.to_owned()],
                    ..read_response::Result::default()
                };
                ReadResponse { result: Some(result), ..ReadResponse::default() }
            }
        };
        Poll::Ready(Some(Ok(response)))
    }
}

struct Ack;

type Acks = Pin<Box<dyn Stream<Item = Result<AckResponse, Status>> + Send>>;

impl StreamingService<AckRequest> for Ack {
    type Response = AckResponse;
    type ResponseStream = Acks;
    type Future = Ready<Result<tonic::Response<Acks>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<AckRequest>>) -> Self::Future {
        let acks: Acks = Box::pin(request.into_inner().map(|request| {
            let AckRequest { request, handshake } = request?;
            let result = request.map(|_| ack_response::Result { success: Some(()) });
            Ok(AckResponse { result, handshake })
        }));
        std::future::ready(Ok(tonic::Response::new(acks)))
    }
}
