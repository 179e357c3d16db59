//! Every way this gateway says no, in one table.
//!
//! Promises: a code is stable once released; each has its words for the caller, a next step and
//! a retry hint; nothing here reveals a path, a host, a Rust type or the existence of what is
//! hidden. Never decides anything: rooms that decide build a [`Refusal`] or a [`Fault`].
//! Called by every room; the wire form is written by `domain::mcp`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One row of the table below.
struct Row {
    name: &'static str,
    retryable: bool,
    message: &'static str,
    next: &'static str,
}

macro_rules! codes {
    ($( $(#[$doc:meta])* $variant:ident, $name:literal, $retryable:literal, $message:literal, $next:literal; )*) => {
        /// A stable refusal code, as clients, audit records and metrics name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $( $(#[$doc])* $variant, )* }

        impl Code {
            /// Every code, in the order of the contract.
            pub const ALL: &'static [Code] = &[ $( Code::$variant, )* ];

            const fn row(self) -> Row {
                match self {
                    $( Self::$variant => Row { name: $name, retryable: $retryable, message: $message, next: $next }, )*
                }
            }
        }
    };
}

codes! {
    /// No credential, or one that proves nothing.
    Unauthenticated, "unauthenticated", false, "no valid credential", "send a bearer token issued for this gateway";
    /// The credential was good once.
    TokenExpired, "token_expired", true, "the token has expired", "get a new token and call again";
    /// The token lacks a scope that the operation needs.
    InsufficientScope, "insufficient_scope", false, "the token lacks a scope", "get a token with the scopes named";

    /// Several tenants are possible and none was chosen.
    TenantRequired, "tenant_required", false, "more than one tenant is possible", "name one of the tenants in the `X-LoopIQ-Tenant` header";
    /// The tenant named is not the caller's.
    TenantForbidden, "tenant_forbidden", false, "that tenant is not among the token's tenants", "name a tenant that the token carries";
    /// The tenant has not enabled MCP access.
    McpDisabled, "mcp_disabled", false, "MCP access is not enabled for this tenant", "ask the tenant's administrator to enable it";

    /// No such tool, or none that the caller may know of.
    UnknownTool, "unknown_tool", false, "no such tool", "list the tools and use one of them";
    /// The arguments do not fit the tool's schema.
    InvalidArguments, "invalid_arguments", false, "the arguments do not fit the tool's schema", "correct the arguments named and call again";

    /// The policy says no.
    PolicyDenied, "policy_denied", false, "policy does not allow this call", "ask for the role or permission named, or use another tool";
    /// The policy could not give an answer that can be trusted.
    PolicyUnavailable, "policy_unavailable", true, "no trustworthy policy decision could be made", "try again later; an operator has been told";

    /// A person must agree first.
    ApprovalRequired, "approval_required", false, "this call needs a person's approval", "ask the approvers named to decide, then call again with the `approvalId`";
    /// A person has been asked and has not answered.
    ApprovalPending, "approval_pending", true, "the approval is still pending", "wait for the approvers named, then call again with the same `approvalId`";
    /// A person said no.
    ApprovalRejected, "approval_rejected", false, "the approval was rejected", "read the reason, change the plan and ask again";
    /// The approval came too late, or was used too late.
    ApprovalExpired, "approval_expired", false, "the approval has expired", "call again without `approvalId` to ask anew";
    /// What was approved is not what was sent.
    ApprovalMismatch, "approval_mismatch", false, "this is not what was approved", "send exactly what was approved, or ask for a new approval";
    /// An approval is good for one execution.
    ApprovalSpent, "approval_spent", false, "the approval has been used", "ask for the result with `loopiq_get_action`";
    /// The world moved between preview and execution.
    PreviewDrift, "preview_drift", false, "the effect is no longer the one that was previewed", "read the change named and ask for a new approval";

    /// A governed write needs a key to happen once.
    IdempotencyKeyRequired, "idempotency_key_required", false, "this write needs an idempotency key", "send an `idempotencyKey` that is new for this action";
    /// One key, two payloads.
    IdempotencyMismatch, "idempotency_mismatch", false, "this idempotency key was used with another payload", "use a new key for a new action, or send the first payload again";
    /// The same write is under way.
    ExecutionInFlight, "execution_in_flight", true, "this write is being executed", "wait and call again with the same key";
    /// Nobody knows yet whether the write happened.
    ExecutionUnknown, "execution_unknown", true, "the outcome of this write is not known yet", "do not send it again under a new key; ask `loopiq_get_action` for its state";
    /// The write happened; its stored answer has been pruned.
    ResultExpired, "result_expired", false, "the write was executed and its stored answer has been pruned", "read the records named instead";

    /// Too many calls.
    RateLimited, "rate_limited", true, "too many calls", "wait as long as `retryAfterMs` says and call again";
    /// Too much work at once.
    Overloaded, "overloaded", true, "the gateway is overloaded", "wait as long as `retryAfterMs` says and call again";

    /// Nothing was sent to the backend.
    BackendUnavailable, "backend_unavailable", true, "LoopIQ cannot be reached; nothing was sent", "try again later";
    /// The backend did not answer in time.
    BackendTimeout, "backend_timeout", true, "LoopIQ did not answer in time", "try again later";
    /// The backend said no.
    BackendRejected, "backend_rejected", false, "LoopIQ rejected the request", "read LoopIQ's reason and correct the call";
    /// The backend broke.
    BackendFailed, "backend_failed", true, "LoopIQ failed to answer properly", "try again later; if it stays, tell LoopIQ's operators the request id";

    /// The answer must not be shown.
    ResponseWithheld, "response_withheld", false, "the answer was withheld", "tell an operator the request id";
    /// The answer is larger than the gateway passes on.
    ResponseTooLarge, "response_too_large", false, "the answer is too large", "ask for less: filter, or use a smaller page";

    /// What cannot be recorded does not happen.
    AuditUnavailable, "audit_unavailable", true, "the call cannot be recorded, so it is not made", "try again later; an operator has been told";
    /// What cannot be remembered does not happen.
    LedgerUnavailable, "ledger_unavailable", true, "writes cannot be remembered, so none is made", "try again later; an operator has been told";
}

impl Code {
    /// The code as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    /// Whether the same call may succeed later without being changed.
    #[must_use]
    pub const fn retryable(self) -> bool {
        self.row().retryable
    }

    /// The general words for the caller.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.row().message
    }

    /// The general next step for the caller.
    #[must_use]
    pub const fn next(self) -> &'static str {
        self.row().next
    }

    /// The code named `name`, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why, in the words of whoever decided: a policy rule, the catalog, the backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Stable, `[a-z][a-z0-9_]*`.
    pub code: String,
    /// What failed, in the user's own names.
    #[serde(default)]
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub next: String,
    /// Further fields for programs.
    #[serde(default)]
    pub data: Map<String, Value>,
}

