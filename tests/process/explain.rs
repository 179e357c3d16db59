//! `loopgate policy explain`, and the ways to ask it and `eval`.

use serde_json::Value;
use serde_json::json;

use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Said;
use crate::harness::Sandbox;
use crate::harness::call;
use crate::harness::of_repository;
use crate::harness::run;
use crate::harness::shown;

const VIC: [&str; 8] = ["--tenant", "org_gcn", "--user", "vic", "--role", "viewer", "--tool", "loopiq_search_evidence"];

fn policy(command: &str, more: &[&str]) -> Said {
    run(&[&["policy", command, &shown(&of_repository("policies"))], more].concat())
}

/// Whether these stand in the text in this order.
fn in_order(text: &str, words: &[&str]) -> bool {
    let mut rest = text;
    words.iter().all(|word| match rest.split_once(word) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn one_reading_tells_why_vic_may_not_search_evidence_and_what_would_change_it() {
    let said = policy("explain", &VIC).exits(0);
    let words = [
        "vic (viewer) calls loopiq_search_evidence in org_gcn\ndeny\n",
        "permission_missing: `loopiq_search_evidence` needs the permission `evidence:read`",
        "hidden (loopiq/gateway/roles.rego:",
        "✓ not permission in granted",
        "granted has no \"evidence:read\"",
        "✓ some role in input.caller.roles",
        "role = \"viewer\"",
        "✗ some permission, true in data.roles[role].permissions",
        "data.roles.viewer.permissions[\"evidence:read\"] = undefined",
        "would be allowed",
        "with role auditor or certification_approver or developer or release_manager or tenant_admin",
        "with permission evidence:read",
        "with data.roles.viewer.permissions[\"evidence:read\"] = true",
    ];
    assert!(in_order(&said.out, &words), "{}", said.out);
    assert!(said.out.lines().all(|line| line.chars().count() <= 110), "{}", said.out);
    assert!(said.err.is_empty() && !said.out.contains('\u{1b}'), "{said:?}");
    let told = policy("explain", &[&VIC[..], &["--json"]].concat()).exits(0).json();
    assert_eq!((&told["outcome"], &told["reasons"][0]["code"]), (&json!("deny"), &json!("permission_missing")));
    let allowed = told["changes"]["allow"].as_array().unwrap();
    assert!(allowed.contains(&json!([{"change": "permission", "permission": "evidence:read"}])), "{allowed:#?}");
    assert!(!allowed.iter().any(|change| change[0]["role"] == "viewer"), "{allowed:#?}");
}

#[test]
fn what_is_named_as_a_change_is_one() {
    let told = policy("explain", &[&VIC[..], &["--json"]].concat()).json();
    let roles = told["changes"]["allow"].as_array().unwrap().iter().filter_map(|change| change[0]["role"].as_str());
    for role in roles {
        let said = policy("eval", &[&VIC[..], &["--role", role]].concat()).exits(0);
        assert!(said.out.starts_with("allow\n"), "{role}: {said:?}");
    }
    let pending = policy("explain", &["--case", "ada's decision on a certification waits for people"]).exits(0);
    let words = [
        "pending",
        "approved does not hold",
        "input.approval = undefined",
        "once 1 other person agrees",
        "as a dry run",
    ];
    assert!(in_order(&pending.out, &words), "{}", pending.out);
    let several = policy("explain", &["--case", "ben makes a work item that nobody owns"]).exits(0);
    assert!(several.out.contains("with a value such as \"something\" at /owner and /parent"), "{}", several.out);
}

#[test]
fn an_allowed_call_tells_what_could_have_said_no_and_a_list_tells_what_is_hidden() {
    let ada = ["--tenant", "org_gcn", "--user", "ada", "--role", "release_manager"];
    let said = policy("explain", &[&ada[..], &["--tool", "loopiq_search_evidence"]].concat()).exits(0);
    assert!(
        in_order(&said.out, &["allow", "could have said no", "tenants.rego", "tenant_open = true"]),
        "{}",
        said.out
    );
    assert!(!said.out.contains("would be allowed"), "{}", said.out);
    let said = policy("explain", &[&ada[..], &["--list"]].concat()).exits(0);
    let hidden = said.out.lines().find(|line| line.contains("✗ loopiq_get_diagnostics")).unwrap();
    assert!(hidden.ends_with("permission_missing"), "{hidden}");
    assert!(said.out.contains("✓ loopiq_search_evidence\n"), "{}", said.out);
}

#[test]
fn eval_and_explain_are_asked_in_the_same_ways_and_refuse_what_makes_no_sense() {
    for command in ["eval", "explain"] {
        let calls = ["--tenant", "org_gcn", "--user", "ben", "--team", "payments=lead", "--role", "developer"];
        let more = ["--tool", "loopiq_create_work_item", "--arguments", r#"{"title": "t"}"#, "--json"];
        assert_eq!(policy(command, &[&calls[..], &more].concat()).exits(0).json()["outcome"], "deny");
        let said = policy(command, &["--case", "ben makes a whole work item", "--json"]).exits(0);
        assert_eq!(said.json()["outcome"], "allow");
        for (wrong, words) in [
            (&[][..], "say what to decide"),
            (&["--case", "a whole"], "did you mean\n  ben makes a whole work item"),
            (&["--tool", "search_evidence", "--tenant", "o", "--user", "u"], "there is `loopiq_search_evidence`"),
            (&["--tool", "loopiq_get_release"], "--tenant"),
            (&["--list", "--tenant", "o", "--user", "u", "--arguments", "[]"], "--arguments: not a JSON object"),
            (&["--list", "--tenant", "o", "--user", "u", "--team", "lead"], "TEAM=ROLE"),
            (&["--decision", "x"], "--journal"),
            (&["--decision", "x", "--journal", "policies"], "`policies` is no journal"),
            (&["--input", "x", "--case", "y"], "cannot be used with"),
        ] {
            let said = policy(command, wrong).exits(2);
            assert!(said.err.contains(words) && said.out.is_empty(), "{wrong:?}: {said:?}");
        }
    }
}

#[test]
fn a_recorded_decision_is_explained_from_the_journal_and_what_it_lacks_is_said() {
    let sandbox = Sandbox::start();
    let home = Home::with_own_policies(&sandbox.url);
    let gateway = Gateway::serve(&home);
    let token = home.token();
    let arguments = json!({"title": "t", "type": "task"});
    let told = call(&gateway.mcp, &token, "loopiq_create_work_item", &arguments).unwrap();
    let audit = &told["_meta"]["com.loopiq/audit"];
    let (decision, request) = (audit["decisionId"].as_str().unwrap(), audit["requestId"].as_str().unwrap());
    gateway.process.stop();
    let (policies, catalog) = (home.path("policies"), shown(&of_repository("config/catalog.yaml")));
    let journal = home.path("audit");
    for id in [decision, request] {
        let words = ["policy", "explain", &policies, "--catalog", &catalog, "--decision", id, "--journal", &journal];
        let said = run(&words).exits(0);
        assert!(
            in_order(&said.out, &["deny", "work_item_owner_missing", "input.arguments.owner = undefined"]),
            "{said:?}"
        );
        assert!(!said.out.contains("note:"), "{}", said.out);
    }
    let segment = std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let segment = std::fs::read_dir(segment.unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap();
    let changed: String = std::fs::read_to_string(&segment).unwrap().lines().map(|line| dropped(line) + "\n").collect();
    std::fs::write(&segment, changed).unwrap();
    home.write("policies/data/roles.yaml", &(home.read("policies/data/roles.yaml") + "\nother: {permissions: {}}\n"));
    let words = ["policy", "explain", &policies, "--catalog", &catalog, "--decision", decision, "--journal", &journal];
    let said = run(&words).exits(0);
    assert!(said.out.contains("does not hold what stood at /arguments/title"), "{}", said.out);
    assert!(said.out.contains("by the same bundle with other data"), "{}", said.out);
    let missing = ["policy", "eval", &policies, "--catalog", &catalog, "--decision", "nobody", "--journal", &journal];
    assert!(run(&missing).exits(2).err.contains("no record goes by `nobody`"));
}

/// A record from which an argument was dropped.
fn dropped(line: &str) -> String {
    let mut record: Value = serde_json::from_str(line).unwrap();
    if let Some(title) = record.pointer_mut("/unmapped/loopgate/decisions/0/input/arguments/title") {
        *title = json!("$dropped");
        record["unmapped"]["loopgate"]["dropped"] = json!(["/decisions/0/input/arguments/title"]);
    }
    record.to_string()
}
