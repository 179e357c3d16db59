//! Writes and approvals as rows: which columns, in which order, and back.
//!
//! Promises: what is read is what was written, byte for byte; the columns that people look at
//! follow from the documents and never contradict them; what cannot be read is a fault, never a
//! guess. SQL here is good for both engines, with `$1`, `$2` … for values. Never does IO. Called by the engines of the ledger.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::approval;
use crate::domain::approval::Ticket;
use crate::domain::idempotency;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Kept;
use crate::domain::idempotency::Plan;
use crate::pep::ports::LedgerFault;
use crate::pep::ports::TicketFilter;
use crate::pep::ports::WriteFilter;

/// The tables, in PostgreSQL's words.
pub(super) const SCHEMA: &str = include_str!("schema.sql");
/// Their version.
pub(super) const SCHEMA_VERSION: i64 = 1;
/// At most this many rows are listed at once.
const LIST_MAX: usize = 1000;

/// A ticket by its id.
pub(super) const TICKET_SQL: &str = "SELECT ticket FROM tickets WHERE id = $1";
/// The ticket that is found by what it asks.
pub(super) const SAME_QUESTION_SQL: &str = "SELECT ticket FROM tickets WHERE question = $1";
/// A ticket is no longer found by what it asks.
pub(super) const FORGET_QUESTION_SQL: &str = "UPDATE tickets SET question = NULL WHERE id = $1";
/// Tickets whose time has run out, which nobody has written down.
pub(super) const LAPSED_SQL: &str =
    "SELECT ticket FROM tickets WHERE lapses_ms IS NOT NULL AND lapses_ms < $1 ORDER BY lapses_ms LIMIT $2";
/// Drops bodies of answers that became known before a moment.
pub(super) const PRUNE_SQL: &str = "UPDATE executions SET body = NULL WHERE id IN (SELECT id FROM executions \
    WHERE body IS NOT NULL AND changed_ms < $1 AND state IN ('executed', 'failed') LIMIT $2)";
/// Stores a secret unless there is one of its name.
pub(super) const SECRET_INSERT_SQL: &str =
    "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
/// A secret by its name.
pub(super) const SECRET_SQL: &str = "SELECT value FROM secrets WHERE name = $1";
/// A value about the ledger itself.
pub(super) const ABOUT_SQL: &str = "SELECT value FROM ledger WHERE name = $1";
/// Stores a value about the ledger unless there is one.
pub(super) const ABOUT_INSERT_SQL: &str =
    "INSERT INTO ledger (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
/// A small write, to see whether writing works.
pub(super) const PROBE_SQL: &str = "INSERT INTO ledger (name, value) VALUES ('probed_ms', $1) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(Option<String>),
    Int(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

impl Cell {
    /// WHY without NUL: PostgreSQL takes none in text; the documents carry it escaped.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Some(text.replace('\0', "\u{fffd}")))
    }

    pub(super) fn int(number: impl TryInto<i64>) -> Self {
        Self::Int(Some(number.try_into().unwrap_or(i64::MAX)))
    }
}

/// A row of either engine, by position.
pub(super) trait Cells {
    fn text(&self, at: usize) -> Result<Option<String>, LedgerFault>;
    fn int(&self, at: usize) -> Result<Option<i64>, LedgerFault>;
    fn bytes(&self, at: usize) -> Result<Option<Vec<u8>>, LedgerFault>;
}

/// What changes with a step.
const STEP: [&str; 13] = [
    "state",
    "fence",
    "owner",
    "lease_until_ms",
    "attempts",
    "created_ms",
    "sent_ms",
    "changed_ms",
    "kept",
    "body",
    "record_ids",
    "opinions",
    "note",
];

/// What changes only when a write is begun anew.
const PLAN: [&str; 10] =
    ["tenant", "issuer", "\"user\"", "client", "workflow", "key", "tool", "approval_id", "fingerprint", "plan"];

const TICKET: [&str; 13] = [
    "state",
    "digest",
    "asked_ms",
    "lapses_ms",
    "consumed_by",
    "tenant",
    "issuer",
    "\"user\"",
    "client",
    "workflow",
    "tool",
    "ticket",
    "question",
];

/// What is read of a write, with or without its answer's body.
pub(super) fn execution_columns(with_body: bool) -> String {
    let columns = [&STEP[..], &["plan"]].concat().join(", ");
    if with_body { columns } else { columns.replace("body", "CAST(NULL AS BYTEA)") }
}

/// `SELECT` of one write by id.
pub(super) fn find_sql() -> String {
    format!("SELECT {} FROM executions WHERE id = $1", execution_columns(true))
}

/// `SELECT` of writes whose owners have not been heard of.
pub(super) fn stuck_sql() -> String {
    let columns = execution_columns(true);
    format!(
        "SELECT {columns} FROM executions WHERE state IN ('sent', 'unknown') AND lease_until_ms < $1 \
         ORDER BY lease_until_ms LIMIT $2"
    )
}

