//! What those who operate a server can ask it, whatever its handlers do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use numaflow_sdk::map::{Execution, Retry};
use numaflow_sdk::source::{Batch, NackOffset, Offset, ReadRequest, Sourcer};
use numaflow_sdk::testing::{MapClient, SourceClient};
use numaflow_sdk::{
    AdminPage, Bound, HandlerError, MapRequest, Message, NackOptions, ServeError, Server, Service, map, source,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::raw::RawCall;
use crate::support::{left_in, within};

const LONG: Duration = Duration::from_secs(120);
pub(crate) const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// `MapRequest { handshake: Handshake { sot: true } }`.
const HANDSHAKE: &[u8] = &[0x1a, 0x02, 0x08, 0x01];

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    head: String,
    body: String,
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    ask_as(address, method, path, &address.to_string()).await
}

async fn ask_as(address: SocketAddr, method: &str, path: &str, host: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    loop {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // The server closes the connection.
        within(LONG, stream.read_to_string(&mut answer)).await.unwrap();
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            return Answer { status: head[9..12].parse().unwrap(), head: head.to_lowercase(), body: body.to_owned() };
        }
        // It gives a request two seconds to come, for which a busy machine may have held up this thread.
        assert!(begun.elapsed() >= Duration::from_secs(2), "{answer:?}");
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path).await
}

/// The status of a page for those who know the server by the name `host`.
pub(crate) async fn status_of(address: SocketAddr, path: &str, host: &str) -> u16 {
    ask_as(address, "GET", path, host).await.status
}

pub(crate) async fn in_flight(address: SocketAddr, query: &str) -> Value {
    let answer = get(address, &format!("/inflight{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// The value of a sample, by its name and labels as they stand on the page.
pub(crate) async fn metric(address: SocketAddr, sample: &str) -> f64 {
    let page = get(address, "/metrics").await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{sample} is missing from\n{page}")).parse().unwrap()
}

/// Asks until a sample has come to this value.
pub(crate) async fn until(address: SocketAddr, sample: &str, value: f64) {
    within(LONG, async { while metric(address, sample).await < value {} }).await;
}

fn cat() -> map::MapService {
    map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message())))
}

fn bind<S: Service>(server: Server<S>) -> (TempDir, Bound<S>, SocketAddr) {
    let directory = TempDir::new().unwrap();
    let bound = server
        .admin(ANY_PORT)
        .socket_path(directory.path().join("s"))
        .server_info_path(directory.path().join("i"))
        .bind()
        .unwrap();
    let address = bound.admin_address().unwrap();
    (directory, bound, address)
}

/// A server that is never told to stop, and its client.
pub(crate) async fn serve<S: Service>(server: Server<S>) -> (TempDir, SocketAddr, MapClient) {
    let (directory, bound, address) = bind(server);
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    drop(tokio::spawn(bound.serve_until(std::future::pending())));
    let client = MapClient::connect(directory.path().join("s")).await.unwrap();
    (directory, address, client)
}

