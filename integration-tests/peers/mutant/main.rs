//! Servers with one fault each, to see that the suite catches it: the contract's server of `../ours`, and around it what
//! makes the fault. numaflow-sdk itself knows nothing of that.
//!
//! `mutant FAULT` serves with that fault, `mutant --list` prints all faults as JSON.

#[path = "../contract/mod.rs"]
mod contract;
mod edits;
mod fault;
mod faults;
#[path = "../ours/map.rs"]
mod map;
mod one_at_a_time;
#[path = "../../../numaflow-sdk/src/pb/mod.rs"]
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic, reason = "generated code")]
mod pb;
mod relay;
mod serve;
#[path = "../ours/source.rs"]
mod source;

use std::env;
use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use numaflow_conformance::Kind;
use numaflow_sdk::map::{batch_service, service as map_service, stream_service};
use numaflow_sdk::source::service as source_service;

use fault::{Fault, How};
use one_at_a_time::OneAtATime;
use serve::serve;

/// What ends a server that does not come to serve.
type Problem = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let name = env::args().nth(1).unwrap_or_default();
    let fault = faults::all().find(|fault| fault.name == name);
    let done = match (&*name, fault, contract::kind().parse()) {
        ("--list", ..) => list(),
        (name, None, _) => Err(format!("there is no fault {name:?}: see --list").into()),
        (_, Some(_), Err(_)) => return contract::no_such_kind(&contract::kind()),
        (_, Some(fault), Ok(kind)) => run(fault, kind),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Where nobody can read it, the status says it all the same.
            drop(writeln!(stderr(), "mutant {name}: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), Problem> {
    let faults: Vec<&Fault> = faults::all().collect();
    writeln!(stdout(), "{}", serde_json::to_string(&faults)?)?;
    Ok(())
}

fn run(fault: &Fault, kind: Kind) -> Result<(), Problem> {
    let (map, source) = (map::Contract::default(), source::Contract::default());
    match (kind, fault.how) {
        (Kind::UnaryMap, How::OneAtATime) => serve(fault, kind, map_service(OneAtATime::new(map))),
        (Kind::BatchMap, How::OneAtATime) => serve(fault, kind, batch_service(OneAtATime::new(map))),
        (Kind::StreamMap, How::OneAtATime) => serve(fault, kind, stream_service(OneAtATime::new(map))),
        (Kind::UnaryMap, _) | (_, How::RelayToUnary(_)) => serve(fault, kind, map_service(map)),
        (Kind::BatchMap, _) => serve(fault, kind, batch_service(map)),
        (Kind::StreamMap, _) => serve(fault, kind, stream_service(map)),
        (Kind::Source, _) if contract::defaults() => serve(fault, kind, source_service(source::Silent(source))),
        (Kind::Source, _) => serve(fault, kind, source_service(source)),
        (kind, _) => Err(format!("there is no server of the kind {kind} here").into()),
    }
}
