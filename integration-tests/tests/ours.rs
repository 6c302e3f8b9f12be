//! The suite against servers made with numaflow-sdk: one test a case and kind, each with a server of its own.
//!
//! Tests have the ids of their cases; a case for several kinds of server is one test for each.

use std::panic;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use numaflow_conformance::{Case, Kind, Subject, Target, Unproven, cases};
use numaflow_sdk::{Server, Service, map, source};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

mod subject;

fn main() -> ExitCode {
    keep_quiet_about_panics_asked_for();
    let mut trials = Vec::new();
    for case in cases::all().filter(|case| !case.needs_a_command()) {
        for kind in Kind::ALL.iter().copied().filter(|kind| case.applies_to(*kind)) {
            trials.push(Trial::test(case.id, move || run(case, kind)).with_kind(kind.to_string()));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Reports panics as before, except for those that a case asks a handler for.
fn keep_quiet_about_panics_asked_for() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.starts_with("the suite asked for this")) {
            report(info);
        }
    }));
}

fn run(case: &'static Case, kind: Kind) -> Result<(), Failed> {
    Runtime::new()?.block_on(async {
        match kind {
            Kind::UnaryMap => against(case, kind, map::service(subject::map::Contract::default())).await,
            Kind::BatchMap => against(case, kind, map::batch_service(subject::map::Contract::default())).await,
            Kind::StreamMap => against(case, kind, map::stream_service(subject::map::Contract::default())).await,
            Kind::Source => against(case, kind, source::service(subject::source::Contract::default())).await,
            kind => Err(format!("no server of the kind {kind} to run against").into()),
        }
    })
}

/// Runs a case against a server on a socket, and stops the server, which must then have nothing left to do.
async fn against(case: &'static Case, kind: Kind, service: impl Service) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let target = Target::new(kind, directory.path().join("server.sock"), directory.path().join("server-info"));
    let server = Server::new(service)
        .socket_path(&target.socket)
        .server_info_path(&target.server_info)
        .drain_timeout(Duration::from_secs(5))
        .bind()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let play = async {
        let outcome = case.play(&Subject::Running(target.clone())).await.outcome;
        drop(stop);
        outcome
    };
    let (outcome, drained) = tokio::join!(play, server.serve_until(async { drop(stopped.await) }));
    if let Err(Unproven::NotRun(_)) = outcome {
        return Ok(());
    }
    outcome.map_err(|failure| format!("{} ({}): {}\n{failure}", case.level, case.section, case.sentence))?;
    let drained = drained?;
    if drained.abandoned_streams + drained.abandoned_connections > 0 {
        return Err(format!("the case left work behind: {drained:?}").into());
    }
    Ok(())
}
