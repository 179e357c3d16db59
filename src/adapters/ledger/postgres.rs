//! The ledger that replicas share, in PostgreSQL.
//!
//! Promises: rows are locked before a step is taken, the write before its approval, so that replicas
//! never wait for each other in a circle; the database's clock counts, no replica's; a race is tried
//! again a few times, a lost answer to a commit never. Starts while the database is away, and brings
//! its tables up to date when it is first reached. Called by the ledger.

/// One transaction, tried again while others get in its way.
macro_rules! transaction {
    ($postgres:expr, $session:ident => $work:expr) => {{
        let mut trouble = String::new();
        for attempt in 0..TRIES {
            pause(attempt).await;
            let tried = async {
                let $session = Session::begin(&$postgres.pool).await?;
                match $work.await {
                    Ok(answer) => $session.commit().await.map(|()| answer),
                    Err(trouble) => {
                        $session.give_up().await;
                        Err(trouble)
                    }
                }
            };
            match tried.await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Fault(fault)) => return Err(fault),
                Err(Trouble::Again(why)) => trouble = why,
            }
        }
        Err(LedgerFault::Unavailable(format!("tried {TRIES} times: {trouble}")))
    }};
}

mod buckets;
mod examine;
mod session;

use std::time::Duration;

use deadpool_postgres::Pool;
use futures_util::future::try_join_all;
use tokio::sync::OnceCell;
use tokio_postgres::Row;

pub(super) use self::examine::examine;
use self::session::Session;
use self::session::Trouble;
use super::rows;
use super::rows::Cell;
use super::rows::Cells;
use super::steps::Change;
use super::steps::Held;
use super::steps::Wanted;
use crate::domain::approval::Ticket;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Lease;
use crate::pep::ports::LedgerFault;
use crate::pep::ports::TicketFilter;
use crate::pep::ports::WriteFilter;

/// How often an operation is tried when others get in its way.
const TRIES: u32 = 6;
/// The database's clock.
const NOW: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
/// One replica brings the tables up to date, the others wait. The number is this program's own.
const ALONE: &str = "SELECT pg_advisory_xact_lock(7811342556209434624)";
/// The tables that are there: the version, or nothing.
const IS_THERE: &str = "SELECT to_regclass('loopgate.ledger')::text";

/// A ledger in a database.
pub(super) struct Postgres {
    pool: Pool,
    name_if_new: String,
    buckets: buckets::Buckets,
    /// Its name, once it was reached.
    name: OnceCell<String>,
}

/// What can be known of a connection URL without reaching for anything.
pub(super) fn check(url: &str, connections: usize) -> Result<(), LedgerFault> {
    session::pool(url, connections).map(|_| ())
}

impl Postgres {
    /// A ledger behind a connection URL; it is reached when it is first used.
    pub(super) fn new(url: &str, connections: usize, name_if_new: String) -> Result<Self, LedgerFault> {
        let pool = session::pool(url, connections)?;
        Ok(Self { pool, name_if_new, buckets: buckets::Buckets::default(), name: OnceCell::new() })
    }

    pub(super) fn name(&self) -> &str {
        self.name.get().map_or(super::NOT_REACHED, String::as_str)
    }

    /// The tables are there and of this program's version.
    async fn ready(&self) -> Result<&String, LedgerFault> {
        self.name.get_or_try_init(|| self.migrate()).await
    }

    async fn migrate(&self) -> Result<String, LedgerFault> {
        transaction!(self, session => async {
            session.batch("SET LOCAL lock_timeout = '5s'").await?;
            session.batch(ALONE).await?;
            let there = session.row(IS_THERE, &[]).await?.map(|row| row.text(0)).transpose()?.flatten();
            if there.is_none() {
                // WHY only then: a user that may not create anything may still use what is there.
                session.batch("CREATE SCHEMA IF NOT EXISTS loopgate").await?;
                session.batch(rows::SCHEMA).await?;
            }
            for (name, value) in [("schema", rows::SCHEMA_VERSION.to_string()), ("name", self.name_if_new.clone())] {
                session.execute(rows::ABOUT_INSERT_SQL, &[Cell::text(name), Cell::text(&value)]).await?;
            }
            let version = about(&session, "schema").await?;
            if version != rows::SCHEMA_VERSION.to_string() {
                return Err(rows::newer("the database", &version).into());
            }
            about(&session, "name").await
        })
    }

