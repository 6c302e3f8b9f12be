//! A backlog far larger than the budget, and a platform that does not read.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kafka_broker::Broker;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::super::Outcome;
use super::super::member::{Member, Orders};
use super::super::process::LOOK;
use super::super::report::Progress;
use super::super::stage::{Site, Stage};

const PARTITIONS: i32 = 48;
/// The size of a record.
const RECORD: usize = 50_000;
const SOURCE: [&str; 2] = ["--max-in-flight-bytes", "128MiB"];
const DRIVER: [&str; 1] = ["--idle"];
/// What the source may take, and the least that shows it has fetched at all.
const MOST: u64 = (128 + 64) << 20;
const LEAST: u64 = 64 << 20;
/// Memory is settled when its peak has stayed for so long.
const SETTLED: Duration = Duration::from_secs(5);
/// How long it may take until it is.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs it on a broker that serves, with a backlog of so many bytes; `false` when the source takes too much.
pub(in super::super) fn run(
    broker: &Broker,
    program: &Path,
    folder: &Path,
    backlog: u64,
    progress: &Progress,
) -> Outcome<bool> {
    let began = Instant::now();
    let stage = Stage::new(&Site::of_broker(broker), "memory", PARTITIONS)?;
    produce(&stage, backlog)?;
    let mut member = Member::new("member", &stage, program, folder, Orders::new(&SOURCE, &DRIVER), 0);
    member.start()?;
    let pid = member.source.as_ref().map(super::super::process::Process::id).ok_or("there is no source")?;
    let peak = settled_peak(&mut member, pid)?;
    drop(member);
    stage.remove()?;
    let is_good = (LEAST..=MOST).contains(&peak);
    let verdict = if is_good { "ok" } else { "FAILED" };
    progress.line(&format!(
        "memory: a backlog of {} MiB in {PARTITIONS} partitions, a budget of 128 MiB, nobody reads: {} MiB resident at the \
         most (from {} to {} are right), {:.0} s: {verdict}",
        backlog >> 20,
        peak >> 20,
        LEAST >> 20,
        MOST >> 20,
        began.elapsed().as_secs_f64()
    ));
    Ok(is_good)
}

/// The peak of a source's memory, once it does not rise any more.
fn settled_peak(member: &mut Member, pid: u32) -> Outcome<u64> {
    let began = Instant::now();
    let mut peak = 0;
    let mut risen = began;
    loop {
        member.check()?;
        let now = resident_peak(pid)?;
        if now > peak {
            (peak, risen) = (now, Instant::now());
        }
        let is_over = peak >= LEAST && risen.elapsed() > SETTLED;
        if is_over || peak > MOST || began.elapsed() > PATIENCE {
            return Ok(peak);
        }
        std::thread::sleep(LOOK);
    }
}

/// The most memory that a process has ever had resident, in bytes.
fn resident_peak(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    let kilobytes: u64 = peak.ok_or_else(|| format!("/proc/{pid}/status has no VmHWM"))?;
    Ok(kilobytes << 10)
}

/// Produces records that fill all partitions alike.
fn produce(stage: &Stage, bytes: u64) -> Outcome<()> {
    let producer: BaseProducer = stage
        .client()
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.kbytes", "65536")
        .create()?;
    let count = bytes.div_ceil(RECORD as u64);
    let mut value = vec![b'.'; RECORD];
    for (number, partition) in (0..count).zip((0..PARTITIONS).cycle()) {
        let digits = format!("{number} ");
        value[..digits.len()].copy_from_slice(digits.as_bytes());
        loop {
            let record = BaseRecord::<(), [u8]>::to(&stage.topic).partition(partition).payload(&value);
            match producer.send(record) {
                Ok(()) => break,
                Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    producer.poll(LOOK);
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        producer.poll(Duration::ZERO);
    }
    Ok(producer.flush(PATIENCE)?)
}
