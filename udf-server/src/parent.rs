//! A server that does not outlive the demo which started it, however that ends.

use rustix::process::getppid;

use crate::error::Failure;

/// Has the system stop this process, in order, when its parent ends. `parent` is the process that started this one: it
/// may have ended already, and then nobody would be told.
pub(crate) fn exit_with(parent: i32) -> Result<(), Failure> {
    // Other systems know no such signal.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(|error| Failure::Run(format!("the end of process {parent} cannot be noticed: {error}")))?;
    if getppid().is_some_and(|now| now.as_raw_nonzero().get() == parent) {
        Ok(())
    } else {
        Err(Failure::Run(format!("process {parent}, which started this one, has ended")))
    }
}
