//! The counters of a server in Prometheus' text format, version 0.0.4. `docs/metrics.md` has the same table for people, and
//! a test holds them to each other.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::text::{Family, MetricsText};
use super::{BOUNDS, Failure, Metrics, Outcome};
use crate::in_flight::{Stage, Summary};
use crate::kind::Kind;
use crate::limit::Usage;

/// What is not counted but looked up when somebody asks.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) started: SystemTime,
    pub(crate) in_flight: Summary,
    pub(crate) limits: Usage,
    pub(crate) open_connections: usize,
    pub(crate) open_streams: usize,
}

/// The page of a server of this kind.
pub(crate) fn render(kind: Kind, metrics: &Metrics, gauges: &Gauges) -> MetricsText {
    let mut page = Page(MetricsText::default());
    page.common(kind, metrics, gauges);
    page.in_flight(metrics, gauges);
    match kind {
        Kind::Source => page.source(metrics),
        Kind::Map(_) => page.map(metrics),
    }
    page.0
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

struct Page(MetricsText);

impl Page {
    fn common(&mut self, kind: Kind, metrics: &Metrics, gauges: &Gauges) {
        let kind = match kind {
            Kind::Map(mode) => mode.to_string(),
            Kind::Source => "source".to_owned(),
        };
        self.family(
            "build_info",
            "gauge",
            "Always 1: the version of numaflow-sdk, and the kind of server.",
            |family| {
                family.sample(&[("version", env!("CARGO_PKG_VERSION")), ("kind", &kind)], 1);
            },
        );
        let started = gauges.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.gauge("start_time_seconds", "When the server started, in seconds since 1970.", started);
        self.gauge("connections", "Connections that are open.", gauges.open_connections);
        self.counter("connections_opened_total", "Connections that were accepted.", &metrics.connections_opened);
        let help = "Requests that HTTP/2 refused because their head is malformed.";
        self.counter("requests_refused_total", help, &metrics.requests_refused);
        self.gauge("streams", "Streams of messages that are open.", gauges.open_streams);
        self.counter("streams_opened_total", "Streams of messages that were opened.", &metrics.streams_opened);
        self.counter("messages_sent_total", "Messages sent to the platform.", &metrics.counts.messages_sent);
        self.counter("sent_bytes_total", "Bytes of messages sent to the platform.", &metrics.counts.bytes_sent);
        let help = "Calls of user code that failed, those tried again included.";
        self.family("handler_failures_total", "counter", help, |family| {
            for (failure, count) in Failure::ALL.iter().zip(&metrics.handler_failures) {
                family.sample(&[("failure", failure.name())], value(count));
            }
        });
        let help = "Log lines lost because standard error was not read or could not be written.";
        self.family("log_lines_dropped_total", "counter", help, |family| {
            family.sample(&[], crate::logging::dropped_lines());
        });
    }

    fn map(&mut self, metrics: &Metrics) {
        let counts = &metrics.counts;
        self.counter("messages_read_total", "Messages read from the platform.", &counts.messages_read);
        self.counter("read_bytes_total", "Bytes of messages read from the platform.", &counts.bytes_read);
        self.family("messages_finished_total", "counter", "Messages read that came to their outcome.", |family| {
            for (outcome, count) in Outcome::ALL.iter().zip(&counts.finished) {
                family.sample(&[("outcome", outcome.name())], value(count));
            }
        });
        self.counter("handler_retries_total", "Calls of handlers again after a failure.", &metrics.handler_retries);
        let help = "Times that a handler blocked its thread for 100 ms and more.";
        self.counter("handler_blocked_thread_total", help, &metrics.blocking_polls);
        let help = "Batches refused because they are too large.";
        self.counter("refused_batches_total", help, &metrics.refused_batches);
    }

    /// Messages of a map, and calls of a source.
    fn in_flight(&mut self, metrics: &Metrics, gauges: &Gauges) {
        self.family("in_flight_messages", "gauge", "Messages in flight.", |family| {
            for (stage, count) in Stage::ALL.iter().zip(gauges.in_flight.by_stage) {
                family.sample(&[("stage", stage.name())], count);
            }
        });
        self.gauge("in_flight_bytes", "Bytes of messages in flight.", gauges.in_flight.bytes);
        let oldest_age = gauges.in_flight.oldest_age.as_secs_f64();
        self.gauge("in_flight_oldest_age_seconds", "Age of the oldest message in flight.", oldest_age);
        let Usage { max_messages, max_bytes, .. } = gauges.limits;
        self.gauge("in_flight_limit_messages", "The most messages in flight that are allowed now.", max_messages);
        self.gauge("in_flight_limit_bytes", "The most bytes in flight that are allowed now.", max_bytes);
        self.counter("limit_reached_total", "Times that a stream had to wait for room.", &metrics.limit_reached);
        self.counter("slow_messages_total", "Times that the log named a message as slow.", &metrics.slow_messages);
        self.durations(metrics);
    }

    fn durations(&mut self, metrics: &Metrics) {
        let help = "Time from the first call of a message's handler to its outcome.";
        let counts = &metrics.counts;
        let buckets = BOUNDS.iter().zip(&counts.durations).map(|(bound, count)| (bound.as_secs_f64(), value(count)));
        let sum = Duration::from_nanos(value(&counts.duration_nanos)).as_secs_f64();
        let beyond = value(&counts.durations[BOUNDS.len()]);
        self.0.histogram("numaflow_udf_handler_duration_seconds", help, buckets, beyond, sum);
    }

    fn source(&mut self, metrics: &Metrics) {
        let source = &metrics.source;
        self.counter("source_reads_total", "Batches that the platform asked for.", &source.reads);
        self.counter("source_acks_total", "Offsets that were acked.", &source.acks);
        self.counter("source_nacks_total", "Offsets that were nacked.", &source.nacks);
        self.counter("source_pending_calls_total", "Calls for the number of pending messages.", &source.pending_calls);
        self.counter("source_partitions_calls_total", "Calls for the partitions.", &source.partitions_calls);
    }

    fn counter(&mut self, name: &str, help: &str, counter: &AtomicU64) {
        self.family(name, "counter", help, |family| _ = family.sample(&[], value(counter)));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help, |family| _ = family.sample(&[], value));
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, add: impl FnOnce(&mut Family<'_>)) {
        add(&mut self.0.family(&format!("numaflow_udf_{name}"), kind, help));
    }
}
