//! The ledger as the simulation has it: the gateway's own steps over rows in memory.
//!
//! Promises: a step happens whole or not at all, and what happened outlives every crash; whether it
//! happened, the one who asked may never hear.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use loopgate::domain::approval::Ballot;
use loopgate::domain::approval::Ground;
use loopgate::domain::approval::Person;
use loopgate::domain::approval::State as TicketState;
use loopgate::domain::approval::Ticket;
use loopgate::domain::approval::VoteFault;
use loopgate::domain::idempotency::Execution;
use loopgate::domain::idempotency::Lease;
use loopgate::domain::idempotency::Opinion;
use loopgate::domain::idempotency::Plan;
use loopgate::domain::idempotency::ResolveFault;
use loopgate::domain::idempotency::Settlement;
use loopgate::domain::idempotency::State;
use loopgate::pep::ports::Approvals;
use loopgate::pep::ports::Claim;
use loopgate::pep::ports::Ledger;
use loopgate::pep::ports::LedgerFault;
use loopgate::pep::ports::TicketFilter;
use loopgate::pep::ports::WriteFilter;
use tokio::time::sleep;

use crate::flaw::Flaw;
use crate::sea::Gate;
use crate::sea::Sea;
use crate::sea::Shore;
use loopgate::adapters::ledger::steps;
use loopgate::adapters::ledger::steps::Change;
use loopgate::adapters::ledger::steps::Held;

/// The rows.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) writes: BTreeMap<String, Execution>,
    pub(crate) tickets: BTreeMap<String, Ticket>,
    secrets: BTreeMap<String, [u8; 32]>,
    told: Vec<String>,
}

/// The one ledger of a world, shared by its processes.
pub(crate) struct Store {
    sea: Arc<Sea>,
    /// How far the ledger's clock is from true time, in milliseconds.
    pub(crate) clock: Arc<AtomicI64>,
    pub(crate) rows: Mutex<Rows>,
    flaw: Option<Flaw>,
}

impl Store {
    pub(crate) fn new(sea: &Arc<Sea>, clock: Arc<AtomicI64>, flaw: Option<Flaw>) -> Arc<Self> {
        Arc::new(Self { sea: Arc::clone(sea), clock, rows: Mutex::default(), flaw })
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.sea.now_ms() + self.clock.load(Ordering::Relaxed)
    }

    /// One transaction over a write and the approval that it uses.
    fn on_write<T>(&self, id: &str, approval: Option<&str>, step: impl FnOnce(Held) -> Change<T>) -> T {
        let mut rows = self.rows.lock().unwrap();
        let execution = rows.writes.get(id).cloned();
        let of_write = execution.as_ref().and_then(|execution| execution.plan.approval_id.clone());
        let ticket = approval.map(str::to_owned).or(of_write).and_then(|id| rows.tickets.get(&id).cloned());
        self.store(&mut rows, step(Held { execution, ticket, now_ms: self.now_ms() }))
    }

    fn on_ticket<T>(&self, id: &str, step: impl FnOnce(Held) -> Change<T>) -> T {
        let mut rows = self.rows.lock().unwrap();
        let ticket = rows.tickets.get(id).cloned();
        self.store(&mut rows, step(Held { execution: None, ticket, now_ms: self.now_ms() }))
    }

    /// As the one reads it who takes a lease that ran out for a proof that nothing was sent.
    fn misread(&self, mut write: Execution) -> Execution {
        let open = matches!(write.state, State::Sent | State::Unknown) && write.lease_until_ms < self.now_ms();
        if open && self.flaw == Some(Flaw::LeaseMeansAgain) {
            write.state = State::Reserved;
        }
        write
    }

    /// As if whoever comes were the one who has it.
    fn whoever(&self, mut held: Held, fence: i64) -> Held {
        if let Some(write) = held.execution.as_mut().filter(|_| self.flaw == Some(Flaw::LedgerWithoutFences)) {
            write.fence = fence;
            write.state = State::Sent;
        }
        held
    }

