//! The socket and the info file: made in the right order, taken over from the dead, left alone when they are others'.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use numaflow_sdk::testing::ServerInfo;
use numaflow_sdk::{Kind, MapMode, MapRequest, ServeError, Server, map};
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
