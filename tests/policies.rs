//! The policies that ship: their tests, their cases, both engines, the schemas, and the child
//! process that tries a bundle before it is loaded.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed; helpers of tests count as production code to clippy"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use loopgate::adapters::reload::Sources;
use loopgate::adapters::reload::Watcher;
use loopgate::adapters::reload::bundle;
use loopgate::adapters::reload::steward::Steward;
use loopgate::adapters::reload::steward::Tools;
use loopgate::adapters::reload::steward::Ways;
use loopgate::adapters::store::Store;
use loopgate::domain::audit::AuditRef;
use loopgate::domain::audit::JournalFault;
use loopgate::domain::audit::record::Record;
use loopgate::domain::catalog::Catalog;
use loopgate::domain::identity::AuthMethod;
use loopgate::domain::pdp::Caller;
use loopgate::domain::pdp::Decision;
use loopgate::domain::pdp::Input;
use loopgate::domain::pdp::Outcome;
use loopgate::domain::pdp::ToolFacts;
use loopgate::domain::pdp::bundle::Bundle;
use loopgate::domain::pdp::bundle::BundleFault;
use loopgate::domain::pdp::capabilities;
use loopgate::domain::pdp::cases;
use loopgate::domain::pdp::engine::Pdp;
use loopgate::domain::pdp::ruling::Engine;
use loopgate::domain::pdp::suite::Suite;
use loopgate::domain::pdp::suite::Verdict;
use loopgate::domain::replay::report::Report;
use loopgate::domain::rollout::canary::Limits;
use loopgate::domain::rollout::gate::Demands;
use loopgate::domain::rollout::gate::GateFault;
use loopgate::metrics::Metrics;
use loopgate::pep::ports::Clock;
use loopgate::pep::ports::Journal;
use loopgate::pep::rules::RulesCell;
use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;

const LOOPGATE: &str = env!("CARGO_BIN_EXE_loopgate");

