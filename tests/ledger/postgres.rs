//! What only a ledger in a database promises.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use loopgate::adapters::ledger::Ledger;
use loopgate::adapters::ledger::Place;
use loopgate::adapters::ledger::Settings;
use loopgate::adapters::ledger::examine;
use loopgate::domain::approval::Unusable;
use loopgate::domain::idempotency::Claimed;
use loopgate::domain::idempotency::Found;
use loopgate::domain::idempotency::State;
use loopgate::metrics::Metrics;
use loopgate::pep::ports::Approvals as _;
use loopgate::pep::ports::Claim;
use loopgate::pep::ports::Ledger as _;
use loopgate::pep::ports::LedgerFault;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::harness::LONG;
use crate::harness::OVER;
use crate::harness::Store;
use crate::harness::approved;
use crate::harness::claim;
use crate::harness::executed;
use crate::harness::found;
use crate::harness::mine;
use crate::harness::plan;
use crate::harness::race;
use crate::harness::under;

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_never_both_have_a_write() {
    let store = Store::postgres();
    let replicas = [store.try_open("a").unwrap(), store.try_open("b").unwrap()];
    for at in 0..100 {
        let claims = race(2, |which| {
            let ledger = Arc::clone(&replicas[which]);
            async move { claim(&ledger, &plan(&format!("k{at}")), LONG).await }
        })
        .await;
        let mine = claims.iter().filter(|claim| matches!(claim, Claim::Write(Claimed::Mine(_)))).count();
        let waiting = claims.iter().filter(|claim| **claim == Claim::Write(Claimed::Theirs(Found::InFlight))).count();
        assert_eq!((mine, waiting), (1, 1), "{claims:?}");
    }
    assert_eq!(replicas[0].name(), replicas[1].name());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_never_both_use_an_approval() {
    let store = Store::postgres();
    let replicas = [store.try_open("a").unwrap(), store.try_open("b").unwrap()];
    approved(&replicas[0], "apr_1").await;
    let claims = race(32, |at| {
        let ledger = Arc::clone(&replicas[at % 2]);
        async move { claim(&ledger, &under(&format!("k{at}"), "apr_1"), LONG).await }
    })
    .await;
    let mine = claims.iter().filter(|claim| matches!(claim, Claim::Write(Claimed::Mine(_)))).count();
    let spent = claims.iter().filter(|claim| **claim == Claim::Approval(Unusable::Spent)).count();
    assert_eq!((mine, spent), (1, 31), "{claims:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_settlements_and_take_overs_of_the_same_rows_never_lock_each_other_out() {
    let store = Store::postgres();
    let replicas = [store.try_open("a").unwrap(), store.try_open("b").unwrap()];
    approved(&replicas[0], "apr_1").await;
    let outcomes = race(48, |at| {
        let ledger = Arc::clone(&replicas[at % 2]);
        async move {
            match at % 6 {
                0 | 1 => claim(&ledger, &under("k", "apr_1"), OVER).await == Claim::Approval(Unusable::Unknown),
                2 => ledger.release("exec-k", 1).await.unwrap(),
                3 => ledger.take_over(OVER, 5).await.unwrap().len() > 1,
                4 => ledger.settle("exec-k", 99, &executed(b"x")).await.unwrap(),
                _ => ledger.expire(5).await.unwrap().len() > 1,
            }
        }
    })
    .await;
    // At most one release; nothing else of this can be true, and nothing was refused for being locked.
    assert!(outcomes.iter().filter(|yes| **yes).count() <= 1, "{outcomes:?}");
    let execution = replicas[0].find("exec-k").await.unwrap().unwrap();
    let ticket = replicas[0].ticket("apr_1").await.unwrap().unwrap();
    let used = execution.state != State::Reserved;
    assert_eq!(ticket.consumed_by.is_some(), used, "the write and its approval say the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_databases_clock_counts_and_no_replicas() {
    let store = Store::postgres();
    let Place::Postgres { url, connections } = store.place() else { panic!("not its kind") };
    let settings = Settings {
        place: Place::Postgres { url, connections },
        owner: "a".to_owned(),
        name_if_new: "ledger_x".to_owned(),
    };
    let ledger = Ledger::open(settings, Arc::new(|| 42), Arc::new(Metrics::new())).unwrap();
    let before = ledger.now_ms().await.unwrap();
    assert!(before > 1_700_000_000_000);
    let claimed = mine(&ledger, &plan("k"), LONG).await;
    assert!(claimed.created_ms >= before && claimed.lease_until_ms >= before + LONG, "{claimed:?}");
    assert_eq!(ledger.take_over(LONG, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_nothing_is_claimed_and_then_it_goes_on() {
    let cluster = Cluster::start();
    let store = Store::on(&cluster);
    let ledger = store.open();
    mine(&ledger, &plan("before"), LONG).await;
    cluster.stop();
    assert!(matches!(ledger.claim(&plan("k"), None, LONG).await, Err(LedgerFault::Unavailable(_))));
    assert!(matches!(ledger.find("exec-before").await, Err(LedgerFault::Unavailable(_))));
    assert!(matches!(ledger.probe().await, Err(LedgerFault::Unavailable(_))));
    // A gateway that starts meanwhile starts, and has no name that an approval could be made out to.
    let late = store.try_open("late").unwrap();
    assert!(matches!(late.probe().await, Err(LedgerFault::Unavailable(_))));
    assert_eq!(late.name(), "ledger_not_reached");
    // What came to an end meanwhile is noted as soon as it can be.
    let mut settling = JoinSet::new();
    let settled = Arc::clone(&ledger);
    settling.spawn(async move { settled.settle("exec-before", 1, &executed(b"x")).await });
    cluster.start_again();
    assert!(settling.join_next().await.unwrap().unwrap().unwrap());
    mine(&ledger, &plan("k"), LONG).await;
    late.probe().await.unwrap();
    assert_eq!(late.name(), "ledger_of_a");
    assert!(matches!(found(&late, &plan("before")).await, Found::Ended(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_database_that_is_killed_even_one_set_to_lose_it() {
    let cluster = Cluster::with(&["synchronous_commit=off", "wal_writer_delay=10s", "wal_writer_flush_after=0"]);
    let store = Store::on(&cluster);
    let ledger = store.open();
    ledger.probe().await.unwrap();
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..8 {
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            clients.spawn(async move {
                let mut acknowledged = Vec::new();
                for at in 0.. {
                    let key = format!("r{round}-c{client}-{at}");
                    let Ok(Claim::Write(Claimed::Mine(claimed))) = ledger.claim(&plan(&key), None, LONG).await else {
                        break;
                    };
                    let settled =
                        at % 2 == 0 && ledger.settle(&claimed.plan.execution_id, 1, &executed(b"x")).await == Ok(true);
                    acknowledged.push((claimed.plan.execution_id, settled));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                acknowledged
            });
        }
        // Killed in the middle of it, once something has been acknowledged.
        while ledger.find(&format!("exec-r{round}-c0-5")).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        cluster.kill();
        stop.store(true, Ordering::Relaxed);
        cluster.start_again();
        let acknowledged: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
        assert!(acknowledged.len() > 5);
        for (execution_id, settled) in acknowledged {
            let stored = ledger.find(&execution_id).await.unwrap().unwrap_or_else(|| panic!("{execution_id} is lost"));
            assert_eq!(stored.state == State::Executed, settled, "{execution_id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_waiting_leaves_nothing_locked() {
    let store = Store::postgres();
    let ledger = store.open();
    approved(&ledger, "apr_1").await;
    let plan = under("k", "apr_1");
    for patience in 0..60 {
        let yields = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = ledger.claim(&plan, None, OVER) => {}
            () = yields => {}
        }
    }
    // It was claimed or it was not; either way the rows are free.
    let now = ledger.claim(&plan, None, LONG).await.unwrap();
    assert!(matches!(now, Claim::Write(Claimed::Mine(_) | Claimed::Theirs(Found::Unknown))), "{now:?}");
    race(8, |_| {
        let ledger = Arc::clone(&ledger);
        async move { ledger.probe().await.unwrap() }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_locks_a_row_holds_it_up_and_not_for_good() {
    let store = Store::postgres();
    let ledger = store.open();
    mine(&ledger, &plan("k"), LONG).await;
    let Place::Postgres { url, .. } = store.place() else { panic!("not its kind") };
    let (person, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    person.batch_execute("BEGIN; SELECT * FROM loopgate.executions FOR UPDATE").await.unwrap();
    let fault = ledger.release("exec-k", 1).await.unwrap_err();
    assert!(fault.to_string().contains("lock timeout"), "{fault}");
    mine(&ledger, &plan("other"), LONG).await;
    person.batch_execute("ROLLBACK").await.unwrap();
    assert!(ledger.release("exec-k", 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_make_the_tables_once() {
    let store = Store::postgres();
    let names = race(8, |at| {
        let ledger = store.try_open(&format!("r{at}")).unwrap();
        async move {
            ledger.probe().await.unwrap();
            ledger.name().to_owned()
        }
    })
    .await;
    assert!(names.iter().all(|name| *name == names[0] && name.starts_with("ledger_of_r")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_newer_gateway_are_refused_and_left_alone() {
    let cluster = Cluster::start();
    let store = Store::at(&cluster.url());
    store.open().probe().await.unwrap();
    cluster.psql("UPDATE loopgate.ledger SET value = '2' WHERE name = 'schema'");
    let LedgerFault::Unreadable(words) = store.open().probe().await.unwrap_err() else { panic!("not its kind") };
    assert!(words.contains("version 2") && words.contains("start the newer gateway"), "{words}");
    assert_eq!(cluster.psql("SELECT value FROM loopgate.ledger WHERE name = 'schema'"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_make_nothing_may_use_what_is_there() {
    let cluster = Cluster::start();
    let store = Store::at(&cluster.url());
    store.open().probe().await.unwrap();
    cluster.psql(
        "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA loopgate TO clerk; \
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA loopgate TO clerk",
    );
    let clerk = Store::at(&cluster.url().replace("loopgate@", "clerk@")).open();
    clerk.probe().await.unwrap();
    mine(&clerk, &plan("k"), LONG).await;
    assert!(clerk.settle("exec-k", 1, &executed(b"x")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_examination_tells_what_matters_and_changes_nothing() {
    let cluster = Cluster::with(&["synchronous_commit=off"]);
    let store = Store::at(&cluster.url());
    let seen = examine(&store.place()).await.unwrap();
    assert_eq!(seen.faults, [""; 0]);
    for words in ["PostgreSQL ", "database postgres", "will be made at the first start", "`synchronous_commit` is off"]
    {
        assert!(seen.words.contains(words), "{seen:?}");
    }
    assert_eq!(cluster.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'loopgate'"), "0");
    cluster.psql("CREATE ROLE clerk LOGIN");
    let clerk = Store::at(&cluster.url().replace("loopgate@", "clerk@"));
    let faults = examine(&clerk.place()).await.unwrap().faults;
    assert!(faults.len() == 1 && faults[0].contains("GRANT CREATE ON DATABASE postgres TO clerk"), "{faults:?}");
    store.open().probe().await.unwrap();
    assert!(examine(&store.place()).await.unwrap().words.starts_with("ledger_of_a; PostgreSQL "));
    cluster.psql("UPDATE loopgate.ledger SET value = '2' WHERE name = 'schema'");
    assert!(examine(&store.place()).await.unwrap_err().to_string().contains("version 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_keep_what_it_acknowledges_is_told_of() {
    let cluster = Cluster::with(&["fsync=off"]);
    let faults = examine(&Store::at(&cluster.url()).place()).await.unwrap().faults;
    assert!(faults.len() == 1 && faults[0].contains("set `fsync` to on"), "{faults:?}");
}

#[test]
fn a_password_is_never_shown() {
    let store = Store::at("postgres://ada:hunter2@db.invalid/x");
    assert!(!format!("{:?}", store.place()).contains("hunter2"));
    for bad in ["postgres://ada:hunter2@db/x?sslmode=verify-full", "postgres://ada:hunter2@db:port/x", "hunter2"] {
        let fault = Store::at(bad).try_open("a").unwrap_err().to_string();
        assert!(fault.contains("postgres://user:password@host/database") && !fault.contains("hunter2"), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_not_spoken_to_in_clear_when_tls_is_required() {
    let cluster = Cluster::start();
    let fault = Store::at(&(cluster.url() + "?sslmode=require")).open().probe().await.unwrap_err();
    assert!(fault.to_string().to_lowercase().contains("tls"), "{fault}");
}