    fn store<T>(&self, rows: &mut Rows, change: Change<T>) -> T {
        if let Some(execution) = change.execution {
            self.sea.note(|| {
                let Execution { plan, state, fence, owner, lease_until_ms, .. } = &execution;
                let left_ms = lease_until_ms - self.now_ms();
                format!("ledger: {} {} fence {fence} of {owner}, {left_ms} ms left", plan.execution_id, state.as_str())
            });
            let forgotten = self.flaw == Some(Flaw::LedgerForgetsSent) && execution.state == State::Sent;
            if !forgotten {
                rows.writes.insert(execution.plan.execution_id.clone(), execution);
            }
        }
        if let Some(mut ticket) = change.ticket {
            if self.flaw == Some(Flaw::ApprovalForEver) {
                ticket.consumed_by = None;
                ticket.state = if ticket.state == TicketState::Executed { TicketState::Approved } else { ticket.state };
            }
            rows.tickets.insert(ticket.id.clone(), ticket);
        }
        change.answer
    }
}

/// One process's way to the ledger.
#[derive(Clone)]
pub(crate) struct SimLedger {
    pub(crate) sea: Arc<Sea>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) store: Arc<Store>,
    /// Replica and boot.
    pub(crate) owner: String,
}

impl SimLedger {
    async fn op<T: Send + 'static>(&self, act: impl FnOnce(&Store) -> T + Send + 'static) -> Result<T, LedgerFault> {
        let store = Arc::clone(&self.store);
        let done = self.sea.hand_over(&self.gate, Shore::Ledger, move || act(&store)).await;
        done.ok_or_else(|| LedgerFault::Unavailable("no answer".to_owned()))
    }

    async fn settle_once(&self, id: &str, fence: i64, settlement: &Settlement) -> Result<bool, LedgerFault> {
        let (id, settlement) = (id.to_owned(), settlement.clone());
        self.op(move |store| {
            store.on_write(&id, None, |held| steps::settle(store.whoever(held, fence), fence, &settlement))
        })
        .await
    }
}