fn shipped() -> Bundle {
    bundle::read(Path::new("policies")).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn case_tools() -> BTreeMap<String, ToolFacts> {
    cases::read_tools("tools.yaml", &fs::read_to_string("policies/cases/tools.yaml").unwrap()).unwrap()
}

fn catalog_tools() -> BTreeMap<String, ToolFacts> {
    ToolFacts::of(&Catalog::from_yaml(&fs::read_to_string("config/catalog.yaml").unwrap()).unwrap())
}

fn people() -> cases::Table {
    let path = "policies/cases/people.yaml";
    cases::read(path, &fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_policies_load_with_the_catalog_and_the_machine_decides() {
    let pdp = Pdp::compile(&shipped(), &catalog_tools()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(pdp.engine(), Engine::Rvm, "{:#?}", pdp.notes());
}

#[test]
fn the_facts_that_cases_use_are_the_catalogs() {
    let catalog = catalog_tools();
    for (name, facts) in case_tools() {
        let real = catalog.get(&name).unwrap_or_else(|| panic!("`{name}` is not in the catalog"));
        assert_eq!(&facts, real);
    }
}

#[test]
fn every_test_of_the_policies_passes() {
    let suite = Suite::load(&shipped()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert!(suite.tests().len() > 60, "the tests were found");
    let failed: Vec<_> = suite
        .tests()
        .iter()
        .map(|test| (&test.name, suite.run(test, None)))
        .filter(|(_, verdict)| *verdict != Verdict::Pass)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_case_holds_on_both_engines() {
    let tools = case_tools();
    let pdp = Pdp::compile(&shipped(), &tools).unwrap();
    let table = people();
    assert!(table.cases.len() > 25);
    for engine in [Engine::Rvm, Engine::Interpreter] {
        for case in &table.cases {
            if let Err(wrong) = table.run(case, &pdp, engine, &tools) {
                panic!("{} ({}): {wrong}", case.name, engine.as_str());
            }
        }
    }
}

/// Arguments that are whole, empty, and odd in each way that a rule looks at.
fn arguments() -> Vec<Value> {
    let whole = json!({"release": "r", "title": "t", "parent": "p", "owner": "o", "parentStory": {"title": "s"},
                       "tasks": [{"title": "a"}], "evidenceAsOf": "2026-09-21T14:00:00Z"});
    let mut all = vec![whole.clone(), json!({})];
    for (member, odd) in [
        ("title", json!(" ")),
        ("owner", Value::Null),
        ("parent", json!(["x"])),
        ("parentStory", json!("x")),
        ("tasks", json!({"title": 1})),
        ("tasks", json!([1, {"title": "x", "owner": ""}])),
        ("evidenceAsOf", json!("2026-02-30T00:00:00Z")),
        ("evidenceAsOf", json!("9999-12-31T23:59:59Z")),
        ("evidenceAsOf", json!(1_790_000_000)),
        ("evidenceAsOf", json!("last_refresh")),
        ("release", json!({"a": {"b": []}})),
    ] {
        let mut changed = whole.clone();
        changed[member] = odd;
        all.push(changed);
    }
    all
}

fn input(caller: &Caller, tool: &ToolFacts, arguments: &Value, workflow: &str) -> Input {
    serde_json::from_value(json!({
        "schema": 1, "phase": "call", "caller": caller, "tool": tool, "arguments": arguments,
        "context": {"workflow": workflow, "chain": [], "now_ms": 1_790_000_000_000_i64, "now": "2026-09-21T14:13:20Z"},
    }))
    .unwrap()
}

fn callers() -> Vec<Caller> {
    let caller = |tenant: &str, roles: &[&str], method| Caller {
        user: "svc-pipeline".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        tenant: tenant.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        teams: BTreeMap::from([("payments".to_owned(), vec!["lead".to_owned()])]),
        permissions: vec!["admin:admin".to_owned()],
        scopes: Vec::new(),
        client: String::new(),
        method,
    };
    vec![
        caller("org_gcn", &["release_manager"], AuthMethod::Oauth),
        caller("org_nordbank", &["viewer", "developer"], AuthMethod::Loopiq),
        caller("org_gcn", &["tenant_admin"], AuthMethod::ServiceAccount),
        caller("org_elsewhere", &["tenant_admin"], AuthMethod::Helix),
    ]
}

#[test]
fn both_engines_say_the_same_of_every_caller_tool_and_odd_argument() {
    let tools = case_tools();
    let pdp = Pdp::compile(&shipped(), &tools).unwrap();
    for caller in callers() {
        for tool in tools.values() {
            for (n, arguments) in arguments().iter().enumerate() {
                // Arguments matter to writes only; reads are tried with the first two.
                if n > 1 && tool.effect == loopgate::domain::catalog::Effect::Read {
                    continue;
                }
                let input = input(&caller, tool, arguments, if n % 2 == 0 { "" } else { "wf" });
                let (rvm, interpreted) =
                    (pdp.decide_on(Engine::Rvm, &input), pdp.decide_on(Engine::Interpreter, &input));
                let what = format!("{} in {}: {arguments}", tool.name, caller.tenant);
                assert_eq!((rvm.fault(), rvm.detail()), (None, ""), "{what}");
                assert_eq!(rvm.outcome(), interpreted.outcome(), "{what}");
                assert_eq!(rvm.reasons(), interpreted.reasons(), "{what}");
                assert_eq!(rvm.obligations(), interpreted.obligations(), "{what}");
                assert_eq!(rvm.visible(), interpreted.visible(), "{what}");
            }
        }
    }
}

#[test]
fn a_decision_costs_what_decisions_may_cost() {
    let tools = case_tools();
    let pdp = Pdp::compile(&shipped(), &tools).unwrap();
    let table = people();
    for case in &table.cases {
        let count = pdp.instructions(&table.input(case, &tools).unwrap()).unwrap();
        let most = if case.tool.is_some() { 1_500 } else { 150 * tools.len() };
        assert!(count <= most, "`{}` takes {count} instructions", case.name);
    }
}

/// Run with `UPDATE=1` after a change to the types.
#[test]
fn the_schemas_are_those_of_the_types() {
    for (path, schema) in [
        ("policies/schema/input.json", schemars::schema_for!(Input).to_value()),
        ("policies/schema/decision.json", schemars::schema_for!(Decision).to_value()),
        ("policies/schema/capabilities.json", capabilities::document()),
        ("policies/schema/replay-report.json", schemars::schema_for!(Report).to_value()),
    ] {
        let text = format!("{schema:#}\n");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(path, &text).unwrap();
        }
        assert_eq!(
            fs::read_to_string(path).unwrap_or_default(),
            text,
            "{path} is not up to date: UPDATE=1 cargo test --test policies"
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn scratch(rules: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("g.rego"), format!("package loopiq.gateway\n\n{rules}\n")).unwrap();
    dir
}

fn tried(exe: &str, dir: &Path) -> Result<Bundle, Vec<BundleFault>> {
    runtime().block_on(bundle::load_checked(Path::new(exe), dir, &BTreeMap::new()))
}

#[test]
fn a_good_bundle_comes_back_from_the_child_as_it_was_read() {
    let bundle = runtime().block_on(bundle::load_checked(Path::new(LOOPGATE), Path::new("policies"), &catalog_tools()));
    assert_eq!(bundle.unwrap(), shipped());
}

#[test]
fn faults_come_back_from_the_child_with_their_places() {
    let dir = scratch("decision := {\"allow\": false}\n\na if b\nb if a");
    let faults = tried(LOOPGATE, dir.path()).unwrap_err();
    assert!(faults[0].message.contains("circle") && faults[0].path == "g.rego" && faults[0].line == 5, "{faults:?}");
}

#[test]
fn a_bundle_that_eats_memory_ends_the_child_and_not_the_gateway() {
    let doubled: Vec<_> = (1..40).map(|n| format!("t{n} := concat(\"\", [t{0}, t{0}])", n - 1)).collect();
    let doubled = doubled.join("\n");
    let dir = scratch(&format!("t0 := \"xxxxxxxx\"\n{doubled}\ndecision := {{\"allow\": t39 == \"\"}}"));
    let faults = tried(LOOPGATE, dir.path()).unwrap_err();
    assert!(faults[0].message.contains("ended the process"), "{faults:?}");
}

#[test]
fn a_child_that_says_nothing_has_not_said_yes() {
    let dir = scratch("decision := {\"allow\": false}");
    for silent in ["/bin/true", "/bin/false", "/no/such/program"] {
        assert!(tried(silent, dir.path()).is_err(), "{silent} passed for a good check");
    }
}

#[test]
fn a_folder_that_is_not_there_is_a_fault() {
    assert!(tried(LOOPGATE, Path::new("no/such/folder")).is_err());
}

fn loopgate(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(LOOPGATE).arg("policy").args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_commands_answer_with_words_and_exit_codes() {
    let (code, words) = loopgate(&["check", "policies", "--catalog", "config/catalog.yaml"]);
    assert_eq!(code, 0, "{words}");
    assert!(words.starts_with("ok: ") && words.contains("engine rvm"), "{words}");

    let (code, words) = loopgate(&["test", "policies", "-v", "-r", "stale"]);
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("data.loopiq.gateway_test.test_a_time_that_is_none_is_stale: PASS"), "{words}");
    assert!(words.contains("PASS: "), "{words}");

    let (code, words) = loopgate(&["test", "policies", "-r", "no test has this name"]);
    assert_eq!((code, words.as_str()), (2, ""));

    let named = scratch("decision := {\"allow\": false, \"visible\": [\"x\" | input.caller.user == \"ada\"]}");
    let (code, words) = loopgate(&["check", named.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("g.rego:3:48: warning: ") && words.contains("`input.caller.user`"), "{words}");

    let broken = scratch("decision := {");
    let (code, words) = loopgate(&["check", broken.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(words.starts_with("g.rego:"), "{words}");

    let failing = scratch("decision := {\"allow\": false}");
    let test = "package loopiq.gateway_test\n\ntest_no if false\n\ntodo_test_later if false\n\ntest_yes if true\n";
    fs::write(failing.path().join("g_test.rego"), test).unwrap();
    let (code, words) = loopgate(&["test", failing.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(words.contains("test_no: FAIL") && !words.contains("test_yes"), "{words}");
    assert!(words.ends_with("PASS: 1/2\nFAIL: 1/2\nSKIPPED: 1\n"), "{words}");
}

#[test]
fn one_decision_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input.json");
    let tools = case_tools();
    let caller = callers().remove(0);
    let asked = input(&caller, &tools["loopiq_decide_release_certification"], &json!({"release": "r"}), "");
    fs::write(&file, serde_json::to_string(&asked).unwrap()).unwrap();
    let (code, words) = loopgate(&["eval", "policies", "--input", file.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0, "{words}");
    let answer: Value = serde_json::from_str(&words).unwrap();
    assert_eq!(answer["outcome"], json!(Outcome::Pending));
    assert_eq!(answer["reasons"][0]["code"], "approval_required");
    fs::write(&file, "{\"schema\": 1, \"fase\": \"call\"}").unwrap();
    assert_eq!(loopgate(&["eval", "policies", "--input", file.to_str().unwrap()]).0, 2);
}

/// A journal that is busy for a while, and tells when it has taken the first record.
struct Busy {
    left: AtomicUsize,
    taken: watch::Sender<bool>,
}

#[async_trait]
impl Journal for Busy {
    async fn append(&self, _record: Record) -> Result<AuditRef, JournalFault> {
        let used = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if used.is_ok() {
            return Err(JournalFault::Busy { waiting: 1 });
        }
        self.taken.send_replace(true);
        Ok(AuditRef { writer: "w".to_owned(), epoch: 1, seq: 0 })
    }

    fn ready(&self, _for_write: bool) -> Result<(), JournalFault> {
        Ok(())
    }
}

struct Still;

impl Clock for Still {
    fn now_ms(&self) -> i64 {
        1_790_000_000_000
    }

    fn random(&self) -> [u8; 16] {
        [0; 16]
    }
}

/// What keeps policy in force, over a store of its own.
fn steward(cell: &Arc<RulesCell>, store: &Path, journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Arc<Steward> {
    let tools = Tools {
        cell: Arc::clone(cell),
        store: Arc::new(Store::open(store).unwrap()),
        journal,
        clock,
        metrics: Arc::new(Metrics::new()),
        tallies: Arc::default(),
        checker: LOOPGATE.into(),
    };
    let ways = Ways {
        gated: false,
        demands: Demands { decisions: 1, age_ms: 1_000 },
        examine: Arc::new(|_| Err(GateFault::Missing)),
        lived: Arc::new(|| Ok(None)),
        shadow_waiting: false,
        limits: Limits { least: 1, band: 0, errors: 0, window_ms: 1_000 },
    };
    Arc::new(Steward::new(tools, ways))
}

/// A journal that was slow for a moment used to keep good rules out until somebody touched a file.
#[tokio::test]
async fn rules_refused_for_a_passing_cause_are_tried_again() {
    let (taken, mut first) = watch::channel(false);
    let cell = Arc::new(RulesCell::default());
    let store = tempfile::tempdir().unwrap();
    let backends = Catalog::from_yaml(&fs::read_to_string("config/catalog.yaml").unwrap()).unwrap();
    let sources = Sources {
        catalog: "config/catalog.yaml".into(),
        policy_dir: "policies".into(),
        checker: LOOPGATE.into(),
        backends: backends.backends().iter().map(ToString::to_string).collect(),
    };
    // The change, the record of its refusal, and the second try's too.
    let steward = steward(&cell, store.path(), Arc::new(Busy { left: AtomicUsize::new(4), taken }), Arc::new(Still));
    let mut watcher = Watcher::new(sources, None, steward, Duration::from_millis(1));
    let seen = watcher.first().await;
    assert!(cell.current().is_none());
    let (stop, stopped) = watch::channel(false);
    let wait = async {
        first.wait_for(|taken| *taken).await.unwrap();
        stop.send_replace(true);
    };
    tokio::join!(watcher.run(seen, stopped), wait);
    assert!(cell.current().is_some(), "{:?}", cell.faults());
}
