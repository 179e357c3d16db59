//! A connection as pingora wants it, with a write buffer, a pace and a gentle end.
//!
//! Promises: head and body of an answer leave in one write; every byte is shown to the pace, and
//! nothing is read on that the pace refuses; what the client still sends while it is told no is read
//! for a moment, so that a reset does not destroy the answer. Never parses. Called by `adapters::door`.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl};
use pingora::protocols::{TimingDigest, UniqueID, UniqueIDType};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::adapters::door::link::Link;
use crate::adapters::door::pace::Pace;

/// Head and body of most answers fit; larger bodies cost a second write.
const WRITE_BUFFER_BYTES: usize = 4096;
/// How long a refused client is listened to before the connection goes.
const LINGER: Duration = Duration::from_secs(1);

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    link: BufWriter<Link>,
    pace: Arc<Pace>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(link: Link, pace: Arc<Pace>) -> Self {
        Self { link: BufWriter::with_capacity(WRITE_BUFFER_BYTES, link), pace, lingering: None }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(why) = self.pace.refuses() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.link).poll_read(cx, buf))?;
        self.pace.heard(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.link).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_flush(cx)
    }

    /// Says goodbye, then reads what is still coming for a moment.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.link).poll_shutdown(cx))?;
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
            match Pin::new(&mut self.link).poll_read(cx, &mut unread) {
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
        self.link.get_ref().as_raw_fd()
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
