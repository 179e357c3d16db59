//! A stand-in LoopIQ backend for trying and testing.
//!
//! Promises: real behaviour over SQLite, never canned answers; a write, its idempotency key and
//! its effect count commit together or not at all; a record of one organisation does not exist
//! for another; what `/openapi.json` says is what is served, because both are built from
//! `sandbox::table`; faults happen only when a test asks for them under `/_sandbox/`.
//! Never stands before production data, and no other room of the gateway imports it: only the
//! composition root, the `demo` and `sandbox` commands and tests start it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;

mod kind;
mod operation;
mod table;
mod schema;
mod openapi;
mod problem;
mod books;
mod seed;
mod reads;
mod governance;
mod graph;
mod analytics;
mod work;
mod packages;
mod agents;
mod admin;
mod ledger;
mod store;
mod trust;
mod faults;
mod deform;
mod controls;
mod door;
mod wire;
#[cfg(test)]
mod tests;

/// How a sandbox is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the records live.
    pub store: Store,
    /// The gateway's public keys as a JWKS; none means that any caller is believed.
    pub trust: Option<Value>,
}

/// Where the records live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Gone when the sandbox stops.
    Memory,
    /// An SQLite file, seeded when it is new and taken as it is when it is not.
    File(PathBuf),
}

/// Why a sandbox did not start, or did not take the keys it was handed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address is taken or not ours.
    #[error("the sandbox cannot listen on `{listen}`: {source}; choose another address, or port 0 for a free one")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The SQLite file cannot be opened or written.
    #[error("the sandbox cannot use its store: {0}; check that the file is an SQLite database you may write")]
    Storage(#[from] rusqlite::Error),
    /// The built-in records do not parse.
    #[error("the built-in sandbox records are broken: {0}")]
    Seed(String),
    /// A documented schema does not compile.
    #[error("the schema of `{operation}` is broken: {detail}")]
    Schema {
        /// Operation whose body schema it is.
        operation: &'static str,
        /// What the schema compiler said.
        detail: String,
    },
    /// The trusted keys are not a usable JWKS.
    #[error("the trusted keys are not usable: {0}; hand over a JWKS with at least one Ed25519 public key")]
    Trust(String),
}

/// A running sandbox; dropping it cuts every connection, [`Running::stop`] drains them.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    sandbox: Arc<door::Sandbox>,
    wire: wire::Wire,
}

/// Opens the store, seeds it when it is new, and starts to listen.
pub async fn start(settings: Settings) -> Result<Running, SandboxError> {
    let sandbox = Arc::new(door::Sandbox::open(&settings.store, settings.trust.as_ref())?);
    let listen = settings.listen;
    let failed = |source| SandboxError::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let wire = wire::Wire::start(listener, door::router(Arc::clone(&sandbox)));
    Ok(Running { addr, sandbox, wire })
}

impl Running {
    /// Where it listens; the real port when port 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Believes only callers with a token signed by one of these keys, from the next request on.
    pub fn trust(&self, jwks: &Value) -> Result<(), SandboxError> {
        self.sandbox.trust(jwks)
    }

    /// Stops to accept, lets requests under way finish for a few seconds, then returns.
    pub async fn stop(self) {
        self.wire.stop().await;
    }
}

/// The OpenAPI 3.1 document that `/openapi.json` serves.
#[must_use]
pub fn openapi() -> Value {
    openapi::document()
}
