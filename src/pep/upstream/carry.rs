//! An upstream server that asks the client's user before it does anything: MCP 2026-07-28, multi
//! round-trip requests.
//!
//! Promises: only a client that says it can be asked such a thing is asked; what the server has it
//! carry goes back to that server alone, from that caller, with that very call, in time; a question
//! that names another tenant is not put. Called by `upstream` and by `approve`'s reopening.

use serde_json::Map;
use serde_json::Value;

use super::CAPABILITIES;
use crate::domain::canonical;
use crate::domain::catalog::text::plain;
use crate::domain::catalog::upstream::shows_all;
use crate::domain::inspect::said;
use crate::domain::mcp::input::bad_state;
use crate::domain::pdp::ruling::Permit;
use crate::domain::refusal::Code;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;
use crate::domain::upstream::carried::Carried;
use crate::pep::Pep;
use crate::pep::act::Outcomes;
use crate::pep::approve::holder;
use crate::pep::asked::Asked;
use crate::pep::decide::Standing;
use crate::pep::ports::Action;
use crate::pep::ports::BackendAnswer;
use crate::pep::recall::unavailable;

/// How long a client may take to come back.
const GOOD_FOR_MS: i64 = 30 * 60 * 1000;
/// Questions of one round.
const REQUESTS_MAX: usize = 32;
/// Bytes of what a server has its client carry; sealed it is longer by half.
const STATE_BYTES_MAX: usize = 8 << 10;

impl Pep {
    /// What a client brings back to an upstream server, opened; with the approval and the key of then.
    pub(in crate::pep) async fn reopen_carried(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        text: &str,
    ) -> Result<(), No> {
        let key = self.sealing_key().await.map_err(|fault| unavailable(&fault))?;
        let carried = Carried::open(text, &key, &holder(standing), asked.now_ms).map_err(|_| bad_state())?;
        if this_call(asked) != Some((carried.tool, carried.arguments)) {
            return Err(bad_state().into());
        }
        let controls = &mut asked.controls;
        for (now, then) in
            [(&mut controls.approval_id, carried.approval_id), (&mut controls.idempotency_key, carried.idempotency_key)]
        {
            match (&now, then) {
                (Some(named), Some(then)) if *named != then => return Err(bad_state().into()),
                (None, Some(then)) => *now = Some(then),
                _ => {}
            }
        }
        asked.brought.state = carried.state;
        Ok(())
    }

    /// What a server asks, checked, and what it has the client carry, sealed.
    pub(super) async fn carry_on(
        &self,
        standing: &Standing,
        permit: &Permit<Action>,
        asked: &mut Asked,
        answer: &BackendAnswer,
    ) -> Result<Outcomes, No> {
        let failed = |what: &str| Refusal::of(Code::BackendFailed).detail(what);
        let result =
            canonical::parse(&answer.body, &self.settings.answers).map_err(|_| failed("a question cannot be read"))?;
        let requests = questions(&result, asked, permit)?;
        let state = match result.get("requestState") {
            None | Some(Value::Null) => None,
            Some(Value::String(state)) if state.len() <= STATE_BYTES_MAX => Some(state.clone()),
            Some(_) => return Err(failed("what it has the client carry is no text, or too long").into()),
        };
        if requests.is_empty() && state.is_none() {
            return Err(failed("it asks for nothing").into());
        }
        let (approval_id, idempotency_key) = (asked.approved_by.clone(), asked.controls.idempotency_key.clone());
        if state.is_none() && approval_id.is_none() && idempotency_key.is_none() {
            return Ok(Outcomes::Asks { requests, state: None });
        }
        let (tool, arguments) = this_call(asked).ok_or_else(|| failed("a call that cannot be repeated"))?;
        let expires_ms = asked.now_ms.saturating_add(GOOD_FOR_MS);
        let holder = holder(standing);
        let carried = Carried { holder, tool, arguments, state, approval_id, idempotency_key, expires_ms };
        let key = self.sealing_key().await.map_err(|fault| unavailable(&fault))?;
        let random = self.clock.random();
        let nonce = std::array::from_fn(|at| random.get(at).copied().unwrap_or_default());
        let sealed = carried.seal(&key, nonce).map_err(|_| failed("what it has the client carry is too long"))?;
        Ok(Outcomes::Asks { requests, state: Some(sealed) })
    }
}

/// What it asks: only what the client has said it can be asked, and nothing of another tenant.
fn questions(result: &Value, asked: &Asked, permit: &Permit<Action>) -> Result<Map<String, Value>, Refusal> {
    let failed = |what: String| Refusal::of(Code::BackendFailed).detail(what);
    let request = asked.request.as_ref().filter(|request| request.era.is_modern());
    let declared = request.and_then(|request| request.meta.get(CAPABILITIES));
    let requests = match result.get("inputRequests") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(requests)) if requests.len() <= REQUESTS_MAX => requests.clone(),
        Some(_) => return Err(failed("its questions are no object, or too many".to_owned())),
    };
    if request.is_none() {
        return Err(failed("it asks a client of a revision that knows no questions".to_owned()));
    }
    for question in requests.values() {
        let method = question.get("method").and_then(Value::as_str).unwrap_or_default();
        let kind = match method {
            "elicitation/create" => "elicitation",
            "sampling/createMessage" => "sampling",
            "roots/list" => "roots",
            other => return Err(failed(format!("it asks `{}`, which nobody knows", plain(other, 60)))),
        };
        if !declared.and_then(|all| all.get(kind)).is_some_and(Value::is_object) {
            return Err(failed(format!("it asks for `{kind}`, which the client did not say it can do")));
        }
        let by_url = question.pointer("/params/mode").and_then(Value::as_str) == Some("url");
        if by_url && !declared.and_then(|all| all.pointer("/elicitation/url")).is_some_and(Value::is_object) {
            return Err(failed("it sends the user to an address, which the client did not say it can do".to_owned()));
        }
    }
    let requests = Value::Object(requests);
    if !shows_all(&requests) {
        return Err(failed("a question has characters that people cannot see".to_owned()));
    }
    if said::names_another(&requests, &permit.action().tenant) {
        return Err(Refusal::of(Code::ResponseWithheld).detail("a question names another tenant"));
    }
    let Value::Object(requests) = requests else { return Ok(Map::new()) };
    Ok(requests)
}

/// Name and arguments of the call as its client sent it: what must be the same when it comes back.
fn this_call(asked: &Asked) -> Option<(String, String)> {
    let call = asked.as_sent()?;
    let arguments = canonical::digest_value(&Value::Object(call.arguments.clone())).ok()?;
    Some((call.name.clone(), arguments))
}
