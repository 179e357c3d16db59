//! What has to be done now and then: finding out about lost writes, ending what has lapsed; and at
//! a stop, ending the streams that would never end by themselves.
//!
//! Promises: goes on whatever fails, and says a fault once, not every second; stops between two
//! rounds when the gateway stops. Never decides anything. Started by `app`.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;
use tracing::warn;

use crate::pep::Pep;
use crate::pep::ports::LedgerFault;

/// Between two looks at lost writes and lapsed approvals.
const EVERY: Duration = Duration::from_millis(500);
/// Between two times of dropping old answers.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// What is wrong with the ledger, if anything is.
pub(super) type Ails = ArcSwapOption<String>;

/// Runs until the gateway stops. Answers older than `keep` are dropped; their writes stay.
pub(super) async fn run(pep: Arc<Pep>, keep: Duration, ails: Arc<Ails>, stopped: watch::Receiver<bool>) {
    // WHY beside the rounds: one that waits for the ledger must not keep the clients of a stream waiting.
    tokio::join!(rounds(&pep, keep, &ails, stopped.clone()), end_streams(&pep, stopped));
}

async fn end_streams(pep: &Pep, mut stopped: watch::Receiver<bool>) {
    // Whoever could say so being gone is a stop too.
    let _stopping = stopped.wait_for(|stop| *stop).await.is_ok();
    pep.listeners.close();
}

async fn rounds(pep: &Pep, keep: Duration, ails: &Ails, mut stopped: watch::Receiver<bool>) {
    let mut pruned = Instant::now();
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let mut round = look(pep).await;
        if round.is_ok() && pruned.elapsed() >= PRUNE_EVERY {
            pruned = Instant::now();
            round = prune(pep, keep).await;
        }
        match (&round, ails.load().is_some()) {
            (Err(fault), false) => warn!("writes are refused: {fault}"),
            (Ok(()), true) => info!("the ledger works again"),
            _ => {}
        }
        ails.store(round.err().map(|fault| Arc::new(fault.to_string())));
    }
}

async fn look(pep: &Pep) -> Result<(), LedgerFault> {
    // A whole round may be followed by another one at once; there may be many to look at.
    pep.reconcile().await?;
    pep.expire().await?;
    Ok(())
}

async fn prune(pep: &Pep, keep: Duration) -> Result<(), LedgerFault> {
    let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let dropped = pep.ledger.prune(pep.ledger.now_ms().await?.saturating_sub(keep_ms)).await?;
    if dropped > 0 {
        info!("{dropped} answers of writes are no longer kept");
    }
    Ok(())
}
