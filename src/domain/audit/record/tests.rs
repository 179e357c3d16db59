//! What a record must carry, and what it must never carry.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::domain::audit::chain::Chain;
use crate::domain::audit::redaction::DROPPED;
use crate::domain::catalog::{BUILT_IN, Catalog, Effect, Impact};
use crate::domain::identity::AuthMethod;
use crate::domain::pdp::{Caller, Context, EarlierCall, Phase, ToolFacts};
use crate::domain::refusal::{Challenge, Code, Fault, Refusal};

const JWT: &str =
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImsxIn0.eyJzdWIiOiJhZGEiLCJ0ZW5hbnRzIjpbIm9yZ19nY24iXX0.c2lnbmF0dXJlMDEyMzQ1Njc4OQ";
const OPAQUE: &str = "0paque-t0ken-of-a-session";

fn principal() -> Principal {
    Principal {
        user: "ada".to_owned(),
        issuer: "https://id.example".to_owned(),
        method: AuthMethod::Oauth,
        client: Some("inspector".to_owned()),
        tenants: vec!["org_gcn".to_owned()],
        active_tenant: None,
        roles: vec!["release_manager".to_owned()],
        teams: BTreeMap::new(),
        permissions: Vec::new(),
        scopes: Vec::new(),
        expires_at: 0,
    }
}

/// The built-in tool, with other sensitive fields.
fn tool(sensitive: &[&str]) -> Tool {
    let catalog = Catalog::from_yaml(BUILT_IN).unwrap();
    let tool = Arc::clone(catalog.tool("loopiq_create_work_item").unwrap());
    drop(catalog);
    let mut tool = Arc::try_unwrap(tool).unwrap();
    tool.sensitive = sensitive.iter().map(|pointer| (*pointer).to_owned()).collect();
    tool.digest = "d1".repeat(32);
    tool
}

