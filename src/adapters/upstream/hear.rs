//! One exchange with an upstream server: a request, what is said meanwhile, its answer.
//!
//! Promises: an answer is the one to this request by its id, or none; everything that is read is strict
//! JSON and bounded; what a server asks of its client is refused, what it tells is passed on if it belongs
//! to this request and somebody wants to hear it; a legacy stream that breaks is taken up where it broke, which
//! sends nothing twice. Called by [`super::carry`], [`super::meet`], [`super::listing`] and [`super::watch`].

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::link::Coming;
use super::link::Leave;
use super::link::Unsent;
use super::server::Upstream;
use super::sse::Events;
use super::sse::Mark;
use super::wire;
use super::wire::Manner;
use crate::domain::canonical;
use crate::domain::mcp::Era;
use crate::pep::ports::Notices;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// How often one answer is looked for on a new stream after the last one broke.
const RESUMED_MAX: usize = 8;

/// Questions of a server to its client within one exchange.
const QUESTIONS_MAX: usize = 16;

/// What is told of one exchange; the rest is dropped.
const NOTICES_MAX: usize = 10_000;

/// Bytes of all events of a stream, in answers of the largest size.
const STREAM_ANSWERS: usize = 4;

/// Largest body of an HTTP error that is looked into.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Longest session id that is kept.
const SESSION_BYTES_MAX: usize = 1024;

/// Time to answer a server's question, or to say that something is no longer wanted.
const ASIDE_WITHIN: Duration = Duration::from_secs(5);

/// A request to be made.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) manner: Manner<'a>,
    pub(super) method: &'a str,
    pub(super) params: &'a Map<String, Value>,
    /// Input schema of the tool that is called.
    pub(super) schema: Option<&'a Value>,
    pub(super) notices: Option<&'a dyn Notices>,
    /// When the first byte may leave at the latest.
    pub(super) before: Option<Instant>,
    /// Raised when it may have left.
    pub(super) leaving: &'a AtomicBool,
    /// Whether it may be sent again when a kept connection turns out to be dead.
    pub(super) again: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Heard {
    /// HTTP status.
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    /// The session that the answer opens.
    pub(super) session: Option<String>,
    pub(super) said: Said,
}

/// The JSON-RPC part of it.
#[derive(Debug)]
pub(super) enum Said {
    Result(Map<String, Value>),
    Error(Map<String, Value>),
    /// An HTTP error without JSON-RPC in it.
    Nothing,
}

/// One request under way.
struct Exchange<'a> {
    upstream: &'a Upstream,
    ask: Ask<'a>,
    id: i64,
    questions: usize,
    notices: usize,
    bytes: usize,
}

impl Ask<'_> {
    pub(super) fn fault(&self, kind: SendFaultKind, detail: impl Into<String>) -> SendFault {
        SendFault { kind, bytes_left: self.leaving.load(Ordering::Acquire), detail: detail.into() }
    }

    fn broken(&self, detail: impl Into<String>) -> SendFault {
        self.fault(SendFaultKind::Broken, detail)
    }
}

impl Upstream {
    /// Asks once. The id is told before anything is sent, so that the request can be taken back.
    pub(super) async fn ask(&self, ask: Ask<'_>, id: i64) -> Result<Heard, SendFault> {
        let token = ask.notices.is_some().then_some(id);
        let params = wire::enveloped(ask.manner, ask.params, token);
        let more = headers(ask.manner, Some((ask.method, &params, ask.schema)));
        let body = json!({"jsonrpc": "2.0", "id": id, "method": ask.method, "params": params});
        let coming = self.post(ask, &more, Some(&body)).await?;
        let mut exchange = Exchange { upstream: self, ask, id, questions: 0, notices: 0, bytes: 0 };
        exchange.hear(coming).await
    }

    /// Listens to what a legacy server tells without being asked, until it stops.
    pub(super) async fn overhear(&self, ask: Ask<'_>) -> Result<(), SendFault> {
        let coming = self.post(ask, &headers(ask.manner, None), None).await?;
        if !is_stream(coming.response.headers()) || coming.response.status() != 200 {
            let status = coming.response.status().as_u16();
            return Err(ask.broken(format!("status {status}, and no event stream")));
        }
        // WHY no id of ours is negative: no answer belongs on this stream.
        let mut exchange = Exchange { upstream: self, ask, id: -1, questions: 0, notices: 0, bytes: 0 };
        exchange.listen(coming, Mark::default()).await.map(|_| ())
    }

