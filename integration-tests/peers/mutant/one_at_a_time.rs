//! A map whose handler begins when the one before it is over.

use numaflow_sdk::map::{BatchAnswers, BatchMapper, Mapper, Outputs, StreamMapper};
use numaflow_sdk::{HandlerError, MapRequest, Messages};
use tokio::sync::Mutex;

pub(crate) struct OneAtATime<M> {
    mapper: Mutex<M>,
}

impl<M> OneAtATime<M> {
    pub(crate) fn new(mapper: M) -> Self {
        Self { mapper: Mutex::new(mapper) }
    }
}

impl<M: Mapper> Mapper for OneAtATime<M> {
    async fn map(&self, request: MapRequest) -> Result<Messages, HandlerError> {
        self.mapper.lock().await.map(request).await
    }
}

impl<M: BatchMapper> BatchMapper for OneAtATime<M> {
    async fn map_batch(&self, requests: Vec<MapRequest>) -> Result<BatchAnswers, HandlerError> {
        self.mapper.lock().await.map_batch(requests).await
    }
}

impl<M: StreamMapper> StreamMapper for OneAtATime<M> {
    async fn map_stream(&self, request: MapRequest, outputs: Outputs) -> Result<(), HandlerError> {
        self.mapper.lock().await.map_stream(request, outputs).await
    }
}
