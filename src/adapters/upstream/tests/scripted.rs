//! A server that answers with the bytes it is told to, over real sockets, and remembers what it was asked.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::adapters::upstream::Limits;
use crate::adapters::upstream::Place;
use crate::adapters::upstream::Server;
use crate::adapters::upstream::TrustFiles;
use crate::adapters::upstream::server::Upstream;
use crate::domain::canonical;
use crate::pep::ports::Notices;
use crate::pep::ports::Outbound;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Value,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The JSON-RPC method; none of a `GET` or of an answer.
    pub(super) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(super) fn id(&self) -> i64 {
        self.body["id"].as_i64().unwrap_or_default()
    }
}

/// What is sent back, and what happens to the connection then.
pub(super) enum Reply {
    Keep(Vec<u8>),
    Close(Vec<u8>),
    /// Nothing more, and the connection stays open.
    Hang(Vec<u8>),
    /// The part again and again.
    Endless(Vec<u8>, Vec<u8>),
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

pub(super) struct Scripted {
    pub(super) port: u16,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
    _running: JoinSet<()>,
}

impl Scripted {
    pub(super) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_as(None, script).await
    }

    pub(super) async fn start_tls(
        tls: rustls::ServerConfig,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(Some(TlsAcceptor::from(Arc::new(tls))), script).await
    }

    async fn start_as(tls: Option<TlsAcceptor>, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, remember): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (script, remember, tls) = (Arc::clone(&script), Arc::clone(&remember), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, script, remember).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, script, remember).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, seen, _running: running }
    }

    /// The methods asked for, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.method().to_owned()).collect()
    }

    pub(super) fn times(&self, method: &str) -> usize {
        self.asked().iter().filter(|one| *one == method).count()
    }

    pub(super) fn last(&self, method: &str) -> Seen {
        self.seen.lock().unwrap().iter().rfind(|seen| seen.method() == method).cloned().unwrap()
    }

    pub(super) fn upstream(&self) -> Upstream {
        Upstream::new(server(self.port))
    }

    /// Met and read once.
    pub(super) async fn ready(&self) -> Upstream {
        let upstream = self.upstream();
        let offer = upstream.read().await.unwrap();
        upstream.offer.store(Some(offer.into()));
        upstream
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: Arc<Script>, remember: Arc<Mutex<Vec<Seen>>>) {
    let mut buffer = Vec::new();
    while let Some(seen) = request(&mut stream, &mut buffer).await {
        remember.lock().unwrap().push(seen.clone());
        match script(&seen) {
            Reply::Keep(bytes) => {
                let _gone = stream.write_all(&bytes).await;
            }
            Reply::Close(bytes) => {
                let _gone = stream.write_all(&bytes).await;
                return;
            }
            Reply::Hang(bytes) => {
                let _gone = stream.write_all(&bytes).await;
                std::future::pending::<()>().await;
            }
            Reply::Endless(first, rest) => {
                let _gone = stream.write_all(&first).await;
                while stream.write_all(&rest).await.is_ok() {}
                return;
            }
        }
    }
}

async fn request<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<Seen> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let mut lines = head.split("\r\n");
            let line = lines.next().unwrap().to_owned();
            let headers: Vec<(String, String)> = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length =
                headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
            if buffer.len() >= end + 4 + length {
                let body = serde_json::from_slice(&buffer[end + 4..end + 4 + length]).unwrap_or_default();
                buffer.drain(..end + 4 + length);
                return Some(Seen { line, headers, body });
            }
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(read @ 1..) => buffer.extend_from_slice(&part[..read]),
            Ok(_) | Err(_) => return None,
        }
    }
}

pub(super) fn server(port: u16) -> Server {
    Server {
        name: "docs".into(),
        place: Place { tls: false, host: "127.0.0.1".into(), port, path: "/mcp".into(), private: false },
        trust: TrustFiles::default(),
        credential: None,
        connect: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        refresh: Duration::from_mins(5),
        limits: Limits {
            answer_bytes: 64 * 1024,
            json: canonical::Limits { members_max: 1_000, ..canonical::Limits::default() },
            pages: 5,
            items: 20,
            ..Limits::default()
        },
    }
}

/// A whole HTTP answer.
pub(super) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn answer(value: &Value) -> Vec<u8> {
    http("200 OK", "Content-Type: application/json\r\n", value.to_string().as_bytes())
}

pub(super) fn result(seen: &Seen, result: &Value) -> Vec<u8> {
    answer(&json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}))
}

pub(super) fn error(seen: &Seen, code: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": seen.id(), "error": {"code": code, "message": "no"}})
}

/// The head of an event stream that ends with the connection.
pub(super) const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

pub(super) fn stream(events: &[String]) -> Vec<u8> {
    [STREAM, events.concat().as_bytes()].concat()
}

pub(super) fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

pub(super) fn tools() -> Value {
    json!({"tools": [{"name": "save", "inputSchema": {"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"}}}}], "ttlMs": 0, "cacheScope": "private"})
}

/// A modern server whose tool does `call`.
pub(super) fn modern(call: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| match seen.method() {
        "server/discover" => {
            Reply::Keep(result(seen, &json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})))
        }
        "tools/list" => Reply::Keep(result(seen, &tools())),
        _ => call(seen),
    }
}

/// A legacy server with sessions, named by how many were opened before.
pub(super) fn legacy(call: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> impl Fn(&Seen) -> Reply + Send + Sync {
    let opened = Mutex::new(0);
    move |seen| match seen.method() {
        "server/discover" => Reply::Keep(http("400 Bad Request", "", b"")),
        "initialize" => {
            let mut opened = opened.lock().unwrap();
            *opened += 1;
            let initialized = json!({"jsonrpc": "2.0", "id": seen.id(), "result": {
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}});
            let headers = format!("Content-Type: application/json\r\nMcp-Session-Id: s{opened}\r\n");
            Reply::Keep(http("200 OK", &headers, initialized.to_string().as_bytes()))
        }
        method if method.starts_with("notifications/") => Reply::Keep(http("202 Accepted", "", b"")),
        "tools/list" => Reply::Keep(result(seen, &tools())),
        _ => call(seen),
    }
}

pub(super) fn outbound(method: &str, params: &Value) -> Outbound {
    outbound_of("ada", method, params)
}

pub(super) fn outbound_of(user: &str, method: &str, params: &Value) -> Outbound {
    Outbound {
        backend: "docs".into(),
        issuer: "https://idp.example".into(),
        method: "POST".into(),
        path_and_query: "/".into(),
        headers: vec![
            ("Authorization", "Bearer of-the-call".into()),
            ("X-LoopIQ-Tenant", "org_gcn".into()),
            ("X-LoopIQ-User", user.into()),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ],
        body: Some(json!({"method": method, "params": params}).to_string().into_bytes()),
        timeout: Duration::from_secs(5),
        send_before: None,
        notices: None,
    }
}

pub(super) fn save() -> Outbound {
    outbound("tools/call", &json!({"name": "save", "arguments": {"region": "z\u{fc}rich"}}))
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub(super) struct Told(pub(super) Mutex<Vec<(String, Value)>>);

impl Notices for Told {
    fn tell(&self, method: &str, params: &Map<String, Value>) {
        self.0.lock().unwrap().push((method.to_owned(), Value::Object(params.clone())));
    }
}
