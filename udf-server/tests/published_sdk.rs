//! `drive` against a map built with the published SDK. A test binary of its own, because that SDK replaces the panic hook of
//! the process, and the messages of tests that fail with it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[allow(dead_code, reason = "shared with other tests")]
#[path = "drive/stage.rs"]
mod stage;

use std::pin::Pin;

use numaflow::map::{MapRequest, Mapper, Message, Server};
use numaflow::shared::ServerExtras;
use tokio::sync::oneshot;
use udf_server::drive::Until;

use crate::stage::{Stage, lines_of, run, settings};

/// Turns `n` into `2n`, and drops every seventh.
struct Double;

impl Mapper for Double {
    // What the `async_trait` macro makes of `async fn map`.
    fn map<'a, 'b>(&'a self, input: MapRequest) -> Pin<Box<dyn Future<Output = Vec<Message>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let number: u64 = String::from_utf8(input.value).unwrap().parse().unwrap();
            match number % 7 {
                0 => vec![Message::message_to_drop()],
                _ => vec![Message::new((2 * number).to_string().into_bytes()).with_keys(input.keys)],
            }
        })
    }
}

#[tokio::test]
async fn a_map_of_the_published_sdk_maps_every_record() {
    let mut stage = Stage::new();
    let at = stage.at("map");
    let (stop, stopped) = oneshot::channel();
    let server =
        Server::new(Double).with_socket_file(at.socket.clone()).with_server_info_file(at.info.clone().unwrap());
    stage.servers.spawn(async move { server.start_with_shutdown(stopped).await.unwrap() });
    let numbers: Vec<String> = (1..=2100).map(|number| number.to_string()).collect();
    let mut settings = settings(stage.lines(numbers.iter().map(String::as_str)), Until::Told);
    settings.map = Some(at);
    settings.out = stage.out();
    let counts = run(settings).await.counts;
    assert_eq!((counts.read, counts.mapped, counts.dropped, counts.acked), (2100, 1800, 300, 2100));
    let expected: Vec<String> =
        (1..=2100).filter(|number| number % 7 != 0).map(|number| (2 * number).to_string()).collect();
    assert_eq!(lines_of(&stage.path("out")), expected);
    stop.send(()).unwrap();
    stage.servers.join_next().await.unwrap().unwrap();
}
