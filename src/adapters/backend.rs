//! Client to the LoopIQ routes over pooled pingora connections.
//!
//! Promises: one deadline over the whole exchange; a write is sent at most once; a fault says
//! whether any byte may have left; no redirect is followed; the host is the configured one,
//! whatever the arguments say. Never adds a header of the client's. Called by `pep`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use bytes::BytesMut;
use moka::sync::Cache;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::Instant;

use crate::domain::pdp::ruling::Permit;
use crate::metrics::Metrics;
use crate::pep::ports::Action;
use crate::pep::ports::Backend;
use crate::pep::ports::BackendAnswer;
use crate::pep::ports::Outbound;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// How long a resolved address is used before the name is looked up again.
const RESOLVED_FOR: Duration = Duration::from_secs(5);

/// Where one backend is.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name that the catalog uses.
    pub name: String,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path prefix put before every route.
    pub prefix: String,
    /// Time to connect.
    pub connect: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
}

/// All backends.
pub struct Backends {
    targets: BTreeMap<String, Target>,
    connector: Connector,
    resolved: Cache<String, SocketAddr>,
    response_bytes: usize,
    metrics: Arc<Metrics>,
}

/// One exchange, with what is known of it should it be cut short.
struct Exchange<'a> {
    backends: &'a Backends,
    target: &'a Target,
    request: &'a Outbound,
    bytes_left: AtomicBool,
}

impl Backends {
    /// Connects nothing yet.
    #[must_use]
    pub fn new(targets: Vec<Target>, pool: usize, response_bytes: usize, metrics: &Arc<Metrics>) -> Self {
        Self {
            targets: targets.into_iter().map(|target| (target.name.clone(), target)).collect(),
            connector: Connector::new(Some(ConnectorOptions::new(pool))),
            resolved: Cache::builder().max_capacity(64).time_to_live(RESOLVED_FOR).build(),
            response_bytes,
            metrics: Arc::clone(metrics),
        }
    }

    /// Whether a connection to each backend can be made, for `doctor` and `/readyz` details.
    pub async fn probe(&self) -> Vec<(String, Result<(), String>)> {
        let mut results = Vec::new();
        for target in self.targets.values() {
            let reached = match self.resolve(target).await {
                Ok(address) => {
                    match tokio::time::timeout(target.connect, tokio::net::TcpStream::connect(address)).await {
                        Ok(Ok(_)) => Ok(()),
                        Ok(Err(cause)) => Err(format!("{address}: {cause}")),
                        Err(_) => Err(format!("{address}: no connection within {:?}", target.connect)),
                    }
                }
                Err(cause) => Err(cause),
            };
            results.push((target.name.clone(), reached));
        }
        results
    }

    async fn resolve(&self, target: &Target) -> Result<SocketAddr, String> {
        let bare = target.host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, target.port));
        }
        if let Some(address) = self.resolved.get(&target.name) {
            return Ok(address);
        }
        let mut found = tokio::net::lookup_host((bare, target.port)).await.map_err(|cause| cause.to_string())?;
        let address = found.next().ok_or_else(|| format!("`{bare}` has no address"))?;
        self.resolved.insert(target.name.clone(), address);
        Ok(address)
    }

    fn count(&self, backend: &str, result: &str) {
        self.metrics.backend_requests.with_label_values(&[backend, result]).inc();
    }
}

#[async_trait]
impl Backend for Backends {
    async fn send(&self, _permit: &Permit<Action>, request: Outbound) -> Result<BackendAnswer, SendFault> {
        let Some(target) = self.targets.get(&request.backend) else {
            let detail = format!("the catalog names backend `{}`, the settings do not", request.backend);
            return Err(SendFault { kind: SendFaultKind::Unreachable, bytes_left: false, detail });
        };
        let exchange = Exchange { backends: self, target, request: &request, bytes_left: AtomicBool::new(false) };
        let result = match tokio::time::timeout(request.timeout, exchange.run()).await {
            Ok(result) => result,
            Err(_) => Err(exchange.fault(SendFaultKind::Timeout, format!("no answer within {:?}", request.timeout))),
        };
        match &result {
            Ok(answer) => self.count(&target.name, status_class(answer.status)),
            Err(fault) => self.count(&target.name, fault_label(fault.kind)),
        }
        result
    }
}

