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

/// Each mistake that an edit makes: the rule, its code, its place, and what is said to do.
#[test]
fn check_finds_each_mistake_of_an_edit_with_its_place_and_remedy() {
    let table = [
        ("input.caller.rolls", "unknown_input_field", 2, "did you mean `roles`?"),
        ("\tnot tenant.mcp_enable", "unknown_data_field", 7, "did you mean `mcp_enabled`?"),
        ("time.now_ns() > 5", "impure_builtin", 2, "`input.context.now_ms`"),
        ("io.jwt.decode(\"x\")", "unsupported_builtin", 2, "`input.caller`"),
        ("starts_with(\"x\", \"y\")", "unknown_function", 2, "did you mean `startswith`?"),
        ("startswith(\"x\")", "arity", 2, "give it what it takes"),
        ("input.caller.roles == \"admin\"", "type_clash", 2, "`\"admin\" in input.caller.roles`"),
        ("input.phase == \"cal\"", "impossible_value", 17, "did you mean \"call\"?"),
        ("input.phase == \"list\"; input.phase == \"call\"", "never_holds", 25, "write two rules"),
    ];
    let home = Home::with_own_policies("http://127.0.0.1:9");
    let before = home.read(RULES);
    let line = before.lines().count() + 3;
    for (body, code, column, remedy) in table {
        home.write(RULES, &format!("{before}\nreasons contains {{\"code\": \"x\"}} if {{\n\t{body}\n}}\n"));
        let said = run(&["policy", "check", &home.path("policies"), "--json"]).exits(1);
        let found = said.json();
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{body}: {found:#}");
        let fault = &found[0];
        assert_eq!((&fault["code"], &fault["severity"]), (&json!(code), &json!("error")), "{body}: {found:#}");
        assert_eq!((&fault["line"], &fault["column"]), (&json!(line), &json!(column)), "{body}: {found:#}");
        assert_eq!(fault["path"], "loopiq/gateway/roles.rego", "{body}: {found:#}");
        assert!(fault["remedy"].as_str().is_some_and(|said| said.contains(remedy)), "{body}: {found:#}");
    }
    home.write(RULES, &format!("{before}\nreason contains {{\"code\": \"x\"}} if input.dry_run\n"));
    let said = run(&["policy", "check", &home.path("policies")]).exits(1);
    let place = format!("loopiq/gateway/roles.rego:{}:1: no rule that decides refers to `reason`", line - 1);
    assert!(said.out.starts_with(&place), "{said:#?}");
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[1].ends_with("| reason contains {\"code\": \"x\"} if input.dry_run"), "{said:#?}");
    assert!(lines[2].trim_start().starts_with("| ^^^^^^") && lines[3].contains("did you mean `reasons`?"), "{said:#?}");
}

#[test]
fn check_tells_every_fault_of_every_file_at_once_and_of_tests_too() {
    let home = Home::with_own_policies("http://127.0.0.1:9");
    let (tests, other) = ("policies/loopiq/gateway/roles_test.rego", "policies/loopiq/gateway/tenants.rego");
    let (rules, of_tests, of_other) = (home.read(RULES), home.read(tests), home.read(other));
    home.write(tests, &(of_tests + "\ntest_x if nothing_like_it(1)\n"));
    let found = run(&["policy", "check", &home.path("policies"), "--json"]).exits(1).json();
    assert_eq!(
        (&found[0]["path"], &found[0]["code"]),
        (&json!("loopiq/gateway/roles_test.rego"), &json!("unknown_function"))
    );
    home.write(RULES, &(rules + "\na if {\n\t1 ==\n}\n\nb := [\n\nc := 1 2\n"));
    home.write(other, &(of_other + "\nd if {\n"));
    let found = run(&["policy", "check", &home.path("policies"), "--json"]).exits(1).json();
    let paths: Vec<_> = found.as_array().unwrap().iter().map(|fault| fault["path"].as_str().unwrap()).collect();
    assert!(paths.len() >= 4 && paths.iter().filter(|path| path.ends_with("tenants.rego")).count() == 1, "{found:#}");
    assert!(found.as_array().unwrap().iter().all(|fault| fault["code"] == "parse_error"), "{found:#}");
}

#[test]
fn what_is_only_worth_a_look_is_refused_when_asked_to_be_strict() {
    let home = Home::with_own_policies("http://127.0.0.1:9");
    home.write(RULES, &(home.read(RULES) + "\nreasons contains {\"code\": \"x\"} if input.caller.user == \"eve\"\n"));
    let said = run(&["policy", "check", &home.path("policies")]).exits(0);
    assert!(said.out.contains("roles.rego:") && said.out.contains(": warning: `input.caller.user`"), "{said:#?}");
    let found = run(&["policy", "check", &home.path("policies"), "--json"]).exits(0).json();
    assert_eq!((&found[0]["code"], &found[0]["severity"]), (&json!("named_caller"), &json!("warning")), "{found:#}");
    let found = run(&["policy", "check", &home.path("policies"), "--json", "--strict"]).exits(1).json();
    assert_eq!(found[0]["severity"], "error", "{found:#}");
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
