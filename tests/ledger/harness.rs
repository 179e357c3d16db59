//! Ledgers to try, and writes and approvals to put in them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::LazyLock;

use loopgate::adapters::ledger::Ledger;
use loopgate::adapters::ledger::Place;
use loopgate::adapters::ledger::Settings;
use loopgate::adapters::ledger::WallClock;
use loopgate::domain::approval::Ballot;
use loopgate::domain::approval::Person;
use loopgate::domain::approval::Ticket;
use loopgate::domain::approval::Verdict;
use loopgate::domain::idempotency::Claimed;
use loopgate::domain::idempotency::Execution;
use loopgate::domain::idempotency::Found;
use loopgate::domain::idempotency::Kept;
use loopgate::domain::idempotency::KnownBy;
use loopgate::domain::idempotency::Opinion;
use loopgate::domain::idempotency::Plan;
use loopgate::domain::idempotency::Settlement;
use loopgate::metrics::Metrics;
use loopgate::pep::ports::Approvals as _;
use loopgate::pep::ports::Claim;
use loopgate::pep::ports::Ledger as _;
use loopgate::pep::ports::LedgerFault;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::Cluster;

/// A lease that lasts as long as any test.
pub(crate) const LONG: i64 = 600_000;
/// A lease that has run out when it begins.
pub(crate) const OVER: i64 = -1000;

/// A place for one ledger that gateways share or take over from each other.
pub(crate) struct Store {
    place: Place,
    _dir: Option<TempDir>,
}

/// One server for every test that does not stop it; each has a database of its own.
static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::start);

impl Store {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { place: Place::Sqlite(dir.path().join("deep/ledger.db")), _dir: Some(dir) }
    }

    pub(crate) fn postgres() -> Self {
        Self::on(&CLUSTER)
    }

    /// A database of its own on a server.
    pub(crate) fn on(cluster: &Cluster) -> Self {
        Self { place: Place::Postgres { url: cluster.database(), connections: 8 }, _dir: None }
    }

    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    pub(crate) fn file(&self) -> PathBuf {
        match &self.place {
            Place::Sqlite(path) => path.clone(),
            Place::Postgres { .. } => panic!("it is in no file"),
        }
    }

    /// A place for a ledger that may not be there.
    pub(crate) fn at(url: &str) -> Self {
        Self { place: Place::Postgres { url: url.to_owned(), connections: 8 }, _dir: None }
    }

    /// Another gateway opens it; one boot after another is another owner.
    pub(crate) fn try_open(&self, owner: &str) -> Result<Arc<Ledger>, LedgerFault> {
        let name_if_new = format!("ledger_of_{owner}");
        let settings = Settings { place: self.place.clone(), owner: owner.to_owned(), name_if_new };
        let clock: WallClock = Arc::new(|| jiff::Timestamp::now().as_millisecond());
        Ledger::open(settings, clock, Arc::new(Metrics::new())).map(Arc::new)
    }

    pub(crate) fn open(&self) -> Arc<Ledger> {
        self.try_open("a").unwrap()
    }
}

/// Runs each promise over each engine.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(&crate::harness::Store::sqlite()).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(&crate::harness::Store::postgres()).await;
            })*
        }
    };
}
pub(crate) use promises;

/// A write under a key, of `ada` in `org_gcn`.
pub(crate) fn plan(key: &str) -> Plan {
    let arguments = arguments();
    serde_json::from_value(json!({
        "executionId": format!("exec-{key}"),
        "tenant": "org_gcn", "issuer": "https://issuer", "user": "ada", "client": "agent", "workflow": "wf-1",
        "key": key, "supplier": "client", "fingerprint": format!("print-{key}"),
        "tool": "loopiq_create_work_item", "definition": "d1", "arguments": arguments, "approvalId": null,
        "request": {
            "backend": "loopiq", "method": "POST", "pathAndQuery": "/api/v1/work-items",
            "body": "{\"title\":\"é \\u0000\"}", "ifMatch": null, "timeoutMs": 30_000,
        },
        "input": {
            "schema": 1, "phase": "call", "arguments": arguments,
            "caller": {
                "user": "ada", "issuer": "https://issuer", "tenant": "org_gcn", "roles": [], "teams": {},
                "permissions": [], "scopes": [], "client": "agent", "method": "oauth",
            },
            "context": {"workflow": "wf-1", "chain": [], "now_ms": 1, "now": "1970-01-01T00:00:00Z"},
        },
        "requestId": "req-1", "traceId": "trace-1", "decisionId": "dec-1",
    }))
    .unwrap()
}

/// Numbers and text that change when they are read carelessly.
fn arguments() -> Value {
    json!({"title": "a\u{0}b 漢 \u{1F600}", "n": 9_007_199_254_740_991_u64, "f": 5.0e-324, "g": 0.1, "h": 1.797_693_134_862_315_7e308, "nested": {"b": [], "a": null}})
}

