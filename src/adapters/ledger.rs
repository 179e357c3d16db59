//! The ledger: every write and every approval, kept so that a write happens once.
//!
//! Promises: what a method says it did is durable when it returns; a write and its approval change
//! in one transaction or not at all; two gateways never hold one SQLite file, and on PostgreSQL the
//! database's clock and fences decide between them; a failing store is a fault, and it works again
//! by itself when the store does. Never falls back from one engine to the other, and never decides
//! what a step means: that is `domain`'s. Called by `pep` through its ports; opened by `app`.

pub mod steps;
mod examine;
mod postgres;
mod rows;
mod sqlite;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;

pub use self::examine::Examined;
pub use self::examine::check;
pub use self::examine::examine;
use self::postgres::Postgres;
use self::sqlite::Sqlite;
use self::steps::Wanted;
use crate::domain::approval::Ballot;
use crate::domain::approval::Ground;
use crate::domain::approval::Person;
use crate::domain::approval::Ticket;
use crate::domain::approval::VoteFault;
use crate::domain::idempotency::Claimed;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Opinion;
use crate::domain::idempotency::Plan;
use crate::domain::idempotency::ResolveFault;
use crate::domain::idempotency::Settlement;
use crate::domain::limit::Grant;
use crate::domain::limit::Key;
use crate::domain::limit::Rate;
use crate::metrics::Metrics;
use crate::pep::ports;
use crate::pep::ports::BucketsFault;
use crate::pep::ports::Claim;
use crate::pep::ports::LedgerFault;
use crate::pep::ports::TicketFilter;
use crate::pep::ports::WriteFilter;

/// Longest wait for one operation; after that it is not known whether it was done.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// First wait before a settlement is tried again; doubled each time, up to a second.
const SETTLE_AGAIN: Duration = Duration::from_millis(50);
/// Bodies dropped in one transaction, so that nobody waits long behind it.
const PRUNE_AT_ONCE: i64 = 200;
/// Claims of this process, beyond which those whose time has passed are forgotten.
const CLAIMS_SWEPT_AT: usize = 4096;
/// The name of a ledger that has not been reached yet: no approval is made out to it.
const NOT_REACHED: &str = "ledger_not_reached";
/// Wall clock: milliseconds since the Unix epoch.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub place: Place,
    /// Replica and boot: who this process is in leases.
    pub owner: String,
    /// The name of the ledger, if it is a new one.
    pub name_if_new: String,
}

/// Where a ledger is.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file of this machine, for one process.
    Sqlite(PathBuf),
    /// In a database, shared by replicas.
    Postgres {
        /// `postgres://user:password@host/database`.
        url: String,
        /// Connections, at most.
        connections: usize,
    },
}

impl std::fmt::Debug for Place {
    /// WHY by hand: the URL holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Postgres { connections, .. } => write!(f, "Postgres(***, {connections})"),
        }
    }
}

/// An open ledger.
pub struct Ledger {
    engine: Engine,
    owner: String,
    metrics: Arc<Metrics>,
    /// Until when the claims of this process are surely its own, by execution id.
    claims: Mutex<HashMap<String, Instant>>,
}

enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// One operation of whichever engine it is.
macro_rules! engine {
    ($ledger:expr, $operation:literal, $engine:ident => $work:expr) => {{
        let work = async {
            match &$ledger.engine {
                Engine::Sqlite($engine) => $work.await,
                Engine::Postgres($engine) => $work.await,
            }
        };
        $ledger.timed($operation, work).await
    }};
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", ports::Ledger::name(self))
    }
}

impl Ledger {
    /// Opens it; one in a file must open, and is made if there is none. Blocks while it does. One in a
    /// database is reached when it is first used.
    pub fn open(settings: Settings, clock: WallClock, metrics: Arc<Metrics>) -> Result<Self, LedgerFault> {
        let engine = match settings.place {
            Place::Sqlite(path) => Engine::Sqlite(Sqlite::open(path, &settings.name_if_new, clock)?),
            Place::Postgres { url, connections } => {
                Engine::Postgres(Postgres::new(&url, connections, settings.name_if_new)?)
            }
        };
        Ok(Self { engine, owner: settings.owner, metrics, claims: Mutex::default() })
    }

