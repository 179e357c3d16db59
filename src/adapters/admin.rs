//! Operators' door: liveness, readiness with details, metrics; what people do with approvals,
//! writes and the journal ([`api`]).
//!
//! Promises: `/readyz` is 200 exactly while calls can be decided and recorded, and its details say
//! in plain words what is stale or failing; bounded in connections, head, body and time; on loopback,
//! pages in a browser cannot reach it under a name of theirs. Shows strangers no token, key, argument
//! or payload. Called by `app`; asks through [`Vitals`] and `pep::desk`, and has no rules of its own.

pub mod api;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::adapters::tls;
use crate::domain::mcp::receive::DoorRules;

/// Connections at once; more than probes and scrapers of one instance make. Others wait in the backlog.
const CONNECTIONS_MAX: usize = 256;
/// From a connection's first byte to the last of its answer. Each carries one request, which may
/// wait for the journal twice and for the ledger in between.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(45);
/// Bytes of a request head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long the accept loop rests when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What operators may know; implemented by `app`, which sees every part.
pub trait Vitals: Send + Sync {
    /// Whether calls can be decided and recorded, with details.
    fn readiness(&self) -> Readiness;

    /// Metrics in Prometheus text format.
    fn metrics(&self) -> String;
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Whether this instance should get traffic.
    pub ready: bool,
    /// What is wrong or stale, in plain words; may be non-empty while ready.
    pub findings: Vec<String>,
    /// The rules in force.
    pub rules: Option<RulesView>,
    /// Keys of each issuer.
    pub keys: Vec<serde_json::Value>,
    /// The journal: `ok`, or what is wrong.
    pub journal: String,
    /// The ledger's name: `aud` of the approvals that LoopIQ signs for it.
    pub ledger: String,
    /// Members of each backend.
    pub backends: Vec<serde_json::Value>,
}

/// The rules in force.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RulesView {
    /// Short name of these rules, as answers and records carry it.
    pub revision: String,
    /// When they were loaded, RFC 3339.
    pub loaded_at: String,
    /// Digest of the policy files.
    pub bundle: String,
    /// Digest of the policy data.
    pub data: String,
    /// Digest of the catalog.
    pub catalog: String,
    /// `rvm` or `interpreter`.
    pub engine: String,
    /// Tools in the catalog.
    pub tools: usize,
    /// Revision of the policy that was checked and waits for a person.
    pub waiting: Option<String>,
    /// Revision of the policy that decides about some callers.
    pub canary: Option<String>,
}

/// A listener that is bound but does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    tls: Option<Arc<tls::Server>>,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// Binds the listener, for TLS if there is one.
pub async fn bind(addr: SocketAddr, tls: Option<Arc<tls::Server>>) -> std::io::Result<Bound> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    Ok(Bound { listener, tls, addr })
}

impl Bound {
    /// Answers those who name this server by the rules, until its task is ended.
    pub async fn serve(self, vitals: Arc<dyn Vitals>, api: api::Api, rules: DoorRules) {
        let router = router(vitals, api::router(api), rules);
        self.serve_within(router, CONNECTIONS_MAX, EXCHANGE_WITHIN).await;
    }

    async fn serve_within(self, router: Router, connections_max: usize, exchange_within: Duration) {
        let seats = Arc::new(Semaphore::new(connections_max));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // The loser of this race has taken nothing: `accept` and the seat are both cancel-safe.
                Some(_) = connections.join_next() => {}
                arrived = seat_and_accept(&seats, &self.listener) => match arrived {
                    Ok((seat, (tcp, peer))) => {
                        let router = router.clone().layer(Extension(peer));
                        connections.spawn(converse(tcp, self.tls.clone(), router, exchange_within, seat));
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, "the operators' door cannot accept connections: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn seat_and_accept(
    seats: &Arc<Semaphore>,
    listener: &TcpListener,
) -> std::io::Result<(OwnedSemaphorePermit, (TcpStream, SocketAddr))> {
    let seat = Arc::clone(seats).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((seat, listener.accept().await?))
}

/// One connection with one request. WHY no more: a probe connects anew anyway, and one deadline bounds all.
async fn converse(
    tcp: TcpStream,
    tls: Option<Arc<tls::Server>>,
    router: Router,
    exchange_within: Duration,
    seat: OwnedSemaphorePermit,
) {
    let exchange = async {
        match tls {
            None => exchange(tcp, router).await,
            // Who fails the handshake is told so by it.
            Some(tls) => match tls.accept(tcp).await {
                Ok((stream, _)) => exchange(stream, router).await,
                Err(_) => Ok(()),
            },
        }
    };
    // Too slow, broken off or answered: the connection has served its time.
    let _either_way = timeout(exchange_within, exchange).await;
    drop(seat);
}

async fn exchange(io: impl AsyncRead + AsyncWrite + Unpin, router: Router) -> hyper::Result<()> {
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router))
        .await
}

fn router(vitals: Arc<dyn Vitals>, api: Router, rules: DoorRules) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "not found; see /healthz, /readyz, /metrics and /api/v1/openapi.json\n")
        })
        .with_state(vitals)
        .merge(api)
        .layer(from_fn_with_state(Arc::new(rules), named))
}

