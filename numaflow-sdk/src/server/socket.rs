//! The listening socket and the info file: made in `bind`, removed by the guard that `bind` returns.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::info;
use crate::ServeError;
use crate::kind::Kind;

/// `sun_path` has 108 bytes and ends with a zero.
const PATH_LIMIT: usize = 107;

/// Removes the socket and the info file, once: by [`Files::remove`] or when dropped. Files that another process has put
/// in their place since are left alone.
#[derive(Debug)]
pub(crate) struct Files {
    made: Mutex<Vec<(PathBuf, Identity)>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Inodes are used again at once: a successor's file may well have the number of ours.
    modified: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), modified })
    }
}

impl Files {
    fn add(&self, path: &Path) -> io::Result<()> {
        let identity = Identity::of(path)?;
        if let Ok(mut made) = self.made.lock() {
            made.push((path.to_owned(), identity));
        }
        Ok(())
    }

    /// Removes what was made, the info file first: it must never be there without a listening socket behind it.
    pub(crate) fn remove(&self) {
        let Ok(mut made) = self.made.lock() else { return };
        while let Some((path, identity)) = made.pop() {
            if Identity::of(&path).is_ok_and(|now| now == identity)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "the file cannot be removed");
            }
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes the socket, listening, and then the info file. On an error, nothing that was made stays.
pub(crate) fn bind(
    socket: &Path,
    server_info: &Path,
    mode: u32,
    kind: Kind,
) -> Result<(UnixListener, Files), ServeError> {
    if socket.as_os_str().len() > PATH_LIMIT {
        return Err(ServeError::SocketPathTooLong { path: socket.to_owned(), limit: PATH_LIMIT });
    }
    if socket == server_info {
        let problem = format!("{} is the socket's path too: give them different ones", socket.display());
        return Err(ServeError::Option { name: "server_info_path", problem });
    }
    let mut directories = Vec::new();
    let result = make_directory(socket, &mut directories)
        .and_then(|()| make_directory(server_info, &mut directories))
        .and_then(|()| make_files(socket, server_info, mode, kind));
    if result.is_err() {
        for directory in directories.iter().rev() {
            // Best effort, and only while it is empty: the error that matters is the one above.
            drop(std::fs::remove_dir(directory));
        }
    }
    result
}

fn make_files(socket: &Path, server_info: &Path, mode: u32, kind: Kind) -> Result<(UnixListener, Files), ServeError> {
    refuse_what_is_not_stale(socket)?;
    let info_error = |source| ServeError::PublishInfo { path: server_info.to_owned(), source };
    if !info::is_replaceable(server_info).map_err(info_error)? {
        return Err(ServeError::NotServerInfo { path: server_info.to_owned() });
    }
    // A stale info file goes before its socket does, for the same reason that the new one comes after.
    remove_stale(server_info).map_err(info_error)?;
    let bind_error = |source| ServeError::Bind { path: socket.to_owned(), source };
    remove_stale(socket).map_err(bind_error)?;

    let files = Files { made: Mutex::new(Vec::new()) };
    let listener = UnixListener::bind(socket).map_err(bind_error)?;
    files.add(socket).map_err(bind_error)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode)).map_err(bind_error)?;
    listener.set_nonblocking(true).map_err(bind_error)?;

    info::publish(server_info, kind).map_err(info_error)?;
    files.add(server_info).map_err(info_error)?;
    Ok((listener, files))
}

/// Makes the folder that `file` is to be in, and notes those that were not there, the outermost first.
fn make_directory(file: &Path, made: &mut Vec<PathBuf>) -> Result<(), ServeError> {
    let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    let missing: Vec<&Path> =
        directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    let result = std::fs::create_dir_all(directory);
    made.extend(missing.into_iter().rev().map(Path::to_owned));
    result.map_err(|source| ServeError::Directory { path: directory.to_owned(), source })
}

/// A socket that nobody answers on was left by a process that is gone; anything else is somebody's.
fn refuse_what_is_not_stale(socket: &Path) -> Result<(), ServeError> {
    let Ok(metadata) = std::fs::symlink_metadata(socket) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(ServeError::NotASocket { path: socket.to_owned() });
    }
    match UnixStream::connect(socket) {
        Ok(_) => Err(ServeError::SocketInUse { path: socket.to_owned() }),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        // Somebody's all the same: a socket that we may not connect to, for one.
        Err(source) => Err(ServeError::Bind { path: socket.to_owned(), source }),
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