#[tokio::test]
async fn every_outcome_has_its_counter() {
    let mapper = map::from_fn(async |request: MapRequest| match &request.value()[..] {
        b"drop" => Ok(vec![Message::to_drop()]),
        b"nack" => Ok(vec![Message::to_nack(NackOptions::new())]),
        b"none" => Ok(Vec::new()),
        b"fail" => Err(HandlerError::new("as asked")),
        b"panic" => panic!("as asked"),
        _ => Ok(vec![request.into_message(), Message::new("two")]),
    });
    let (directory, address, client) = serve(Server::new(map::service(mapper)).max_in_flight(7)).await;
    let mut stream = client.open().await.unwrap();
    for value in ["drop", "nack", "none", "x", "y"] {
        stream.map(MapRequest::new(value)).await.unwrap();
    }
    for value in ["fail", "panic"] {
        let mut stream = client.open().await.unwrap();
        stream.send("1", MapRequest::new(value)).await.unwrap();
        stream.recv().await.unwrap_err();
    }
    let socket = UnixStream::connect(directory.path().join("s")).await.unwrap();
    let malformed = RawCall::open(socket, "/map.v1.Map/MapFn").await;
    malformed.send(HANDSHAKE).await;
    malformed.send(&[0xff; 16]).await;
    malformed.finish().await;

    for (sample, value) in [
        ("messages_read_total", 8.0),
        ("messages_finished_total{outcome=\"answered\"}", 2.0),
        ("messages_finished_total{outcome=\"dropped\"}", 1.0),
        ("messages_finished_total{outcome=\"nacked\"}", 1.0),
        ("messages_finished_total{outcome=\"empty\"}", 1.0),
        ("messages_finished_total{outcome=\"failed_error\"}", 1.0),
        ("messages_finished_total{outcome=\"failed_panic\"}", 1.0),
        ("messages_finished_total{outcome=\"bad_frame\"}", 1.0),
        ("messages_finished_total{outcome=\"cancelled\"}", 0.0),
        ("handler_failures_total{failure=\"error\"}", 1.0),
        ("handler_failures_total{failure=\"panic\"}", 1.0),
        ("messages_sent_total", 6.0),
        ("handler_duration_seconds_count", 7.0),
        ("handler_duration_seconds_bucket{le=\"+Inf\"}", 7.0),
        ("in_flight_limit_messages", 7.0),
        ("in_flight_bytes", 0.0),
        ("connections_opened_total", 2.0),
        ("streams_opened_total", 4.0),
    ] {
        assert_eq!(metric(address, &format!("numaflow_udf_{sample}")).await, value, "{sample}");
    }
    let started = metric(address, "numaflow_udf_start_time_seconds").await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(started <= now && now - started < LONG.as_secs_f64(), "started at {started}, and now it is {now}");
    let page = get(address, "/metrics").await;
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{page:?}");
}

#[tokio::test]
async fn a_message_whose_peer_goes_away_is_cancelled() {
    let (started, mut starts) = mpsc::channel(1);
    let mapper = map::from_fn(move |_: MapRequest| {
        let started = started.clone();
        async move {
            started.send(()).await?;
            std::future::pending::<()>().await;
            Ok(Message::new(""))
        }
    });
    let (_directory, address, client) = serve(Server::new(map::service(mapper))).await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("x")).await.unwrap();
    starts.recv().await.unwrap();
    assert_eq!(metric(address, "numaflow_udf_in_flight_messages{stage=\"handler\"}").await, 1.0);
    drop(stream);
    until(address, "numaflow_udf_messages_finished_total{outcome=\"cancelled\"}", 1.0).await;
    assert_eq!(metric(address, "numaflow_udf_in_flight_messages{stage=\"handler\"}").await, 0.0);
}

/// Hands out what it is asked for.
struct Counting;

impl Sourcer for Counting {
    async fn read(&self, request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        for number in 0..request.count {
            let offset = Offset::new(number.to_string(), 0);
            batch.push(source::Message::new("value", offset, std::time::SystemTime::UNIX_EPOCH)).await?;
        }
        Ok(())
    }

    async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        Err("as asked".into())
    }
}

#[tokio::test]
async fn a_source_counts_what_is_asked_of_it() {
    let (directory, bound, address) = bind(Server::new(source::service(Counting)));
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    drop(tokio::spawn(bound.serve_until(std::future::pending())));
    let client = SourceClient::connect(directory.path().join("s")).await.unwrap();
    let mut reads = client.read_stream().await.unwrap();
    let batch = reads.read(ReadRequest::new(5, LONG)).await.unwrap();
    let offset = |index: usize| batch[index].offset().clone();
    client.ack_stream().await.unwrap().ack(vec![offset(0), offset(1), offset(2)]).await.unwrap();
    let nack = |index| NackOffset::new(offset(index), NackOptions::new());
    client.nack(vec![nack(3), nack(4)]).await.unwrap();
    client.pending().await.unwrap_err();
    client.partitions().await.unwrap();
    for (sample, value) in [
        ("source_reads_total", 1.0),
        ("messages_sent_total", 5.0),
        ("source_acks_total", 3.0),
        ("source_nacks_total", 2.0),
        ("source_pending_calls_total", 1.0),
        ("source_partitions_calls_total", 1.0),
        ("handler_failures_total{failure=\"error\"}", 1.0),
        ("connections", 1.0),
        ("streams_opened_total", 2.0),
    ] {
        assert_eq!(metric(address, &format!("numaflow_udf_{sample}")).await, value, "{sample}");
    }
    assert!(metric(address, "numaflow_udf_sent_bytes_total").await > 25.0);
}

