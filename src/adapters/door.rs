//! The MCP door: connections to whole arrivals, answers back to bytes. HTTP/1.1 and, by TLS, HTTP/2;
//! over TCP, and over a Unix socket for sidecars.
//!
//! Promises: bounded everywhere (connections, head, body, all long bodies, time); a stranger's long
//! body is not read; framing that two readers could read in two ways is refused and the connection
//! closed; a malformed request gets an answer; an answer leaves in one write, or as a stream once
//! progress is sent; a client that hangs up never stops work that was sent on. Never looks inside a
//! body and never decides who may do what.
//! Opened by `app`, which owns the future of [`Door::run`]. HTTP/1 itself is pingora's, HTTP/2 h2's.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pingora::apps::ServerApp as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::adapters::door::conversation::Conversation;
use crate::adapters::door::link::Link;
use crate::adapters::door::pace::Pace;
use crate::adapters::door::socket::Socket;
use crate::adapters::door::space::Space;
use crate::adapters::door::wire::Wire;
use crate::adapters::tls;
use crate::domain::identity::ClientCertificate;
use crate::domain::mcp::receive::DoorRules;
use crate::pep::arrival::{Gate, Turned};

mod chunks;
mod conversation;
mod cors;
pub mod framing;
mod http2;
mod link;
mod pace;
mod socket;
mod space;
mod wire;

/// How long the accept loop rests when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the door stands and what it lets through.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Address to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// TLS at that address; none for plain HTTP.
    pub tls: Option<Arc<tls::Server>>,
    /// A Unix socket to listen on besides.
    pub socket: Option<PathBuf>,
    /// Hosts and origins; the door needs them for CORS, `pep` for every request.
    pub rules: DoorRules,
    /// Bounds.
    pub limits: DoorLimits,
}

/// Bounds of the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorLimits {
    /// Bytes of a request body.
    pub body_bytes_max: usize,
    /// Bytes of all long bodies that are held at once, until their calls are answered; others wait.
    pub bodies_bytes_max: usize,
    /// Bytes of request line and headers.
    pub head_bytes_max: usize,
    /// From the first byte of a request to its last.
    pub read_within: Duration,
    /// For each piece that is written to a client.
    pub write_within: Duration,
    /// How long a connection may rest between requests.
    pub keep_alive: Duration,
    /// How often a comment is sent on a stream that waits for its answer.
    pub heartbeat: Duration,
    /// Connections at once; others wait in the system's backlog.
    pub connections_max: usize,
    /// How long calls under way may take to finish when the door closes.
    pub drain_within: Duration,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            bodies_bytes_max: 256 << 20,
            head_bytes_max: 32 << 10,
            read_within: Duration::from_secs(10),
            write_within: Duration::from_secs(30),
            keep_alive: Duration::from_mins(1),
            heartbeat: Duration::from_secs(15),
            connections_max: 12_000,
            drain_within: Duration::from_secs(30),
        }
    }
}

/// Why the door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address cannot be listened on.
    #[error("cannot listen on `{addr}`: {source}; choose another `listen.mcp` or stop what listens there")]
    Bind {
        /// The address as configured.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The Unix socket cannot be listened on.
    #[error("cannot listen on `{path}`: {cause}")]
    Socket {
        /// The path as configured.
        path: PathBuf,
        /// What is in the way, and what to do.
        cause: String,
    },
}

/// What was cut off when the door closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Calls that had not finished when the drain time was over.
    pub calls_cut: usize,
    /// Connections that had not ended then.
    pub connections_cut: usize,
}

/// A door that listens and has not let anyone in yet.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    socket: Option<Socket>,
    addr: SocketAddr,
    listen: Listen,
}

/// What every connection shares.
struct House {
    gate: Arc<dyn Gate>,
    rules: DoorRules,
    limits: DoorLimits,
    space: Space,
    /// Requests of HTTP/2 at once, of all connections; each of HTTP/1 has a connection to itself.
    streams: Arc<Semaphore>,
    calls: Calls,
    closing: watch::Receiver<bool>,
}

impl House {
    /// Whether connections should end with the request that they carry.
    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }
}

impl Door {
    /// Listens. Clients that connect now wait until [`Door::run`].
    pub async fn open(listen: Listen) -> Result<Self, DoorError> {
        let bind = |source| DoorError::Bind { addr: listen.addr, source };
        let listener = TcpListener::bind(listen.addr).await.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        let socket = match &listen.socket {
            Some(path) => {
                let refused = |cause| DoorError::Socket { path: path.clone(), cause };
                Some(Socket::open(path).await.map_err(refused)?)
            }
            None => None,
        };
        Ok(Self { listener, socket, addr, listen })
    }

    /// The address that is listened on, with the port that was given.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` turns true (or its sender goes), then lets calls under way finish.
    pub async fn run(self, gate: Arc<dyn Gate>, shutdown: watch::Receiver<bool>) -> Closed {
        let Self { listener, socket, listen, .. } = self;
        let limits = listen.limits;
        let house = Arc::new(House {
            gate,
            rules: listen.rules,
            limits,
            space: Space::new(limits.bodies_bytes_max),
            streams: Arc::new(Semaphore::new(limits.connections_max.max(1))),
            calls: Calls::default(),
            closing: shutdown,
        });
        let mut connections = JoinSet::new();
        let listeners = Listeners { tcp: listener, tls: listen.tls, socket };
        accept_until_closing(&house, &listeners, &mut connections).await;
        // Whoever connects from here on is told so by the system at once.
        drop(listeners);
        let deadline = Instant::now() + limits.drain_within;
        let connections_cut = drain(&mut connections, deadline).await;
        let mut calls = house.calls.take();
        let calls_cut = drain(&mut calls, deadline).await;
        Closed { calls_cut, connections_cut }
    }
}

