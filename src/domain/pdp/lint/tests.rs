//! The lint as authors meet it: what it finds, where, under which code, and what it leaves alone.

use serde_json::Value;
use serde_json::json;

use super::*;

const ENTRY: &str = "package loopiq.gateway\n\ndecision := {\"allow\": count(no) == 0}\n\n";

/// Faults, then warnings: what `rules` says of one file beside the entry point.
fn linted(data: &Value, schema: Option<&Value>, rules: &str) -> (Vec<BundleFault>, Vec<BundleFault>) {
    let files = [("g.rego".to_owned(), format!("{ENTRY}{rules}\n"))];
    let mut engine = regorus::Engine::new();
    parse(&mut engine, &files).unwrap_or_else(|faults| panic!("{rules}: {faults:#?}"));
    let input = Some(schemars::schema_for!(Input).to_value());
    let found =
        super::rules(engine.get_modules(), &Ground { entry: ENTRY_POINT, input, data, schema: schema.cloned() });
    (found.faults, found.warnings)
}

fn faults(rules: &str) -> Vec<BundleFault> {
    linted(&tables(), Some(&table_schema()), rules).0
}

fn tables() -> Value {
    json!({"tenants": {"a": {"mcp_enabled": true, "tools": {"x": true}, "rank": 1}}, "owners": [{"id": "r", "name": "n"}]})
}

fn table_schema() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {
        "tenants": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": false, "properties": {
            "mcp_enabled": {"type": "boolean"}, "rank": {"type": "integer"}, "kind": {"enum": ["big", "small"]},
            "tools": {"type": "object", "additionalProperties": {"type": "boolean"}}}}},
        "owners": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "string"}}}}}})
}

/// A body, as a no that is reached.
fn no(body: &str) -> String {
    format!("no contains 1 if {{\n\t{body}\n}}")
}

#[track_caller]
fn finds(rules: &str, code: Code, words: &str, remedy: &str) {
    let found = faults(rules);
    assert_eq!(found.len(), 1, "{rules}: {found:#?}");
    assert_eq!((found[0].code, found[0].path.as_str()), (code, "g.rego"), "{rules}: {found:#?}");
    assert!(found[0].line > 4 && found[0].column > 0, "{rules}: {found:#?}");
    assert!(found[0].message.contains(words), "{rules}: {found:#?}");
    assert!(found[0].remedy.contains(remedy), "{rules}: {found:#?}");
}

#[track_caller]
fn leaves_alone(rules: &str) {
    assert_eq!(faults(rules), [], "{rules}");
}

#[test]
fn a_field_that_is_not_there_is_found_wherever_it_comes_from() {
    use Code::UnknownDataField as Data;
    use Code::UnknownInputField as Sent;
    for (body, code, words, remedy) in [
        (
            "input.caller.rolls",
            Sent,
            "no `input.caller.rolls`; `input.caller` has client, issuer",
            "did you mean `roles`?",
        ),
        ("c := input.caller\n\tc.rolls", Sent, "no `c.rolls`", "`roles`"),
        ("some v in input.approval.votes\n\tv.usr == \"x\"", Sent, "no `v.usr`", "`user`"),
        ("every v in input.approval.votes { v.usr }", Sent, "no `v.usr`", "`user`"),
        ("count([v.usr | some v in input.approval.votes]) > 1", Sent, "no `v.usr`", "`user`"),
        ("input.facts[_].tol == \"x\"", Sent, "no `input.facts[…].tol`", "`tool`"),
        ("input.tools.x.famly == \"x\"", Sent, "no `input.tools.x.famly`", "`family`"),
        ("input.caller.user.name", Sent, "`input.caller.user` is a string and has no members", "input.json"),
        ("data.tenants[input.caller.tenant].mcp_enable", Data, "no `data.tenants[…].mcp_enable`", "`mcp_enabled`"),
        ("data.tenants.a.mcp_enable", Data, "`data.tenants.a` has kind, mcp_enabled, rank, tools", "data.json"),
        ("some t in data.tenants\n\tt.mcp_enable", Data, "no `t.mcp_enable`", "`mcp_enabled`"),
    ] {
        finds(&no(body), code, words, remedy);
    }
    let through = |rules: &str, body: &str| format!("{rules}\n\n{}", no(body));
    let tenant = "tenant := data.tenants[input.caller.tenant]";
    finds(&through(tenant, "tenant.mcp_enable"), Data, "no `tenant.mcp_enable`", "`mcp_enabled`");
    let chosen = "tools := input.tools if {\n\tinput.phase == \"list\"\n} else := {input.tool.name: input.tool}";
    finds(&through(chosen, "some t in tools\n\tt.efect"), Sent, "no `t.efect`", "`effect`");
    let asked = "reads(tool) if tool.efect == \"read\"";
    finds(&through(asked, "reads(input.tool)"), Sent, "no `tool.efect`", "`effect`");
    let made = "limits := {\"most\": 5}";
    finds(&through(made, "limits.mst > 1"), Code::UnknownField, "no `limits.mst`; `limits` has most", "`most`");
    finds(&no("not data.tenant.a"), Code::UnknownTable, "no `data.tenant`", "did you mean `data.tenants`?");
}