impl Reason {
    /// A reason without data.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), next: next.into(), data: Map::new() }
    }
}

/// A no after authentication: HTTP 200, `isError: true`, a code, reasons and a next step.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What failed, most important first; never empty.
    pub reasons: Vec<Reason>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// What to do next.
    pub next: String,
    /// Further members of `_meta["com.loopiq/error"]`, such as `tenants` or `retryAfterMs`.
    pub data: Map<String, Value>,
    /// For the log and the audit record only; may name hosts and causes.
    pub detail: String,
}

impl Refusal {
    /// A refusal in the table's own words.
    #[must_use]
    pub fn of(code: Code) -> Self {
        Self {
            code,
            reasons: vec![Reason::new(code.as_str(), code.message(), code.next())],
            retryable: code.retryable(),
            next: code.next().to_owned(),
            data: Map::new(),
            detail: String::new(),
        }
    }

    /// A refusal that says what failed in the user's own names.
    #[must_use]
    pub fn because(code: Code, message: impl Into<String>) -> Self {
        let mut refusal = Self::of(code);
        refusal.reasons = vec![Reason::new(code.as_str(), message, code.next())];
        refusal
    }

    /// The same, with the reasons that somebody else gave. An empty list changes nothing.
    #[must_use]
    pub fn with_reasons(mut self, reasons: Vec<Reason>) -> Self {
        if let Some(next) = reasons.iter().map(|reason| &reason.next).find(|next| !next.is_empty()) {
            self.next.clone_from(next);
        }
        if !reasons.is_empty() {
            self.reasons = reasons;
        }
        self
    }

