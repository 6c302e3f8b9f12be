//! Sources: batches and their ends, acks, nacks, pending and partitions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use numaflow_sdk::source::{Batch, BatchFull, Message, NackOffset, Offset, Partitions, ReadRequest, Sourcer, service};
use numaflow_sdk::testing::{self, ReadEvent, SourceClient};
use numaflow_sdk::{HandlerError, NackOptions, Server};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::support::within;

const SECOND: Duration = Duration::from_secs(1);

fn message(n: usize) -> Message {
    Message::new(n.to_string(), Offset::new(n.to_string(), 3), UNIX_EPOCH)
}

/// Gives what the test put in, and reports what it is told.
#[derive(Default)]
struct Scripted {
    messages: Mutex<VecDeque<Message>>,
    acked: Mutex<Vec<Offset>>,
    nacked: Mutex<Vec<NackOffset>>,
    connected: AtomicUsize,
    early: bool,
}

impl Sourcer for Scripted {
    async fn read(&self, _: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        if self.early {
            batch.end_early();
        }
        while !batch.is_full() {
            let next = self.messages.lock().unwrap().pop_front();
            let Some(message) = next else { break };
            batch.push(message).await?;
        }
        if batch.is_full() {
            assert_eq!(batch.push(message(0)).await, Err(BatchFull));
        }
        Ok(())
    }

    async fn ack(&self, offsets: Vec<Offset>) -> Result<(), HandlerError> {
        self.acked.lock().unwrap().extend(offsets);
        Ok(())
    }

    async fn nack(&self, offsets: Vec<NackOffset>) -> Result<(), HandlerError> {
        self.nacked.lock().unwrap().extend(offsets);
        Ok(())
    }

    fn reader_connected(&self) {
        self.connected.fetch_add(1, Ordering::SeqCst);
    }
}

async fn client_of(source: &Arc<Scripted>) -> SourceClient {
    let server = Server::new(service(source.clone())).replica(7);
    SourceClient::over(testing::serve(server)).await.unwrap()
}