fn arguments(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

fn input(arguments: Map<String, Value>, facts: Vec<EarlierCall>) -> Input {
    Input {
        schema: 1,
        phase: Phase::Call,
        caller: Caller {
            user: "ada".to_owned(),
            issuer: "https://issuer.example".to_owned(),
            tenant: "org_gcn".to_owned(),
            roles: vec!["release_manager".to_owned()],
            teams: BTreeMap::new(),
            permissions: Vec::new(),
            scopes: Vec::new(),
            client: "inspector".to_owned(),
            method: AuthMethod::Oauth,
        },
        tool: Some(ToolFacts {
            name: "loopiq_create_work_item".to_owned(),
            family: "work_item".to_owned(),
            effect: Effect::Write,
            impact: Impact::Low,
            route: "POST /api/v1/work-items".to_owned(),
        }),
        tools: None,
        arguments,
        dry_run: false,
        approval: None,
        facts,
        response: None,
        context: Context {
            workflow: "wf-1".to_owned(),
            chain: vec!["plan".to_owned()],
            now_ms: 5,
            now: "t".to_owned(),
        },
    }
}

fn decide(record: &mut Record, input: &Input) {
    let decided = Decided {
        id: "dec-1",
        outcome: Outcome::Allow,
        reasons: &[],
        obligations: &[],
        visible: &["loopiq_create_work_item".to_owned()],
        fault: None,
        input,
        bundle_digest: "b1",
        data_digest: "a1",
        engine: "vm",
        instructions: Some(120),
    };
    record.decided(&decided, |tool| (tool == "known").then(|| vec!["/pin".to_owned()]));
}

fn opened() -> Opened {
    Opened {
        request_id: "req-1".to_owned(),
        received_ms: 1_000,
        method: "tools/call".to_owned(),
        era: Some(Era::Modern),
        source: "10.0.0.7:51234".to_owned(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        span_id: "00f067aa0ba902b7".to_owned(),
        parent_span_id: "1111111111111111".to_owned(),
        secrets: Secrets::new([JWT.to_owned(), OPAQUE.to_owned()]),
    }
}

fn line(record: &Record) -> Value {
    let mut bytes = Vec::new();
    Chain::begin("demo", "w", 1, None).push(&record.body(), &mut bytes);
    serde_json::from_slice(&bytes).unwrap()
}

/// A whole governed write, as `pep` fills it.
fn write() -> (Record, Record) {
    let submitted = arguments(json!({"title": "t", "owner": {"email": "a@b"}}));
    let mut record = Record::open(opened());
    record.caller(&principal(), None);
    record.workflow("wf-1", &["plan".to_owned(), "act".to_owned()]);
    record.called(&tool(&["/owner/email"]), Some("loopiq_invoke_route"), &submitted);
    record.approved_by("apr-1");
    record.keyed("key-1", Some("exe-1"));
    decide(&mut record, &input(submitted, Vec::new()));
    record.took("decide", 42);
    let intent = record.stage(Stage::Intent, 1_010);
    record.answered(Answered {
        execution: Execution::Executed,
        backend_status: Some(201),
        bytes: 312,
        record_ids: vec!["wi-12".to_owned()],
        replayed: false,
    });
    (intent, record.stage(Stage::Outcome, 1_050))
}

#[test]
fn an_outcome_carries_everything_that_users_were_promised() {
    let outcome = line(&write().1);
    for (pointer, expected) in [
        ("/class_uid", json!(6003)),
        ("/type_uid", json!(600_301)),
        ("/time", json!(1_050)),
        ("/duration", json!(50)),
        ("/status_id", json!(1)),
        ("/actor/user/uid", json!("ada")),
        ("/actor/app_uid", json!("inspector")),
        ("/ai_agent/uid", json!("inspector")),
        ("/api/operation", json!("tools/call")),
        ("/api/version", json!("2026-07-28")),
        ("/api/request/uid", json!("req-1")),
        ("/api/request/data/arguments/title", json!("t")),
        ("/api/response/code", json!(201)),
        ("/api/service/name", json!("loopiq")),
        ("/trace/uid", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("/trace/span/uid", json!("00f067aa0ba902b7")),
        ("/resources/0/uid", json!("wi-12")),
        ("/src_endpoint/ip", json!("10.0.0.7")),
        ("/metadata/uid", json!("w/1/0")),
        ("/metadata/version", json!("1.9.0")),
        ("/unmapped/loopgate/stage", json!("outcome")),
        ("/unmapped/loopgate/tool", json!("loopiq_create_work_item")),
        ("/unmapped/loopgate/via", json!("loopiq_invoke_route")),
        ("/unmapped/loopgate/tool_digest", json!("d1".repeat(32))),
        ("/unmapped/loopgate/workflow", json!("wf-1")),
        ("/unmapped/loopgate/tool_chain", json!(["plan", "act"])),
        ("/unmapped/loopgate/approval_id", json!("apr-1")),
        ("/unmapped/loopgate/idempotency_key", json!("key-1")),
        ("/unmapped/loopgate/execution_id", json!("exe-1")),
        ("/unmapped/loopgate/execution/outcome", json!("executed")),
        ("/unmapped/loopgate/execution/bytes", json!(312)),
        ("/unmapped/loopgate/decisions/0/id", json!("dec-1")),
        ("/unmapped/loopgate/decisions/0/bundle_digest", json!("b1")),
        ("/unmapped/loopgate/decisions/0/data_digest", json!("a1")),
        ("/unmapped/loopgate/steps_us/decide", json!(42)),
    ] {
        assert_eq!(outcome.pointer(pointer), Some(&expected), "{pointer} in {outcome:#}");
    }
}

#[test]
fn the_input_of_a_decision_is_written_once_and_reads_back_as_it_was() {
    let (intent, outcome) = write();
    let (intent, outcome) = (line(&intent), line(&outcome));
    let written = intent.pointer("/unmapped/loopgate/decisions/0/input").unwrap();
    let again: Input = serde_json::from_value(written.clone()).unwrap();
    let mut expected = input(arguments(json!({"title": "t", "owner": {"email": DROPPED}})), Vec::new());
    assert_eq!(again, expected);
    expected.arguments.clear();
    assert_eq!(outcome.pointer("/unmapped/loopgate/decisions/0/input"), None);
    let digest = |line: &Value| line.pointer("/unmapped/loopgate/decisions/0/input_digest").cloned().unwrap();
    assert_eq!(digest(&intent), json!(ocsf::digest(written)));
    assert_eq!(digest(&intent), digest(&outcome));
}

#[test]
fn what_a_decision_let_be_seen_stands_beside_its_input_and_a_fault_is_named() {
    let (intent, outcome) = write();
    let (intent, outcome) = (line(&intent), line(&outcome));
    let of = |line: &Value, name: &str| line["unmapped"]["loopgate"]["decisions"][0].get(name).cloned();
    assert_eq!(of(&intent, "visible"), Some(json!(["loopiq_create_work_item"])));
    assert_eq!((of(&outcome, "visible"), of(&intent, "fault")), (None, None));
    let mut record = Record::open(opened());
    let seen = input(Map::new(), Vec::new());
    let broken = Decided {
        id: "dec-2",
        outcome: Outcome::Deny,
        reasons: &[],
        obligations: &[],
        visible: &[],
        fault: Some(crate::domain::pdp::ruling::Fault::Undefined),
        input: &seen,
        bundle_digest: "b1",
        data_digest: "a1",
        engine: "vm",
        instructions: None,
    };
    record.decided(&broken, |_| None);
    let line = line(&record.stage(Stage::Denied, 1_001));
    assert_eq!((of(&line, "visible"), of(&line, "fault")), (Some(json!([])), Some(json!("policy_undefined"))));
}

#[test]
fn sensitive_fields_are_dropped_from_the_payload_the_decision_and_the_facts_and_named() {
    let fact = |tool: &str| EarlierCall {
        tool: tool.to_owned(),
        arguments: arguments(json!({"pin": "4711", "release": "r-1"})),
        record_ids: Vec::new(),
        at_ms: 1,
        ok: true,
    };
    let submitted = arguments(json!({"title": "t", "owner": {"email": "ada@secret.example"}}));
    let mut record = Record::open(opened());
    record.called(&tool(&["/owner/email"]), None, &submitted);
    decide(&mut record, &input(submitted, vec![fact("known"), fact("gone")]));
    let line = line(&record.stage(Stage::Intent, 1_001));
    let text = line.to_string();
    assert!(!text.contains("ada@secret.example") && !text.contains("4711"), "{text}");
    let input = line.pointer("/unmapped/loopgate/decisions/0/input").unwrap();
    assert_eq!(input.pointer("/facts/0/arguments"), Some(&json!({"pin": DROPPED, "release": "r-1"})));
    assert_eq!(input.pointer("/facts/1/arguments"), Some(&json!({"pin": DROPPED, "release": DROPPED})));
    let dropped = line.pointer("/unmapped/loopgate/dropped").unwrap();
    for pointer in [
        "/arguments/owner/email",
        "/decisions/0/input/arguments/owner/email",
        "/decisions/0/input/facts/0/arguments/pin",
    ] {
        assert!(dropped.as_array().unwrap().contains(&json!(pointer)), "{pointer} in {dropped}");
    }
}

/// A record with the credential in every field that anybody outside can put anything into.
fn tainted(secret: &str) -> Record {
    let bearer = format!("Bearer {secret}");
    let mut record = Record::open(Opened {
        request_id: secret.to_owned(),
        method: secret.to_owned(),
        source: secret.to_owned(),
        trace_id: secret.to_owned(),
        span_id: secret.to_owned(),
        parent_span_id: bearer.clone(),
        ..opened()
    });
    let mut who = principal();
    for field in [&mut who.user, &mut who.issuer] {
        secret.clone_into(field);
    }
    who.client = Some(bearer.clone());
    record.asked(secret, Era::V2025_11_25);
    record.traced(secret, secret, secret);
    record.caller(&who, None);
    record.workflow(&bearer, &[secret.to_owned(), bearer.clone()]);
    record.approved_by(secret);
    record.keyed(secret, Some(secret));
    record.called_unknown(secret);
    record
}

/// The same for the tool, its arguments, the decision and the answer.
fn taint_further(record: &mut Record, secret: &str, reasons: &[Reason]) {
    let submitted = arguments(json!({
        "title": secret, "nested": [{"deep": format!("x {secret} y")}], "authorization": "short",
        secret: "as a name", "url": format!("https://h/p?access_token={secret}&x=1"),
    }));
    let mut own = tool(&[]);
    for field in [&mut own.name, &mut own.family, &mut own.digest] {
        secret.clone_into(field);
    }
    record.called(&own, Some(secret), &submitted);
    let mut seen = input(submitted, Vec::new());
    for field in [&mut seen.caller.user, &mut seen.caller.client, &mut seen.context.workflow] {
        secret.clone_into(field);
    }
    seen.caller.permissions.push(format!("Bearer {secret}"));
    let obligations = [Obligation::Limit { class: secret.to_owned() }];
    let decided = Decided {
        id: secret,
        outcome: Outcome::Deny,
        reasons,
        obligations: &obligations,
        visible: &[secret.to_owned()],
        fault: None,
        input: &seen,
        bundle_digest: secret,
        data_digest: secret,
        engine: secret,
        instructions: None,
    };
    record.decided(&decided, |_| None);
    let record_ids = vec![secret.to_owned()];
    record.answered(Answered {
        execution: Execution::Failed,
        backend_status: None,
        bytes: 0,
        record_ids,
        replayed: false,
    });
}

#[test]
fn a_token_never_reaches_a_line_whichever_field_it_is_put_into() {
    for secret in [JWT, OPAQUE] {
        let bearer = format!("Bearer {secret}");
        let mut record = tainted(secret);
        let mut lines = vec![line(&record.clone().stage(Stage::Denied, 1_001))];
        let reasons = [Reason::new(secret, secret, bearer.clone())];
        taint_further(&mut record, secret, &reasons);
        for no in [
            No::from(Refusal::because(Code::BackendFailed, secret).with_reasons(reasons.to_vec()).detail(&bearer)),
            No::from(Fault::new(400, -32600, bearer.clone()).with(json!({ "code": secret }))),
        ] {
            record.refused(&no);
            lines.push(line(&record.clone().stage(Stage::Denied, 1_002)));
        }
        let mut event =
            Record::event(Stage::Policy("activated"), 1, format!("by {bearer}")).with(secret, secret).with("t", bearer);
        event.opened.secrets = opened().secrets;
        lines.push(line(&event));
        for line in lines {
            let text = line.to_string();
            assert!(!text.contains(secret), "{text}");
            for part in JWT.split('.') {
                assert!(!text.contains(part), "{part} in {text}");
            }
            assert!(text.contains(DROPPED));
        }
    }
}

#[test]
fn an_unknown_tool_leaves_its_name_and_none_of_its_arguments() {
    let mut record = Record::open(opened());
    record.caller(&principal(), None);
    record.called_unknown(&"x".repeat(10_000));
    record.refused(&Fault::unknown_tool("x").into());
    let line = line(&record.stage(Stage::Denied, 1_001));
    assert_eq!(line.pointer("/api/request/data/arguments"), Some(&json!(DROPPED)));
    assert_eq!(line.pointer("/unmapped/loopgate/refusal/code"), Some(&json!("unknown_tool")));
    assert_eq!(line.pointer("/unmapped/loopgate/tool").unwrap().as_str().unwrap().len(), 256);
    assert_eq!(line.pointer("/status_id"), Some(&json!(2)));
}

#[test]
fn a_refused_credential_leaves_its_cause_and_source_and_no_user() {
    let mut record = Record::open(opened());
    let challenge = Challenge { code: Code::TokenExpired, presented: true, scopes: Vec::new(), cause: "expired" };
    record.refused(&challenge.into());
    let line = line(&record.stage(Stage::Denied, 1_001));
    assert_eq!(
        line.pointer("/unmapped/loopgate/refusal"),
        Some(&json!({"code": "token_expired", "reasons": [], "detail": "expired", "status": 401}))
    );
    assert_eq!(line.pointer("/actor"), Some(&json!({"app_name": "unauthenticated"})));
    assert_eq!(line.pointer("/src_endpoint/ip"), Some(&json!("10.0.0.7")));
}

#[test]
fn a_record_prints_no_payload() {
    assert_eq!(format!("{:?}", write().0), "Record(intent of request req-1)");
}

/// What OCSF 1.9.0 requires of an API Activity event, read off its schema.
#[test]
fn every_kind_of_record_has_what_ocsf_requires() {
    let (intent, outcome) = write();
    let mut denied = Record::open(Opened::default());
    denied.refused(&No::Cancelled);
    let heartbeat = Record::event(Stage::Heartbeat, 1, "quiet");
    let recovered = Record::recovered(
        1,
        &Recovered::DiskFault { segment: "1-0.jsonl".to_owned(), bytes_kept: 1, cause: "x".to_owned() },
    );
    for record in [Record::open(opened()), intent, outcome, denied.stage(Stage::Denied, 2), heartbeat, recovered] {
        let line = line(&record);
        for pointer in [
            "/activity_id",
            "/category_uid",
            "/class_uid",
            "/metadata/product/name",
            "/metadata/version",
            "/severity_id",
            "/time",
            "/type_uid",
            "/actor",
            "/api/operation",
            "/src_endpoint",
            "/attestation_list/0/fingerprint/value",
            "/attestation_list/0/fingerprint/algorithm_id",
        ] {
            assert!(line.pointer(pointer).is_some(), "{pointer} in {line:#}");
        }
        let one_of =
            |at: &str, names: &[&str]| names.iter().any(|name| line.pointer(&format!("{at}/{name}")).is_some());
        assert!(one_of("/actor", &["user", "app_name", "app_uid"]), "{line:#}");
        assert!(one_of("/src_endpoint", &["ip", "name", "svc_name"]), "{line:#}");
        assert_eq!(line["type_uid"], json!(600_300 + line["activity_id"].as_u64().unwrap()));
        if let Some(request) = line.pointer("/api/request") {
            assert!(request.get("uid").is_some());
        }
        if let Some(span) = line.pointer("/trace/span") {
            assert!(span.get("start_time").is_some() && span.get("end_time").is_some() && span.get("uid").is_some());
        }
    }
}
