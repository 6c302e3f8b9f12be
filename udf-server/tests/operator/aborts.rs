//! What the client library cannot survive: the process says why it ends.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use tempfile::TempDir;

use crate::harness::{GROUP, TOPIC, run};

/// A peer that answers `ApiVersions` in the format of version 0, whatever version was asked for, and the address it listens
/// at. It serves until the tests end.
fn old_format() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A peer that only tries whether somebody listens asks nothing.
            drop(stream.and_then(answer));
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut request = vec![0; usize::try_from(u32::from_be_bytes(size)).unwrap()];
    stream.read_exact(&mut request)?;
    let [_, _, _, _, correlation @ ..] = &request[..8] else { unreachable!() };
    // Without an error: one API, itself, in the versions 0 to 3.
    let body = [correlation, &[0, 0], &[0, 0, 0, 1], &[0, 18, 0, 0, 0, 3]].concat();
    stream.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes())?;
    stream.write_all(&body)?;
    // Until the peer is gone.
    stream.read_exact(&mut size)
}

#[test]
fn a_process_that_the_client_library_aborts_says_why_in_its_last_line() {
    let (brokers, folder) = (old_format(), TempDir::new().unwrap());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let common = ["--brokers", &brokers, "--topics", TOPIC, "--group", GROUP];
    let (socket, info) = (path("s"), path("i"));
    for command in [&["check-config", "--connect"][..], &["kafka-source", "--socket", &socket, "--server-info", &info]]
    {
        let said = run(&[command, &common].concat(), &[]);
        assert_eq!(said.code, None, "it ends by a signal: {said:?}");
        assert!(said.err.contains("rd_malloc"), "the assertion that the documentation names: {said:?}");
        let last = said.err.lines().last().unwrap();
        assert!(last.starts_with("udf-server was aborted, mostly by an assertion of librdkafka"), "{said:?}");
    }
}
