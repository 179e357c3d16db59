//! LoopIQ as the simulation has it: counts every effect, and keeps its word only where it gave it.
//!
//! Promises: what arrives is judged at once and whole; a tool that honours keys answers a repeated
//! key with its first answer; one that does not does it again, and the checker sees that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use loopgate::domain::pdp::ruling::Permit;
use loopgate::pep::ports::Action;
use loopgate::pep::ports::Backend;
use loopgate::pep::ports::BackendAnswer;
use loopgate::pep::ports::Outbound;
use loopgate::pep::ports::SendFault;
use loopgate::pep::ports::SendFaultKind;
use serde_json::Value;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::flaw::Flaw;
use crate::rules;
use crate::rules::Honours;
use crate::rules::TENANT;
use crate::sea::Gate;
use crate::sea::Sea;

/// A title that LoopIQ never takes.
pub(crate) const REFUSED_TITLE: &str = "never";

/// Something that LoopIQ did.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    /// Its place in the order of everything.
    pub(crate) tick: u64,
    /// `Idempotency-Key`: the execution id.
    pub(crate) key: String,
    pub(crate) tool: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) approval: Option<String>,
}

/// A write that reached LoopIQ, whether or not it did anything.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub(crate) tick: u64,
    pub(crate) key: String,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) effects: Vec<Effect>,
    pub(crate) reached: Vec<Reached>,
    answers: BTreeMap<String, (Value, BackendAnswer)>,
    versions: BTreeMap<String, u64>,
}

/// The one LoopIQ of a world.
pub(crate) struct LoopIq {
    sea: Arc<Sea>,
    pub(crate) books: Mutex<Books>,
    flaw: Option<Flaw>,
}

impl LoopIq {
    pub(crate) fn new(sea: &Arc<Sea>, flaw: Option<Flaw>) -> Arc<Self> {
        Arc::new(Self { sea: Arc::clone(sea), books: Mutex::default(), flaw })
    }

    /// Somebody else changes a record.
    pub(crate) fn touch(&self, record: &str) {
        *self.books.lock().unwrap().versions.entry(record.to_owned()).or_default() += 1;
    }

    fn take(&self, request: &Outbound, busy: bool) -> BackendAnswer {
        let mut books = self.books.lock().unwrap();
        let path = request.path_and_query.as_str();
        if let Some(key) = path.strip_prefix("/api/v1/executions/") {
            return books.look_up(key);
        }
        if let Some(record) = path.strip_prefix("/api/v1/records/") {
            let version = books.version(record);
            return answer(200, Some(version), &json!({"id": record, "tenant": TENANT}));
        }
        let tool = rules::tool_at(path).unwrap_or_else(|| panic!("no such route: {path}"));
        let record = path.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
        let body: Value = serde_json::from_slice(request.body.as_deref().unwrap_or(b"null")).unwrap();
        if path.ends_with("?dryRun=true") {
            let preview = json!({"creates": body["title"], "at": books.version(&record)});
            return answer(200, None, &json!({"dryRun": true, "tenant": TENANT, "preview": preview}));
        }
        let key = header(request, "Idempotency-Key").unwrap_or_default();
        books.reached.push(Reached { tick: self.sea.tick(), key: key.clone() });
        let stale = header(request, "If-Match").is_some_and(|version| version != books.version(&record));
        // Some look at the version before they look at the key, so that a write that happened is refused.
        if stale && tool.honours == Honours::Both {
            return answer(412, None, &problem("another version"));
        }
        let honours_key =
            matches!(tool.honours, Honours::Key | Honours::Both) && self.flaw != Some(Flaw::DishonoursKeys);
        if let Some((first, given)) = books.answers.get(&key).filter(|_| honours_key) {
            return if *first == body { given.clone() } else { answer(422, None, &problem("another write")) };
        }
        // What was refused is not remembered: the same bytes may be taken another time.
        if stale {
            return answer(412, None, &problem("another version"));
        }
        if body["title"] == REFUSED_TITLE {
            return answer(422, None, &problem("no"));
        }
        if busy {
            return answer(409, None, &problem("somebody else is at it"));
        }
        let given = {
            let effect = Effect {
                tick: self.sea.tick(),
                key: key.clone(),
                tool: tool.name,
                path: path.to_owned(),
                body: body.clone(),
                approval: header(request, "X-LoopIQ-Approval-Id"),
            };
            books.effects.push(effect);
            *books.versions.entry(record.clone()).or_default() += 1;
            let id = format!("R-{}", books.effects.len());
            answer(201, Some(books.version(&record)), &json!({"id": id, "tenant": TENANT, "title": body["title"]}))
        };
        books.answers.insert(key, (body, given.clone()));
        given
    }
}

impl Books {
    fn version(&self, record: &str) -> String {
        format!("\"{}\"", self.versions.get(record).copied().unwrap_or_default())
    }

