//! Rules change while calls run: whole or not at all, and never for the worse.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use loopgate::adapters::reload::Watcher;
use loopgate::adapters::reload::steward::Steward;
use loopgate::adapters::reload::steward::Tools;
use loopgate::adapters::reload::steward::Ways;
use loopgate::adapters::store::Store;
use loopgate::domain::audit::AuditRef;
use loopgate::domain::audit::JournalFault;
use loopgate::domain::audit::record::Record;
use loopgate::domain::rollout::canary::Limits;
use loopgate::domain::rollout::gate::Demands;
use loopgate::domain::rollout::gate::GateFault;
use loopgate::metrics::Metrics;
use loopgate::pep::ports;
use loopgate::pep::rules::RulesCell;
use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bench::Failing;
use crate::bench::Now;
use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::Site;
use crate::harness::World;
use crate::harness::eventually;
use crate::message::Message;

const TENANTS: &str = "policies/data/tenants.yaml";
const DECISION: &str = "policies/loopiq/gateway/decision.rego";
const OPEN: &str = "    admin: true\n  tools: {}\n";
const WITHOUT_RELEASES: &str = "    admin: true\n  tools: {loopiq_get_release: false}\n";
const STALE: &str = "loopgate_rules_stale";

fn get_release(world: &World) -> Message {
    world.call("ada", "loopiq_get_release", json!({"release": RELEASE}))
}

/// Waits until the files on disk are refused; gives what the operators' door says.
async fn refused(world: &World) -> Value {
    eventually("the refusal", || async {
        let readiness = world.readiness().await;
        let told = !readiness["findings"].as_array().unwrap().is_empty();
        (told && world.metric(STALE).await == Some(1.0)).then_some(readiness)
    })
    .await
}

