//! A client that never gives up a write before it knows what became of it.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::harness::DEADLINE;
use crate::harness::Home;
use crate::harness::ask;
use crate::harness::get_as;
use crate::harness::post;

/// What came back for a call.
#[derive(Debug, Clone)]
pub(super) enum Heard {
    /// It was done: the result.
    Done(Value),
    /// A no that stays one: the result.
    No(Value),
    /// A no that says to ask again, or nothing at all: why.
    Again(String),
}

/// Ada's client, and otto, who approves what she asks for.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// How long it goes on asking.
    pub(super) patience: Duration,
    pub(super) ada: String,
    pub(super) otto: String,
}

impl Client {
    pub(super) fn new(home: &Home) -> Self {
        Self { patience: DEADLINE, ada: home.token(), otto: home.token_of("otto", "certification_approver") }
    }

    /// One try; `meta` steers it.
    pub(super) fn call(&self, mcp: &str, tool: &str, arguments: &Value, meta: &Value) -> Heard {
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        match ask(mcp, &self.ada, "tools/call", &params) {
            Err(why) => Heard::Again(why),
            Ok(result) if result["isError"] == false => Heard::Done(result),
            Ok(result) if refusal(&result)["retryable"] == true => Heard::Again(refusal(&result).to_string()),
            Ok(result) => Heard::No(result),
        }
    }

    /// Tries until it is done or refused for good.
    pub(super) fn until_definite(&self, mut ask: impl FnMut() -> Heard) -> Result<Value, Value> {
        let end = Instant::now() + self.patience;
        loop {
            match ask() {
                Heard::Done(result) => return Ok(result),
                Heard::No(result) => return Err(result),
                Heard::Again(why) => {
                    assert!(Instant::now() < end, "no answer in {:?}, at last: {why}", self.patience);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tries until it is done.
    pub(super) fn until_known(&self, ask: impl FnMut() -> Heard) -> Value {
        self.until_definite(ask).unwrap_or_else(|no| panic!("refused for good: {no:#}"))
    }

    /// Asks for an approval until it has been asked for: its id.
    pub(super) fn asks_for_approval(&self, mut ask: impl FnMut() -> Heard) -> String {
        let end = Instant::now() + self.patience;
        loop {
            let why = match ask() {
                Heard::Done(result) => panic!("done without approval: {result:#}"),
                Heard::No(result) if code(&result) == "approval_required" => return approval(&result),
                Heard::No(result) => panic!("refused for good: {result:#}"),
                // One who asks again, because the first answer was lost, hears that it is pending.
                Heard::Again(why) if why.contains("approval_pending") => {
                    let refusal: Value = serde_json::from_str(&why).unwrap();
                    return refusal["approvalId"].as_str().unwrap().to_owned();
                }
                Heard::Again(why) => why,
            };
            assert!(Instant::now() < end, "not asked for in {:?}, at last: {why}", self.patience);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Otto reads the approval and votes for what he read, until it counts.
    pub(super) fn approves(&self, admin: impl Fn() -> String, id: &str) {
        let end = Instant::now() + self.patience;
        loop {
            let last = self.votes(&admin(), id);
            match last {
                Ok(()) => return,
                Err(why) => assert!(Instant::now() < end, "not approved in {:?}, at last: {why}", self.patience),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn votes(&self, admin: &str, id: &str) -> Result<(), String> {
        let url = format!("{admin}/api/v1/approvals/{id}");
        let (status, text) = get_as(&url, &self.otto)?;
        let read: Value = serde_json::from_str(&text).map_err(|cause| format!("{status} {cause}: {text}"))?;
        if read["state"] == "approved" {
            return Ok(());
        }
        let vote = json!({"digest": read["digest"], "reason": "it is what we want"});
        let (status, text) = post(&format!("{url}/approve"), &self.otto, &vote)?;
        if status == 200 { Ok(()) } else { Err(format!("{status}: {text}")) }
    }
}

/// `_meta["com.loopiq/error"]`.
pub(super) fn refusal(result: &Value) -> &Value {
    &result["_meta"]["com.loopiq/error"]
}

/// `_meta["com.loopiq/audit"]`.
pub(super) fn audit(result: &Value) -> &Value {
    &result["_meta"]["com.loopiq/audit"]
}

/// The refusal's code.
pub(super) fn code(result: &Value) -> &str {
    refusal(result)["code"].as_str().unwrap_or_default()
}

/// The approval that a refusal names.
pub(super) fn approval(result: &Value) -> String {
    refusal(result)["approvalId"].as_str().unwrap_or_else(|| panic!("no approval: {result:#}")).to_owned()
}

/// What the caller reads, word for word.
pub(super) fn content(result: &Value) -> (String, String) {
    (result["content"].to_string(), result["structuredContent"].to_string())
}
