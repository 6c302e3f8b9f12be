//! One connection of a link.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Condition, State};

/// How much is passed on at a time.
const CHUNK: usize = 16 << 10;

/// Connects a client to the target and passes on what they send, as far as the state of the link allows.
pub(super) async fn carry(mut client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let born = state.borrow().half_opened;
    let Ok(condition) = passable(&mut state).await else { return };
    if condition == Condition::Cut {
        return reset(client);
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return reset(client) };
    // Requests and answers are small and waited for.
    _ = client.set_nodelay(true);
    _ = server.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let requests = relay(from_client, to_server, state.clone());
    let answers = relay(from_server, to_client, state.clone());
    let is_over = tokio::select! {
        biased;
        broken = state.wait_for(|state| state.condition == Condition::Cut || state.half_opened > born) => broken.is_err(),
        _ = async { tokio::try_join!(requests, answers) } => true,
    };
    if is_over {
        return;
    }
    reset(server);
    if state.borrow().condition == Condition::Cut {
        return reset(client);
    }
    let over = state.wait_for(|state| matches!(state.condition, Condition::Cut | Condition::Open));
    tokio::select! {
        _ = over => {}
        () = swallow(&mut client) => {}
    }
    reset(client);
}

/// Waits while nothing passes.
async fn passable(state: &mut watch::Receiver<State>) -> io::Result<Condition> {
    let state = state.wait_for(|state| state.condition != Condition::Stalled).await;
    state.map(|state| state.condition).map_err(io::Error::other)
}

/// Passes on one direction of a connection, its end included.
pub(super) async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        // What comes while nothing passes waits in the buffer, and what comes after it in the sockets.
        let length = from.read(&mut buffer).await?;
        if let Condition::Slow(bytes_per_second) = passable(&mut state).await? {
            let pause = Duration::from_secs_f64(length as f64 / f64::from(bytes_per_second.get()));
            // A link that is healed does not keep the pause.
            _ = timeout(pause, no_longer(&mut state, bytes_per_second)).await;
            passable(&mut state).await?;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Waits until the link is not as slow as that.
async fn no_longer(state: &mut watch::Receiver<State>, bytes_per_second: NonZeroU32) {
    _ = state.wait_for(|state| state.condition != Condition::Slow(bytes_per_second)).await;
}

/// Reads what a client sends to nobody, until it has enough of it.
async fn swallow(client: &mut TcpStream) {
    let mut buffer = vec![0; CHUNK];
    while client.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
}

/// Ends a connection as a peer does that knows nothing of it.
fn reset(connection: TcpStream) {
    // Without it the connection ends in order, which is an end, too.
    _ = connection.set_zero_linger();
}
