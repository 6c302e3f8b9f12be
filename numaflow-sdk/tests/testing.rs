//! The test kit, driven against our own servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use numaflow_sdk::source::{Batch, Message as SourceMessage, NackOffset, Offset, Partitions, ReadRequest, Sourcer};
use numaflow_sdk::testing::{self, ClientError, MapMode, ReadEvent, ServerInfo};
use numaflow_sdk::{HandlerError, MapRequest, Message, NackOptions, Server, map};

#[tokio::test]
async fn a_map_is_driven_through_the_protocol() {
    let client = testing::map(map::from_fn(async |r: MapRequest| {
        Ok(match &r.value()[..] {
            b"drop" => vec![],
            b"nack" => vec![Message::to_nack(NackOptions::new().with_reason("later"))],
            _ => vec![r.clone().into_message(), Message::new(r.id().to_owned())],
        })
    }))
    .await
    .unwrap();
    assert!(client.is_ready().await.unwrap());
    let mut stream = client.open().await.unwrap();
    let request = MapRequest::new("a").with_keys(["k"]);
    assert_eq!(stream.map(request.clone()).await.unwrap()[0], request.into_message());
    assert_eq!(stream.map(MapRequest::new("drop")).await.unwrap(), []);
    assert!(stream.map(MapRequest::new("nack")).await.unwrap()[0].is_nack());

    stream.send("ä/1", MapRequest::new("b")).await.unwrap();
    stream.close();
    let answer = stream.recv().await.unwrap().unwrap();
    assert_eq!((&*answer.id, &answer.messages[1].value()[..]), ("ä/1", "ä/1".as_bytes()));
    assert_eq!(stream.recv().await.unwrap(), None);
    assert!(matches!(stream.send("2", MapRequest::new("c")).await, Err(ClientError::Closed)));
}

#[tokio::test]
async fn a_status_comes_with_its_parts() {
    let client = testing::map(map::from_fn(async |_: MapRequest| -> Result<Message, HandlerError> {
        Err(HandlerError::new("no such airport"))
    }))
    .await
    .unwrap();
    let error = client.open().await.unwrap().map(MapRequest::new("x")).await.unwrap_err();
    let status = error.status().unwrap();
    assert_eq!((status.code, status.name), (13, "INTERNAL"));
    assert_eq!(status.message, "UDF_EXECUTION_ERROR(udf): no such airport");
    assert!(status.details.as_ref().unwrap().contains("no such airport"), "{status:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_names_it() {
    let (platform, user) = tokio::io::duplex(1024);
    drop(user);
    assert!(testing::MapClient::over(platform).await.is_err());
    let error = testing::MapClient::connect("/no/such/socket").await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot connect to the socket /no/such/socket");
}

#[derive(Default)]
struct Numbers {
    acked: Mutex<Vec<Offset>>,
    nacked: Mutex<Vec<NackOffset>>,
}

impl Sourcer for Numbers {
    async fn read(&self, request: ReadRequest, batch: &mut Batch) -> Result<(), HandlerError> {
        for number in 0..request.count {
            let offset = Offset::new(number.to_string(), 3);
            batch.push(SourceMessage::new("v", offset, SystemTime::UNIX_EPOCH).with_header("h", "1")).await?;
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
    async fn pending(&self) -> Result<Option<u64>, HandlerError> {
        Ok(Some((self.acked.lock().unwrap().len() + 10 * self.nacked.lock().unwrap().len()) as u64))
    }
    async fn partitions(&self) -> Result<Option<Partitions>, HandlerError> {
        Ok(Some(Partitions::new([3]).with_total(7)))
    }
}

#[tokio::test]
async fn a_source_is_driven_through_the_protocol() {
    let client = testing::source(Numbers::default()).await.unwrap();
    assert!(client.is_ready().await.unwrap());
    let mut read = client.read_stream().await.unwrap();
    let batch = read.read(ReadRequest::new(3, Duration::from_secs(1))).await.unwrap();
    let offsets: Vec<Offset> = batch.iter().map(|message| message.offset().clone()).collect();
    assert_eq!(offsets, [Offset::new("0", 3), Offset::new("1", 3), Offset::new("2", 3)]);
    assert_eq!(batch[2].headers().collect::<Vec<_>>(), [("h", "1")]);

    let mut ack = client.ack_stream().await.unwrap();
    ack.ack(offsets[..2].to_vec()).await.unwrap();
    client.nack(vec![NackOffset::new(offsets[2].clone(), NackOptions::new())]).await.unwrap();
    assert_eq!(client.pending().await.unwrap(), Some(12));
    assert_eq!(client.partitions().await.unwrap(), Partitions::new([3]).with_total(7));

    read.request(ReadRequest::new(1, Duration::from_secs(1))).await.unwrap();
    assert!(matches!(read.next().await.unwrap(), ReadEvent::Message(_)));
    assert!(matches!(read.next().await.unwrap(), ReadEvent::Eot));
    read.close();
    assert!(matches!(read.next().await.unwrap(), ReadEvent::End));
}

#[tokio::test]
async fn the_info_file_of_a_server_is_read_as_the_platform_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let info = folder.path().join("info");
    let echo = map::from_fn(async |r: MapRequest| Ok(r.into_message()));
    let bound = Server::new(map::service(echo))
        .socket_path(folder.path().join("map.sock"))
        .server_info_path(&info)
        .bind()
        .unwrap();
    let read = ServerInfo::read(&info).unwrap();
    assert_eq!((&*read.language, read.map_mode()), ("rust", MapMode::Unary));
    drop(bound);
}