#[test]
fn an_import_hides_no_misspelt_field() {
    let text = format!("{}{}\n", ENTRY.replace("gateway\n", "gateway\n\nimport input.caler as who\n"), no("who.user"));
    let mut engine = regorus::Engine::new();
    parse(&mut engine, &[("g.rego".to_owned(), text)]).unwrap();
    let input = Some(schemars::schema_for!(Input).to_value());
    let ground = Ground { entry: ENTRY_POINT, input, data: &json!({}), schema: None };
    let found = super::rules(engine.get_modules(), &ground).faults;
    assert!(found.len() == 1 && found[0].message.contains("no `input.caler`"), "{found:#?}");
}

#[test]
fn types_that_never_go_together_are_found() {
    for (body, words, remedy) in [
        (
            "input.caller.roles == \"admin\"",
            "is an array and `\"admin\"` is a string",
            "`\"admin\" in input.caller.roles`",
        ),
        ("\"admin\" == input.caller.roles", "is an array", "`\"admin\" in input.caller.roles`"),
        ("input.caller.roles != \"admin\"", "so they always differ", "\"admin\" in input.caller.roles"),
        ("input.caller.user == 5", "`input.caller.user` is a string and `5` is a number", "same type"),
        ("input.caller.user > 5", "so the one is always the smaller", "same type"),
        ("input.caller.user = null", "so they are never equal", "same type"),
        ("data.tenants.a.rank == \"1\"", "is a number", "same type"),
        ("some t in data.tenants\n\tt.mcp_enabled == \"yes\"", "`t.mcp_enabled` is a boolean", "same type"),
        ("count(input.dry_run) > 1", "`input.dry_run` is a boolean, and `count` takes", "give it a string, an array"),
        ("startswith(input.caller.roles, \"x\")", "and `startswith` takes a string", "some item in input.caller.roles"),
        ("startswith(\"x\", 5)", "`5` is a number", "give it a string"),
        ("lower(count(input.facts)) == \"x\"", "is a number, and `lower` takes a string", "give it a string"),
        ("some r in input.caller.user", "has nothing to go over", "go over an array"),
        ("every r in input.dry_run { r }", "has nothing to go over", "go over an array"),
        ("\"x\" in input.caller.user", "`in` looks into", "`==`"),
        ("5 in input.caller.roles", "in `input.caller.roles` is a string", "same type"),
        ("some r, 5 in input.caller.teams", "in `input.caller.teams` is an array", "same type"),
        ("input.caller.user + 1 > 2", "this takes a number", "`concat` or `sprintf`"),
        ("input.caller.roles - 1 > 2", "this takes a number or a set", "numbers only"),
        ("input.caller.roles.admin", "`input.caller.roles` is a list", "some item in list"),
    ] {
        finds(&no(body), Code::TypeClash, words, remedy);
    }
}

#[test]
fn a_value_that_a_field_never_has_is_found() {
    let text = no("input.phase == \"cal\"");
    finds(
        &text,
        Code::ImpossibleValue,
        "never \"cal\"; it is one of \"call\", \"list\", \"response\"",
        "did you mean \"call\"?",
    );
    for body in [
        "input.phase != \"cal\"",
        "input.phase in {\"call\", \"cal\"}",
        "input.phase in [\"call\", \"cal\"]",
        "p := input.phase\n\tp == \"cal\"",
        "input.tool.effect == \"wirte\"",
        "input.caller.method == \"service-account\"",
        "some t in data.tenants\n\tt.kind == \"huge\"",
        "\"cal\" in {p | p := input.phase}",
    ] {
        finds(&no(body), Code::ImpossibleValue, "is never \"", "");
    }
}

