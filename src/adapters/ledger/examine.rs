//! Looks at a ledger for people: where it is, whether it can be used, what it would lose.
//!
//! Promises: changes nothing, also not the tables; works beside a gateway that uses it; a password is
//! never shown. Called by `check` and `doctor`, through `app`.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::OpenFlags;

use super::Place;
use super::postgres;
use super::rows;
use super::sqlite;
use crate::pep::ports::LedgerFault;

/// What was found of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// What it is.
    pub words: String,
    /// What keeps it from being used, or would make it forget; each with what to do.
    pub faults: Vec<String>,
}

/// What can be known of a ledger's settings without reaching for it.
pub fn check(place: &Place) -> Result<(), LedgerFault> {
    match place {
        Place::Sqlite(_) => Ok(()),
        Place::Postgres { url, connections } => postgres::check(url, *connections),
    }
}

/// Reaches for a ledger.
pub async fn examine(place: &Place) -> Result<Examined, LedgerFault> {
    match place {
        Place::Sqlite(path) => file(path),
        Place::Postgres { url, .. } => postgres::examine(url).await,
    }
}

fn file(path: &Path) -> Result<Examined, LedgerFault> {
    let place = path.display();
    if !path.exists() {
        return Ok(Examined { words: format!("{place} will be made at the first start"), faults: Vec::new() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let look = || {
        let connection = Connection::open_with_flags(path, flags)?;
        Ok((sqlite::about(&connection, "schema")?, sqlite::about(&connection, "name")?))
    };
    let (version, name) = look().map_err(|error: rusqlite::Error| sqlite::fault(&error))?;
    match version {
        Some(version) if version != rows::SCHEMA_VERSION.to_string() => Err(rows::newer(&place.to_string(), &version)),
        _ => Ok(Examined { words: format!("{} in {place}", name.unwrap_or_default()), faults: Vec::new() }),
    }
}
