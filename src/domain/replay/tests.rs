//! What a replay promises, tried on records that the gateway's own code writes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::change::Class;
use super::envelope::{EnvelopeFault, sign, verify};
use super::recorded::{Found, Recorded, read};
use super::report::{Digests, Report, Window};
use super::tally::Tally;
use super::*;
use crate::domain::audit::chain::Chain;
use crate::domain::audit::checkpoint::PublicKey;
use crate::domain::audit::record::{Decided, Opened, Record, Stage};
use crate::domain::audit::redaction::Secrets;
use crate::domain::catalog::{Effect, Impact};
use crate::domain::identity::AuthMethod;
use crate::domain::identity::signing::SigningKey;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::{Caller, Context, Phase, ToolFacts};

const RULES: &str = r#"package loopiq.gateway

offered contains name if {
	some name, tool in tools
	data.tenants[input.caller.tenant].tools[name] == true
}

tools := {input.tool.name: input.tool} if input.tool

tools := input.tools if input.tools

reasons contains {"code": "not_offered", "message": "no such tool here", "next": "use another", "data": {"about": "tool"}} if {
	input.phase == "call"
	not input.tool.name in offered
}

reasons contains {"code": "title_missing", "message": "no title", "next": "give one", "data": {"about": "arguments"}} if {
	input.phase == "call"
	input.tool.effect == "write"
	not input.arguments.title
}

reasons contains {"code": "approval_required", "message": "people must agree", "next": "ask", "data": {}} if asks

obligations contains {
	"type": "require_approval", "roles": ["boss"], "teams": [], "users": [], "count": 1,
	"approve_by_s": 60, "execute_within_s": 60, "preview": true,
} if asks

asks if {
	input.phase == "call"
	input.tool.impact == "high"
	not input.dry_run
}

default allow := false

allow if count(reasons) == 0

decision := {"allow": allow, "reasons": reasons, "obligations": obligations, "visible": offered}
"#;

const DATA: &str = "org_a: {tools: {read: true, write: true, danger: true}}\norg_b: {tools: {read: true}}\n";

fn bundle(rules: &str, data: &str) -> Bundle {
    let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
    Bundle::from_files(vec![file("g.rego", rules), file("data/tenants.yaml", data)]).unwrap()
}