#[test]
fn a_body_that_can_never_hold_is_found() {
    for (body, words) in [
        ("false", "`false` never holds"),
        ("not true", "`not true` never holds"),
        ("1 == 2", "`1 == 2` never holds"),
        ("\"a\" != \"a\"", "never holds"),
        ("input.phase == \"list\"\n\tinput.phase == \"call\"", "cannot be \"list\" and \"call\" at once"),
        ("\"list\" == input.phase\n\tinput.caller.user == \"x\"\n\tinput.phase = \"call\"", "at once"),
        ("input.dry_run == true\n\tinput.dry_run == false", "at once"),
        ("some f in input.facts\n\tf.tool == \"a\"\n\tf.tool == \"b\"", "`f.tool` cannot be"),
        ("count([1 | false]) == 1", "`false` never holds"),
    ] {
        finds(&no(body), Code::NeverHolds, words, "");
    }
    let idle = "a := 1 if {\n\ttrue\n} else := 2 if {\n\tinput.dry_run\n}\n\n";
    finds(&format!("{idle}{}", no("a == 1")), Code::UnreachableElse, "never tried", "before it");
}

#[test]
fn a_rule_that_nothing_needs_is_found_in_the_package_that_decides_and_pointed_out_elsewhere() {
    let text = format!(
        "{}\n\nnot_ contains 1 if input.dry_run\n\nnop contains 2 if helper\n\nhelper if input.dry_run",
        no("input.dry_run")
    );
    let found = faults(&text);
    let names: Vec<_> = found.iter().map(|fault| (fault.line, fault.code)).collect();
    assert_eq!(names, [(9, Code::UnreachableRule), (11, Code::UnreachableRule)], "{found:#?}");
    assert!(found[1].message.contains("`nop`") && found[1].remedy.contains("did you mean `no`?"), "{found:#?}");

    let files = [
        ("g.rego".to_owned(), format!("{ENTRY}{}\n", no("data.lib.used"))),
        ("lib.rego".to_owned(), "package lib\n\nused if input.dry_run\n\nidle if input.dry_run\n".to_owned()),
    ];
    let mut engine = regorus::Engine::new();
    parse(&mut engine, &files).unwrap();
    let ground = Ground { entry: ENTRY_POINT, input: None, data: &json!({}), schema: None };
    let found = super::rules(engine.get_modules(), &ground);
    assert_eq!(found.faults, []);
    assert_eq!(found.warnings.len(), 1, "{:#?}", found.warnings);
    assert!(found.warnings[0].path == "lib.rego" && found.warnings[0].line == 5, "{:#?}", found.warnings);
}

/// What could be right is nobody's business.
#[test]
fn what_may_be_right_is_left_alone() {
    for body in [
        "input.arguments.anything.at.all == 5",
        "input.arguments[x] == \"y\"; x := \"k\"",
        "some x\n\tinput.caller.teams[x][_] == \"lead\"",
        "input.caller.teams.payments[0] == \"lead\"",
        "input.approval == null",
        "input.tool.family == \"release\"",
        "input.phase in {\"call\", \"list\"}",
        "input.phase == \"call\"\n\tinput.phase == \"call\"",
        "input.caller.user == \"a\"\n\tinput.caller.tenant == \"b\"",
        "input.facts[_].tool == \"a\"\n\tinput.facts[_].tool == \"b\"",
        "input.facts[i].tool == \"a\"\n\tinput.facts[j].tool == \"b\"",
        "\"admin\" in input.caller.roles",
        "input.caller.roles == [\"admin\"]",
        "x := {r | some r in input.caller.roles}\n\t\"a\" in x\n\tx - {\"a\"} == set()",
        "count(input.caller.user) > 3",
        "to_number(input.arguments.n) > input.context.now_ms",
        "object.get(input.arguments, \"x\", 5) == \"y\"",
        "input.arguments.n - 1 == {2}",
        "x := [1, \"a\"]\n\tsome y in x\n\ty == \"a\"",
        "m := {\"a\": 1, input.caller.user: \"x\"}\n\tm[input.caller.user] == \"x\"\n\tm.zzz == \"y\"",
        "some t in data.tenants\n\tt.kind == \"big\"",
        "data.tenants.none_yet.mcp_enabled",
        "json.unmarshal(input.caller.user).x == 1",
        "max(input.arguments.l) == \"z\"",
        "1.0 == 1",
        "\"a\" == `a`",
        "input.context.now_ms < 5\n\tinput.context.now_ms == 3",
        "input.schema == 1\n\tnot input.schema == 2",
        "regex.match(`a`, input.caller.user)",
        "some i, r in input.caller.roles\n\ti > 0\n\tr != \"x\"",
        "some team, rs in input.caller.teams\n\tteam == \"x\"\n\t\"lead\" in rs",
        "time.clock([input.context.now_ms, \"UTC\"])[0] > 3",
    ] {
        leaves_alone(&no(body));
    }
    let through = |rules: &str, body: &str| leaves_alone(&format!("{rules}\n\n{}", no(body)));
    through("mode := \"a\" if input.dry_run\n\nmode := 5 if not input.dry_run", "mode == \"a\"");
    through("f(x) := x.y if is_object(x)", "f({\"y\": 1}) == 1\n\tf(input.arguments) == 2");
    through("f(x) if x == 5\n\nf(x) if x == \"a\"", "f(5)\n\tf(\"a\")");
    through("o[k] := v if some k, v in {\"a\": 1}", "o.b == 1");
    through("r := x if x := input.caller with input as {\"caller\": {\"x\": 1}}", "r.x == 1");
    through("a := 1 if input.dry_run\nelse := 2", "a == 1");
    // Rego's style guide names what is a package's own business so.
    through("_own := input.caller.user\n\n_is(x) if x == \"a\"", "_is(_own)\n\tinput.caller.teams[_own]");
    through(
        "f(\"a\", x) := x\n\nf({\"k\": [x, input.tool.name]}, 1) := x",
        "f(\"a\", 2) == 2\n\tf({\"k\": [2, \"t\"]}, 1) == 2",
    );
    through(
        "f(_x, [_, y]) := y",
        "f(1, [2, 3]) == 3\n\t_a := 5\n\t_a == 5\n\t_b = 3\n\tinput.caller.roles[_i] == \"x\"",
    );
}

