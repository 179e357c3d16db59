//! A ledger in a file whose disk takes no more.
//!
//! The limit on the size of files stands in for the disk: it belongs to a process, so the test runs
//! itself once more in one of its own, where a file that would grow too large is an error and no signal.

use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use loopgate::domain::idempotency::Claimed;
use loopgate::domain::idempotency::State;
use loopgate::pep::ports::Claim;
use loopgate::pep::ports::Ledger as _;
use loopgate::pep::ports::LedgerFault;
use rustix::process::Resource;
use rustix::process::Rlimit;

use crate::harness::LONG;
use crate::harness::Store;
use crate::harness::executed;
use crate::harness::mine;
use crate::harness::plan;

/// Set in the process with the limit.
const INNER: &str = "LEDGER_TEST_OF_A_FULL_DISK";

#[test]
fn a_full_disk_is_a_fault_in_words_and_works_again_by_itself_when_there_is_space() {
    if std::env::var_os(INNER).is_some() {
        tokio::runtime::Runtime::new().unwrap().block_on(until_it_is_full_and_back());
        return;
    }
    let name = "full::a_full_disk_is_a_fault_in_words_and_works_again_by_itself_when_there_is_space";
    let run = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INNER, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
}

fn files_up_to(bytes: Option<u64>) {
    let maximum = rustix::process::getrlimit(Resource::Fsize).maximum;
    rustix::process::setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
}

async fn until_it_is_full_and_back() {
    let store = Store::sqlite();
    let ledger = store.open();
    files_up_to(Some(2_000_000));
    let mut acknowledged = Vec::new();
    let fault = loop {
        match ledger.claim(&plan(&format!("k{}", acknowledged.len())), None, LONG).await {
            Ok(Claim::Write(Claimed::Mine(execution))) => acknowledged.push(execution),
            Ok(other) => panic!("{other:?}"),
            Err(fault) => break fault,
        }
    };
    assert!(acknowledged.len() > 20);
    let LedgerFault::Unavailable(words) = &fault else { panic!("{fault:?}") };
    assert!(words.contains("see that it has space"), "{words}");
    // Full stays full, reads go on, and a settlement waits for space.
    assert!(matches!(ledger.claim(&plan("large"), None, LONG).await, Err(LedgerFault::Unavailable(_))));
    for one in &acknowledged {
        assert_eq!(ledger.find(&one.plan.execution_id).await.unwrap().as_ref(), Some(one.as_ref()));
    }
    let first = acknowledged.remove(0);
    let settlement = executed(b"x");
    let (settled, ()) = tokio::join!(ledger.settle(&first.plan.execution_id, 1, &settlement), async {
        tokio::task::yield_now().await;
        files_up_to(None);
    });
    assert!(settled.unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    while let Err(fault) = ledger.probe().await {
        assert!(Instant::now() < until, "it does not come back: {fault}");
        tokio::task::yield_now().await;
    }
    mine(&ledger, &plan("after"), LONG).await;
    drop(ledger);
    let ledger = store.open();
    assert_eq!(ledger.find(&first.plan.execution_id).await.unwrap().unwrap().state, State::Executed);
    for one in acknowledged {
        assert!(ledger.find(&one.plan.execution_id).await.unwrap().is_some());
    }
}
