//! Clients: each wants one thing done once, and asks with one key until it knows.
//!
//! Promises: the same arguments and the same key every time; a client that hears nothing asks
//! again, perhaps elsewhere; it stops at an answer that will not change. Everything it was told is
//! kept, in order.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use loopgate::domain::mcp::Head;
use loopgate::pep::arrival::Answer;
use loopgate::pep::arrival::Arrival;
use loopgate::pep::arrival::Cancel;
use serde_json::Value;
use serde_json::json;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::dice::Dice;
use crate::rules::SimTool;
use crate::world::World;

const MODERN: &str = "2026-07-28";
/// How long a client waits for good news after the storm, in milliseconds.
const PATIENCE_MS: i64 = 1_080_000;
/// How often people are asked anew for one thing.
const ASKS_MAX: usize = 4;

/// One thing to be done once.
#[derive(Debug)]
pub(crate) struct Deed {
    pub(crate) number: usize,
    pub(crate) tool: SimTool,
    pub(crate) user: &'static str,
    pub(crate) record: String,
    pub(crate) title: String,
    pub(crate) key: String,
    /// The approval that the agent holds, if it needs one.
    pub(crate) approval: Mutex<Option<String>>,
    pub(crate) asks: Mutex<usize>,
}

/// What a client was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) deed: usize,
    /// When it was heard, in the one order of everything.
    pub(crate) tick: u64,
    /// `ok`, or the code of a refusal.
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) structured: Value,
    /// `_meta["com.loopiq/audit"]`.
    pub(crate) audit: Value,
    /// `_meta["com.loopiq/error"]`.
    pub(crate) error: Value,
}

impl Told {
    fn read(deed: usize, tick: u64, answer: &Answer) -> Self {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let result = &body["result"];
        let error = result["_meta"]["com.loopiq/error"].clone();
        let code = match (result["isError"].as_bool(), error["code"].as_str()) {
            (Some(false), _) => "ok",
            (_, Some(code)) => code,
            _ => body["error"]["data"]["code"].as_str().unwrap_or("fault"),
        };
        Self {
            deed,
            tick,
            code: code.to_owned(),
            text: result["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
            structured: result["structuredContent"].clone(),
            audit: result["_meta"]["com.loopiq/audit"].clone(),
            error,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.code == "ok"
    }

    pub(crate) fn of_audit(&self, name: &str) -> &str {
        self.audit[name].as_str().unwrap_or_default()
    }
}

/// What a client makes of an answer.
enum Next {
    Done,
    Again,
}

impl Deed {
    /// The call as it stands on the wire.
    fn arrival(&self, cancel: &Cancel, execute: bool) -> Arrival {
        let approval = self.approval.lock().unwrap().clone();
        let mut arguments = json!({"title": self.title, "record": self.record, "idempotencyKey": self.key});
        let mut name = self.tool.name;
        if let Some(id) = approval {
            if execute {
                name = "execute";
                arguments = json!({"idempotencyKey": self.key});
            }
            arguments["approvalId"] = id.into();
        }
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"name": name, "arguments": arguments, "_meta": meta});
        let body = json!({"jsonrpc": "2.0", "id": self.number, "method": "tools/call", "params": params});
        let headers = [
            ("host", "127.0.0.1"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("authorization", &format!("Bearer {}", self.user)),
            ("mcp-protocol-version", MODERN),
            ("mcp-method", "tools/call"),
            ("mcp-name", name),
        ];
        Arrival {
            head: Head {
                method: "POST".to_owned(),
                path: "/mcp".to_owned(),
                headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            },
            body: Ok(Bytes::from(body.to_string())),
            peer: None,
            certificate: None,
            cancel: cancel.clone(),
        }
    }

    fn next(&self, told: &Told) -> Next {
        let named = told.error["approvalId"].as_str().map(str::to_owned);
        match told.code.as_str() {
            "ok"
            | "backend_rejected"
            | "idempotency_mismatch"
            | "policy_denied"
            | "unknown_tool"
            | "invalid_arguments"
            | "result_expired"
            | "fault"
            | "response_withheld" => Next::Done,
            "approval_required" | "approval_pending" => {
                *self.approval.lock().unwrap() = named;
                Next::Again
            }
            "approval_rejected" | "approval_expired" | "approval_mismatch" | "approval_spent" | "preview_drift" => {
                let mut asks = self.asks.lock().unwrap();
                let mut held = self.approval.lock().unwrap();
                if *held == named || named.is_none() {
                    *held = None;
                    *asks += 1;
                }
                if *asks > ASKS_MAX { Next::Done } else { Next::Again }
            }
            _ => Next::Again,
        }
    }
}

/// One client's way with one deed.
pub(crate) async fn pursue(world: Arc<World>, deed: Arc<Deed>, dice: Dice) {
    sleep(Duration::from_millis(dice.within(0..2_000))).await;
    let (mut calm_since, mut wait_ms) = (None, 5_000);
    loop {
        let heard = ask(&world, &deed, &dice).await;
        if let Some(told) = heard {
            world.sea.note(|| format!("deed {} was told {} {}", told.deed, told.code, told.text));
            let next = deed.next(&told);
            world.told.lock().unwrap().push(told);
            if matches!(next, Next::Done) {
                return;
            }
        }
        if !world.is_calm() {
            sleep(Duration::from_millis(dice.within(500..10_000))).await;
            continue;
        }
        let since = *calm_since.get_or_insert(world.sea.now_ms());
        if world.sea.now_ms() - since > PATIENCE_MS {
            return;
        }
        sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(240_000);
    }
}

/// Asks once; none when nothing comes back.
async fn ask(world: &World, deed: &Deed, dice: &Dice) -> Option<Told> {
    let process = world.any_process(dice)?;
    let cancel = Cancel::new();
    let answer = process.call(deed.arrival(&cancel, dice.permille(300)));
    // Some do not wait for slow answers, and hang up.
    let patience = if dice.permille(150) { dice.within(1..8_000) } else { 300_000 };
    match timeout(Duration::from_millis(patience), answer).await {
        Ok(Ok(answer)) => Some(Told::read(deed.number, world.sea.tick(), &answer)),
        Ok(Err(_)) => None,
        Err(_) => {
            cancel.raise();
            None
        }
    }
}
