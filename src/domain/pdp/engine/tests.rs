//! The engine under bad policies: each must end in a deny with its own code, or be refused.

use serde_json::json;

use super::*;
use crate::domain::pdp::bundle::code::Code;

const BASE: &str = r#"package loopiq.gateway

decision := {"allow": allow, "reasons": reasons, "obligations": obligations, "visible": visible}

default allow := false

allow if input.tool.name == "good"

visible contains input.tool.name if allow

reasons contains {"code": "no", "message": "no", "next": "no"} if not allow

obligations contains {"type": "audit", "mode": "durable"}
"#;

fn bundle(files: &[(&str, &str)]) -> Bundle {
    Bundle::from_files(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
        .unwrap()
}

fn load(text: &str) -> Result<Pdp, Vec<BundleFault>> {
    Pdp::compile(&bundle(&[("loopiq/gateway/decision.rego", text)]), &BTreeMap::new())
}

fn base_and(more: &str) -> Result<Pdp, Vec<BundleFault>> {
    load(&format!("{BASE}\n{more}"))
}

/// A rule that would be reached by an input that never comes, and that refers to `names`.
fn reaching(names: &[&str]) -> String {
    format!("reasons contains {{\"code\": \"x\"}} if {{\n\tinput.schema == 9\n\t{}\n}}\n", names.join("\n\t"))
}

fn input(tool: &str) -> Input {
    serde_json::from_value(json!({
        "schema": 1,
        "phase": "call",
        "caller": {"user": "ada", "issuer": "https://issuer.example", "tenant": "org", "roles": [], "teams": {}, "permissions": [], "scopes": [], "client": "",
                   "method": "oauth"},
        "tool": {"name": tool, "family": "release", "effect": "read", "impact": "low", "route": "GET /x"},
        "arguments": {"empty": "", "n": 3},
        "context": {"workflow": "", "chain": [], "now_ms": 1_790_000_000_000_i64, "now": "2026-09-21T14:13:20Z"},
    }))
    .unwrap()
}

#[track_caller]
fn faults_with(pdp: &Pdp, tool: &str, fault: Fault) {
    let ruling = pdp.decide(&input(tool));
    assert_eq!(ruling.outcome(), Outcome::Deny, "{}", ruling.detail());
    assert_eq!(ruling.fault(), Some(fault), "{}", ruling.detail());
    assert!(ruling.visible().is_empty() && ruling.obligations().is_empty());
    assert_eq!(ruling.reasons()[0].code, fault.as_str());
}

#[test]
fn a_pdp_is_shared_by_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Pdp>();
}

#[test]
fn a_plain_policy_allows_and_denies_on_both_engines() {
    let pdp = base_and("").unwrap();
    assert_eq!(pdp.engine(), Engine::Rvm, "{:?}", pdp.notes());
    for engine in [Engine::Rvm, Engine::Interpreter] {
        assert_eq!(pdp.decide_on(engine, &input("good")).outcome(), Outcome::Allow);
        assert_eq!(pdp.decide_on(engine, &input("other")).outcome(), Outcome::Deny);
    }
}

/// Every form that the virtual machine gets silently wrong, and whether the interpreter allows it.
#[test]
fn each_form_that_the_machine_gets_wrong_goes_to_the_interpreter_and_is_decided_right() {
    let lib = "package lib\n\nopen := true\n";
    let table: &[(&str, &str, bool)] = &[
        // The fail-open one: the machine ignores the default, and `not` allows.
        (
            "default function",
            "default blocked(_) := true\nblocked(x) := false if x == \"nobody\"\nallow if not blocked(input.caller.user)",
            false,
        ),
        ("computed default", "default ones := [x | some x in [1]]\nallow if count(ones) == 1", true),
        ("dotted head", "m.a := 1\nallow if m.a == 1", true),
        ("dotted head, deeper", "a.b.c := true\nallow if a.b.c", true),
        (
            "head with two brackets",
            "p[x][y] := 1 if { some x in [\"q\"]; some y in [\"r\"] }\nallow if p.q.r == 1",
            true,
        ),
        ("set under a key", "p[q] contains r if { some q in [\"a\"]; some r in [\"b\"] }\nallow if \"b\" in p.a", true),
        ("number as index", "allow if data.nested[2]", true),
        ("`with`", "allow if helper with input.dry_run as true\nhelper if input.dry_run", true),
        ("object rule", "o[k] := v if some k, v in {\"a\": 1}\nallow if o.a == 1", true),
        (
            "definitions that may disagree",
            "blocked := true if input.schema == 1\nblocked := false if input.phase == \"list\"\nallow if not blocked",
            false,
        ),
        (
            "definitions whose `else` may disagree",
            "blocked if input.schema == 2\nelse := true\nblocked if input.schema == 3\nelse := false\nallow if not blocked",
            false,
        ),
        ("value from a loop", "first := x if some x in [1]\nallow if first == 1", true),
        ("value from an index that is free", "first := [1, 1][i]\nallow if first == 1", true),
    ];
    for (name, rules, allows) in table {
        let text = BASE.replace("allow if input.tool.name == \"good\"", rules);
        // A policy that lets everybody in is refused by the self-test, so compile without it.
        let pdp = Pdp::load(&bundle(&[
            ("loopiq/gateway/decision.rego", &text),
            ("lib.rego", lib),
            ("data/nested.json", "{\"2\": true}"),
        ]))
        .unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_eq!(pdp.engine(), Engine::Interpreter, "{name} is left to the machine");
        assert!(!pdp.notes().is_empty(), "{name} goes without a note");
        let ruling = pdp.decide(&input("x"));
        assert_eq!(ruling.outcome() == Outcome::Allow, *allows, "{name}: {ruling:?}");
    }
}

