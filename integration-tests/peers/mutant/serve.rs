//! A server from its start to its end, with the faults that are of the process.

use std::env;
use std::future::{Future, pending};
use std::path::PathBuf;
use std::time::Duration;

use numaflow_conformance::Kind;
use numaflow_sdk::{ProcessEnvironment, Server, Service, Settings};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::Problem;
use crate::fault::{Fault, How, Paths, Sigterm, Which};
use crate::relay::Relay;

/// Serves until SIGTERM.
pub(crate) fn serve(fault: &Fault, kind: Kind, service: impl Service) -> Result<(), Problem> {
    let told = |variable| env::var_os(variable).map(PathBuf::from);
    let mut settings = Settings::from_environment(&ProcessEnvironment)?;
    settings.socket_path = told("CONFORMANCE_SOCKET").or(settings.socket_path);
    settings.server_info_path = told("CONFORMANCE_SERVER_INFO").or(settings.server_info_path);
    Runtime::new()?.block_on(async {
        let sigterm = match fault.how {
            How::Sigterm(sigterm) => sigterm,
            _ => Sigterm::Drain,
        };
        // Before anybody can know that there is a server.
        let shutdown = shutdown(sigterm)?;
        match fault.how {
            How::Elsewhere(which) => elsewhere(which, service, settings, shutdown).await,
            how => at_its_paths(kind, how, sigterm, service, settings, shutdown).await,
        }
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

/// Serves where the suite looks for the server.
async fn at_its_paths(
    kind: Kind,
    how: How,
    sigterm: Sigterm,
    service: impl Service,
    mut settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Problem> {
    let (Some(socket), Some(server_info)) = (settings.socket_path.clone(), settings.server_info_path.clone()) else {
        // The platform's: what is changed is for other cases.
        if !matches!(how, How::Unmutated) {
            return Err("this fault needs paths of its own".into());
        }
        Server::new(service).settings(settings).bind()?.serve_until(shutdown).await?;
        return Ok(());
    };
    let paths = Paths { socket, server_info };
    let mut relay = None;
    match how {
        How::BeforeStart(act) => act(&paths)?,
        How::Settings(change) => change(&mut settings),
        How::ServerInfo(_) => settings.server_info_path = Some(paths.beside("true-server-info")),
        How::Relay(edits) | How::RelayToUnary(edits) => {
            let behind = paths.beside("behind.sock");
            settings.socket_path = Some(behind.clone());
            relay = Some(Relay::bind(kind, &paths.socket, behind, paths.beside("memory"), edits)?);
        }
        How::Unmutated | How::OneAtATime | How::Elsewhere(_) | How::Sigterm(_) => {}
    }
    let server = Server::new(service).settings(settings).bind()?;
    if let How::ServerInfo(content) = how {
        let truth = std::fs::read_to_string(paths.beside("true-server-info"))?;
        let info = serde_json::from_str(truth.trim_end_matches(END_MARKER))?;
        std::fs::write(paths.beside("new"), content(info))?;
        std::fs::rename(paths.beside("new"), &paths.server_info)?;
    }
    match relay {
        Some(relay) => {
            tokio::select! {
                drained = server.serve_until(shutdown) => drop(drained?),
                error = relay.serve() => return Err(error.into()),
            }
            std::fs::remove_file(&paths.socket)?;
        }
        None => drop(server.serve_until(shutdown).await?),
    }
    if sigterm == Sigterm::LeaveFiles {
        for path in [&paths.socket, &paths.server_info] {
            std::fs::write(path, "left")?;
        }
    }
    Ok(())
}

/// What a complete server-info file ends with.
pub(crate) const END_MARKER: &str = "U+005C__END__";

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
    std::fs::remove_file(path)?;
    // It is not found later than at once, and whoever looks need not look on.
    drop(timeout(FOUND, server.serve_until(shutdown)).await);
    Ok(())
}
