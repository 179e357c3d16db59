//! No record, no answer: what the journal holds, and what happens when it cannot hold more.

use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use loopgate::adapters::backend::Backends;
use loopgate::adapters::facts::RecentCalls;
use loopgate::adapters::reload;
use loopgate::adapters::reload::Sources;
use loopgate::app;
use loopgate::app::keys::OwnKeys;
use loopgate::domain::audit::AuditRef;
use loopgate::domain::audit::JournalFault;
use loopgate::domain::audit::record::Record;
use loopgate::domain::canonical;
use loopgate::domain::mcp::Head;
use loopgate::domain::mcp::receive::DoorRules;
use loopgate::metrics::Metrics;
use loopgate::pep;
use loopgate::pep::Pep;
use loopgate::pep::arrival::Arrival;
use loopgate::pep::arrival::Cancel;
use loopgate::pep::arrival::Gate;
use loopgate::pep::arrival::Progress;
use loopgate::pep::ports;
use loopgate::pep::rules::RulesCell;
use serde_json::Value;
use serde_json::json;

use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::Site;
use crate::harness::World;
use crate::harness::claims;
use crate::message::Message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_its_record_where_its_reference_says() {
    let world = World::new().await;
    let write = json!({"title": "t", "type": "task", "parent": "WI-1001", "owner": "ben"});
    for (call, stage, code) in [
        (world.read("ada"), "outcome", None),
        (world.read("ada").modern(), "outcome", None),
        (world.call("ada", "loopiq_get_tenant_context", json!({})), "outcome", None),
        (world.call("ada", "loopiq_list_routes", json!({})), "outcome", None),
        (world.write("ada", "Recorded"), "outcome", None),
        (world.read("cleo"), "denied", Some("tenant_required")),
        (world.read("ada").header("X-LoopIQ-Tenant", "org_nordbank"), "denied", Some("tenant_forbidden")),
        (world.call("ada", "loopiq_get_release", json!({"release": 7})), "denied", Some("invalid_arguments")),
        (
            world.call("ben", "loopiq_create_work_item", {
                let mut w = write.clone();
                w["owner"] = json!("  ");
                w
            }),
            "denied",
            Some("policy_denied"),
        ),
        (world.call("ada", "loopiq_get_release", json!({"release": "none"})), "outcome", Some("backend_rejected")),
    ] {
        let answer = call.send().await;
        let record = world.record(answer.audit());
        let own = &record["unmapped"]["loopgate"];
        assert_eq!(own["stage"], stage, "{record}");
        assert_eq!(own["refusal"]["code"].as_str(), code, "{record}");
        assert_eq!(record["metadata"]["correlation_uid"], answer.audit()["requestId"]);
        assert_eq!(record["actor"]["user"]["uid"], answer.audit()["user"]);
        assert_eq!(record["trace"]["uid"], answer.audit()["traceId"]);
    }
    // Answers without a reference have a record too, found by what they are.
    let before = world.journal().len();
    world.message("ada", "tools/list").send().await;
    world.call("vic", "loopiq_create_work_item", write).send().await.is_refused("unknown_tool");
    Message::new(&world.http, &world.mcp, "tools/list").header("authorization", "Bearer x").send().await;
    world.message("ada", "no/such/method").send().await;
    let fresh: Vec<Value> = world.journal().split_off(before);
    let requests: Vec<(&str, Option<&str>)> = fresh
        .iter()
        .filter(|record| record["api"]["request"]["uid"].is_string())
        .map(|record| {
            (record["api"]["operation"].as_str().unwrap(), record["unmapped"]["loopgate"]["refusal"]["code"].as_str())
        })
        .collect();
    let codes: Vec<Option<&str>> = requests.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [None, Some("unknown_tool"), Some("unauthenticated"), Some("bad_message")], "{requests:?}");
    assert_eq!(requests[0].0, "tools/list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_intent_of_a_write_is_in_the_journal_before_its_outcome_and_the_whole_verifies() {
    let mut world = World::new().await;
    let write = world.write("ada", "Intended").send().await;
    write.done();
    let id = write.audit()["requestId"].as_str().unwrap();
    assert_eq!(world.stages(id), ["intent", "outcome"]);
    let read = world.read("ada").send().await;
    assert_eq!(world.stages(read.audit()["requestId"].as_str().unwrap()), ["outcome"]);
    world.fault(json!({"method": "POST", "path": "/api/v1/work-items", "kind": "reset_after_commit"})).await;
    let lost = world.write("ada", "Intended-and-lost").send().await;
    assert_eq!(world.stages(lost.audit()["requestId"].as_str().unwrap()), ["intent", "outcome"]);
    let intent = world.journal().into_iter().find(|one| one["unmapped"]["loopgate"]["stage"] == "intent").unwrap();
    assert_eq!(intent["api"]["request"]["data"]["arguments"]["title"], "Intended", "what will be sent is written down");
    assert_eq!(intent["unmapped"]["loopgate"]["idempotency_key"], write.audit()["idempotencyKey"]);

    // Anyone can check the files alone, with the public key.
    world.stop_gateway().await;
    let verify = |world: &World| {
        let key = world.path("keys/audit.pub");
        let dir = world.path("audit");
        Command::new(env!("CARGO_BIN_EXE_loopgate"))
            .args(["audit", "verify"])
            .arg(dir)
            .arg("--pub")
            .arg(key)
            .output()
            .unwrap()
    };
    let fine = verify(&world);
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stdout));
    let segment = std::fs::read_dir(world.path("audit/it"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|ext| ext == "jsonl"))
        .unwrap();
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replacen("Intended-and-lost", "Never-happened!!!", 1)).unwrap();
    assert!(!verify(&world).status.success(), "an altered record is found");
}

