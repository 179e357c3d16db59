//! Control values of a call: what steers the gateway and is not part of the tool's own arguments.
//!
//! Promises: `dryRun`, `approvalId` and `idempotencyKey` are taken out of the arguments before
//! anyone validates or judges them; the same value said twice is fine, two values are refused;
//! whatever leaves here may stand in a header. A token is never taken from the arguments, which are
//! written down and sent on, and never shows in `Debug`. Never decides what a value means. Called by `pep`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::domain::mcp::trace::TraceContext;
use crate::domain::mcp::{Head, RequestId};
use crate::domain::refusal::{Code, Reason, Refusal};

/// Longest idempotency key, approval id and progress token, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// Longest workflow name and chain link, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// Longest tool-call chain.
const CHAIN_LINKS_MAX: usize = 64;
/// Longest approval that LoopIQ signed, in bytes: as long as a bearer token may be.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Where an approval that LoopIQ signed may stand: `_meta["com.loopiq/…"]` and a header.
const APPROVAL_TOKEN: (&str, &str) = ("approvalToken", "x-loopiq-approval-token");

/// What steers one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Controls {
    /// Preview only.
    pub dry_run: bool,
    /// The approval that the caller wants to use.
    pub approval_id: Option<String>,
    /// An approval that LoopIQ itself issued.
    pub approval_token: Option<ApprovalToken>,
    /// The key under which a write happens once: 1 to 255 visible ASCII characters.
    pub idempotency_key: Option<String>,
    /// The workflow that the call is part of.
    pub workflow: Option<String>,
    /// The tool calls that led to this one, first to last, as the client tells it.
    pub chain: Vec<String>,
    /// `_meta["com.loopiq/tenant"]`; must agree with the `X-LoopIQ-Tenant` header if both are sent.
    pub tenant_meta: Option<String>,
    /// The client's trace: `_meta.traceparent` if well-formed, else the header.
    pub trace: Option<TraceContext>,
    /// The header's trace where `_meta` named another one, for the record.
    pub trace_of_header: Option<TraceContext>,
    /// Where to report progress, if the client wants any.
    pub progress_token: Option<RequestId>,
}

/// An approval that LoopIQ signed, unchecked: whoever has it may try to use it, so it is kept like a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct ApprovalToken(String);

impl ApprovalToken {
    /// The token, for the one who checks it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApprovalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApprovalToken(***)")
    }
}

/// Every token that was sent where [`Controls::approval_token`] is looked for: none may be written down.
///
/// WHY only what has the form of one: what is named here is left out of the record wherever it
/// stands, and a caller who names a tool or a user would take that out of their own record.
#[must_use]
pub fn credentials(meta: &Map<String, Value>, head: &Head) -> Vec<String> {
    let (name, header) = APPROVAL_TOKEN;
    let said = meta.get(&format!("com.loopiq/{name}")).and_then(Value::as_str);
    let all = said.into_iter().chain(head.all(header)).map(str::trim);
    all.filter(|token| is_compact_jws(token)).map(str::to_owned).collect()
}

/// Takes the control values out of `arguments` and reads the rest from `_meta` and the headers.
pub fn controls(
    meta: &Map<String, Value>,
    head: &Head,
    arguments: &mut Map<String, Value>,
) -> Result<Controls, Refusal> {
    let mut from = Sources { meta, head, arguments };
    let dry_run = from.flag("dryRun")?;
    let approval_id = from.text("approvalId", None, &KEY)?;
    let approval_token = from.outside(APPROVAL_TOKEN.0, Some(APPROVAL_TOKEN.1), &TOKEN)?.map(ApprovalToken);
    let idempotency_key = from.text("idempotencyKey", Some("idempotency-key"), &KEY)?;
    let of_meta = |name: &str| meta.get(name).and_then(Value::as_str);
    let in_meta = of_meta("traceparent").and_then(|parent| TraceContext::read(parent, of_meta("tracestate")));
    let in_header = trace_of_header(head);
    let trace_of_header = if in_meta.is_some() { in_header.clone().filter(|_| in_meta != in_header) } else { None };
    Ok(Controls {
        dry_run,
        approval_id,
        approval_token,
        idempotency_key,
        workflow: from.outside("workflow", Some("x-loopiq-workflow"), &NAME)?,
        chain: chain(meta)?,
        tenant_meta: from.outside("tenant", None, &NAME)?,
        trace: in_meta.or(in_header),
        trace_of_header,
        progress_token: progress_token(meta)?,
    })
}

/// What a value may look like, and how to say so.
struct Grammar {
    fits: fn(&str) -> bool,
    words: &'static str,
}