/// Whoever asks names this server, which a page under another name cannot (DNS rebinding).
async fn named(State(rules): State<Arc<DoorRules>>, request: Request, next: Next) -> Response {
    let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().map(|host| host.to_str()).collect();
    let ours = match hosts.as_slice() {
        [] => rules.allows_host(""),
        [Ok(host)] => rules.allows_host(host),
        [Err(_)] | [_, _, ..] => false,
    };
    if ours {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "the `Host` header does not name this server\n").into_response()
    }
}

async fn readyz(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    let readiness = vitals.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], vitals.metrics()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    struct Fine;

    impl Vitals for Fine {
        fn readiness(&self) -> Readiness {
            Readiness {
                ready: true,
                findings: Vec::new(),
                rules: None,
                keys: Vec::new(),
                journal: "ok".to_owned(),
                ledger: "ledger_1".to_owned(),
                backends: Vec::new(),
            }
        }

        fn metrics(&self) -> String {
            "calls 1\n".to_owned()
        }
    }

    async fn serving(rules: DoorRules, connections_max: usize, exchange_within: Duration) -> (SocketAddr, JoinSet<()>) {
        let bound = bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let addr = bound.addr;
        let mut running = JoinSet::new();
        running.spawn(bound.serve_within(
            router(Arc::new(Fine), Router::new(), rules),
            connections_max,
            exchange_within,
        ));
        (addr, running)
    }

    async fn ask(addr: SocketAddr, head: &str) -> String {
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn status(answer: &str) -> &str {
        answer.split(' ').nth(1).unwrap_or("none")
    }

    const LOOPBACK: DoorRules = DoorRules { allowed_hosts: Vec::new(), allowed_origins: Vec::new(), loopback: true };

    #[tokio::test]
    async fn a_page_under_another_name_learns_nothing_from_the_operators_door() {
        let (addr, _running) = serving(LOOPBACK, CONNECTIONS_MAX, EXCHANGE_WITHIN).await;
        let (open, _also_running) = serving(DoorRules::default(), CONNECTIONS_MAX, EXCHANGE_WITHIN).await;
        for (hosts, expected) in [
            ("Host: localhost\r\n", "200"),
            ("Host: 127.0.0.1:8081\r\n", "200"),
            ("Host: [::1]:8081\r\n", "200"),
            ("Host: evil.example\r\n", "403"),
            ("Host: evil.example:8081\r\n", "403"),
            ("Host: [::1]evil.example\r\n", "403"),
            ("Host: localhost\r\nHost: evil.example\r\n", "403"),
            ("", "403"),
        ] {
            for path in ["/healthz", "/readyz", "/metrics"] {
                let answer = ask(addr, &format!("GET {path} HTTP/1.1\r\n{hosts}\r\n")).await;
                assert_eq!(status(&answer), expected, "{hosts} {answer}");
                assert!(expected == "200" || !answer.contains("calls"), "{answer}");
            }
        }
        // Where operators' platforms give the names, any will do.
        assert_eq!(status(&ask(open, "GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:8081\r\n\r\n").await), "200");
        assert_eq!(status(&ask(open, "GET /healthz HTTP/1.0\r\n\r\n").await), "200");
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_request_is_cut_off() {
        let (addr, _running) = serving(LOOPBACK, CONNECTIONS_MAX, Duration::from_millis(60)).await;
        for head in ["", "GET /metrics HTTP/1.1\r\nHost: local"] {
            assert_eq!(ask(addr, head).await, "", "{head:?}");
        }
        let endless = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_ne!(status(&ask(addr, &endless).await), "200");
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_a_seat() {
        let (addr, _running) = serving(LOOPBACK, 1, Duration::from_millis(200)).await;
        let mut first = TcpStream::connect(addr).await.unwrap();
        let answer = ask(addr, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(status(&answer), "200");
        let ended = tokio::select! {
            biased;
            read = first.read_u8() => read.is_err(),
            () = std::future::ready(()) => false,
        };
        assert!(ended, "the second was served only when the first had gone");
    }
}
