//! A TCP connection as pingora wants it, with a write buffer, a pace and a gentle end.
//!
//! Promises: head and body of an answer leave in one write; a client's slowness is measured from
//! the first byte of each request; a head that never ends is cut; what the client still sends while
//! it is told no is read for a moment, so that a reset does not destroy the answer. Never parses.
//! Called by `adapters::door`.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl};
use pingora::protocols::{TimingDigest, UniqueID, UniqueIDType};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Head and body of most answers fit; larger bodies cost a second write.
const WRITE_BUFFER_BYTES: usize = 4096;
/// How long a refused client is listened to before the connection goes.
const LINGER: Duration = Duration::from_secs(1);

/// How far the client is with its request.
#[derive(Debug)]
pub(super) struct Pace {
    head_bytes_max: usize,
    state: Mutex<PaceState>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct PaceState {
    first_byte_at: Option<Instant>,
    head_bytes: usize,
    head_done: bool,
}

impl Pace {
    pub(super) fn new(head_bytes_max: usize) -> Self {
        Self { head_bytes_max, state: Mutex::default(), begun: Notify::new() }
    }

    /// The next request has not begun.
    pub(super) fn rest(&self) {
        *self.lock() = PaceState::default();
    }

    /// The head is complete; only the clock counts from here.
    pub(super) fn head_done(&self) {
        self.lock().head_done = true;
    }

    /// Whether the client has begun its request.
    pub(super) fn has_begun(&self) -> bool {
        self.lock().first_byte_at.is_some()
    }

    /// When the client began its request.
    pub(super) fn began_at(&self) -> Option<Instant> {
        self.lock().first_byte_at
    }

    /// Whether the head is longer than allowed.
    pub(super) fn head_is_too_long(&self) -> bool {
        let state = self.lock();
        !state.head_done && state.head_bytes >= self.head_bytes_max
    }

    /// Returns when the request began and `allowance` has passed since.
    pub(super) async fn overdue(&self, allowance: Duration) {
        loop {
            let begun = self.begun.notified();
            if let Some(first_byte_at) = self.began_at() {
                sleep_until(first_byte_at + allowance).await;
                return;
            }
            begun.await;
        }
    }

    fn heard(&self, bytes: usize) {
        let mut state = self.lock();
        state.head_bytes = state.head_bytes.saturating_add(bytes);
        let first = state.first_byte_at.is_none() && bytes > 0;
        if first {
            state.first_byte_at = Some(Instant::now());
        }
        drop(state);
        if first {
            self.begun.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: BufWriter<TcpStream>,
    pace: Arc<Pace>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream, pace: Arc<Pace>) -> Self {
        Self { tcp: BufWriter::with_capacity(WRITE_BUFFER_BYTES, tcp), pace, lingering: None }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pace.head_is_too_long() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request head is too long")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.pace.heard(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    /// Says goodbye, then reads what is still coming for a moment.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
            self.lingering = Some(Box::pin(sleep(LINGER)));
        }
        // WHY: closing with unread bytes makes the kernel send a reset, and a client that is still
        // sending its oversized body would lose the 413 that tells it so.
        let mut scratch = [0_u8; 4096];
        loop {
            if let Some(lingering) = self.lingering.as_mut()
                && lingering.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut unread = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.tcp).poll_read(cx, &mut unread) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !unread.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // A client that has gone cannot be told goodbye.
        let _gone = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.tcp.get_ref().as_raw_fd()
    }
}

impl Ssl for Wire {}
impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
