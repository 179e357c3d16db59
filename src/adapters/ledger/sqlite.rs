//! The ledger of one process, in a SQLite file.
//!
//! Promises: an answer is given only after its transaction was synced to the disk; one operation's
//! failure undoes nothing of another's; the file has one process at a time, so the claims of an
//! earlier one are nobody's; a disk that works again is used again. Never blocks the runtime: one
//! thread writes, another reads. Called by the ledger.

mod file;
mod thread;

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params_from_iter;
use rusqlite::types::ToSqlOutput;

use self::file::File;
pub(super) use self::file::about;
use self::thread::Lane;
use super::WallClock;
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

/// A ledger in a file.
pub(super) struct Sqlite {
    name: String,
    clock: WallClock,
    // In this order: the reader closes before the writer, which folds the log into the file.
    reads: Lane,
    writes: Lane,
}

impl Sqlite {
    /// Opens the file, making it if there is none.
    pub(super) fn open(path: PathBuf, name_if_new: &str, clock: WallClock) -> Result<Self, LedgerFault> {
        let file = Arc::new(File::lock(path)?);
        let connection = file.writer()?;
        let name = file::migrate(&connection, name_if_new, &file)?;
        let reads = file.reader()?;
        let reopened = Arc::clone(&file);
        let writing = Lane::writing(connection, move || reopened.writer())?;
        let reading = Lane::reading(reads, move || file.reader())?;
        Ok(Self { name, clock, reads: reading, writes: writing })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    #[expect(clippy::unused_async, reason = "the same shape as an engine that asks its database")]
    pub(super) async fn now_ms(&self) -> Result<i64, LedgerFault> {
        Ok((self.clock)())
    }

    /// Locks the rows that are wanted, takes a step, stores what it changed.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        wanted: Wanted,
        step: impl Fn(Held) -> Change<T> + Send + Sync + 'static,
    ) -> Result<T, LedgerFault> {
        let clock = Arc::clone(&self.clock);
        self.writes.run(move |connection| change(connection, &wanted, step, clock())).await
    }

    pub(super) async fn find(&self, execution_id: &str) -> Result<Option<Execution>, LedgerFault> {
        let id = execution_id.to_owned();
        self.reads.run(move |connection| find(connection, &id)).await
    }

    pub(super) async fn ticket(&self, id: &str) -> Result<Option<Ticket>, LedgerFault> {
        let id = id.to_owned();
        self.reads.run(move |connection| ticket(connection, &id)).await
    }

    pub(super) async fn writes(&self, filter: &WriteFilter) -> Result<Vec<Execution>, LedgerFault> {
        let (sql, cells) = rows::writes_sql(filter);
        self.reads.run(move |connection| list(connection, &sql, &cells, |row| rows::execution(row))).await
    }

    pub(super) async fn tickets(&self, filter: &TicketFilter) -> Result<Vec<Ticket>, LedgerFault> {
        let (sql, cells) = rows::tickets_sql(filter);
        self.reads.run(move |connection| list(connection, &sql, &cells, |row| rows::ticket(row))).await
    }

    pub(super) async fn take_over(
        &self,
        owner: &str,
        lease_ms: i64,
        limit: usize,
    ) -> Result<Vec<Execution>, LedgerFault> {
        let (owner, clock) = (owner.to_owned(), Arc::clone(&self.clock));
        let work = move |connection: &Connection| {
            let lease = Lease { owner: owner.clone(), now_ms: clock(), for_ms: lease_ms };
            let cells = [Cell::int(lease.now_ms), Cell::int(limit)];
            let stuck = list(connection, &rows::stuck_sql(), &cells, |row| rows::execution(row))?;
            let mut taken = Vec::new();
            for was in stuck {
                if let Some(is) = was.clone().taken_over(&lease) {
                    let (sql, cells) = rows::execution_update(&was, &is)?;
                    execute(connection, &sql, &cells)?;
                    taken.push(is);
                }
            }
            Ok(taken)
        };
        self.writes.run(work).await
    }