const KEY: Grammar = Grammar { fits: is_key, words: "must be 1 to 255 visible ASCII characters without spaces" };
const TOKEN: Grammar = Grammar { fits: is_compact_jws, words: "must be one compact JWS of at most 8 KiB" };
const NAME: Grammar = Grammar { fits: is_name, words: "must be 1 to 200 printable ASCII characters" };

/// Where one value may be said.
struct Sources<'a> {
    meta: &'a Map<String, Value>,
    head: &'a Head,
    arguments: &'a mut Map<String, Value>,
}

impl Sources<'_> {
    fn of_meta(&self, name: &str) -> Option<&Value> {
        self.meta.get(&format!("com.loopiq/{name}"))
    }

    fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        let argument = self.arguments.remove(name);
        let read = |value: &Value| value.as_bool().ok_or_else(|| refuse(name, "must be `true` or `false`"));
        let said = argument.as_ref().map(read).transpose()?;
        let also = self.of_meta(name).map(read).transpose()?;
        match (said, also) {
            (Some(one), Some(other)) if one != other => Err(contradiction(name)),
            (said, also) => Ok(said.or(also).unwrap_or(false)),
        }
    }

    fn text(&mut self, name: &str, header: Option<&str>, grammar: &Grammar) -> Result<Option<String>, Refusal> {
        let argument = self.arguments.remove(name);
        let said = argument.as_ref().map(|value| text_of(name, value)).transpose()?;
        let also = self.of_meta(name).map(|value| text_of(name, value)).transpose()?;
        let headers = header.into_iter().flat_map(|header| self.head.all(header)).map(str::trim);
        one_value(name, said.into_iter().chain(also).chain(headers), grammar)
    }

    /// A value that is never an argument, because a tool may have an argument of that name.
    fn outside(&self, name: &str, header: Option<&str>, grammar: &Grammar) -> Result<Option<String>, Refusal> {
        let said = self.of_meta(name).map(|value| text_of(name, value)).transpose()?;
        let headers = header.into_iter().flat_map(|header| self.head.all(header)).map(str::trim);
        one_value(name, said.into_iter().chain(headers), grammar)
    }
}

fn text_of<'a>(name: &str, value: &'a Value) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| refuse(name, "must be a string"))
}

fn one_value<'a>(
    name: &str,
    said: impl Iterator<Item = &'a str>,
    grammar: &Grammar,
) -> Result<Option<String>, Refusal> {
    let mut agreed: Option<&str> = None;
    for value in said {
        if !(grammar.fits)(value) {
            return Err(refuse(name, grammar.words));
        }
        if agreed.is_some_and(|agreed| agreed != value) {
            return Err(contradiction(name));
        }
        agreed = Some(value);
    }
    Ok(agreed.map(str::to_owned))
}

fn chain(meta: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let Some(value) = meta.get("com.loopiq/chain") else {
        return Ok(Vec::new());
    };
    value
        .as_array()
        .filter(|links| links.len() <= CHAIN_LINKS_MAX)
        .and_then(|links| {
            links.iter().map(|link| link.as_str().filter(|text| is_name(text)).map(str::to_owned)).collect()
        })
        .ok_or_else(|| {
            refuse("chain", "must be an array of at most 64 strings, each 1 to 200 printable ASCII characters")
        })
}

fn progress_token(meta: &Map<String, Value>) -> Result<Option<RequestId>, Refusal> {
    let Some(value) = meta.get("progressToken") else {
        return Ok(None);
    };
    match RequestId::read(value) {
        Some(RequestId::Text(text)) if text.len() > KEY_BYTES_MAX => {
            Err(refuse("progressToken", "must be at most 255 bytes long"))
        }
        Some(token) => Ok(Some(token)),
        None => Err(refuse("progressToken", "must be a string or an integer")),
    }
}

fn trace_of_header(head: &Head) -> Option<TraceContext> {
    // WHY: several `traceparent` headers are several claims; W3C says to take none of them.
    let mut parents = head.all("traceparent");
    let (parent, second) = (parents.next()?, parents.next());
    let state = head.all("tracestate").collect::<Vec<_>>().join(",");
    if second.is_some() { None } else { TraceContext::read(parent.trim(), Some(&state)) }
}

/// 1 to 255 bytes of visible ASCII without spaces.
fn is_key(text: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
}

/// 1 to 200 bytes of printable ASCII, no spaces at the ends.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}

/// Three parts in base64url, the first of them an object; whether it holds is told by whoever checks it.
fn is_compact_jws(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let is_object =
        |part: &str| URL_SAFE_NO_PAD.decode(part).is_ok_and(|json| json.trim_ascii_start().starts_with(b"{"));
    let mut parts = text.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    text.len() <= TOKEN_BYTES_MAX && [header, payload, signature].into_iter().all(is_part) && is_object(header)
}