/// Waits until nothing is wrong with the files on disk.
async fn accepted(world: &World) -> Value {
    eventually("the repair", || async {
        let readiness = world.readiness().await;
        let silent = readiness["findings"] == json!([]);
        (silent && world.metric(STALE).await == Some(0.0)).then_some(readiness)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_edit_takes_effect_between_calls_and_drops_none() {
    let world = World::new().await;
    let before = get_release(&world).send().await;
    before.done();
    world.edit(TENANTS, OPEN, WITHOUT_RELEASES);
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let call = get_release(&world).id(format!("caller-{caller}"));
        callers.spawn(async move {
            let mut codes = Vec::new();
            // At least fifty calls each, and on until the change has been seen.
            while codes.len() < 50 || codes.last().is_some_and(|last| last == "ok") {
                assert!(codes.len() < 5_000, "the change never came");
                let answer = call.send().await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                codes.push(answer.code().to_owned());
            }
            codes
        });
    }
    for codes in callers.join_all().await {
        let turn = codes.iter().position(|code| code != "ok").unwrap();
        assert!(codes[turn..].iter().all(|code| code == "unknown_tool"), "back and forth: {codes:?}");
    }
    let other = world.read("ada").send().await;
    other.done();
    assert_ne!(other.audit()["policyRevision"], before.audit()["policyRevision"]);
    let journal = world.journal();
    let activated: Vec<&Value> =
        journal.iter().filter(|one| one["unmapped"]["loopgate"]["stage"] == "policy.activated").collect();
    assert_eq!(activated.len(), 2);
    assert_eq!(activated[1]["unmapped"]["loopgate"]["data"]["policyRevision"], other.audit()["policyRevision"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_edit_leaves_the_old_rules_deciding_and_says_so_everywhere_until_it_is_fixed() {
    let world = World::new().await;
    let revision = world.readiness().await["rules"]["revision"].clone();
    let allow = "\"allow\": count(reasons) == 0,\n\t\"reasons\": reasons,";
    // Each breaks in another way; the last two are good Rego that would let everything through.
    for (file, from, to, named) in [
        ("catalog.yaml", "\nbackend: loopiq\n", "\nbackend: loopiq-eu\n", "loopiq-eu"),
        (TENANTS, "name: Nordbank\n  mcp_enabled: true", "name: Nordbank\n  mcp_enabled: [", "data/tenants.yaml"),
        (DECISION, "package loopiq.gateway", "package loopiq.gateway\n\nnonsense(", "decision.rego"),
        ("catalog.yaml", "effect: read", "effect: rad", "catalog.yaml"),
        (DECISION, allow, "\"allow\": true,\n\t\"reasons\": set(),", ""),
        (DECISION, "\ttenant_open\n\tsome name, _ in tools\n\tnot name in hidden_names", "\tsome name, _ in tools", ""),
    ] {
        let lines = world.journal().len();
        world.edit(file, from, to);
        let readiness = refused(&world).await;
        assert_eq!(readiness["ready"], true, "the old rules serve: {readiness}");
        assert_eq!(readiness["rules"]["revision"], revision, "{readiness}");
        assert!(readiness["findings"].to_string().contains(named), "{readiness}");
        get_release(&world).send().await.done();
        world.call("vic", "loopiq_create_work_item", json!({})).send().await.is_refused("unknown_tool");
        let journal = world.journal().split_off(lines);
        let record = journal.iter().find(|one| one["unmapped"]["loopgate"]["stage"] == "policy.refused").unwrap();
        let data = &record["unmapped"]["loopgate"]["data"];
        assert_eq!(data["kept"], revision, "{record}");
        assert!(data["faults"].to_string().contains(named), "{record}");
        world.edit(file, to, from);
        assert_eq!(accepted(&world).await["rules"]["revision"], revision);
    }
    assert!(
        world.journal().iter().filter(|one| one["unmapped"]["loopgate"]["stage"] == "policy.activated").count() == 1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_edit_takes_effect() {
    let world = World::new().await;
    world.edit("catalog.yaml", "title: Get a release\n", "title: Show one release\n");
    eventually("the new title", || async {
        let list = world.message("ada", "tools/list").modern().send().await;
        list.text.contains("Show one release").then_some(())
    })
    .await;
    // The semantic tool is gone, and with it its route.
    let raw = json!({"method": "GET", "path": format!("/api/v1/releases/{RELEASE}")});
    world.call("ada", "loopiq_invoke_route", raw.clone()).send().await.done();
    world.edit(
        "catalog.yaml",
        "route: GET /api/v1/releases/{release}\n",
        "route: GET /api/v1/other-releases/{release}\n",
    );
    eventually("the end of the route", || async {
        let answer = world.call("ada", "loopiq_invoke_route", raw.clone()).send().await;
        (answer.code() == "unknown_tool").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_starts_with_broken_rules_decides_nothing_until_they_are_fixed() {
    let broken = ("data/tenants.yaml", "org_gcn:\n", "org_gcn: [\n");
    let world = World::with(Setup { policies: vec![broken], ..Setup::default() }).await;
    let ready = world.http.get(format!("{}/readyz", world.admin)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    world.read("ada").send().await.is_refused("policy_unavailable");
    world.message("ada", "tools/list").send().await.is_refused("policy_unavailable");
    assert!(world.seen().await.is_empty());
    let alive = world.http.get(format!("{}/healthz", world.admin)).send().await.unwrap();
    assert_eq!(alive.status(), 200);
    world.edit(TENANTS, "org_gcn: [\n", "org_gcn:\n");
    assert_eq!(accepted(&world).await["ready"], true);
    world.read("ada").send().await.done();
}

/// An operator who edits a file at the very moment at which the first rules go in force.
struct Editing {
    file: PathBuf,
    records: Failing,
}

#[async_trait]
impl ports::Journal for Editing {
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault> {
        let text = fs::read_to_string(&self.file).unwrap();
        fs::write(&self.file, text.replace(OPEN, WITHOUT_RELEASES)).unwrap();
        self.records.append(record).await
    }

    fn ready(&self, for_write: bool) -> Result<(), JournalFault> {
        self.records.ready(for_write)
    }
}

/// What keeps policy in force, over a store of its own.
fn steward(
    cell: &Arc<RulesCell>,
    store: &Path,
    journal: Arc<dyn ports::Journal>,
    clock: Arc<dyn ports::Clock>,
) -> Arc<Steward> {
    let tools = Tools {
        cell: Arc::clone(cell),
        store: Arc::new(Store::open(store).unwrap()),
        journal,
        clock,
        metrics: Arc::new(Metrics::new()),
        tallies: Arc::default(),
        checker: env!("CARGO_BIN_EXE_loopgate").into(),
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

/// The files used to be looked at for the first time only after they had been loaded, so that an
/// edit in between was never noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_made_while_the_gateway_starts_is_not_missed() {
    let site = Site::make(&Setup::default()).await;
    let cell = Arc::new(RulesCell::default());
    let journal = Editing { file: site.dir.path().join(TENANTS), records: Failing::with_room(10) };
    let steward = steward(&cell, &site.dir.path().join("store"), Arc::new(journal), Arc::new(Now));
    let mut watcher = Watcher::new(site.sources(), None, steward, Duration::from_millis(10));
    let seen = watcher.first().await;
    let first = cell.current().unwrap().revision();
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(watcher.run(seen, stopped));
    eventually("the change", || async { (cell.current().unwrap().revision() != first).then_some(()) }).await;
    stop.send_replace(true);
    tasks.join_all().await;
}