/// Name, type, labels and meaning of every family on a page.
fn families(page: &str) -> BTreeMap<String, (String, Vec<String>, String)> {
    let mut families = BTreeMap::<_, (String, Vec<String>, String)>::new();
    for line in page.lines().filter(|line| line.contains("numaflow_udf_")) {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            families.entry(name.to_owned()).or_default().2 = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            families.get_mut(name).unwrap().0 = kind.to_owned();
        } else if let Some((sample, labels)) = line.split_once('{') {
            let name = sample.trim_end_matches("_bucket");
            let labels = labels.split_once('}').unwrap().0.split(',').map(|label| label.split_once('=').unwrap().0);
            families.get_mut(name).unwrap().1 = labels.map(str::to_owned).collect();
        }
    }
    families
}

#[tokio::test]
async fn the_table_of_metrics_is_the_page() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).unwrap();
    let mut documented = [BTreeMap::new(), BTreeMap::new()];
    for row in text.lines().filter(|line| line.starts_with("| `numaflow_udf_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, servers, meaning, _] = cells[..] else { panic!("not five cells: {row}") };
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
        for (server, table) in ["map", "source"].iter().zip(&mut documented) {
            if servers == *server || servers == "all" {
                let family = (kind.to_owned(), labels.clone(), meaning.to_owned());
                table.insert(name.trim_matches('`').to_owned(), family);
            }
        }
    }
    let (_map_directory, _map, map_address) = bind(Server::new(cat()));
    let (_source_directory, _source, source_address) = bind(Server::new(source::service(Counting)));
    for (address, documented) in [map_address, source_address].into_iter().zip(documented) {
        assert_eq!(families(&get(address, "/metrics").await.body), documented);
    }
}

#[tokio::test]
async fn what_the_program_counts_is_on_the_same_page() {
    let mapper = map::from_fn(async |request: MapRequest| {
        metrics::counter!("flights_parsed_total", "airline" => "AB").increment(3);
        Ok(request.into_message())
    });
    let (_directory, address, client) = serve(Server::new(map::service(mapper))).await;
    client.open().await.unwrap().map(MapRequest::new("x")).await.unwrap();
    assert_eq!(metric(address, "flights_parsed_total{airline=\"AB\"}").await, 3.0);
}

#[tokio::test]
async fn ready_is_from_serving_to_the_start_of_the_drain() {
    let server = Server::new(cat()).drain_timeout(LONG);
    let draining = server.draining();
    let (directory, bound, address) = bind(server);
    let answer = get(address, "/readyz").await;
    assert_eq!((answer.status, &answer.body[..]), (503, "not serving yet\n"));
    assert!(bound.describe().to_string().contains(&format!("http://{address} ")), "{}", bound.describe());

    let (stop, stopped) = oneshot::channel::<()>();
    #[expect(clippy::disallowed_methods, reason = "joined below")]
    let served = tokio::spawn(bound.serve_until(async { drop(stopped.await) }));
    let client = MapClient::connect(directory.path().join("s")).await.unwrap();
    let mut stream = client.open().await.unwrap();
    stream.map(MapRequest::new("x")).await.unwrap();
    let answer = get(address, "/readyz").await;
    assert_eq!((answer.status, &answer.body[..]), (200, "ready\n"));

    stop.send(()).unwrap();
    draining.started().await;
    let answer = get(address, "/readyz").await;
    assert_eq!((answer.status, &answer.body[..]), (503, "draining\n"));
    assert_eq!(get(address, "/livez").await.status, 200);
    stream.close();
    assert_eq!(stream.recv().await.unwrap(), None);
    within(LONG / 2, served).await.unwrap().unwrap();
    TcpStream::connect(address).await.unwrap_err();
    // Nothing is left that holds the port.
    std::net::TcpListener::bind(address).unwrap();
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let (_directory, _bound, address) = bind(Server::new(cat()));
    let answer = get(address, "/").await;
    assert_eq!((answer.status, &answer.body[..]), (404, "there are /metrics /livez /readyz /inflight\n"));
    let answer = ask(address, "POST", "/livez").await;
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: get, head"), "{answer:?}");
    let answer = ask(address, "HEAD", "/livez").await;
    assert_eq!((answer.status, &answer.body[..]), (200, ""));
    let answer = get(address, "/livez?verbose").await;
    assert_eq!((answer.status, &answer.body[..]), (200, "alive\n"));
    let answer = get(address, "/inflight?limit=all").await;
    assert_eq!((answer.status, &answer.body[..]), (400, "limit must be a whole number\n"));
}