#[async_trait]
impl Ledger for SimLedger {
    fn name(&self) -> &'static str {
        "ledger_sim"
    }

    async fn now_ms(&self) -> Result<i64, LedgerFault> {
        self.op(Store::now_ms).await
    }

    async fn find(&self, execution_id: &str) -> Result<Option<Execution>, LedgerFault> {
        let id = execution_id.to_owned();
        self.op(move |store| {
            let found = store.rows.lock().unwrap().writes.get(&id).cloned();
            found.map(|write| store.misread(write))
        })
        .await
    }

    async fn claim(&self, plan: &Plan, ticket: Option<&Ticket>, lease_ms: i64) -> Result<Claim, LedgerFault> {
        let (plan, issued, owner) = (plan.clone(), ticket.cloned(), self.owner.clone());
        self.op(move |store| {
            store.on_write(&plan.execution_id, plan.approval_id.as_deref(), |held| {
                let held = Held { execution: held.execution.map(|write| store.misread(write)), ..held };
                steps::claim(held, &plan, issued.as_ref(), &owner, lease_ms)
            })
        })
        .await
    }

    async fn release(&self, execution_id: &str, fence: i64) -> Result<bool, LedgerFault> {
        let id = execution_id.to_owned();
        self.op(move |store| store.on_write(&id, None, |held| steps::release(store.whoever(held, fence), fence))).await
    }

    async fn settle(&self, execution_id: &str, fence: i64, settlement: &Settlement) -> Result<bool, LedgerFault> {
        // WHY by true time: an engine's patience is its own, and no clock that is set ends it.
        let patience = self.sea.now_ms() + 40_000;
        loop {
            let stored = self.settle_once(execution_id, fence, settlement).await;
            if stored.is_ok() || self.sea.now_ms() > patience {
                return stored;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn take_over(&self, lease_ms: i64, limit: usize) -> Result<Vec<Execution>, LedgerFault> {
        let owner = self.owner.clone();
        self.op(move |store| {
            let lease = Lease { owner, now_ms: store.now_ms(), for_ms: lease_ms };
            let mut rows = store.rows.lock().unwrap();
            let stuck = rows.writes.values().filter_map(|write| write.clone().taken_over(&lease));
            let taken: Vec<_> = stuck.take(limit).collect();
            for write in &taken {
                store.sea.note(|| format!("ledger: {} taken over by {}", write.plan.execution_id, write.owner));
                rows.writes.insert(write.plan.execution_id.clone(), write.clone());
            }
            taken
        })
        .await
    }

    async fn writes(&self, filter: &WriteFilter) -> Result<Vec<Execution>, LedgerFault> {
        let filter = filter.clone();
        self.op(move |store| {
            let rows = store.rows.lock().unwrap();
            let fits = |write: &&Execution| {
                filter.tenant.as_ref().is_none_or(|tenant| *tenant == write.plan.tenant)
                    && filter.state.is_none_or(|state| state == write.state)
                    && filter.key.as_ref().is_none_or(|key| *key == write.plan.key)
            };
            rows.writes.values().filter(fits).take(filter.limit).cloned().collect()
        })
        .await
    }

    async fn resolve(
        &self,
        execution_id: &str,
        opinion: &Opinion,
    ) -> Result<Result<Execution, ResolveFault>, LedgerFault> {
        let (id, opinion) = (execution_id.to_owned(), opinion.clone());
        self.op(move |store| store.on_write(&id, None, |held| steps::resolve(held, &opinion))).await
    }

    async fn prune(&self, _before_ms: i64) -> Result<u64, LedgerFault> {
        Ok(0)
    }

    async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], LedgerFault> {
        let name = name.to_owned();
        self.op(move |store| *store.rows.lock().unwrap().secrets.entry(name).or_insert(fresh)).await
    }

    async fn probe(&self) -> Result<(), LedgerFault> {
        self.op(|_| ()).await
    }
}

#[async_trait]
impl Approvals for SimLedger {
    async fn ask(&self, ticket: &Ticket) -> Result<Ticket, LedgerFault> {
        let ticket = ticket.clone();
        self.op(move |store| {
            let now_ms = store.now_ms();
            let mut rows = store.rows.lock().unwrap();
            let question = ticket.subject.question().unwrap();
            let open = |one: &&Ticket| {
                let at = (*one).clone().at(now_ms);
                one.subject.question().unwrap() == question
                    && matches!(at.state, TicketState::Pending | TicketState::Approved)
                    && at.consumed_by.is_none()
            };
            if let Some(asked) = rows.tickets.values().find(open) {
                return asked.clone();
            }
            rows.tickets.insert(ticket.id.clone(), ticket.clone());
            ticket
        })
        .await
    }

    async fn ticket(&self, id: &str) -> Result<Option<Ticket>, LedgerFault> {
        let id = id.to_owned();
        self.op(move |store| store.rows.lock().unwrap().tickets.get(&id).cloned()).await
    }

    async fn vote(&self, id: &str, ballot: &Ballot) -> Result<Result<Ticket, VoteFault>, LedgerFault> {
        let (id, ballot) = (id.to_owned(), ballot.clone());
        self.op(move |store| store.on_ticket(&id, |held| steps::vote(held, &ballot))).await
    }

    async fn take_back(
        &self,
        id: &str,
        by: &Person,
        ground: Ground,
        reason: &str,
    ) -> Result<Result<Ticket, VoteFault>, LedgerFault> {
        let (id, by, reason) = (id.to_owned(), by.clone(), reason.to_owned());
        self.op(move |store| store.on_ticket(&id, |held| steps::take_back(held, &by, ground, &reason))).await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Ticket>, LedgerFault> {
        self.op(move |store| {
            let now_ms = store.now_ms();
            let mut rows = store.rows.lock().unwrap();
            let all: Vec<Ticket> = rows.tickets.values().cloned().collect();
            let lapsed = all.into_iter().filter_map(|one| {
                let at = one.clone().at(now_ms);
                (at != one).then_some(at)
            });
            let lapsed: Vec<_> = lapsed.take(limit).collect();
            for ticket in &lapsed {
                rows.tickets.insert(ticket.id.clone(), ticket.clone());
                rows.told.push(ticket.id.clone());
            }
            lapsed
        })
        .await
    }

    async fn tickets(&self, filter: &TicketFilter) -> Result<Vec<Ticket>, LedgerFault> {
        let filter = filter.clone();
        self.op(move |store| {
            let rows = store.rows.lock().unwrap();
            let fits = |ticket: &&Ticket| filter.state.is_none_or(|state| state == ticket.state);
            rows.tickets.values().filter(fits).take(filter.limit).cloned().collect()
        })
        .await
    }
}
