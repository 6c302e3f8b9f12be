//! The listening socket and the info file: made in `bind`, removed by the guard that `bind` returns.

use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use socket2::{Domain, SockAddr, Socket, Type};

use super::info;
use crate::ServeError;
use crate::kind::Kind;

/// `sun_path` has 108 bytes and ends with a zero.
const PATH_LIMIT: usize = 107;

/// Says whether the system allows a socket to have this path, as the start of a server does.
///
/// # Errors
///
/// [`ServeError::SocketPathTooLong`] above 107 bytes (`unix(7)`: `sun_path`).
pub fn check_path(socket: &Path) -> Result<(), ServeError> {
    if socket.as_os_str().len() > PATH_LIMIT {
        return Err(ServeError::SocketPathTooLong { path: socket.to_owned(), limit: PATH_LIMIT });
    }
    Ok(())
}

/// The socket and the info file. Removes them, once: by [`Files::remove`] or when dropped. Files that another process has
/// put in their place since are left alone.
#[derive(Debug, Default)]
pub(crate) struct Files {
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    files: Vec<(PathBuf, Identity)>,
    /// The files were removed, and none is made any more.
    removed: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Inodes are used again at once: a successor's file may well have the number of ours.
    modified: (i64, i64),
}

impl Identity {
    fn new(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), modified }
    }

    fn of(path: &Path) -> io::Result<Self> {
        std::fs::symlink_metadata(path).map(|metadata| Self::new(&metadata))
    }
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, Made> {
        // Nothing panics while it holds the lock.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file at `path` and notes it. The lock is held meanwhile, so that [`Files::remove`], which another thread
    /// may call at any time, finds every file that was made.
    fn make<T>(&self, path: &Path, make: impl FnOnce() -> io::Result<(T, Identity)>) -> io::Result<T> {
        let mut made = self.lock();
        if made.removed {
            return Err(io::Error::new(
                io::ErrorKind::Interrupted,
                "the server was told to stop before it had started",
            ));
        }
        let (value, identity) = make()?;
        made.files.push((path.to_owned(), identity));
        Ok(value)
    }

    /// Removes the files that were made, the info file first: it must never be there without a listening socket behind it.
    /// No file is made after that.
    pub(crate) fn remove(&self) {
        let mut made = self.lock();
        made.removed = true;
        while let Some((path, identity)) = made.files.pop() {
            if Identity::of(&path).is_ok_and(|now| now == identity)
                && let Err(error) = std::fs::remove_file(&path)
            {
                crate::logging::warn!(path = %path.display(), %error, "the file cannot be removed");
            }
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes the socket, listening, and then the info file, and notes them in `files`. On an error, nothing that was made stays.
pub(crate) fn bind(
    socket: &Path,
    server_info: &Path,
    mode: u32,
    kind: Kind,
    files: &Files,
) -> Result<UnixListener, ServeError> {
    check_path(socket)?;
    if socket == server_info {
        let problem = format!("{} is the socket's path too: give them different ones", socket.display());
        return Err(ServeError::Option { name: "server_info_path", problem });
    }
    let mut directories = Vec::new();
    let result = make_directory(socket, &mut directories)
        .and_then(|()| make_directory(server_info, &mut directories))
        .and_then(|()| make_files(socket, server_info, mode, kind, files));
    if result.is_err() {
        files.remove();
        for directory in directories.iter().rev() {
            // Best effort, and only while it is empty: the error that matters is the one above.
            drop(std::fs::remove_dir(directory));
        }
    }
    result
}

fn make_files(
    socket: &Path,
    server_info: &Path,
    mode: u32,
    kind: Kind,
    files: &Files,
) -> Result<UnixListener, ServeError> {
    refuse_what_is_not_stale(socket)?;
    let info_error = |source| ServeError::PublishInfo { path: server_info.to_owned(), source };
    if !info::is_replaceable(server_info).map_err(info_error)? {
        return Err(ServeError::NotServerInfo { path: server_info.to_owned() });
    }
    // A stale info file goes before its socket does, for the same reason that the new one comes after.
    remove_stale(server_info).map_err(info_error)?;
    let bind_error = |source| ServeError::Bind { path: socket.to_owned(), source };
    remove_stale(socket).map_err(bind_error)?;

    let listen = || {
        let listener = UnixListener::bind(socket)?;
        Ok((listener, Identity::of(socket)?))
    };
    let listener = files.make(socket, listen).map_err(bind_error)?;
    set_mode(socket, mode).map_err(bind_error)?;
    listener.set_nonblocking(true).map_err(bind_error)?;

    let publish = || {
        let file = info::publish(server_info, kind)?;
        Ok(((), Identity::new(&file.metadata()?)))
    };
    files.make(server_info, publish).map_err(info_error)?;
    Ok(listener)
}

/// Sets the permissions of the socket, and of nothing that was put in its place: `chmod` follows symbolic links.
#[cfg(target_os = "linux")]
fn set_mode(socket: &Path, mode: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

    let handle = openat(CWD, socket, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&handle)?.st_mode) != FileType::Socket {
        return Err(io::Error::other("something else was put in its place while it was made"));
    }
    // The one way to change the permissions of a file that was opened as a place only.
    std::fs::set_permissions(format!("/proc/self/fd/{}", handle.as_raw_fd()), Permissions::from_mode(mode))
}

#[cfg(not(target_os = "linux"))]
fn set_mode(socket: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(socket, Permissions::from_mode(mode))
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
    match dial(socket) {
        Ok(()) => Err(ServeError::SocketInUse { path: socket.to_owned() }),
        // Somebody listens, and accepts nothing of what waits there.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ServeError::SocketInUse { path: socket.to_owned() })
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        // Somebody's all the same: a socket that we may not connect to, for one.
        Err(source) => Err(ServeError::Bind { path: socket.to_owned(), source }),
    }
}

/// Connects without waiting: the listener may have as many connections waiting to be accepted as it can, for ever.
fn dial(socket: &Path) -> io::Result<()> {
    let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    stream.set_nonblocking(true)?;
    stream.connect(&SockAddr::unix(socket)?)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
