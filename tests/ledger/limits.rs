//! Counters that replicas share: the same promises in PostgreSQL and in Redis.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use loopgate::adapters::limits::Counters;
use loopgate::adapters::limits::redis::Redis;
use loopgate::domain::limit::Key;
use loopgate::domain::limit::Rate;
use loopgate::domain::limit::Verdict;
use loopgate::metrics::Metrics;
use loopgate::pep::ports::Buckets;
use loopgate::pep::ports::Limits as _;

use crate::cluster::Cluster;
use crate::harness::Store;
use crate::harness::race;
use crate::redis;

/// So slow that nothing comes back while a test runs, however slow the machine.
fn slow(burst: u64) -> Rate {
    Rate::new(1, 60_000, burst).unwrap()
}

fn key(name: &str, rate: &Rate) -> Key {
    Key::of("user", rate, &[name])
}

/// Replicas, each with a connection of its own to one store.
struct Replicas {
    of_store: Box<dyn Fn() -> Arc<dyn Buckets>>,
    _redis: Option<redis::Redis>,
}

impl Replicas {
    fn on_postgres() -> Self {
        let store = Store::postgres();
        Self { of_store: Box::new(move || store.open()), _redis: None }
    }

    fn on_redis() -> Self {
        let redis = redis::Redis::start();
        let url = redis.url();
        Self { of_store: Box::new(move || Arc::new(Redis::new(&url).unwrap())), _redis: Some(redis) }
    }

    fn store(&self) -> Arc<dyn Buckets> {
        (self.of_store)()
    }

    fn replica(&self) -> Arc<Counters> {
        Arc::new(Counters::shared(self.store(), Arc::new(Metrics::new())))
    }
}

macro_rules! promises {
    ($($promise:ident)*) => {
        mod in_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(&super::Replicas::on_postgres()).await;
            })*
        }

        mod in_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(&super::Replicas::on_redis()).await;
            })*
        }
    };
}

promises! {
    replicas_that_race_never_allow_more_than_the_burst_and_the_rate
    keys_never_mix
    a_store_grants_what_the_rule_says
    a_bucket_fills_by_the_clock_of_the_store
}

async fn replicas_that_race_never_allow_more_than_the_burst_and_the_rate(replicas: &Replicas) {
    let rate = Rate::new(600, 60_000, 200).unwrap();
    let (one, two) = (replicas.replica(), replicas.replica());
    let key = key("ada", &rate);
    let began = Instant::now();
    let allowed: Vec<usize> = race(16, |nth| {
        let (replica, key) = (Arc::clone(if nth % 2 == 0 { &one } else { &two }), key.clone());
        async move {
            let mut allowed = 0;
            for _ in 0..50 {
                allowed += usize::from(replica.take(&key, &rate).await == Verdict::Allowed);
            }
            allowed
        }
    })
    .await;
    let passed_ms = usize::try_from(began.elapsed().as_millis()).unwrap();
    let allowed: usize = allowed.into_iter().sum();
    // Every call that was drawn is used up by those who ask for more.
    assert!(allowed >= 200, "{allowed} of 800");
    assert!(allowed <= 200 + passed_ms / 100 + 1, "{allowed} in {passed_ms} ms");
    assert_eq!((one.ails(), two.ails()), (None, None), "the store was asked");
}

async fn keys_never_mix(replicas: &Replicas) {
    let (store, rate, other) = (replicas.store(), slow(5), slow(6));
    let (mine, theirs) = (key("org_a", &rate), key("org_b", &rate));
    assert_eq!(store.draw(&mine, &rate, 99).await.unwrap().calls, 5);
    assert_eq!(store.draw(&mine, &rate, 1).await.unwrap().calls, 0);
    assert_eq!(store.draw(&theirs, &rate, 99).await.unwrap().calls, 5);
    assert_eq!(store.draw(&key("org_a", &other), &other, 99).await.unwrap().calls, 6, "a changed rate begins anew");
}

async fn a_store_grants_what_the_rule_says(replicas: &Replicas) {
    let (store, rate) = (replicas.store(), slow(100));
    let key = key("ada", &rate);
    let mut granted = Vec::new();
    for want in [3, 50, 0, 60, 5] {
        granted.push(store.draw(&key, &rate, want).await.unwrap());
    }
    let calls: Vec<u64> = granted.iter().map(|grant| grant.calls).collect();
    assert_eq!(calls, [3, 50, 0, 47, 0]);
    let wait_ms = granted[4].wait_ms;
    assert!((1..=60_000).contains(&wait_ms), "{wait_ms}");
    // The largest rate that may be named.
    let largest = Rate::new(1_000_000_000, 60_000, 1_000_000_000).unwrap();
    let key = self::key("largest", &largest);
    for _ in 0..2 {
        assert_eq!(store.draw(&key, &largest, 7).await.unwrap().calls, 7);
    }
}

async fn a_bucket_fills_by_the_clock_of_the_store(replicas: &Replicas) {
    let (store, rate) = (replicas.store(), Rate::new(1_000, 1_000, 1).unwrap());
    let key = key("ada", &rate);
    let mut allowed = 0;
    // One comes back each millisecond, so it comes back.
    for _ in 0..10_000 {
        allowed += store.draw(&key, &rate, 1).await.unwrap().calls;
        if allowed == 5 {
            return;
        }
    }
    panic!("{allowed} came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stops_stops_no_call_and_is_used_again_when_it_is_back() {
    let cluster = Cluster::start();
    let store = Store::on(&cluster);
    let counters = Counters::shared(store.open(), Arc::new(Metrics::new()));
    goes_on_without(&counters, || cluster.kill(), || cluster.start_again()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stops_stops_no_call_and_is_used_again_when_it_is_back() {
    let redis = redis::Redis::away();
    let counters = Counters::shared(Arc::new(Redis::new(&redis.url()).unwrap()), Arc::new(Metrics::new()));
    let rate = slow(3);
    assert_eq!(counters.take(&key("early", &rate), &rate).await, Verdict::Allowed, "before it was ever there");
    assert!(counters.ails().is_some());
    let looking = Redis::new(&redis.url()).unwrap();
    assert!(looking.probe().await.is_err());
    redis.start_again();
    assert_eq!(looking.probe().await, Ok(()));
    goes_on_without(&counters, || redis.stop(), || redis.start_again()).await;
}

async fn goes_on_without(counters: &Counters, stop: impl FnOnce(), start: impl FnOnce()) {
    let rate = slow(3);
    shared(counters, "before").await;
    stop();
    let key = key("meanwhile", &rate);
    let mut verdicts = Vec::new();
    for _ in 0..4 {
        verdicts.push(counters.take(&key, &rate).await);
    }
    assert_eq!(verdicts[..3], [Verdict::Allowed; 3]);
    assert!(matches!(verdicts[3], Verdict::Wait(_)), "limited all the same: {verdicts:?}");
    assert!(counters.ails().is_some());
    start();
    shared(counters, "after").await;
}

/// Asks until the store answers; each time for another key, for the answers are counted.
async fn shared(counters: &Counters, what: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let rate = slow(3);
    for nth in 0.. {
        assert_eq!(counters.take(&key(&format!("{what} {nth}"), &rate), &rate).await, Verdict::Allowed);
        if counters.ails().is_none() {
            return;
        }
        assert!(Instant::now() < deadline, "the store does not come back: {:?}", counters.ails());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_url_that_is_none_is_told_without_its_password() {
    let fault = Redis::new("postgres://user:hunter2@host").err().unwrap();
    assert!(!fault.to_string().contains("hunter2"), "{fault}");
}