/// Where connections come from.
struct Listeners {
    tcp: TcpListener,
    tls: Option<Arc<tls::Server>>,
    socket: Option<Socket>,
}

/// A connection that was accepted, before any byte of it.
struct Accepted {
    link: Link,
    peer: Option<SocketAddr>,
}

impl Listeners {
    async fn accept(&self) -> std::io::Result<Accepted> {
        let from_socket = async {
            match &self.socket {
                Some(socket) => socket.accept().await,
                None => std::future::pending().await,
            }
        };
        // The loser of this race has taken nothing.
        tokio::select! {
            tcp = self.tcp.accept() => tcp.map(|(tcp, peer)| Accepted { link: Link::Tcp(tcp), peer: Some(peer) }),
            unix = from_socket => unix.map(|unix| Accepted { link: Link::Unix(unix), peer: None }),
        }
    }
}

async fn accept_until_closing(house: &Arc<House>, listeners: &Listeners, connections: &mut JoinSet<()>) {
    let seats = Arc::new(Semaphore::new(house.limits.connections_max.max(1)));
    let mut closing = house.closing.clone();
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = told_to_close(&mut closing) => return,
            // The loser of this race has taken nothing: `accept` and the seat are both cancel-safe.
            Some(ended) = connections.join_next(), if !connections.is_empty() => note_panic("connection", ended),
            arrived = seat_and_accept(&seats, listeners) => match arrived {
                Ok((seat, accepted)) => {
                    failing = false;
                    connections.spawn(converse(Arc::clone(house), listeners.tls.clone(), accepted, seat));
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(error = %error, "the MCP door cannot accept connections: {error}");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Returns when `shutdown` turns true, or when nobody can turn it true any more.
async fn told_to_close(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

fn note_panic(what: &'static str, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(task = what, error = %error, "a {what} of the MCP door ended in a panic: {error}");
    }
}

async fn seat_and_accept(
    seats: &Arc<Semaphore>,
    listeners: &Listeners,
) -> std::io::Result<(OwnedSemaphorePermit, Accepted)> {
    let seat = Arc::clone(seats).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((seat, listeners.accept().await?))
}

/// One connection, from its first byte to its last.
async fn converse(
    house: Arc<House>,
    tls: Option<Arc<tls::Server>>,
    Accepted { link, peer }: Accepted,
    seat: OwnedSemaphorePermit,
) {
    match (link, tls) {
        (Link::Tcp(tcp), tls) => {
            // Without it a stream's events would wait for the client's acknowledgements; failing is harmless.
            let _best_effort = tcp.set_nodelay(true);
            match tls {
                // Boxed, so that a connection at rest does not carry the space of a handshake.
                Some(tls) => Box::pin(converse_secured(house, &tls, tcp, peer)).await,
                None => speak(house, Link::Tcp(tcp), peer, None).await,
            }
        }
        (link, _) => speak(house, link, peer, None).await,
    }
    drop(seat);
}

/// A handshake first; then the protocol that it agreed on.
async fn converse_secured(house: Arc<House>, tls: &tls::Server, tcp: TcpStream, peer: Option<SocketAddr>) {
    let mut closing = house.closing.clone();
    let secured = tokio::select! {
        biased;
        secured = timeout(house.limits.read_within, tls.accept(tcp)) => secured,
        // A client that has not finished its handshake is owed nothing.
        () = told_to_close(&mut closing) => return,
    };
    let (stream, certificate) = match secured {
        Ok(Ok(secured)) => secured,
        // Whoever connects and goes without a word, as health checks do, was not turned away.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return,
        Ok(Err(_)) => return house.gate.turned_away(Turned::Tls, peer).await,
        Err(_) => return house.gate.turned_away(Turned::TooSlow, peer).await,
    };
    let certificate = certificate.map(Arc::new);
    if stream.get_ref().1.alpn_protocol() == Some(tls::H2) {
        let pace = Arc::new(Pace::of_frames());
        let wire = Wire::new(Link::Tls(Box::new(stream)), Arc::clone(&pace));
        let conversation = Arc::new(Conversation { house, pace, peer, certificate });
        http2::serve(conversation, wire).await;
    } else {
        speak(house, Link::Tls(Box::new(stream)), peer, certificate).await;
    }
}

/// HTTP/1 on a connection that is ready for it.
async fn speak(house: Arc<House>, link: Link, peer: Option<SocketAddr>, certificate: Option<Arc<ClientCertificate>>) {
    let pace = Arc::new(Pace::new(house.limits.head_bytes_max));
    let wire = Wire::new(link, Arc::clone(&pace));
    let closing = house.closing.clone();
    let conversation = Arc::new(Conversation { house, pace, peer, certificate });
    conversation.process_new(Box::new(wire), &closing).await;
}

/// Waits for tasks until the deadline; gives the number of those that it had to cut off.
async fn drain(tasks: &mut JoinSet<()>, deadline: Instant) -> usize {
    while let Ok(Some(_)) = timeout_at(deadline, tasks.join_next()).await {}
    let cut = tasks.len();
    tasks.shutdown().await;
    cut
}

/// Calls under way. They belong to the door, not to the connection that brought them.
#[derive(Default)]
struct Calls(Mutex<JoinSet<()>>);

impl Calls {
    fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = calls.try_join_next() {
            note_panic("call", ended);
        }
        calls.spawn(call);
    }

    fn take(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
