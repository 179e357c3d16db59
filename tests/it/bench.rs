//! The sentence on a bench: real rules, keys and backend, and ports that do what a test wants.
//!
//! For what a world cannot be made to do at the right moment: a journal that fails, a caller who
//! gives up while policy decides.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use loopgate::adapters::backend::Backends;
use loopgate::adapters::facts::RecentCalls;
use loopgate::adapters::reload;
use loopgate::adapters::upstream::UpstreamServers;
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
use loopgate::pep::arrival::Answer;
use loopgate::pep::arrival::Arrival;
use loopgate::pep::arrival::Cancel;
use loopgate::pep::arrival::Gate;
use loopgate::pep::arrival::Progress;
use loopgate::pep::ports;
use loopgate::pep::rules::RulesCell;
use serde_json::Value;
use serde_json::json;

use crate::harness::Setup;
use crate::harness::Site;
use crate::harness::claims;

/// A journal whose disk takes so many records and then no more.
pub(crate) struct Failing {
    left: Mutex<usize>,
    kept: Mutex<Vec<Record>>,
}

impl Failing {
    pub(crate) fn with_room(records: usize) -> Self {
        Self { left: Mutex::new(records), kept: Mutex::default() }
    }

    pub(crate) fn make_room(&self, records: usize) {
        *self.left.lock().unwrap() = records;
    }

    /// What is kept, by stage.
    pub(crate) fn stages(&self) -> Vec<String> {
        self.kept.lock().unwrap().iter().map(|record| record.at().to_string()).collect()
    }
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

/// The clock of the wall.
pub(crate) struct Now;

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
pub(crate) struct Bench {
    pub(crate) site: Site,
    pub(crate) gate: Pep,
    pub(crate) journal: Arc<Failing>,
}

impl Bench {
    /// Over a journal with room for so many records.
    pub(crate) async fn with_room(records: usize) -> Self {
        Self::with(records, Arc::new(RecentCalls::new())).await
    }

    pub(crate) async fn with(records: usize, facts: Arc<dyn ports::Facts>) -> Self {
        Self::in_setup(&Setup::default(), records, facts).await
    }

    pub(crate) async fn in_setup(setup: &Setup, records: usize, facts: Arc<dyn ports::Facts>) -> Self {
        let site = Site::make(setup).await;
        let settings = site.settings();
        let resource = "http://127.0.0.1:1/mcp".to_owned();
        let rules = RulesCell::default();
        rules.activate(reload::load(&site.sources(), 0).await.unwrap());
        let keys = app::issuers(&settings, &resource).unwrap();
        keys.load().await;
        let metrics = Arc::new(Metrics::new());
        let journal = Arc::new(Failing::with_room(records));
        let own = OwnKeys::open(&settings.keys_dir).unwrap();
        let proof = pep::Proof::Assertion { audience: "loopiq".to_owned(), lifetime: Duration::from_mins(1) };
        let json = canonical::Limits { bytes_max: 1 << 20, depth_max: 64, members_max: 10_000 };
        let clock: Arc<dyn ports::Clock> = Arc::new(Now);
        let ledger = app::open_ledger(&settings, &clock, &metrics).await.unwrap();
        let gate = Pep {
            rules: Arc::new(rules),
            keys: Arc::new(keys),
            backend: Arc::new(Backends::new(app::targets(&settings), 4, 1 << 20, &metrics)),
            upstreams: Arc::new(UpstreamServers::new(Vec::new(), &metrics)),
            ledger: Arc::clone(&ledger) as Arc<dyn ports::Ledger>,
            approvals: ledger,
            journal: Arc::clone(&journal) as Arc<dyn ports::Journal>,
            facts,
            clock,
            propagation: pep::Propagation {
                issuer: resource.clone(),
                signers: Arc::new(pep::Signers::new(own.ring)),
                backends: [("loopiq".to_owned(), proof)].into(),
                exchange: Arc::new(pep::NoExchange),
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
                needs: pep::Needs::default(),
                approvals_link: String::new(),
                patience: pep::reconcile::Patience { resend_ms: 3_600_000, settle: Duration::from_secs(30) },
            },
            in_flight: pep::InFlight::default(),
            levels: pep::Levels::default(),
            refused: pep::Refused::new(),
            quiet: pep::Quiet::default(),
            limiter: pep::Limiter::none(),
            listeners: pep::Listeners::default(),
        };
        Self { site, gate, journal }
    }

    /// A message of ada's and its answer.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        serde_json::from_slice(&self.hear("ada", &body).await.body).unwrap()
    }

    /// Any message of anyone's.
    pub(crate) async fn hear(&self, user: &str, body: &Value) -> Answer {
        let token = self.site.people.mint(&claims(user), app::now_s(), 600, "one");
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
        let body = Ok(Bytes::from(body.to_string()));
        self.gate
            .handle(Arrival { head, body, peer: None, certificate: None, cancel: Cancel::new() }, Progress::unheard())
            .await
    }

    pub(crate) async fn write(&self, key: &str) -> Value {
        let arguments =
            json!({"title": key, "type": "task", "parent": "WI-1001", "owner": "ben", "idempotencyKey": key});
        self.ask("tools/call", json!({"name": "loopiq_create_work_item", "arguments": arguments})).await
    }

    /// Requests that the backend has seen.
    pub(crate) async fn sent(&self) -> usize {
        let url = format!("http://{}/_sandbox/requests", self.site.sandbox.addr());
        let seen: Value = self.site.http.get(url).send().await.unwrap().json().await.unwrap();
        seen["items"].as_array().unwrap().len()
    }
}
