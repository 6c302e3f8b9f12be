//! `udf-server health`: a probe for the servers of any user-defined container.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use numaflow_sdk::testing::{ClientError, Connection};
use tokio::time::timeout;

use crate::drive::time;
use crate::error::{Failure, chain};

/// The services that the platform knows; which one a socket serves shows only by asking.
const SERVICES: [&str; 9] = [
    "map.v1.Map",
    "source.v1.Source",
    "sink.v1.Sink",
    "sourcetransformer.v1.SourceTransform",
    "reduce.v1.Reduce",
    "sessionreduce.v1.SessionReduce",
    "accumulator.v1.Accumulator",
    "sideinput.v1.SideInput",
    "serving.v1.ServingStore",
];
/// The gRPC code of a call that the server doesn't offer.
const UNIMPLEMENTED: i32 = 12;

/// The flags of `health`.
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// The socket of the server
    #[arg(long, value_name = "SOCKET")]
    socket: PathBuf,
    /// How long the answer may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    timeout: Duration,
}

/// Asks the server whether it is ready, as the platform's own health check does.
///
/// # Errors
///
/// When it is not, or does not answer in time.
pub fn command(args: &HealthArgs) -> Result<(), Failure> {
    let socket = args.socket.display();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Run(format!("health cannot be started: {error}")))?;
    match runtime.block_on(async { timeout(args.timeout, ask(args)).await }) {
        Ok(Ok(Some(true))) => Ok(()),
        Ok(Ok(None)) => Err(Failure::Run(format!("the server on {socket} offers no service that the platform knows"))),
        Ok(Ok(Some(false))) => Err(Failure::Run(format!("the server on {socket} says that it is not ready"))),
        Ok(Err(error)) => Err(Failure::Run(format!("the server on {socket} is not healthy: {}", chain(&error)))),
        Err(_) => Err(Failure::Run(format!("the server on {socket} did not answer within {:?}", args.timeout))),
    }
}

/// What `IsReady` says; `None` where the server has no such call.
async fn ask(args: &HealthArgs) -> Result<Option<bool>, ClientError> {
    let connection = Connection::connect(&args.socket).await?;
    for service in SERVICES {
        match connection.is_ready(service).await {
            Err(error) if error.status().is_some_and(|status| status.code == UNIMPLEMENTED) => {}
            answer => return answer.map(Some),
        }
    }
    Ok(None)
}
