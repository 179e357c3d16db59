//! An organisation's records, as one request sees them.
//!
//! Promises: every read and write is confined to the caller's organisation, so a foreign record
//! does not exist; everything happens inside the request's transaction; in a dry run no id is
//! allocated and no time is stamped, so the same preview comes out twice. Never commits: that is
//! `sandbox::store`. Used by every operation.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use jiff::Timestamp;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;
use rusqlite::params;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::kind::Kind;
use super::operation::Ask;
use super::problem::Problem;

/// Evidence graphs older than this are stale.
const GRAPH_FRESH_HOURS: i64 = 24;

/// Something a request did to a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// A new record.
    Created {
        /// Its kind.
        kind: Kind,
        /// The record, with its id.
        record: Value,
    },
    /// A changed record.
    Updated {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: String,
        /// How it was.
        before: Value,
        /// How it is.
        after: Value,
    },
}

/// Who asks, and when.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Organisation.
    pub(super) tenant: String,
    /// User.
    pub(super) user: String,
    /// Now.
    pub(super) now: Timestamp,
}

/// The records of one organisation inside one transaction.
pub(super) struct Books<'tx> {
    transaction: &'tx Transaction<'tx>,
    caller: &'tx Caller,
    dry_run: bool,
    changes: Vec<Change>,
}

impl<'tx> Books<'tx> {
    /// Opens the caller's books.
    pub(super) fn open(transaction: &'tx Transaction<'tx>, caller: &'tx Caller, dry_run: bool) -> Self {
        Self { transaction, caller, dry_run, changes: Vec::new() }
    }

