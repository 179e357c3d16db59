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
    assert!(said.out.contains("roles_test.rego:") && said.out.contains("✗ false"), "{said:?}");
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

/// A bundle of its own, with tests and cases that fail in every way there is.
fn failing() -> Home {
    let home = Home::with_own_policies("http://127.0.0.1:9");
    let test = "policies/loopiq/gateway/roles_test.rego";
    let tests = r#"
test_wrong_code if {
	d := decision with input as call(vic, get_evidence, {})
	not d.allow
	codes(d.reasons) == {"nothing"}
}

test_every if {
	every n in [1, 2, 30] {
		n < 10
	}
}

test_boom if to_number("x") == 1

todo_test_later if false
"#;
    home.write(test, &(home.read(test) + tests));
    let people = "policies/cases/people.yaml";
    let case = "  - {name: wrong of vic, caller: vic, tool: loopiq_search_evidence, expect: {outcome: pending}}\n";
    home.write(people, &(home.read(people) + case));
    home
}

#[test]
fn what_fails_is_told_with_its_condition_its_values_and_its_place() {
    let home = failing();
    let policies = home.path("policies");
    let said = run(&["policy", "test", &policies, "--run", "wrong_code|test_every$|boom|later$|wrong of vic"]).exits(1);
    for words in [
        "test_wrong_code: FAIL (",
        "✗ codes(d.reasons) == {\"nothing\"}",
        "codes(d.reasons) = {\"permission_missing\"}",
        "it does not hold for = [30]",
        "test_boom: ERROR (",
        "could not parse string as number",
        "people.yaml: wrong of vic: FAIL\n  outcome deny, expected pending\n",
        "reasons [permission_missing], expected []",
        "--case \"wrong of vic\"",
        "FAIL: 4/4\nSKIPPED: 1\n",
    ] {
        assert!(said.out.contains(words), "no `{words}` in\n{}", said.out);
    }
    assert!(!said.out.contains('\u{1b}') && !said.out.contains("instead of"), "{}", said.out);
    let shown = ["policy", "test", &policies, "--json", "--run", "wrong_code|later$|wrong of vic"];
    let told = run(&shown).exits(1).json();
    let rows = told.as_array().unwrap();
    let by = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{told:#}"));
    let wrong = by("test_wrong_code");
    assert_eq!((&wrong["package"], &wrong["fail"]), (&json!("data.loopiq.gateway_test"), &json!(true)));
    assert_eq!(wrong["location"]["file"], "loopiq/gateway/roles_test.rego");
    assert!(wrong["location"]["row"].is_u64() && wrong["duration"].is_u64(), "{wrong:#}");
    assert_eq!(wrong["conditions"][0]["conditions"][2]["state"], "failed", "{wrong:#}");
    assert_eq!(by("todo_test_later")["skip"], true);
    assert_eq!(by("wrong of vic")["differences"][0], "outcome deny, expected pending");
    let slow = ["policy", "test", &policies, "--run", "wrong_code", "--timeout", "1ns"];
    assert!(run(&slow).exits(1).out.contains("test_wrong_code: ERROR ("), "a test may not take longer than it may");
    for (wrong, words) in [(&["--timeout", "soon"], "a time with its unit"), (&["--threshold", "101"], "from 0 to 100")]
    {
        let said = run(&[&["policy", "test", &policies][..], wrong].concat()).exits(2);
        assert!(said.err.contains(words), "{said:?}");
    }
}

#[test]
fn coverage_of_the_policies_is_whole_and_a_rule_that_nothing_tests_is_found() {
    let policies = shown(&of_repository("policies"));
    let said = run(&["policy", "test", &policies, "--coverage", "--threshold", "100"]).exits(0);
    assert!(said.out.lines().last().is_some_and(|line| line.starts_with("coverage") && line.ends_with("100.00 %")));
    let home = Home::with_own_policies("http://127.0.0.1:9");
    let rules = "\nreasons contains {\n\t\"code\": \"never\", \"message\": \"<b>m</b>\", \"next\": \"n\",\n} if {\n\tinput.schema == 7\n\tinput.dry_run\n}\n";
    home.write(RULES, &(home.read(RULES) + rules));
    let (policies, page) = (home.path("policies"), home.path("coverage.html"));
    let lines = home.read(RULES).lines().count();
    let words = ["policy", "test", &policies, "--coverage", "--threshold", "100", "--coverage-html", &page];
    let said = run(&words).exits(1);
    let row = said.out.lines().find(|line| line.contains("roles.rego")).unwrap();
    assert!(row.contains("not covered: ") && row.ends_with(&format!("{}", lines - 1)), "{row}");
    assert!(said.err.starts_with("error: coverage is 98.") && said.out.contains("PASS: "), "{said:?}");
    let html = home.read("coverage.html");
    assert!(html.contains("<tr class=\"no\"") && html.contains("&lt;b&gt;m&lt;/b&gt;") && !html.contains("<b>"));
    assert!(!html.contains("src=") && !html.contains("<script") && html.contains("prefers-color-scheme"));
    let told = run(&["policy", "test", &policies, "--coverage", "--json"]).exits(0).json();
    let file = &told["files"]["loopiq/gateway/roles.rego"];
    let last = file["not_covered"].as_array().unwrap().last().unwrap();
    assert_eq!(last["end"]["row"], lines - 1, "{file:#}");
    assert!(told["coverage"].as_f64().is_some_and(|percent| percent > 90.0 && percent < 100.0), "{told:#}");
    assert!(told["files"].as_object().unwrap().keys().all(|path| !path.ends_with("_test.rego")), "{told:#}");
}

#[test]
fn bench_tells_what_each_test_and_case_costs() {
    let policies = shown(&of_repository("policies"));
    let few = ["policy", "test", &policies, "--bench", "--count", "1", "--run", "nobody_gets_nothing|ada reads a cert"];
    let said = run(&few).exits(0);
    assert!(said.out.lines().count() == 3 && said.out.contains("rvm") && said.out.contains("interpreter"), "{said:?}");
    let told = run(&[&few[..], &["--json"]].concat()).exits(0).json();
    let case = &told[1];
    assert_eq!((&case["name"], &case["engine"]), (&json!("ada reads a certification"), &json!("rvm")));
    assert!(case["instructions"].is_u64() && case["cpu_ns_per_op"].is_u64(), "{case:#}");
    run(&["policy", "test", &policies, "--bench", "--count", "1", "--run", "no such test"]).exits(2);
    run(&["policy", "test", &policies, "--count", "1"]).exits(2);
}
