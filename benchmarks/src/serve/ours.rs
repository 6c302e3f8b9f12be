//! `numaflow-sdk`, by its public API, as a UDF's `main` uses it.

use numaflow_sdk::{MapRequest, Server, map, run_server_with};

use super::Serving;
use crate::Outcome;
use crate::handler::Handler;

pub(super) fn map(serving: Serving) -> Outcome<()> {
    match serving.handler {
        Handler::Identity => serve(serving, map::from_fn(async |request: MapRequest| Ok(request.into_message()))),
        handler => serve(
            serving,
            map::from_fn(move |request: MapRequest| async move {
                handler.run(request.value()).await;
                Ok(request.into_message())
            }),
        ),
    }
}

fn serve(serving: Serving, mapper: impl map::Mapper) -> Outcome<()> {
    run_server_with(async move || {
        Ok(Server::new(map::service(mapper)).socket_path(serving.socket).server_info_path(serving.info))
    })?;
    Ok(())
}
