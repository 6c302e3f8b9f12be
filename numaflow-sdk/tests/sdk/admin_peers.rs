//! Peers of the admin endpoint that keep others waiting, or that come by a name that is not the server's.

use std::time::Duration;

use numaflow_sdk::{AdminPage, MapRequest, Server, map};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::admin::{get, serve, status_of};
use crate::support::within;

/// Well below the time for which slow peers could keep their places.
const PROBE: Duration = Duration::from_secs(8);
const LONG: Duration = Duration::from_secs(120);

fn server() -> Server<map::MapService> {
    Server::new(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message()))))
}

#[tokio::test]
async fn slow_peers_keep_no_probe_waiting() {
    let (_directory, address, _client) = serve(server()).await;
    // Twice the places: some send nothing, some half a request, some ask and do not read.
    let mut slow = Vec::new();
    for index in 0..64 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let sent: &[u8] = match index % 3 {
            0 => b"",
            1 => b"GET /livez HTTP/1.1\r\nhost: loc",
            _ => b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n",
        };
        // It may have lost its place to a later one already.
        drop(stream.write_all(sent).await);
        slow.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(within(PROBE, get(address, "/livez")).await.status, 200);
    }
    // Those that send nothing are gone soon, also without others that want their places.
    for mut stream in slow {
        drop(within(LONG, stream.read_to_end(&mut Vec::new())).await);
    }
}

/// A page of a browser can have its own name lead to this address: then it could read what is in flight.
#[tokio::test]
async fn pages_with_contents_are_for_those_who_know_the_server() {
    let server = server().admin_page("/tables", || AdminPage::json("{}"));
    let (_directory, address, _client) = serve(server).await;
    let port = address.port();
    for host in [
        "127.0.0.1",
        "[::1]",
        "10.1.2.3:9090",
        "localhost",
        "udf-0",
        "LOCALHOST",
        "map.numaflow.svc.cluster.local",
        "m.n.svc",
    ] {
        for path in ["/inflight", "/tables", "/metrics", "/livez"] {
            assert_eq!(status_of(address, path, host).await, 200, "{host} {path}");
            assert_eq!(status_of(address, path, &format!("{}:{port}", host.trim_end_matches(":9090"))).await, 200);
        }
    }
    for host in ["attacker.example", "127.0.0.1.attacker.example", "localhost.attacker.example:9090", "svc.example", ""]
    {
        for path in ["/inflight", "/inflight?limit=1", "/tables"] {
            assert_eq!(status_of(address, path, host).await, 421, "{host} {path}");
        }
        // Monitoring may come by any name.
        for path in ["/metrics", "/livez", "/readyz"] {
            assert_eq!(status_of(address, path, host).await, 200, "{host} {path}");
        }
    }
}