/// The interpreter reads `lib.hidden` when the first file has filled it, and so sees nothing hidden.
#[test]
fn a_whole_package_is_refused_because_neither_engine_reads_it_right() {
    let one = "package lib\n\nhidden contains 1 if input.schema == 2\n\nshown := count(hidden) == 0\n";
    let two = "package lib\n\nhidden contains 2 if input.schema == 1\n";
    let table = [
        ("reference", "allow if data.lib == {}"),
        ("a name for it", "lib := data.lib\nallow if lib.shown"),
        ("loop", "names := [k | some k, _ in data.lib]\nallow if \"shown\" in names"),
        ("index", "allow if data.lib[input.caller.user]"),
        ("all data", "allow if data[input.caller.user].x"),
        ("import", "import data.lib\nallow if lib.shown"),
        ("import under a name", "import data.lib as l\nallow if l.shown"),
        ("import of all data", "import data as d\nallow if d.lib.shown"),
    ];
    for (name, rules) in table {
        let (imports, rules) = match rules.split_once('\n') {
            Some((first, rest)) if first.starts_with("import") => (first, rest),
            _ => ("", rules),
        };
        let text = BASE.replace("package loopiq.gateway\n", &format!("package loopiq.gateway\n{imports}\n"));
        let text = format!("{text}\n{rules}\n");
        let files = [("g.rego", text.as_str()), ("lib1.rego", one), ("lib2.rego", two)];
        let faults = Pdp::compile(&bundle(&files), &BTreeMap::new()).expect_err(name);
        assert!(faults.iter().any(|fault| fault.message.contains("whole package")), "{name}: {faults:?}");
    }
    let text = format!("{BASE}\nallow if data.lib.shown\n");
    let pdp =
        Pdp::compile(&bundle(&[("g.rego", &text), ("lib1.rego", one), ("lib2.rego", two)]), &BTreeMap::new()).unwrap();
    for engine in [Engine::Rvm, Engine::Interpreter] {
        assert_eq!(pdp.decide_on(engine, &input("x")).outcome(), Outcome::Deny, "{engine:?}");
    }
}

#[test]
fn rules_that_contradict_each_other_are_a_conflict() {
    let pdp = base_and("mode := \"a\" if input.tool.name in {\"bad\", \"fine\"}\nmode := \"b\" if input.tool.name == \"bad\"\nobligations contains {\"type\": \"limit\", \"class\": mode}").unwrap();
    faults_with(&pdp, "bad", Fault::Conflict);
    assert_eq!(pdp.decide(&input("fine")).fault(), None);
}

