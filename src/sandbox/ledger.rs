//! One request inside one transaction: replay, version check, effect, answer.
//!
//! Promises: the answer kept under an idempotency key, the count of its effect and the records
//! themselves are written by the same transaction; a replay is byte for byte the first answer; a
//! version is compared inside the transaction that changes it. Never commits: `sandbox::store`
//! does, and may be told not to. Only an answer with an effect is kept, so a refused request
//! leaves its key free.

use std::fmt::Write;

use aws_lc_rs::digest;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;
use rusqlite::params;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::Caller;
use super::books::Change;
use super::books::put;
use super::books::text;
use super::books::written;
use super::operation::Ask;
use super::operation::Operation;
use super::problem::Problem;
use super::reads::perform;
use super::table;

/// A request that passed the door.
pub(super) struct Order {
    /// What is asked.
    pub(super) operation: &'static Operation,
    /// With which arguments.
    pub(super) ask: Ask,
    /// By whom, when.
    pub(super) caller: Caller,
    /// `Idempotency-Key`.
    pub(super) key: Option<String>,
    /// `If-Match`.
    pub(super) if_match: Option<String>,
    /// Whether nothing may be stored.
    pub(super) dry_run: bool,
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// JSON.
    pub(super) body: Vec<u8>,
    /// `ETag`, with its quotes.
    pub(super) etag: Option<String>,
    /// Whether it was given before.
    pub(super) replayed: bool,
}

/// Does what the order says.
pub(super) fn settle(transaction: &Transaction<'_>, order: &Order) -> Result<Answer, Problem> {
    let tenant = &order.caller.tenant;
    let known = transaction.query_row("SELECT 1 FROM tenants WHERE id = ?1", [tenant], |_| Ok(())).optional()?;
    if known.is_none() {
        return Err(Problem::new(403, "unknown_tenant", format!("`{tenant}` is no organisation of this LoopIQ")));
    }
    let print = order.key.as_ref().filter(|_| !order.dry_run).map(|_| fingerprint(order)).transpose()?;
    if let (Some(key), Some(print)) = (&order.key, &print)
        && let Some(first) = replay(transaction, tenant, key, print)?
    {
        return Ok(first);
    }
    let mut books = Books::open(transaction, &order.caller, order.dry_run);
    check_version(order, &mut books)?;
    let value = perform(order.operation, &mut books, &order.ask)?;
    if order.dry_run {
        let body = serde_json::to_vec(&preview(order.operation, &books))?;
        return Ok(Answer { status: 200, body, etag: None, replayed: false });
    }
    let answer = Answer {
        status: order.operation.status,
        etag: if order.operation.versioned { Some(version(&value)?) } else { None },
        body: serde_json::to_vec(&value)?,
        replayed: false,
    };
    if order.operation.writes() {
        count(transaction, order, books.changes())?;
    }
    if let (Some(key), Some(print)) = (&order.key, &print) {
        remember(transaction, order, (key, print), &answer, books.changes())?;
    }
    Ok(answer)
}

/// `GET /api/v1/executions/{key}`: what became of a key.
pub(super) fn lookup(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let key = ask.var("key");
    let sql = "SELECT operation, status, record_ids, at, body FROM executions WHERE tenant = ?1 AND key = ?2";
    let found = books
        .transaction()
        .query_row(sql, params![books.tenant(), key], |row| {
            let (ids, body): (String, Vec<u8>) = (row.get(2)?, row.get(4)?);
            Ok((row.get::<_, String>(0)?, row.get::<_, u16>(1)?, ids, row.get::<_, String>(3)?, body))
        })
        .optional()?;
    let Some((operation, status, ids, at, body)) = found else {
        return Err(Problem::new(404, "not_found", format!("nothing was executed under key `{key}`")));
    };
    let (ids, body): (Value, Value) = (serde_json::from_str(&ids)?, serde_json::from_slice(&body)?);
    Ok(json!({
        "id": key,
        "key": key,
        "tenant": books.tenant(),
        "state": "executed",
        "operation": operation,
        "status": status,
        "recordIds": ids,
        "at": at,
        "body": body,
    }))
}

/// Effects so far: in total, by idempotency key and by kind of record.
pub(super) fn effects(transaction: &Transaction<'_>) -> Result<Value, Problem> {
    let total: i64 = transaction.query_row("SELECT count(DISTINCT effect) FROM effects", [], |row| row.get(0))?;
    let keyless = "SELECT count(DISTINCT effect) FROM effects WHERE key IS NULL";
    let keyless: i64 = transaction.query_row(keyless, [], |row| row.get(0))?;
    let mut by_kind = Map::new();
    let mut statement = transaction.prepare("SELECT kind, count(*) FROM effects GROUP BY kind")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        by_kind.insert(row.get(0)?, Value::from(row.get::<_, i64>(1)?));
    }
    let mut by_key = Map::new();
    let sql = "SELECT tenant, key, count(DISTINCT effect) FROM effects WHERE key IS NOT NULL GROUP BY tenant, key";
    let mut statement = transaction.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let keys = by_key.entry(row.get::<_, String>(0)?).or_insert_with(|| json!({}));
        put(keys, &row.get::<_, String>(1)?, Value::from(row.get::<_, i64>(2)?));
    }
    Ok(json!({"executions": total, "withoutKey": keyless, "byKey": by_key, "byKind": by_kind}))
}

/// The version of a record: a digest of all that it says.
fn version(value: &Value) -> Result<String, Problem> {
    let digest = digest::digest(&digest::SHA256, &serde_json::to_vec(value)?);
    Ok(format!("\"{}\"", hex(digest.as_ref().get(..12).unwrap_or_default())))
}