/// `INSERT` of a write; stores nothing if one of its id is there.
pub(super) fn execution_insert_sql() -> String {
    insert_sql("executions", &[&["id"], &STEP[..], &PLAN[..]].concat())
}

/// `UPDATE` of a write with its values; its plan only where it has changed.
pub(super) fn execution_update(was: &Execution, is: &Execution) -> Result<(String, Vec<Cell>), LedgerFault> {
    if was.plan == is.plan {
        return Ok((update_sql("executions", &STEP), execution_step_cells(is)?));
    }
    Ok((update_sql("executions", &[&STEP[..], &PLAN[..]].concat()), execution_cells(is)?))
}

/// `INSERT` of a ticket; stores nothing if one of its id, or an open one of its question, is there.
pub(super) fn ticket_insert_sql() -> String {
    insert_sql("tickets", &[&["id"], &TICKET[..]].concat())
}

fn insert_sql(table: &str, columns: &[&str]) -> String {
    let places: Vec<String> = (1..=columns.len()).map(|at| format!("${at}")).collect();
    format!("INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT DO NOTHING", columns.join(", "), places.join(", "))
}

/// WHY the id comes first: it is `$1`, as in `INSERT`, so one list of values serves both.
fn update_sql(table: &str, columns: &[&str]) -> String {
    let sets: Vec<String> = columns.iter().zip(2..).map(|(column, at)| format!("{column} = ${at}")).collect();
    format!("UPDATE {table} SET {} WHERE id = $1", sets.join(", "))
}

/// The values for `INSERT` of a write.
pub(super) fn execution_cells(execution: &Execution) -> Result<Vec<Cell>, LedgerFault> {
    let mut cells = execution_step_cells(execution)?;
    let Plan { tenant, issuer, user, client, workflow, key, tool, approval_id, fingerprint, .. } = &execution.plan;
    cells.extend([tenant, issuer, user, client, workflow, key, tool].map(|text| Cell::text(text)));
    cells.push(Cell::Text(approval_id.clone()));
    cells.push(Cell::text(fingerprint));
    cells.push(json(&execution.plan)?);
    Ok(cells)
}

fn execution_step_cells(execution: &Execution) -> Result<Vec<Cell>, LedgerFault> {
    let kept = execution.kept.as_ref();
    Ok(vec![
        Cell::text(&execution.plan.execution_id),
        Cell::text(execution.state.as_str()),
        Cell::int(execution.fence),
        Cell::text(&execution.owner),
        Cell::int(execution.lease_until_ms),
        Cell::int(execution.attempts),
        Cell::int(execution.created_ms),
        Cell::Int(execution.sent_ms),
        Cell::int(execution.changed_ms),
        kept.map_or(Ok(Cell::Text(None)), json)?,
        Cell::Bytes(kept.and_then(|kept| kept.body.clone())),
        json(&execution.record_ids)?,
        json(&execution.opinions)?,
        Cell::text(&execution.note),
    ])
}

/// A write from its row, selected as [`execution_columns`].
pub(super) fn execution(row: &impl Cells) -> Result<Execution, LedgerFault> {
    let text = |at| row.text(at)?.ok_or_else(|| missing(at));
    let int = |at| row.int(at)?.ok_or_else(|| missing(at));
    let body = row.bytes(9)?;
    let kept: Option<Kept> = row.text(8)?.map(|kept| document(&kept)).transpose()?;
    Ok(Execution {
        plan: document(&text(13)?)?,
        state: idempotency::State::named(&text(0)?).ok_or_else(|| missing(0))?,
        fence: int(1)?,
        owner: text(2)?,
        lease_until_ms: int(3)?,
        attempts: u32::try_from(int(4)?).unwrap_or(u32::MAX),
        created_ms: int(5)?,
        sent_ms: row.int(6)?,
        changed_ms: int(7)?,
        kept: kept.map(|kept| Kept { body, ..kept }),
        record_ids: document(&text(10)?)?,
        opinions: document(&text(11)?)?,
        note: text(12)?,
    })
}

/// The values for `INSERT` of a ticket, with what it asks if asking the same shall find it.
pub(super) fn ticket_insert_cells(ticket: &Ticket, question: Option<String>) -> Result<Vec<Cell>, LedgerFault> {
    let mut cells = ticket_cells(ticket)?;
    cells.push(Cell::Text(question));
    Ok(cells)
}

/// The digest of what a ticket asks.
pub(super) fn question(ticket: &Ticket) -> Result<String, LedgerFault> {
    ticket.subject.question().map_err(|cause| LedgerFault::Unreadable(format!("approval `{}`: {cause}", ticket.id)))
}

