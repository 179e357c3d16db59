//! One connection: request after request, each read whole, handed over, answered.
//!
//! Promises: a long body is read only of callers whom the gate admits; the sentence runs in a task
//! of its own, so that neither a slow nor a vanished client holds it up; hanging up raises the
//! arrival's cancel and nothing else; a stream begins with the first progress message and ends with
//! the answer. Never keeps a connection whose framing was in doubt. Called by `adapters::door`
//! through pingora's `HttpServerApp`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};

use crate::adapters::door::framing::Framing;
use crate::adapters::door::space::Place;
use crate::adapters::door::wire::Pace;
use crate::adapters::door::{House, cors, framing, told_to_close};
use crate::domain::mcp::Head;
use crate::domain::mcp::receive;
use crate::domain::refusal::Fault;
use crate::pep::arrival::{Answer, Arrival, BodyFault, Cancel, Progress};

/// Bytes of a body that anyone may send: more than most messages have, and bearable times all connections.
const FREE_BYTES: usize = 16 << 10;

/// A connection and what it shares with the others.
pub(super) struct Conversation {
    pub(super) house: Arc<House>,
    pub(super) pace: Arc<Pace>,
    pub(super) peer: SocketAddr,
}

/// What became of the wait for a request head.
enum Heard {
    /// A head, and when the whole request is due.
    Head(Instant),
    /// Nothing; the connection has served its time.
    Nothing,
    /// Something that gets an answer and no more.
    Bad(Fault),
}

/// Whether the connection may carry another request.
enum Next {
    Again,
    Close,
}

/// The client cannot be written to any more.
struct Gone;

impl From<Box<pingora::Error>> for Gone {
    fn from(_: Box<pingora::Error>) -> Self {
        Self
    }
}

impl From<tokio::time::error::Elapsed> for Gone {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self
    }
}

#[async_trait]
impl HttpServerApp for Conversation {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_pipelining_enabled(true);
        let next = match self.hear(&mut session).await {
            Heard::Nothing => return None,
            // Boxed, so that a connection at rest does not carry the space of a call.
            Heard::Head(due) => Box::pin(self.exchange(&mut session, due)).await,
            Heard::Bad(fault) => {
                session.set_keepalive(None);
                self.write_whole(&mut session, Answer::fault(None, &fault), &[]).await.map(|()| Next::Close)
            }
        };
        let goodbye = self.house.limits.write_within;
        match next {
            Ok(Next::Again) => {
                let settings = HttpPersistentSettings::for_session(&session);
                let reusable = timeout(goodbye, session.finish()).await.ok()?.ok()??;
                Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
            }
            Ok(Next::Close) => {
                // Time is out or the client is gone: either way the connection goes.
                let _either_way = timeout(goodbye, session.shutdown()).await;
                None
            }
            Err(Gone) => None,
        }
    }
}

impl Conversation {
    /// Waits for a request head: as long as the connection may rest, then as long as a request may take.
    async fn hear(&self, session: &mut ServerSession) -> Heard {
        let limits = &self.house.limits;
        let mut shutdown = self.house.closing.clone();
        self.pace.rest();
        session.set_keepalive(Some(limits.keep_alive.as_secs().max(1)));
        let closing = async {
            told_to_close(&mut shutdown).await;
            if self.pace.has_begun() {
                std::future::pending::<()>().await;
            }
        };
        let read = tokio::select! {
            biased;
            read = session.read_request() => read,
            () = self.pace.overdue(limits.read_within) => return Heard::Bad(receive::too_slow()),
            () = closing => return Heard::Nothing,
        };
        match read {
            Ok(true) => {
                self.pace.head_done();
                Heard::Head(self.pace.began_at().unwrap_or_else(Instant::now) + limits.read_within)
            }
            Err(_) if self.pace.head_is_too_long() => Heard::Bad(framing::too_long()),
            Err(error) if is_malformed(&error) => Heard::Bad(framing::malformed("the head cannot be parsed")),
            // Gone, or at rest for too long.
            Ok(false) | Err(_) => Heard::Nothing,
        }
    }

