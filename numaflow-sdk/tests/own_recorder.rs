//! A program that has a metrics recorder of its own keeps it. In a process of its own, because the recorder is one a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use numaflow_sdk::{MapRequest, Server, map};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One counter for everything.
#[derive(Clone, Default)]
struct Sum(Arc<AtomicU64>);

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

impl Recorder for Sum {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.clone()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn it_keeps_counting_and_the_page_is_the_servers_alone() {
    let sum = Sum::default();
    metrics::set_global_recorder(sum.clone()).unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let cat = map::from_fn(async |request: MapRequest| Ok(request.into_message()));
    let bound = Server::new(map::service(cat))
        .admin(([127, 0, 0, 1], 0))
        .socket_path(directory.path().join("s"))
        .server_info_path(directory.path().join("i"))
        .bind()
        .unwrap();
    metrics::counter!("own_total").increment(2);
    assert_eq!(sum.0.load(Ordering::SeqCst), 2);
    let mut stream = tokio::net::TcpStream::connect(bound.admin_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    assert!(page.contains("numaflow_udf_build_info{") && !page.contains("own_total"), "{page}");
}
