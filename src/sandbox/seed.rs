//! The first records of a new store, from `seed.yaml`.
//!
//! Promises: times are relative to the moment of seeding, so what is stale then stays stale; the
//! first evidence graphs are drawn from the records, as a refresh would. Never touches a store
//! that already has organisations. Called by `sandbox::store`.

use jiff::SignedDuration;
use jiff::Timestamp;
use rusqlite::Transaction;
use serde_json::Map;
use serde_json::Value;

use super::SandboxError;
use super::books::Books;
use super::books::Caller;
use super::books::hours;
use super::books::insert;
use super::books::put;
use super::books::text;
use super::books::time;
use super::books::written;
use super::graph;
use super::kind::Kind;

const RECORDS: &str = include_str!("seed.yaml");

/// Fills a new store.
pub(super) fn plant(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), SandboxError> {
    let tenants: Map<String, Value> =
        serde_saphyr::from_str(RECORDS).map_err(|error| SandboxError::Seed(error.to_string()))?;
    for (tenant, kinds) in &tenants {
        transaction.execute("INSERT INTO tenants (id) VALUES (?1)", [tenant])?;
        // Graphs come last, because they are drawn from the other records.
        for graphs in [false, true] {
            for (name, records) in kinds.as_object().into_iter().flatten() {
                let kind = Kind::named(name).ok_or_else(|| SandboxError::Seed(format!("`{name}` is no kind")))?;
                if (kind == Kind::EvidenceGraph) != graphs {
                    continue;
                }
                for record in records.as_array().into_iter().flatten() {
                    plant_one(transaction, tenant, kind, &dated(record, now)?)?;
                }
            }
        }
    }
    Ok(())
}

fn plant_one(transaction: &Transaction<'_>, tenant: &str, kind: Kind, record: &Value) -> Result<(), SandboxError> {
    let id = text(record, "id");
    let mut record = record.clone();
    if kind == Kind::EvidenceGraph {
        let built = time(&record, "builtAt").ok_or_else(|| SandboxError::Seed(format!("graph `{id}` has no time")))?;
        let caller = Caller { tenant: tenant.to_owned(), user: "system".to_owned(), now: built };
        let mut drawn = graph::build(&Books::open(transaction, &caller, false), id)
            .map_err(|problem| SandboxError::Seed(problem.message))?;
        put(&mut drawn, "builtAt", Value::from(written(built)));
        insert(transaction, tenant, kind, id, &drawn)?;
        return Ok(());
    }
    put(&mut record, "tenant", Value::from(tenant));
    insert(transaction, tenant, kind, id, &record)?;
    Ok(())
}

/// Turns every `@-3d` and `@+4h` within a record into a time.
fn dated(value: &Value, now: Timestamp) -> Result<Value, SandboxError> {
    Ok(match value {
        Value::String(written_so) => match written_so.strip_prefix('@') {
            Some(offset) => Value::from(written(shifted(offset, now)?)),
            None => value.clone(),
        },
        Value::Array(items) => Value::Array(items.iter().map(|item| dated(item, now)).collect::<Result<_, _>>()?),
        Value::Object(members) => {
            let dated = members.iter().map(|(name, member)| Ok((name.clone(), dated(member, now)?)));
            Value::Object(dated.collect::<Result<_, SandboxError>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn shifted(offset: &str, now: Timestamp) -> Result<Timestamp, SandboxError> {
    let wrong = || SandboxError::Seed(format!("`@{offset}` is no time"));
    let (count, unit): (&str, fn(i64) -> SignedDuration) = match (offset.strip_suffix('d'), offset.strip_suffix('h')) {
        (Some(days), _) => (days, |days| hours(days.saturating_mul(24))),
        (None, Some(count)) => (count, hours),
        (None, None) => return Err(wrong()),
    };
    let count = count.parse::<i64>().map_err(|_| wrong())?;
    now.checked_add(unit(count)).map_err(|_| wrong())
}