    /// One request whose head has been read.
    async fn exchange(&self, session: &mut ServerSession, due: Instant) -> Result<Next, Gone> {
        let limits = &self.house.limits;
        let framing = match framing::read(&session.to_h1_raw(), limits.head_bytes_max) {
            Ok(framing) => framing,
            Err(fault) => {
                session.set_keepalive(None);
                self.write_whole(session, Answer::fault(None, &fault), &[]).await?;
                return Ok(Next::Close);
            }
        };
        let head = head_of(session.req_header());
        let body = self.read_body(session, &head, framing, due).await;
        // WHY: in a chunked body pingora lets pass what other readers frame otherwise (extensions with
        // bare LF, trailers); nothing that follows on such a connection is believed.
        let again = body.is_ok() && !framing.chunked && session.get_keepalive().is_some();
        session.set_keepalive(again.then_some(limits.keep_alive.as_secs().max(1)));
        let cors = cors::headers(&head, &self.house.rules);
        if head.method == "OPTIONS" {
            let preflight = cors::preflight(&head, &self.house.rules);
            self.write_whole(session, preflight, &cors).await?;
        } else {
            let streams = session.req_header().version == http::Version::HTTP_11 && accepts_stream(&head);
            let arrival = Arrival { head, body, peer: Some(self.peer), certificate: None, cancel: Cancel::new() };
            self.call(session, arrival, streams, &cors).await?;
        }
        Ok(if session.get_keepalive().is_some() { Next::Again } else { Next::Close })
    }

    async fn read_body(
        &self,
        session: &mut ServerSession,
        head: &Head,
        framing: Framing,
        due: Instant,
    ) -> Result<Bytes, BodyFault> {
        let bytes_max = self.house.limits.body_bytes_max;
        let declared = framing.content_length.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if declared > bytes_max {
            return Err(BodyFault::TooLarge(bytes_max));
        }
        let mut place = if declared > FREE_BYTES { Some(self.place(head, declared, due).await?) } else { None };
        if framing.expects_continue {
            let told = timeout_at(due, session.write_continue_response()).await;
            told.map_err(|_| BodyFault::Timeout)?.map_err(|_| BodyFault::Broken)?;
        }
        let mut body = BytesMut::new();
        loop {
            let piece = timeout_at(due, session.read_request_body()).await.map_err(|_| BodyFault::Timeout)?;
            let Some(piece) = piece.map_err(|_| BodyFault::Broken)? else { break };
            let bytes = body.len() + piece.len();
            if bytes > bytes_max {
                return Err(BodyFault::TooLarge(bytes_max));
            }
            if bytes > FREE_BYTES && place.is_none() {
                // WHY: nobody knows how much comes in chunks, and growing bodies would wait for each other.
                place = Some(self.place(head, bytes_max, due).await?);
            }
            body.extend_from_slice(&piece);
        }
        Ok(match place {
            Some(place) => place.hold(body),
            None => body.freeze(),
        })
    }

    /// A place for a long body, for callers who are admitted.
    async fn place(&self, head: &Head, bytes: usize, due: Instant) -> Result<Place, BodyFault> {
        let admitted = timeout_at(due, self.house.gate.admits(head, None)).await.map_err(|_| BodyFault::Timeout)?;
        if !admitted {
            return Err(BodyFault::Unread);
        }
        let place = timeout_at(due, self.house.space.take(bytes)).await.map_err(|_| BodyFault::Timeout)?;
        place.ok_or(BodyFault::Unread)
    }

