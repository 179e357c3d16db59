//! Doubles for the desk's tests: a ledger in memory, made of the domain's own steps, and the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Carried;
use super::Desk;
use super::Policy;
use super::Settings;
use super::Visit;
use crate::domain::approval::Ballot;
use crate::domain::approval::Ground;
use crate::domain::approval::Person;
use crate::domain::approval::PreviewBy;
use crate::domain::approval::Requirement;
use crate::domain::approval::State as TicketState;
use crate::domain::approval::Subject;
use crate::domain::approval::Ticket;
use crate::domain::approval::VoteFault;
use crate::domain::audit::AuditRef;
use crate::domain::audit::JournalFault;
use crate::domain::audit::chain::Chain;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::idempotency;
use crate::domain::idempotency::Claimed;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Key;
use crate::domain::idempotency::Lease;
use crate::domain::idempotency::Opinion;
use crate::domain::idempotency::Plan;
use crate::domain::idempotency::ResolveFault;
use crate::domain::idempotency::Sending;
use crate::domain::idempotency::Settlement;
use crate::domain::idempotency::Supplier;
use crate::domain::identity::AuthMethod;
use crate::domain::identity::Principal;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::forge;
use crate::domain::refusal::Reason;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::By;
use crate::domain::rollout::Canary;
use crate::domain::rollout::Candidate;
use crate::domain::rollout::How;
use crate::domain::rollout::Origin;
use crate::domain::rollout::State;
use crate::domain::rollout::Term;
use crate::domain::rollout::canary::Counts;
use crate::domain::rollout::canary::Judgement;
use crate::domain::rollout::gate::GateFault;
use crate::metrics::Metrics;
use crate::pep::ports::Approvals;
use crate::pep::ports::Claim;
use crate::pep::ports::Clock;
use crate::pep::ports::Journal;
use crate::pep::ports::Keys;
use crate::pep::ports::Ledger;
use crate::pep::ports::LedgerFault;
use crate::pep::ports::RecordFilter;
use crate::pep::ports::RecordPage;
use crate::pep::ports::Records;
use crate::pep::ports::RecordsFault;
use crate::pep::ports::TicketFilter;
use crate::pep::ports::WriteFilter;
use crate::pep::refused::Refused;
use crate::pep::rollout::Order;
use crate::pep::rollout::Rollout;
use crate::pep::rollout::RolloutFault;
use crate::pep::rollout::Standing;

pub(crate) const ISSUER: &str = "https://people";