/// `UPDATE` of a ticket with its values; one that is over is no longer found by what it asks.
pub(super) fn ticket_update(ticket: &Ticket) -> Result<(String, Vec<Cell>), LedgerFault> {
    let mut cells = ticket_cells(ticket)?;
    let over = is_over(ticket);
    if over {
        cells.push(Cell::Text(None));
    }
    let columns = TICKET.get(..TICKET.len() - usize::from(!over)).unwrap_or(&TICKET);
    Ok((update_sql("tickets", columns), cells))
}

fn ticket_cells(ticket: &Ticket) -> Result<Vec<Cell>, LedgerFault> {
    let subject = &ticket.subject;
    let lapses_ms = match ticket.state {
        approval::State::Pending => Some(subject.approve_by_ms),
        approval::State::Approved if ticket.consumed_by.is_none() => ticket.execute_by_ms,
        _ => None,
    };
    Ok(vec![
        Cell::text(&ticket.id),
        Cell::text(ticket.state.as_str()),
        Cell::text(&ticket.digest),
        Cell::int(ticket.asked_ms),
        Cell::Int(lapses_ms),
        Cell::Text(ticket.consumed_by.clone()),
        Cell::text(&subject.tenant),
        Cell::text(&subject.requester.issuer),
        Cell::text(&subject.requester.user),
        Cell::text(&subject.client),
        Cell::text(&subject.workflow),
        Cell::text(&subject.tool),
        json(ticket)?,
    ])
}

/// Whether nothing can come of a ticket any more, so that asking the same asks anew.
const fn is_over(ticket: &Ticket) -> bool {
    !matches!(ticket.state, approval::State::Pending | approval::State::Approved)
}

/// Whether asking the same finds this one.
pub(super) fn is_open(ticket: &Ticket, now_ms: i64) -> bool {
    ticket.consumed_by.is_none() && !is_over(&ticket.clone().at(now_ms))
}

/// A ticket from its row's only column, `ticket`.
pub(super) fn ticket(row: &impl Cells) -> Result<Ticket, LedgerFault> {
    document(&row.text(0)?.ok_or_else(|| missing(0))?)
}

/// `SELECT` of the writes that are wanted, with its values.
pub(super) fn writes_sql(filter: &WriteFilter) -> (String, Vec<Cell>) {
    let mut list = List::default();
    list.equal("tenant", filter.tenant.as_deref());
    list.equal("state", filter.state.map(idempotency::State::as_str));
    list.equal("key", filter.key.as_deref());
    list.before("created_ms", filter.before_ms);
    list.finish(&execution_columns(false), "executions", "created_ms", filter.limit)
}

/// `SELECT` of the tickets that are wanted, with its values.
pub(super) fn tickets_sql(filter: &TicketFilter) -> (String, Vec<Cell>) {
    let mut list = List::default();
    list.equal("tenant", filter.tenant.as_deref());
    list.equal("state", filter.state.map(approval::State::as_str));
    list.equal("\"user\"", filter.requester.as_deref());
    list.before("asked_ms", filter.before_ms);
    list.finish("ticket", "tickets", "asked_ms", filter.limit)
}

/// Conditions with their values.
#[derive(Default)]
struct List {
    conditions: Vec<String>,
    cells: Vec<Cell>,
}

impl List {
    fn equal(&mut self, column: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.cells.push(Cell::text(value));
            self.conditions.push(format!("{column} = ${}", self.cells.len()));
        }
    }

    fn before(&mut self, column: &str, moment_ms: Option<i64>) {
        if let Some(moment_ms) = moment_ms {
            self.cells.push(Cell::int(moment_ms));
            self.conditions.push(format!("{column} < ${}", self.cells.len()));
        }
    }

    fn finish(mut self, columns: &str, table: &str, newest: &str, limit: usize) -> (String, Vec<Cell>) {
        let conditions = if self.conditions.is_empty() {
            String::new()
        } else {
            format!("WHERE {} ", self.conditions.join(" AND "))
        };
        self.cells.push(Cell::int(limit.min(LIST_MAX)));
        let at = self.cells.len();
        let sql = format!("SELECT {columns} FROM {table} {conditions}ORDER BY {newest} DESC, id DESC LIMIT ${at}");
        (sql, self.cells)
    }
}

fn json(value: &impl Serialize) -> Result<Cell, LedgerFault> {
    let text = serde_json::to_string(value).map_err(|cause| LedgerFault::Unreadable(cause.to_string()))?;
    Ok(Cell::Text(Some(text)))
}

fn document<T: DeserializeOwned>(text: &str) -> Result<T, LedgerFault> {
    serde_json::from_str(text).map_err(|cause| LedgerFault::Unreadable(cause.to_string()))
}

fn missing(at: usize) -> LedgerFault {
    LedgerFault::Unreadable(format!("column {at} holds no value of its kind"))
}

/// Tables of another version than this program's.
pub(super) fn newer(place: &str, found: &str) -> LedgerFault {
    LedgerFault::Unreadable(format!(
        "{place} has tables of version {found}, and this program knows {SCHEMA_VERSION}; \
         start the newer gateway that made them"
    ))
}
