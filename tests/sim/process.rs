//! A gateway as the simulation runs it: the real sentence between doubles, born, killed and born again.
//!
//! Promises: a process that dies takes every call it was carrying with it, and nothing of it runs
//! afterwards; what it handed over before goes on; its successor has a name of its own.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use async_trait::async_trait;
use loopgate::adapters::upstream::UpstreamServers;
use loopgate::domain::canonical;
use loopgate::domain::identity::AuthMethod;
use loopgate::domain::identity::Principal;
use loopgate::domain::identity::fault::AuthFault;
use loopgate::domain::identity::signing::SigningKey;
use loopgate::domain::mcp::receive::DoorRules;
use loopgate::domain::pdp::EarlierCall;
use loopgate::metrics::Metrics;
use loopgate::pep;
use loopgate::pep::Pep;
use loopgate::pep::arrival::Answer;
use loopgate::pep::arrival::Arrival;
use loopgate::pep::arrival::Gate as _;
use loopgate::pep::arrival::Progress;
use loopgate::pep::ports::Clock;
use loopgate::pep::ports::Facts;
use loopgate::pep::ports::Keys;
use loopgate::pep::reconcile::Patience;
use loopgate::pep::rules::RulesCell;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::flaw::Flaw;
use crate::journal::Disks;
use crate::journal::SimJournal;
use crate::ledger::SimLedger;
use crate::ledger::Store;
use crate::loopiq::LoopIq;
use crate::loopiq::Wire;
use crate::rules;
use crate::rules::TENANT;
use crate::sea::Gate;
use crate::sea::Sea;
use crate::sea::Weather;

/// The issuer of everybody in the simulation.
pub(crate) const ISSUER: &str = "https://people.sim";

/// Both revisions of the rules, compiled once.
static CELLS: LazyLock<[Arc<RulesCell>; 2]> = LazyLock::new(|| {
    [0, 1].map(|revision| {
        let cell = RulesCell::default();
        cell.activate(rules::rules(revision, 0));
        Arc::new(cell)
    })
});

static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(|| Arc::new(Metrics::new()));

/// What all processes of a world share.
pub(crate) struct Surroundings {
    pub(crate) sea: Arc<Sea>,
    pub(crate) store: Arc<Store>,
    pub(crate) disks: Arc<Disks>,
    pub(crate) loopiq: Arc<LoopIq>,
    pub(crate) patience: Patience,
    pub(crate) flaw: Option<Flaw>,
}

/// How a process is born.
#[derive(Debug, Clone)]
pub(crate) struct Birth {
    pub(crate) name: String,
    pub(crate) epoch: u64,
    /// Which revision of the rules it loads.
    pub(crate) revision: usize,
    /// At which step it dies by itself.
    pub(crate) dies_at: u64,
    /// At which step one of its tasks stands still, and for how long.
    pub(crate) stands: (u64, Duration),
    /// How far its clock is from true time, in milliseconds.
    pub(crate) clock: Arc<AtomicI64>,
}

/// A running gateway.
pub(crate) struct Process {
    pub(crate) gate: Arc<Gate>,
    pub(crate) pep: Arc<Pep>,
    tasks: Mutex<JoinSet<()>>,
}

impl Process {
    pub(crate) fn start(around: &Surroundings, birth: &Birth) -> Arc<Self> {
        let gate = Gate::new(birth.dies_at, birth.stands, Arc::clone(&birth.clock));
        let sea = &around.sea;
        let ledger = Arc::new(SimLedger {
            sea: Arc::clone(sea),
            gate: Arc::clone(&gate),
            store: Arc::clone(&around.store),
            owner: format!("{}/{}", birth.name, birth.epoch),
        });
        let boot = (birth.name.as_str(), birth.epoch);
        let pep = Arc::new(Pep {
            rules: Arc::clone(&CELLS[birth.revision % 2]),
            keys: Arc::new(Everybody),
            backend: Arc::new(Wire {
                sea: Arc::clone(sea),
                gate: Arc::clone(&gate),
                loopiq: Arc::clone(&around.loopiq),
                flaw: around.flaw,
            }),
            ledger: Arc::clone(&ledger) as Arc<dyn pep::ports::Ledger>,
            approvals: ledger,
            journal: Arc::new(SimJournal::open(sea, &gate, &around.disks, boot, around.flaw)),
            facts: Arc::new(NoFacts),
            clock: Arc::new(SimClock { sea: Arc::clone(sea), gate: Arc::clone(&gate) }),
            propagation: propagation(),
            metrics: Arc::clone(&METRICS),
            settings: settings(around.patience),
            upstreams: Arc::new(UpstreamServers::new(Vec::new(), &METRICS)),
            in_flight: pep::InFlight::default(),
            levels: pep::Levels::default(),
            refused: pep::Refused::new(),
            quiet: pep::Quiet::default(),
            limiter: pep::Limiter::none(),
            listeners: pep::Listeners::default(),
        });
        let process = Arc::new(Self { gate, pep, tasks: Mutex::default() });
        process.keep_house(around);
        process
    }