/// Everything outside the desk, in memory.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) tickets: Mutex<BTreeMap<String, Ticket>>,
    pub(crate) writes: Mutex<BTreeMap<String, Execution>>,
    /// What was recorded, oldest first.
    pub(crate) records: Mutex<Vec<Value>>,
    /// What is in force.
    pub(crate) policy: Mutex<State>,
    now_ms: AtomicI64,
    /// How many more records the journal takes.
    journal_takes: Mutex<Option<u64>>,
    ledger_is_down: Mutex<bool>,
    drawn: AtomicU64,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let world = Self::default();
        world.now_ms.store(1_000_000, Ordering::Relaxed);
        Arc::new(world)
    }

    pub(crate) fn desk(self: &Arc<Self>) -> Arc<Desk> {
        Arc::new(Desk {
            ledger: Arc::clone(self) as Arc<dyn Ledger>,
            approvals: Arc::clone(self) as Arc<dyn Approvals>,
            journal: Arc::clone(self) as Arc<dyn Journal>,
            records: Arc::clone(self) as Arc<dyn Records>,
            keys: Arc::clone(self) as Arc<dyn Keys>,
            clock: Arc::clone(self) as Arc<dyn Clock>,
            metrics: Arc::new(Metrics::new()),
            settings: Settings {
                read: vec!["auditor".to_owned(), "tenant_admin".to_owned()],
                settle: vec!["tenant_admin".to_owned()],
                link: "http://desk/approvals".to_owned(),
                scopes: Vec::new(),
            },
            policy: Policy {
                rollout: Arc::clone(self) as Arc<dyn Rollout>,
                tenants: vec!["org_gcn".to_owned()],
                roles: vec!["policy_admin".to_owned()],
            },
            refused: Refused::new(),
            carried: Carried::default(),
        })
    }

    pub(crate) fn later(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn journal_takes(&self, records: Option<u64>) {
        *self.journal_takes.lock().unwrap() = records;
    }

    pub(crate) fn ledger_is_down(&self, down: bool) {
        *self.ledger_is_down.lock().unwrap() = down;
    }

    /// The stages recorded since this was last asked.
    pub(crate) fn stages(&self) -> Vec<String> {
        let records = std::mem::take(&mut *self.records.lock().unwrap());
        records.iter().map(|one| one["unmapped"]["loopgate"]["stage"].as_str().unwrap().to_owned()).collect()
    }

    fn up(&self) -> Result<i64, LedgerFault> {
        if *self.ledger_is_down.lock().unwrap() {
            return Err(LedgerFault::Unavailable("/var/lib/ledger.db: disk full".to_owned()));
        }
        Ok(self.now_ms.load(Ordering::Relaxed))
    }

    /// A ticket of somebody, asked for now, that `count` approvers must agree to.
    pub(crate) fn ask_for(&self, id: &str, user: &str, tenant: &str, count: u32) -> Ticket {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let requirement = Requirement {
            roles: vec!["approver".to_owned()],
            teams: vec!["payments".to_owned()],
            users: vec![],
            count,
            approve_by_s: 3600,
            execute_within_s: 900,
            preview: true,
        };
        let subject = subject(id, user, tenant, now_ms + 3_600_000);
        let ticket = Ticket {
            id: id.to_owned(),
            digest: subject.digest().unwrap(),
            subject,
            requirement,
            reasons: vec![Reason::new("approval_required", "a package changes a release", "ask an approver")],
            asked_ms: now_ms,
            request_id: "req-0".to_owned(),
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            state: TicketState::Pending,
            ended: None,
            ballots: Vec::new(),
            execute_by_ms: None,
            consumed_by: None,
        };
        self.tickets.lock().unwrap().insert(id.to_owned(), ticket.clone());
        ticket
    }

    /// A write of somebody whose outcome nobody knows.
    pub(crate) fn unknown_write(&self, user: &str, tenant: &str, key: &str) -> Execution {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let caller = person(user, &[tenant], &[]);
        let id = idempotency::execution_id(&forge::tenant(tenant), &caller, &Key::parse(key).unwrap());
        let lease = Lease { owner: "g".to_owned(), now_ms, for_ms: 1_000 };
        let Claimed::Mine(claimed) = Execution::claim(None, &plan(&id, user, tenant, key), &lease) else { panic!() };
        let unknown = Settlement::Unknown { note: "no answer came".to_owned(), retry_in_ms: 0 };
        let write = claimed.settled(1, &unknown, now_ms).unwrap();
        self.writes.lock().unwrap().insert(id, write.clone());
        write
    }
}

fn subject(id: &str, user: &str, tenant: &str, approve_by_ms: i64) -> Subject {
    let arguments = json!({"release": "backend-v1.0-GCN", "title": id});
    Subject {
        v: 1,
        tenant: tenant.to_owned(),
        requester: Person { issuer: ISSUER.to_owned(), user: user.to_owned() },
        client: "agent".to_owned(),
        workflow: "w".to_owned(),
        idempotency_key: Some("k".to_owned()),
        tool: "loopiq_create_remediation_work_package".to_owned(),
        definition: "d".repeat(64),
        route: "POST /api/v1/releases/{release}/remediation-work-packages".to_owned(),
        arguments: arguments.as_object().cloned().unwrap(),
        request: json!({"method": "POST", "path": "/x", "body": arguments}),
        preview: json!({"dryRun": true, "preview": {"creates": [{"record": {"team": "payments"}}], "updates": []}}),
        preview_digest: "e".repeat(64),
        preview_by: PreviewBy::Backend,
        record_version: Some("\"7\"".to_owned()),
        policy_bundle: "b".repeat(64),
        policy_data: "c".repeat(64),
        approve_by_ms,
        execute_within_s: 900,
    }
}

