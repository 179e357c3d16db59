//! What only a ledger in a file promises.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use loopgate::adapters::ledger::examine;
use loopgate::domain::idempotency::Claimed;
use loopgate::domain::idempotency::Found;
use loopgate::domain::idempotency::State;
use loopgate::pep::ports::Claim;
use loopgate::pep::ports::Ledger as _;
use loopgate::pep::ports::LedgerFault;

use crate::harness::LONG;
use crate::harness::Store;
use crate::harness::executed;
use crate::harness::found;
use crate::harness::mine;
use crate::harness::plan;
use crate::harness::race;

#[tokio::test]
async fn a_second_gateway_on_one_file_is_refused_in_words() {
    let store = Store::sqlite();
    let first = store.open();
    let LedgerFault::Unavailable(words) = store.try_open("b").unwrap_err() else { panic!("not its kind") };
    assert!(words.contains("another gateway uses") && words.contains("PostgreSQL"), "{words}");
    drop(first);
    store.try_open("b").unwrap();
}

#[tokio::test]
async fn nobody_but_its_user_reads_the_file() {
    let store = Store::sqlite();
    let ledger = store.open();
    mine(&ledger, &plan("k"), LONG).await;
    let dir = store.file().parent().unwrap().to_owned();
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for file in dir.read_dir().unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn what_a_process_held_when_it_died_is_nobodys_and_of_unknown_outcome() {
    let store = Store::sqlite();
    let ledger = store.open();
    mine(&ledger, &plan("k"), LONG).await;
    mine(&ledger, &plan("done"), LONG).await;
    ledger.settle("exec-done", 1, &executed(b"x")).await.unwrap();
    drop(ledger);
    let ledger = store.try_open("b").unwrap();
    assert_eq!(found(&ledger, &plan("k")).await, Found::Unknown);
    let taken = ledger.take_over(LONG, 10).await.unwrap();
    assert_eq!((taken.len(), taken[0].fence, &*taken[0].owner, taken[0].state), (1, 2, "b", State::Unknown));
}

#[tokio::test]
async fn tables_of_a_newer_gateway_are_refused_and_left_alone() {
    let store = Store::sqlite();
    drop(store.open());
    let other = rusqlite::Connection::open(store.file()).unwrap();
    other.execute("UPDATE ledger SET value = '2' WHERE name = 'schema'", ()).unwrap();
    let words = store.try_open("a").unwrap_err().to_string();
    assert!(words.contains("version 2") && words.contains("start the newer gateway"), "{words}");
    other.execute("UPDATE ledger SET value = '1' WHERE name = 'schema'", ()).unwrap();
    store.try_open("a").unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_refused_and_left_alone() {
    let store = Store::sqlite();
    std::fs::create_dir_all(store.file().parent().unwrap()).unwrap();
    std::fs::write(store.file(), "a diary\n".repeat(1000)).unwrap();
    assert!(matches!(store.try_open("a").unwrap_err(), LedgerFault::Unreadable(_)));
    assert_eq!(std::fs::read_to_string(store.file()).unwrap().len(), 8000);
}

#[tokio::test]
async fn a_person_reads_it_with_plain_sql_while_it_is_in_use() {
    let store = Store::sqlite();
    let ledger = store.open();
    mine(&ledger, &plan("k"), LONG).await;
    let person = rusqlite::Connection::open(store.file()).unwrap();
    let sql =
        "SELECT tenant || ' ' || \"user\" || ' ' || key || ' ' || state || ' ' || json_extract(plan, '$.requestId')
        FROM executions";
    let row: String = person.query_row(sql, (), |row| row.get(0)).unwrap();
    assert_eq!(row, "org_gcn ada k sent req-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_a_fault_of_its_own_and_undoes_nothing_beside_it() {
    let store = Store::sqlite();
    let ledger = store.open();
    mine(&ledger, &plan("k0"), LONG).await;
    let other = rusqlite::Connection::open(store.file()).unwrap();
    other.execute("UPDATE executions SET plan = '{' WHERE id = 'exec-k0'", ()).unwrap();
    let claims = race(64, |at| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.claim(&plan(&format!("k{}", at / 2)), None, LONG).await }
    })
    .await;
    let unreadable = claims.iter().filter(|claim| matches!(claim, Err(LedgerFault::Unreadable(_)))).count();
    let mine = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Write(Claimed::Mine(_))))).count();
    assert_eq!((unreadable, mine), (2, 31), "{claims:?}");
    for at in 1..32 {
        assert!(ledger.find(&format!("exec-k{at}")).await.unwrap().is_some());
    }
    assert!(matches!(ledger.find("exec-k0").await, Err(LedgerFault::Unreadable(_))));
    ledger.probe().await.unwrap();
}

#[tokio::test]
async fn an_examination_works_beside_a_gateway_and_changes_nothing() {
    let store = Store::sqlite();
    assert!(examine(&store.place()).await.unwrap().words.ends_with("will be made at the first start"));
    assert!(!store.file().parent().unwrap().exists());
    let ledger = store.open();
    let seen = examine(&store.place()).await.unwrap();
    assert!(seen.words.starts_with("ledger_of_a in ") && seen.faults.is_empty(), "{seen:?}");
    mine(&ledger, &plan("k"), LONG).await;
}

#[tokio::test]
async fn a_program_that_locks_the_file_holds_writes_up_and_not_for_good() {
    let store = Store::sqlite();
    let ledger = store.open();
    mine(&ledger, &plan("k"), LONG).await;
    let other = rusqlite::Connection::open(store.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let fault = ledger.probe().await.unwrap_err();
    assert!(fault.to_string().contains("another program has locked its file"), "{fault}");
    // Reads go on.
    assert_eq!(ledger.find("exec-k").await.unwrap().unwrap().state, State::Sent);
    other.execute_batch("ROLLBACK").unwrap();
    assert!(ledger.settle("exec-k", 1, &executed(b"x")).await.unwrap(), "tried again until it is stored");
    ledger.probe().await.unwrap();
}