    /// What `app` does beside the doors, a little lazier.
    fn keep_house(&self, around: &Surroundings) {
        let (pep, sea) = (Arc::clone(&self.pep), Arc::clone(&around.sea));
        self.tasks.lock().unwrap().spawn(async move {
            loop {
                sleep(Duration::from_secs(if sea.weather() == Weather::CALM { 10 } else { 2 })).await;
                // A ledger that does not answer is asked again next time.
                drop(pep.reconcile().await);
                drop(pep.expire().await);
            }
        });
    }

    /// A call at the door. Nothing comes back from a process that dies meanwhile.
    pub(crate) fn call(&self, arrival: Arrival) -> oneshot::Receiver<Answer> {
        let (tell, told) = oneshot::channel();
        let (pep, gate) = (Arc::clone(&self.pep), Arc::clone(&self.gate));
        self.tasks.lock().unwrap().spawn(async move {
            let answer = pep.handle(arrival, Progress::unheard()).await;
            gate.pass().await;
            drop(tell.send(answer));
        });
        told
    }

    /// Everything that it was doing ends where it stands.
    pub(crate) async fn bury(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        tasks.shutdown().await;
    }
}

fn propagation() -> pep::Propagation {
    let key = SigningKey::generate(&[7; 32]).unwrap();
    let proof = pep::Proof::Static("secret".to_owned());
    pep::Propagation {
        issuer: "sim".to_owned(),
        signers: Arc::new(key.into()),
        backends: [("loopiq".to_owned(), proof)].into(),
        exchange: Arc::new(pep::NoExchange),
    }
}

fn settings(patience: Patience) -> pep::Settings {
    pep::Settings {
        door: DoorRules { allowed_hosts: Vec::new(), allowed_origins: Vec::new(), loopback: true },
        json: canonical::Limits::default(),
        answers: canonical::Limits::default(),
        list_page: 100,
        list_ttl_ms: 0,
        resource: "http://127.0.0.1/mcp".to_owned(),
        issuers: Vec::new(),
        scopes: Vec::new(),
        needs: pep::Needs::default(),
        approvals_link: String::new(),
        patience,
    }
}

/// Knows everybody by name.
struct Everybody;

#[async_trait]
impl Keys for Everybody {
    async fn principal(&self, bearer: &str, _now_s: i64) -> Result<Arc<Principal>, AuthFault> {
        Ok(Arc::new(Principal {
            user: bearer.to_owned(),
            issuer: ISSUER.to_owned(),
            method: AuthMethod::Oauth,
            client: Some("agent".to_owned()),
            tenants: vec![TENANT.to_owned()],
            active_tenant: None,
            roles: vec!["writer".to_owned()],
            teams: std::collections::BTreeMap::new(),
            permissions: Vec::new(),
            scopes: Vec::new(),
            expires_at: i64::MAX,
        }))
    }
}

struct NoFacts;

impl Facts for NoFacts {
    fn recall(&self, _tenant: &str, _caller: &Principal, _workflow: &str) -> Vec<EarlierCall> {
        Vec::new()
    }

    fn note(&self, _tenant: &str, _caller: &Principal, _workflow: &str, _call: EarlierCall) {}
}

struct SimClock {
    sea: Arc<Sea>,
    gate: Arc<Gate>,
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.sea.now_ms() + self.gate.off_ms()
    }

    fn random(&self) -> [u8; 16] {
        self.sea.dice.bytes()
    }
}