    /// Sends what has no answer.
    pub(super) async fn aside(&self, manner: Manner<'_>, message: &Value) -> Result<u16, String> {
        let ask = Ask {
            manner,
            method: message.get("method").and_then(Value::as_str).unwrap_or_default(),
            params: &Map::new(),
            schema: None,
            notices: None,
            before: None,
            leaving: &AtomicBool::new(false),
            again: true,
        };
        let more = headers(manner, None);
        let sending = self.post(ask, &more, Some(message));
        match tokio::time::timeout(ASIDE_WITHIN, sending).await {
            Ok(Ok(coming)) => {
                let status = coming.response.status().as_u16();
                coming.done();
                Ok(status)
            }
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_) => Err(format!("no answer within {ASIDE_WITHIN:?}")),
        }
    }

    async fn post(
        &self,
        ask: Ask<'_>,
        more: &[(String, String)],
        body: Option<&Value>,
    ) -> Result<Coming<'_>, SendFault> {
        let unsent = |cause: String| ask.fault(SendFaultKind::Unreachable, cause);
        let body = body.map(serde_json::to_vec).transpose().map_err(|cause| unsent(cause.to_string()))?;
        let credential = self.credential().map_err(unsent)?;
        let request =
            wire::request(self.links.place(), ask.manner, credential.as_deref(), more, body).map_err(unsent)?;
        let secure = self.trust.config();
        let leave = Leave { before: ask.before, leaving: ask.leaving, again: ask.again };
        let sent = self.links.send(secure.as_ref(), request, &leave).await;
        let coming = sent.map_err(|cause| match cause {
            Unsent::Nothing(cause) => ask.fault(SendFaultKind::Unreachable, cause),
            Unsent::Some(cause) => ask.broken(cause),
        })?;
        match coming.response.headers().get("content-encoding").map(http::HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(coming),
            Some(_) => Err(ask.broken("the answer is compressed, which was not asked for")),
        }
    }
}

/// The headers of a revision.
fn headers(manner: Manner<'_>, request: Option<(&str, &Map<String, Value>, Option<&Value>)>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let modern = manner.era.is_modern();
    // WHY not before there is a legacy session: `initialize` is what the revision is agreed on with.
    if modern || request.is_none_or(|(method, ..)| method != "initialize") {
        headers.push(("mcp-protocol-version".to_owned(), manner.era.as_str().to_owned()));
    }
    if let (true, Some((method, params, schema))) = (modern, request) {
        headers.extend(wire::routing(method, params, schema));
    }
    headers
}

impl<'a> Exchange<'a> {
    async fn hear(&mut self, coming: Coming<'a>) -> Result<Heard, SendFault> {
        let head = coming.response.headers();
        let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = coming.response.status();
        let answer = Heard {
            status: status.as_u16(),
            retry_after: text("retry-after"),
            session: text("mcp-session-id").filter(|id| is_session(id)),
            said: Said::Nothing,
        };
        let (json, stream) = (is_json(head), is_stream(head));
        let said = if !status.is_success() {
            if json { self.refused(coming).await } else { Said::Nothing }
        } else if stream {
            self.listen(coming, Mark::default()).await?
        } else if json {
            let body = self.whole(coming, self.upstream.limits().answer_bytes).await?;
            self.message(&body).await?.ok_or_else(|| self.ask.broken("what came is not an answer"))?
        } else {
            return Err(self.ask.broken(format!("status {status}, and neither JSON nor an event stream")));
        };
        Ok(Heard { said, ..answer })
    }