    /// Counts an operation, and gives up waiting for it after a while.
    async fn timed<T>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T, LedgerFault>> + Send,
    ) -> Result<T, LedgerFault> {
        let began = Instant::now();
        let outcome = tokio::time::timeout(WAIT_MAX, work)
            .await
            .unwrap_or_else(|_| Err(LedgerFault::Unavailable(format!("no answer within {} s", WAIT_MAX.as_secs()))));
        let result = match &outcome {
            Ok(_) => "ok",
            Err(LedgerFault::Unavailable(_)) => "unavailable",
            Err(LedgerFault::Unreadable(_)) => "unreadable",
        };
        self.metrics.ledger_operations.with_label_values(&[operation, result]).inc();
        self.metrics.ledger_seconds.with_label_values(&[operation]).observe(began.elapsed().as_secs_f64());
        outcome
    }

    /// Notes until when a claim is surely held: counted from before it was asked for.
    fn hold(&self, execution_id: &str, since: Instant, lease_ms: i64) {
        let until = since + Duration::from_millis(lease_ms.try_into().unwrap_or(0));
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        // Claims that nobody settled must not pile up.
        if claims.len() >= CLAIMS_SWEPT_AT {
            claims.retain(|_, until| *until > since);
        }
        claims.insert(execution_id.to_owned(), until);
    }

    fn held_until(&self, execution_id: &str) -> Option<Instant> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).get(execution_id).copied()
    }

    fn let_go(&self, execution_id: &str) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(execution_id);
    }
}

#[async_trait]
impl ports::Ledger for Ledger {
    fn name(&self) -> &str {
        match &self.engine {
            Engine::Sqlite(engine) => engine.name(),
            Engine::Postgres(engine) => engine.name(),
        }
    }

    async fn now_ms(&self) -> Result<i64, LedgerFault> {
        engine!(self, "now", engine => engine.now_ms())
    }

    async fn find(&self, execution_id: &str) -> Result<Option<Execution>, LedgerFault> {
        engine!(self, "find", engine => engine.find(execution_id))
    }

    async fn claim(&self, plan: &Plan, ticket: Option<&Ticket>, lease_ms: i64) -> Result<Claim, LedgerFault> {
        let since = Instant::now();
        let wanted = Wanted::Both(plan.execution_id.clone(), plan.approval_id.clone());
        let (plan, issued, owner) = (plan.clone(), ticket.cloned(), self.owner.clone());
        let id = plan.execution_id.clone();
        let step = move |held| steps::claim(held, &plan, issued.as_ref(), &owner, lease_ms);
        let claim = engine!(self, "claim", engine => engine.change(wanted, step))?;
        if matches!(claim, Claim::Write(Claimed::Mine(_))) {
            self.hold(&id, since, lease_ms);
        }
        Ok(claim)
    }

    async fn release(&self, execution_id: &str, fence: i64) -> Result<bool, LedgerFault> {
        let wanted = Wanted::Execution(execution_id.to_owned());
        let step = move |held| steps::release(held, fence);
        let released = engine!(self, "release", engine => engine.change(wanted, step))?;
        self.let_go(execution_id);
        Ok(released)
    }

