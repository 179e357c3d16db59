//! A call on its way to an upstream server, and what becomes of it.
//!
//! Promises: one deadline over all; `tools/call` leaves once at most, whatever comes back; what is done before it
//! leaves, such as opening a session, is no part of it, so a fault there is one of nothing sent. Called by
//! [`super::UpstreamServers`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::hear::Ask;
use super::hear::Heard;
use super::hear::Said;
use super::meet::own;
use super::server::Spoken;
use super::server::Upstream;
use super::session::Session;
use super::session::Slot;
use super::session::Whose;
use super::watch::Unwanted;
use super::wire::Manner;
use crate::domain::canonical;
use crate::domain::mcp::Era;
use crate::pep::ports::BackendAnswer;
use crate::pep::ports::Outbound;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// After how long without a word a session is asked after before a call that may leave only once.
const ASK_AFTER: Duration = Duration::from_secs(15);

/// Codes that say that a request was not carried out: what JSON-RPC and MCP define as wrong with the request
/// itself. WHY not the others: a server may say -32603, or any code of its own, after it did half of it.
const NOTHING_DONE: [i64; 9] = [-32700, -32600, -32601, -32602, -32002, -32020, -32021, -32022, -32042];

/// What is asked for.
struct Asked {
    method: String,
    params: Map<String, Value>,
}

fn nothing_sent(detail: impl Into<String>) -> SendFault {
    SendFault { kind: SendFaultKind::Unreachable, bytes_left: false, detail: detail.into() }
}

impl Asked {
    fn read(request: &Outbound) -> Result<Self, SendFault> {
        let body = request.body.as_deref().unwrap_or_default();
        let limits =
            canonical::Limits { bytes_max: body.len(), members_max: usize::MAX, ..canonical::Limits::default() };
        let read = canonical::parse(body, &limits).map_err(|fault| nothing_sent(fault.to_string()))?;
        let method = read.get("method").and_then(Value::as_str).map(str::to_owned);
        let params = read.get("params").and_then(Value::as_object).cloned().unwrap_or_default();
        method.map(|method| Self { method, params }).ok_or_else(|| nothing_sent("no `method` was given"))
    }

    /// Whether it may leave only once.
    fn once(&self) -> bool {
        self.method == "tools/call"
    }
}

impl Upstream {
    pub(super) async fn carry(&self, request: &Outbound) -> Result<BackendAnswer, SendFault> {
        let until = Instant::now() + request.timeout;
        let asked = Asked::read(request)?;
        let spoken = self.spoken.load_full().ok_or_else(|| {
            let fault = self.state().fault.unwrap_or_else(|| "it was not tried yet".to_owned());
            nothing_sent(format!("the server was not reached so far: {fault}"))
        })?;
        if spoken.era.is_modern() {
            let heard = self.leave(&asked, request, (spoken.era, None), until).await?;
            return Ok(self.answer(heard));
        }
        let ready = tokio::time::timeout_at(until, self.session(&spoken, &asked, request)).await;
        let (slot, session) = ready.map_err(|_| nothing_sent("no session within the time for the call"))??;
        let heard = self.leave(&asked, request, (session.era, session.id.as_deref()), until).await?;
        if heard.status != 404 || session.id.is_none() {
            session.known();
            return Ok(self.answer(heard));
        }
        // MCP 2025-11-25: 404 says that the server has ended the session, so it did nothing in it.
        self.forget(slot.as_ref(), &session).await;
        if asked.once() {
            // WHY without the body: an error in it would be read as one of the call.
            return Ok(self.answer(Heard { said: Said::Nothing, ..heard }));
        }
        let again = tokio::time::timeout_at(until, self.session(&spoken, &asked, request)).await;
        let (_, session) = again.map_err(|_| nothing_sent("no session within the time for the call"))??;
        let heard = self.leave(&asked, request, (session.era, session.id.as_deref()), until).await?;
        Ok(self.answer(heard))
    }

    /// The session of whom the call is for, known to the server a short while ago.
    async fn session(
        &self,
        spoken: &Spoken,
        asked: &Asked,
        request: &Outbound,
    ) -> Result<(Option<Slot>, Arc<Session>), SendFault> {
        // WHY: a server that gave the gateway itself no session keeps none, so there is nothing to tell apart.
        if let Some(session) = spoken.session.as_ref().filter(|session| session.id.is_none()) {
            return Ok((None, Arc::clone(session)));
        }
        let slot = self.sessions.of(whose(request)?);
        let mut held = slot.lock().await;
        if let Some(session) = held.as_ref() {
            if !asked.once() || session.idle() < ASK_AFTER || self.still_known(session, request).await {
                return Ok((Some(Arc::clone(&slot)), Arc::clone(session)));
            }
            *held = None;
        }
        let unsent = |fault: SendFault| nothing_sent(format!("no session: {}", fault.detail));
        let (session, _) = self.open(&request.headers).await.map_err(unsent)?;
        let session = Arc::new(session);
        *held = Some(Arc::clone(&session));
        drop(held);
        Ok((Some(slot), session))
    }

