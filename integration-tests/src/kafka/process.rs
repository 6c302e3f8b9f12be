//! Processes that do not outlive the run, however it ends, and also where they are stopped.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

/// How often a process is looked at while something is expected of it.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// A process of the run.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stopped: bool,
}

impl Process {
    /// Runs a command, whose output goes to the end of `log`.
    ///
    /// It is run through this very binary, which asks the system to be killed with its parent before it becomes the
    /// command. The system means the thread that started it, so that has to be one that lasts: the main thread.
    pub(super) fn start(command: Vec<OsString>, log: &Path) -> io::Result<Self> {
        let log = File::options().append(true).create(true).open(log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("with-parent")
            .arg(std::process::id().to_string())
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child, stopped: false })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to end.
    pub(super) fn terminate(&mut self) -> io::Result<()> {
        self.go_on()?;
        self.signal(Signal::TERM)
    }

    /// Stops it where it is.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.stopped = true;
        self.signal(Signal::STOP)
    }

    /// Lets it go on, if it is stopped.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.stopped) { self.signal(Signal::CONT) } else { Ok(()) }
    }

    /// Kills it and waits until it is gone.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nobody to tell, and the system kills it with us at the latest.
        _ = self.kill();
    }
}

/// Becomes a command that is killed when `parent`, which started this process, ends.
pub(super) fn become_with_parent(parent: u32, command: &[OsString]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else { return io::Error::other("there is no command") };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    if getppid().is_none_or(|now| now.as_raw_nonzero().get().unsigned_abs() != parent) {
        return io::Error::other("the parent has ended");
    }
    Command::new(program).args(arguments).exec()
}