#[test]
fn what_would_end_the_process_is_refused_before_it_runs() {
    let chain: String =
        (0..600).map(|n| format!("r{n} if r{}\n", n + 1)).chain(["r600 := true\n".to_owned()]).collect();
    let functions: String =
        (0..600).map(|n| format!("f{n}(x) := f{}(x)\n", n + 1)).chain(["f600(x) := x\n".to_owned()]).collect();
    let nested = format!("x := {}{}", "[\n".repeat(9_000), "]\n".repeat(9_000));
    let signs = format!("x := {}1", "-\n".repeat(9_000));
    let sum = format!("x := 1{}", " +\n1".repeat(15_000));
    let table = [
        ("mutual recursion", "a if b\nb if a".to_owned(), "circle"),
        ("recursion through the entry", "reasons contains {\"code\": \"x\"} if decision.allow".to_owned(), "circle"),
        ("recursive function", "f(x) := f(x - 1)\ny := f(3)".to_owned(), "circle"),
        ("recursion through a package", "a if data.loopiq.gateway.b\nb if data.loopiq.gateway.a".to_owned(), "circle"),
        ("recursion through a name", "a if data.loopiq.gateway[input.caller.user]".to_owned(), "circle"),
        ("recursion in a comprehension", "a := [x | x := b]\nb := {x | some x in a}".to_owned(), "circle"),
        ("recursion in `every`", "a if every x in [1] { b; x }\nb if a".to_owned(), "circle"),
        ("recursion of names that begin with `_`", "_a if _b\n_b if _a".to_owned(), "circle"),
        (
            "recursion in what an argument is compared with",
            "f([it.x, _]) := true\nit := {\"x\": f([1, 2])}".to_owned(),
            "circle",
        ),
        ("a set that needs itself", "s contains x if some x in s".to_owned(), "circle"),
        ("rule chain", chain, "chain of"),
        ("function chain", functions, "chain of"),
        ("nesting", nested, "nested deeper"),
        ("signs", signs, "minus signs"),
        ("sum", sum, "operators"),
        ("unknown function", "a := nothing.like_it(1)".to_owned(), "no function"),
        (
            "unknown function that nothing calls",
            "a if { false; crypto.sha256(\"x\") == \"y\" }".to_owned(),
            "does not run",
        ),
        ("too few arguments", "a := startswith(\"x\")".to_owned(), "takes 2"),
        ("too many arguments", "f(x) := x\na := f(1, 2, 3)".to_owned(), "takes 1"),
        ("a rule that is called", "f := 1\na := f(1)".to_owned(), "not a function"),
        ("clock", "a := time.now_ns()".to_owned(), "not allowed"),
        (
            "clock that an argument is compared with",
            "f([time.now_ns()]) := true\na if f([1])".to_owned(),
            "not allowed",
        ),
        ("chance", "a := rand.intn(\"x\", 5)".to_owned(), "not allowed"),
        ("print", "a if print(input)".to_owned(), "own output"),
        ("misspelt input", "a if not input.tol.name == \"x\"".to_owned(), "no `input.tol`"),
        ("misspelt input, deeper", "a if not input.caller.rolls".to_owned(), "no `input.caller.rolls`"),
        ("member of a name", "a if not input.caller.user.name".to_owned(), "no members"),
        ("syntax", "a := {".to_owned(), ""),
        ("unsafe variable", "a := x if y == 1".to_owned(), ""),
    ];
    for (name, rules, words) in table {
        let faults = base_and(&rules).expect_err(name);
        assert!(faults.iter().any(|fault| fault.message.contains(words)), "{name}: {faults:?}");
        assert!(faults.iter().all(|fault| !fault.remedy.is_empty()), "{name}: {faults:?}");
        assert!(faults.iter().all(|fault| fault.line > 0), "{name} has no place: {faults:?}");
    }
}

/// Instructions and time are not counted inside a function: one call filled the memory.
#[test]
fn a_function_whose_answer_has_no_bound_is_refused() {
    let table = [
        ("range to what was sent", "a := numbers.range(1, input.arguments.n)", "not written out"),
        ("range to a name", "a := x if { n := 9; x := numbers.range(1, n) }", "not written out"),
        ("range that is long", "a := numbers.range(-20000, 2)", "more than 10000"),
        ("range with steps", "a := numbers.range_step(0, input.arguments.n, 1)", "not written out"),
        (
            "range in a condition that the self-test misses",
            "a if { input.caller.tenant == \"x\"; count(numbers.range(1, 2000000000)) > 1 }",
            "more than 10000",
        ),
        ("width", "a := sprintf(\"%999999999d\", [1])", "width of more than 100"),
        ("zeros", "a := sprintf(`%0101d`, [1])", "width of more than 100"),
        ("precision", "a := sprintf(\"%.5000f\", [1.5])", "width of more than 100"),
        ("width beyond counting", "a := sprintf(\"%99999999999999d\", [1])", "width of more than 100"),
        ("width in other digits", "a := sprintf(\"%1²d\", [1])", "width of more than 100"),
        ("format that was sent", "a := sprintf(input.arguments.f, [1])", "not written out"),
        ("shift", "a := bits.lsh(1, input.arguments.n)", "shifts by"),
        ("long shift", "a := bits.lsh(1, 4000000000)", "shifts by"),
        ("network", "a := net.cidr_expand(input.arguments.net)", "every address"),
        ("delimiter", "a := concat(input.arguments.d, [\"x\", \"y\"])", "delimiter"),
        ("replacement", "a := replace(input.arguments.a, \"\", input.arguments.b)", "replacement"),
        ("replacement by pattern", "a := regex.replace(input.arguments.a, \"\", input.arguments.b)", "replacement"),
        ("replacements", "a := strings.replace_n(input.arguments.a, input.arguments.b)", "replacements"),
        ("indent", "a := json.marshal_with_options(input, input.arguments)", "options"),
    ];
    for (name, rules, words) in table {
        let faults = base_and(rules).expect_err(name);
        assert!(faults.iter().any(|fault| fault.message.contains(words) && fault.line > 0), "{name}: {faults:?}");
    }
    let written = "a := numbers.range(1, 600)\nb := sprintf(\"100%% of %5d and %.2f\", [1, 2])\nc := bits.lsh(1, 8)\n\
         d := replace(input.caller.user, \"@\", \" at \")\ne := replace(\"hello {user}\", \"{user}\", input.caller.user)\n";
    base_and(&format!("{written}{}", reaching(&["a", "b", "c", "d", "e"]))).unwrap();
}

