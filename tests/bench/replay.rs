//! A policy edit replayed over a large journal: what flips, whether that is exact, and how long it takes.
//!
//! Writes the journal of many calls with the gateway's own rules, records and journal, takes one tool
//! from one organisation in a copy of the policies, and replays with the program. What must flip is
//! worked out here, without asking the candidate. `cargo bench --bench replay`; `CALLS` says how many.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench that cannot go on has failed, and its output is what it is for"
)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join_all;
use loopgate::adapters::journal::Journal;
use loopgate::adapters::journal::Settings;
use loopgate::adapters::journal::SigningKey;
use loopgate::adapters::journal::generate_signing_key;
use loopgate::adapters::reload::bundle;
use loopgate::domain::audit::record::Answered;
use loopgate::domain::audit::record::Decided;
use loopgate::domain::audit::record::Execution;
use loopgate::domain::audit::record::Opened;
use loopgate::domain::audit::record::Record;
use loopgate::domain::audit::record::Stage;
use loopgate::domain::catalog::Catalog;
use loopgate::domain::catalog::Effect;
use loopgate::domain::catalog::Tool;
use loopgate::domain::identity::AuthMethod;
use loopgate::domain::identity::Principal;
use loopgate::domain::identity::resolve_tenant;
use loopgate::domain::mcp::Era;
use loopgate::domain::pdp::Caller;
use loopgate::domain::pdp::Context;
use loopgate::domain::pdp::Input;
use loopgate::domain::pdp::Outcome;
use loopgate::domain::pdp::Phase;
use loopgate::domain::pdp::ResponseFacts;
use loopgate::domain::pdp::ToolFacts;
use loopgate::domain::pdp::engine::Pdp;
use loopgate::domain::pdp::ruling::Ruling;
use serde_json::Value;
use serde_json::json;

/// The edit: this tool is taken from this organisation.
const TENANT: &str = "org_nordbank";
const TOOL: &str = "loopiq_get_release";

const START_MS: i64 = 1_790_000_000_000;

/// What must flip, by decision, and to which class.
type Expected = BTreeMap<String, &'static str>;

struct World {
    catalog: Catalog,
    facts: BTreeMap<String, ToolFacts>,
    pdp: Pdp,
    tools: Vec<Arc<Tool>>,
    dice: u64,
    now_ms: i64,
    decisions: u64,
    expected: Expected,
}

