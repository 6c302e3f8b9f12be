//! The counters of a server in Prometheus' text format, version 0.0.4. `docs/metrics.md` has the same table for people, and
//! a test holds them to each other.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{BOUNDS, Failure, Metrics, Outcome};
use crate::in_flight::{Stage, Summary};
use crate::kind::Kind;
use crate::limit::Usage;

/// What is not counted but looked up when somebody asks.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) in_flight: Summary,
    pub(crate) limits: Usage,
    pub(crate) open_connections: usize,
    pub(crate) open_streams: usize,
}

/// The page of a server of this kind.
pub(crate) fn render(kind: Kind, metrics: &Metrics, gauges: &Gauges) -> String {
    let mut page = Page(String::new());
    page.common(kind, metrics, gauges);
    match kind {
        Kind::Source => page.source(metrics),
        Kind::Map(_) => page.map(metrics, gauges),
    }
    page.0
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

struct Page(String);

impl Page {
    fn common(&mut self, kind: Kind, metrics: &Metrics, gauges: &Gauges) {
        self.head("build_info", "gauge", "Always 1: the version of numaflow-sdk, and the kind of server.");
        let kind = match kind {
            Kind::Map(mode) => mode.to_string(),
            Kind::Source => "source".to_owned(),
        };
        self.sample("build_info", &[("version", env!("CARGO_PKG_VERSION")), ("kind", &kind)], 1);
        self.gauge("connections", "Connections that are open.", gauges.open_connections);
        self.counter("connections_opened_total", "Connections that were accepted.", &metrics.connections_opened);
        self.gauge("streams", "Streams of messages that are open.", gauges.open_streams);
        self.counter("streams_opened_total", "Streams of messages that were opened.", &metrics.streams_opened);
        self.counter("messages_sent_total", "Messages sent to the platform.", &metrics.counts.messages_sent);
        self.counter("sent_bytes_total", "Bytes of messages sent to the platform.", &metrics.counts.bytes_sent);
        self.head("handler_failures_total", "counter", "Calls of user code that failed, those tried again included.");
        for (failure, count) in Failure::ALL.iter().zip(&metrics.handler_failures) {
            self.sample("handler_failures_total", &[("failure", failure.name())], value(count));
        }
    }

    fn map(&mut self, metrics: &Metrics, gauges: &Gauges) {
        let counts = &metrics.counts;
        self.counter("messages_read_total", "Messages read from the platform.", &counts.messages_read);
        self.counter("read_bytes_total", "Bytes of messages read from the platform.", &counts.bytes_read);
        self.head("messages_finished_total", "counter", "Messages read that came to their outcome.");
        for (outcome, count) in Outcome::ALL.iter().zip(&counts.finished) {
            self.sample("messages_finished_total", &[("outcome", outcome.name())], value(count));
        }
        self.durations(metrics);
        self.counter("handler_retries_total", "Calls of handlers again after a failure.", &metrics.handler_retries);
        self.head("in_flight_messages", "gauge", "Messages in flight.");
        for (stage, count) in Stage::ALL.iter().zip(gauges.in_flight.by_stage) {
            self.sample("in_flight_messages", &[("stage", stage.name())], count);
        }
        self.gauge("in_flight_bytes", "Bytes of messages in flight.", gauges.in_flight.bytes);
        let oldest_age = gauges.in_flight.oldest_age.as_secs_f64();
        self.gauge("in_flight_oldest_age_seconds", "Age of the oldest message in flight.", oldest_age);
        let Usage { max_messages, max_bytes, .. } = gauges.limits;
        self.gauge("in_flight_limit_messages", "The most messages in flight that are allowed now.", max_messages);
        self.gauge("in_flight_limit_bytes", "The most bytes in flight that are allowed now.", max_bytes);
        self.counter("limit_reached_total", "Times that a stream had to wait for room.", &metrics.limit_reached);
        self.counter("slow_messages_total", "Times that the log named a message as slow.", &metrics.slow_messages);
    }

    fn durations(&mut self, metrics: &Metrics) {
        const NAME: &str = "handler_duration_seconds";
        self.head(NAME, "histogram", "Time from the first call of a message's handler to its outcome.");
        let mut count = 0;
        let bounds = BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string()).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&metrics.counts.durations) {
            count += value(bucket);
            self.sample("handler_duration_seconds_bucket", &[("le", &bound)], count);
        }
        let sum = Duration::from_nanos(value(&metrics.counts.duration_nanos));
        self.sample("handler_duration_seconds_sum", &[], sum.as_secs_f64());
        self.sample("handler_duration_seconds_count", &[], count);
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
        self.head(name, "counter", help);
        self.sample(name, &[], value(counter));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.0 += &format!("# HELP numaflow_udf_{name} {help}\n# TYPE numaflow_udf_{name} {kind}\n");
    }

    /// Names and labels are our own, so nothing in them needs escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.0 += &format!("numaflow_udf_{name}{labels} {value}\n");
    }
}
