//! What a door hands to the sentence, and what it gets back.
//!
//! Promises: an [`Arrival`] is whole (head read, body read or its fault known) before the sentence
//! starts; a client that hangs up only raises [`Cancel`], work that was sent on is carried to its
//! end; [`Progress`] reaches the client only if it asked, in rising steps, and never makes the
//! sentence wait. Never reads or writes a socket. `pep` implements [`Gate`], `adapters::door` calls it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};

use crate::domain::identity::ClientCertificate;
use crate::domain::mcp::receive;
use crate::domain::mcp::reply;
use crate::domain::mcp::{Head, RequestId};
use crate::domain::refusal::Fault;

/// Progress messages that wait for a slow client; later ones are dropped, never waited for.
const PROGRESS_WAITING_MAX: usize = 16;

/// The sentence, as a door sees it.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Whether the head alone gets its sender a hearing; asked before a long body is read.
    ///
    /// INVARIANT: [`Gate::handle`] refuses what is not admitted without looking at the body.
    async fn admits(&self, head: &Head, certificate: Option<&ClientCertificate>) -> bool;

    /// Answers one arrival. Runs to its end even when the client has gone.
    async fn handle(&self, arrival: Arrival, progress: Progress) -> Answer;

    /// The door sent somebody away before there was an arrival: counts it, and records it unless too
    /// many come at once. `peer` is none on a Unix socket.
    async fn turned_away(&self, cause: Turned, peer: Option<SocketAddr>);
}

/// Why HTTP alone was reason enough to refuse; the `cause` label of `loopgate_door_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turned {
    /// Bytes that are no request, or that two readers could read in two ways: 400.
    Malformed,
    /// Request line and headers are too long or too many: 431.
    HeadTooLong,
    /// The request, or a handshake, did not come in time: 408.
    TooSlow,
    /// `Expect` asks for what is not done here: 417.
    Expectation,
    /// A page that may not call: 403, or 405.
    Page,
    /// The TLS handshake failed, such as for a client certificate that is not trusted.
    Tls,
    /// An HTTP/2 connection broke its rules, or reset what it asked for too often.
    Http2,
    /// There was no room for one more request: 503.
    Busy,
    /// Nothing is at this path, or not for this method: 404, 405.
    Path,
    /// A foreign `Host` or `Origin`: 403.
    Host,
    /// A method other than POST: 405.
    Method,
    /// The body is too long: 413.
    BodyTooLarge,
    /// The body did not come in time: 408.
    BodyTooSlow,
    /// The body broke off: 400.
    BodyBroken,
}

impl Turned {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeadTooLong => "head_too_long",
            Self::TooSlow => "too_slow",
            Self::Expectation => "expectation",
            Self::Page => "page",
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::Busy => "busy",
            Self::Path => "path",
            Self::Host => "host",
            Self::Method => "method",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyBroken => "body_broken",
        }
    }

    /// The cause of a fault that HTTP alone was reason for.
    #[must_use]
    pub const fn of(fault: &Fault) -> Self {
        match fault.status {
            403 => Self::Host,
            404 => Self::Path,
            405 => Self::Method,
            408 => Self::TooSlow,
            413 => Self::BodyTooLarge,
            417 => Self::Expectation,
            431 => Self::HeadTooLong,
            503 => Self::Busy,
            _ => Self::Malformed,
        }
    }
}

/// One HTTP request, read as far as it came.
#[derive(Debug)]
pub struct Arrival {
    /// Request line and headers.
    pub head: Head,
    /// The whole body, or why there is none. Judged after authentication.
    pub body: Result<Bytes, BodyFault>,
    /// Who connected.
    pub peer: Option<SocketAddr>,
    /// The certificate that the connection was opened with, verified by the door; none without mutual TLS.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Raised when the client hangs up.
    pub cancel: Cancel,
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// Longer than this many bytes.
    TooLarge(usize),
    /// Did not arrive in time.
    Timeout,
    /// Broke off, or was framed wrongly.
    Broken,
    /// Was not read, because its sender was not admitted.
    Unread,
}

impl BodyFault {
    /// What is counted; a stranger's unread body was no fault of the body.
    #[must_use]
    pub const fn turned(self) -> Option<Turned> {
        match self {
            Self::TooLarge(_) => Some(Turned::BodyTooLarge),
            Self::Timeout => Some(Turned::BodyTooSlow),
            Self::Broken => Some(Turned::BodyBroken),
            Self::Unread => None,
        }
    }

    /// The answer to it: 413, 408 or 400.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            Self::TooLarge(bytes_max) => receive::too_large(bytes_max),
            Self::Timeout => receive::too_slow(),
            Self::Broken | Self::Unread => receive::broken_off(),
        }
    }
}