fn plan(id: &str, user: &str, tenant: &str, key: &str) -> Plan {
    Plan {
        execution_id: id.to_owned(),
        tenant: tenant.to_owned(),
        issuer: ISSUER.to_owned(),
        user: user.to_owned(),
        client: String::new(),
        workflow: String::new(),
        key: key.to_owned(),
        supplier: Supplier::Client,
        fingerprint: "f".repeat(64),
        tool: "loopiq_create_work_item".to_owned(),
        definition: "d".repeat(64),
        arguments: Map::new(),
        approval_id: None,
        request: Sending {
            backend: "loopiq".to_owned(),
            method: "POST".to_owned(),
            path_and_query: "/api/v1/work-items".to_owned(),
            body: Some("{\"title\":\"a\"}".to_owned()),
            if_match: None,
            timeout_ms: 1_000,
        },
        input: serde_json::from_value(json!({
            "schema": 1, "phase": "call",
            "caller": {
                "user": user, "issuer": ISSUER, "tenant": tenant, "roles": [], "teams": {}, "permissions": [],
                "scopes": [], "client": "", "method": "oauth",
            },
            "arguments": {},
            "dry_run": false,
            "facts": [],
            "context": {"workflow": "", "chain": [], "now_ms": 0, "now": ""},
        }))
        .unwrap(),
        request_id: "req-0".to_owned(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        decision_id: "dec-0".to_owned(),
    }
}

pub(crate) fn person(user: &str, tenants: &[&str], roles: &[&str]) -> Principal {
    let mut person = forge::principal(ISSUER, user, tenants.first().copied().unwrap_or_default());
    person.tenants = tenants.iter().map(|&one| one.to_owned()).collect();
    person.roles = roles.iter().map(|&one| one.to_owned()).collect();
    person
}

/// Somebody with a token that says who they are: `user@tenant,tenant/role,role/team`.
pub(crate) fn visit(token: &str) -> Visit {
    Visit { authorization: vec![format!("Bearer {token}")], ..Visit::default() }
}

#[async_trait]
impl Keys for World {
    async fn principal(&self, bearer: &str, _now_s: i64) -> Result<Arc<Principal>, AuthFault> {
        if bearer == "later" {
            return Err(AuthFault::KeysUnavailable { issuer: "people".to_owned() });
        }
        let (user, rest) = bearer.split_once('@').ok_or(AuthFault::BadSignature)?;
        let mut parts = rest.split('/');
        let mut list = || parts.next().unwrap_or_default().split(',').filter(|one| !one.is_empty()).collect::<Vec<_>>();
        let mut principal = person(user, &list(), &list());
        principal.teams = list().iter().map(|&team| (team.to_owned(), Vec::new())).collect();
        if user.starts_with("svc") {
            principal.method = AuthMethod::ServiceAccount;
        }
        Ok(Arc::new(principal))
    }
}

impl Clock for World {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 16] {
        u128::from(self.drawn.fetch_add(1, Ordering::Relaxed) + 1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C)
            .to_be_bytes()
    }
}

#[async_trait]
impl Journal for World {
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault> {
        if let Some(left) = self.journal_takes.lock().unwrap().as_mut() {
            *left = left.checked_sub(1).ok_or(JournalFault::Failing { cause: "EIO".to_owned() })?;
        }
        let mut line = Vec::new();
        Chain::begin("test", "w", 1, None).push(&record.body(), &mut line);
        let mut records = self.records.lock().unwrap();
        records.push(serde_json::from_slice(&line).unwrap());
        Ok(AuditRef { writer: "w".to_owned(), epoch: 1, seq: records.len() as u64 })
    }

    fn ready(&self, _for_write: bool) -> Result<(), JournalFault> {
        Ok(())
    }
}

#[async_trait]
impl Records for World {
    async fn records(&self, filter: &RecordFilter) -> Result<RecordPage, RecordsFault> {
        let all = self.records.lock().unwrap().clone();
        let ours = all.into_iter().filter(|one| one["actor"]["user"]["org"]["uid"] == filter.tenant.as_str());
        Ok(RecordPage { items: ours.rev().take(filter.limit).collect(), next: None })
    }

