//! The handler contract, `CONTRACT.md`, with numaflow-sdk.

#[path = "../contract/mod.rs"]
mod contract;
mod map;
mod source;

use std::env;
use std::io::{Write as _, stderr};
use std::process::ExitCode;

use numaflow_sdk::map::{batch_service, service as map_service, stream_service};
use numaflow_sdk::source::service as source_service;
use numaflow_sdk::{Drained, ProcessEnvironment, ServeError, Server, Service, Settings, run_server_with};

fn main() -> ExitCode {
    let result = match &*contract::kind() {
        "map-unary" => serve(map_service(map::Contract::default())),
        "map-batch" => serve(batch_service(map::Contract::default())),
        "map-stream" => serve(stream_service(map::Contract::default())),
        "source" if contract::defaults() => serve(source_service(source::Silent(source::Contract::default()))),
        "source" => serve(source_service(source::Contract::default())),
        kind => return contract::no_such_kind(kind),
    };
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can read it, the status says it all the same.
            _ = writeln!(stderr(), "{error:#?}");
            if error.is_configuration() { ExitCode::from(64) } else { ExitCode::FAILURE }
        }
    }
}

/// Serves until SIGTERM, on the paths that the suite says.
fn serve(service: impl Service) -> Result<Drained, ServeError> {
    // Also what the platform says, and limits or a drain's time for those who want to try others.
    let settings = Settings::from_environment(&ProcessEnvironment)?;
    run_server_with(async || {
        let mut server = Server::new(service).settings(settings);
        if let Some(socket) = env::var_os("CONFORMANCE_SOCKET") {
            server = server.socket_path(socket);
        }
        if let Some(server_info) = env::var_os("CONFORMANCE_SERVER_INFO") {
            server = server.server_info_path(server_info);
        }
        Ok(server)
    })
}