/// A misspelt table is undefined for ever: `not data.frozn[x]` allowed everything.
#[test]
fn a_misspelt_table_is_refused_with_its_place() {
    let with = |rule: &str| {
        let text = format!("{BASE}\n{rule}\n{}", reaching(&["a"]));
        let files =
            [("g.rego", text.as_str()), ("lib.rego", "package lib\n\nopen := true\n"), ("data/frozen.yaml", "a: 1")];
        Pdp::compile(&bundle(&files), &BTreeMap::new())
    };
    for right in
        ["a if not data.frozen.b", "a if data.lib.open", "a if data.loopiq.gateway.allow", "a if data[\"frozen\"].a"]
    {
        with(right).unwrap_or_else(|faults| panic!("{right}: {faults:?}"));
    }
    for wrong in ["a if not data.frozn.b", "a if not data[\"frozn\"]", "a if not data.frozn[input.caller.user]"] {
        let faults = with(wrong).expect_err(wrong);
        assert_eq!((faults[0].path.as_str(), faults[0].line), ("g.rego", 15), "{wrong}: {faults:?}");
        assert!(faults[0].message.contains("no `data.frozn`; `data` has frozen, lib, loopiq"), "{wrong}: {faults:?}");
        assert!(faults[0].remedy.contains("data/frozn.yaml"), "{wrong}: {faults:?}");
    }
}

#[test]
fn a_rule_that_knows_a_person_by_name_is_pointed_out() {
    for named in [
        "a if input.caller.user == \"ada\"",
        "a if \"inspector\" != input.caller.client",
        "a if input.caller.user in {\"ada\", \"ben\"}",
        "a if \"ada\" = input.caller.user",
    ] {
        let pdp = base_and(&format!("{named}\n{}", reaching(&["a"]))).unwrap();
        assert_eq!(pdp.warnings().len(), 1, "{named}: {:?}", pdp.warnings());
        assert!(pdp.warnings()[0].line == 15 && pdp.warnings()[0].message.contains("input.caller."), "{named}");
        assert_eq!(pdp.engine(), Engine::Rvm, "a warning changes nothing");
    }
    let plain = "a if input.caller.user in input.caller.roles\nb if input.caller.tenant == \"x\"\nc if \"x\" in input.caller.roles";
    let plain = format!("{plain}\n{}", reaching(&["a", "b", "c"]));
    assert!(base_and(&plain).unwrap().warnings().is_empty());
}

#[test]
fn free_parts_of_the_input_may_have_any_name() {
    let free = "a if input.arguments.anything.at.all\nb if input.caller.teams.payments\nc if some call in input.facts\n\
         d if input.facts[_].arguments.x == 1\ne if input.tools[\"x\"].family == \"release\"\nf if input.approval.votes[0].user == \"x\"\n";
    base_and(&format!("{free}{}", reaching(&["a", "b", "c", "d", "e", "f"]))).unwrap();
}

#[test]
fn a_local_name_that_is_also_a_rule_is_no_recursion() {
    let shadowed = "lead if { tool := input.tool; tool.name == \"x\" }\ntool := 1 if lead\n";
    base_and(&format!("{shadowed}{}", reaching(&["tool"]))).unwrap();
}

/// The lint knows the one built-in that is known to panic; the next one must not be the end either.
#[test]
fn a_built_in_that_panics_is_an_error_and_not_the_end() {
    let rule = "strings.count(\"abc\", input.arguments.empty) > 0";
    let faults =
        base_and(&format!("obligations contains {{\"type\": \"limit\", \"class\": \"x\"}} if {rule}")).unwrap_err();
    assert_eq!(faults[0].code, Code::UnsupportedBuiltin, "{faults:?}");
    let mut engine = regorus::Engine::new();
    engine.add_policy("g.rego".to_owned(), format!("package loopiq.gateway\n\ndecision if {rule}\n")).unwrap();
    let machine = Machine::compile(engine, &json!({}), ENTRY_POINT, Vec::new()).unwrap();
    assert_eq!(machine.engine(), Engine::Rvm);
    let input = value_of(&input("x")).unwrap();
    for answer in [machine.run(input.clone(), INSTRUCTIONS_MAX), machine.interpret(input)] {
        let broken = answer.unwrap_err();
        assert!(broken.fault == Fault::Error && broken.detail.contains("panicked"), "{broken:?}");
    }
}

