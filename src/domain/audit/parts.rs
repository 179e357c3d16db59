//! The parts of a record that only this room sees: what the record keeps until it becomes bytes.
//!
//! Promises: a refusal of any kind becomes one shape. Never leaves this room.
//! Called by `record` (fills them) and `ocsf` (writes them).

use serde::Serialize;
use serde_json::Value;

use crate::domain::catalog::{Effect, Impact};
use crate::domain::identity::AuthMethod;
use crate::domain::pdp::ruling::Fault;
use crate::domain::pdp::{Obligation, Outcome, Phase};
use crate::domain::refusal::{No, Reason};

/// Characters of a cause that are kept.
const DETAIL_CHARS_MAX: usize = 1_000;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Who {
    pub(super) user: String,
    pub(super) tenant: Option<String>,
    pub(super) issuer: String,
    pub(super) method: AuthMethod,
    pub(super) client: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct What {
    pub(super) tool: String,
    pub(super) via: Option<String>,
    pub(super) known: Option<Known>,
    pub(super) arguments: Value,
    pub(super) dropped: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) digest: String,
    pub(super) family: String,
    pub(super) effect: Effect,
    pub(super) impact: Impact,
    pub(super) backend: Option<String>,
    pub(super) route: String,
    pub(super) sensitive: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct DecisionLine {
    pub(super) id: String,
    pub(super) phase: Phase,
    pub(super) outcome: Outcome,
    pub(super) reasons: Vec<Reason>,
    pub(super) obligations: Vec<Obligation>,
    /// Written beside the input only: a list names every tool that is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visible: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<Fault>,
    pub(super) input_digest: String,
    pub(super) bundle_digest: String,
    pub(super) data_digest: String,
    pub(super) engine: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instructions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Value>,
}

impl DecisionLine {
    /// Leaves out what is large and stands in an earlier record.
    pub(super) fn shorten(&mut self) {
        self.input = None;
        self.visible = None;
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct RefusalLine {
    pub(super) code: String,
    pub(super) reasons: Vec<Reason>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rpc_code: Option<i64>,
}

impl RefusalLine {
    pub(super) fn plain(code: &str, detail: &str) -> Self {
        Self { code: code.to_owned(), reasons: Vec::new(), detail: bounded(detail), status: None, rpc_code: None }
    }

    pub(super) fn of(no: &No) -> Self {
        match no {
            No::Challenge(challenge) => RefusalLine {
                code: challenge.code.as_str().to_owned(),
                reasons: Vec::new(),
                detail: challenge.cause.to_owned(),
                status: Some(challenge.status()),
                rpc_code: None,
            },
            No::Fault(fault) => RefusalLine {
                code: fault
                    .data
                    .as_ref()
                    .and_then(|data| data.get("code"))
                    .and_then(Value::as_str)
                    .unwrap_or("bad_message")
                    .to_owned(),
                reasons: Vec::new(),
                detail: bounded(&fault.message),
                status: Some(fault.status),
                rpc_code: Some(fault.code),
            },
            No::Refusal(refusal) => RefusalLine {
                code: refusal.code.as_str().to_owned(),
                reasons: refusal.reasons.clone(),
                detail: bounded(&refusal.detail),
                status: None,
                rpc_code: None,
            },
            No::Cancelled => RefusalLine {
                code: "cancelled".to_owned(),
                reasons: Vec::new(),
                detail: String::new(),
                status: None,
                rpc_code: None,
            },
        }
    }
}

/// What operators read of a cause; a client may have chosen the text, so it is cut.
fn bounded(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}
