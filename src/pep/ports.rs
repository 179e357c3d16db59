//! What the sentence needs from outside, each as a promise.
//!
//! Implemented by `adapters` and, in tests, by doubles. Never implemented twice for one purpose.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Map;
use serde_json::Value;

use crate::domain::audit::AuditRef;
use crate::domain::audit::JournalFault;
use crate::domain::audit::record::Record;
use crate::domain::catalog::Tool;
use crate::domain::identity::Principal;
use crate::domain::identity::Tenant;
use crate::domain::identity::fault::AuthFault;
use crate::domain::pdp::EarlierCall;
use crate::domain::pdp::ruling::Permit;
use crate::domain::pdp::ruling::Permitted;

/// The time, and ids that never repeat.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Fresh random bytes from the operating system.
    fn random(&self) -> [u8; 16];
}

/// Tells who a bearer token stands for.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The principal of a token that is good at `now_s`, seconds since the Unix epoch.
    ///
    /// A wrong yes lets a stranger in; when keys cannot be had the answer is a fault, never a guess.
    async fn principal(&self, bearer: &str, now_s: i64) -> Result<Arc<Principal>, AuthFault>;
}

/// What one call is about to do. Becomes a [`Permit`] when policy allows it.
#[derive(Debug, Clone)]
pub struct Action {
    /// For which organisation.
    pub tenant: Tenant,
    /// With which tool.
    pub tool: Arc<Tool>,
    /// With which arguments; valid under the tool's schema.
    pub arguments: Map<String, Value>,
    /// Whether only a preview is asked for.
    pub dry_run: bool,
}

impl Permitted for Action {
    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    fn tool(&self) -> &str {
        &self.tool.name
    }

    fn arguments(&self) -> &Map<String, Value> {
        &self.arguments
    }

    fn dry_run(&self) -> bool {
        self.dry_run
    }
}

/// A request to a backend in its final form.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Name of the backend.
    pub backend: String,
    /// HTTP method, upper case.
    pub method: String,
    /// Encoded path and query.
    pub path_and_query: String,
    /// Every header that is sent besides `Host`, `Content-Length` and `Connection`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON body.
    pub body: Option<Vec<u8>>,
    /// Time for the whole exchange.
    pub timeout: Duration,
}

/// A backend's answer.
#[derive(Debug, Clone)]
pub struct BackendAnswer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, if any.
    pub content_type: Option<String>,
    /// `Retry-After`, if any.
    pub retry_after: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {detail}")]
pub struct SendFault {
    /// What went wrong.
    pub kind: SendFaultKind,
    /// Whether any byte of the request may have left. False is a proof that the backend did nothing.
    pub bytes_left: bool,
    /// For operators.
    pub detail: String,
}

/// What went wrong with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFaultKind {
    /// No such backend, no address, no connection.
    Unreachable,
    /// No whole answer in time.
    Timeout,
    /// The connection broke, or what came was not HTTP.
    Broken,
    /// The answer is larger than the gateway passes on.
    TooLarge,
}

/// The LoopIQ route APIs.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Sends once. A write is never sent again by this port, whatever happens; a read may be, once.
    ///
    /// Needs a permit, so that nothing reaches a backend undecided.
    async fn send(&self, permit: &Permit<Action>, request: Outbound) -> Result<BackendAnswer, SendFault>;
}

/// The audit journal.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Resolves when the record is durable. A yes that is not durable breaks every promise made to auditors.
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault>;

    /// Whether a record of a write (or of a read) could be taken now.
    fn ready(&self, for_write: bool) -> Result<(), JournalFault>;
}

/// What the same caller did earlier in the same workflow. Forgetting is safe: policies only grant by it.
pub trait Facts: Send + Sync {
    /// Earlier calls, oldest first.
    fn recall(&self, tenant: &str, caller: &Principal, workflow: &str) -> Vec<EarlierCall>;

    /// One more.
    fn note(&self, tenant: &str, caller: &Principal, workflow: &str, call: EarlierCall);
}
