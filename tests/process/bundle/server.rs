//! A server of bundles: one file, its tag, and how often it was sent.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::thread::JoinHandle;

#[derive(Default)]
struct State {
    body: Vec<u8>,
    version: usize,
    sent: usize,
    /// Times that nothing was sent since the tag was known, by version.
    spared: Vec<usize>,
    stopped: bool,
}

pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    /// One in the place of another that has stopped.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let serves = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if serves.lock().unwrap().stopped {
                    return;
                }
                // Whoever hangs up wants no answer.
                let _gone = answer(&serves, stream.unwrap()).is_err();
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/bundle.tar.gz", self.address)
    }

    /// From now on there is this.
    pub(crate) fn serves(&self, body: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.body = body.to_vec();
        state.version += 1;
    }

    /// How often a whole bundle was sent.
    pub(crate) fn sent(&self) -> usize {
        self.state.lock().unwrap().sent
    }

    /// How many bundles were asked for again and not sent again.
    pub(crate) fn spared(&self) -> usize {
        let mut versions = self.state.lock().unwrap().spared.clone();
        versions.sort_unstable();
        versions.dedup();
        versions.len()
    }

    /// Stops; says where it was.
    pub(crate) fn stop(mut self) -> SocketAddr {
        self.end();
        self.address
    }

    fn end(&mut self) {
        self.state.lock().unwrap().stopped = true;
        // Wakes the thread.
        drop(TcpStream::connect(self.address));
        self.thread.take().map(JoinHandle::join).transpose().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

fn answer(state: &Mutex<State>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let reply = {
        let mut state = state.lock().unwrap();
        let version = state.version;
        let (status, body) = if head.contains(&format!("if-none-match: \"v{version}\"")) {
            state.spared.push(version);
            ("304 Not Modified", Vec::new())
        } else {
            state.sent += 1;
            ("200 OK", state.body.clone())
        };
        let head = format!(
            "HTTP/1.1 {status}\r\netag: \"v{version}\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    };
    stream.write_all(&reply)
}
