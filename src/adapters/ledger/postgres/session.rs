//! Connections to the database, and transactions on them.
//!
//! Promises: no wait without an end; a transaction that was not finished never goes back to the
//! pool, whoever stopped waiting for it; what may have been committed is never tried again here.
//! Holds no state of a session, so that a pooler may stand before the database.
//! Never shows the connection URL. Called by the PostgreSQL engine.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Manager;
use deadpool_postgres::ManagerConfig;
use deadpool_postgres::Object;
use deadpool_postgres::Pool;
use deadpool_postgres::PoolError;
use deadpool_postgres::RecyclingMethod;
use deadpool_postgres::Runtime;
use tokio_postgres::Config;
use tokio_postgres::NoTls;
use tokio_postgres::Row;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::adapters::ledger::rows::Cell;
use crate::pep::ports::LedgerFault;

/// Longest wait for a free connection, and for a new one.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest look at whether an idle connection still works.
const RECYCLE: Duration = Duration::from_secs(1);
/// WHY here and not on the session: a pooler gives each transaction another session. A server that
/// would acknowledge before anything is on disk is told to wait for it.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL search_path = loopgate; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '2s'; \
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";

/// Why a transaction came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Others were faster, or the connection was gone; it may be tried again.
    Again(String),
    /// It may not, or need not.
    Fault(LedgerFault),
}

impl From<LedgerFault> for Trouble {
    fn from(fault: LedgerFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<tokio_postgres::Error> for Trouble {
    /// Of a statement before the commit: what was begun is undone, whatever went wrong.
    fn from(error: tokio_postgres::Error) -> Self {
        let again = error.is_closed()
            || error.code().is_some_and(|code| {
                [
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::UNIQUE_VIOLATION,
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                ]
                .contains(code)
            });
        if again { Self::Again(words(&error)) } else { Self::Fault(LedgerFault::Unavailable(words(&error))) }
    }
}

/// What went wrong, with its cause; the driver tells the cause apart.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A pool for a connection URL. Connects to nothing yet.
pub(super) fn pool(url: &str, connections: usize) -> Result<Pool, LedgerFault> {
    let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
        let remedy = "write it as postgres://user:password@host/database; `sslmode` is disable, prefer or require, \
            and with require the certificate is verified";
        LedgerFault::Unreadable(format!("the connection URL: {}; {remedy}", words(&error)))
    })?;
    config.application_name("loopgate");
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    config.keepalives_idle(Duration::from_secs(15)).tcp_user_timeout(Duration::from_secs(10));
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if config.get_ssl_mode() == SslMode::Require {
        Manager::from_config(config, tls()?, how)
    } else {
        config.ssl_mode(SslMode::Disable);
        Manager::from_config(config, NoTls, how)
    };
    Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT))
        .create_timeout(Some(CONNECT))
        .recycle_timeout(Some(RECYCLE))
        .build()
        .map_err(|error| LedgerFault::Unreadable(error.to_string()))
}

/// TLS that trusts what the system trusts (or `SSL_CERT_FILE`).
fn tls() -> Result<MakeRustlsConnect, LedgerFault> {
    let mut roots = rustls::RootCertStore::empty();
    // One certificate that cannot be read hides no other.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| LedgerFault::Unreadable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

async fn connection(pool: &Pool) -> Result<Object, LedgerFault> {
    pool.get().await.map_err(|error| {
        LedgerFault::Unavailable(match error {
            PoolError::Backend(error) => words(&error),
            PoolError::Timeout(_) => format!("no connection within {} s", CONNECT.as_secs()),
            other => other.to_string(),
        })
    })
}

/// The row of one statement that changes nothing, outside any transaction.
pub(super) async fn look(pool: &Pool, sql: &str) -> Result<Row, LedgerFault> {
    let found = connection(pool).await?.query_typed_one(sql, &[]).await;
    found.map_err(|error| LedgerFault::Unavailable(words(&error)))
}

/// The rows of one statement of its own, outside any transaction.
pub(super) async fn outside(pool: &Pool, sql: &str, cells: &[Cell]) -> Result<Vec<Row>, LedgerFault> {
    let found = connection(pool).await?.query_typed(sql, &typed(cells)).await;
    found.map_err(|error| LedgerFault::Unavailable(words(&error)))
}

/// One transaction. Dropped unfinished, its connection is closed, which undoes it.
pub(super) struct Session {
    object: Option<Object>,
}

impl Session {
    /// Begins.
    pub(super) async fn begin(pool: &Pool) -> Result<Self, Trouble> {
        let object = connection(pool).await?;
        let session = Self { object: Some(object) };
        session.client()?.batch_execute(BEGIN).await?;
        Ok(session)
    }

    fn client(&self) -> Result<&Object, Trouble> {
        self.object.as_ref().ok_or_else(|| Trouble::Again("the transaction is over".to_owned()))
    }

    /// Every row that a statement gives.
    pub(super) async fn rows(&self, sql: &str, cells: &[Cell]) -> Result<Vec<Row>, Trouble> {
        Ok(self.client()?.query_typed(sql, &typed(cells)).await?)
    }

    /// The only row, if there is one.
    pub(super) async fn row(&self, sql: &str, cells: &[Cell]) -> Result<Option<Row>, Trouble> {
        Ok(self.rows(sql, cells).await?.into_iter().next())
    }

    /// How many rows a statement changed.
    pub(super) async fn execute(&self, sql: &str, cells: &[Cell]) -> Result<u64, Trouble> {
        Ok(self.client()?.execute_typed(sql, &typed(cells)).await?)
    }

    /// Several statements without values.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Trouble> {
        Ok(self.client()?.batch_execute(sql).await?)
    }

    /// Ends with everything stored. A fault here says nothing of whether it was.
    pub(super) async fn commit(mut self) -> Result<(), Trouble> {
        let committed = self.client()?.batch_execute("COMMIT").await;
        match committed {
            Ok(()) => {
                // Only now is the connection fit for another.
                drop(self.object.take());
                Ok(())
            }
            // The database says itself that it undid everything.
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => Err(error.into()),
            Err(error) => Err(Trouble::Fault(LedgerFault::Unavailable(format!(
                "it is not known whether it was stored: {}",
                words(&error)
            )))),
        }
    }

    /// Ends with nothing stored.
    pub(super) async fn give_up(mut self) {
        if let Some(object) = self.object.take()
            && object.batch_execute("ROLLBACK").await.is_err()
        {
            close(object);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            close(object);
        }
    }
}

/// Takes a connection out of the pool for good.
fn close(object: Object) {
    drop(Object::take(object));
}

fn typed(cells: &[Cell]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    cells
        .iter()
        .map(|cell| -> (&(dyn ToSql + Sync), Type) {
            match cell {
                Cell::Text(text) => (text, Type::TEXT),
                Cell::Int(number) => (number, Type::INT8),
                Cell::Bytes(bytes) => (bytes, Type::BYTEA),
            }
        })
        .collect()
}