/// The virtual machine takes a rule that fails for one that says nothing: a no that looked at what
/// was sent let every read, answer and list through when that was odd.
#[test]
fn a_rule_that_fails_instead_of_forbidding_forbids_everything() {
    let failing = [
        "1 / input.arguments.zero == 1",
        "5 % input.arguments.zero == 1",
        "input.arguments.q + 1 > 1",
        "input.arguments.q - 1 > 1",
        "input.arguments.q * 2 > 1",
        "0 - input.arguments.q < 1",
        "{1} - input.arguments.q == {1}",
        "{1} | input.arguments.q == {1}",
        "count(input.arguments.n) > 1",
        "to_number(input.arguments.q) < 100",
        "regex.match(\"[\", \"x\")",
        "time.parse_rfc3339_ns(input.arguments.q) > 1",
        "count([to_number(r) | some r in [input.arguments.q]]) > 0",
        "every q in [input.arguments.q] { to_number(q) > 1 }",
    ];
    for failing in failing {
        for rules in [
            format!("blocked if {{ {failing} }}\nallow if not blocked"),
            format!("bad contains 1 if {{ {failing} }}\nallow if count(bad) == 0"),
            format!("blocked(x) if {{ x; {failing} }}\nallow if not blocked(input.schema)"),
            format!("blocked if {{ {failing} }} else := false\nallow if not blocked"),
        ] {
            let text = BASE.replace("allow if input.tool.name == \"good\"", &rules);
            let pdp = Pdp::load(&bundle(&[("g.rego", &text)])).unwrap();
            assert_eq!(pdp.engine(), Engine::Rvm, "{rules}");
            for effect in [Effect::Read, Effect::Write] {
                for phase in [Phase::Call, Phase::Response, Phase::List] {
                    let mut input = input("x");
                    input.arguments.extend([("zero".to_owned(), json!(0)), ("q".to_owned(), json!("abc"))]);
                    input.phase = phase;
                    input.tool.as_mut().unwrap().effect = effect;
                    let ruling = pdp.decide(&input);
                    assert_eq!(ruling.outcome(), Outcome::Deny, "{phase:?}: {rules}: {ruling:?}");
                    assert_eq!(ruling.fault(), Some(Fault::Error), "{phase:?}: {rules}: {}", ruling.detail());
                    assert!(ruling.visible().is_empty(), "{phase:?}: {rules}");
                    let told = ruling.detail().contains("` failed on what");
                    assert!(told, "{phase:?}: {rules}: {}", ruling.detail());
                }
            }
        }
    }
}

/// Both engines order values of different types as OPA does; the machine, told to be strict, did not.
#[test]
fn values_of_different_types_are_compared_alike_on_both_engines() {
    for (rule, refused) in [
        ("input.arguments.q > 100", true),
        ("input.arguments.q >= 100", true),
        ("input.arguments.q < 100", false),
        ("input.arguments.q <= 100", false),
        ("{1, 2} - {2} == {1}", true),
        ("10 - 2 * 3 / 2 + 9 % 5 == 11", true),
        ("input.arguments.none > 1", false),
        ("input.arguments.none + 1 > 1", false),
    ] {
        let text =
            BASE.replace("allow if input.tool.name == \"good\"", &format!("blocked if {rule}\nallow if not blocked"));
        let pdp = Pdp::load(&bundle(&[("g.rego", &text)])).unwrap();
        let mut input = input("x");
        input.arguments.insert("q".to_owned(), json!("abc"));
        let expected = if refused { Outcome::Deny } else { Outcome::Allow };
        for engine in [Engine::Rvm, Engine::Interpreter] {
            let ruling = pdp.decide_on(engine, &input);
            assert_eq!((ruling.outcome(), ruling.fault()), (expected, None), "{rule} {engine:?}: {}", ruling.detail());
        }
    }
}

#[test]
fn a_loop_that_is_too_long_spends_the_budget() {
    let pdp = base_and("busy contains z if { input.tool.name == \"bad\"; some x in numbers.range(1, 600); some y in numbers.range(1, 600); z := x * y; z < 0 }\nobligations contains {\"type\": \"limit\", \"class\": \"x\"} if count(busy) > 0").unwrap();
    assert_eq!(pdp.engine(), Engine::Rvm);
    faults_with(&pdp, "bad", Fault::Budget);
    assert!(pdp.instructions(&input("bad")).is_none());
    assert!(pdp.instructions(&input("good")).is_some_and(|count| count > 5 && count < 1_000));
}

