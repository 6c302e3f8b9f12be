//! The broker's process, which ends when we do.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often a process is looked at while something is expected of it.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// The shell becomes the command, after it has left a guard behind that reads a pipe of ours. A line says that the command
/// is taken care of. The end of the pipe without one says that we are gone, whatever has ended us; then the guard kills
/// the command, which works also on one that is stopped, and removes its folder.
const GUARDED: &str = r#"
folder=$1; shift
exec 3<&0
(if read -r _ <&3; then exit; fi; kill -9 $$; rm -rf "$folder") 2>/dev/null &
exec "$@" <&- >&2 3<&-
"#;

/// A process that does not outlive this one.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Option<(ChildStdin, ChildStdout)>,
}

impl Process {
    /// Runs `command` in `folder`; what it prints goes to `log`.
    pub(crate) fn spawn(command: &[String], folder: &Path, log: File) -> io::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", GUARDED, "sh"])
            .arg(folder)
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let guard = child.stdin.take().zip(child.stdout.take());
        Ok(Self { child, guard })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends a signal. It can't reach another process: until its end is asked for, the number stays taken.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Asks it to end, and kills it if it hasn't after `patience`.
    pub(crate) fn stop(mut self, patience: Duration) -> io::Result<()> {
        if self.ended()?.is_none() {
            self.signal(Signal::TERM)?;
            // One that is stopped would hear of it only then.
            self.signal(Signal::CONT)?;
            let deadline = Instant::now() + patience;
            while self.ended()?.is_none() && Instant::now() < deadline {
                thread::sleep(LOOK);
            }
        }
        self.kill()
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        if let Some((mut word, mut end)) = self.guard.take() {
            // The guard may have been killed too. It is to be gone before the number of the process is free again.
            _ = word.write_all(b"\n");
            drop(word);
            _ = end.read_to_end(&mut Vec::new());
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nobody to tell, and the guard is a second try.
        _ = self.kill();
    }
}