fn refuse(name: &str, must: &str) -> Refusal {
    let message = format!("`{name}` {must}");
    let next = format!("correct `{name}` and call again");
    Refusal::of(Code::InvalidArguments).then(next.clone()).with_reasons(vec![Reason::new(
        "control_value",
        message,
        next,
    )])
}

fn contradiction(name: &str) -> Refusal {
    refuse(name, "was given with two different values")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn head(headers: &[(&str, &str)]) -> Head {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head { headers, ..Head::default() }
    }

    fn read(meta: Value, headers: &[(&str, &str)], arguments: Value) -> Result<(Controls, Value), Refusal> {
        let mut arguments = object(arguments);
        let controls = controls(&object(meta), &head(headers), &mut arguments)?;
        Ok((controls, Value::Object(arguments)))
    }

    #[test]
    fn control_arguments_never_reach_the_tool() {
        let arguments = json!({"title": "t", "dryRun": true, "approvalId": "apr_1", "idempotencyKey": "k-1"});
        let (controls, left) = read(json!({}), &[], arguments).unwrap();
        assert_eq!(left, json!({"title": "t"}));
        assert!(controls.dry_run);
        assert_eq!(controls.approval_id.as_deref(), Some("apr_1"));
        assert_eq!(controls.idempotency_key.as_deref(), Some("k-1"));
    }

    const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiJhIn0.c2lnbmF0dXJl";
    const OTHER: &str = "eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiJiIn0.c2lnbmF0dXJl";
    const TOKEN_HEADER: &str = "x-loopiq-approval-token";

    #[test]
    fn a_signed_approval_comes_from_meta_or_its_header_and_never_from_the_arguments() {
        let in_meta = json!({"com.loopiq/approvalToken": TOKEN});
        for (meta, headers) in [
            (in_meta.clone(), vec![]),
            (json!({}), vec![(TOKEN_HEADER, TOKEN)]),
            (in_meta.clone(), vec![(TOKEN_HEADER, TOKEN), (TOKEN_HEADER, TOKEN)]),
        ] {
            let (controls, _) = read(meta, &headers, json!({})).unwrap();
            assert_eq!(controls.approval_token.as_ref().unwrap().as_str(), TOKEN);
            assert!(!format!("{controls:?}").contains("eyJ"), "a token never shows");
        }
        let (controls, left) = read(json!({}), &[], json!({"approvalToken": TOKEN})).unwrap();
        assert_eq!(controls.approval_token, None);
        assert_eq!(left, json!({"approvalToken": TOKEN}), "which the tool's schema refuses");
        let others: [(&str, &str); 2] = [(TOKEN_HEADER, OTHER), (TOKEN_HEADER, "")];
        for other in others {
            assert!(read(in_meta.clone(), &[other], json!({})).is_err(), "{other:?}");
        }
        assert!(read(json!({}), &[(TOKEN_HEADER, TOKEN), (TOKEN_HEADER, OTHER)], json!({})).is_err());
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_refused_without_being_repeated() {
        let parts: Vec<&str> = TOKEN.split('.').collect();
        let [header, payload, signature] = parts.as_slice() else { unreachable!("a token has three parts") };
        let long = format!("{header}.{}.{signature}", "p".repeat(TOKEN_BYTES_MAX));
        for bad in [
            json!(""),
            json!(7),
            json!([TOKEN]),
            json!({"token": TOKEN}),
            json!("loopiq_create_work_item"),
            json!("a.b.c"),
            json!(format!("{header}.{payload}")),
            json!(format!("{header}..{signature}")),
            json!(format!("{TOKEN}.{signature}")),
            json!(format!("{TOKEN}=")),
            json!(format!("{header}.{payload}.{signature}\u{e9}")),
            json!(format!("{header} .{payload}.{signature}")),
            json!(format!("Bearer {TOKEN}")),
            json!(long),
        ] {
            let refusal = read(json!({"com.loopiq/approvalToken": bad}), &[], json!({})).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidArguments, "{bad}");
            let words = format!("{refusal:?}");
            assert!(words.contains("approvalToken") && !words.contains(payload), "{words}");
        }
    }

    #[test]
    fn only_tokens_are_kept_out_of_the_record_so_that_nobody_hides_what_they_did() {
        let meta = object(json!({"com.loopiq/approvalToken": TOKEN}));
        let headers = [(TOKEN_HEADER, OTHER), (TOKEN_HEADER, "loopiq_create_work_item"), (TOKEN_HEADER, "a.b.c")];
        assert_eq!(credentials(&meta, &head(&headers)), [TOKEN, OTHER]);
        let meta = object(json!({"com.loopiq/approvalToken": {"of": "ada"}}));
        assert!(credentials(&meta, &head(&[(TOKEN_HEADER, "ada")])).is_empty());
    }

    #[test]
    fn the_same_value_said_three_times_is_fine() {
        let meta = json!({"com.loopiq/idempotencyKey": "k", "com.loopiq/dryRun": false, "com.loopiq/workflow": "w 1"});
        let headers = [("idempotency-key", "k"), ("idempotency-key", " k "), ("x-loopiq-workflow", "w 1")];
        let (controls, _) = read(meta, &headers, json!({"idempotencyKey": "k", "dryRun": false})).unwrap();
        assert_eq!(controls.idempotency_key.as_deref(), Some("k"));
        assert_eq!(controls.workflow.as_deref(), Some("w 1"));
        assert!(!controls.dry_run);
    }

    #[test]
    fn two_values_for_one_control_are_refused() {
        for (meta, headers, arguments) in [
            (json!({"com.loopiq/idempotencyKey": "a"}), vec![], json!({"idempotencyKey": "b"})),
            (json!({}), vec![("idempotency-key", "a")], json!({"idempotencyKey": "b"})),
            (json!({}), vec![("idempotency-key", "a"), ("idempotency-key", "b")], json!({})),
            (json!({"com.loopiq/dryRun": true}), vec![], json!({"dryRun": false})),
            (json!({"com.loopiq/approvalId": "x"}), vec![], json!({"approvalId": "y"})),
            (json!({"com.loopiq/workflow": "x"}), vec![("x-loopiq-workflow", "y")], json!({})),
        ] {
            let refusal = read(meta, &headers, arguments).expect_err("two values");
            assert_eq!(refusal.code, Code::InvalidArguments);
            assert!(refusal.words().contains("two different values"), "{}", refusal.words());
        }
    }

    #[test]
    fn a_value_that_could_not_stand_in_a_header_is_refused() {
        let long = "k".repeat(256);
        for key in ["", "a b", "a\r\nX-Evil: 1", "é", "\u{7f}", long.as_str()] {
            assert!(read(json!({}), &[], json!({"idempotencyKey": key})).is_err(), "{key:?}");
            assert!(read(json!({"com.loopiq/approvalId": key}), &[], json!({})).is_err(), "{key:?}");
        }
        for workflow in ["", " w", "a\nb", "é", "\u{0}"] {
            assert!(read(json!({"com.loopiq/workflow": workflow}), &[], json!({})).is_err(), "{workflow:?}");
        }
        assert!(read(json!({}), &[], json!({"idempotencyKey": "k".repeat(255)})).is_ok());
    }

    #[test]
    fn a_control_of_the_wrong_type_is_refused_by_name() {
        for (name, value) in [
            ("dryRun", json!("true")),
            ("dryRun", json!(null)),
            ("approvalId", json!(7)),
            ("idempotencyKey", json!([])),
        ] {
            let refusal = read(json!({}), &[], json!({name: value})).expect_err(name);
            assert!(refusal.words().contains(name), "{}", refusal.words());
        }
        for chain in [json!("x"), json!([1]), json!([""]), json!(vec!["x"; 65])] {
            assert!(read(json!({"com.loopiq/chain": chain}), &[], json!({})).is_err());
        }
        assert!(read(json!({"progressToken": 1.5}), &[], json!({})).is_err());
    }

    #[test]
    fn a_tools_own_argument_named_workflow_is_left_alone() {
        let (controls, left) = read(json!({}), &[], json!({"workflow": "w", "tenant": "t"})).unwrap();
        assert_eq!((controls.workflow, controls.tenant_meta), (None, None));
        assert_eq!(left, json!({"workflow": "w", "tenant": "t"}));
    }

    #[test]
    fn the_trace_in_meta_wins_and_the_headers_is_kept_for_the_record() {
        let (a, b) = (
            "00-aaf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-bbf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
        let (controls, _) = read(json!({"traceparent": a}), &[("traceparent", b)], json!({})).unwrap();
        assert_eq!(controls.trace.unwrap().traceparent(), a);
        assert_eq!(controls.trace_of_header.unwrap().traceparent(), b);
        let (controls, _) =
            read(json!({"traceparent": "junk"}), &[("traceparent", b), ("tracestate", "x=1")], json!({})).unwrap();
        assert_eq!(controls.trace.as_ref().unwrap().traceparent(), b);
        assert_eq!(controls.trace.unwrap().tracestate.as_deref(), Some("x=1"));
        assert_eq!(controls.trace_of_header, None);
        let (controls, _) = read(json!({}), &[("traceparent", a), ("traceparent", b)], json!({})).unwrap();
        assert_eq!(controls.trace, None);
    }
}
