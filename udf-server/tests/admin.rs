//! The admin endpoint of a server as people start it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A server process; killed when the test is over.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_start_block_says_where_it_answers() {
    let directory = TempDir::new().unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_udf-server"))
        .args(["map", "cat", "--slow-after", "1m", "--socket"])
        .arg(directory.path().join("s"))
        .arg("--server-info")
        .arg(directory.path().join("i"))
        .env("UDF_ADMIN", "0")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server(process);
    let log = BufReader::new(server.0.stderr.take().unwrap());
    let addresses = log.lines().map_while(Result::ok).find_map(|line| {
        let address = line.split_once("http://")?.1.split_once(' ')?.0.to_owned();
        line.contains("admin").then_some(address)
    });
    let mut stream = TcpStream::connect(addresses.unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("kind=\"unary-map\"} 1"), "{page}");
}
