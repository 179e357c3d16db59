//! `loopgate policy`: the words and exit codes of check, test and eval.

use serde_json::Value;
use serde_json::json;

use crate::harness::Home;
use crate::harness::of_repository;
use crate::harness::run;
use crate::harness::shown;

const RULES: &str = "policies/loopiq/gateway/roles.rego";

fn spoilt() -> Home {
    let home = Home::with_own_policies("http://127.0.0.1:9");
    home.write(RULES, &(home.read(RULES) + "\nallow if {\n"));
    home
}

#[test]
fn check_says_what_would_be_loaded_or_every_fault_with_its_place() {
    let said = run(&["policy", "check", &shown(&of_repository("policies"))]).exits(0);
    let starts = ["ok: ", "bundle ", "data   ", "engine ", "tried with 43 tools"];
    assert!(starts.iter().zip(said.out.lines()).all(|(start, line)| line.starts_with(start)), "{said:#?}");
    let said = run(&["policy", "check", &spoilt().path("policies")]).exits(1);
    assert!(said.out.contains("roles.rego:"), "{said:?}");
    assert_eq!(said.err, "error: 1 fault; nothing was loaded\n");
    let said = run(&["policy", "check", "not-there"]).exits(2);
    assert!(said.err.starts_with("error: `not-there`: ") && said.out.is_empty(), "{said:?}");
}

#[test]
fn test_passes_fails_and_refuses_to_test_nothing() {
    let policies = shown(&of_repository("policies"));
    let said = run(&["policy", "test", &policies]).exits(0);
    let (passed, all) = said.out.trim_end().strip_prefix("PASS: ").and_then(|rest| rest.split_once('/')).unwrap();
    assert_eq!(passed, all);
    let loud = run(&["policy", "test", &policies, "-v", "--run", "stale"]).exits(0);
    assert!(loud.out.lines().count() > 1 && loud.out.contains(": PASS ("), "{loud:?}");
    let said = run(&["policy", "test", &policies, "--run", "no such test at all"]).exits(2);
    assert!(said.err.starts_with("error: no test was run"), "{said:?}");
    let said = run(&["policy", "test", &policies, "--run", "("]).exits(2);
    assert!(said.err.starts_with("error: --run: "), "{said:?}");
    run(&["policy", "test", &spoilt().path("policies")]).exits(1);
    let home = Home::with_own_policies("http://127.0.0.1:9");
    let test = "policies/loopiq/gateway/roles_test.rego";
    home.write(test, &(home.read(test) + "\ntest_that_fails if {\n\tfalse\n}\n"));
    let said = run(&["policy", "test", &home.path("policies")]).exits(1);
    assert!(said.out.contains("test_that_fails: FAIL") && said.out.contains("FAIL: 1/"), "{said:?}");
    assert!(said.err.starts_with("error: 1 of "), "{said:?}");
}

fn input(roles: &[&str]) -> Value {
    json!({
        "schema": 1,
        "phase": "call",
        "caller": {"user": "ada", "tenant": "org_gcn", "roles": roles, "teams": {}, "permissions": [], "scopes": [],
            "client": "", "method": "oauth", "issuer": "https://issuer.example"},
        "tool": {"name": "loopiq_get_release", "family": "release", "effect": "read", "impact": "low",
            "route": "GET /api/v1/releases/{release}"},
        "arguments": {"release": "backend-v1.0-GCN"},
        "context": {"workflow": "", "chain": [], "now_ms": 1_800_000_000_000_i64, "now": "2027-01-15T08:00:00Z"}
    })
}

#[test]
fn eval_answers_as_the_gateway_would_in_words_and_in_json() {
    let home = Home::new("http://127.0.0.1:9");
    let (policies, file) = (shown(&of_repository("policies")), home.path("input.json"));
    for (roles, outcome) in [(["release_manager"], "allow"), (["nothing_of_note"], "deny")] {
        home.write("input.json", &input(&roles).to_string());
        let said = run(&["policy", "eval", &policies, "--input", &file]).exits(0);
        assert_eq!(said.out.lines().next(), Some(outcome), "{said:#?}");
        let json = run(&["policy", "eval", &policies, "--input", &file, "--json"]).exits(0).json();
        assert_eq!(json["outcome"], outcome, "{json:#}");
    }
    home.write("input.json", "{\"phase\": \"call\", \"surprise\": 1}");
    let said = run(&["policy", "eval", &policies, "--input", &file]).exits(2);
    assert!(said.err.contains("not an input: unknown field `surprise`"), "{said:?}");
    run(&["policy", "eval", &policies, "--input", "not-there.json"]).exits(2);
}
