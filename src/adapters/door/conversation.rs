//! One connection: request after request, each read whole, handed over, answered.
//!
//! Promises: a long body is read only of callers whom the gate admits; the sentence runs in a task
//! of its own, so that neither a slow nor a vanished client holds it up; hanging up raises the
//! arrival's cancel and nothing else; a stream begins with the first progress message and ends with
//! the answer. Never keeps a connection whose framing was in doubt, and tells the gate of each that
//! it turned away. Called by `adapters::door` through pingora's `HttpServerApp` for HTTP/1, and by
//! [`super::http2`] for each stream of HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};

use crate::adapters::door::chunks::Chunks;
use crate::adapters::door::framing::Framing;
use crate::adapters::door::pace::Pace;
use crate::adapters::door::space::Place;
use crate::adapters::door::{House, cors, framing, told_to_close};
use crate::domain::identity::ClientCertificate;
use crate::domain::mcp::Head;
use crate::domain::mcp::receive;
use crate::domain::refusal::Fault;
use crate::pep::arrival::{Answer, Arrival, BodyFault, Cancel, Progress, Turned};

/// Bytes of a body that anyone may send: more than most messages have, and bearable times all connections.
const FREE_BYTES: usize = 16 << 10;

/// A connection and what it shares with the others.
pub(super) struct Conversation {
    pub(super) house: Arc<House>,
    pub(super) pace: Arc<Pace>,
    /// None on a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    /// Who connected, by TLS.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
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
pub(super) enum Next {
    Again,
    Close,
}

/// The client cannot be written to any more.
pub(super) struct Gone;

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
            Heard::Head(due) => Box::pin(self.request(&mut session, due)).await,
            Heard::Bad(fault) => self.refuse(&mut session, &fault).await,
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
            Ok(true) => Heard::Head(self.pace.began_at().unwrap_or_else(Instant::now) + limits.read_within),
            Err(_) if self.pace.head_is_too_long() => Heard::Bad(framing::too_long()),
            Err(error) if is_malformed(&error) => {
                let head = self.pace.head_done();
                // Our own reader says it better, where it too finds something.
                let fault = head.and_then(|head| framing::read(&head, limits.head_bytes_max).err());
                Heard::Bad(fault.unwrap_or_else(|| framing::malformed("the head cannot be parsed")))
            }
            // Gone, or at rest for too long.
            Ok(false) | Err(_) => Heard::Nothing,
        }
    }

    /// One request of HTTP/1 whose head pingora has read.
    async fn request(&self, session: &mut ServerSession, due: Instant) -> Result<Next, Gone> {
        let framing = match self.framing(session) {
            Ok(framing) => framing,
            Err(fault) => return self.refuse(session, &fault).await,
        };
        if framing.chunked {
            self.pace.body_in_chunks();
        } else {
            self.pace.body_of(framing.content_length.unwrap_or_default());
        }
        self.exchange(session, framing, due, None).await
    }

    /// The framing, of the bytes that came and not of what pingora made of them.
    fn framing(&self, session: &ServerSession) -> Result<Framing, Fault> {
        let head = self.pace.head_done().ok_or_else(|| framing::malformed("lines must end with CR LF"))?;
        let framing = framing::read(&head, self.house.limits.head_bytes_max)?;
        if head == session.to_h1_raw() {
            Ok(framing)
        } else {
            Err(framing::malformed("the head can be read in two ways"))
        }
    }

    /// One request whose head is good. `seat` is its place among the requests of HTTP/2.
    pub(super) async fn exchange(
        &self,
        session: &mut ServerSession,
        framing: Framing,
        due: Instant,
        seat: Option<OwnedSemaphorePermit>,
    ) -> Result<Next, Gone> {
        let limits = &self.house.limits;
        let head = head_of(session.req_header());
        let body = self.read_body(session, &head, framing, due).await;
        // WHY: pingora lets pass chunks that other readers frame otherwise (extensions, bare LF, trailers).
        let chunks = self.pace.chunks().filter(|_| framing.chunked);
        if chunks.is_some_and(|chunks| chunks == Chunks::Bad || body.is_ok() && chunks != Chunks::Whole) {
            return self.refuse(session, &framing::malformed("the chunks of the body are framed wrongly")).await;
        }
        // WHY: what follows a body in chunks, or an offer of another protocol, is where proxies and
        // servers lose each other; nothing that follows on such a connection is believed.
        let again = body.is_ok() && !framing.chunked && !framing.upgrade && session.get_keepalive().is_some();
        session.set_keepalive(again.then_some(limits.keep_alive.as_secs().max(1)));
        let cors = cors::headers(&head, &self.house.rules);
        if head.method == "OPTIONS" {
            let preflight = cors::preflight(&head, &self.house.rules);
            if preflight.status >= 400 {
                self.house.gate.turned_away(Turned::Page, self.peer).await;
            }
            self.write_whole(session, preflight, &cors).await?;
        } else {
            let version = session.req_header().version;
            let streams = matches!(version, http::Version::HTTP_11 | http::Version::HTTP_2) && accepts_stream(&head);
            let certificate = self.certificate.clone();
            let arrival = Arrival { head, body, peer: self.peer, certificate, cancel: Cancel::new() };
            self.call(session, (arrival, seat), streams, &cors).await?;
        }
        Ok(if session.get_keepalive().is_some() { Next::Again } else { Next::Close })
    }

    /// The answer to what HTTP alone is reason enough to refuse; the last one of its connection.
    pub(super) async fn refuse(&self, session: &mut ServerSession, fault: &Fault) -> Result<Next, Gone> {
        session.set_keepalive(None);
        self.house.gate.turned_away(Turned::of(fault), self.peer).await;
        self.write_whole(session, Answer::fault(None, fault), &[]).await?;
        Ok(Next::Close)
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
        let admitted = timeout_at(due, self.house.gate.admits(head, self.certificate.as_deref()))
            .await
            .map_err(|_| BodyFault::Timeout)?;
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
        (arrival, seat): (Arrival, Option<OwnedSemaphorePermit>),
        streams: bool,
        cors: &[(&'static str, String)],
    ) -> Result<(), Gone> {
        let (progress, mut steps) =
            if streams { Progress::channel() } else { (Progress::unheard(), mpsc::channel(1).1) };
        let cancel = RaiseOnDrop(arrival.cancel.clone());
        // WHY: a body that was given up is still coming; its bytes are no sign of the client's leaving.
        let mut listening = arrival.body.is_ok();
        let mut stream = Stream { heartbeat: None, cors };
        let mut answer = self.begin(arrival, progress, seat);
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
    fn begin(
        &self,
        arrival: Arrival,
        progress: Progress,
        seat: Option<OwnedSemaphorePermit>,
    ) -> oneshot::Receiver<Answer> {
        let (done, answer) = oneshot::channel();
        let gate = Arc::clone(&self.house.gate);
        self.house.calls.spawn(async move {
            let answer = gate.handle(arrival, progress).await;
            // WHY: a stream that was reset keeps its place until its call has ended, or resets would
            // be a way to have more calls under way than there is room for.
            drop(seat);
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
    let authority = framing::authority(request).map(|host| ("host".to_owned(), host.to_owned()));
    Head {
        method: request.method.as_str().to_owned(),
        path: request.uri.path().to_owned(),
        headers: authority.into_iter().chain(request.headers.iter().map(header)).collect(),
    }
}
