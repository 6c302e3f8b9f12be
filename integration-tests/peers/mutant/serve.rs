//! A server from its start to its end, with the faults that are of the process.

use std::future::{Future, pending};
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use numaflow_conformance::Kind;
use numaflow_sdk::{ProcessEnvironment, Server, Service, Settings};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::Problem;
use crate::edits::{Call, Edits};
use crate::fault::{Fault, How, Paths, Sigterm, Which};
use crate::relay::Relay;

/// What a complete server-info file ends with.
pub(crate) const END_MARKER: &str = "U+005C__END__";

/// Serves until SIGTERM, with the fault.
pub(crate) fn serve(fault: &Fault, kind: Kind, service: impl Service) -> Result<(), Problem> {
    let told = |variable| env::var_os(variable).map(PathBuf::from);
    let mut settings = Settings::from_environment(&ProcessEnvironment)?;
    settings.socket_path = told("CONFORMANCE_SOCKET").or(settings.socket_path);
    settings.server_info_path = told("CONFORMANCE_SERVER_INFO").or(settings.server_info_path);
    Runtime::new()?.block_on(async {
        let sigterm = if let How::Sigterm(sigterm) = fault.how { sigterm } else { Sigterm::Drain };
        // Before anybody can know that there is a server.
        let shutdown = shutdown(sigterm)?;
        let paths = Paths::told(&settings);
        match (fault.how, &paths) {
            (How::Relay(edits) | How::RelayToUnary(edits), Some(paths)) => {
                return relayed(kind, edits, service, settings, paths, shutdown).await;
            }
            (How::ServerInfo(content), Some(paths)) => {
                return with_server_info(content, service, settings, paths, shutdown).await;
            }
            (How::Elsewhere(which), _) => return elsewhere(which, service, settings, shutdown).await,
            (How::BeforeStart(act), Some(paths)) => act(paths)?,
            (How::Settings(change), _) => change(&mut settings),
            // A server at the platform's paths leaves nothing beside them, and so has no fault for which it would.
            (How::Relay(_) | How::RelayToUnary(_) | How::ServerInfo(_) | How::BeforeStart(_), None)
            | (How::Unmutated | How::OneAtATime | How::Sigterm(_), _) => {}
        }
        Server::new(service).settings(settings).bind()?.serve_until(shutdown).await?;
        if sigterm == Sigterm::LeaveFiles
            && let Some(Paths { socket, server_info }) = paths
        {
            fs::write(socket, "left")?;
            fs::write(server_info, "left")?;
        }
        Ok(())
    })
}

/// When to begin the drain.
fn shutdown(sigterm: Sigterm) -> Result<impl Future<Output = ()>, Problem> {
    // A signal that is waited for no longer ends the process by itself.
    let mut signal = (sigterm != Sigterm::EndAtOnce).then(|| signal(SignalKind::terminate())).transpose()?;
    Ok(async move {
        match &mut signal {
            Some(signal) if sigterm != Sigterm::Ignore => _ = signal.recv().await,
            _ => pending().await,
        }
    })
}

/// Serves behind a relay, which has the socket that the suite knows.
async fn relayed(
    kind: Kind,
    edits: fn(&Call) -> Edits,
    service: impl Service,
    mut settings: Settings,
    paths: &Paths,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Problem> {
    let behind = paths.beside("behind.sock");
    settings.socket_path = Some(behind.clone());
    // First, because the server's info file says that it can be reached.
    let relay = Relay::bind(kind, &paths.socket, behind, paths.beside("memory"), edits)?;
    let server = Server::new(service).settings(settings).bind()?;
    tokio::select! {
        drained = server.serve_until(shutdown) => drop(drained?),
        error = relay.serve() => return Err(error.into()),
    }
    fs::remove_file(&paths.socket)?;
    Ok(())
}

/// Serves with another content of the server-info file.
async fn with_server_info(
    content: fn(Value) -> String,
    service: impl Service,
    mut settings: Settings,
    paths: &Paths,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Problem> {
    let (right, new) = (paths.beside("right-server-info"), paths.beside("new-server-info"));
    settings.server_info_path = Some(right.clone());
    let server = Server::new(service).settings(settings).bind()?;
    let info = fs::read_to_string(right)?;
    // Renamed, so that nobody sees half of it: that would be another fault.
    fs::write(&new, content(serde_json::from_str(info.trim_end_matches(END_MARKER))?))?;
    fs::rename(&new, &paths.server_info)?;
    server.serve_until(shutdown).await?;
    fs::remove_file(&paths.server_info)?;
    Ok(())
}

/// Serves with one file elsewhere, and with no name as soon as it is there, so that nothing of it is left behind.
async fn elsewhere(
    which: Which,
    service: impl Service,
    mut settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Problem> {
    /// How long it can be looked for.
    const FOUND: Duration = Duration::from_secs(2);
    let path = env::temp_dir().join(format!("mutant-{}-server-info", std::process::id()));
    match which {
        Which::Socket => settings.socket_path = Some(path.clone()),
        Which::ServerInfo => settings.server_info_path = Some(path.clone()),
    }
    let server = Server::new(service).settings(settings).bind()?;
    fs::remove_file(path)?;
    // It is not found later than at once, and whoever looks need not look on.
    drop(timeout(FOUND, server.serve_until(shutdown)).await);
    Ok(())
}
