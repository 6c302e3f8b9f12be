//! What is answered on which path.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::time::Instant;

use super::{Observed, host, recorder};
use crate::additions::{AdminPage, PATHS};
use crate::in_flight::Listed;
use crate::metrics::page;
use crate::panic;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// How many messages `/inflight` lists unless it is told otherwise: what a person can look through, in some 100 KiB.
const DEFAULT_LISTED: usize = 1000;

pub(super) type Page = Response<Full<Bytes>>;

pub(super) fn answer<B>(observed: &Observed, request: &Request<B>, now: Instant) -> Page {
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let (path, query) = (request.uri().path(), request.uri().query());
    // Probes and Prometheus may call the server by any name; what they get has no contents of messages.
    if !["/metrics", "/livez", "/readyz"].contains(&path)
        && let Some(name) = host::foreign(request)
    {
        let reason = format!(
            "this server is not known as {name:?}: ask it by an IP address, as localhost, or by a name of the cluster, such as \
             map.namespace.svc\n"
        );
        return page(StatusCode::MISDIRECTED_REQUEST, TEXT, reason);
    }
    // Much of this asks the program.
    let answered = panic::catching(|| match path {
        "/metrics" => metrics(observed, now),
        "/livez" => livez(observed, now),
        "/readyz" => readyz(observed),
        "/inflight" => in_flight(observed, query, now),
        path => observed.context.additions.page(path).map_or_else(|| not_found(observed), added),
    });
    answered.unwrap_or_else(|panic| {
        crate::logging::error!(%panic, path, "a page of the admin endpoint panicked");
        page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "what was to answer this has panicked: see the log\n")
    })
}

fn not_found(observed: &Observed) -> Page {
    let paths: Vec<_> = PATHS.into_iter().chain(observed.context.additions.paths()).collect();
    page(StatusCode::NOT_FOUND, TEXT, format!("there are {}\n", paths.join(" ")))
}

fn added(AdminPage { content_type, body }: AdminPage) -> Page {
    page(StatusCode::OK, content_type, body)
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

fn metrics(observed: &Observed, now: Instant) -> Page {
    let context = &observed.context;
    let gauges = page::Gauges {
        started: observed.started,
        in_flight: context.in_flight.summary(now),
        limits: context.limits.usage(),
        open_connections: context.drain.open_connections(),
        open_streams: context.drain.open_streams(),
    };
    let own = page::render(observed.kind, &context.metrics, &gauges);
    let text = [own.as_str(), context.additions.metrics().as_str(), &recorder::render()].concat();
    page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// A failure here gets the container restarted, so only that counts which a restart mends.
fn livez(observed: &Observed, now: Instant) -> Page {
    match observed.pulse.lost_for(now) {
        None => page(StatusCode::OK, TEXT, "alive\n"),
        Some(silence) => {
            let seconds = silence.as_secs();
            let reason = format!("the runtime has run no task for {seconds} s: handlers block its threads\n");
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason)
        }
    }
}

fn readyz(observed: &Observed) -> Page {
    match not_ready(observed) {
        None => page(StatusCode::OK, TEXT, "ready\n"),
        Some(reason) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
    }
}

fn not_ready(observed: &Observed) -> Option<String> {
    if observed.context.drain.draining().has_started() {
        Some("draining".to_owned())
    } else if observed.serving.load(Ordering::Relaxed) {
        observed.context.additions.not_ready()
    } else {
        Some("not serving yet".to_owned())
    }
}

fn in_flight(observed: &Observed, query: Option<&str>, now: Instant) -> Page {
    let limit = query.unwrap_or_default().split('&').find_map(|parameter| parameter.strip_prefix("limit="));
    let Ok(limit) = limit.map_or(Ok(DEFAULT_LISTED), str::parse) else {
        return page(StatusCode::BAD_REQUEST, TEXT, "limit must be a whole number\n");
    };
    let listed = observed.context.in_flight.list(now);
    let messages: Vec<_> = listed.iter().take(limit).map(message).collect();
    let body = json!({
        "count": listed.len(),
        "bytes": listed.iter().map(|message| message.bytes).sum::<usize>(),
        "oldest_age_seconds": listed.first().map(|oldest| oldest.age.as_secs_f64()),
        "messages": messages,
    });
    page(StatusCode::OK, JSON, format!("{body:#}\n"))
}

fn message(message: &Listed) -> serde_json::Value {
    json!({
        "sequence": message.sequence,
        "id": message.id,
        "stage": message.stage.name(),
        "waits_for": message.waits_for(),
        "age_seconds": message.age.as_secs_f64(),
        "bytes": message.bytes,
    })
}