    async fn settle(&self, execution_id: &str, fence: i64, settlement: &Settlement) -> Result<bool, LedgerFault> {
        let until = self.held_until(execution_id);
        let mut pause = SETTLE_AGAIN;
        loop {
            let wanted = Wanted::Execution(execution_id.to_owned());
            let said = settlement.clone();
            let step = move |held| steps::settle(held, fence, &said);
            let settled = engine!(self, "settle", engine => engine.change(wanted, step));
            let again = matches!(settled, Err(LedgerFault::Unavailable(_)))
                && until.is_some_and(|until| Instant::now() + pause < until);
            if !again {
                self.let_go(execution_id);
                return settled;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn take_over(&self, lease_ms: i64, limit: usize) -> Result<Vec<Execution>, LedgerFault> {
        let since = Instant::now();
        let taken = engine!(self, "take_over", engine => engine.take_over(&self.owner, lease_ms, limit))?;
        for execution in &taken {
            self.hold(&execution.plan.execution_id, since, lease_ms);
        }
        Ok(taken)
    }

    async fn writes(&self, filter: &WriteFilter) -> Result<Vec<Execution>, LedgerFault> {
        engine!(self, "writes", engine => engine.writes(filter))
    }

    async fn resolve(
        &self,
        execution_id: &str,
        opinion: &Opinion,
    ) -> Result<Result<Execution, ResolveFault>, LedgerFault> {
        let wanted = Wanted::Execution(execution_id.to_owned());
        let opinion = opinion.clone();
        let step = move |held| steps::resolve(held, &opinion);
        engine!(self, "resolve", engine => engine.change(wanted, step))
    }

    async fn prune(&self, before_ms: i64) -> Result<u64, LedgerFault> {
        let mut dropped = 0;
        loop {
            let some = engine!(self, "prune", engine => engine.prune(before_ms, PRUNE_AT_ONCE))?;
            dropped += some;
            if some == 0 {
                return Ok(dropped);
            }
        }
    }

    async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], LedgerFault> {
        let stored = engine!(self, "secret", engine => engine.secret(name, fresh))?;
        stored.try_into().map_err(|_| LedgerFault::Unreadable(format!("the secret `{name}` has not 32 bytes")))
    }

    async fn probe(&self) -> Result<(), LedgerFault> {
        engine!(self, "probe", engine => engine.probe())
    }
}

#[async_trait]
impl ports::Buckets for Ledger {
    async fn draw(&self, key: &Key, rate: &Rate, want: u64) -> Result<Grant, BucketsFault> {
        match &self.engine {
            Engine::Postgres(engine) => {
                engine.draw(key, rate, want).await.map_err(|fault| BucketsFault(fault.to_string()))
            }
            Engine::Sqlite(_) => Err(BucketsFault("a ledger in a file is shared with nobody".to_owned())),
        }
    }
}

#[async_trait]
impl ports::Approvals for Ledger {
    async fn ask(&self, ticket: &Ticket) -> Result<Ticket, LedgerFault> {
        engine!(self, "ask", engine => engine.ask(ticket))
    }

    async fn ticket(&self, id: &str) -> Result<Option<Ticket>, LedgerFault> {
        engine!(self, "ticket", engine => engine.ticket(id))
    }

    async fn vote(&self, id: &str, ballot: &Ballot) -> Result<Result<Ticket, VoteFault>, LedgerFault> {
        let (wanted, ballot) = (Wanted::Ticket(id.to_owned()), ballot.clone());
        let step = move |held| steps::vote(held, &ballot);
        engine!(self, "vote", engine => engine.change(wanted, step))
    }

    async fn take_back(
        &self,
        id: &str,
        by: &Person,
        ground: Ground,
        reason: &str,
    ) -> Result<Result<Ticket, VoteFault>, LedgerFault> {
        let wanted = Wanted::Ticket(id.to_owned());
        let (by, reason) = (by.clone(), reason.to_owned());
        let step = move |held| steps::take_back(held, &by, ground, &reason);
        engine!(self, "take_back", engine => engine.change(wanted, step))
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Ticket>, LedgerFault> {
        engine!(self, "expire", engine => engine.expire(limit))
    }

    async fn tickets(&self, filter: &TicketFilter) -> Result<Vec<Ticket>, LedgerFault> {
        engine!(self, "tickets", engine => engine.tickets(filter))
    }
}