    pub(super) async fn now_ms(&self) -> Result<i64, LedgerFault> {
        self.ready().await?;
        transaction!(self, session => now(&session))
    }

    /// Locks the rows that are wanted, takes a step, stores what it changed.
    pub(super) async fn change<T: Send>(
        &self,
        wanted: Wanted,
        step: impl Fn(Held) -> Change<T> + Send + Sync,
    ) -> Result<T, LedgerFault> {
        self.ready().await?;
        transaction!(self, session => change(&session, &wanted, &step))
    }

    pub(super) async fn find(&self, execution_id: &str) -> Result<Option<Execution>, LedgerFault> {
        self.ready().await?;
        transaction!(self, session => async {
            let row = session.row(&rows::find_sql(), &[Cell::text(execution_id)]).await?;
            Ok(row.map(|row| rows::execution(&row)).transpose()?)
        })
    }

    pub(super) async fn ticket(&self, id: &str) -> Result<Option<Ticket>, LedgerFault> {
        self.ready().await?;
        transaction!(self, session => async {
            let row = session.row(rows::TICKET_SQL, &[Cell::text(id)]).await?;
            Ok(row.map(|row| rows::ticket(&row)).transpose()?)
        })
    }

    pub(super) async fn writes(&self, filter: &WriteFilter) -> Result<Vec<Execution>, LedgerFault> {
        self.ready().await?;
        let (sql, cells) = rows::writes_sql(filter);
        transaction!(self, session => async {
            let found = session.rows(&sql, &cells).await?;
            Ok(found.iter().map(rows::execution).collect::<Result<_, _>>()?)
        })
    }

    pub(super) async fn tickets(&self, filter: &TicketFilter) -> Result<Vec<Ticket>, LedgerFault> {
        self.ready().await?;
        let (sql, cells) = rows::tickets_sql(filter);
        transaction!(self, session => async {
            let found = session.rows(&sql, &cells).await?;
            Ok(found.iter().map(rows::ticket).collect::<Result<_, _>>()?)
        })
    }

    pub(super) async fn take_over(
        &self,
        owner: &str,
        lease_ms: i64,
        limit: usize,
    ) -> Result<Vec<Execution>, LedgerFault> {
        self.ready().await?;
        let sql = format!("{} FOR UPDATE SKIP LOCKED", rows::stuck_sql());
        transaction!(self, session => async {
            let now_ms = now(&session).await?;
            let lease = Lease { owner: owner.to_owned(), now_ms, for_ms: lease_ms };
            let mut taken = Vec::new();
            let mut updates = Vec::new();
            for row in session.rows(&sql, &[Cell::int(now_ms), Cell::int(limit)]).await? {
                let was = rows::execution(&row)?;
                if let Some(is) = was.clone().taken_over(&lease) {
                    updates.push(rows::execution_update(&was, &is)?);
                    taken.push(is);
                }
            }
            store(&session, &updates).await?;
            Ok(taken)
        })
    }

    pub(super) async fn expire(&self, limit: usize) -> Result<Vec<Ticket>, LedgerFault> {
        self.ready().await?;
        let sql = format!("{} FOR UPDATE SKIP LOCKED", rows::LAPSED_SQL);
        transaction!(self, session => async {
            let now_ms = now(&session).await?;
            let mut expired = Vec::new();
            let mut updates = Vec::new();
            for row in session.rows(&sql, &[Cell::int(now_ms), Cell::int(limit)]).await? {
                let ticket = rows::ticket(&row)?.at(now_ms);
                updates.push(rows::ticket_update(&ticket)?);
                expired.push(ticket);
            }
            store(&session, &updates).await?;
            Ok(expired)
        })
    }

