//! What the log tells of handlers.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use numaflow_sdk::map::{self, Execution, Retry};
use numaflow_sdk::{HandlerError, MapRequest, Message, Server};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use crate::admin::{metric, serve};
use crate::step::LONG;
use crate::support::within;

/// Keeps the lines of INFO and above that the thread writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Lines {
    /// The lines of this thread until the guard is dropped.
    ///
    /// `tracing` remembers of each place in the code whether any subscriber wants its lines. As long as there is only one
    /// subscriber, it asks the thread that gets to the place first, which may be another test's and have none. With a second
    /// one it asks both.
    fn of_this_thread() -> (Self, DefaultGuard) {
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Lines::default()));
        LazyLock::force(&SECOND);
        let lines = Self::default();
        let guard = tracing::subscriber::set_default(lines.clone());
        (lines, guard)
    }

    fn containing(&self, text: &str) -> Vec<(Level, String)> {
        self.0.lock().unwrap().iter().filter(|(_, line)| line.contains(text)).cloned().collect()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push((*event.metadata().level(), line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Every attempt counts, and the log tells of those that are made again, though not of each.
#[tokio::test]
async fn failures_that_are_tried_again() {
    let (lines, _logged) = Lines::of_this_thread();
    let attempts = Arc::new(AtomicUsize::new(0));
    let mapper = map::from_fn(move |request: MapRequest| {
        let attempt = attempts.fetch_add(1, Ordering::SeqCst) % 3;
        async move {
            match attempt {
                0 => Err(HandlerError::new("the lookup failed")),
                1 => panic!("as asked"),
                _ => Ok(request.into_message()),
            }
        }
    });
    let retry = Retry::attempts(3).initial_delay(Duration::from_millis(1));
    let (_directory, address, client) = serve(Server::new(map::service(mapper).retry(retry))).await;
    let mut stream = client.open().await.unwrap();
    for _ in 0..2 {
        assert_eq!(within(LONG, stream.map(MapRequest::new("x"))).await.unwrap()[0].value(), "x");
    }
    assert_eq!(metric(address, "numaflow_udf_handler_failures_total{failure=\"error\"}").await, 2.0);
    assert_eq!(metric(address, "numaflow_udf_handler_failures_total{failure=\"panic\"}").await, 2.0);
    assert_eq!(metric(address, "numaflow_udf_handler_retries_total").await, 4.0);
    let told = lines.containing("will be called again");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].0 == Level::INFO && told[0].1.contains("the lookup failed"), "{told:?}");
}

/// A handler that blocks its thread is named, with the remedy, unless it has a thread to block.
#[tokio::test]
async fn a_handler_that_blocks_its_thread() {
    for (execution, named) in [(Execution::Automatic, 1), (Execution::Tasks, 1), (Execution::blocking(), 0)] {
        let (lines, _logged) = Lines::of_this_thread();
        let mapper = map::from_fn(async |request: MapRequest| {
            if request.value() == "blocks" {
                // As a client library does that knows nothing of async.
                std::thread::sleep(Duration::from_millis(150));
            }
            Ok::<Message, HandlerError>(request.into_message())
        });
        let (_directory, address, client) = serve(Server::new(map::service(mapper).execution(execution))).await;
        let mut stream = client.open().await.unwrap();
        // Until they are known to be light, and run in place where they may.
        for _ in 0..200 {
            stream.map(MapRequest::new("x")).await.unwrap();
        }
        for _ in 0..2 {
            stream.map(MapRequest::new("blocks")).await.unwrap();
        }
        let told = lines.containing("has blocked its thread for ");
        assert_eq!(told.len(), named, "{execution}: {told:?}");
        let counted = metric(address, "numaflow_udf_handler_blocked_thread_total").await;
        assert_eq!(counted > 0.0, named > 0, "{execution}: {counted}");
        assert!(told.iter().all(|(level, line)| *level == Level::WARN && line.contains("--execution blocking")));
    }
}