impl World {
    fn roll(&mut self, sides: usize) -> usize {
        // Numerical Recipes' generator; what matters is that it is the same every time.
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.dice >> 33).unwrap() % sides
    }

    fn principal(&mut self) -> Principal {
        let tenant = ["org_gcn", "org_gcn", TENANT, TENANT, "org_unknown"][self.roll(5)];
        let role = ["viewer", "developer", "release_manager", "certification_approver", "tenant_admin"][self.roll(5)];
        Principal {
            user: format!("user-{}", self.roll(500)),
            issuer: "https://id.example".to_owned(),
            method: AuthMethod::Oauth,
            client: Some("inspector".to_owned()),
            tenants: vec![tenant.to_owned()],
            active_tenant: None,
            roles: vec![role.to_owned()],
            teams: BTreeMap::new(),
            permissions: Vec::new(),
            scopes: Vec::new(),
            expires_at: 0,
        }
    }

    fn input(&self, phase: Phase, who: &Principal) -> Input {
        Input {
            schema: 1,
            phase,
            caller: Caller {
                user: who.user.clone(),
                issuer: who.issuer.clone(),
                tenant: who.tenants[0].clone(),
                roles: who.roles.clone(),
                teams: who.teams.clone(),
                permissions: Vec::new(),
                scopes: Vec::new(),
                client: "inspector".to_owned(),
                method: who.method,
            },
            tool: None,
            tools: None,
            arguments: serde_json::Map::new(),
            dry_run: false,
            approval: None,
            facts: Vec::new(),
            response: None,
            context: Context {
                workflow: "wf-1".to_owned(),
                chain: vec!["plan".to_owned()],
                now_ms: self.now_ms,
                now: jiff::Timestamp::from_millisecond(self.now_ms).unwrap().to_string(),
            },
        }
    }

    /// As the gateway notes a ruling.
    fn note(&mut self, record: &mut Record, input: &Input) -> Ruling {
        self.decisions += 1;
        let id = uuid::Uuid::from_u128(u128::from(self.decisions)).to_string();
        let ruling = self.pdp.decide(input);
        let decided = Decided {
            id: &id,
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
        record.decided(&decided, |tool| self.catalog.tool(tool).map(|tool| tool.sensitive.clone()));
        // Once a call has been made, nobody asks whether its tool may be seen.
        if input.phase != Phase::Response && input.caller.tenant == TENANT && ruling.sees(TOOL) {
            let class = match (input.phase, ruling.outcome()) {
                (Phase::List, _) => "list_changed",
                (_, Outcome::Allow | Outcome::Pending) => "newly_denied",
                (_, Outcome::Deny) => "newly_hidden",
            };
            self.expected.insert(id, class);
        }
        ruling
    }

    /// The records of one call or list.
    fn call(&mut self, number: usize) -> Vec<Record> {
        self.now_ms += 7;
        let who = self.principal();
        let tenant = resolve_tenant(&who, None, None).unwrap();
        let list = self.roll(50) == 0;
        let mut record = Record::open(Opened {
            request_id: format!("req-{number}"),
            received_ms: self.now_ms,
            source: "10.0.0.7:51234".to_owned(),
            trace_id: format!("{number:032x}"),
            span_id: format!("{number:016x}"),
            ..Opened::default()
        });
        record.asked(if list { "tools/list" } else { "tools/call" }, Era::Modern);
        record.caller(&who, Some(&tenant));
        record.workflow("wf-1", &["plan".to_owned()]);
        if list {
            let input = Input { tools: Some(self.facts.clone()), ..self.input(Phase::List, &who) };
            self.note(&mut record, &input);
            return vec![record.stage(Stage::Outcome, self.now_ms + 3)];
        }
        let tool = if self.roll(4) == 0 {
            Arc::clone(self.catalog.tool(TOOL).unwrap())
        } else {
            let at = self.roll(self.tools.len());
            Arc::clone(&self.tools[at])
        };
        let arguments = json!({"release": format!("backend-v{}", self.roll(90)), "title": "t", "owner": "ben",
            "parent": "WI-1001", "note": "as the caller wrote it, over some words"});
        let arguments = arguments.as_object().unwrap().clone();
        record.called(&tool, None, &arguments);
        let asked = Input {
            tool: self.facts.get(&tool.name).cloned(),
            arguments,
            dry_run: self.roll(10) == 0,
            ..self.input(Phase::Call, &who)
        };
        let ruling = self.note(&mut record, &asked);
        if ruling.outcome() != Outcome::Allow {
            return vec![record.stage(Stage::Denied, self.now_ms + 1)];
        }
        let mut records = Vec::new();
        if tool.effect != Effect::Read {
            record.keyed(&format!("key-{number}"), Some(&format!("exe-{number}")));
            records.push(record.stage(Stage::Intent, self.now_ms + 1));
        }
        let response = ResponseFacts { status: 200, bytes: 812, record_ids: vec![format!("rec-{number}")] };
        self.note(&mut record, &Input { phase: Phase::Response, response: Some(response), ..asked });
        record.answered(Answered {
            execution: Execution::Executed,
            backend_status: Some(200),
            bytes: 812,
            record_ids: vec![format!("rec-{number}")],
            replayed: false,
        });
        records.push(record.stage(Stage::Outcome, self.now_ms + 5));
        records
    }
}