    async fn story(&self, tenant: &str, id: &str) -> Result<RecordPage, RecordsFault> {
        let all = self.records.lock().unwrap().clone();
        let of = |one: &Value| {
            one["actor"]["user"]["org"]["uid"] == tenant && one["unmapped"]["loopgate"]["approval_id"] == id
        };
        Ok(RecordPage { items: all.into_iter().filter(of).collect(), next: None })
    }
}

#[async_trait]
impl Approvals for World {
    async fn ask(&self, ticket: &Ticket) -> Result<Ticket, LedgerFault> {
        self.up()?;
        Ok(ticket.clone())
    }

    async fn ticket(&self, id: &str) -> Result<Option<Ticket>, LedgerFault> {
        self.up()?;
        Ok(self.tickets.lock().unwrap().get(id).cloned())
    }

    async fn vote(&self, id: &str, ballot: &Ballot) -> Result<Result<Ticket, VoteFault>, LedgerFault> {
        let at_ms = self.up()?;
        let mut tickets = self.tickets.lock().unwrap();
        let Some(ticket) = tickets.get(id).cloned() else { return Ok(Err(VoteFault::Unknown)) };
        let voted = ticket.voted(Ballot { at_ms, ..ballot.clone() });
        if let Ok(voted) = &voted {
            tickets.insert(id.to_owned(), voted.clone());
        }
        Ok(voted)
    }

    async fn take_back(
        &self,
        id: &str,
        by: &Person,
        ground: Ground,
        reason: &str,
    ) -> Result<Result<Ticket, VoteFault>, LedgerFault> {
        let now_ms = self.up()?;
        let mut tickets = self.tickets.lock().unwrap();
        let Some(ticket) = tickets.get(id).cloned() else { return Ok(Err(VoteFault::Unknown)) };
        let taken = ticket.taken_back(by, ground, reason, now_ms);
        if let Ok(taken) = &taken {
            tickets.insert(id.to_owned(), taken.clone());
        }
        Ok(taken)
    }

    async fn expire(&self, _limit: usize) -> Result<Vec<Ticket>, LedgerFault> {
        Ok(Vec::new())
    }

    async fn tickets(&self, filter: &TicketFilter) -> Result<Vec<Ticket>, LedgerFault> {
        self.up()?;
        let fits = |ticket: &Ticket| {
            filter.tenant.as_ref().is_none_or(|tenant| ticket.subject.tenant == *tenant)
                && filter.state.is_none_or(|state| ticket.state == state)
                && filter.requester.as_ref().is_none_or(|user| ticket.subject.requester.user == *user)
                && filter.before_ms.is_none_or(|before| ticket.asked_ms < before)
        };
        let mut found: Vec<_> = self.tickets.lock().unwrap().values().filter(|ticket| fits(ticket)).cloned().collect();
        found.sort_by_key(|ticket| std::cmp::Reverse(ticket.asked_ms));
        found.truncate(filter.limit);
        Ok(found)
    }
}