fn fingerprint(order: &Order) -> Result<String, Problem> {
    let Ask { path, query, body } = &order.ask;
    let what = json!({"operation": order.operation.tool, "path": path, "query": query, "body": body});
    let canonical = json_canon::to_string(&what).map_err(|error| {
        Problem::invalid("invalid_body", format!("the body has a number that JSON cannot carry safely: {error}"))
    })?;
    Ok(hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn replay(transaction: &Transaction<'_>, tenant: &str, key: &str, print: &str) -> Result<Option<Answer>, Problem> {
    let sql = "SELECT fingerprint, status, etag, body FROM executions WHERE tenant = ?1 AND key = ?2";
    let found = transaction
        .query_row(sql, params![tenant, key], |row| {
            let answer = Answer { status: row.get(1)?, etag: row.get(2)?, body: row.get(3)?, replayed: true };
            Ok((row.get::<_, String>(0)?, answer))
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some((first, answer)) if first == print => Ok(Some(answer)),
        Some(_) => {
            let words = format!("key `{key}` was used for another request; choose a new key for a new request");
            Err(Problem::invalid("idempotency_mismatch", words))
        }
    }
}

fn check_version(order: &Order, books: &mut Books<'_>) -> Result<(), Problem> {
    let Some(wanted) = &order.if_match else { return Ok(()) };
    let Some(target) = order.operation.etag.and_then(table::operation) else { return Ok(()) };
    let current = version(&perform(target, books, &order.ask)?)?;
    // A weak tag never matches here, as RFC 9110 asks of `If-Match`.
    if wanted.split(',').map(str::trim).any(|tag| tag == "*" || tag == current) {
        return Ok(());
    }
    let words = format!("the record has changed since `If-Match` was read; read it again (it is {current} now)");
    Err(Problem::new(412, "version_mismatch", words))
}

fn preview(operation: &Operation, books: &Books<'_>) -> Value {
    let (mut creates, mut updates) = (Vec::new(), Vec::new());
    for change in books.changes() {
        match change {
            Change::Created { kind, record } => {
                let mut shown = record.clone();
                let reference = shown.as_object_mut().and_then(|members| members.remove("id"));
                let unstamped = |name: &str| matches!(name, "createdAt" | "updatedAt" | "startedAt" | "finishedAt");
                if let Some(members) = shown.as_object_mut() {
                    members.retain(|name, value| !(value.is_null() && unstamped(name)));
                }
                creates.push(json!({"kind": kind.name(), "ref": reference, "record": shown}));
            }
            Change::Updated { kind, id, before, after } => {
                updates.push(json!({"kind": kind.name(), "id": id, "changes": differences(before, after)}));
            }
        }
    }
    json!({
        "dryRun": true,
        "tenant": books.tenant(),
        "operation": operation.tool,
        "preview": {"creates": creates, "updates": updates},
    })
}

/// What an update changes, member by member.
fn differences(before: &Value, after: &Value) -> Vec<Value> {
    let volatile = |name: &str| matches!(name, "updatedAt" | "builtAt" | "stale");
    let members = after.as_object().into_iter().flatten();
    members
        .filter(|(name, to)| !volatile(name) && before.get(name) != Some(to))
        .map(|(name, to)| {
            let from = before.get(name).unwrap_or(&Value::Null);
            json!({"field": name, "from": apart(from, to), "to": apart(to, from)})
        })
        .collect()
}

/// A value as a reader compares it with another: of two lists, only what the other has not.
fn apart(value: &Value, other: &Value) -> Value {
    let (Value::Array(items), Value::Array(others)) = (value, other) else { return value.clone() };
    let only_here = items.iter().filter(|item| !others.contains(item)).cloned();
    only_here
        .map(|mut item| {
            // The preview as a whole names the tenant.
            if let Some(members) = item.as_object_mut() {
                members.remove("tenant");
            }
            item
        })
        .collect()
}

fn count(transaction: &Transaction<'_>, order: &Order, changes: &[Change]) -> Result<(), Problem> {
    let effect: i64 =
        transaction.query_row("SELECT coalesce(max(effect), 0) + 1 FROM effects", [], |row| row.get(0))?;
    let sql = "INSERT INTO effects (effect, tenant, key, operation, kind, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    for change in changes {
        let (kind, id) = touched(change);
        let operation = order.operation.tool;
        transaction.execute(sql, params![effect, order.caller.tenant, order.key, operation, kind, id])?;
    }
    Ok(())
}

fn touched(change: &Change) -> (&'static str, &str) {
    match change {
        Change::Created { kind, record } => (kind.name(), text(record, "id")),
        Change::Updated { kind, id, .. } => (kind.name(), id),
    }
}

fn remember(
    transaction: &Transaction<'_>,
    order: &Order,
    (key, print): (&str, &str),
    answer: &Answer,
    changes: &[Change],
) -> Result<(), Problem> {
    let ids: Vec<&str> = changes.iter().map(|change| touched(change).1).collect();
    let sql = "INSERT INTO executions (tenant, key, fingerprint, operation, status, etag, body, record_ids, at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let Caller { tenant, now, .. } = &order.caller;
    let (ids, at) = (Value::from(ids).to_string(), written(*now));
    transaction.execute(
        sql,
        params![tenant, key, print, order.operation.tool, answer.status, answer.etag, answer.body, ids, at],
    )?;
    Ok(())
}
