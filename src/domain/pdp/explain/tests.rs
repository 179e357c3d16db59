//! Explanations of small bundles, one form of Rego at a time.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use serde_json::json;

use super::*;
use crate::domain::pdp::explain::changes::Change;

/// A decision that is denied for whatever `reasons` has; `rules` fill it.
fn bundle(rules: &str, data: &Json) -> Bundle {
    let text = format!(
        "package loopiq.gateway\n\
         decision := {{\"allow\": count(reasons) == 0, \"reasons\": reasons, \"obligations\": [], \"visible\": [input.tool.name]}}\n\
         reasons contains {{\"code\": \"permission_missing\", \"message\": \"no roles\", \"next\": \"ask\"}} if count(input.caller.roles) == 0\n\
         {rules}\n"
    );
    let mut files = vec![("p.rego".to_owned(), text.into_bytes())];
    for (name, table) in data.as_object().unwrap() {
        files.push((format!("data/{name}.json"), table.to_string().into_bytes()));
    }
    Bundle::from_files(files).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn input() -> Input {
    serde_json::from_value(json!({
        "schema": 1, "phase": "call",
        "caller": {"user": "vic", "issuer": "i", "tenant": "org", "roles": ["viewer"], "teams": {}, "permissions": [],
            "scopes": [], "client": "", "method": "oauth"},
        "tool": {"name": "t", "family": "evidence", "effect": "read", "impact": "low", "route": "GET /x"},
        "arguments": {"n": 3, "list": [1, 2, 30], "text": "abc"},
        "context": {"workflow": "", "chain": [], "now_ms": 1, "now": "1970-01-01T00:00:00.001Z"}
    }))
    .unwrap()
}

fn explained(rules: &str, data: &Json, input: &Input) -> Explanation {
    let bundle = bundle(rules, data);
    let pdp = Pdp::load(&bundle).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let mut explainer = Explainer::load(&bundle).unwrap_or_else(|fault| panic!("{fault}"));
    explainer.explain(&pdp, &bundle, input, false)
}

/// A rule that says no when `condition` holds.
fn no_if(condition: &str) -> String {
    format!("reasons contains {{\"code\": \"no\", \"message\": \"m\", \"next\": \"n\"}} if {{\n{condition}\n}}\n")
}

/// Every condition told, nested ones too: mark, text, values.
fn lines(told: &[Told]) -> Vec<String> {
    let mut all = Vec::new();
    for one in told {
        for tried in &one.conditions {
            let mark = match tried.state {
                State::Held => "+",
                State::Failed => "-",
                State::Error => "!",
                State::NotReached => continue,
            };
            let values: Vec<String> =
                tried.values.iter().map(|valued| format!("{} = {}", valued.what, valued.value)).collect();
            all.push(format!("{mark} {} | {}", tried.text, values.join("; ")));
            all.extend(lines(&tried.because));
        }
    }
    all
}

fn why(rules: &str, data: &Json) -> Vec<String> {
    let told = explained(rules, data, &input());
    let given = told.reasons.iter().find(|given| given.code == "no").unwrap_or_else(|| panic!("{told:#?}"));
    lines(&[given.because.clone().unwrap_or_else(|| panic!("{told:#?}"))])
}

#[track_caller]
fn tells(lines: &[String], line: &str) {
    assert!(lines.iter().any(|one| one == line), "no `{line}` in\n{}", lines.join("\n"));
}

#[test]
fn the_missing_entry_of_a_table_is_named_with_its_place_in_the_data() {
    let rules = no_if(
        "some name in [input.tool.family]\npermission := sprintf(\"%s:read\", [name])\nnot permission in granted",
    ) + "granted contains permission if {\nsome role in input.caller.roles\nsome permission, true in data.roles[role].permissions\n}\n";
    let told = why(&rules, &json!({"roles": {"viewer": {"permissions": {"release:read": true}}}}));
    tells(&told, "+ some role in input.caller.roles | role = \"viewer\"");
    tells(
        &told,
        "- some permission, true in data.roles[role].permissions | data.roles.viewer.permissions[\"evidence:read\"] = undefined",
    );
}

#[test]
fn a_reference_through_another_rule_is_named_by_where_it_leads() {
    let rules =
        no_if("not on") + "tenant := data.tenants[input.caller.tenant]\non if tenant.tools[input.tool.name] == true\n";
    let told = why(&rules, &json!({"tenants": {"org": {"tools": {}}}}));
    tells(
        &told,
        "- tenant.tools[input.tool.name] == true | data.tenants.org.tools.t = undefined; input.tool.name = \"t\"",
    );
    let told = why(&rules, &json!({"tenants": {"other": {}}}));
    assert!(told.iter().any(|line| line.contains("data.tenants.org = undefined")), "{told:#?}");
}

#[test]
fn every_form_of_a_body_is_taken_apart() {
    let none = json!({});
    let told = why(
        &(no_if("not all_small") + "all_small if {\nevery x in input.arguments.list {\n x < 10 # small\n}\n}\n"),
        &none,
    );
    assert!(told.iter().any(|line| line.contains("it does not hold for = [30]")), "{told:#?}");
    for nothing in ["_ = input.arguments.n", "[_, 3] = [1, input.arguments.n]", "input.arguments.list[_] == 30"] {
        let told = why(&no_if(&format!("{nothing}\ninput.arguments.n == 3")), &none);
        assert!(told.iter().all(|line| line.starts_with('+')), "{nothing}: {told:#?}");
    }
    let told = why(&(no_if("not big") + "big if {\n some i\n input.arguments.list[i] > 99\n}\n"), &none);
    assert!(told.iter().any(|line| line.contains("one of [1, 2, 30]")), "{told:#?}");
    let told = why(
        &(no_if("level == \"none\"")
            + "level := \"high\" if {\n input.arguments.n > 10\n} else := \"low\" if {\n input.arguments.n > 5\n} else := \"none\"\n"),
        &none,
    );
    tells(&told, "+ level == \"none\" | level = \"none\"");
    let told = why(
        &(no_if("not few({\"a\": [1, 2, 3]})") + "few(thing) if {\n count([x | some x in thing.a; x > 1]) < 2\n}\n"),
        &none,
    );
    assert!(told.iter().any(|line| line.contains("= 2;") && line.starts_with("- count(")), "{told:#?}");
    let told = why(&(no_if("not pair([1, 2])") + "pair([a, b]) if {\n a == b\n}\n"), &none);
    tells(&told, "- a == b | a = 1; b = 2");
    let told = why(&(no_if("not late") + "late if {\n x > 5\n x = input.arguments.n\n}\n"), &none);
    tells(&told, "- x > 5 | x = 3");
    let text = "not odd\n# \"quoted { brace\nx := {\"a\": 1, # { one\n \"b\": [\"]\"]}\nx.b[0] == \"]\"";
    let told = why(&(no_if(text) + "odd if input.arguments.text == `xyz`\n"), &none);
    tells(&told, "- input.arguments.text == `xyz` | input.arguments.text = \"abc\"");
}

#[test]
fn what_is_told_of_a_body_is_what_the_body_does_whatever_its_names_and_order() {
    for (body, holds) in [
        ("x = input.arguments.list[_]\nx > 20", true),
        ("x = input.arguments.list[_]\nx > 30", false),
        ("y > 2\nx = [y, 4]\nx[0] == 3\ny = input.arguments.n", true),
        ("split(input.arguments.text, \"b\", parts)\ncount(parts, n)\nn == 2", true),
        ("-3.5\ninput.schema == 1", true),
        ("sums := [y | some x in input.arguments.list; y = x + 1]\nsums[i] == 31\ni == 1", false),
        ("all := {k: [v | v = input.arguments.list[j]; j >= 0] | input.arguments[k]}\nall.text == [1, 2, 30]", true),
        ("some i, j\ninput.arguments.list[i] == input.arguments.list[j]\ni != j", false),
        ("a := {\"x\": {\"y\": 1}, \"z\": set()}\na.z == set()\na[\"x\"][\"y\"] == 1", true),
        ("input.arguments.n == 3; input.arguments.text != \"x\"; not input.dry_run", true),
        ("old.text == \"abc\"\nhere.n > 3", false),
    ] {
        let rules = format!(
            "import input.arguments as old\nimport data.table as here\ndecision := {{\"allow\": true, \"reasons\": reasons, \
             \"obligations\": [], \"visible\": []}}\nreasons contains \"r\" if {{\n{body}\n}}\n"
        );
        let text = format!("package loopiq.gateway\n{rules}");
        let data = Value::from(json!({"table": {"n": 3}}));
        let (mut engine, files) = (regorus::Engine::new(), [("p.rego".to_owned(), text)]);
        lint::parse(&mut engine, &files).unwrap_or_else(|faults| panic!("{body}: {faults:#?}"));
        engine.add_data(data).unwrap();
        let mut explainer = Explainer::of(&mut engine, "data.loopiq.gateway.reasons").unwrap();
        let told = explainer.rule(serde_json::to_value(input()).unwrap().into());
        assert_eq!(told.len(), 1, "{body}: {told:#?}");
        assert!(told[0].held == holds && told[0].note.is_empty(), "{body}: {told:#?}");
        let stopped = told[0].conditions.iter().filter(|tried| tried.state == State::Failed).count();
        assert_eq!(stopped, usize::from(!holds), "{body}: {told:#?}");
        assert!(told[0].conditions.iter().all(|tried| tried.error.is_none()), "{body}: {told:#?}");
    }
}

#[test]
fn what_a_function_fails_on_is_told_and_ends_nothing() {
    let told = explained(
        &(no_if("input.arguments.n == 3") + &no_if("to_number(input.arguments.text) > 1")),
        &json!({}),
        &input(),
    );
    assert_eq!(told.outcome, Outcome::Deny);
    let all = lines(&told.rules);
    assert!(all.iter().any(|line| line.starts_with("! to_number(input.arguments.text) > 1")), "{told:#?}");
}

#[test]
fn a_value_of_any_size_is_cut_and_names_with_odd_letters_are_quoted() {
    let mut long = input();
    long.arguments.insert("text".to_owned(), json!("x".repeat(200_000)));
    long.arguments.insert("\u{1b}[2J".to_owned(), json!("\u{202e}"));
    let rules = no_if("input.arguments.text != \"\"\nsome key, value in input.arguments\nis_string(value)");
    let told = explained(&rules, &json!({}), &long);
    let size = serde_json::to_string(&told).unwrap().len();
    assert!(size < 10_000, "{size}");
    let all = lines(&[told.reasons[0].because.clone().unwrap()]);
    assert!(all[0].ends_with('…'), "{}", all[0]);
}

#[test]
fn an_allowed_call_is_explained_by_the_rules_that_said_nothing() {
    let rules = no_if("some h in hidden\nh == input.tool.name")
        + "hidden contains name if {\n some name, true in data.hidden\n}\n";
    let told = explained(&rules, &json!({"hidden": {"other": true}}), &input());
    assert_eq!((told.outcome, told.changes.is_none()), (Outcome::Allow, true));
    let all = lines(&told.rules);
    tells(&all, "- h == input.tool.name | h = \"other\"; input.tool.name = \"t\"");
}

#[test]
fn a_decision_without_reasons_is_explained_by_what_it_rests_on() {
    let text = "package loopiq.gateway\ndecision := {\"allow\": ok, \"reasons\": [], \"obligations\": [], \"visible\": []} if {\n\
                input.schema == 1\n}\ndefault ok := false\nok if \"admin\" in input.caller.roles\n";
    let bundle = Bundle::from_files(vec![("p.rego".to_owned(), text.into())]).unwrap();
    let pdp = Pdp::load(&bundle).unwrap();
    let told = Explainer::load(&bundle).unwrap().explain(&pdp, &bundle, &input(), false);
    assert_eq!(told.outcome, Outcome::Deny);
    let all = lines(&told.rules);
    tells(&all, "- \"admin\" in input.caller.roles | input.caller.roles = [\"viewer\"]");
    let undefined = Input { schema: 2, ..input() };
    let told = Explainer::load(&bundle).unwrap().explain(&pdp, &bundle, &undefined, false);
    tells(&lines(&told.rules), "- input.schema == 1 | input.schema = 2");
}

#[test]
fn a_change_is_named_only_if_it_was_tried_and_does_it() {
    let data = json!({"roles": {"viewer": {}, "boss": {}, "sham": {}}, "allow": {"boss": true}});
    let rules = no_if("not allowed") + "allowed if {\nsome role in input.caller.roles\ndata.allow[role] == true\n}\n";
    let changes = explained(&rules, &data, &input()).changes.unwrap();
    let boss = vec![Change::Role { role: "boss".to_owned() }];
    let path = vec!["allow".to_owned(), "viewer".to_owned()];
    let edit = vec![Change::Data { path, reference: "data.allow.viewer".to_owned() }];
    assert_eq!((changes.allow, changes.pending), (vec![boss, edit], Vec::new()));
    let both = no_if("not allowed") + "allowed if {\n\"boss\" in input.caller.roles\ninput.dry_run == true\n}\n";
    let changes = explained(&both, &data, &input()).changes.unwrap();
    assert_eq!(changes.allow, [vec![Change::DryRun, Change::Role { role: "boss".to_owned() }]]);
    let never = explained(&no_if("input.schema == 1"), &data, &input()).changes.unwrap();
    assert!(never.allow.is_empty() && never.pending.is_empty() && never.tried > 0, "{never:?}");
}

#[test]
fn the_work_is_bounded_whatever_the_bundle() {
    use std::fmt::Write as _;
    let mut rules = no_if("not r0; not r0_a");
    for n in 0..40 {
        let _infallible = writeln!(rules, "r{n} if {{\n not r{}_a\n r{}\n}}\nr{n}_a if r{}\n", n + 1, n + 1, n + 1);
    }
    rules += "r40 if input.arguments.n == 4\nr40_a if r40\n";
    let told = explained(&rules, &json!({}), &input());
    assert!(serde_json::to_string(&told).unwrap().len() < 200_000);
    let many: BTreeMap<String, bool> = (0..3_000).map(|n| (format!("role_{n}"), true)).collect();
    let told = explained(&no_if("not data.allow.x"), &json!({"roles": many, "allow": {}}), &input());
    assert!(told.changes.unwrap().tried < 1_000);
}
