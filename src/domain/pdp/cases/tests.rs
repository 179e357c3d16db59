//! What case tables can say, and that they notice what is not so.

use serde_json::json;

use super::*;
use crate::domain::pdp::bundle::Bundle;

const RULES: &str = r#"package loopiq.gateway
decision := {"allow": count(reasons) == 0, "reasons": reasons, "obligations": obligations, "visible": [input.tool.name]}
reasons contains {"code": "approval_required", "message": "m", "next": "n"} if asks
reasons contains {"code": "too_late", "message": "m", "next": "n"} if input.context.now_ms > 1800000000000
reasons contains {"code": "too_large", "message": "m", "next": "n"} if input.response.bytes > 100
reasons contains {"code": "scope", "message": "m", "next": "n"} if not "calls" in input.caller.scopes
reasons contains {"code": "unread", "message": "m", "next": "n"} if {
	some call in input.facts
	not "rec-1" in call.record_ids
}
asks if {
	input.phase == "call"
	input.tool.impact == "high"
	count([vote | some vote in input.approval.votes]) < 2
}
asks if {
	input.phase == "call"
	input.tool.impact == "high"
	not input.approval
}
obligations contains {
	"type": "require_approval", "roles": ["b", "a"], "teams": ["t"], "users": [], "count": 2,
	"approve_by_s": 60, "execute_within_s": 30, "preview": true,
} if asks
obligations contains {"type": "redact", "paths": ["/x"]} if input.phase == "response"
obligations contains {"type": "limit", "class": "gold"}
"#;

fn differences(case: &str) -> Vec<String> {
    let text = format!(
        "callers: {{vic: {{tenant: o, scopes: [calls], client: c}}}}\ncases:\n  - {{name: n, caller: vic, {case}}}\n"
    );
    let table = read("cases/t.yaml", &text).unwrap_or_else(|fault| panic!("{fault}"));
    let bundle = Bundle::from_files(vec![("p.rego".to_owned(), RULES.into())]).unwrap();
    let pdp = Pdp::load(&bundle).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let tools = json!({"high": {"family": "f", "effect": "write", "impact": "high", "route": "POST /x"},
                       "low": {"family": "f", "effect": "read", "impact": "low", "route": "GET /x"}});
    let tools = read_tools("tools.yaml", &tools.to_string()).unwrap();
    let case = &table.cases[0];
    case.differences(&pdp.decide(&table.input(case, &tools).unwrap_or_else(|cause| panic!("{cause}"))))
}

#[test]
fn a_case_says_who_must_agree_and_notices_every_other_answer() {
    let asks = "tool: high, expect: {outcome: pending, reasons: [approval_required]";
    for right in
        ["roles: [a, b], teams: [t], users: [], count: 2, preview: true", "approve_by_s: 60, execute_within_s: 30", ""]
    {
        assert_eq!(differences(&format!("{asks}, approval: {{{right}}}}}")), [] as [&str; 0], "{right}");
    }
    for wrong in [
        "roles: [a]",
        "teams: []",
        "users: [u]",
        "count: 1",
        "approve_by_s: 61",
        "execute_within_s: 1",
        "preview: false",
    ] {
        let found = differences(&format!("{asks}, approval: {{{wrong}}}}}"));
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
    }
    let votes = "approval: {id: ap, state: approved, votes: [{user: u, roles: []}, {user: v, roles: []}]}";
    assert_eq!(differences(&format!("tool: high, {votes}, expect: {{outcome: allow}}")), [] as [&str; 0]);
    let found = differences("tool: low, expect: {outcome: allow, approval: {}}");
    assert_eq!(found, ["asks for no approval"]);
}

#[test]
fn a_case_says_what_was_answered_when_it_was_and_what_must_be_done() {
    let none = [] as [&str; 0];
    let answer =
        |bytes: u32| format!("phase: response, tool: low, response: {{status: 200, bytes: {bytes}, record_ids: []}}");
    assert_eq!(differences(&format!("{}, expect: {{outcome: allow, redact: [/x], limit: gold}}", answer(9))), none);
    assert_eq!(differences(&format!("{}, expect: {{outcome: deny, reasons: [too_large]}}", answer(101))), none);
    let found =
        differences(&format!("{}, expect: {{outcome: allow, redact: [], limit: iron, audit: best_effort}}", answer(9)));
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(differences("tool: low, at: 2027-02-01T00:00:00Z, expect: {outcome: deny, reasons: [too_late]}"), none);
    let earlier = |ids: &str| format!("tool: low, workflow: w, earlier: [{{tool: low, record_ids: [{ids}]}}]");
    assert_eq!(differences(&format!("{}, expect: {{outcome: allow}}", earlier("rec-1"))), none);
    assert_eq!(differences(&format!("{}, expect: {{outcome: deny, reasons: [unread]}}", earlier(""))), none);
}

#[test]
fn what_a_case_cannot_mean_is_refused() {
    let table =
        |case: &str| read("cases/t.yaml", &format!("callers: {{vic: {{tenant: o}}}}\ncases: [{{name: n, {case}}}]"));
    for wrong in [
        "caller: vic, tool: t, expect: {outcome: maybe}",
        "caller: vic, tool: t, expect: {outcome: allow, aproval: {}}",
        "caller: vic, tool: t, at: yesterday, expect: {outcome: allow}",
        "caller: vic, tool: t, expect: {outcome: pending, approval: {rolls: []}}",
    ] {
        assert!(table(wrong).is_err(), "{wrong}");
    }
    for wrong in [
        "caller: vic, expect: {outcome: allow}",
        "caller: eve, tool: t, expect: {outcome: allow}",
        "caller: vic, phase: list, response: {status: 200, bytes: 1, record_ids: []}, expect: {outcome: allow}",
    ] {
        let table = table(wrong).unwrap();
        assert!(table.input(&table.cases[0], &BTreeMap::new()).is_err(), "{wrong}");
    }
}