    /// Hands one arrival over and brings its answer back, with progress on the way.
    async fn call(
        &self,
        session: &mut ServerSession,
        arrival: Arrival,
        streams: bool,
        cors: &[(&'static str, String)],
    ) -> Result<(), Gone> {
        let (progress, mut steps) =
            if streams { Progress::channel() } else { (Progress::unheard(), mpsc::channel(1).1) };
        let cancel = RaiseOnDrop(arrival.cancel.clone());
        // WHY: a body that was given up is still coming; its bytes are no sign of the client's leaving.
        let mut listening = arrival.body.is_ok();
        let mut stream = Stream { heartbeat: None, cors };
        let mut answer = self.begin(arrival, progress);
        loop {
            // Every branch but the answer may lose and be asked again: reading is cancel-safe here
            // because a byte that was read is stashed before the future yields.
            tokio::select! {
                biased;
                Some(step) = steps.recv(), if listening => self.write_step(session, &mut stream, &step).await?,
                answer = &mut answer => {
                    let answer = answer.unwrap_or_else(|_| Answer::fault(None, &broke_down()));
                    return if stream.has_begun() {
                        self.write_last(session, answer).await
                    } else {
                        self.write_whole(session, answer, cors).await
                    };
                }
                () = stream.beat(), if listening => self.write_event(session, Bytes::from_static(b":\n\n")).await?,
                _ = session.read_body_or_idle(true), if listening => {
                    // Nothing but the end of the connection completes this wait.
                    listening = false;
                    session.set_keepalive(None);
                    cancel.0.raise();
                }
            }
        }
    }

    /// The sentence, in a task that outlives the connection if need be.
    fn begin(&self, arrival: Arrival, progress: Progress) -> oneshot::Receiver<Answer> {
        let (done, answer) = oneshot::channel();
        let gate = Arc::clone(&self.house.gate);
        self.house.calls.spawn(async move {
            let answer = gate.handle(arrival, progress).await;
            // The connection may have gone; the answer was recorded before it came here.
            let _unread = done.send(answer);
        });
        answer
    }

    async fn write_step(&self, session: &mut ServerSession, stream: &mut Stream<'_>, step: &[u8]) -> Result<(), Gone> {
        if !stream.has_begun() {
            let mut head = ResponseHeader::build(200, Some(8))?;
            head.insert_header("content-type", "text/event-stream")?;
            head.insert_header("cache-control", "no-cache, no-transform")?;
            head.insert_header("x-accel-buffering", "no")?;
            head.insert_header("transfer-encoding", "chunked")?;
            for (name, value) in stream.cors {
                head.insert_header(*name, value.as_str())?;
            }
            timeout(self.house.limits.write_within, session.write_response_header(Box::new(head))).await??;
            stream.begin(self.house.limits.heartbeat);
        }
        self.write_event(session, event(step)).await
    }

    async fn write_event(&self, session: &mut ServerSession, event: Bytes) -> Result<(), Gone> {
        Ok(timeout(self.house.limits.write_within, session.write_response_body(event, false)).await??)
    }

    /// The answer as the last event of a stream; its status went out with the first.
    async fn write_last(&self, session: &mut ServerSession, answer: Answer) -> Result<(), Gone> {
        let last = if answer.body.is_empty() { Bytes::new() } else { event(&answer.body) };
        Ok(timeout(self.house.limits.write_within, session.write_response_body(last, true)).await??)
    }

    /// The answer in one piece.
    async fn write_whole(
        &self,
        session: &mut ServerSession,
        answer: Answer,
        cors: &[(&'static str, String)],
    ) -> Result<(), Gone> {
        if self.house.is_closing() {
            session.set_keepalive(None);
        }
        let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 6))?;
        for (name, value) in answer.headers {
            if head.append_header(name.clone(), value.as_str()).is_err() {
                tracing::error!(http.header = %name, "an answer's header `{name}` is not valid HTTP and was left out");
            }
        }
        for (name, value) in cors {
            if *name == "vary" || !head.headers.contains_key(*name) {
                head.append_header(*name, value.as_str())?;
            }
        }
        if answer.status != 204 {
            head.insert_header("content-length", answer.body.len())?;
        }
        let write = async {
            session.write_response_header(Box::new(head)).await?;
            session.write_response_body(answer.body.into(), true).await
        };
        Ok(timeout(self.house.limits.write_within, write).await??)
    }
}

/// An answer that has begun before it is known, or may.
struct Stream<'a> {
    /// Set when the first event goes out.
    heartbeat: Option<Interval>,
    cors: &'a [(&'static str, String)],
}

impl Stream<'_> {
    const fn has_begun(&self) -> bool {
        self.heartbeat.is_some()
    }

    fn begin(&mut self, period: Duration) {
        let period = period.max(Duration::from_millis(1));
        let mut heartbeat = interval_at(Instant::now() + period, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.heartbeat = Some(heartbeat);
    }

    /// Returns when proxies on the way need a sign of life; never before the stream begins.
    async fn beat(&mut self) {
        match &mut self.heartbeat {
            Some(heartbeat) => drop(heartbeat.tick().await),
            None => std::future::pending().await,
        }
    }
}

/// A connection that ends early, for whatever reason, tells the sentence so. Raised after the
/// answer it tells nobody anything.
struct RaiseOnDrop(Cancel);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

fn event(message: &[u8]) -> Bytes {
    // INVARIANT: messages are compact JSON, which has no line break of its own.
    [b"event: message\ndata: ", message, b"\n\n"].concat().into()
}

fn broke_down() -> Fault {
    Fault::new(500, -32603, "the gateway broke down on this request; tell an operator when it happened")
}

fn is_malformed(error: &pingora::Error) -> bool {
    matches!(error.etype(), pingora::ErrorType::InvalidHTTPHeader)
}

/// Whether the client can read a stream, by its `Accept`.
fn accepts_stream(head: &Head) -> bool {
    let types = head.all("accept").flat_map(|value| value.split(','));
    types
        .filter_map(|value| value.split(';').next())
        .any(|essence| matches!(essence.trim().to_ascii_lowercase().as_str(), "text/event-stream" | "text/*" | "*/*"))
}

fn head_of(request: &RequestHeader) -> Head {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Head {
        method: request.method.as_str().to_owned(),
        path: request.uri.path().to_owned(),
        headers: request.headers.iter().map(header).collect(),
    }
}
