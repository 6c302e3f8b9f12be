//! A TCP proxy whose links can be cut, stalled, slowed down and left half-open, to test what peers make of a bad network.
//!
//! A [`Link`] has an address of its own and passes what it gets there on to one target. Each link has a condition of its
//! own; the change of a condition holds for the connections that exist and for new ones.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

mod connection;

/// How long a link that cannot accept a connection, for want of file descriptors, waits before it tries again.
const RETRY: Duration = Duration::from_millis(20);

/// What a link does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Everything passes.
    Open,
    /// Connections are reset, those that exist and new ones.
    Cut,
    /// Nothing passes, and no connection ends.
    Stalled,
    /// So many bytes pass per second, in each direction of each connection.
    Slow(NonZeroU32),
    /// The connections that existed are half-open; new ones pass.
    HalfOpen,
}

/// What the connections of a link are told.
#[derive(Debug, Clone, Copy)]
struct State {
    condition: Condition,
    /// How often connections were left half-open. Those that were made before the last time are.
    half_opened: u64,
}

/// The thread that carries the bytes of all its links.
#[derive(Debug)]
pub struct Proxy {
    runtime: Runtime,
}

impl Proxy {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system does not give us one.
    pub fn start() -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("proxy").enable_all().build()?;
        Ok(Self { runtime })
    }

    /// Opens a link that listens at one address and connects to another. It ends, with its connections, when it is dropped.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened at.
    pub fn link(&self, at: SocketAddr, target: SocketAddr) -> io::Result<Link> {
        let _context = self.runtime.enter();
        let listener = StdListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let (state, receiver) = watch::channel(State { condition: Condition::Open, half_opened: 0 });
        self.runtime.spawn(accept(listener, target, receiver));
        Ok(Link { address, state })
    }
}

/// A way from one address to another.
///
/// A change reaches the connections a moment after the method returns: bytes that are on their way may still arrive.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
}

impl Link {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all connections, and new ones as soon as they are made.
    pub fn cut(&self) {
        self.set(Condition::Cut);
    }

    /// Lets nothing pass, not even the end of a connection. New connections are accepted, and nothing comes of them. What
    /// is sent meanwhile arrives after [`heal`](Self::heal).
    pub fn stall(&self) {
        self.set(Condition::Stalled);
    }

    /// Lets so many bytes pass per second, in each direction of each connection.
    pub fn slow(&self, bytes_per_second: NonZeroU32) {
        self.set(Condition::Slow(bytes_per_second));
    }

    /// Resets the target's side of all connections and keeps the other one, as when the target's machine has lost power, or
    /// a firewall has forgotten its connections. What is sent on such a connection is lost, and nobody is told. New
    /// connections pass.
    pub fn half_open(&self) {
        self.state.send_modify(|state| {
            state.condition = Condition::HalfOpen;
            state.half_opened += 1;
        });
    }

    /// Lets everything pass. Connections that were half-open are reset; stalled and slow ones go on.
    pub fn heal(&self) {
        self.set(Condition::Open);
    }

    fn set(&self, condition: Condition) {
        self.state.send_modify(|state| state.condition = condition);
    }
}

/// Carries all connections of a link until the link is dropped.
async fn accept(listener: TcpListener, target: SocketAddr, mut state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => _ = connections.spawn(connection::carry(client, target, state.clone())),
                Err(_) => tokio::time::sleep(RETRY).await,
            },
            Some(_) = connections.join_next() => {}
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests;