/// A busy machine stops a thread for longer than policies may take, and that is no fault of theirs.
#[test]
fn a_self_test_that_runs_out_of_time_says_that_alone_so_that_it_is_tried_again() {
    let faults = base_and("busy contains z if { input.tool.name == \"loopiq_probe\"; some x in numbers.range(1, 600); some y in numbers.range(1, 600); z := x * y; z < 0 }\nobligations contains {\"type\": \"limit\", \"class\": \"x\"} if count(busy) > 0").unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!((faults[0].path.as_str(), faults[0].remedy.as_str()), ("", probe::GROWS));
}

#[test]
fn an_undefined_decision_is_a_deny_with_its_own_code() {
    let text = BASE.replace("\"visible\": visible}", "\"visible\": visible} if input.tool.name != \"bad\"");
    faults_with(&load(&text).unwrap(), "bad", Fault::Undefined);
}

#[test]
fn answers_of_another_shape_are_denied() {
    let table = [
        (
            "allow is no bool",
            "{\"allow\": \"yes\", \"reasons\": [], \"obligations\": [], \"visible\": []}",
            Fault::Shape,
        ),
        ("no object", "true", Fault::Shape),
        ("no allow", "{\"reasons\": []}", Fault::Shape),
        ("another member", "{\"allow\": true, \"advice\": []}", Fault::Shape),
        (
            "another member of a reason",
            "{\"allow\": false, \"reasons\": [{\"code\": \"x\", \"hint\": \"y\"}]}",
            Fault::Shape,
        ),
        ("a code that is none", "{\"allow\": false, \"reasons\": [{\"code\": \"Not a code\"}]}", Fault::Shape),
        ("allowed with reasons", "{\"allow\": true, \"reasons\": [{\"code\": \"x\"}]}", Fault::Conflict),
        (
            "unknown obligation",
            "{\"allow\": true, \"obligations\": [{\"type\": \"watermark\"}]}",
            Fault::UnknownObligation,
        ),
        ("obligation without a type", "{\"allow\": true, \"obligations\": [{}]}", Fault::Shape),
        (
            "another member of an obligation",
            "{\"allow\": true, \"obligations\": [{\"type\": \"limit\", \"class\": \"x\", \"burst\": 3}]}",
            Fault::Shape,
        ),
        (
            "two classes",
            "{\"allow\": true, \"obligations\": [{\"type\": \"limit\", \"class\": \"x\"}, {\"type\": \"limit\", \"class\": \"y\"}]}",
            Fault::Conflict,
        ),
        (
            "a path that is none",
            "{\"allow\": true, \"obligations\": [{\"type\": \"redact\", \"paths\": [\"owner\"]}]}",
            Fault::Shape,
        ),
        (
            "nobody may approve",
            "{\"allow\": false, \"reasons\": [{\"code\": \"approval_required\"}], \"obligations\": [{\"type\": \"require_approval\", \"count\": 1, \"approve_by_s\": 1, \"execute_within_s\": 1, \"preview\": true}]}",
            Fault::Shape,
        ),
        (
            "approval of nobody",
            "{\"allow\": false, \"reasons\": [{\"code\": \"approval_required\"}], \"obligations\": [{\"type\": \"require_approval\", \"roles\": [\"x\"], \"count\": 0, \"approve_by_s\": 1, \"execute_within_s\": 1, \"preview\": true}]}",
            Fault::Shape,
        ),
        (
            "allowed, and approval asked",
            "{\"allow\": true, \"obligations\": [{\"type\": \"require_approval\", \"roles\": [\"x\"], \"count\": 1, \"approve_by_s\": 1, \"execute_within_s\": 1, \"preview\": true}]}",
            Fault::Conflict,
        ),
        (
            "two groups of approvers",
            "{\"allow\": false, \"reasons\": [{\"code\": \"approval_required\"}], \"obligations\": [{\"type\": \"require_approval\", \"roles\": [\"x\"], \"count\": 1, \"approve_by_s\": 1, \"execute_within_s\": 1, \"preview\": true}, {\"type\": \"require_approval\", \"roles\": [\"y\"], \"count\": 1, \"approve_by_s\": 1, \"execute_within_s\": 1, \"preview\": true}]}",
            Fault::Conflict,
        ),
    ];
    for (name, answer, fault) in table {
        let text = format!(
            "package loopiq.gateway\n\ndecision := {{\"allow\": false}} if {{\n\tinput.tool.name != \"bad\"\n}} else := {answer}\n"
        );
        let pdp = load(&text).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_eq!(pdp.engine(), Engine::Rvm, "{name}");
        faults_with(&pdp, "bad", fault);
    }
}