    /// The same, with another next step.
    #[must_use]
    pub fn then(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        if let [only] = self.reasons.as_mut_slice() {
            only.next.clone_from(&self.next);
        }
        self
    }

    /// The same, with one more member for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }

    /// The same, with a cause that only operators see.
    #[must_use]
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// What a model or a person reads: what failed and what to do next.
    #[must_use]
    pub fn words(&self) -> String {
        let why: Vec<&str> = self
            .reasons
            .iter()
            .map(|reason| if reason.message.is_empty() { reason.code.as_str() } else { reason.message.as_str() })
            .collect();
        format!("{}: {}. next: {}", self.code, why.join("; "), self.next)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// A message that is not a proper MCP request, or names what does not exist: a JSON-RPC error.
///
/// Follows JSON-RPC 2.0 section 5.1 and MCP 2026-07-28 (`-32020` to `-32022`).
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// HTTP status of the answer.
    pub status: u16,
    /// JSON-RPC error code.
    pub code: i64,
    /// What was wrong with the message.
    pub message: String,
    /// `error.data`, when there is any.
    pub data: Option<Value>,
}

impl Fault {
    /// A fault without data.
    #[must_use]
    pub fn new(status: u16, code: i64, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), data: None }
    }

    /// The same, with `error.data`.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// JSON-RPC `-32602` at HTTP 200: a tool that does not exist, or that the caller must not know of.
    ///
    /// One constructor for both, so that the two answers cannot differ.
    #[must_use]
    pub fn unknown_tool(name: &str) -> Self {
        Self::new(200, -32602, format!("unknown tool: {name}")).with(serde_json::json!({
            "code": Code::UnknownTool.as_str(),
            "next": Code::UnknownTool.next(),
        }))
    }
}

/// A no of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum No {
    /// No or a bad credential: HTTP 401 or 403 with `WWW-Authenticate` (RFC 6750, RFC 9728).
    Challenge(Challenge),
    /// A JSON-RPC error.
    Fault(Fault),
    /// A result with `isError: true`.
    Refusal(Box<Refusal>),
    /// The caller gave the call up before anything was sent on.
    Cancelled,
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(Box::new(refusal))
    }
}

impl From<Challenge> for No {
    fn from(challenge: Challenge) -> Self {
        Self::Challenge(challenge)
    }
}

/// An OAuth challenge. The words for the caller are constant per code; the cause is for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// `unauthenticated`, `token_expired` or `insufficient_scope`.
    pub code: Code,
    /// Whether any credential was sent; RFC 6750 omits `error` when none was.
    pub presented: bool,
    /// Scopes that the operation needs, for `scope=`.
    pub scopes: Vec<String>,
    /// Label of the counter of refused credentials and of the audit record.
    pub cause: &'static str,
}

impl Challenge {
    /// HTTP 401, or 403 for a missing scope.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self.code {
            Code::InsufficientScope => 403,
            _ => 401,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_says_what_to_do_next() {
        let mut names = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(names.insert(code.as_str()), "{code} stands twice");
            assert!(!code.message().is_empty() && !code.next().is_empty(), "{code} lacks words");
            assert_eq!(Code::named(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn words_for_people_never_contain_the_operators_detail() {
        let refusal = Refusal::of(Code::BackendUnavailable).detail("connect 10.0.0.7:9000 refused");
        assert!(!refusal.words().contains("10.0.0.7"));
        assert!(refusal.to_string().contains("10.0.0.7"));
    }

    #[test]
    fn a_hidden_tool_answers_exactly_as_an_unknown_one() {
        assert_eq!(Fault::unknown_tool("loopiq_x"), Fault::unknown_tool("loopiq_x"));
    }
}
