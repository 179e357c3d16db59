//! Looks at a database for people.
//!
//! Promises: one statement outside any transaction of the ledger's, which changes nothing.
//! Called by the ledger's own examination.

use super::session;
use crate::adapters::ledger::examine::Examined;
use crate::adapters::ledger::rows;
use crate::adapters::ledger::rows::Cells;
use crate::pep::ports::LedgerFault;

/// Version, whether it keeps what it acknowledges, whether its copies do, and what the user may do.
const LOOK: &str = "SELECT current_setting('server_version'), current_setting('fsync'), \
    current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), \
    (SELECT count(*) FROM pg_stat_replication), pg_is_in_recovery()::text, \
    to_regclass('loopgate.ledger')::text, has_database_privilege(current_database(), 'CREATE')::text, \
    current_user::text, current_database()::text";
/// The tables' version and name.
const ABOUT: &str = "SELECT (SELECT value FROM loopgate.ledger WHERE name = 'schema'), \
    (SELECT value FROM loopgate.ledger WHERE name = 'name')";

/// Reaches for the database.
pub(in crate::adapters::ledger) async fn examine(url: &str) -> Result<Examined, LedgerFault> {
    let pool = session::pool(url, 1)?;
    let row = session::look(&pool, LOOK).await?;
    let text = |at| row.text(at).map(Option::unwrap_or_default);
    let (version, user, database) = (text(0)?, text(8)?, text(9)?);
    let mut words = vec![format!("PostgreSQL {version}, database {database}")];
    let mut faults = Vec::new();
    if text(1)? == "off" {
        faults.push("it forgets what it acknowledged when it loses power: set `fsync` to on".to_owned());
    }
    if text(5)? == "true" {
        faults.push("it is a standby and takes no writes: name the primary in the connection URL".to_owned());
    }
    if row.text(6)?.is_some() {
        let about = session::look(&pool, ABOUT).await?;
        let version = about.text(0)?.unwrap_or_default();
        if version != rows::SCHEMA_VERSION.to_string() {
            return Err(rows::newer("the database", &version));
        }
        words.insert(0, about.text(1)?.unwrap_or_default());
    } else if text(7)? == "true" {
        words.push("the schema `loopgate` will be made at the first start".to_owned());
    } else {
        faults.push(format!(
            "`{user}` may not make the schema `loopgate`: GRANT CREATE ON DATABASE {database} TO {user}"
        ));
    }
    if text(2)? == "off" {
        words.push("`synchronous_commit` is off, but not for the ledger's own transactions".to_owned());
    }
    let copies = row.int(4)?.unwrap_or_default();
    if copies > 0 && text(3)?.is_empty() {
        // WHY no fault: whoever runs it may prefer going on over never losing a claim.
        words.push(format!(
            "beware: of {copies} standby servers none is waited for, so a failover may forget a claim and a write \
             happen twice; set `synchronous_standby_names`"
        ));
    }
    Ok(Examined { words: words.join("; "), faults })
}