#[tokio::test]
async fn a_program_adds_pages_and_metrics_of_its_own() {
    let scrapes = Arc::new(AtomicUsize::new(0));
    let scraped = scrapes.clone();
    let server = Server::new(cat())
        .admin_page("/tables", || AdminPage::json(r#"{"airports": 3}"#))
        .admin_page("/note", || AdminPage::text("as it is\n"))
        .metrics_from(move |text| {
            let scrape = scraped.fetch_add(1, Ordering::SeqCst) + 1;
            text.counter("scrapes_total", "How often it was looked.").sample(&[], scrape);
        })
        .metrics_from(|text| _ = text.gauge("rows", "Rows.").sample(&[("table", "\"a\"")], 0.5));
    let (_directory, bound, address) = bind(server);
    let answer = get(address, "/tables").await;
    assert_eq!((answer.status, &answer.body[..]), (200, r#"{"airports": 3}"#));
    assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    let answer = get(address, "/note?now").await;
    assert_eq!((answer.status, &answer.body[..]), (200, "as it is\n"));
    assert!(answer.head.contains("content-type: text/plain"), "{answer:?}");
    let answer = ask(address, "POST", "/note").await;
    assert_eq!(answer.status, 405);
    let paths = "/metrics /livez /readyz /inflight /tables /note";
    assert_eq!(get(address, "/table").await.body, format!("there are {paths}\n"));
    let block = bound.describe().to_string();
    assert!(block.ends_with(&format!("http://{address} {paths}")), "{block}");

    assert_eq!(scrapes.load(Ordering::SeqCst), 0, "nobody has asked");
    for scrape in [1.0, 2.0] {
        assert_eq!(metric(address, "scrapes_total").await, scrape);
    }
    assert_eq!(metric(address, r#"rows{table="\"a\""}"#).await, 0.5);
}

#[tokio::test]
async fn a_program_that_is_not_ready_says_why() {
    let ready = Arc::new(AtomicBool::new(false));
    let (warm, asked) = (ready.clone(), Arc::new(AtomicUsize::new(0)));
    let ask = asked.clone();
    let server = Server::new(cat()).ready_when(|| Ok(())).ready_when(move || {
        ask.fetch_add(1, Ordering::SeqCst);
        if warm.load(Ordering::SeqCst) { Ok(()) } else { Err("the tables are not read yet".to_owned()) }
    });
    let (_directory, address, client) = serve(server).await;
    let answer = get(address, "/readyz").await;
    assert_eq!((answer.status, &answer.body[..]), (503, "the tables are not read yet\n"));
    assert_eq!(get(address, "/livez").await.status, 200);
    assert!(client.is_ready().await.unwrap(), "the platform would restart the pod");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    ready.store(true, Ordering::SeqCst);
    let answer = get(address, "/readyz").await;
    assert_eq!((answer.status, &answer.body[..]), (200, "ready\n"));
}

#[tokio::test]
async fn a_page_that_panics_harms_nobody_else() {
    let panics = Arc::new(AtomicBool::new(true));
    let (page, text, check) = (panics.clone(), panics.clone(), panics.clone());
    let panic_if = |panics: &AtomicBool| assert!(!panics.load(Ordering::SeqCst), "as asked");
    let server = Server::new(cat())
        .admin_page("/tables", move || {
            panic_if(&page);
            AdminPage::text("read")
        })
        .metrics_from(move |_| panic_if(&text))
        .ready_when(move || {
            panic_if(&check);
            Ok(())
        });
    let (_directory, address, client) = serve(server).await;
    for path in ["/tables", "/metrics", "/readyz"] {
        let answer = get(address, path).await;
        assert_eq!((answer.status, &answer.body[..]), (500, "what was to answer this has panicked: see the log\n"));
    }
    assert_eq!(get(address, "/livez").await.status, 200);
    client.open().await.unwrap().map(MapRequest::new("x")).await.unwrap();
    panics.store(false, Ordering::SeqCst);
    for path in ["/tables", "/metrics", "/readyz"] {
        assert_eq!(get(address, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_page_that_nobody_could_ask_for_is_refused() {
    let page = || AdminPage::text("");
    for (server, problem) in [
        (Server::new(cat()).admin_page("tables", page), "\"tables\" is not a path"),
        (Server::new(cat()).admin_page("/tables?all", page), "\"/tables?all\" is not a path"),
        (Server::new(cat()).admin_page("/readyz", page), "there is a page /readyz already"),
        (Server::new(cat()).admin_page("/a", page).admin_page("/a", page), "there is a page /a already"),
    ] {
        let error = server.bind().unwrap_err();
        assert!(matches!(error, ServeError::Option { name: "admin_page", .. }) && error.is_configuration(), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[tokio::test]
async fn a_watchdog_that_names_everything_is_refused() {
    let error = Server::new(cat()).slow_after(Duration::ZERO).bind().unwrap_err();
    assert!(matches!(error, ServeError::Option { name: "slow_after", .. }) && error.is_configuration(), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named_and_nothing_stays() {
    let taken = std::net::TcpListener::bind(SocketAddr::from(ANY_PORT)).unwrap();
    let address = taken.local_addr().unwrap();
    let directory = TempDir::new().unwrap();
    let server =
        Server::new(cat()).socket_path(directory.path().join("s")).server_info_path(directory.path().join("i"));
    let error = server.admin(address).bind().unwrap_err();
    assert!(matches!(error, ServeError::BindAdmin { .. }) && !error.is_configuration(), "{error}");
    assert!(error.to_string().starts_with(&format!("the admin endpoint cannot listen on {address}")), "{error}");
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn what_is_in_flight_is_listed_oldest_first() {
    let (started, mut starts) = mpsc::channel(10);
    let go = Arc::new(Semaphore::new(0));
    let wait = go.clone();
    let mapper = map::from_fn(move |request: MapRequest| {
        let (started, wait) = (started.clone(), wait.clone());
        async move {
            started.send(()).await?;
            wait.acquire().await?.forget();
            Ok(request.into_message())
        }
    });
    let (_directory, address, client) = serve(Server::new(map::service(mapper))).await;
    let mut stream = client.open().await.unwrap();
    let empty = in_flight(address, "").await;
    assert_eq!((&empty["count"], &empty["oldest_age_seconds"]), (&0.into(), &Value::Null));
    let long_id = "x".repeat(10 << 10);
    for id in ["first", "same", "same", &long_id] {
        stream.send(id, MapRequest::new("value")).await.unwrap();
        starts.recv().await.unwrap();
    }
    let all = in_flight(address, "").await;
    let ids: Vec<_> = all["messages"].as_array().unwrap().iter().map(|message| &message["id"]).collect();
    assert_eq!(ids, ["first", "same", "same", &format!("{}…", "x".repeat(128))]);
    let oldest = &all["messages"][0];
    assert_eq!((&oldest["stage"], &oldest["waits_for"]), (&"handler".into(), &"its handler".into()));
    assert_eq!(oldest["age_seconds"], all["oldest_age_seconds"]);
    let one = in_flight(address, "?limit=1").await;
    assert_eq!((&one["count"], &one["bytes"]), (&4.into(), &all["bytes"]));
    assert_eq!(one["messages"].as_array().unwrap().len(), 1);
    go.add_permits(4);
    for _ in 0..4 {
        stream.recv().await.unwrap().unwrap();
    }
    assert_eq!(in_flight(address, "").await["count"], 0);
}

/// A runtime of its own, with one worker thread, which a handler blocks: nothing of that runtime runs any more.
#[test]
fn blocked_workers_hide_nothing() {
    let (started, mut starts) = mpsc::channel(2);
    let (go, gone) = sync_channel::<()>(0);
    let gone = Arc::new(Mutex::new(gone));
    let mapper = map::from_fn(move |request: MapRequest| {
        let (started, gone) = (started.clone(), gone.clone());
        async move {
            started.send(()).await?;
            if request.value() == "blocks" {
                gone.lock().unwrap().recv()?;
            } else {
                std::future::pending::<()>().await;
            }
            Ok(request.into_message())
        }
    });
    let blocked = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (directory, address) = {
        let _inside = blocked.enter();
        let server = Server::new(map::service(mapper)).slow_after(Duration::from_millis(20));
        let (directory, bound, address) = bind(server);
        drop(blocked.spawn(bound.serve_until(std::future::pending())));
        (directory, address)
    };
    let outside = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What unblocks the handler goes with this block, also when it panics.
    outside.block_on(async move {
        let client = MapClient::connect(directory.path().join("s")).await.unwrap();
        let mut stream = client.open().await.unwrap();
        for value in ["waits", "blocks"] {
            stream.send(value, MapRequest::new(value)).await.unwrap();
            starts.recv().await.unwrap();
        }
        let list = in_flight(address, "").await;
        assert_eq!((&list["messages"][0]["id"], &list["messages"][1]["id"]), (&"waits".into(), &"blocks".into()));
        assert_eq!(get(address, "/livez").await.status, 200);
        assert_eq!(get(address, "/readyz").await.status, 200);
        // The watchdog has a thread of its own too.
        until(address, "numaflow_udf_slow_messages_total", 2.0).await;
        go.send(()).unwrap();
        assert_eq!(stream.recv().await.unwrap().unwrap().id, "blocks");
    });
    blocked.shutdown_background();
}

/// Its handler fails, waits for its next attempt, and runs again: in place, on tasks, and on threads that it blocks.
#[tokio::test]
async fn a_message_in_backoff_is_listed_as_retrying() {
    for execution in [Execution::Automatic, Execution::Tasks, Execution::blocking()] {
        let (attempt, attempts) = (Arc::new(AtomicUsize::new(0)), 2);
        let (go, gone) = sync_channel::<()>(1);
        let gone = Arc::new(Mutex::new(gone));
        let blocks = matches!(execution, Execution::Blocking { .. });
        let mapper = map::from_fn(move |request: MapRequest| {
            let (attempt, gone) = (attempt.clone(), gone.clone());
            async move {
                if attempt.fetch_add(1, Ordering::SeqCst) == 0 {
                    return Err("as asked".into());
                }
                if blocks {
                    gone.lock().unwrap().recv_timeout(LONG)?;
                } else {
                    while gone.lock().unwrap().try_recv().is_err() {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(request.into_message())
            }
        });
        let retry = Retry::attempts(attempts).initial_delay(Duration::from_secs(1));
        let service = map::service(mapper).execution(execution).retry(retry);
        let (_directory, address, client) = serve(Server::new(service)).await;
        let mut stream = client.open().await.unwrap();
        stream.send("1", MapRequest::new("x")).await.unwrap();
        for stage in ["retrying", "handler"] {
            within(LONG, async { while in_flight(address, "").await["messages"][0]["stage"] != stage {} }).await;
        }
        go.send(()).unwrap();
        within(LONG, stream.recv()).await.unwrap().unwrap();
    }
}