fn pdp(rules: &str, data: &str) -> Pdp {
    Pdp::compile(&bundle(rules, data), &BTreeMap::new()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn facts(name: &str) -> ToolFacts {
    let (effect, impact) = match name {
        "read" => (Effect::Read, Impact::Low),
        "write" => (Effect::Write, Impact::Low),
        _ => (Effect::Write, Impact::High),
    };
    ToolFacts { name: name.to_owned(), family: "f".to_owned(), effect, impact, route: "POST /x".to_owned() }
}

/// A call of `tool`, or a list when it is empty.
fn input(tenant: &str, tool: &str, arguments: &Value) -> Input {
    let list = tool.is_empty();
    let all = || ["danger", "read", "write"].map(|name| (name.to_owned(), facts(name))).into();
    Input {
        schema: 1,
        phase: if list { Phase::List } else { Phase::Call },
        caller: Caller {
            user: "ada".to_owned(),
            issuer: "i".to_owned(),
            tenant: tenant.to_owned(),
            roles: vec!["dev".to_owned()],
            teams: BTreeMap::new(),
            permissions: Vec::new(),
            scopes: Vec::new(),
            client: String::new(),
            method: AuthMethod::Oauth,
        },
        tool: (!list).then(|| facts(tool)),
        tools: list.then(all),
        arguments: arguments.as_object().cloned().unwrap_or_default(),
        dry_run: false,
        approval: None,
        facts: Vec::new(),
        response: None,
        context: Context { workflow: String::new(), chain: Vec::new(), now_ms: 5, now: "t".to_owned() },
    }
}

/// The lines that a gateway writes of one call: with its input, and again without.
fn lines_of(id: &str, pdp: &Pdp, input: &Input) -> Vec<Vec<u8>> {
    let mut record = Record::open(Opened {
        request_id: format!("req-{id}"),
        received_ms: 1_000,
        secrets: Secrets::new(["s3cret-of-this-request".to_owned()]),
        ..Opened::default()
    });
    note(&mut record, id, pdp, input);
    let records = [record.stage(Stage::Intent, 1_001), record.stage(Stage::Outcome, 1_002)];
    records.iter().map(written).collect()
}

fn note(record: &mut Record, id: &str, pdp: &Pdp, input: &Input) {
    let ruling = pdp.decide(input);
    let decided = Decided {
        id,
        outcome: ruling.outcome(),
        reasons: ruling.reasons(),
        obligations: ruling.obligations(),
        visible: ruling.visible(),
        fault: ruling.fault(),
        input,
        bundle_digest: ruling.bundle_digest(),
        data_digest: ruling.data_digest(),
        engine: ruling.engine().as_str(),
        instructions: None,
    };
    record.decided(&decided, |_| None);
}

fn written(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    Chain::begin("d", "w", 1, None).push(&record.body(), &mut bytes);
    bytes.pop();
    bytes
}

fn found(line: &[u8]) -> Found {
    let mut found = read(line).unwrap().found;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn whole(line: &[u8]) -> Recorded {
    match found(line) {
        Found::Whole(recorded) => *recorded,
        other => panic!("{other:?}"),
    }
}

/// A line with something changed in its decision.
fn with(line: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(line).unwrap();
    change(&mut value["unmapped"]["loopgate"]["decisions"][0]);
    serde_json::to_vec(&value).unwrap()
}

fn class(judged: &Judged) -> Class {
    match judged {
        Judged::Changed(change) => change.class,
        other => panic!("{other:?}"),
    }
}

fn skip(judged: &Judged) -> Skip {
    match judged {
        Judged::Skipped { skip, .. } => *skip,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_decision_replayed_under_its_own_policy_is_the_same() {
    let own = pdp(RULES, DATA);
    for (tenant, tool) in [("org_a", "read"), ("org_a", "danger"), ("org_b", "write"), ("org_a", ""), ("nowhere", "")] {
        let lines = lines_of("d", &own, &input(tenant, tool, &json!({"title": 1.5})));
        let recorded = whole(&lines[0]);
        assert_eq!(judge(&recorded, &own, &own), Judged::Same, "{tenant} {tool}");
        assert_eq!(recorded.about.at_ms, 1_000);
        assert!(matches!(found(&lines[1]), Found::Named { reduced: false, .. }));
    }
}

#[test]
fn every_kind_of_change_has_its_class() {
    let own = pdp(RULES, DATA);
    let judged = |tenant: &str, tool: &str, candidate: &Pdp| {
        let lines = lines_of("d", &own, &input(tenant, tool, &json!({"title": "t"})));
        judge(&whole(&lines[0]), &own, candidate)
    };
    let less = pdp(RULES, &DATA.replace("write: true, ", ""));
    let denied = judged("org_a", "write", &less);
    assert_eq!(class(&denied), Class::NewlyDenied);
    let Judged::Changed(change) = &denied else { unreachable!() };
    assert_eq!((change.before.sees, change.after.sees, change.vanishes.as_slice()), (1, 0, &["write".to_owned()][..]));
    assert_eq!(change.after.reasons[0].code, "not_offered");
    assert_eq!(class(&judged("org_a", "", &less)), Class::ListChanged);
    assert_eq!(judged("org_a", "read", &less), Judged::Same);
    let more = pdp(RULES, &DATA.replace("org_b: {tools: {read: true", "org_b: {tools: {write: true, read: true"));
    assert_eq!(class(&judged("org_b", "write", &more)), Class::NewlyAllowed);
    let asking = pdp(&RULES.replace("input.tool.impact == \"high\"", "input.tool.effect == \"write\""), DATA);
    assert_eq!(class(&judged("org_a", "write", &asking)), Class::NewlyPending);
    let trusting = pdp(&RULES.replace("not input.dry_run\n", "input.caller.roles == [\"nobody\"]\n"), DATA);
    assert_eq!(class(&judged("org_a", "danger", &trusting)), Class::NoLongerPending);
    let other = pdp(&RULES.replace("\"count\": 1", "\"count\": 2"), DATA);
    assert_eq!(class(&judged("org_a", "danger", &other)), Class::ObligationsChanged);
    let worded = pdp(&RULES.replace("no such tool here", "not here"), DATA);
    assert_eq!(class(&judged("org_b", "write", &worded)), Class::ReasonsChanged);
    let broken = pdp(&RULES.replace("not input.arguments.title", "input.arguments.title + 1 == 2"), DATA);
    assert_eq!(class(&judged("org_a", "write", &broken)), Class::Fault);
    let blind =
        pdp(&RULES.replace("\"visible\": offered", "\"visible\": [n | some n in offered; n != \"read\"]"), DATA);
    assert_eq!(class(&judged("org_a", "read", &blind)), Class::NewlyHidden);
}

#[test]
fn a_record_that_its_own_policy_does_not_bear_out_is_not_reproduced() {
    let own = pdp(RULES, DATA);
    let line = &lines_of("d", &own, &input("org_b", "write", &json!({})))[0];
    let change: [fn(&mut Value); 5] = [
        |decision| decision["outcome"] = json!("allow"),
        |decision| decision["reasons"][0]["message"] = json!("other words"),
        |decision| decision["reasons"].as_array_mut().unwrap().reverse(),
        |decision| decision["obligations"] = json!([{"type": "limit", "class": "gold"}]),
        |decision| decision["visible"] = json!(["write"]),
    ];
    for change in change {
        assert_eq!(skip(&judge(&whole(&with(line, change)), &own, &own)), Skip::NotReproduced);
    }
    let faulty = with(line, |decision| decision["fault"] = json!("policy_error"));
    assert_eq!(skip(&judge(&whole(&faulty), &own, &own)), Skip::NotReproduced);
}

#[test]
fn an_input_that_is_not_the_one_that_was_decided_about_is_found_by_its_digest() {
    let own = pdp(RULES, DATA);
    let line = &lines_of("d", &own, &input("org_a", "write", &json!({"title": "t"})))[0];
    let change: [fn(&mut Value); 3] = [
        |decision| decision["input"]["arguments"]["title"] = json!("other"),
        |decision| drop(decision["input"]["arguments"].as_object_mut().unwrap().remove("title")),
        |decision| decision["input_digest"] = json!("0".repeat(64)),
    ];
    for change in change {
        let found = found(&with(line, change));
        assert!(matches!(found, Found::Unfit { skip: Skip::InputAltered, .. }), "{found:?}");
    }
}

#[test]
fn an_input_of_another_form_is_said_to_be_unreadable() {
    let own = pdp(RULES, DATA);
    let line = &lines_of("d", &own, &input("org_a", "read", &json!({})))[0];
    let change: [fn(&mut Value); 2] =
        [|decision| decision["input"]["schema"] = json!(2), |decision| decision["input"]["surprise"] = json!(1)];
    for change in change {
        let line = with(line, |decision| {
            change(decision);
            decision["input_digest"] = json!(crate::domain::audit::input_digest(&decision["input"]));
        });
        let found = found(&line);
        assert!(matches!(found, Found::Unfit { skip: Skip::InputUnreadable, .. }), "{found:?}");
    }
    let unknown = with(line, |decision| decision["obligations"] = json!([{"type": "sing"}]));
    assert!(matches!(found(&unknown), Found::Unfit { skip: Skip::InputUnreadable, .. }));
}

#[test]
fn a_record_from_before_what_was_seen_was_recorded_is_compared_without_it() {
    let own = pdp(RULES, DATA);
    let old = with(&lines_of("d", &own, &input("org_a", "", &json!({})))[0], |decision| {
        drop(decision.as_object_mut().unwrap().remove("visible"));
    });
    let recorded = whole(&old);
    assert!(!recorded.says_what_is_seen());
    assert_eq!(judge(&recorded, &own, &own), Judged::Same);
}

#[test]
fn a_dropped_value_matters_only_where_one_of_the_policies_may_read_it() {
    let own = pdp(RULES, DATA);
    let arguments = json!({"title": "t", "note": "use s3cret-of-this-request", "deep": [{"token": "x"}]});
    let lines = lines_of("d", &own, &input("org_a", "write", &arguments));
    let text = String::from_utf8(lines[0].clone()).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    let recorded = whole(&lines[0]);
    assert_eq!(recorded.dropped.len(), 2, "{:?}", recorded.dropped);
    assert_eq!(judge(&recorded, &own, &own), Judged::Same, "nothing reads them");
    for reads in ["input.arguments.note != 1", "count(input.arguments.deep) > 5", "input.arguments[input.caller.user]"]
    {
        let reading = pdp(
            &RULES
                .replace("allow if count(reasons) == 0", &format!("allow if {{\n\tcount(reasons) == 0\n\t{reads}\n}}")),
            DATA,
        );
        let judged = judge(&recorded, &own, &reading);
        assert_eq!(skip(&judged), Skip::FieldDropped, "{reads}");
        assert_eq!(skip(&judge(&recorded, &reading, &own)), Skip::FieldDropped, "{reads}");
    }
}

#[test]
fn a_name_that_was_dropped_or_cut_may_be_any_name() {
    let own = pdp(RULES, DATA);
    let reads = pdp(&RULES.replace("not input.arguments.title", "not input.arguments.deep.title"), DATA);
    for name in ["s3cret-of-this-request".to_owned(), "n".repeat(70)] {
        let arguments = json!({"title": "t", "deep": {"title": "t", name: {"token": "x"}}});
        let recorded = whole(&lines_of("d", &own, &input("org_a", "write", &arguments))[0]);
        assert!(!recorded.dropped.is_empty());
        assert_eq!(skip(&judge(&recorded, &own, &reads)), Skip::FieldDropped, "{:?}", recorded.dropped);
        assert_eq!(judge(&recorded, &own, &own), Judged::Same);
    }
}

#[test]
fn a_list_of_dropped_places_that_is_cut_short_is_made_whole_by_looking() {
    let own = pdp(RULES, DATA);
    let many: Vec<Value> = (0..100).map(|n| json!({"token": format!("t{n}")})).collect();
    let arguments = json!({"title": "t", "many": many});
    let recorded = whole(&lines_of("d", &own, &input("org_a", "write", &arguments))[0]);
    assert_eq!(recorded.dropped.len(), 100);
    let reads = pdp(&RULES.replace("not input.arguments.title", "not input.arguments.many[99].token"), DATA);
    assert_eq!(skip(&judge(&recorded, &own, &reads)), Skip::FieldDropped);
}

#[test]
fn a_value_that_was_a_list_and_is_a_text_now_was_dropped_and_is_not_unreadable() {
    let own = pdp(RULES, DATA);
    let mut asked = input("org_a", "read", &json!({}));
    asked.caller.teams.insert("secret".to_owned(), vec!["lead".to_owned()]);
    let found = found(&lines_of("d", &own, &asked)[0]);
    assert!(matches!(found, Found::Unfit { skip: Skip::FieldDropped, .. }), "{found:?}");
}

/// What comes of lines as whoever replays counts them, in parts of `at_once`.
fn report(lines: &[Vec<u8>], own: Option<&Pdp>, candidate: &Pdp, at_once: usize) -> (Report, Vec<u8>) {
    let mut all = Tally::default();
    for part in lines.chunks(at_once) {
        let mut tally = Tally::default();
        for line in part {
            let read = read(line).unwrap();
            tally.looked_at("w", &read.reference);
            for found in read.found {
                match found {
                    Found::Named { about, reduced } => tally.named(about, reduced),
                    Found::Unfit { about, skip, why } => {
                        tally.met(&about);
                        tally.skipped(skip, about, why);
                    }
                    Found::Whole(recorded) => {
                        tally.met(&recorded.about);
                        tally.decided_by(&recorded.bundle_digest, &recorded.data_digest);
                        let judged = own.map_or_else(
                            || Judged::Skipped { skip: Skip::BundleUnknown, why: String::new() },
                            |own| judge(&recorded, own, candidate),
                        );
                        tally.judged(&recorded.about, recorded.says_what_is_seen(), judged);
                    }
                }
            }
        }
        part.last().into_iter().for_each(|line| tally.ends_with("w", line));
        all.merge(tally);
    }
    all.finish();
    let listed = all.take_lines();
    let digests = Digests { bundle: candidate.bundle_digest().to_owned(), data: candidate.data_digest().to_owned() };
    (Report::of(all, digests, Window::default(), true, crate::domain::canonical::digest(&listed)), listed)
}

fn a_day(own: &Pdp) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for n in 0..60 {
        let tenant = if n % 3 == 0 { "org_b" } else { "org_a" };
        let tool = ["read", "write", "danger", ""][n % 4];
        lines.extend(lines_of(&format!("dec-{n}"), own, &input(tenant, tool, &json!({"title": n}))));
    }
    lines
}

#[test]
fn the_same_journal_gives_the_same_report_however_it_is_cut_into_parts() {
    let own = pdp(RULES, DATA);
    let less = pdp(RULES, &DATA.replace("write: true, ", ""));
    let lines = a_day(&own);
    let (whole, listed) = report(&lines, Some(&own), &less, usize::MAX);
    let text = serde_json::to_string(&whole).unwrap();
    for at_once in [1, 7, 64] {
        let (parts, list) = report(&lines, Some(&own), &less, at_once);
        assert_eq!((serde_json::to_string(&parts).unwrap(), list), (text.clone(), listed.clone()), "{at_once}");
    }
    let decisions = whole.replay.decisions;
    assert_eq!((decisions.recorded, decisions.replayed, decisions.skipped), (60, 60, 0));
    assert!(whole.proven() && whole.unexplained() == 0 && !whole.filtered() && whole.verified());
    // Every fourth call is a write, two in three of org_a; every fourth a list.
    let changes = &whole.replay.changes;
    assert_eq!(changes.classes, [(Class::NewlyDenied, 10), (Class::ListChanged, 10)].into());
    assert_eq!(
        changes.tenants.rows.iter().map(|row| (row.name.as_str(), row.replayed, row.changed)).collect::<Vec<_>>(),
        [("org_a", 40, 20)]
    );
    assert_eq!(
        changes.tools.rows.iter().map(|row| (row.name.as_str(), row.changed)).collect::<Vec<_>>(),
        [("write", 20)]
    );
    assert_eq!(listed.split_inclusive(|byte| *byte == b'\n').count(), 20);
    let (none, _) = report(&lines, Some(&own), &own, 5);
    assert!(none.proven() && none.replay.changes.classes.is_empty());
}

#[test]
fn what_cannot_be_replayed_is_counted_under_its_reason_and_only_some_reasons_are_explained() {
    let own = pdp(RULES, DATA);
    let good = lines_of("good", &own, &input("org_a", "read", &json!({})));
    let lost = lines_of("lost", &own, &input("org_a", "read", &json!({}))).remove(1);
    let mut large = Record::open(Opened { request_id: "req-large".to_owned(), ..Opened::default() });
    note(&mut large, "large", &own, &input("org_a", "read", &json!({})));
    let reduced = written(&large.stage(Stage::Outcome, 1_001).reduced());
    let altered = with(&good[0], |decision| {
        decision["id"] = json!("altered");
        decision["input"]["caller"]["tenant"] = json!("org_b");
    });
    let lines = [good[0].clone(), good[1].clone(), lost, reduced, altered];
    let (whole, _) = report(&lines, Some(&own), &own, 2);
    let skipped: Vec<_> = whole
        .replay
        .skipped
        .iter()
        .map(|line| (line.reason, line.count, line.explained, line.samples[0].about.decision.as_str()))
        .collect();
    assert_eq!(
        skipped,
        [
            (Skip::InputAltered, 1, false, "altered"),
            (Skip::InputMissing, 1, false, "lost"),
            (Skip::NoInput, 1, true, "large"),
        ]
    );
    assert!(!whole.proven());
    assert_eq!((whole.unexplained(), whole.decisions_replayed(), whole.replay.decisions.recorded), (2, 1, 4));
    let (unknown, _) = report(&good, None, &own, 2);
    assert_eq!((unknown.unexplained(), unknown.proven()), (1, false), "nothing was made again, so nothing is proven");
}

#[test]
fn the_digest_is_of_what_was_found_and_not_of_when() {
    let own = pdp(RULES, DATA);
    let (mut one, _) = report(&a_day(&own), Some(&own), &own, 9);
    let before = one.digest();
    one.made.at_ms = 7;
    assert_eq!(one.digest(), before);
    one.replay.decisions.replayed += 1;
    assert_ne!(one.digest(), before);
}

fn key(seed: u8) -> (SigningKey, PublicKey) {
    let key = SigningKey::generate(&[seed; 32]).unwrap();
    let public = PublicKey::from_bytes(key.public_key().try_into().unwrap());
    (key, public)
}

#[test]
fn a_signed_report_is_believed_only_as_it_was_signed_by_a_trusted_key_and_as_this_kind_of_document() {
    let own = pdp(RULES, DATA);
    let (report, _) = report(&a_day(&own), Some(&own), &own, 9);
    let ((ours, trusted), (_, other)) = (key(1), key(2));
    let text = sign(&report, &ours).unwrap();
    assert_eq!(verify(&text, &[other, trusted]).unwrap(), report);
    assert!(matches!(verify(&text, &[other]), Err(EnvelopeFault::Untrusted(_))));
    assert!(matches!(verify(&text, &[]), Err(EnvelopeFault::Untrusted(_))));
    let mut envelope: Value = serde_json::from_str(&text).unwrap();
    let retyped = text.replace(super::envelope::PAYLOAD_TYPE, "application/vnd.in-toto+json");
    assert!(matches!(verify(&retyped, &[trusted]), Err(EnvelopeFault::OtherKind(_))));
    let mut better = report.clone();
    better.replay.decisions.replayed += 1_000;
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, serde_json::to_vec(&better).unwrap());
    envelope["payload"] = json!(body);
    assert!(matches!(verify(&envelope.to_string(), &[trusted]), Err(EnvelopeFault::Untrusted(_))));
    envelope["signatures"] = json!([]);
    assert!(matches!(verify(&envelope.to_string(), &[trusted]), Err(EnvelopeFault::Untrusted(_))));
    for rubbish in ["", "{}", "[]", text.split_at(text.len() / 2).0, &"x".repeat(9 << 20)] {
        assert!(verify(rubbish, &[trusted]).is_err());
    }
    let mut newer = report;
    newer.replay.schema = 2;
    assert_eq!(verify(&sign(&newer, &ours).unwrap(), &[trusted]), Err(EnvelopeFault::OtherVersion(2)));
}

#[test]
fn a_line_of_something_else_names_no_decision() {
    let mut record = Record::event(Stage::Policy("activated"), 3, "new rules are in force");
    let read_back = read(&written(&record.stage(Stage::Policy("activated"), 3))).unwrap();
    assert_eq!((read_back.found.len(), read_back.began_ms), (0, 3));
    assert!(read(b"{}").is_err() && read(b"not json").is_err());
}