    pub(super) async fn expire(&self, limit: usize) -> Result<Vec<Ticket>, LedgerFault> {
        let clock = Arc::clone(&self.clock);
        let work = move |connection: &Connection| {
            let now_ms = clock();
            let cells = [Cell::int(now_ms), Cell::int(limit)];
            let lapsed = list(connection, rows::LAPSED_SQL, &cells, |row| rows::ticket(row))?;
            let mut expired = Vec::new();
            for ticket in lapsed {
                let ticket = ticket.at(now_ms);
                let (sql, cells) = rows::ticket_update(&ticket)?;
                execute(connection, &sql, &cells)?;
                expired.push(ticket);
            }
            Ok(expired)
        };
        self.writes.run(work).await
    }

    pub(super) async fn ask(&self, ticket: &Ticket) -> Result<Ticket, LedgerFault> {
        let (ticket, clock) = (ticket.clone(), Arc::clone(&self.clock));
        self.writes.run(move |connection| ask(connection, &ticket, clock())).await
    }

    pub(super) async fn prune(&self, before_ms: i64, limit: i64) -> Result<u64, LedgerFault> {
        let cells = [Cell::int(before_ms), Cell::int(limit)];
        let work = move |connection: &Connection| execute(connection, rows::PRUNE_SQL, &cells);
        self.writes.run(work).await.map(|dropped| dropped as u64)
    }

    pub(super) async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<Vec<u8>, LedgerFault> {
        let name = Cell::text(name);
        let work = move |connection: &Connection| {
            execute(connection, rows::SECRET_INSERT_SQL, &[name.clone(), Cell::Bytes(Some(fresh.to_vec()))])?;
            let stored = one(connection, rows::SECRET_SQL, &[name], |row| row.bytes(0))?;
            Ok(stored.flatten().unwrap_or_default())
        };
        self.writes.run(work).await
    }

    /// Writes and syncs, as any operation would.
    pub(super) async fn probe(&self) -> Result<(), LedgerFault> {
        let now_ms = (self.clock)();
        let cells = [Cell::text(&now_ms.to_string())];
        let work = move |connection: &Connection| execute(connection, rows::PROBE_SQL, &cells).map(|_| ());
        self.writes.run(work).await
    }
}

fn change<T>(
    connection: &Connection,
    wanted: &Wanted,
    step: impl Fn(Held) -> Change<T>,
    now_ms: i64,
) -> Result<T, LedgerFault> {
    let (execution, ticket_id) = match wanted {
        Wanted::Execution(id) => {
            let execution = find(connection, id)?;
            let ticket_id = execution.as_ref().and_then(|execution| execution.plan.approval_id.clone());
            (execution, ticket_id)
        }
        Wanted::Both(id, ticket_id) => (find(connection, id)?, ticket_id.clone()),
        Wanted::Ticket(id) => (None, Some(id.clone())),
    };
    let ticket = ticket_id.map(|id| ticket(connection, &id)).transpose()?.flatten();
    let (was, had) = (execution.clone(), ticket.is_some());
    let change = step(Held { execution, ticket, now_ms });
    if let Some(is) = &change.execution {
        let (sql, cells) = match &was {
            Some(was) => rows::execution_update(was, is)?,
            None => (rows::execution_insert_sql(), rows::execution_cells(is)?),
        };
        execute(connection, &sql, &cells)?;
    }
    if let Some(is) = &change.ticket {
        let (sql, cells) = if had {
            rows::ticket_update(is)?
        } else {
            (rows::ticket_insert_sql(), rows::ticket_insert_cells(is, None)?)
        };
        execute(connection, &sql, &cells)?;
    }
    Ok(change.answer)
}

