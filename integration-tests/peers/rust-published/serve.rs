//! Which server to be, and where.

use std::env;
use std::io::{Write as _, stderr};
use std::process::ExitCode;

use numaflow::shared::ServerExtras;
use numaflow::{batchmap, map, mapstream, source};

use crate::contract::{kind, no_such_kind};
use crate::{map::Contract as Map, source::Contract as Source};

/// Serves until SIGTERM, or until the SDK ends by itself.
pub(crate) async fn serve() -> ExitCode {
    let result = match &*kind() {
        "map-unary" => placed(map::Server::new(Map::default())).start().await,
        "map-batch" => placed(batchmap::Server::new(Map::default())).start().await,
        "map-stream" => placed(mapstream::Server::new(Map::default())).start().await,
        "source" => placed(source::Server::new(Source::default())).start().await,
        kind => return no_such_kind(kind),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can read it, the status says it all the same.
            _ = writeln!(stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// The server on the paths that the suite says.
fn placed<T, S: ServerExtras<T>>(mut server: S) -> S {
    if let Some(socket) = env::var_os("CONFORMANCE_SOCKET") {
        server = server.with_socket_file(socket);
    }
    if let Some(server_info) = env::var_os("CONFORMANCE_SERVER_INFO") {
        server = server.with_server_info_file(server_info);
    }
    server
}
