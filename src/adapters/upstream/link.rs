//! HTTP/1.1 connections to one upstream server, kept for a short while.
//!
//! Promises: it is known, not guessed, whether a byte of a request may have left; a connection whose answer
//! was not read to its end is closed, not used again; no redirect is followed and no cookie kept. A
//! connection is driven by whoever waits for its answer, so that dropping the wait drops the connection.
//! Called by [`super::hear`].

use std::future::Future;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::place::Place;

/// How long an idle connection is kept. WHY: the common server closes its own after 5 s, and a write on a
/// connection that the other side is just closing may be lost.
const IDLE: Duration = Duration::from_secs(3);

/// Idle connections kept.
const IDLE_MAX: usize = 16;

/// Connections at once, event streams among them.
const LINKS_MAX: usize = 256;

/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Anything that bytes go through.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// All connections to one server.
pub(super) struct Links {
    place: Place,
    connect: Duration,
    idle: Mutex<Vec<Link>>,
    room: Arc<Semaphore>,
}

/// One connection.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    over: bool,
    used: Instant,
    _room: OwnedSemaphorePermit,
}

/// An answer whose body is still coming.
pub(super) struct Coming<'a> {
    links: &'a Links,
    link: Link,
    pub(super) response: Response<Incoming>,
}

/// Under which conditions a request may leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leave<'a> {
    /// Not after this.
    pub(super) before: Option<Instant>,
    /// Raised right before the first byte may leave, and not before.
    pub(super) leaving: &'a AtomicBool,
    /// Whether it may be sent again when a kept connection turns out to be dead.
    pub(super) again: bool,
}

/// Why there is no answer, and whether the request may have left.
#[derive(Debug)]
pub(super) enum Unsent {
    /// No byte has left.
    Nothing(String),
    /// Some may have.
    Some(String),
}

impl Links {
    pub(super) fn new(place: Place, connect: Duration) -> Self {
        Self { place, connect, idle: Mutex::default(), room: Arc::new(Semaphore::new(LINKS_MAX)) }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Sends once; twice only if that may be, and nothing came back on a kept connection.
    pub(super) async fn send(
        &self,
        secure: Option<&Arc<ClientConfig>>,
        mut request: Request<Full<Bytes>>,
        leave: &Leave<'_>,
    ) -> Result<Coming<'_>, Unsent> {
        loop {
            let kept = self.take();
            let fresh = kept.is_none();
            let mut link = match kept {
                Some(link) => link,
                None => self.connect(secure).await.map_err(Unsent::Nothing)?,
            };
            if leave.before.is_some_and(|latest| Instant::now() > latest) {
                return Err(Unsent::Nothing("it was ready to be sent only after the time for it had passed".into()));
            }
            let copy = (leave.again && !fresh).then(|| request.clone());
            leave.leaving.store(true, Ordering::Release);
            let mut cause = match link.send(request).await {
                Ok(response) => return Ok(Coming { links: self, link, response }),
                Err(cause) => cause,
            };
            // INVARIANT: hyper gives the request back only if nothing of it was written, so this is no second sending.
            let unsent = cause.take_message();
            leave.leaving.store(unsent.is_none(), Ordering::Release);
            let unwritten = unsent.is_some();
            request = match unsent.or(copy) {
                Some(request) if !fresh => request,
                _ if unwritten => return Err(Unsent::Nothing(innermost(cause.error()))),
                _ => return Err(Unsent::Some(innermost(cause.error()))),
            };
        }
    }

    fn take(&self) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|link| link.used.elapsed() < IDLE);
        // WHY a look before use: what the other side said meanwhile, such as that it closes, shows when the connection is driven.
        while let Some(mut link) = idle.pop() {
            if (&mut link.driver).now_or_never().is_none() && link.sender.is_ready() {
                return Some(link);
            }
        }
        None
    }

    fn keep(&self, link: Link) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(Link { used: Instant::now(), ..link });
        }
    }

    /// Closes what is idle, because whom to believe has changed.
    pub(super) fn forget(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn connect(&self, secure: Option<&Arc<ClientConfig>>) -> Result<Link, String> {
        let connecting = async {
            let room = Arc::clone(&self.room).acquire_owned().await.map_err(|cause| cause.to_string())?;
            let wire = self.wire(secure).await?;
            let (sender, driver) = http1::Builder::new()
                .max_buf_size(HEAD_BYTES_MAX)
                .handshake::<_, Full<Bytes>>(TokioIo::new(wire))
                .await
                .map_err(|cause| innermost(&cause))?;
            Ok(Link { sender, driver: Box::pin(driver), over: false, used: Instant::now(), _room: room })
        };
        tokio::time::timeout(self.connect, connecting)
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {:?}", self.connect)))
    }

    async fn wire(&self, secure: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Wire>, String> {
        let addresses = self.place.addresses().await?;
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|cause| cause.to_string())?;
        stream.set_nodelay(true).map_err(|cause| cause.to_string())?;
        if !self.place.tls {
            return Ok(Box::new(stream));
        }
        let secure = secure.ok_or("its certificates cannot be read")?;
        let name = ServerName::try_from(self.place.bare().to_owned()).map_err(|cause| cause.to_string())?;
        let stream = TlsConnector::from(Arc::clone(secure)).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|cause| cause.to_string())?))
    }
}

impl Link {
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let sending = self.sender.try_send_request(request);
        beside(&mut self.driver, &mut self.over, sending).await
    }
}

impl Coming<'_> {
    /// The next part of the body; none at its end.
    pub(super) async fn part(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            let frame = beside(&mut self.link.driver, &mut self.link.over, self.response.body_mut().frame()).await?;
            match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(bytes) => return Some(Ok(bytes)),
                    Err(_trailers) => {}
                },
                Err(cause) => return Some(Err(innermost(&cause))),
            }
        }
    }

    /// Keeps the connection, if the body is at its end by now.
    pub(super) fn done(mut self) {
        let ended = self.part().now_or_never().is_some_and(|part| part.is_none());
        if ended && !self.link.over {
            self.links.keep(self.link);
        }
    }
}

/// Waits for something of a connection, and moves the connection meanwhile.
async fn beside<T>(driver: &mut Driver, over: &mut bool, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if !*over && driver.as_mut().poll(context).is_ready() {
            *over = true;
        }
        work.as_mut().poll(context)
    })
    .await
}

/// The last cause in a chain of errors: "connection refused" rather than "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