    /// The caller's organisation.
    pub(super) fn tenant(&self) -> &'tx str {
        &self.caller.tenant
    }

    /// The caller.
    pub(super) fn user(&self) -> &'tx str {
        &self.caller.user
    }

    /// Now.
    pub(super) fn now(&self) -> Timestamp {
        self.caller.now
    }

    /// Now as a record keeps it; null in a dry run.
    pub(super) fn stamp(&self) -> Value {
        if self.dry_run { Value::Null } else { Value::from(written(self.caller.now)) }
    }

    /// What was done so far.
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The transaction, for what is no record.
    pub(super) fn transaction(&self) -> &'tx Transaction<'tx> {
        self.transaction
    }

    /// The record, if the organisation has it.
    pub(super) fn find(&self, kind: Kind, id: &str) -> Result<Option<Value>, Problem> {
        let sql = "SELECT body FROM records WHERE tenant = ?1 AND kind = ?2 AND id = ?3";
        let body: Option<String> =
            self.transaction.query_row(sql, params![self.tenant(), kind.name(), id], |row| row.get(0)).optional()?;
        body.map(|body| self.present(kind, &body)).transpose()
    }

    /// The record, or that there is none.
    pub(super) fn get(&self, kind: Kind, id: &str) -> Result<Value, Problem> {
        self.find(kind, id)?.ok_or_else(|| Problem::not_found(kind.words(), id))
    }

    /// Every record of a kind that `keep` takes, oldest first.
    pub(super) fn all(&self, kind: Kind, keep: impl Fn(&Value) -> bool) -> Result<Vec<Value>, Problem> {
        let mut kept = Vec::new();
        self.scan(kind, 0, |_, record| {
            if keep(&record) {
                kept.push(record);
            }
            true
        })?;
        Ok(kept)
    }

    /// Hands out the records of a kind behind a position, oldest first, until `take` says stop.
    pub(super) fn scan(&self, kind: Kind, after: i64, mut take: impl FnMut(i64, Value) -> bool) -> Result<(), Problem> {
        let sql = "SELECT seq, body FROM records WHERE tenant = ?1 AND kind = ?2 AND seq > ?3 ORDER BY seq";
        let mut statement = self.transaction.prepare(sql)?;
        let mut rows = statement.query(params![self.tenant(), kind.name(), after])?;
        while let Some(row) = rows.next()? {
            let body: String = row.get(1)?;
            if !take(row.get(0)?, self.present(kind, &body)?) {
                break;
            }
        }
        Ok(())
    }

    /// How many records of each kind there are.
    pub(super) fn counts(&self) -> Result<Map<String, Value>, Problem> {
        let sql = "SELECT kind, count(*) FROM records WHERE tenant = ?1 GROUP BY kind";
        let mut statement = self.transaction.prepare(sql)?;
        let rows = statement.query_map([self.tenant()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
        Ok(rows.collect::<Result<Vec<(String, i64)>, _>>()?.into_iter().map(|(k, n)| (k, Value::from(n))).collect())
    }

    /// Creates a record; id, tenant and the time of creation are put in here.
    pub(super) fn create(&mut self, kind: Kind, members: Value) -> Result<Value, Problem> {
        let mut record = members;
        let id = self.allocate(kind)?;
        put(&mut record, "id", Value::from(id.as_str()));
        put(&mut record, "tenant", Value::from(self.tenant()));
        put(&mut record, "createdAt", self.stamp());
        insert(self.transaction, self.tenant(), kind, &id, &record)?;
        self.changes.push(Change::Created { kind, record: record.clone() });
        Ok(record)
    }

    /// Changes members of a record.
    pub(super) fn update(&mut self, kind: Kind, id: &str, members: Vec<(&str, Value)>) -> Result<Value, Problem> {
        let before = self.get(kind, id)?;
        let mut after = before.clone();
        for (name, value) in members {
            put(&mut after, name, value);
        }
        if after == before {
            return Ok(before);
        }
        put(&mut after, "updatedAt", self.stamp());
        replace(self.transaction, self.tenant(), kind, id, &after)?;
        let after = self.get(kind, id)?;
        self.changes.push(Change::Updated { kind, id: id.to_owned(), before, after: after.clone() });
        Ok(after)
    }

    /// Whether a name is a member or a team of the organisation.
    pub(super) fn owns(&self, name: &str) -> Result<bool, Problem> {
        if self.find(Kind::Member, name)?.is_some() {
            return Ok(true);
        }
        let on_team =
            |member: &Value| member.pointer("/teams").and_then(Value::as_object).is_some_and(|t| t.contains_key(name));
        Ok(!self.all(Kind::Member, on_team)?.is_empty())
    }

    /// A page of records of a kind: the query's filters, and `also`.
    pub(super) fn page(&self, kind: Kind, ask: &Ask, also: &[(&str, &str)]) -> Result<Value, Problem> {
        let (limit, after) = (limit(ask), position(ask, kind.name())?);
        let mut items = Vec::new();
        let mut last = after;
        let mut more = false;
        self.scan(kind, after, |seq, record| {
            if !matches(&record, ask, also) {
                return true;
            }
            more = items.len() == limit;
            if !more {
                items.push(record);
                last = seq;
            }
            !more
        })?;
        Ok(json!({"items": items, "nextCursor": more.then(|| cursor(kind.name(), last))}))
    }

    fn allocate(&self, kind: Kind) -> Result<String, Problem> {
        if self.dry_run {
            let nth =
                1 + self.changes.iter().filter(|c| matches!(c, Change::Created { kind: k, .. } if *k == kind)).count();
            return Ok(format!("new:{}:{nth}", kind.name()));
        }
        // WHY: counters are shared by all organisations, so that a foreign id is never one's own.
        let sql = "INSERT INTO counters (kind, last) VALUES (?1, 5001)
                   ON CONFLICT (kind) DO UPDATE SET last = last + 1 RETURNING last";
        let number: i64 = self.transaction.query_row(sql, [kind.name()], |row| row.get(0))?;
        Ok(format!("{}-{number}", kind.prefix()))
    }

    /// How long evidence stays fresh whose source says nothing.
    fn fresh_hours(&self) -> Result<i64, Problem> {
        let settings = self.get(Kind::Settings, "tenant-settings")?;
        Ok(settings.get("evidenceFreshHours").and_then(Value::as_i64).unwrap_or(0))
    }

    /// Adds what is computed rather than stored.
    fn present(&self, kind: Kind, body: &str) -> Result<Value, Problem> {
        let mut record: Value = serde_json::from_str(body)?;
        match kind {
            Kind::Evidence => {
                let fresh_for = match record.get("freshForHours").and_then(Value::as_i64) {
                    Some(count) => count,
                    None => self.fresh_hours()?,
                };
                let turns_stale = time(&record, "collectedAt").and_then(|at| at.checked_add(hours(fresh_for)).ok());
                let status = match turns_stale {
                    None => "missing",
                    Some(at) if at <= self.caller.now => "stale",
                    Some(_) => "fresh",
                };
                put(&mut record, "freshForHours", Value::from(fresh_for));
                put(&mut record, "status", Value::from(status));
                put(&mut record, "staleAfter", turns_stale.map(written).into());
            }
            Kind::EvidenceGraph => {
                let old = time(&record, "builtAt").and_then(|at| at.checked_add(hours(GRAPH_FRESH_HOURS)).ok());
                put(&mut record, "stale", Value::from(old.is_none_or(|at| at <= self.caller.now)));
            }
            Kind::Member
            | Kind::Application
            | Kind::Module
            | Kind::Release
            | Kind::Control
            | Kind::Certification
            | Kind::Blocker
            | Kind::Finding
            | Kind::WorkItem
            | Kind::WorkPackage
            | Kind::Agent
            | Kind::AgentRun
            | Kind::Settings => {}
        }
        Ok(record)
    }
}

/// Stores a new record.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    tenant: &str,
    kind: Kind,
    id: &str,
    record: &Value,
) -> Result<(), rusqlite::Error> {
    let sql = "INSERT INTO records (tenant, kind, id, body) VALUES (?1, ?2, ?3, ?4)";
    transaction.execute(sql, params![tenant, kind.name(), id, record.to_string()])?;
    Ok(())
}

