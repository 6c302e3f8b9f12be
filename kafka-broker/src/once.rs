//! Files that are made once, for all processes and all packages of the workspace.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::StartError;

/// Has `make` make what belongs at `path`, unless it is `complete`. One process makes it, and others wait meanwhile.
///
/// `make` gets another path beside this one. What it makes there comes to its place as a whole or not at all.
pub(crate) fn make(
    path: &Path,
    complete: impl Fn(&Path) -> bool,
    make: impl FnOnce(&Path) -> Result<(), StartError>,
) -> Result<(), StartError> {
    if complete(path) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(StartError::system("a folder for what is made once"))?;
    // The lock goes with the process that holds it, so one that was killed blocks nobody.
    let lock = File::create(path.with_added_extension("lock")).map_err(StartError::system("a lock"))?;
    lock.lock().map_err(StartError::system("a lock"))?;
    if !complete(path) {
        let folder = tempfile::tempdir_in(parent).map_err(StartError::system("a folder for what is made once"))?;
        let made = folder.path().join("made");
        make(&made)?;
        fs::rename(&made, path).map_err(StartError::system("what was made in its place"))?;
    }
    Ok(())
}

/// Says why a test waits, where a test's output is not kept back until the test fails.
pub(crate) fn say(line: &str) {
    // Where nobody can read it, it need not be said.
    _ = writeln!(io::stderr(), "kafka-broker: {line}");
}