    /// The error in the body of an HTTP error, if it is one of this request or of none.
    async fn refused(&mut self, coming: Coming<'_>) -> Said {
        let Ok(body) = self.whole(coming, ERROR_BYTES_MAX).await else { return Said::Nothing };
        let Ok(Value::Object(mut message)) = canonical::parse(&body, &self.json(ERROR_BYTES_MAX)) else {
            return Said::Nothing;
        };
        let ours = message.get("id").is_none_or(|id| id.is_null() || *id == json!(self.id));
        match message.remove("error") {
            Some(Value::Object(error)) if ours && is_error(&error) => Said::Error(error),
            _ => Said::Nothing,
        }
    }

    async fn whole(&self, mut coming: Coming<'_>, bytes_max: usize) -> Result<Vec<u8>, SendFault> {
        let mut body = Vec::new();
        while let Some(part) = coming.part().await {
            let part = part.map_err(|cause| self.ask.broken(cause))?;
            if body.len().saturating_add(part.len()) > bytes_max {
                return Err(self.ask.fault(SendFaultKind::TooLarge, format!("more than {bytes_max} bytes")));
            }
            body.extend_from_slice(&part);
        }
        coming.done();
        Ok(body)
    }

    /// Reads a stream to the answer, or to the end of one that has none to give.
    async fn listen(&mut self, coming: Coming<'a>, mut mark: Mark) -> Result<Said, SendFault> {
        let mut coming = coming;
        for _ in 0..=RESUMED_MAX {
            if let Some(said) = self.read(&mut coming, &mut mark).await? {
                coming.done();
                return Ok(said);
            }
            let legacy = !self.ask.manner.era.is_modern();
            let Some(last_id) = mark.last_id.clone().filter(|_| legacy && self.id >= 0) else { break };
            tokio::time::sleep(Duration::from_millis(mark.retry_ms.unwrap_or(1_000))).await;
            coming = self.resume(last_id).await?;
        }
        Err(self.ask.broken("the stream ended before the answer"))
    }

