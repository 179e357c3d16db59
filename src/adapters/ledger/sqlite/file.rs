//! The file of a ledger: its lock, its connections, its tables.
//!
//! Promises: one process at a time, for as long as this value lives; nobody but its user reads it;
//! what is committed is synced; tables newer than this program are refused. Called by the engine.

use std::fs;
use std::fs::DirBuilder;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;

use super::fault;
use super::rows;
use crate::pep::ports::LedgerFault;

/// Every commit is synced; on macOS, too, to the platter.
const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; \
    PRAGMA checkpoint_fullfsync = ON; PRAGMA temp_store = MEMORY;";
const READER: &str = "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY;";
/// How long another program, such as a backup, may hold the file up.
const BUSY: Duration = Duration::from_secs(2);

/// A ledger's file, locked for this process.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    _lock: fs::File,
}

impl File {
    /// Takes the lock, making folder and file if there are none.
    pub(super) fn lock(path: PathBuf) -> Result<Self, LedgerFault> {
        let cannot = |cause: &io::Error| {
            let path = path.display();
            LedgerFault::Unavailable(format!("{path}: {cause}; make it writable for the gateway's user"))
        };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|cause| cannot(&cause))?;
        }
        let lock = private(&lock_path(&path)).map_err(|cause| cannot(&cause))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = path.display();
                let remedy = "give each gateway a file of its own, or all of them one PostgreSQL";
                return Err(LedgerFault::Unavailable(format!("another gateway uses {path}; {remedy}")));
            }
            Err(TryLockError::Error(cause)) => return Err(cannot(&cause)),
        }
        private(&path).map_err(|cause| cannot(&cause))?;
        sync_name(&path).map_err(|cause| cannot(&cause))?;
        Ok(Self { path, _lock: lock })
    }

    /// The connection that writes.
    pub(super) fn writer(&self) -> Result<Connection, LedgerFault> {
        self.connect(WRITER)
    }

    /// A connection that only reads.
    pub(super) fn reader(&self) -> Result<Connection, LedgerFault> {
        self.connect(READER)
    }

    fn connect(&self, pragmas: &str) -> Result<Connection, LedgerFault> {
        // WHY without creating: a file that went away under a running gateway is not replaced by an empty one.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connect = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(64);
            connection.execute_batch(pragmas)?;
            Ok(connection)
        };
        connect().map_err(|error| fault(&error))
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Opens a file that only its user may read, making it if there is none.
fn private(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// The file's own name must outlive a crash too.
fn sync_name(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(dir)?.sync_all()
}

/// Brings the tables up to date and frees what the process before held. Gives the ledger's name.
pub(super) fn migrate(connection: &Connection, name_if_new: &str, file: &File) -> Result<String, LedgerFault> {
    let schema = rows::SCHEMA.replace("BIGINT", "INTEGER").replace("BYTEA", "BLOB").replace("\n);", "\n) STRICT;");
    let transaction = connection.unchecked_transaction().map_err(|error| fault(&error))?;
    let ours = rows::SCHEMA_VERSION.to_string();
    let work = || {
        transaction.execute_batch(&schema)?;
        for (name, value) in [("schema", ours.as_str()), ("name", name_if_new)] {
            transaction.execute(&super::spoken(rows::ABOUT_INSERT_SQL), (name, value))?;
        }
        // WHY: nobody else can hold a claim of this file, and whoever did is gone.
        transaction.execute("UPDATE executions SET lease_until_ms = 0 WHERE state IN ('sent', 'unknown')", ())?;
        Ok(())
    };
    let found = about(&transaction, "schema").map_err(|error| fault(&error))?;
    if let Some(found) = found.filter(|found| *found != ours) {
        return Err(rows::newer(&file.path.display().to_string(), &found));
    }
    work().and_then(|()| about(&transaction, "name")).map_err(|error: rusqlite::Error| fault(&error)).and_then(|name| {
        transaction.commit().map_err(|error| fault(&error))?;
        name.ok_or_else(|| LedgerFault::Unreadable("it has no name".to_owned()))
    })
}

/// A value about the ledger itself; none in a file without tables.
pub(in crate::adapters::ledger) fn about(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let there = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'ledger'";
    if connection.query_row(there, (), |row| row.get::<_, i64>(0))? == 0 {
        return Ok(None);
    }
    connection.query_row(&super::spoken(rows::ABOUT_SQL), (name,), |row| row.get(0)).optional()
}