    /// What became of a key; a tool that keeps no books has none here.
    fn look_up(&self, key: &str) -> BackendAnswer {
        let Some(effect) = self.effects.iter().find(|effect| effect.key == key) else {
            return answer(404, None, &problem("nothing was executed under this key"));
        };
        assert!(
            matches!(rules::tool(effect.tool).honours, Honours::Books | Honours::Both),
            "asked a tool without books"
        );
        let (_, given) = &self.answers[key];
        let body: Value = serde_json::from_slice(&given.body).unwrap();
        let known = json!({
            "id": key, "key": key, "tenant": TENANT, "state": "executed", "operation": effect.tool,
            "status": given.status, "recordIds": [body["id"]], "at": "2026-11-20T00:00:00Z", "body": body,
        });
        answer(200, None, &known)
    }
}

fn header(request: &Outbound, name: &str) -> Option<String> {
    request.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.clone())
}

fn problem(message: &str) -> Value {
    json!({"error": {"code": "refused", "message": message}})
}

fn answer(status: u16, etag: Option<String>, body: &Value) -> BackendAnswer {
    BackendAnswer {
        status,
        content_type: Some("application/json".to_owned()),
        retry_after: None,
        etag,
        body: Bytes::from(serde_json::to_vec(body).unwrap()),
    }
}

/// How a request to LoopIQ ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Unreachable,
    Swallowed,
    ErrorBefore,
    ErrorAfter,
    AnswerLost,
    Busy,
}

/// One process's way to LoopIQ.
pub(crate) struct Wire {
    pub(crate) sea: Arc<Sea>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) loopiq: Arc<LoopIq>,
    pub(crate) flaw: Option<Flaw>,
}

impl Wire {
    fn fate(&self) -> Fate {
        let weather = self.sea.weather();
        let mut drawn = self.sea.dice.within(0..1000);
        for (often, fate) in [
            (weather.unreachable, Fate::Unreachable),
            (weather.swallowed, Fate::Swallowed),
            (weather.error_before, Fate::ErrorBefore),
            (weather.error_after, Fate::ErrorAfter),
            (weather.answer_lost, Fate::AnswerLost),
            (weather.busy, Fate::Busy),
        ] {
            if drawn < often {
                return fate;
            }
            drawn -= often;
        }
        Fate::Fine
    }

    async fn once(&self, request: &Outbound) -> Result<BackendAnswer, SendFault> {
        let fate = self.fate();
        let fault = |kind, bytes_left| SendFault { kind, bytes_left, detail: format!("{fate:?}") };
        if fate == Fate::Unreachable {
            sleep(self.sea.way()).await;
            return Err(fault(SendFaultKind::Unreachable, false));
        }
        if self.flaw != Some(Flaw::SendsTooLate) && request.send_before.is_some_and(|latest| Instant::now() > latest) {
            return Err(fault(SendFaultKind::Unreachable, false));
        }
        let late = self.sea.dice.permille(self.sea.weather().late);
        let there = if late { Duration::from_millis(self.sea.dice.within(5_000..25_000)) } else { self.sea.way() };
        let back = self.sea.way();
        let (tell, told) = oneshot::channel();
        let (loopiq, sent, sea) = (Arc::clone(&self.loopiq), request.clone(), Arc::clone(&self.sea));
        sea.note(|| format!("sent {} {} {fate:?}, {there:?} on its way", sent.method, sent.path_and_query));
        self.sea.outside(async move {
            sleep(there).await;
            let given = match fate {
                Fate::Swallowed => return,
                Fate::ErrorBefore => answer(503, None, &problem("not now")),
                Fate::ErrorAfter => {
                    loopiq.take(&sent, false);
                    answer(500, None, &problem("something broke"))
                }
                Fate::Busy => loopiq.take(&sent, true),
                Fate::Fine | Fate::AnswerLost | Fate::Unreachable => loopiq.take(&sent, false),
            };
            sea.note(|| format!("LoopIQ: {} {} {fate:?} -> {}", sent.method, sent.path_and_query, given.status));
            sleep(back).await;
            if fate != Fate::AnswerLost {
                drop(tell.send(given));
            }
        });
        match timeout(request.timeout, told).await {
            Ok(Ok(given)) => Ok(given),
            Ok(Err(_)) => Err(fault(SendFaultKind::Broken, true)),
            Err(_) => Err(fault(SendFaultKind::Timeout, true)),
        }
    }
}

#[async_trait]
impl Backend for Wire {
    async fn send(&self, _permit: &Permit<Action>, request: Outbound) -> Result<BackendAnswer, SendFault> {
        self.gate.pass().await;
        let mut sent = self.once(&request).await;
        if self.flaw == Some(Flaw::SendsAgain) && sent.is_err() {
            sent = self.once(&request).await;
        }
        self.gate.pass().await;
        sent
    }
}
