//! The ledger as anybody with a client for its engine reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::postgres::Cluster;

/// A ledger.
pub(super) enum Books {
    /// SQLite: the file's path.
    File(String),
    /// PostgreSQL.
    Shared(Arc<Cluster>),
}

impl Books {
    /// Every write, by its key, with its state; none while nobody answers.
    pub(super) fn states(&self) -> BTreeMap<String, String> {
        match self {
            Self::File(path) => of_file(path).unwrap_or_default(),
            Self::Shared(cluster) => of_cluster(cluster).unwrap_or_default(),
        }
    }
}

fn of_file(path: &str) -> rusqlite::Result<BTreeMap<String, String>> {
    let ledger = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut rows = ledger.prepare("SELECT key, state FROM executions")?;
    rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn of_cluster(cluster: &Cluster) -> Result<BTreeMap<String, String>, String> {
    let rows = cluster.psql_in("postgres", "SELECT json_object_agg(key, state) FROM executions")?;
    serde_json::from_str(&rows).map_err(|cause| cause.to_string())
}