fn ask(connection: &Connection, asked: &Ticket, now_ms: i64) -> Result<Ticket, LedgerFault> {
    let question = rows::question(asked)?;
    let same = one(connection, rows::SAME_QUESTION_SQL, &[Cell::text(&question)], |row| rows::ticket(row))?;
    if let Some(same) = same {
        if rows::is_open(&same, now_ms) {
            return Ok(same);
        }
        execute(connection, rows::FORGET_QUESTION_SQL, &[Cell::text(&same.id)])?;
    }
    let cells = rows::ticket_insert_cells(asked, Some(question))?;
    if execute(connection, &rows::ticket_insert_sql(), &cells)? == 0 {
        // It has been asked before, by its id.
        return ticket(connection, &asked.id)?.ok_or_else(|| LedgerFault::Unavailable("ask again".to_owned()));
    }
    Ok(asked.clone())
}

fn find(connection: &Connection, id: &str) -> Result<Option<Execution>, LedgerFault> {
    one(connection, &rows::find_sql(), &[Cell::text(id)], |row| rows::execution(row))
}

fn ticket(connection: &Connection, id: &str) -> Result<Option<Ticket>, LedgerFault> {
    one(connection, rows::TICKET_SQL, &[Cell::text(id)], |row| rows::ticket(row))
}

/// SQL as SQLite reads it.
fn spoken(sql: &str) -> String {
    sql.replace('$', "?")
}

fn execute(connection: &Connection, sql: &str, cells: &[Cell]) -> Result<usize, LedgerFault> {
    let mut statement = connection.prepare_cached(&spoken(sql)).map_err(|error| fault(&error))?;
    statement.execute(params_from_iter(cells)).map_err(|error| fault(&error))
}

fn one<T>(
    connection: &Connection,
    sql: &str,
    cells: &[Cell],
    read: impl Fn(&Row<'_>) -> Result<T, LedgerFault>,
) -> Result<Option<T>, LedgerFault> {
    let mut statement = connection.prepare_cached(&spoken(sql)).map_err(|error| fault(&error))?;
    statement
        .query_row(params_from_iter(cells), |row| Ok(read(row)))
        .optional()
        .map_err(|error| fault(&error))?
        .transpose()
}

fn list<T>(
    connection: &Connection,
    sql: &str,
    cells: &[Cell],
    read: impl Fn(&Row<'_>) -> Result<T, LedgerFault>,
) -> Result<Vec<T>, LedgerFault> {
    let mut statement = connection.prepare_cached(&spoken(sql)).map_err(|error| fault(&error))?;
    let mut found = statement.query(params_from_iter(cells)).map_err(|error| fault(&error))?;
    let mut all = Vec::new();
    while let Some(row) = found.next().map_err(|error| fault(&error))? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// What SQLite says, as the ledger's callers know it.
pub(super) fn fault(error: &rusqlite::Error) -> LedgerFault {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LedgerFault::Unavailable("its disk is full; free some space".to_owned()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            LedgerFault::Unavailable("another program has locked its file".to_owned())
        }
        // What is no error of SQLite's is a value that is not of its column's kind.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => LedgerFault::Unreadable(error.to_string()),
        Some(ErrorCode::SystemIoFailure) => {
            LedgerFault::Unavailable("its disk takes no writes; see that it has space and works".to_owned())
        }
        Some(_) => LedgerFault::Unavailable(error.to_string()),
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Text(text) => text.to_sql(),
            Self::Int(number) => number.to_sql(),
            Self::Bytes(bytes) => bytes.to_sql(),
        }
    }
}

impl Cells for Row<'_> {
    fn text(&self, at: usize) -> Result<Option<String>, LedgerFault> {
        self.get(at).map_err(|error| fault(&error))
    }

    fn int(&self, at: usize) -> Result<Option<i64>, LedgerFault> {
        self.get(at).map_err(|error| fault(&error))
    }

    fn bytes(&self, at: usize) -> Result<Option<Vec<u8>>, LedgerFault> {
        self.get(at).map_err(|error| fault(&error))
    }
}