    pub(super) async fn ask(&self, ticket: &Ticket) -> Result<Ticket, LedgerFault> {
        self.ready().await?;
        transaction!(self, session => ask(&session, ticket))
    }

    pub(super) async fn prune(&self, before_ms: i64, limit: i64) -> Result<u64, LedgerFault> {
        self.ready().await?;
        let cells = [Cell::int(before_ms), Cell::int(limit)];
        transaction!(self, session => session.execute(rows::PRUNE_SQL, &cells))
    }

    pub(super) async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<Vec<u8>, LedgerFault> {
        self.ready().await?;
        let cells = [Cell::text(name), Cell::Bytes(Some(fresh.to_vec()))];
        transaction!(self, session => async {
            session.execute(rows::SECRET_INSERT_SQL, &cells).await?;
            let row = session.row(rows::SECRET_SQL, &[Cell::text(name)]).await?;
            Ok(row.map(|row| row.bytes(0)).transpose()?.flatten().unwrap_or_default())
        })
    }

    /// Writes and commits, as any operation would.
    pub(super) async fn probe(&self) -> Result<(), LedgerFault> {
        self.ready().await?;
        transaction!(self, session => async {
            let now_ms = now(&session).await?;
            session.execute(rows::PROBE_SQL, &[Cell::text(&now_ms.to_string())]).await?;
            Ok(())
        })
    }
}

async fn change<T>(
    session: &Session,
    wanted: &Wanted,
    step: &(impl Fn(Held) -> Change<T> + Send + Sync),
) -> Result<T, Trouble> {
    let held = hold(session, wanted).await?;
    let (was, had) = (held.execution.clone(), held.ticket.is_some());
    let change = step(held);
    match (&was, &change.execution) {
        (_, None) => {}
        (Some(was), Some(is)) => store(session, &[rows::execution_update(was, is)?]).await?,
        (None, Some(is)) => {
            insert(session, &rows::execution_insert_sql(), &rows::execution_cells(is)?).await?;
        }
    }
    match &change.ticket {
        None => {}
        Some(is) if had => store(session, &[rows::ticket_update(is)?]).await?,
        Some(is) => {
            insert(session, &rows::ticket_insert_sql(), &rows::ticket_insert_cells(is, None)?).await?;
        }
    }
    Ok(change.answer)
}

/// The rows that are wanted, locked; then the time.
async fn hold(session: &Session, wanted: &Wanted) -> Result<Held, Trouble> {
    let execution_sql = format!("{} FOR UPDATE", rows::find_sql());
    let (execution_id, ticket_sql, ticket_id) = match wanted {
        Wanted::Execution(id) => {
            let of_execution = "SELECT ticket FROM tickets \
                WHERE id = (SELECT approval_id FROM executions WHERE id = $1) FOR UPDATE";
            (Some(id), of_execution.to_owned(), Some(id))
        }
        Wanted::Both(id, ticket_id) => (Some(id), format!("{} FOR UPDATE", rows::TICKET_SQL), ticket_id.as_ref()),
        Wanted::Ticket(id) => (None, format!("{} FOR UPDATE", rows::TICKET_SQL), Some(id)),
    };
    let one = async |sql: &str, id: Option<&String>| match id {
        Some(id) => session.row(sql, &[Cell::text(id)]).await,
        None => Ok(None),
    };
    // WHY in one go and in this order: sent together they are done one after the other, the write
    // before its approval, and the clock is read once both are had.
    let (execution, ticket, now_ms) =
        tokio::try_join!(biased; one(&execution_sql, execution_id), one(&ticket_sql, ticket_id), now(session))?;
    let held = Held {
        execution: execution.map(|row| rows::execution(&row)).transpose()?,
        ticket: ticket.map(|row| rows::ticket(&row)).transpose()?,
        now_ms,
    };
    // WHY: a twin has claimed the write, and perhaps settled it, between the two looks.
    let used_by = held.ticket.as_ref().and_then(|ticket| ticket.consumed_by.as_ref());
    if held.execution.is_none() && used_by.is_some() && used_by == execution_id {
        return Err(Trouble::Again("a twin was faster".to_owned()));
    }
    Ok(held)
}