/// Data without a schema tells types only: rows and fields come and go.
#[test]
fn data_without_a_schema_tells_types_and_no_names() {
    let data = tables();
    let found = |body: &str| linted(&data, None, &no(body)).0;
    assert_eq!(found("data.tenants.a.mcp_enable"), []);
    assert_eq!(found("data.tenants.other.rank == \"x\""), []);
    let clash = found("data.tenants[input.caller.tenant].rank == \"x\"");
    assert_eq!(clash[0].code, Code::TypeClash, "{clash:#?}");
}

#[test]
fn a_list_that_is_searched_is_pointed_out() {
    let data = tables();
    let warned = |body: &str| linted(&data, None, &no(body)).1;
    for body in [
        "some o in data.owners\n\to.id == input.arguments.release",
        "some o in data.owners\n\tinput.arguments.release == o.id",
        "owners := data.owners\n\tsome o in owners\n\to.id = input.arguments.release",
    ] {
        let found = warned(body);
        assert_eq!(found.len(), 1, "{body}: {found:#?}");
        assert!(
            found[0].code == Code::SlowLayout && found[0].remedy.contains("an object by `id`"),
            "{body}: {found:#?}"
        );
    }
    for body in [
        "some o in data.owners\n\to.id == \"r\"",
        "some o in data.owners\n\to.id == o.name",
        "some f in input.facts\n\tf.tool == input.tool.name",
        "some id, t in data.tenants\n\tt.rank == input.schema",
    ] {
        assert_eq!(warned(body), [], "{body}");
    }
}

/// Each name stands for the one before it twice: whoever follows them all never comes back.
#[test]
fn names_that_stand_for_names_end() {
    let rules = (1..40).map(|n| format!("a{n} := [a{0}, a{0}]\n", n - 1)).collect::<Vec<_>>().concat();
    let body = (1..60).map(|n| format!("x{n} := [x{0}, x{0}]\n\t", n - 1)).collect::<Vec<_>>().concat();
    let text = format!("x0 := input.caller.user\n\t{body}x59 == a39");
    leaves_alone(&format!("a0 := [input.caller.user]\n{rules}\n{}", no(&text)));
}

/// `p[q].r contains s` beside `p.b.r contains "foo"`: neither engine gives what OPA gives.
#[test]
fn sets_below_a_name_that_several_rules_fill_are_refused() {
    let looked_up = "p[q].r contains s if {\n\tsome q in [\"a\", \"b\"]\n\tsome s in [\"c\"]\n}";
    let mixed = format!("{looked_up}\n\np.b.r contains \"foo\"\n\n{}", no("p.b.r.c"));
    finds(&mixed, Code::UnsupportedSyntax, "below `p`", "one plain name");
    leaves_alone(&format!("{looked_up}\n\n{}", no("p.b.r.c")));
    leaves_alone(&format!("p.a contains 1\n\np.b contains 2\n\n{}", no("p.b[2]")));
}
