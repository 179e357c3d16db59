//! The SQLite file or memory behind everything.
//!
//! Promises: one connection behind one lock, so requests are serial and a twin sees its sibling's
//! commit; a transaction that is not told to commit leaves nothing. All blocking happens here, on
//! blocking threads. Called by `sandbox::door`.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::Transaction;
use rusqlite::TransactionBehavior;

use super::SandboxError;
use super::Store;
use super::ledger;
use super::ledger::Answer;
use super::ledger::Order;
use super::problem::Problem;
use super::seed;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS tenants (id TEXT PRIMARY KEY) STRICT;
    CREATE TABLE IF NOT EXISTS records (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL REFERENCES tenants (id),
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        body TEXT NOT NULL,
        UNIQUE (tenant, kind, id)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS records_in_order ON records (tenant, kind, seq);
    CREATE TABLE IF NOT EXISTS counters (kind TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS executions (
        tenant TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        operation TEXT NOT NULL,
        status INTEGER NOT NULL,
        etag TEXT,
        body BLOB NOT NULL,
        record_ids TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (tenant, key)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS effects (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        effect INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        key TEXT,
        operation TEXT NOT NULL,
        kind TEXT NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS effects_in_order ON effects (effect);
";

/// The store, shared by all requests.
#[derive(Debug, Clone)]
pub(super) struct Vault {
    connection: Arc<Mutex<Connection>>,
}

impl Vault {
    /// Opens the store and seeds it when it is new.
    pub(super) fn open(store: &Store, now: Timestamp) -> Result<Self, SandboxError> {
        let mut connection = match store {
            Store::Memory => Connection::open_in_memory()?,
            Store::File(path) => Connection::open(path)?,
        };
        // An acknowledged effect survives a crash, as callers' tests of lost answers need.
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(TABLES)?;
        let tenants: i64 = transaction.query_row("SELECT count(*) FROM tenants", [], |row| row.get(0))?;
        if tenants == 0 {
            seed::plant(&transaction, now)?;
        }
        transaction.commit()?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Executes an order; with `keep` false everything is undone before the answer is given.
    pub(super) async fn execute(&self, order: Order, keep: bool) -> Result<Answer, Problem> {
        let keep = keep && !order.dry_run;
        self.within(order.operation.writes(), keep, move |transaction| ledger::settle(transaction, &order)).await
    }

    /// Runs work inside one transaction on a blocking thread; commits when it succeeds and `keep` is true.
    pub(super) async fn within<T, F>(&self, writes: bool, keep: bool, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Problem> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let blocking = tokio::task::spawn_blocking(move || {
            // A panic elsewhere rolled its transaction back, so the connection is still good.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let behavior = if writes { TransactionBehavior::Immediate } else { TransactionBehavior::Deferred };
            let transaction = connection.transaction_with_behavior(behavior)?;
            let done = work(&transaction)?;
            if keep {
                transaction.commit()?;
            }
            Ok(done)
        });
        blocking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a sandbox request broke down: {error}");
            Err(Problem::new(500, "broken_down", "the request broke down; look at the sandbox log"))
        })
    }
}
