//! `loopgate policy replay` and `diff`: a policy edit shows what it will do before it does it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;

use loopgate::adapters::reload::bundle;
use loopgate::adapters::store::Store;
use loopgate::domain::audit::checkpoint::PublicKey;
use loopgate::domain::replay::envelope;
use serde_json::Value;
use serde_json::json;

use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Said;
use crate::harness::Sandbox;
use crate::harness::ask;
use crate::harness::call;
use crate::harness::copy;
use crate::harness::files;
use crate::harness::run;

const RELEASE: &str = "backend-v1.0-GCN";

/// A journal that a gateway wrote: reads, a write, a call that waits for people, hidden tools, lists.
fn recorded() -> Home {
    static FILES: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| a_day().files());
    Home::of(&FILES)
}

fn a_day() -> Home {
    let sandbox = Sandbox::start();
    let home = Home::with_own_policies(&sandbox.url);
    let gateway = Gateway::serve(&home);
    for (user, role) in [("ada", "release_manager"), ("vic", "viewer"), ("max", "no_role")] {
        let token = home.token_of(user, role);
        ask(&gateway.mcp, &token, "tools/list", &json!({})).unwrap();
        for (tool, arguments) in [
            ("loopiq_get_release", json!({"release": RELEASE})),
            ("loopiq_get_release", json!({"release": "another"})),
            ("loopiq_search_releases", json!({})),
            ("loopiq_decide_release_certification", json!({"release": RELEASE, "decision": "reject", "reason": "r"})),
            (
                "loopiq_create_work_item",
                json!({"title": "t", "type": "task", "parent": "WI-1001", "owner": "ben", "idempotencyKey": user.len().to_string()}),
            ),
        ] {
            // A hidden tool is an error of the protocol; it is recorded all the same.
            let _no = call(&gateway.mcp, &token, tool, &arguments);
        }
    }
    gateway.process.stop();
    home
}

/// A copy of the policies in which GCN lacks a tool.
fn without_a_tool(home: &Home) {
    copy(Path::new(&home.path("policies")), Path::new(&home.path("next")));
    let tenants = home.read("next/data/tenants.yaml");
    home.write("next/data/tenants.yaml", &tenants.replacen("  tools: {}", "  tools: {loopiq_get_release: false}", 1));
}

fn replay(home: &Home, candidate: &str, more: &[&str]) -> Said {
    let (config, candidate) = (home.config(), home.path(candidate));
    let arguments = [&["policy", "replay", "--config", &config, "--candidate", &candidate], more].concat();
    run(&arguments)
}

/// Decisions as the journal has them, each once: (id, phase, outcome, tool, what was seen).
fn decisions(home: &Home) -> Vec<(String, String, String, String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for record in home.records() {
        for decision in record["unmapped"]["loopgate"]["decisions"].as_array().into_iter().flatten() {
            let Some(input) = decision.get("input") else { continue };
            let seen = decision["visible"].as_array().unwrap().iter().map(text).collect();
            all.push((
                text(&decision["id"]),
                text(&decision["phase"]),
                text(&decision["outcome"]),
                text(&input["tool"]["name"]),
                seen,
            ));
        }
    }
    all
}

#[test]
fn the_recorded_policy_replayed_changes_nothing_and_an_edit_names_exactly_what_flips() {
    let home = recorded();
    let all = decisions(&home);
    let same = replay(&home, "policies", &["--json"]).exits(0).json();
    let counts = &same["replay"]["decisions"];
    assert_eq!((&counts["recorded"], &counts["replayed"]), (&json!(all.len()), &json!(all.len())), "{counts}");
    assert_eq!(
        (&counts["changed"], &counts["skipped"], &same["replay"]["proven"]),
        (&json!(0), &json!(0), &json!(true))
    );

    without_a_tool(&home);
    let list = home.path("changes.jsonl");
    let report = replay(&home, "next", &["--json", "--changes", &list]).exits(0).json();
    let mut found: Vec<(String, String)> = home
        .read("changes.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|change| {
            [&change["about"]["decision"], &change["class"]].map(|text| text.as_str().unwrap().to_owned()).into()
        })
        .collect();
    let seen = |seen: &[String]| seen.iter().any(|name| name == "loopiq_get_release");
    let mut expected: Vec<(String, String)> = all
        .iter()
        // Once a call has been made, nobody asks whether its tool may be seen.
        .filter(|(_, phase, _, _, visible)| phase != "response" && seen(visible))
        .map(|(id, phase, outcome, ..)| {
            let class = match (phase.as_str(), outcome.as_str()) {
                ("list", _) => "list_changed",
                ("call", "allow") => "newly_denied",
                _ => "newly_hidden",
            };
            (id.clone(), class.to_owned())
        })
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert!(expected.iter().filter(|(_, class)| class == "newly_denied").count() >= 4, "{expected:?}");
    assert_eq!(report["replay"]["changes"]["tools"]["rows"][0]["name"], "loopiq_get_release");
    let again = replay(&home, "next", &["--json", "--threads", "1"]).exits(0).json();
    assert_eq!(report["replay"], again["replay"], "the same on one thread");
}

