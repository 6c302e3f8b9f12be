//! The socket and the info file: made in the right order, taken over from the dead, left alone when they are others'.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use numaflow_sdk::testing::ServerInfo;
use numaflow_sdk::{Kind, MapMode, MapRequest, ServeError, Server, map};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::support::left_in;

fn server(directory: &Path) -> Server<map::MapService> {
    Server::new(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message()))))
        .socket_path(directory.join("s"))
        .server_info_path(directory.join("i"))
}

#[tokio::test]
async fn bound_means_listening_and_published() {
    let directory = TempDir::new().unwrap();
    let bound = server(directory.path()).max_in_flight(64).bind().unwrap();
    UnixStream::connect(directory.path().join("s")).unwrap();
    assert_eq!(ServerInfo::read(directory.path().join("i")).unwrap().map_mode(), MapMode::Unary);
    assert_eq!(bound.describe().kind, Kind::Map(MapMode::Unary));
    let block = bound.describe().to_string();
    assert!(block.starts_with("map (unary-map) on "), "{block}");
    assert!(block.contains("at most 64 messages (set)"), "{block}");
    assert!(block.contains("at most 25s (default)"), "{block}");
    let mode = std::fs::metadata(directory.path().join("s")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    let mut left = left_in(&directory);
    left.sort();
    assert_eq!(left, ["i", "s"], "no temporary file stays");
    drop(bound);
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn missing_folders_are_made() {
    let directory = TempDir::new().unwrap();
    drop(server(&directory.path().join("a/b")).bind().unwrap());
}

#[tokio::test]
async fn what_a_dead_process_left_is_replaced() {
    let directory = TempDir::new().unwrap();
    drop(UnixListener::bind(directory.path().join("s")).unwrap());
    std::fs::write(directory.path().join("i"), "{}U+005C__END__").unwrap();
    let _bound = server(directory.path()).bind().unwrap();
    UnixStream::connect(directory.path().join("s")).unwrap();
    ServerInfo::read(directory.path().join("i")).unwrap();
}

#[tokio::test]
async fn a_plain_file_at_the_socket_path_is_left_alone() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("s"), "precious").unwrap();
    let error = server(directory.path()).bind().unwrap_err();
    assert!(matches!(error, ServeError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read(directory.path().join("s")).unwrap(), b"precious");
    assert_eq!(left_in(&directory), ["s"]);
}

#[tokio::test]
async fn a_plain_file_at_the_info_files_path_is_left_alone() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("i"), "precious").unwrap();
    let error = server(directory.path()).bind().unwrap_err();
    assert!(matches!(error, ServeError::NotServerInfo { .. }) && error.is_configuration(), "{error}");
    assert_eq!(std::fs::read(directory.path().join("i")).unwrap(), b"precious");
    assert_eq!(left_in(&directory), ["i"]);
    // Under the name that these files have it is one, however broken: a volume outlives its containers.
    std::fs::write(directory.path().join("mapper-server-info"), "{").unwrap();
    drop(server(directory.path()).server_info_path(directory.path().join("mapper-server-info")).bind().unwrap());
}

#[tokio::test]
async fn one_path_for_both_files_is_refused() {
    let directory = TempDir::new().unwrap();
    let error = server(directory.path()).server_info_path(directory.path().join("s")).bind().unwrap_err();
    assert!(matches!(error, ServeError::Option { name: "server_info_path", .. }), "{error}");
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let _first = server(directory.path()).bind().unwrap();
    let error = server(directory.path()).bind().unwrap_err();
    assert!(matches!(error, ServeError::SocketInUse { .. }), "{error}");
    UnixStream::connect(directory.path().join("s")).unwrap();
    ServerInfo::read(directory.path().join("i")).unwrap();
}

#[tokio::test]
async fn a_failed_bind_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let error =
        server(&directory.path().join("new")).server_info_path(directory.path().join("file/i")).bind().unwrap_err();
    assert!(matches!(error, ServeError::Directory { .. }), "{error}");
    assert!(error.is_configuration());
    assert_eq!(left_in(&directory), ["file"]);
    // The info file's path is a folder.
    let error = server(directory.path()).server_info_path(directory.path()).bind().unwrap_err();
    assert!(matches!(error, ServeError::NotServerInfo { .. }), "{error}");
    assert_eq!(left_in(&directory), ["file"]);
}

#[tokio::test]
async fn a_path_beyond_the_systems_limit_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let error = server(&directory.path().join("x".repeat(107))).bind().unwrap_err();
    assert!(matches!(error, ServeError::SocketPathTooLong { limit: 107, .. }), "{error}");
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn files_that_a_successor_made_are_not_removed() {
    let directory = TempDir::new().unwrap();
    let bound = server(directory.path()).bind().unwrap();
    std::fs::remove_file(directory.path().join("i")).unwrap();
    std::fs::write(directory.path().join("i"), "the successor's").unwrap();
    drop(bound);
    assert_eq!(left_in(&directory), ["i"]);
}

/// The containers of a pod share the folder: a link that one of them puts there must not have another file overwritten.
#[tokio::test]
async fn no_link_is_followed() {
    let directory = TempDir::new().unwrap();
    let precious = directory.path().join("precious");
    std::fs::write(&precious, "precious").unwrap();
    std::fs::set_permissions(&precious, std::fs::Permissions::from_mode(0o600)).unwrap();
    let links = ["mapper-server-info".to_owned(), format!("mapper-server-info.{}.tmp", std::process::id())];
    for link in &links {
        std::os::unix::fs::symlink(&precious, directory.path().join(link)).unwrap();
    }
    let info = directory.path().join(&links[0]);
    let bound = server(directory.path()).server_info_path(&info).bind().unwrap();
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    assert_eq!(std::fs::metadata(&precious).unwrap().permissions().mode() & 0o777, 0o600);
    // The link itself was replaced.
    assert!(std::fs::symlink_metadata(&info).unwrap().is_file());
    assert_eq!(std::fs::metadata(&info).unwrap().permissions().mode() & 0o777, 0o644);
    ServerInfo::read(&info).unwrap();
    drop(bound);
    let mut left = left_in(&directory);
    left.sort();
    assert_eq!(left, [links[1].as_str(), "precious"]);
}

#[tokio::test]
async fn what_would_be_waited_for_is_refused() {
    // A FIFO without a writer, at the info file's path.
    let directory = TempDir::new().unwrap();
    let info = directory.path().join("i");
    assert!(Command::new("mkfifo").arg(&info).status().unwrap().success());
    let error = server(directory.path()).bind().unwrap_err();
    assert!(matches!(error, ServeError::NotServerInfo { .. }), "{error}");
    assert!(std::fs::symlink_metadata(&info).unwrap().file_type().is_fifo());

    // A device without an end.
    std::fs::remove_file(&info).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &info).unwrap();
    let error = server(directory.path()).bind().unwrap_err();
    assert!(matches!(error, ServeError::NotServerInfo { .. }), "{error}");

    // A listener that accepts nothing, with as many connections waiting as may wait.
    std::fs::remove_file(&info).unwrap();
    let address = SockAddr::unix(directory.path().join("s")).unwrap();
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&address).unwrap();
    listener.listen(1).unwrap();
    let mut waiting = Vec::new();
    loop {
        let stream = socket();
        stream.set_nonblocking(true).unwrap();
        match stream.connect(&address) {
            Ok(()) => waiting.push(stream),
            Err(full) => break assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    let error = server(directory.path()).bind().unwrap_err();
    assert!(matches!(error, ServeError::SocketInUse { .. }), "{error}");
}
