//! The accept loop, and connections that can be cut on purpose.
//!
//! Promises: a response marked [`Cut`] is never written, its connection is reset; stopping lets
//! requests under way finish, up to a deadline; every task is owned here. Never reads a request.
//! Started by `sandbox::start`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// How long requests under way may take once a stop is asked for.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may idle. Longer than any client keeps one pooled, so that it is the client who closes
/// and never finds a connection closed under a write that it has just begun.
const IDLE: Duration = Duration::from_mins(10);

/// Marks a response whose connection is reset instead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut;

/// A listening socket and everything accepted from it.
#[derive(Debug)]
pub(super) struct Wire {
    stopping: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

impl Wire {
    /// Starts to accept.
    pub(super) fn start(listener: TcpListener, router: Router) -> Self {
        let (stopping, stop) = watch::channel(false);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, router, stop));
        Self { stopping, accepting }
    }

    /// Stops to accept, drains, and cuts what is left at the deadline.
    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(true);
        // The accept loop drains its connections within its own deadline.
        while self.accepting.join_next().await.is_some() {}
    }
}

async fn accept(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // An accept that loses leaves its connection in the backlog, which closes with the listener.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(carry(stream, router.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the sandbox could not accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("the sandbox cut the requests that were still under way after {} s", DRAIN.as_secs());
        connections.shutdown().await;
    }
}

async fn carry(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    // Answers are small; waiting to fill a segment would only slow them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the sandbox could not set a socket option: {error}");
    }
    let cut = Arc::new(AtomicBool::new(false));
    let mut io = TokioIo::new(stream);
    {
        let marked = Arc::clone(&cut);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (router, marked) = (router.clone(), Arc::clone(&marked));
            async move {
                let response =
                    router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never: Infallible| match never {});
                if response.extensions().get::<Cut>().is_some() {
                    marked.store(true, Ordering::Release);
                    return Err(io::Error::from(io::ErrorKind::ConnectionReset));
                }
                Ok(response)
            }
        });
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(IDLE).serve_connection(&mut io, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            // The connection goes on below: what is under way is answered, nothing more is read.
            _ = stop.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a sandbox connection ended early: {error}");
        }
    }
    if cut.load(Ordering::Acquire)
        && let Err(error) = io.inner().set_zero_linger()
    {
        tracing::warn!(%error, "a connection could not be reset, so it is closed: {error}");
    }
}