#[tokio::test]
async fn a_batch_holds_what_was_asked_for_and_ends() {
    let source = Arc::new(Scripted::default());
    source.messages.lock().unwrap().extend((0..1011).map(message));
    let mut reads = client_of(&source).await.read_stream().await.unwrap();
    let mut next = 0;
    for count in [1, 10, 500, 500] {
        let batch = reads.read(ReadRequest::new(count, SECOND)).await.unwrap();
        assert_eq!(batch.len(), count);
        for got in batch {
            assert_eq!(got.value(), &next.to_string());
            assert_eq!(got.offset(), &Offset::new(next.to_string(), 3));
            assert_eq!(got.event_time(), UNIX_EPOCH);
            next += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_batch_ends_when_its_time_is_over() {
    let source = Arc::new(Scripted::default());
    let mut reads = client_of(&source).await.read_stream().await.unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        assert!(reads.read(ReadRequest::new(500, SECOND)).await.unwrap().is_empty());
        let took = begun.elapsed();
        assert!(took >= SECOND && took < SECOND + SECOND / 5, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_may_end_an_empty_batch_early() {
    let source = Arc::new(Scripted { early: true, ..Scripted::default() });
    let mut reads = client_of(&source).await.read_stream().await.unwrap();
    let begun = Instant::now();
    assert!(reads.read(ReadRequest::new(500, SECOND)).await.unwrap().is_empty());
    assert!(begun.elapsed() < SECOND / 5);
}

#[tokio::test]
async fn messages_leave_while_the_read_goes_on() {
    struct Slow(Arc<Notify>);
    impl Sourcer for Slow {
        async fn read(&self, _: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
            batch.push(message(1)).await?;
            self.0.notified().await;
            batch.push(message(2)).await?;
            Ok(())
        }
        async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
            Ok(())
        }
        async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
            Ok(())
        }
    }
    let go = Arc::new(Notify::new());
    let client = testing::source(Slow(go.clone())).await.unwrap();
    let mut reads = client.read_stream().await.unwrap();
    reads.request(ReadRequest::new(500, SECOND)).await.unwrap();
    assert!(matches!(reads.next().await.unwrap(), ReadEvent::Message(_)));
    // Other calls work while a read waits.
    let mut acks = client.ack_stream().await.unwrap();
    acks.ack(vec![Offset::new("1", 3)]).await.unwrap();
    assert_eq!(client.pending().await.unwrap(), None);
    go.notify_one();
    assert!(matches!(reads.next().await.unwrap(), ReadEvent::Message(_)));
    assert!(matches!(reads.next().await.unwrap(), ReadEvent::Eot));
}

#[tokio::test]
async fn a_batch_larger_than_its_room_passes_through_it() {
    let source = Arc::new(Scripted::default());
    let large = |n: usize| Message::new(vec![0; 300 << 10], Offset::new(n.to_string(), 0), UNIX_EPOCH);
    source.messages.lock().unwrap().extend((0..40).map(large));
    let mut reads = client_of(&source).await.read_stream().await.unwrap();
    let batch = within(SECOND * 20, reads.read(ReadRequest::new(40, SECOND))).await.unwrap();
    assert_eq!(batch.len(), 40);
}

#[tokio::test]
async fn offsets_come_back_byte_for_byte_and_unknown_ones_succeed() {
    let source = Arc::new(Scripted::default());
    let client = client_of(&source).await;
    let mut acks = client.ack_stream().await.unwrap();
    let strange = Offset::new(vec![0x00, 0xff, 0x80], 65_535);
    for _ in 0..2 {
        acks.ack(vec![strange.clone()]).await.unwrap();
    }
    acks.ack(Vec::new()).await.unwrap();
    assert_eq!(*source.acked.lock().unwrap(), [strange.clone(), strange]);
    acks.close();
}

#[tokio::test]
async fn nacks_come_with_the_options_of_their_element() {
    let source = Arc::new(Scripted::default());
    let client = client_of(&source).await;
    let options = NackOptions::new().with_delay(Duration::from_millis(500)).with_max_deliveries(3);
    let nacks = vec![
        NackOffset::new(Offset::new("1", 0), options.clone()),
        NackOffset::new(Offset::new("2", 0), NackOptions::new()),
        NackOffset::new(Offset::new("3", 1), options),
    ];
    client.nack(nacks.clone()).await.unwrap();
    assert_eq!(*source.nacked.lock().unwrap(), nacks);
    client.nack(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn what_a_source_does_not_say_has_a_default() {
    let source = Arc::new(Scripted::default());
    let client = client_of(&source).await;
    assert_eq!(client.pending().await.unwrap(), None);
    assert_eq!(client.partitions().await.unwrap(), Partitions::new([7]));
}

#[tokio::test]
async fn every_new_read_stream_is_announced() {
    let source = Arc::new(Scripted { early: true, ..Scripted::default() });
    let client = client_of(&source).await;
    for connected in 1..=3 {
        let mut reads = client.read_stream().await.unwrap();
        reads.read(ReadRequest::new(1, SECOND)).await.unwrap();
        assert_eq!(source.connected.load(Ordering::SeqCst), connected);
    }
}

#[tokio::test]
async fn a_peer_that_goes_takes_its_read_with_it() {
    struct Waiting(mpsc::Sender<&'static str>);
    struct Gone(mpsc::Sender<&'static str>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.try_send("gone").unwrap();
        }
    }
    impl Sourcer for Waiting {
        async fn read(&self, _: ReadRequest, _: &mut Batch) -> Result<(), HandlerError> {
            let _guard = Gone(self.0.clone());
            self.0.send("reading").await?;
            std::future::pending().await
        }
        async fn ack(&self, _: Vec<Offset>) -> Result<(), HandlerError> {
            Ok(())
        }
        async fn nack(&self, _: Vec<NackOffset>) -> Result<(), HandlerError> {
            Ok(())
        }
    }
    let (events, mut seen) = mpsc::channel(2);
    let client = testing::source(Waiting(events)).await.unwrap();
    let mut reads = client.read_stream().await.unwrap();
    reads.request(ReadRequest::new(1, SECOND)).await.unwrap();
    assert_eq!(seen.recv().await, Some("reading"));
    drop((reads, client));
    assert_eq!(within(SECOND * 5, seen.recv()).await, Some("gone"));
}