/// Writes the journal of so many calls.
fn journal(dir: &Path, calls: usize) -> World {
    let catalog = Catalog::from_yaml(&std::fs::read_to_string("config/catalog.yaml").unwrap()).unwrap();
    let facts = ToolFacts::of(&catalog);
    let pdp = Pdp::compile(&bundle::read(Path::new("policies")).unwrap(), &facts).unwrap();
    let tools: Vec<Arc<Tool>> = catalog.tools().cloned().collect();
    let mut world =
        World { catalog, facts, pdp, tools, dice: 7, now_ms: START_MS, decisions: 0, expected: Expected::new() };
    let (key, public) = generate_signing_key().unwrap();
    std::fs::write(dir.join("audit.pub"), public.pem()).unwrap();
    let mut settings = Settings::new(dir.join("audit"), "w".to_owned(), "bench".to_owned(), SigningKey::Pem(key));
    settings.low_water_bytes = 0;
    settings.deadline = Duration::from_mins(1);
    let time = Arc::new(AtomicI64::new(START_MS));
    let clock = Arc::clone(&time);
    let journal = Journal::open(settings, Arc::new(move || clock.load(Ordering::Relaxed))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for from in (0..calls).step_by(1_000) {
        let to = calls.min(from + 1_000);
        let records: Vec<Record> = (from..to).flat_map(|number| world.call(number)).collect();
        time.store(world.now_ms, Ordering::Relaxed);
        for kept in runtime.block_on(join_all(records.into_iter().map(|record| journal.append(record)))) {
            kept.unwrap();
        }
    }
    journal.close().unwrap();
    world
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// The policies with the tool taken from the organisation.
fn candidate(dir: &Path) {
    copy(Path::new("policies"), dir);
    let file = dir.join("data/tenants.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once(&format!("{TENANT}:")).unwrap();
    let after = after.replacen("tools:\n", &format!("tools:\n    {TOOL}: false\n"), 1);
    assert!(after.contains(TOOL));
    std::fs::write(file, format!("{before}{TENANT}:{after}")).unwrap();
}

/// Seconds of processor time of children that have ended.
fn children_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // cutime and cstime, in hundredths of a second.
    fields[13..15].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Runs a replay and gives its report.
fn replay(dir: &Path, candidate: &Path, more: &[&str]) -> Value {
    let (began, cpu) = (Instant::now(), children_cpu_s());
    let mut command = Command::new(env!("CARGO_BIN_EXE_loopgate"));
    command.args(["policy", "replay", "--json", "--recorded", "policies", "--catalog", "config/catalog.yaml"]);
    command.arg("--candidate").arg(candidate).arg("--journal").arg(dir.join("audit"));
    command.arg("--pub").arg(dir.join("audit.pub")).args(more);
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!(
        "replayed {} decisions, {} otherwise: {:.1} s, {:.1} s of processor time {}",
        report["replay"]["decisions"]["replayed"],
        report["replay"]["decisions"]["changed"],
        began.elapsed().as_secs_f64(),
        children_cpu_s() - cpu,
        more.join(" "),
    );
    report
}

fn main() {
    let calls = std::env::vars().find(|(name, _)| name == "CALLS").map_or(100_000, |(_, calls)| calls.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let world = journal(dir.path(), calls);
    let bytes: u64 = std::fs::read_dir(dir.path().join("audit/w"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "wrote {calls} calls with {} decisions, {} MB, in {:.1} s",
        world.decisions,
        bytes >> 20,
        began.elapsed().as_secs_f64()
    );
    let edited = dir.path().join("policies");
    candidate(&edited);

    let same = replay(dir.path(), Path::new("policies"), &[]);
    let decisions = &same["replay"]["decisions"];
    assert_eq!(decisions["recorded"], world.decisions);
    assert_eq!((&decisions["changed"], &decisions["skipped"]), (&json!(0), &json!(0)), "{decisions}");
    assert_eq!(same["replay"]["proven"], true);

    let list = dir.path().join("changes.jsonl");
    let changed = replay(dir.path(), &edited, &["--changes", list.to_str().unwrap()]);
    let found: Expected = std::fs::read_to_string(&list)
        .unwrap()
        .lines()
        .map(|line| {
            let change: Value = serde_json::from_str(line).unwrap();
            let class = change["class"].as_str().unwrap().to_owned().leak() as &str;
            (change["about"]["decision"].as_str().unwrap().to_owned(), class)
        })
        .collect();
    assert!(found == world.expected, "{} changes found, {} expected", found.len(), world.expected.len());
    let classes: BTreeSet<&str> = found.values().copied().collect();
    println!("exactly the {} decisions that must change, as {classes:?}", found.len());

    let mut again = replay(dir.path(), &edited, &["--threads", "1"]);
    let mut first = changed;
    first["made"] = Value::Null;
    again["made"] = Value::Null;
    assert_eq!(first.to_string(), again.to_string(), "the same report whatever the number of threads");
    println!("the same report on one thread");
}
