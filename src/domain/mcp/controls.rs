//! Control values of a call: what steers the gateway and is not part of the tool's own arguments.
//!
//! Promises: `dryRun`, `approvalId` and `idempotencyKey` are taken out of the arguments before
//! anyone validates or judges them; the same value said twice is fine, two values are refused;
//! whatever leaves here may stand in a header. Never decides what a value means. Called by `pep`.

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

/// What steers one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Controls {
    /// Preview only.
    pub dry_run: bool,
    /// The approval that the caller wants to use.
    pub approval_id: Option<String>,
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

/// Takes the control values out of `arguments` and reads the rest from `_meta` and the headers.
pub fn controls(
    meta: &Map<String, Value>,
    head: &Head,
    arguments: &mut Map<String, Value>,
) -> Result<Controls, Refusal> {
    let mut from = Sources { meta, head, arguments };
    let dry_run = from.flag("dryRun")?;
    let approval_id = from.text("approvalId", None, &KEY)?;
    let idempotency_key = from.text("idempotencyKey", Some("idempotency-key"), &KEY)?;
    let of_meta = |name: &str| meta.get(name).and_then(Value::as_str);
    let in_meta = of_meta("traceparent").and_then(|parent| TraceContext::read(parent, of_meta("tracestate")));
    let in_header = trace_of_header(head);
    let trace_of_header = if in_meta.is_some() { in_header.clone().filter(|_| in_meta != in_header) } else { None };
    Ok(Controls {
        dry_run,
        approval_id,
        idempotency_key,
        workflow: from.outside("workflow", Some("x-loopiq-workflow"))?,
        chain: chain(meta)?,
        tenant_meta: from.outside("tenant", None)?,
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
    fn outside(&self, name: &str, header: Option<&str>) -> Result<Option<String>, Refusal> {
        let said = self.of_meta(name).map(|value| text_of(name, value)).transpose()?;
        let headers = header.into_iter().flat_map(|header| self.head.all(header)).map(str::trim);
        one_value(name, said.into_iter().chain(headers), &NAME)
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