/// Below the low-water mark the journal keeps its last room for what has to be said of calls that
/// were made; a write would be a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_writes_before_they_are_sent_and_reads_go_on() {
    let world = World::with(Setup { audit: ", low_water: 1048576GiB", ..Setup::default() }).await;
    let answer = world.write("ada", "No-room-for-it").send().await;
    answer.is_refused("audit_unavailable");
    assert!(world.seen().await.is_empty());
    assert!(world.work_items("No-room-for-it").await.is_empty());
    world.read("ada").send().await.done();
    let readiness = world.readiness().await;
    assert!(readiness["findings"].to_string().contains("low-water"), "{readiness}");
    assert_eq!(world.metric("loopgate_journal_faults_total{result=\"refused\"}").await, Some(1.0));
}

/// A journal whose disk takes so many records and then no more.
struct Failing {
    left: Mutex<usize>,
    kept: Mutex<Vec<Record>>,
}

#[async_trait]
impl ports::Journal for Failing {
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault> {
        let mut left = self.left.lock().unwrap();
        if *left == 0 {
            return Err(JournalFault::Failing { cause: "no space left on device".to_owned() });
        }
        *left -= 1;
        let mut kept = self.kept.lock().unwrap();
        kept.push(record);
        Ok(AuditRef { writer: "failing".to_owned(), epoch: 1, seq: kept.len() as u64 - 1 })
    }

    /// The fault is not known before the next record meets it.
    fn ready(&self, _for_write: bool) -> Result<(), JournalFault> {
        Ok(())
    }
}

struct Now;

impl ports::Clock for Now {
    fn now_ms(&self) -> i64 {
        app::now_s() * 1000
    }

    fn random(&self) -> [u8; 16] {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        random
    }
}

/// The sentence over the real rules, keys and backend, and over a journal that fails.
struct Bench {
    site: Site,
    gate: Pep,
    journal: Arc<Failing>,
}