#[test]
fn two_requests_for_approval_by_the_same_people_become_the_stricter_one() {
    let text = "package loopiq.gateway\n\ndecision := {\"allow\": false} if {\n\tinput.tool.name != \"good\"\n} else := {\"allow\": false, \"reasons\": [{\"code\": \"approval_required\"}], \"obligations\": [{\"type\": \"require_approval\", \"roles\": [\"x\", \"y\"], \"count\": 1, \"approve_by_s\": 10, \"execute_within_s\": 90, \"preview\": false}, {\"type\": \"require_approval\", \"roles\": [\"y\", \"x\"], \"count\": 2, \"approve_by_s\": 60, \"execute_within_s\": 30, \"preview\": true}]}\n";
    let ruling = load(text).unwrap().decide(&input("good"));
    assert_eq!(ruling.outcome(), Outcome::Pending, "{}", ruling.detail());
    assert_eq!(
        serde_json::to_value(ruling.obligations()).unwrap(),
        json!([{"type": "require_approval", "roles": ["x", "y"], "teams": [], "users": [], "count": 2, "approve_by_s": 10,
                "execute_within_s": 30, "preview": true}])
    );
}

#[test]
fn a_bundle_that_cannot_deny_what_must_be_denied_is_refused() {
    let open = "package loopiq.gateway\n\ndecision := {\"allow\": true, \"visible\": [input.tool.name]}\n";
    let faults = load(open).unwrap_err();
    assert!(faults[0].message.contains("a caller without roles may call"), "{faults:?}");
    let asks = "package loopiq.gateway\n\ndecision := {\"allow\": false, \"reasons\": [{\"code\": \"approval_required\"}], \"obligations\": [{\"type\": \"require_approval\", \"roles\": [\"x\"], \"count\": 1, \"approve_by_s\": 1, \"execute_within_s\": 1, \"preview\": true}], \"visible\": []}\n";
    assert!(load(asks).is_err(), "asking people is not denying");
    let silent = "package loopiq.gateway\n\ndecision := {\"allow\": true} if input.caller.user == \"nobody\"\n";
    assert!(
        load(silent).unwrap_err()[0].message.contains("policy_undefined"),
        "undefined for everyone passed for a deny"
    );
}

#[test]
fn a_bundle_whose_list_and_call_disagree_is_refused() {
    let data = "{\"dev\": {}}";
    let tools: BTreeMap<String, ToolFacts> = [("loopiq_a", "read"), ("loopiq_b", "read")]
        .into_iter()
        .map(|(name, effect)| {
            let facts =
                json!({"name": name, "family": "release", "effect": effect, "impact": "low", "route": "GET /x"});
            (name.to_owned(), serde_json::from_value(facts).unwrap())
        })
        .collect();
    let try_with = |visible: &str, allow: &str| {
        let text = format!(
            "package loopiq.gateway\n\ndecision := {{\"allow\": true, \"visible\": [\"loopiq_a\"]}} if {{\n\tinput.phase == \"list\"\n}} else := {{\"allow\": allow, \"visible\": {visible}}}\n\ndefault allow := false\n\nallow if {allow}\n"
        );
        Pdp::compile(
            &bundle(&[("g.rego", &text), ("data/roles.json", data), ("data/tenants.json", "{\"org\": {}}")]),
            &tools,
        )
    };
    let member = "count(input.caller.roles) > 0; input.caller.tenant == \"org\"; input.tool.impact == \"low\"";
    let a = "[n | n := input.tool.name; n == \"loopiq_a\"]";
    try_with(a, &format!("{{ {member}; input.tool.name == \"loopiq_a\" }}")).unwrap();
    let faults = try_with(a, &format!("{{ {member} }}")).unwrap_err();
    assert!(faults[0].message.contains("`loopiq_b` is not listed"), "{faults:?}");
    let faults = try_with(a, &format!("{{ {member}; input.tool.name == \"loopiq_b\" }}")).unwrap_err();
    assert!(faults[0].message.contains("`loopiq_a` is listed"), "{faults:?}");
    let faults =
        try_with("[input.tool.name]", &format!("{{ {member}; input.tool.name == \"loopiq_a\" }}")).unwrap_err();
    assert!(faults[0].message.contains("`loopiq_b` is not listed"), "{faults:?}");
}

#[test]
fn a_package_inside_the_data_and_a_bundle_without_entry_point_are_refused() {
    let faults =
        Pdp::compile(&bundle(&[("a.rego", BASE), ("data/loopiq.yaml", "a: 1")]), &BTreeMap::new()).unwrap_err();
    assert!(faults[0].message.contains("inside the data"), "{faults:?}");
    let faults = load("package loopiq.gateway\n\nanswer := 1\n").unwrap_err();
    assert!(faults[0].message.contains(ENTRY_POINT), "{faults:?}");
}

