//! By which names a server may be called.
//!
//! A browser lets a page of any site ask whatever address the site's name leads to, and show the answer to the page. A site
//! that leads its own name to this endpoint (DNS rebinding) could so read what is in flight with the browser of somebody
//! who can reach it. Its name would be in the header `Host`, and no such name can be accepted here: addresses, and names
//! that nobody can register.

use std::net::IpAddr;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Request};

/// Ends of names that are not in the public DNS: of this host (RFC 6761), of clusters (`svc` and, in full,
/// `svc.cluster.local`), of local networks (RFC 6762), of private ones (`internal`, which ICANN has reserved).
const PRIVATE: [&str; 4] = [".localhost", ".svc", ".local", ".internal"];

/// The name by which a request calls the server, if it is one that a site on the internet could have.
pub(super) fn foreign<B>(request: &Request<B>) -> Option<String> {
    let named = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        // Browsers always send it.
        None => match request.headers().get(HOST).map(HeaderValue::to_str) {
            None => return None,
            Some(Ok(host)) => host,
            Some(Err(_)) => return Some("a name that is not ASCII".to_owned()),
        },
    };
    (!is_ours(named)).then(|| named.to_owned())
}

fn is_ours(named: &str) -> bool {
    let Ok(authority) = named.parse::<Authority>() else { return false };
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    // One without a dot is looked up in the pod's own domains only.
    !name.is_empty() && (!name.contains('.') || PRIVATE.iter().any(|end| name.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_private_names_are_ours() {
        for name in [
            "127.0.0.1",
            "10.0.0.7:9090",
            "[::1]",
            "[fd00::7]:9090",
            "localhost",
            "LocalHost:80",
            "localhost.",
            "udf-0:9090",
            "x.localhost",
            "map.default.svc",
            "map.default.svc.cluster.local:9090",
            "printer.local",
            "node-1.c.x.internal",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "",
            ":9090",
            ".",
            "example.com",
            "127.0.0.1.example.com",
            "localhost.example.com:80",
            "svc.example",
            "a b",
            "%6c",
            "[::1",
            "1.2.3",
            "x.svc.example.com.",
            "local.example.",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn a_request_without_a_host_comes_from_no_browser() {
        assert_eq!(foreign(&Request::new(())), None);
        let request = |uri: &str, host: &[u8]| Request::get(uri).header(HOST, host).body(()).unwrap();
        assert_eq!(foreign(&request("/inflight", b"evil.example")).as_deref(), Some("evil.example"));
        assert_eq!(foreign(&request("http://evil.example/inflight", b"localhost")).as_deref(), Some("evil.example"));
        assert_eq!(foreign(&request("/inflight", b"localhost")), None);
        assert!(foreign(&request("/inflight", b"\xff")).is_some());
    }
}