async fn ask(session: &Session, asked: &Ticket) -> Result<Ticket, Trouble> {
    let question = rows::question(asked)?;
    let sql = format!("{} FOR UPDATE", rows::SAME_QUESTION_SQL);
    let same = session.row(&sql, &[Cell::text(&question)]).await?;
    if let Some(same) = same.map(|row| rows::ticket(&row)).transpose()? {
        if rows::is_open(&same, now(session).await?) {
            return Ok(same);
        }
        session.execute(rows::FORGET_QUESTION_SQL, &[Cell::text(&same.id)]).await?;
    }
    let cells = rows::ticket_insert_cells(asked, Some(question))?;
    if session.execute(&rows::ticket_insert_sql(), &cells).await? > 0 {
        return Ok(asked.clone());
    }
    // It has been asked before, by its id; or somebody asks the same right now.
    let stored = session.row(rows::TICKET_SQL, &[Cell::text(&asked.id)]).await?;
    match stored {
        Some(row) => Ok(rows::ticket(&row)?),
        None => Err(Trouble::Again("somebody asks the same".to_owned())),
    }
}

async fn now(session: &Session) -> Result<i64, Trouble> {
    let row = session.row(NOW, &[]).await?;
    let now_ms = row.map(|row| row.int(0)).transpose()?.flatten();
    now_ms.ok_or_else(|| LedgerFault::Unreadable("the database has no clock".to_owned()).into())
}

async fn about(session: &Session, name: &str) -> Result<String, Trouble> {
    let row = session.row(rows::ABOUT_SQL, &[Cell::text(name)]).await?;
    let value = row.map(|row| row.text(0)).transpose()?.flatten();
    value.ok_or_else(|| LedgerFault::Unreadable(format!("it has no {name}")).into())
}

/// Updates of rows that are locked already.
async fn store(session: &Session, updates: &[(String, Vec<Cell>)]) -> Result<(), Trouble> {
    let updates = updates.iter().map(|(sql, cells)| session.execute(sql, cells));
    for changed in try_join_all(updates).await? {
        if changed != 1 {
            return Err(LedgerFault::Unreadable("a row went away while it was locked".to_owned()).into());
        }
    }
    Ok(())
}

/// A new row; another replica may have been faster.
async fn insert(session: &Session, sql: &str, cells: &[Cell]) -> Result<(), Trouble> {
    match session.execute(sql, cells).await? {
        0 => Err(Trouble::Again("another replica was faster".to_owned())),
        _ => Ok(()),
    }
}

/// None before the first try; then longer each time, and never the same for two who wait.
async fn pause(attempt: u32) {
    if attempt > 0 {
        let mut random = [0; 1];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            // Without randomness they wait alike, which is only slower.
            random = [0];
        }
        let [part] = random;
        tokio::time::sleep(Duration::from_millis(u64::from(part % 8) + (2 << attempt))).await;
    }
}

impl Cells for Row {
    fn text(&self, at: usize) -> Result<Option<String>, LedgerFault> {
        self.try_get(at).map_err(|error| LedgerFault::Unreadable(session::words(&error)))
    }

    fn int(&self, at: usize) -> Result<Option<i64>, LedgerFault> {
        self.try_get(at).map_err(|error| LedgerFault::Unreadable(session::words(&error)))
    }

    fn bytes(&self, at: usize) -> Result<Option<Vec<u8>>, LedgerFault> {
        self.try_get(at).map_err(|error| LedgerFault::Unreadable(session::words(&error)))
    }
}
