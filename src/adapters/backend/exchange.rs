//! One request to one member, and its answer.
//!
//! Promises: the request is built from nothing but the [`Outbound`]; it is said to have left before
//! its first byte can; the answer is bounded in every part; a connection is kept only after a whole
//! answer with nothing behind it. Never follows a redirect, never asks for an encoding. Called by
//! [`super::carry`].

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use bytes::BytesMut;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::Instant;

use super::members::Member;
use super::pool::Pool;
use crate::pep::ports::BackendAnswer;
use crate::pep::ports::Outbound;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// Interim answers before the one that counts.
const INTERIM_MAX: usize = 16;

/// One exchange, with what is known of it should it be cut short.
pub(super) struct Exchange<'a> {
    pub(super) pool: &'a Pool,
    pub(super) member: &'a Member,
    pub(super) request: &'a Outbound,
    /// What stands in `Host` where the place has no name.
    pub(super) named: &'a str,
    pub(super) response_bytes: usize,
    pub(super) bytes_left: AtomicBool,
}

/// Why there is no answer, for who decides whether to try again.
#[derive(Debug)]
pub(super) enum Failed {
    /// No connection could be made.
    Connect(String),
    /// A connection that was used before had gone dead.
    Stale(String),
    /// The backend says that it has not looked at the request (RFC 9113, 8.7).
    Refused(String),
    /// It could not be sent for a reason of its own.
    Unsent(String),
    /// The connection broke, or what came was not HTTP.
    Broken(String),
    /// The answer is too large.
    TooLarge(String),
    /// There was no time left.
    Timeout(String),
}

impl Failed {
    /// What the sentence is told.
    pub(super) fn into_fault(self, bytes_left: bool) -> SendFault {
        let (kind, detail) = match self {
            Self::Connect(detail) | Self::Unsent(detail) => (SendFaultKind::Unreachable, detail),
            Self::Stale(detail) | Self::Refused(detail) | Self::Broken(detail) => (SendFaultKind::Broken, detail),
            Self::TooLarge(detail) => (SendFaultKind::TooLarge, detail),
            Self::Timeout(detail) => (SendFaultKind::Timeout, detail),
        };
        SendFault { kind, bytes_left, detail }
    }

    /// Whether it tells of a member in trouble.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Broken(_) | Self::Timeout(_))
    }

    /// Whether it tells nothing of the member.
    pub(super) fn says_nothing(&self) -> bool {
        matches!(self, Self::Stale(_) | Self::Refused(_) | Self::Unsent(_))
    }
}

impl Exchange<'_> {
    pub(super) async fn run(&self, peer: &HttpPeer, fresh: bool) -> Result<BackendAnswer, Failed> {
        let connected = self.pool.session(peer, fresh).await;
        let (mut session, reused) = connected.map_err(|cause| Failed::Connect(format!("connect: {cause}")))?;
        let header = self.header().map_err(|cause| Failed::Unsent(format!("build: {cause}")))?;
        if self.request.send_before.is_some_and(|latest| Instant::now() > latest) {
            return Err(Failed::Unsent("it was ready to be sent only after the time for it had passed".to_owned()));
        }
        self.bytes_left.store(true, Ordering::Release);
        if let Err(cause) = self.ask(&mut session, header).await {
            if is_refused_stream(&cause) {
                self.bytes_left.store(false, Ordering::Release);
                return Err(Failed::Refused(cause.to_string()));
            }
            let gone = reused && session.response_header().is_none();
            return Err(if gone { Failed::Stale(cause.to_string()) } else { Failed::Broken(cause.to_string()) });
        }
        let answer = self.collect(&mut session).await?;
        if !fresh && self.member.is_current() {
            self.pool.keep(session, peer).await;
        }
        Ok(answer)
    }

    /// The request is built here from nothing; no header of the client's has a way in.
    fn header(&self) -> pingora::Result<Box<RequestHeader>> {
        let path = format!("{}{}", self.member.place.prefix, self.request.path_and_query);
        let mut header = RequestHeader::build(self.request.method.as_str(), path.as_bytes(), None)?;
        header.insert_header("Host", self.member.place.authority(self.named))?;
        header.insert_header("Accept", "application/json")?;
        for (name, value) in &self.request.headers {
            header.insert_header(*name, value)?;
        }
        if let Some(body) = &self.request.body {
            header.insert_header("Content-Type", "application/json")?;
            header.insert_header("Content-Length", body.len())?;
        } else if !is_read(&self.request.method) {
            header.insert_header("Content-Length", 0)?;
        }
        Ok(Box::new(header))
    }

    async fn ask(&self, session: &mut HttpSession, header: Box<RequestHeader>) -> pingora::Result<()> {
        session.write_request_header(header).await?;
        if let Some(body) = &self.request.body {
            session.write_request_body(Bytes::copy_from_slice(body), true).await?;
        }
        session.finish_request_body().await?;
        let broken = |cause: &'static str| pingora::Error::e_explain(pingora::ErrorType::InvalidHTTPHeader, cause);
        for _ in 0..INTERIM_MAX {
            session.read_response_header().await?;
            match session.response_header() {
                // WHY: what follows a 101 is another protocol's, and none was asked for.
                Some(head) if head.status.as_u16() == 101 => return broken("the backend switched protocols"),
                // Of HTTP/2 pingora reads one head only.
                Some(head) if head.status.is_informational() && session.as_http2().is_some() => {
                    return broken("an interim answer");
                }
                Some(head) if head.status.is_informational() => {}
                Some(_) => return Ok(()),
                None => return broken("no response head"),
            }
        }
        broken("more interim answers than anybody needs")
    }

    async fn collect(&self, session: &mut HttpSession) -> Result<BackendAnswer, Failed> {
        let (status, content_type, retry_after, etag) = {
            let head = session.response_header().ok_or_else(|| Failed::Broken("no response head".into()))?;
            let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
            (head.status.as_u16(), text("content-type"), text("retry-after"), text("etag"))
        };
        let mut body = BytesMut::new();
        while let Some(part) = session.read_response_body().await.map_err(|cause| Failed::Broken(cause.to_string()))? {
            if body.len().saturating_add(part.len()) > self.response_bytes {
                session.shutdown().await;
                return Err(Failed::TooLarge(format!("status {status}, more than {} bytes", self.response_bytes)));
            }
            body.extend_from_slice(&part);
        }
        Ok(BackendAnswer { status, content_type, retry_after, etag, body: body.freeze() })
    }
}

/// Whether a method changes nothing, so that it may be sent again.
pub(super) fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

/// WHY not `GOAWAY` too: whether this stream is among those that were never looked at cannot be told
/// from the error, and a guess would be a lie.
fn is_refused_stream(cause: &pingora::Error) -> bool {
    let reason = cause.root_cause().downcast_ref::<h2::Error>();
    reason.is_some_and(|error| {
        error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}