    async fn still_known(&self, session: &Session, request: &Outbound) -> bool {
        let manner = Manner { era: session.era, session: session.id.as_deref(), headers: &request.headers };
        let (params, leaving) = (Map::new(), AtomicBool::new(false));
        let heard = self.ask_in_time(own(manner, "ping", &params, &leaving)).await;
        let known = heard.is_ok_and(|heard| matches!(heard.said, Said::Result(_)));
        if known {
            session.known();
        }
        known
    }

    async fn forget(&self, slot: Option<&Slot>, session: &Arc<Session>) {
        if let Some(slot) = slot {
            let mut held = slot.lock().await;
            if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, session)) {
                *held = None;
            }
        }
        self.look_again();
    }

    async fn leave(
        &self,
        asked: &Asked,
        request: &Outbound,
        (era, session): (Era, Option<&str>),
        until: Instant,
    ) -> Result<Heard, SendFault> {
        let offer = self.offer.load_full();
        let schema =
            asked.once().then(|| offer.as_ref().and_then(|offer| schema(&offer.tools, &asked.params))).flatten();
        let leaving = AtomicBool::new(false);
        let ask = Ask {
            manner: Manner { era, session, headers: &request.headers },
            method: &asked.method,
            params: &asked.params,
            schema,
            notices: request.notices.as_deref(),
            before: request.send_before,
            leaving: &leaving,
            again: !asked.once(),
        };
        let id = self.next_id();
        let Ok(heard) = tokio::time::timeout_at(until, self.ask(ask, id)).await else {
            let fault = ask.fault(SendFaultKind::Timeout, format!("no answer within {:?}", request.timeout));
            // WHY not for modern servers: for them the closed connection says it.
            if fault.bytes_left && !era.is_modern() {
                let unwanted =
                    Unwanted { era, session: session.map(str::to_owned), headers: request.headers.clone(), id };
                // A server that is not told works on for nothing; that is all.
                let _full = self.unwanted.try_send(unwanted);
            }
            return Err(fault);
        };
        heard
    }

    fn answer(&self, heard: Heard) -> BackendAnswer {
        let status = status(&heard);
        if stale(&heard) {
            self.look_again();
        }
        let body = match heard.said {
            Said::Result(body) | Said::Error(body) => serde_json::to_vec(&body).unwrap_or_default(),
            Said::Nothing => Vec::new(),
        };
        BackendAnswer {
            status,
            content_type: (!body.is_empty()).then(|| "application/json".to_owned()),
            retry_after: heard.retry_after,
            etag: None,
            body: body.into(),
        }
    }
}

/// The status as [`crate::pep::ports::Upstreams`] has it.
fn status(heard: &Heard) -> u16 {
    match &heard.said {
        Said::Result(_) => 200,
        Said::Nothing => heard.status,
        Said::Error(_) if heard.status >= 500 || matches!(heard.status, 401 | 403 | 407 | 408 | 425 | 429) => {
            heard.status
        }
        Said::Error(error) => {
            let code = error.get("code").and_then(Value::as_i64);
            if code.is_some_and(|code| NOTHING_DONE.contains(&code)) { 422 } else { 500 }
        }
    }
}

/// Whether the server has other tools, or another revision, than it was thought to have.
fn stale(heard: &Heard) -> bool {
    match &heard.said {
        Said::Error(error) => matches!(error.get("code").and_then(Value::as_i64), Some(-32601 | -32020 | -32022)),
        Said::Nothing => matches!(heard.status, 400 | 404 | 405),
        Said::Result(_) => false,
    }
}

fn whose(request: &Outbound) -> Result<Whose, SendFault> {
    let header = |name: &str| {
        let found = request.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    header("X-LoopIQ-Tenant")
        .zip(header("X-LoopIQ-User"))
        .map(|(tenant, user)| [tenant, request.issuer.clone(), user])
        .ok_or_else(|| nothing_sent("a server with sessions is asked for a user of an organisation only"))
}

fn schema<'a>(tools: &'a [Value], params: &Map<String, Value>) -> Option<&'a Value> {
    let name = params.get("name")?;
    tools.iter().find(|tool| tool.get("name") == Some(name))?.get("inputSchema")
}

/// What tells a legacy server that a request is no longer wanted.
pub(super) fn cancelled(id: i64) -> Value {
    let params = json!({"requestId": id, "reason": "the time for it has passed"});
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
}