/// The same write, under an approval.
pub(crate) fn under(key: &str, approval: &str) -> Plan {
    Plan { approval_id: Some(approval.to_owned()), fingerprint: format!("print-{key}-{approval}"), ..plan(key) }
}

/// A request for approval of what [`plan`] does, by two of `eve`, `fay` and `gil`; good for an hour either way.
pub(crate) fn ticket(id: &str) -> Ticket {
    ticket_with(id, |_| {})
}

pub(crate) fn ticket_with(id: &str, change: impl FnOnce(&mut Ticket)) -> Ticket {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut ticket: Ticket = serde_json::from_value(json!({
        "id": id,
        "subject": {
            "v": 1, "tenant": "org_gcn", "requester": {"issuer": "https://issuer", "user": "ada"}, "client": "agent",
            "workflow": "wf-1", "idempotencyKey": null, "tool": "loopiq_create_work_item", "definition": "d1",
            "route": "POST /api/v1/work-items", "arguments": arguments(), "request": {"method": "POST"},
            "preview": {"would": "create", "cost": 0.3}, "previewDigest": "p", "previewBy": "backend",
            "recordVersion": null, "policyBundle": "b", "policyData": "d", "approveByMs": now_ms + 3_600_000,
            "executeWithinS": 3600,
        },
        "digest": "",
        "requirement": {
            "roles": ["approver"], "teams": [], "users": [], "count": 2, "approveByS": 3600, "executeWithinS": 3600,
            "preview": true,
        },
        "reasons": [], "askedMs": now_ms, "requestId": "req-1", "traceId": "trace-1", "state": "pending",
        "ended": null, "ballots": [], "executeByMs": null, "consumedBy": null,
    }))
    .unwrap();
    change(&mut ticket);
    ticket.digest = ticket.subject.digest().unwrap();
    ticket
}

pub(crate) fn person(user: &str) -> Person {
    Person { issuer: "https://issuer".to_owned(), user: user.to_owned() }
}

pub(crate) fn ballot(ticket: &Ticket, user: &str, verdict: Verdict) -> Ballot {
    Ballot {
        voter: person(user),
        roles: vec!["approver".to_owned()],
        teams: Vec::new(),
        verdict,
        reason: "because".to_owned(),
        digest: ticket.digest.clone(),
        at_ms: 0,
    }
}

/// A ticket that enough people have agreed to.
pub(crate) async fn approved(ledger: &Ledger, id: &str) -> Ticket {
    agreed(ledger, ticket(id)).await
}

pub(crate) async fn agreed(ledger: &Ledger, ticket: Ticket) -> Ticket {
    let ticket = ledger.ask(&ticket).await.unwrap();
    ledger.vote(&ticket.id, &ballot(&ticket, "eve", Verdict::Approve)).await.unwrap().unwrap();
    ledger.vote(&ticket.id, &ballot(&ticket, "fay", Verdict::Approve)).await.unwrap().unwrap()
}

pub(crate) fn opinion(user: &str, happened: bool) -> Opinion {
    Opinion {
        issuer: "https://issuer".to_owned(),
        user: user.to_owned(),
        happened,
        evidence: "seen in LoopIQ".to_owned(),
        record_ids: if happened { vec!["wi_1".to_owned()] } else { Vec::new() },
        at_ms: 0,
    }
}

pub(crate) fn kept(body: &[u8]) -> Kept {
    let content_type = Some("application/json".to_owned());
    Kept { status: 201, content_type, body: Some(body.to_vec()), by: KnownBy::Answer }
}

pub(crate) fn executed(body: &[u8]) -> Settlement {
    Settlement::Executed { kept: kept(body), record_ids: vec!["wi_1".to_owned(), "wi_2".to_owned()] }
}

/// Claims without an approval of LoopIQ's own.
pub(crate) async fn claim(ledger: &Ledger, plan: &Plan, lease_ms: i64) -> Claim {
    ledger.claim(plan, None, lease_ms).await.unwrap()
}

/// A claim that must be had.
pub(crate) async fn mine(ledger: &Ledger, plan: &Plan, lease_ms: i64) -> Execution {
    match claim(ledger, plan, lease_ms).await {
        Claim::Write(Claimed::Mine(execution)) => *execution,
        other => panic!("the claim should be mine: {other:?}"),
    }
}

/// What a claim that is not to be had finds.
pub(crate) async fn found(ledger: &Ledger, plan: &Plan) -> Found {
    match claim(ledger, plan, LONG).await {
        Claim::Write(Claimed::Theirs(found)) => found,
        other => panic!("the claim should be somebody else's: {other:?}"),
    }
}

/// All of it at once; the tasks begin together.
pub(crate) async fn race<T, F>(count: usize, work: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(tokio::sync::Barrier::new(count));
    let mut racers = tokio::task::JoinSet::new();
    for at in 0..count {
        let (start, work) = (Arc::clone(&start), work(at));
        racers.spawn(async move {
            start.wait().await;
            work.await
        });
    }
    racers.join_all().await
}