/// Stores a record in the place of another; whether there was one.
pub(super) fn replace(
    transaction: &Transaction<'_>,
    tenant: &str,
    kind: Kind,
    id: &str,
    record: &Value,
) -> Result<bool, rusqlite::Error> {
    let sql = "UPDATE records SET body = ?4 WHERE tenant = ?1 AND kind = ?2 AND id = ?3";
    Ok(transaction.execute(sql, params![tenant, kind.name(), id, record.to_string()])? == 1)
}

/// Sets a member of an object.
pub(super) fn put(record: &mut Value, name: &str, value: Value) {
    if let Some(members) = record.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// A text member, empty when there is none.
pub(super) fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A time member.
pub(super) fn time(record: &Value, name: &str) -> Option<Timestamp> {
    text(record, name).parse().ok()
}

/// A time as records keep it: UTC, whole seconds.
pub(super) fn written(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// The length of so many hours.
pub(super) fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count.saturating_mul(3600))
}

/// Cuts a computed list into the page that the query asks for.
pub(super) fn cut(name: &str, all: Vec<Value>, ask: &Ask) -> Result<Value, Problem> {
    let (limit, after) = (limit(ask), position(ask, name)?);
    let start = usize::try_from(after).unwrap_or(usize::MAX);
    let rest = all.len().saturating_sub(start);
    let items: Vec<Value> = all.into_iter().skip(start).take(limit).collect();
    let next = (rest > limit).then(|| cursor(name, after.saturating_add(i64::try_from(limit).unwrap_or(0))));
    Ok(json!({"items": items, "nextCursor": next}))
}

fn limit(ask: &Ask) -> usize {
    // The door has checked that it is 1 to 100.
    ask.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20)
}

fn cursor(name: &str, position: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{name}:{position}"))
}

fn position(ask: &Ask, name: &str) -> Result<i64, Problem> {
    let Some(cursor) = ask.query.get("cursor") else { return Ok(0) };
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
        .filter(|position: &i64| *position >= 0)
        .ok_or_else(|| {
            Problem::new(400, "invalid_cursor", "`cursor` is not one that this list gave; start without one")
        })
}

fn matches(record: &Value, ask: &Ask, also: &[(&str, &str)]) -> bool {
    let filtered = ask.query.iter().all(|(name, wanted)| match name.as_str() {
        "limit" | "cursor" => true,
        "q" => {
            let wanted = wanted.to_lowercase();
            ["id", "title", "name", "description"]
                .iter()
                .any(|name| text(record, name).to_lowercase().contains(&wanted))
        }
        name => text(record, name) == wanted,
    });
    filtered && also.iter().all(|(name, wanted)| text(record, name) == *wanted)
}
