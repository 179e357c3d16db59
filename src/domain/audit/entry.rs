//! One record as it is read back.
//!
//! Promises: every name of the file format that a reader needs stands here; what is absent is
//! empty. Never fails and never judges: whether a record may be believed is `verify`'s to say.
//! Called by `story`, `adapters::journal` and `cli::audit`.

use serde_json::Value;

/// A record.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it says.
    pub value: Value,
    /// The line as it stands in the file.
    pub line: String,
}

impl Entry {
    /// Reads a line; none when it is not JSON.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().map(|value| Self { value, line: line.to_owned() })
    }

    /// What stands at a JSON pointer.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }

    /// The text at a JSON pointer.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// A text that is the gateway's own.
    #[must_use]
    pub fn own(&self, name: &str) -> &str {
        self.at("/unmapped/loopgate").and_then(|own| own.get(name)).and_then(Value::as_str).unwrap_or_default()
    }

    /// When: milliseconds since the Unix epoch.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        self.at("/time").and_then(Value::as_i64).unwrap_or_default()
    }

    /// Its place in the journal of its writer: epoch and number.
    #[must_use]
    pub fn seq(&self) -> (u64, u64) {
        let number = |name: &str| self.at(name).and_then(Value::as_u64).unwrap_or_default();
        (number("/unmapped/loopgate/chain/epoch"), number("/unmapped/loopgate/chain/seq"))
    }

    /// Its audit reference.
    #[must_use]
    pub fn reference(&self) -> &str {
        self.text("/metadata/uid")
    }

    /// How far the action had come.
    #[must_use]
    pub fn stage(&self) -> &str {
        self.own("stage")
    }

    /// Whether its stage is this one, or one under it: `approval` has `approval.vote` under it.
    #[must_use]
    pub fn is_at(&self, stage: &str) -> bool {
        self.stage().strip_prefix(stage).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The organisation.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.text("/actor/user/org/uid")
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        self.text("/actor/user/uid")
    }

    /// The issuer that vouches for the user.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.text("/actor/idp/uid")
    }

    /// The tool.
    #[must_use]
    pub fn tool(&self) -> &str {
        self.own("tool")
    }

    /// `tools/call`, `approvals.approve`, …; the stage of what is no request.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text("/api/operation")
    }

    /// The code of a no.
    #[must_use]
    pub fn code(&self) -> &str {
        self.text("/unmapped/loopgate/refusal/code")
    }

    /// The gateway's id of the request.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.text("/api/request/uid")
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.text("/trace/uid")
    }

    /// The decisions on the way.
    #[must_use]
    pub fn decisions(&self) -> &[Value] {
        self.at("/unmapped/loopgate/decisions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Ids of the records that the call was about.
    pub fn record_ids(&self) -> impl Iterator<Item = &str> {
        self.at("/resources").and_then(Value::as_array).into_iter().flatten().filter_map(|one| one.get("uid")?.as_str())
    }

    /// What became of the execution: `executed`, `previewed`, `failed`, `unknown`, `not_sent`.
    #[must_use]
    pub fn execution(&self) -> &str {
        self.text("/unmapped/loopgate/execution/outcome")
    }

    /// Whether one of its ids is this one: its reference, or that of its request, trace, approval,
    /// execution, idempotency key or of one of its decisions.
    #[must_use]
    pub fn goes_by(&self, id: &str) -> bool {
        self.reference() == id
            || self.request_id() == id
            || self.trace_id() == id
            || ["approval_id", "execution_id", "idempotency_key"].iter().any(|name| self.own(name) == id)
            || self.decisions().iter().any(|decision| decision.get("id").and_then(Value::as_str) == Some(id))
    }

    /// What came of it, in a word or two.
    #[must_use]
    pub fn result(&self) -> String {
        if !self.code().is_empty() {
            return self.code().to_owned();
        }
        let status = self.at("/unmapped/loopgate/execution/backend_status").and_then(Value::as_u64);
        match (self.execution(), status) {
            ("", _) => self.decisions().last().map_or_else(String::new, |decision| {
                decision.get("outcome").and_then(Value::as_str).unwrap_or_default().to_owned()
            }),
            (outcome, Some(status)) => format!("{outcome} {status}"),
            (outcome, None) => outcome.to_owned(),
        }
    }
}
