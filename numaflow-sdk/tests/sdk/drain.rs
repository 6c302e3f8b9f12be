//! The way down, from every state, by its deadline.

use std::time::{Duration, Instant};

use numaflow_sdk::{Drained, MapRequest, Messages, Server, map};
use tokio::sync::{mpsc, oneshot};

use crate::support::{OnSocket, left_in, status, within};

const LONG: Duration = Duration::from_secs(60);

fn cat() -> Server<map::MapService> {
    Server::new(map::service(map::from_fn(async |r: MapRequest| Ok(r.into_message())))).drain_timeout(LONG)
}

#[tokio::test]
async fn at_rest_it_is_over_at_once() {
    let server = OnSocket::start(cat());
    let client = server.map_client().await;
    assert!(client.is_ready().await.unwrap());
    let (directory, served) = server.stop();
    assert_eq!(within(LONG / 5, served).await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn in_mid_message_the_answer_still_comes() {
    let (started, mut starts) = mpsc::channel(1);
    let (go, gone) = oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let mapper = map::from_fn(move |request: MapRequest| {
        let (started, gone) = (started.clone(), gone.lock().unwrap().take());
        async move {
            started.send(()).await?;
            if let Some(gone) = gone {
                gone.await?;
            }
            Ok(request.into_message())
        }
    });
    let server = Server::new(map::service(mapper)).drain_timeout(LONG);
    let draining = server.draining();
    let server = OnSocket::start(server);
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("a")).await.unwrap();
    starts.recv().await.unwrap();
    let (directory, served) = server.stop();
    draining.started().await;
    // What the peer sends during the drain is answered too, and it may ask whether the server lives.
    stream.send("2", MapRequest::new("b")).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().id, "2");
    assert!(client.is_ready().await.unwrap());
    go.send(()).unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().id, "1");
    stream.close();
    assert_eq!(stream.recv().await.unwrap(), None);
    assert_eq!(within(LONG / 5, served).await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn an_open_idle_stream_is_ended_before_the_deadline() {
    let server = OnSocket::start(cat().drain_timeout(Duration::from_millis(500)));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    let (directory, served) = server.stop();
    let error = stream.recv().await.unwrap_err();
    assert_eq!(status(&error).0, "UNAVAILABLE");
    assert_eq!(served.await.unwrap().unwrap(), Drained::default());
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn a_stuck_handler_is_cut_off_at_the_deadline() {
    let (started, mut starts) = mpsc::channel(1);
    let mapper = map::from_fn(move |_: MapRequest| {
        let started = started.clone();
        async move {
            started.send(()).await?;
            std::future::pending::<()>().await;
            Ok(Messages::none())
        }
    });
    let server = OnSocket::start(Server::new(map::service(mapper)).drain_timeout(Duration::from_millis(500)));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    stream.send("1", MapRequest::new("a")).await.unwrap();
    starts.recv().await.unwrap();
    let begun = Instant::now();
    let (directory, served) = server.stop();
    assert_eq!(served.await.unwrap().unwrap().abandoned_streams, 1);
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert_eq!(left_in(&directory), [""; 0]);
    stream.recv().await.unwrap_err();
}

#[tokio::test]
async fn an_answer_half_sent_is_cut_off_at_the_deadline() {
    let (started, mut starts) = mpsc::channel(1);
    let mapper = map::from_fn(move |request: MapRequest| {
        let started = started.clone();
        async move {
            started.send(()).await?;
            Ok(request.into_message())
        }
    });
    let server = OnSocket::start(Server::new(map::service(mapper)).drain_timeout(Duration::from_millis(500)));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    // More than the peer's window, and the peer does not read.
    stream.send("1", MapRequest::new(vec![0; 32 << 20])).await.unwrap();
    starts.recv().await.unwrap();
    let (directory, served) = server.stop();
    assert_eq!(served.await.unwrap().unwrap().abandoned_connections, 1);
    assert_eq!(left_in(&directory), [""; 0]);
}

#[tokio::test]
async fn what_is_to_be_done_at_shutdown_is_done_first() {
    let (told, was_told) = oneshot::channel();
    let server = OnSocket::start(cat().on_shutdown(move || told.send(()).unwrap()));
    let client = server.map_client().await;
    let mut stream = client.open().await.unwrap();
    let (_directory, served) = server.stop();
    was_told.await.unwrap();
    stream.close();
    served.await.unwrap().unwrap();
}