    async fn resume(&self, last_id: String) -> Result<Coming<'a>, SendFault> {
        let upstream: &'a Upstream = self.upstream;
        let mut more = headers(self.ask.manner, None);
        more.push(("last-event-id".to_owned(), last_id));
        let coming = upstream.post(self.ask, &more, None).await;
        // WHY: a stream cannot be taken up after the request itself went out of hand, so this never means unsent.
        let coming = coming.map_err(|fault| SendFault { bytes_left: true, ..fault })?;
        if coming.response.status() == 200 && is_stream(coming.response.headers()) {
            return Ok(coming);
        }
        Err(self.ask.broken("the stream ended before the answer, and could not be taken up again"))
    }

    async fn read(&mut self, coming: &mut Coming<'_>, mark: &mut Mark) -> Result<Option<Said>, SendFault> {
        let limits = self.upstream.limits();
        let mut events = Events::new(limits.answer_bytes);
        while let Some(part) = coming.part().await {
            // WHY not at once a fault: a stream that breaks may be taken up.
            let Ok(part) = part else { break };
            self.bytes = self.bytes.saturating_add(part.len());
            if self.bytes > limits.answer_bytes.saturating_mul(STREAM_ANSWERS) {
                return Err(self.ask.fault(SendFaultKind::TooLarge, "the stream before the answer is too long"));
            }
            let found = events.feed(&part).map_err(|fault| match fault {
                super::sse::SseFault::TooLarge(_) => self.ask.fault(SendFaultKind::TooLarge, fault.to_string()),
                super::sse::SseFault::NotText => self.ask.broken(fault.to_string()),
            })?;
            let seen = events.mark();
            mark.last_id = seen.last_id.clone().or(mark.last_id.take());
            mark.retry_ms = seen.retry_ms.or(mark.retry_ms);
            for data in found {
                if let Some(said) = self.message(&data).await? {
                    return Ok(Some(said));
                }
            }
        }
        Ok(None)
    }

    fn json(&self, bytes_max: usize) -> canonical::Limits {
        canonical::Limits { bytes_max, ..self.upstream.limits().json }
    }

    /// One message, or several where a revision sends them at once: the answer, if it is among them.
    async fn message(&mut self, bytes: &[u8]) -> Result<Option<Said>, SendFault> {
        let limits = self.json(self.upstream.limits().answer_bytes);
        let message = canonical::parse(bytes, &limits).map_err(|fault| self.ask.broken(fault.to_string()))?;
        let messages = match message {
            Value::Array(messages) if self.ask.manner.era == Era::V2025_03_26 => messages,
            message => vec![message],
        };
        let mut answer = None;
        for message in messages {
            let Value::Object(message) = message else { return Err(self.ask.broken("not a JSON-RPC message")) };
            if message.get("jsonrpc") != Some(&json!("2.0")) {
                return Err(self.ask.broken("not a JSON-RPC 2.0 message"));
            }
            let said = match (message.get("method").and_then(Value::as_str), message.get("id")) {
                (Some(_), Some(id)) => self.asked(id, &message).await.map(|()| None)?,
                (Some(method), None) => {
                    self.told(method, message.get("params").and_then(Value::as_object));
                    None
                }
                (None, id) => Some(self.answer(id, &message)?),
            };
            if answer.is_some() && said.is_some() {
                return Err(self.ask.broken("two answers to one request"));
            }
            answer = said.or(answer);
        }
        Ok(answer)
    }

    fn answer(&self, id: Option<&Value>, message: &Map<String, Value>) -> Result<Said, SendFault> {
        let nobodys = |message: &Map<String, Value>| message.contains_key("error") && id.is_none_or(Value::is_null);
        if id != Some(&json!(self.id)) && !nobodys(message) {
            return Err(self.ask.broken("an answer to another request"));
        }
        match (message.get("result"), message.get("error")) {
            (Some(Value::Object(result)), None) => Ok(Said::Result(result.clone())),
            (None, Some(Value::Object(error))) if is_error(error) => Ok(Said::Error(error.clone())),
            _ => Err(self.ask.broken("an answer that is neither a result nor an error")),
        }
    }

    /// The server asks its client something. WHY refused: nobody stands behind this client who could answer.
    async fn asked(&mut self, id: &Value, message: &Map<String, Value>) -> Result<(), SendFault> {
        if self.ask.manner.era.is_modern() {
            return Err(self.ask.broken("a request from the server, which this revision does not have"));
        }
        self.questions += 1;
        if self.questions > QUESTIONS_MAX {
            return Err(self.ask.broken(format!("more than {QUESTIONS_MAX} requests from the server")));
        }
        let answer = if message.get("method") == Some(&json!("ping")) {
            json!({"jsonrpc": "2.0", "id": id, "result": {}})
        } else {
            let error = json!({"code": -32601, "message": "this client answers no requests"});
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        };
        // WHY ignored: a server that does not hear the no will give up by its own time limit, or by ours.
        let _unheard = Box::pin(self.upstream.aside(self.ask.manner, &answer)).await;
        Ok(())
    }

    fn told(&mut self, method: &str, params: Option<&Map<String, Value>>) {
        let listening = self.ask.method == "subscriptions/listen";
        let changed = matches!(
            method,
            "notifications/tools/list_changed"
                | "notifications/prompts/list_changed"
                | "notifications/resources/list_changed"
        );
        if changed {
            self.upstream.look_again();
        }
        let Some(notices) = self.ask.notices else { return };
        let mut params = params.cloned().unwrap_or_default();
        let wanted = match method {
            "notifications/progress" => params.remove("progressToken") == Some(json!(self.id)),
            "notifications/message" => true,
            "notifications/resources/updated" | "notifications/subscriptions/acknowledged" => listening,
            _ => listening && changed,
        };
        self.notices += usize::from(wanted);
        if wanted && self.notices <= NOTICES_MAX {
            params.remove("_meta");
            notices.tell(method, &params);
        }
    }
}

fn is_error(error: &Map<String, Value>) -> bool {
    error.get("code").is_some_and(Value::is_i64) && error.get("message").is_some_and(Value::is_string)
}

fn is_session(id: &str) -> bool {
    !id.is_empty() && id.len() <= SESSION_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_json(head: &HeaderMap) -> bool {
    essence(head).as_deref() == Some("application/json")
}

fn is_stream(head: &HeaderMap) -> bool {
    essence(head).as_deref() == Some("text/event-stream")
}

fn essence(head: &HeaderMap) -> Option<String> {
    let value = head.get("content-type")?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