impl Bench {
    async fn new(records: usize) -> Self {
        let site = Site::make(&Setup::default()).await;
        let settings = site.settings();
        let resource = "http://127.0.0.1:1/mcp".to_owned();
        let sources = Sources { checker: Site::checker(), ..app::sources(&settings) };
        let rules = RulesCell::default();
        rules.activate(reload::load(&sources, 0).await.unwrap());
        let keys = app::issuers(&settings, &resource).unwrap();
        keys.load().await;
        let metrics = Arc::new(Metrics::new());
        let journal = Arc::new(Failing { left: Mutex::new(records), kept: Mutex::default() });
        let own = OwnKeys::open(&settings.keys_dir).unwrap();
        let proof =
            pep::Proof::Assertion { audience: "loopiq".to_owned(), lifetime: std::time::Duration::from_mins(1) };
        let json = canonical::Limits { bytes_max: 1 << 20, depth_max: 64, members_max: 10_000 };
        let gate = Pep {
            rules: Arc::new(rules),
            keys: Arc::new(keys),
            backend: Arc::new(Backends::new(app::targets(&settings), 4, 1 << 20, &metrics)),
            journal: Arc::clone(&journal) as Arc<dyn ports::Journal>,
            facts: Arc::new(RecentCalls::new()),
            clock: Arc::new(Now),
            propagation: pep::Propagation {
                issuer: resource.clone(),
                key: own.assertion,
                backends: [("loopiq".to_owned(), proof)].into(),
            },
            metrics,
            settings: pep::Settings {
                door: DoorRules { loopback: true, ..DoorRules::default() },
                json,
                answers: json,
                list_page: 100,
                list_ttl_ms: 0,
                resource,
                issuers: Vec::new(),
                scopes: Vec::new(),
            },
            in_flight: pep::InFlight::default(),
            refused: pep::Refused::new(),
        };
        Self { site, gate, journal }
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let token = self.site.people.mint(&claims("ada"), app::now_s(), 600, "one");
        let headers = [
            ("host", "127.0.0.1"),
            ("content-type", "application/json"),
            ("authorization", &format!("Bearer {token}")),
        ];
        let head = Head {
            method: "POST".to_owned(),
            path: "/mcp".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        };
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let arrival = Arrival { head, body: Ok(Bytes::from(body)), peer: None, cancel: Cancel::new() };
        let answer = self.gate.handle(arrival, Progress::unheard()).await;
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn write(&self, key: &str) -> Value {
        let arguments =
            json!({"title": key, "type": "task", "parent": "WI-1001", "owner": "ben", "idempotencyKey": key});
        self.ask("tools/call", json!({"name": "loopiq_create_work_item", "arguments": arguments})).await
    }

    /// Requests that the backend has seen.
    async fn sent(&self) -> usize {
        let url = format!("http://{}/_sandbox/requests", self.site.sandbox.addr());
        let seen: Value = self.site.http.get(url).send().await.unwrap().json().await.unwrap();
        seen["items"].as_array().unwrap().len()
    }
}

fn refused(answer: &Value) -> &Value {
    &answer["result"]["_meta"]["com.loopiq/error"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_no_answer() {
    let bench = Bench::new(0).await;
    let read = json!({"name": "loopiq_get_release_certification", "arguments": {"release": RELEASE}});
    let answer = bench.ask("tools/call", read).await;
    assert_eq!(refused(&answer)["code"], "audit_unavailable", "{answer}");
    assert!(!answer.to_string().contains("SOC2"), "nothing of the answer is shown: {answer}");
    let context = bench.ask("tools/call", json!({"name": "loopiq_get_tenant_context", "arguments": {}})).await;
    assert_eq!(refused(&context)["code"], "audit_unavailable", "{context}");
    let list = bench.ask("tools/list", json!({})).await;
    assert!(list["result"].is_null() && !list.to_string().contains("loopiq_get"), "{list}");
    assert_eq!(list["error"]["data"]["code"], "audit_unavailable", "{list}");
    assert!(bench.journal.kept.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_intent_cannot_be_recorded_is_not_sent() {
    let bench = Bench::new(0).await;
    let answer = bench.write("unintended").await;
    assert_eq!(refused(&answer)["code"], "audit_unavailable", "{answer}");
    assert!(refused(&answer)["sent"].is_null(), "{answer}");
    assert_eq!(bench.sent().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_sent_and_cannot_be_recorded_says_so() {
    // Room for the intent, none for the outcome.
    let bench = Bench::new(1).await;
    let answer = bench.write("unrecorded").await;
    let said = refused(&answer);
    assert_eq!((&said["code"], &said["sent"]), (&json!("audit_unavailable"), &json!(true)), "{answer}");
    assert_eq!(said["idempotencyKey"], "unrecorded");
    assert!(said["next"].as_str().unwrap().contains("unrecorded"), "{answer}");
    assert!(!answer.to_string().contains("WI-"), "what cannot be recorded is not shown: {answer}");
    assert_eq!(bench.sent().await, 1);
    // With room again, the same key gives the same record.
    *bench.journal.left.lock().unwrap() = 10;
    let again = bench.write("unrecorded").await;
    let first = again["result"]["structuredContent"]["id"].clone();
    assert_eq!(again["result"]["isError"], false, "{again}");
    assert_eq!(bench.write("unrecorded").await["result"]["structuredContent"]["id"], first, "{again}");
}
