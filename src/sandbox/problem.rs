//! Every way the sandbox says no, as `{"error":{"code","message"}}`.
//!
//! Promises: a status, a stable code and words that name what the caller sent. Never carries a
//! record or a storage detail. Raised by every operation, written by `sandbox::door`.

use serde_json::Value;
use serde_json::json;

/// One refusal of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// HTTP status.
    pub(super) status: u16,
    /// Stable code.
    pub(super) code: &'static str,
    /// Words for the caller.
    pub(super) message: String,
}

impl Problem {
    /// A refusal with this status, code and words.
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The record does not exist for this organisation.
    pub(super) fn not_found(what: &str, id: &str) -> Self {
        Self::new(404, "not_found", format!("`{id}` is no {what} of this organisation"))
    }

    /// Something in the request refers to what does not fit.
    pub(super) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(422, code, message)
    }

    /// The JSON that callers get.
    pub(super) fn body(&self) -> Value {
        json!({"error": {"code": self.code, "message": self.message}})
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        tracing::error!(%error, "the sandbox store failed: {error}");
        Self::new(500, "storage_failed", "the store failed; look at the sandbox log")
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        tracing::error!(%error, "a sandbox record is not JSON: {error}");
        Self::new(500, "storage_failed", "a stored record is broken; look at the sandbox log")
    }
}