/// Each issuer names its users as it likes, so that one name may stand for two people.
#[test]
fn one_name_from_two_issuers_is_two_callers() {
    let text = BASE.replace(
        "allow if input.tool.name == \"good\"",
        "allow if {\n\tinput.caller.user in data.owners[input.caller.issuer]\n}",
    );
    let data = "{\"https://issuer.example\": [\"ada\"]}";
    let pdp = Pdp::compile(&bundle(&[("g.rego", &text), ("data/owners.json", data)]), &BTreeMap::new()).unwrap();
    let mut input = input("good");
    assert_eq!(pdp.decide(&input).outcome(), Outcome::Allow);
    "https://other.example".clone_into(&mut input.caller.issuer);
    assert_eq!(pdp.decide(&input).outcome(), Outcome::Deny);
}

fn two_tools() -> BTreeMap<String, ToolFacts> {
    let facts =
        |name: &str| json!({"name": name, "family": "release", "effect": "read", "impact": "low", "route": "GET /x"});
    ["loopiq_a", "loopiq_b"].map(|name| (name.to_owned(), serde_json::from_value(facts(name)).unwrap())).into()
}

/// Shows and allows every tool to who meets the condition.
fn shown_if(condition: &str) -> Result<Pdp, Vec<BundleFault>> {
    let text = format!(
        "package loopiq.gateway\n\ndecision := {{\"allow\": ok, \"visible\": visible}}\n\ndefault ok := false\n\n\
         ok if {{\n\tinput.tool.impact == \"low\"\n\topen\n}}\n\n\
         visible contains name if {{\n\topen\n\tsome name, _ in tools\n}}\n\n\
         tools := input.tools if {{\n\tinput.phase == \"list\"\n}} else := {{input.tool.name: input.tool}}\n\n\
         open if {{\n\tdata.tenants[input.caller.tenant]\n\t{condition}\n}}\n"
    );
    let files = [
        ("g.rego", text.as_str()),
        ("data/tenants.json", "{\"org\": {\"open\": true, \"shut\": false}}"),
        ("data/roles.json", "{\"dev\": {}}"),
        ("data/teams.json", "{\"payments\": {\"lead\": {}}}"),
    ];
    Pdp::compile(&bundle(&files), &two_tools())
}

/// Whoever closes everything in an emergency is obeyed, and told.
#[test]
fn a_policy_that_hides_everything_is_pointed_out_and_one_that_somebody_can_open_is_not() {
    for closed in ["data.tenants[input.caller.tenant].shut", "input.schema == 2", "count(input.caller.roles) < 0"] {
        let pdp = shown_if(closed).unwrap_or_else(|faults| panic!("{closed}: {faults:#?}"));
        let codes: Vec<_> = pdp.warnings().iter().map(|warning| warning.code).collect();
        assert_eq!(codes, [Code::HidesEverything], "{closed}: {:#?}", pdp.warnings());
    }
    for open in [
        "\"dev\" in input.caller.roles",
        "\"auditor\" in input.caller.roles",
        "\"lead\" in input.caller.teams.payments",
        "\"lead\" in input.caller.teams.plumbing",
        "\"release:read\" in input.caller.permissions",
        "\"mcp:tools\" in input.caller.scopes",
    ] {
        let pdp = shown_if(open).unwrap_or_else(|faults| panic!("{open}: {faults:#?}"));
        assert_eq!(pdp.warnings(), [], "{open}");
    }
}

#[test]
fn a_list_that_takes_long_is_pointed_out() {
    let pdp = shown_if("count([1 | some i in numbers.range(1, 2000); some name, _ in tools; i > 0; name != \"\"]) > 0")
        .unwrap();
    assert_eq!(pdp.engine(), Engine::Rvm, "{:?}", pdp.notes());
    let found = pdp.warnings().iter().find(|warning| warning.code == Code::SlowLayout).unwrap();
    assert!(found.message.contains("a list of all 2 tools takes"), "{found:#?}");
}

#[test]
fn a_policy_that_denies_nothing_is_told_once() {
    let open = "package loopiq.gateway\n\ndecision := {\"allow\": true, \"visible\": [input.tool.name]}\n";
    let files = [("g.rego", open), ("data/tenants.json", "{\"a\": {}, \"b\": {}}")];
    let faults = Pdp::compile(&bundle(&files), &BTreeMap::new()).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!(faults[0].code, Code::CannotDeny);
    let half = "package loopiq.gateway\n\ndecision := {\"allow\": input.caller.tenant == \"a\", \"visible\": [input.tool.name]}\n";
    let faults = Pdp::compile(&bundle(&[("g.rego", half), files[1]]), &BTreeMap::new()).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.code).collect::<Vec<_>>(), [Code::MustDeny], "{faults:#?}");
}
