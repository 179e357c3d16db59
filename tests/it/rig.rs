//! A LoopIQ that misbehaves on the wire: it passes requests on to the sandbox, and does with the
//! answers, and with the connection, what a test says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Which of the rig's connections it came on, from 0.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn is_write(&self) -> bool {
        self.method == "POST"
    }
}

/// What becomes of a request.
pub(crate) enum Act {
    /// The sandbox's answer.
    Pass,
    /// The sandbox's answer, and then this.
    PassAnd(Vec<u8>),
    /// The sandbox does it, and the connection is reset.
    PassThenReset,
    /// The sandbox's answer, once there is a permit for it.
    Held(Arc<Semaphore>),
    /// The connection is reset at once.
    Reset,
    /// This, and the connection stays open.
    Say(Vec<u8>),
    /// This, and the end of the stream.
    SayAndEnd(Vec<u8>),
    /// This, and then that for ever.
    Flood(Vec<u8>, Vec<u8>),
}

type Script = Box<dyn FnMut(&Seen) -> Act + Send>;

/// What all connections of a rig share.
pub(crate) struct State {
    behind: OnceLock<String>,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// A backend under a test's control; it stops when it is dropped.
pub(crate) struct Rig {
    pub(crate) addr: Option<SocketAddr>,
    state: Arc<State>,
    /// Ends with it.
    _server: JoinSet<()>,
}

impl Rig {
    pub(crate) async fn new(script: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        Self::start(None, script).await
    }

    pub(crate) async fn with_tls(tls: TlsAcceptor, script: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        Self::start(Some(tls), script).await
    }

    async fn start(tls: Option<TlsAcceptor>, script: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State::new(script));
        let shared = Arc::clone(&state);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    let reset = reset_of(&stream);
                    match tls {
                        None => state.serve(stream, reset).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                state.serve(stream, reset).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr: Some(addr), state, _server: server }
    }

    pub(crate) fn on_socket(path: &Path, script: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let state = Arc::new(State::new(script));
        let shared = Arc::clone(&state);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move { state.serve(stream, || {}).await });
            }
        });
        Self { addr: None, state, _server: server }
    }

    /// The sandbox that it passes requests to.
    pub(crate) fn behind(&self, sandbox: &str) {
        self.state.behind.set(sandbox.trim_start_matches("http://").to_owned()).unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr.unwrap())
    }

    /// Another script from now on.
    pub(crate) fn then(&self, script: impl FnMut(&Seen) -> Act + Send + 'static) {
        *self.state.script.lock().unwrap() = Box::new(script);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Connections that are open now and have carried a request.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

/// Makes the next close of a connection a reset.
fn reset_of(stream: &TcpStream) -> impl FnOnce() + Send + 'static {
    let fd = rustix::io::dup(stream).unwrap();
    move || rustix::net::sockopt::set_socket_linger(fd, Some(std::time::Duration::ZERO)).unwrap()
}

impl State {
    fn new(script: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        Self {
            behind: OnceLock::new(),
            script: Mutex::new(Box::new(script)),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        }
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, reset: impl FnOnce()) {
        let mut connection = None;
        while let Some((raw, mut seen)) = request(&mut stream).await {
            let connection = *connection.get_or_insert_with(|| {
                self.open.fetch_add(1, Ordering::SeqCst);
                self.connections.fetch_add(1, Ordering::SeqCst)
            });
            seen.connection = connection;
            self.seen.lock().unwrap().push(seen.clone());
            let act = (self.script.lock().unwrap())(&seen);
            match act {
                Act::Pass => stream.write_all(&self.pass(&raw).await).await.unwrap_or_default(),
                Act::Held(until) => {
                    until.acquire().await.unwrap().forget();
                    stream.write_all(&self.pass(&raw).await).await.unwrap_or_default();
                }
                Act::PassAnd(more) => {
                    let answer = [self.pass(&raw).await, more].concat();
                    stream.write_all(&answer).await.unwrap_or_default();
                }
                Act::Say(words) => stream.write_all(&words).await.unwrap_or_default(),
                Act::SayAndEnd(words) => {
                    stream.write_all(&words).await.unwrap_or_default();
                    break;
                }
                Act::PassThenReset => {
                    self.pass(&raw).await;
                    reset();
                    break;
                }
                Act::Reset => {
                    reset();
                    break;
                }
                Act::Flood(first, more) => {
                    let mut went = stream.write_all(&first).await;
                    while went.is_ok() {
                        went = stream.write_all(&more).await;
                    }
                    break;
                }
            }
        }
        if connection.is_some() {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The sandbox's whole answer to a request.
    async fn pass(&self, raw: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(raw).replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let mut sandbox = TcpStream::connect(self.behind.get().unwrap()).await.unwrap();
        sandbox.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        sandbox.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        answer.replacen("connection: close\r\n", "", 1).into_bytes()
    }
}

/// The next request on a connection, whole.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Vec<u8>, Seen)> {
    let mut raw = Vec::new();
    let head = loop {
        if let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        raw.push(stream.read_u8().await.ok()?);
    };
    let text = String::from_utf8_lossy(&raw[..head]).into_owned();
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    raw.extend(body);
    Some((raw, Seen { method, path, headers, connection: 0 }))
}