/// One HTTP answer. The door adds `Content-Length`, `Date`, `Connection` and the CORS headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers; names and values are valid HTTP, else the door leaves them out.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A JSON document that nobody may keep.
    #[must_use]
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
        Self { status, headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(), body }
    }

    /// A status without a body, such as 202.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A JSON-RPC error; 405 says what is allowed instead.
    #[must_use]
    pub fn fault(id: Option<&RequestId>, fault: &Fault) -> Self {
        let answer = Self::json(fault.status, reply::fault(id, fault));
        if fault.status == 405 { answer.with("allow", "POST") } else { answer }
    }

    /// The same, with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Whether the client has hung up. Clones share one state.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Cancel {
    /// Not raised.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Raises it, once and for all.
    pub fn raise(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has been raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it is raised.
    pub async fn raised(&self) {
        let mut raised = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _raised = raised.wait_for(|raised| *raised).await;
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

/// Reports steps to a client that asked for them. Clones share one state.
#[derive(Debug, Clone)]
pub struct Progress {
    state: Arc<Mutex<ProgressState>>,
    sink: Option<mpsc::Sender<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct ProgressState {
    token: Option<RequestId>,
    last: Option<f64>,
    /// Somebody else tells how far the call is.
    handed_over: bool,
}

impl Progress {
    /// Progress and the messages that it makes, each one JSON-RPC notification.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (sink, messages) = mpsc::channel(PROGRESS_WAITING_MAX);
        (Self { state: Arc::default(), sink: Some(sink) }, messages)
    }

    /// Progress that nobody hears, for a client that cannot read a stream.
    #[must_use]
    pub fn unheard() -> Self {
        Self { state: Arc::default(), sink: None }
    }

    /// Whether a message can reach the client before the answer does.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.sink.is_some()
    }

    /// Any other notification, if somebody listens.
    pub fn say(&self, message: Vec<u8>) {
        if let Some(sink) = &self.sink {
            // As with progress: what a slow client does not take in time is lost.
            let _lost = sink.try_send(message);
        }
    }

    /// The client asked for progress under this token; before that, nothing is sent.
    pub fn enable(&self, token: RequestId) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).token = Some(token);
    }

    /// Tells the client where its call is. Steps that do not rise are left out, as MCP asks.
    pub fn send(&self, step: u32, total: u32, message: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.handed_over {
            self.rise(&mut state, f64::from(step), |token| reply::progress(token, step, total, message));
        }
    }

    /// From now on only what an upstream server tells is passed on: two counts would not rise together.
    pub fn hand_over(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).handed_over = true;
    }

    /// An upstream server's progress, under the client's own token.
    pub fn pass(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.rise(&mut state, progress, |token| {
            let mut params =
                Map::from_iter([("progressToken".to_owned(), json!(token)), ("progress".to_owned(), number(progress))]);
            params.extend(total.map(|total| ("total".to_owned(), number(total))));
            params.extend(message.map(|message| ("message".to_owned(), message.into())));
            reply::notification("notifications/progress", &params)
        });
    }

    fn rise(&self, state: &mut ProgressState, to: f64, message: impl FnOnce(&RequestId) -> Vec<u8>) {
        let (Some(sink), Some(token)) = (&self.sink, &state.token) else { return };
        if !to.is_finite() || state.last.is_some_and(|last| last >= to) {
            return;
        }
        // A full queue or a door that has gone loses the message: progress is a courtesy.
        let _lost = sink.try_send(message(token));
        state.last = Some(to);
    }
}

/// A number as it is written: whole ones without a fraction.
fn number(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53 is carried exactly")]
    if number.fract() == 0.0 && number.abs() < 9e15 { (number as i64).into() } else { number.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_sent_only_when_asked_for_and_only_upwards() {
        let (progress, mut messages) = Progress::channel();
        progress.send(1, 3, "too early");
        assert!(messages.try_recv().is_err());
        progress.enable(RequestId::Text("t".into()));
        for step in [1, 1, 2, 1, 3] {
            progress.clone().send(step, 3, "step");
        }
        let mut steps = Vec::new();
        while let Ok(message) = messages.try_recv() {
            let message: serde_json::Value = serde_json::from_slice(&message).unwrap();
            steps.push(message["params"]["progress"].as_u64().unwrap());
        }
        assert_eq!(steps, [1, 2, 3]);
        Progress::unheard().send(1, 1, "nobody listens");
    }

    #[test]
    fn once_handed_over_only_the_other_count_is_told() {
        let (progress, mut messages) = Progress::channel();
        progress.enable(RequestId::Text("t".into()));
        progress.hand_over();
        progress.send(1, 3, "ours");
        for step in [0.0, 50.0, 50.0, f64::NAN, 100.0] {
            progress.pass(step, Some(100.0), None);
        }
        progress.send(101, 3, "ours");
        let mut told = Vec::new();
        while let Ok(message) = messages.try_recv() {
            told.push(serde_json::from_slice::<serde_json::Value>(&message).unwrap()["params"].clone());
        }
        let expected = [0, 50, 100].map(|step| json!({"progressToken": "t", "progress": step, "total": 100}));
        assert_eq!(told, expected);
    }

    #[test]
    fn progress_never_waits_for_a_client_that_does_not_read() {
        let (progress, messages) = Progress::channel();
        progress.enable(RequestId::Number(1));
        for step in 1..1000 {
            progress.send(step, 1000, "step");
        }
        assert_eq!(messages.len(), PROGRESS_WAITING_MAX);
    }

    #[tokio::test]
    async fn a_raised_cancel_is_seen_by_every_clone_and_by_those_who_come_late() {
        let cancel = Cancel::new();
        let clone = cancel.clone();
        assert!(!clone.is_raised());
        cancel.raise();
        assert!(clone.is_raised());
        clone.raised().await;
    }

    #[test]
    fn a_405_says_what_is_allowed() {
        let answer = Answer::fault(None, &Fault::new(405, -32600, "no"));
        assert!(answer.headers.contains(&("allow".to_owned(), "POST".to_owned())));
    }
}
