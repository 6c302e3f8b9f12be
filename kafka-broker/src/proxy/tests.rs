//! What passes in which condition. Whatever is asserted to be so is awaited; that something does not pass is asserted where
//! every step is taken by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::relay;
use super::*;

const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A link to a listener of the test.
struct Stage {
    target: TcpListener,
    link: Link,
    // Dropped last; in an asynchronous test only in the background.
    proxy: Option<Proxy>,
}

impl Stage {
    async fn new() -> Self {
        let target = TcpListener::bind(ANYWHERE).await.unwrap();
        let proxy = Proxy::start().unwrap();
        let link = proxy.link(ANYWHERE.into(), target.local_addr().unwrap()).unwrap();
        Self { target, link, proxy: Some(proxy) }
    }

    /// A connection: the client's side and the target's.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.link.address()).await.unwrap();
        (client, self.target.accept().await.unwrap().0)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.runtime.shutdown_background();
        }
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) {
    from.write_all(text).await.unwrap();
    let mut came = vec![0; text.len()];
    to.read_exact(&mut came).await.unwrap();
    assert_eq!(came, text);
}

/// Waits for the end of a connection, on which nothing may come any more; `true` when it was reset.
async fn is_reset(connection: &mut TcpStream) -> bool {
    match connection.read(&mut [0; 1]).await {
        Ok(0) => false,
        Ok(_) => panic!("something came"),
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// Whether a new connection is reset: either while it is made or at its first read.
async fn is_refused(address: SocketAddr) -> bool {
    match TcpStream::connect(address).await {
        Ok(mut client) => is_reset(&mut client).await,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test]
async fn an_open_link_passes_everything_and_its_end() {
    let stage = Stage::new().await;
    let (mut client, mut server) = stage.connect().await;
    passes(&mut client, &mut server, b"question").await;
    passes(&mut server, &mut client, b"answer").await;
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    passes(&mut server, &mut client, b"the other direction is still there").await;
    drop(server);
    assert!(!is_reset(&mut client).await);
}

#[tokio::test]
async fn a_link_that_is_cut_resets_old_and_new_connections() {
    let stage = Stage::new().await;
    let (mut client, mut server) = stage.connect().await;
    stage.link.cut();
    assert!(is_reset(&mut client).await && is_reset(&mut server).await);
    assert!(is_refused(stage.link.address()).await);
    stage.link.heal();
    let (mut client, mut server) = stage.connect().await;
    passes(&mut client, &mut server, b"again").await;
}

#[tokio::test]
async fn connections_outlive_a_stall_and_new_ones_wait_for_its_end() {
    let stage = Stage::new().await;
    let (mut client, mut server) = stage.connect().await;
    stage.link.stall();
    client.write_all(b"later").await.unwrap();
    let mut other = TcpStream::connect(stage.link.address()).await.unwrap();
    assert!(stage.target.accept().now_or_never().is_none());
    stage.link.heal();
    let mut came = [0; 5];
    server.read_exact(&mut came).await.unwrap();
    assert_eq!(&came, b"later");
    let mut accepted = stage.target.accept().await.unwrap().0;
    passes(&mut other, &mut accepted, b"as well").await;
}

#[tokio::test]
async fn of_a_half_open_connection_only_the_targets_side_ends() {
    let stage = Stage::new().await;
    let (mut old, mut server) = stage.connect().await;
    stage.link.half_open();
    assert!(is_reset(&mut server).await);
    // The other side has no reason to think that anything is wrong.
    old.write_all(b"lost").await.unwrap();
    assert!(old.read(&mut [0; 1]).now_or_never().is_none());
    let (mut new, mut server) = stage.connect().await;
    passes(&mut new, &mut server, b"not lost").await;
    stage.link.half_open();
    assert!(is_reset(&mut server).await);
    stage.link.heal();
    assert!(is_reset(&mut old).await && is_reset(&mut new).await);
}

#[tokio::test]
async fn a_target_that_is_not_there_resets_the_client() {
    let mut stage = Stage::new().await;
    let gone = std::mem::replace(&mut stage.target, TcpListener::bind(ANYWHERE).await.unwrap());
    drop(gone);
    assert!(is_refused(stage.link.address()).await);
}

#[tokio::test]
async fn nothing_of_a_link_that_is_dropped_is_left() {
    let stage = Stage::new().await;
    let (mut client, mut server) = stage.connect().await;
    let other = stage.proxy.as_ref().unwrap().link(ANYWHERE.into(), stage.link.address()).unwrap();
    let address = other.address();
    let (mut beyond, _) = tokio::join!(TcpStream::connect(address), stage.target.accept());
    drop(other);
    assert!(!is_reset(beyond.as_mut().unwrap()).await);
    passes(&mut client, &mut server, b"others are not concerned").await;
}

fn state(condition: Condition) -> watch::Sender<State> {
    watch::Sender::new(State { condition, half_opened: 0 })
}

fn set(state: &watch::Sender<State>, condition: Condition) {
    state.send_modify(|state| state.condition = condition);
}

#[tokio::test]
async fn in_a_stall_not_a_byte_passes_and_no_end() {
    let state = state(Condition::Open);
    let (mut client, from) = tokio::io::duplex(64);
    let (to, mut server) = tokio::io::duplex(64);
    let mut relay = pin!(relay(from, to, state.subscribe()));
    client.write_all(b"a").await.unwrap();
    assert!((&mut relay).now_or_never().is_none());
    assert_eq!(server.read_u8().now_or_never().unwrap().unwrap(), b'a');
    set(&state, Condition::Stalled);
    client.write_all(b"b").await.unwrap();
    drop(client);
    assert!((&mut relay).now_or_never().is_none());
    assert!(server.read_u8().now_or_never().is_none());
    set(&state, Condition::Open);
    assert!((&mut relay).now_or_never().unwrap().is_ok());
    assert_eq!(server.read_u8().now_or_never().unwrap().unwrap(), b'b');
    assert_eq!(server.read(&mut [0; 1]).now_or_never().unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_takes_its_time_until_it_is_healed() {
    let slow = NonZeroU32::new(100).unwrap();
    let state = state(Condition::Slow(slow));
    let (mut client, from) = tokio::io::duplex(1 << 20);
    let (to, mut server) = tokio::io::duplex(1 << 20);
    let mut relay = pin!(relay(from, to, state.subscribe()));
    let began = Instant::now();
    client.write_all(&[0; 1_000]).await.unwrap();
    let mut came = vec![0; 1_000];
    tokio::select! {
        _ = &mut relay => panic!("the relay has ended"),
        read = server.read_exact(&mut came) => assert_eq!(read.unwrap(), 1_000),
    }
    assert_eq!(began.elapsed().as_secs(), 10);
    client.write_all(&[0; 1_000]).await.unwrap();
    assert!((&mut relay).now_or_never().is_none());
    set(&state, Condition::Open);
    assert!((&mut relay).now_or_never().is_none());
    server.read_exact(&mut came).now_or_never().unwrap().unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
}
