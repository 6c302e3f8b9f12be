//! One server, measured in one way, from its start to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_broker::Broker;

use crate::Outcome;
use crate::child::Child;
use crate::client::Connection;
use crate::compare::{Moment, Pace};
use crate::load::Load;
use crate::measure::MIB;
use crate::paced::Paced;
use crate::reading::{Expected, Numbered, Reading};
use crate::results::{Metric, Sample};
use crate::serve::{Mode, Spec};

/// The records of a read, as the platform asks for them.
pub(crate) const READ: u64 = 500;

/// Starts a server and measures it.
pub(crate) async fn with_server(
    spec: &Spec,
    measure: impl AsyncFnOnce(&mut Child) -> Outcome<Sample>,
) -> Outcome<Sample> {
    let mut child = Child::start(spec)?;
    measure(&mut child).await.map_err(|error| child.explain(error))
}

/// Measures a map under constant load.
pub(crate) async fn map_under_load(
    spec: &Spec,
    mode: Mode,
    size: usize,
    in_flight: usize,
    pace: Pace,
) -> Outcome<Sample> {
    with_server(spec, async |child| {
        let mut connection = Connection::new(child.connect().await?).await?;
        let mut load = Load::new(connection.open_map().await?, mode, size, in_flight)?;
        load.run(pace.warm_up).await?;
        let before = Moment::now(child).await?;
        let window = load.run(pace.measured).await?;
        Ok(Moment::now(child).await?.since(&before, &window))
    })
    .await
}

/// Measures a map under a trickle.
pub(crate) async fn map_at_a_rate(spec: &Spec, mode: Mode, size: usize, rate: u32, time: Duration) -> Outcome<Sample> {
    with_server(spec, async |child| {
        let mut connection = Connection::new(child.connect().await?).await?;
        let mut paced = Paced::new(connection.open_map().await?, mode, size)?;
        paced.run(rate, time / 10).await?;
        let before = Moment::now(child).await?;
        let window = paced.run(rate, time).await?;
        let mut sample = Moment::now(child).await?.since(&before, &window);
        // The rate is given, not found.
        sample.0.remove(&Metric::Rate);
        Ok(sample)
    })
    .await
}

/// Measures a source.
pub(crate) async fn source_under_load(spec: &Spec, size: usize, pace: Pace) -> Outcome<Sample> {
    with_server(spec, async |child| {
        let mut connection = Connection::new(child.connect().await?).await?;
        let mut reading = Reading::new(&mut connection, READ, Numbered::new(size)).await?;
        reading.run(pace.warm_up).await?;
        let before = Moment::now(child).await?;
        let window = reading.run(pace.measured).await?;
        Ok(Moment::now(child).await?.since(&before, &window))
    })
    .await
}

/// How many records are read where not time decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) warm_up: u64,
    pub(crate) measured: u64,
}

/// Measures a source for so many records, beside a broker.
pub(crate) async fn source_of_records(
    spec: &Spec,
    expected: impl Expected,
    count: Count,
    broker: &Broker,
) -> Outcome<Sample> {
    with_server(spec, async |child| {
        let mut connection = Connection::new(child.connect().await?).await?;
        let mut reading = Reading::new(&mut connection, READ, expected).await?;
        reading.run_records(count.warm_up).await?;
        let before = Moment::now(child).await?.beside(broker)?;
        let window = reading.run_records(count.measured).await?;
        Ok(Moment::now(child).await?.beside(broker)?.since(&before, &window))
    })
    .await
}

/// Measures a start.
pub(crate) async fn map_at_start(spec: &Spec) -> Outcome<Sample> {
    with_server(spec, async |child| {
        let time = child.announced().await?;
        let mut connection = Connection::new(child.connect().await?).await?;
        let stream = connection.open_map().await?;
        let used = child.used().await?;
        drop(stream);
        Ok(Sample(BTreeMap::from([
            (Metric::StartMilliseconds, time.as_secs_f64() * 1e3),
            (Metric::IdleMib, used.rss as f64 / MIB),
        ])))
    })
    .await
}

/// Measures work without a server, which counts for itself.
pub(crate) async fn work_alone(spec: &Spec, pace: Pace) -> Outcome<Sample> {
    with_server(spec, async |child| {
        tokio::time::sleep(pace.warm_up).await;
        let before = Moment::now(child).await?;
        tokio::time::sleep(pace.measured).await;
        Ok(Moment::now(child).await?.since_alone(&before))
    })
    .await
}