#[test]
fn a_signed_report_is_of_what_was_read_and_its_page_shows_nothing_but_text() {
    let home = recorded();
    without_a_tool(&home);
    let rules = "next/loopiq/gateway/tenants.rego";
    home.write(rules, &home.read(rules).replacen("is not among", "is <b>\u{202e}not among", 1));
    let [page, signed] = ["page.html", "report.json"].map(|name| home.path(name));
    let words = replay(&home, "next", &["--html", &page, "--sign", "--out", &signed]).exits(0).out;
    for said in ["proven", "newly denied", "by tool    loopiq_get_release", "verified: gateway-1/1/0"] {
        assert!(words.contains(said), "{said} in {words}");
    }
    assert!(!words.contains('\u{1b}') && !words.contains('\u{202e}'), "{words}");
    let key = PublicKey::parse(&home.read("keys/report.pub")).unwrap();
    let report = envelope::verify(&home.read("report.json"), &[key]).unwrap();
    assert!(report.proven() && report.verified() && !report.filtered() && report.made_at_ms() > 0);
    assert!(words.contains(&report.digest()), "the digest that a person approves is shown");
    let other = PublicKey::parse(&home.read("keys/audit.pub")).unwrap();
    envelope::verify(&home.read("report.json"), &[other]).unwrap_err();

    let page = home.read("page.html");
    assert!(page.contains("is &lt;b&gt;\\u{202e}not among") && !page.contains("<b>") && !page.contains('\u{202e}'));
    for outside in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let schema: Value =
        serde_json::from_str(&fs::read_to_string("policies/schema/replay-report.json").unwrap()).unwrap();
    let printed = replay(&home, "next", &["--json"]).exits(0).json();
    jsonschema::draft202012::new(&schema).unwrap().validate(&printed).unwrap();
    replay(&home, "next", &["--sign"]).exits(2);
    let narrow = replay(&home, "next", &["--json", "--tool", "loopiq_get_release"]).exits(0).json();
    assert_eq!(narrow["replay"]["window"]["tool"], "loopiq_get_release");
}

#[test]
fn a_journal_with_one_word_changed_gives_no_report() {
    let home = recorded();
    let segment = files(Path::new(&home.path("audit")))
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .unwrap();
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("\"release\":\"another\"", "\"release\":\"A-other\"", 2)).unwrap();
    let signed = home.path("report.json");
    let said = replay(&home, "policies", &["--sign", "--out", &signed]).exits(1);
    assert!(said.out.is_empty() && said.err.contains("does not verify (altered at gateway-1/1/"), "{said:?}");
    assert!(!Path::new(&signed).exists());
    let said = replay(&home, "policies", &["--no-verify", "--json"]).exits(1);
    let report = said.json();
    assert_eq!((&report["replay"]["journal"]["verified"], &report["replay"]["proven"]), (&json!(false), &json!(false)));
    assert_eq!(report["replay"]["skipped"][0]["reason"], "input_altered");
}