impl Exchange<'_> {
    /// A read whose pooled connection turns out to be dead is tried once more on a fresh one.
    async fn run(&self) -> Result<BackendAnswer, SendFault> {
        match self.attempt(false).await {
            Err((fault, true)) if self.is_read() && fault.kind == SendFaultKind::Broken => {
                self.attempt(true).await.map_err(|(fault, _)| fault)
            }
            result => result.map_err(|(fault, _)| fault),
        }
    }

    fn is_read(&self) -> bool {
        matches!(self.request.method.as_str(), "GET" | "HEAD")
    }

    fn fault(&self, kind: SendFaultKind, detail: String) -> SendFault {
        SendFault { kind, bytes_left: self.bytes_left.load(Ordering::Acquire), detail }
    }

    /// The fault's flag tells whether a pooled connection was used and nothing had come back on it.
    async fn attempt(&self, fresh: bool) -> Result<BackendAnswer, (SendFault, bool)> {
        let peer = self.peer(fresh).await.map_err(|fault| (fault, false))?;
        let connected = self.backends.connector.get_http_session(&peer).await;
        let (mut session, reused) =
            connected.map_err(|cause| (self.fault(SendFaultKind::Unreachable, format!("connect: {cause}")), false))?;
        let header = self.header().map_err(|fault| (fault, false))?;
        if self.request.send_before.is_some_and(|latest| Instant::now() > latest) {
            let late = "it was ready to be sent only after the time for it had passed".to_owned();
            return Err((self.fault(SendFaultKind::Unreachable, late), false));
        }
        self.bytes_left.store(true, Ordering::Release);
        if let Err(cause) = self.ask(&mut session, header).await {
            return Err((self.fault(SendFaultKind::Broken, cause), reused));
        }
        let answer = self.collect(&mut session).await.map_err(|fault| (fault, false))?;
        if !fresh {
            self.backends.connector.release_http_session(session, &peer, Some(self.target.idle)).await;
        }
        Ok(answer)
    }

    async fn peer(&self, fresh: bool) -> Result<HttpPeer, SendFault> {
        let address = self
            .backends
            .resolve(self.target)
            .await
            .map_err(|cause| self.fault(SendFaultKind::Unreachable, format!("resolve: {cause}")))?;
        let mut peer = HttpPeer::new(address, self.target.tls, self.target.host.clone());
        peer.options.connection_timeout = Some(self.target.connect);
        peer.options.total_connection_timeout = Some(self.target.connect);
        // WHY: connections are pooled by group, so a group of its own means a fresh connection.
        peer.group_key = u64::from(fresh);
        Ok(peer)
    }

    /// The request is built here from nothing; no header of the client's has a way in.
    fn header(&self) -> Result<Box<RequestHeader>, SendFault> {
        let build = || -> pingora::Result<RequestHeader> {
            let path = format!("{}{}", self.target.prefix, self.request.path_and_query);
            let mut header = RequestHeader::build(self.request.method.as_str(), path.as_bytes(), None)?;
            let default_port = if self.target.tls { 443 } else { 80 };
            let host = if self.target.port == default_port {
                self.target.host.clone()
            } else {
                format!("{}:{}", self.target.host, self.target.port)
            };
            header.insert_header("Host", host)?;
            header.insert_header("Accept", "application/json")?;
            for (name, value) in &self.request.headers {
                header.insert_header(*name, value)?;
            }
            if let Some(body) = &self.request.body {
                header.insert_header("Content-Type", "application/json")?;
                header.insert_header("Content-Length", body.len())?;
            } else if !self.is_read() {
                header.insert_header("Content-Length", 0)?;
            }
            Ok(header)
        };
        build().map(Box::new).map_err(|cause| self.fault(SendFaultKind::Unreachable, format!("build: {cause}")))
    }

    async fn ask(&self, session: &mut HttpSession, header: Box<RequestHeader>) -> Result<(), String> {
        session.write_request_header(header).await.map_err(|cause| cause.to_string())?;
        if let Some(body) = &self.request.body {
            let body = Bytes::copy_from_slice(body);
            session.write_request_body(body, true).await.map_err(|cause| cause.to_string())?;
        }
        session.finish_request_body().await.map_err(|cause| cause.to_string())?;
        loop {
            session.read_response_header().await.map_err(|cause| cause.to_string())?;
            match session.response_header() {
                // WHY: what follows a 101 is another protocol's, and none was asked for.
                Some(head) if head.status.as_u16() == 101 => return Err("the backend switched protocols".into()),
                Some(head) if head.status.is_informational() => {}
                Some(_) => return Ok(()),
                None => return Err("no response head".into()),
            }
        }
    }

    async fn collect(&self, session: &mut HttpSession) -> Result<BackendAnswer, SendFault> {
        let broken = |cause: String| self.fault(SendFaultKind::Broken, cause);
        let (status, content_type, retry_after, etag) = {
            let head = session.response_header().ok_or_else(|| broken("no response head".into()))?;
            let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
            (head.status.as_u16(), text("content-type"), text("retry-after"), text("etag"))
        };
        let mut body = BytesMut::new();
        while let Some(part) = session.read_response_body().await.map_err(|cause| broken(cause.to_string()))? {
            if body.len().saturating_add(part.len()) > self.backends.response_bytes {
                session.shutdown().await;
                let detail = format!("status {status}, more than {} bytes", self.backends.response_bytes);
                return Err(self.fault(SendFaultKind::TooLarge, detail));
            }
            body.extend_from_slice(&part);
        }
        Ok(BackendAnswer { status, content_type, retry_after, etag, body: body.freeze() })
    }
}

const fn status_class(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

const fn fault_label(kind: SendFaultKind) -> &'static str {
    match kind {
        SendFaultKind::Unreachable => "unreachable",
        SendFaultKind::Timeout => "timeout",
        SendFaultKind::Broken => "broken",
        SendFaultKind::TooLarge => "too_large",
    }
}