#[async_trait]
impl Ledger for World {
    fn name(&self) -> &'static str {
        "ledger_memory"
    }

    async fn now_ms(&self) -> Result<i64, LedgerFault> {
        self.up()
    }

    async fn find(&self, execution_id: &str) -> Result<Option<Execution>, LedgerFault> {
        self.up()?;
        Ok(self.writes.lock().unwrap().get(execution_id).cloned())
    }

    async fn claim(&self, _: &Plan, _: Option<&Ticket>, _: i64) -> Result<Claim, LedgerFault> {
        Err(LedgerFault::Unavailable("the desk claims nothing".to_owned()))
    }

    async fn release(&self, _: &str, _: i64) -> Result<bool, LedgerFault> {
        Ok(false)
    }

    async fn settle(&self, _: &str, _: i64, _: &Settlement) -> Result<bool, LedgerFault> {
        Ok(false)
    }

    async fn take_over(&self, _: i64, _: usize) -> Result<Vec<Execution>, LedgerFault> {
        Ok(Vec::new())
    }

    async fn writes(&self, filter: &WriteFilter) -> Result<Vec<Execution>, LedgerFault> {
        self.up()?;
        let fits = |write: &Execution| {
            filter.tenant.as_ref().is_none_or(|tenant| write.plan.tenant == *tenant)
                && filter.state.is_none_or(|state| write.state == state)
                && filter.key.as_ref().is_none_or(|key| write.plan.key == *key)
                && filter.before_ms.is_none_or(|before| write.created_ms < before)
        };
        let mut found: Vec<_> = self.writes.lock().unwrap().values().filter(|write| fits(write)).cloned().collect();
        found.sort_by_key(|write| std::cmp::Reverse(write.created_ms));
        found.truncate(filter.limit);
        Ok(found)
    }

    async fn resolve(
        &self,
        execution_id: &str,
        opinion: &Opinion,
    ) -> Result<Result<Execution, ResolveFault>, LedgerFault> {
        self.up()?;
        let mut writes = self.writes.lock().unwrap();
        let Some(write) = writes.get(execution_id).cloned() else { return Ok(Err(ResolveFault::Missing)) };
        let resolved = write.resolved(opinion.clone());
        if let Ok(resolved) = &resolved {
            writes.insert(execution_id.to_owned(), resolved.clone());
        }
        Ok(resolved)
    }

    async fn prune(&self, _: i64) -> Result<u64, LedgerFault> {
        Ok(0)
    }

    async fn secret(&self, _: &str, fresh: [u8; 32]) -> Result<[u8; 32], LedgerFault> {
        Ok(fresh)
    }

    async fn probe(&self) -> Result<(), LedgerFault> {
        self.up().map(|_| ())
    }
}

/// A bundle by the first letter of its revision.
pub(crate) fn bundle(letter: &str) -> BundleId {
    BundleId::new(&letter.repeat(64), &"d".repeat(64))
}

fn term(letter: &str, how: How) -> Term {
    Term { id: bundle(letter), since_ms: 1, how, by: None, reason: String::new(), report: None }
}

impl World {
    /// `a` was in force, `b` is, and `c` waits.
    pub(crate) fn with_policies(&self) {
        let mut state = State::default().activated(term("a", How::First)).activated(term("b", How::Automatic));
        state.waiting = Some(Candidate { id: bundle("c"), since_ms: 2, from: Origin::Folder });
        *self.policy.lock().unwrap() = state;
    }
}

#[async_trait]
impl Rollout for World {
    fn standing(&self) -> Standing {
        let state = self.policy.lock().unwrap().clone();
        let canary = state.canary.as_ref().map(|_| Counts::default());
        let shadow = state.waiting.as_ref().map(|waiting| (waiting.id.clone(), vec![("same", 7)]));
        let in_force = Some(("e".repeat(64), "rvm"));
        Standing { state: Arc::new(state), gated: true, canary, shadow, in_force, faults: Vec::new() }
    }

    async fn activate(&self, order: Order, by: By, mut record: Record) -> Result<(), RolloutFault> {
        let state = self.policy.lock().unwrap().clone();
        let id = state.candidate(&order.revision)?;
        let report = order.digest.clone();
        if report.is_none() {
            return Err(GateFault::Missing.into());
        }
        let next = if let Some(share) = order.canary {
            state.canary_started(Canary { id, share, since_ms: 3, by, reason: order.reason, report })?
        } else {
            let how = How::Person;
            state.activated(Term { id, since_ms: 3, how, by: Some(by), reason: order.reason, report })
        };
        self.append(record.stage(Stage::Policy("activated"), 3)).await?;
        *self.policy.lock().unwrap() = next;
        Ok(())
    }

    async fn roll_back(
        &self,
        to: Option<String>,
        reason: String,
        by: By,
        mut record: Record,
    ) -> Result<(), RolloutFault> {
        let state = self.policy.lock().unwrap().clone();
        let id = state.before(to.as_deref())?;
        let how = How::RolledBack;
        let next = state.rolled_back(Term { id, since_ms: 4, how, by: Some(by), reason, report: None });
        self.append(record.stage(Stage::Policy("rolled_back"), 4)).await?;
        *self.policy.lock().unwrap() = next;
        Ok(())
    }

    async fn canary_judged(&self, _: &BundleId, _: Judgement, _: Counts) -> Result<(), RolloutFault> {
        Ok(())
    }
}