#[test]
fn a_policy_that_is_no_longer_at_hand_is_told_and_can_be_named() {
    let home = recorded();
    without_a_tool(&home);
    copy(Path::new(&home.path("policies")), Path::new(&home.path("kept")));
    let roles = home.read("policies/data/roles.yaml");
    home.write("policies/data/roles.yaml", &roles.replacen("viewer:", "watcher:", 1));
    // Without settings, so that what the gateway itself keeps does not help.
    let unkept = [
        "policy",
        "replay",
        "--journal",
        &home.path("audit"),
        "--pub",
        &home.path("keys/audit.pub"),
        "--candidate",
        &home.path("next"),
    ]
    .map(str::to_owned);
    let unkept: Vec<&str> = unkept.iter().map(String::as_str).collect();
    let said = run(&unkept).exits(1);
    assert!(
        said.out.contains("bundle_unknown: unexplained") && said.err.contains("nothing could be replayed"),
        "{said:#?}"
    );
    let kept = home.path("kept");
    let report = run(&[&unkept[..], &["--recorded", &kept, "--json"]].concat()).exits(0).json();
    assert_eq!((&report["replay"]["decisions"]["skipped"], &report["replay"]["proven"]), (&json!(0), &json!(true)));
    assert_ne!(report["replay"]["decisions"]["changed"], 0);
    let kept = home.path("a-store");
    Store::open(Path::new(&kept)).unwrap().put(&bundle::read(Path::new(&home.path("kept"))).unwrap()).unwrap();
    let stored = run(&[&unkept[..], &["--recorded", &kept, "--json"]].concat()).exits(0).json();
    assert_eq!(stored["replay"], report["replay"], "the same from where a gateway keeps its bundles");
    let next = bundle::read(Path::new(&home.path("next"))).unwrap();
    Store::open(Path::new(&kept)).unwrap().put(&next).unwrap();
    let archive = home.path(&format!("a-store/bundles/{}-{}.tar.gz", next.digest(), next.data_digest()));
    let mut packed = unkept.clone();
    packed[7] = &archive;
    let packed = run(&[&packed[..], &["--recorded", &kept, "--json"]].concat()).exits(0).json();
    assert_eq!(packed["replay"], report["replay"], "an archive is tried as the folder that it was built from");
    let same = run(&["policy", "diff", &home.path("next"), &archive]).exits(0).out;
    assert!(same.contains("rules  the same") && same.contains("data   the same") && same.contains(" 0 of "), "{same}");
    let mut no_key = unkept.clone();
    no_key.drain(4..6);
    assert!(run(&no_key).exits(2).err.contains("--pub KEY_FILE"));
    let nothing = run(&[&unkept[..], &["--to", "2020-01-01"]].concat()).exits(1);
    assert!(nothing.err.contains("no decision was recorded in that time"), "{nothing:?}");
    run(&[&unkept[..], &["--from", "yesterday"]].concat()).exits(2);
    run(&[&unkept[..], &["--from", "-1h", "--to", "-2h"]].concat()).exits(2);
}

#[test]
fn diff_names_rules_rows_and_cases_that_differ() {
    let home = Home::with_own_policies("http://127.0.0.1:9");
    without_a_tool(&home);
    let rules = "next/loopiq/gateway/approvals.rego";
    home.write(rules, &home.read(rules).replacen("\tnot input.dry_run\n", "", 1));
    let layout = "next/loopiq/gateway/roles.rego";
    home.write(layout, &(home.read(layout) + "\n# the end\n"));
    let (old, new) = (home.path("policies"), home.path("next"));
    let words = run(&["policy", "diff", &old, &new]).exits(0).out;
    for said in [
        "changed  data.loopiq.gateway.needs_approval  loopiq/gateway/approvals.rego:",
        "loopiq/gateway/roles.rego  layout or comments only",
        "tenants.org_gcn.tools.loopiq_get_release: added false",
        "newly hidden: loopiq_get_release",
    ] {
        assert!(words.contains(said), "{said} in {words}");
    }
    let json = run(&["policy", "diff", &old, &new, "--json"]).exits(0).json();
    assert_eq!(json["rules"].as_array().unwrap().len(), 1, "{json:#}");
    assert!(!json["cases"]["flips"].as_array().unwrap().is_empty());
    let same = run(&["policy", "diff", &old, &old]).exits(0).out;
    assert!(same.contains("rules  the same") && same.contains("data   the same") && same.contains(" 0 of "), "{same}");
    run(&["policy", "diff", &old, "not-there"]).exits(2);
}
