//! A handler that blocks its thread is its own problem, as long as there is another thread.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use numaflow_sdk::{MapRequest, Server, map};

use crate::support::{OnSocket, within};

/// The bound is 100 ms; five times that, for machines that do something else as well.
const AT_ONCE: Duration = Duration::from_millis(500);

/// On its own connection too: the platform asks for its health on the one that its messages take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_ready_is_answered_while_a_handler_blocks_its_thread() {
    for _ in 0..20 {
        let (started, mut starts) = tokio::sync::mpsc::channel(1);
        let (go, gone) = mpsc::sync_channel::<()>(1);
        let gone = Arc::new(Mutex::new(gone));
        let mapper = map::from_fn(move |request: MapRequest| {
            let (started, gone) = (started.clone(), gone.clone());
            async move {
                started.try_send(()).unwrap();
                gone.lock().unwrap().recv().unwrap();
                Ok(request.into_message())
            }
        });
        let server = OnSocket::start(Server::new(map::service(mapper)));
        let client = server.map_client().await;
        let mut stream = client.open().await.unwrap();
        stream.send("1", MapRequest::new("x")).await.unwrap();
        within(AT_ONCE, starts.recv()).await.unwrap();
        for _ in 0..5 {
            assert!(within(AT_ONCE, client.is_ready()).await.unwrap());
            assert!(within(AT_ONCE, server.map_client().await.is_ready()).await.unwrap());
        }
        go.send(()).unwrap();
        assert_eq!(within(AT_ONCE, stream.recv()).await.unwrap().unwrap().id, "1");
    }
}
