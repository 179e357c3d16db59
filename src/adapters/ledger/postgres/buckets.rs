//! Buckets that replicas share, beside the ledger in its database.
//!
//! Promises: one statement for one draw, by the database's clock, outside any transaction of the
//! ledger; nothing is flushed to disk for it, and a crash of the database forgets it, which lets
//! through one more burst at most. Rows of full buckets are removed. Called by the ledger.

use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::OnceCell;
use tokio_postgres::Row;

use super::ALONE;
use super::Postgres;
use super::TRIES;
use super::pause;
use super::session;
use super::session::Session;
use super::session::Trouble;
use crate::adapters::ledger::rows::Cell;
use crate::adapters::ledger::rows::Cells;
use crate::domain::limit::Grant;
use crate::domain::limit::Key;
use crate::domain::limit::Rate;
use crate::domain::limit::SKEW_MS;
use crate::pep::ports::LedgerFault;

/// WHY unlogged: a count is worth no disk, and what is lost with it is refilled anyway.
const TABLE: &str = "CREATE UNLOGGED TABLE loopgate.buckets (key TEXT PRIMARY KEY NOT NULL, units BIGINT NOT NULL, \
    at_ms BIGINT NOT NULL, granted BIGINT NOT NULL, full_ms BIGINT NOT NULL)";
const IS_THERE: &str = "SELECT to_regclass('loopgate.buckets')::text";
/// The steps of `domain::limit::Bucket`: $1 key, $2 calls, $3 window, $4 capacity, $5 time to fill, $6 wanted, $7 skew.
const DRAW: &str = "WITH now AS (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) \
    INSERT INTO loopgate.buckets AS b (key, units, at_ms, granted, full_ms) \
    SELECT $1, $4 - least($6, $4 / $3) * $3, now.ms, least($6, $4 / $3), \
        now.ms + (least($6, $4 / $3) * $3 + $2 - 1) / $2 FROM now \
    ON CONFLICT (key) DO UPDATE SET (units, at_ms, granted, full_ms) = ( \
        SELECT f.units - f.granted * $3, f.at_ms, f.granted, f.at_ms + ($4 - f.units + f.granted * $3 + $2 - 1) / $2 \
        FROM (SELECT h.units, h.at_ms, least($6, h.units / $3) AS granted FROM (SELECT \
            CASE WHEN excluded.at_ms < b.at_ms THEN b.units \
                ELSE least($4, b.units + least(excluded.at_ms - b.at_ms, $5) * $2) END AS units, \
            CASE WHEN excluded.at_ms < b.at_ms AND b.at_ms - excluded.at_ms <= $7 THEN b.at_ms \
                ELSE excluded.at_ms END AS at_ms) h) f) \
    RETURNING b.granted, b.units, b.at_ms - (SELECT ms FROM now)";
const SWEEP: &str = "DELETE FROM loopgate.buckets WHERE key IN (SELECT key FROM loopgate.buckets \
    WHERE full_ms < floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint LIMIT 10000 FOR UPDATE SKIP LOCKED)";
/// Between two sweeps of one replica.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// What is known of the table.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    there: OnceCell<()>,
    swept: Mutex<Option<Instant>>,
}

impl Postgres {
    pub(in crate::adapters::ledger) async fn draw(
        &self,
        key: &Key,
        rate: &Rate,
        want: u64,
    ) -> Result<Grant, LedgerFault> {
        self.ready().await?;
        self.buckets.there.get_or_try_init(|| self.make_buckets()).await?;
        if self.buckets.is_sweep_due() {
            session::outside(&self.pool, SWEEP, &[]).await?;
        }
        let numbers = [rate.calls(), rate.window_ms(), rate.capacity(), rate.full_ms(), want, SKEW_MS];
        let cells: Vec<Cell> = [Cell::text(key.as_str())].into_iter().chain(numbers.map(Cell::int)).collect();
        let rows = session::outside(&self.pool, DRAW, &cells).await?;
        let row = rows.first().ok_or_else(|| LedgerFault::Unreadable("a bucket gave no answer".to_owned()))?;
        grant(row, rate)
    }

    async fn make_buckets(&self) -> Result<(), LedgerFault> {
        transaction!(self, session => async {
            session.batch(ALONE).await?;
            let there = session.row(IS_THERE, &[]).await?.map(|row| row.text(0)).transpose()?.flatten();
            if there.is_none() {
                session.batch(TABLE).await?;
            }
            Ok(())
        })
    }
}

impl Buckets {
    fn is_sweep_due(&self) -> bool {
        let Ok(mut swept) = self.swept.lock() else { return false };
        let due = swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY);
        if due {
            *swept = Some(Instant::now());
        }
        due
    }
}

fn grant(row: &Row, rate: &Rate) -> Result<Grant, LedgerFault> {
    let number = |at| row.int(at).map(|number| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0));
    let (calls, units, ahead_ms) = (number(0)?, number(1)?, number(2)?);
    let missing = rate.window_ms().saturating_sub(units).div_ceil(rate.calls());
    Ok(Grant { calls, wait_ms: if calls == 0 { missing.saturating_add(ahead_ms) } else { 0 } })
}
