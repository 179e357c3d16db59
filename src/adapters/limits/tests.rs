//! Counters alone and shared, on time that the test moves.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::domain::limit::Bucket;
use crate::domain::limit::Grant;
use crate::pep::ports::BucketsFault;

fn rate(calls: u64, window_ms: u64, burst: u64) -> Rate {
    Rate::new(calls, window_ms, burst).unwrap()
}

fn key(name: &str) -> Key {
    Key::of("user", &rate(1, 1, 1), &[name])
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_keys_fit_in_the_room_there_is_and_who_is_used_up_is_remembered() {
    let rate = rate(1, 1_000, 10);
    let local = Local::new(1_600);
    let used_up = key("used up");
    assert_eq!(local.draw(&used_up, &rate, 10).calls, 10);
    for number in 0..100_000 {
        assert_eq!(local.draw(&key(&number.to_string()), &rate, 1).calls, 1);
    }
    assert!(local.keys() <= 1_600, "{}", local.keys());
    assert_eq!(local.draw(&used_up, &rate, 1), Grant { calls: 0, wait_ms: 1_000 });
}

#[tokio::test(start_paused = true)]
async fn full_buckets_make_room_first() {
    let rate = rate(1, 1_000, 10);
    let local = Local::new(160);
    for number in 0..1_000 {
        local.draw(&key(&number.to_string()), &rate, 5);
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    for number in 0..1_000 {
        local.draw(&key(&format!("later {number}")), &rate, 1);
    }
    assert!(local.keys() <= 160);
}

/// A store on the test's time, which can be away, or say nothing at all.
#[derive(Debug)]
struct Shelf {
    buckets: Mutex<HashMap<Key, Bucket>>,
    began: Instant,
    asked: AtomicUsize,
    away: AtomicBool,
    silent: AtomicBool,
}

impl Shelf {
    fn new() -> Arc<Self> {
        let (asked, away, silent) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { buckets: Mutex::default(), began: Instant::now(), asked, away, silent })
    }

    fn replica(self: &Arc<Self>) -> (Counters, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        (Counters::shared(Arc::clone(self) as Arc<dyn Buckets>, Arc::clone(&metrics)), metrics)
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl Buckets for Shelf {
    async fn draw(&self, key: &Key, rate: &Rate, want: u64) -> Result<Grant, BucketsFault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::Relaxed) {
            return Err(BucketsFault("away".to_owned()));
        }
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        let mut buckets = self.buckets.lock().unwrap();
        Ok(buckets.entry(key.clone()).or_insert_with(|| Bucket::full(rate, now_ms)).draw(rate, now_ms, want))
    }
}

async fn allowed(replica: &Counters, key: &Key, rate: &Rate, tries: usize) -> usize {
    let mut allowed = 0;
    for _ in 0..tries {
        allowed += usize::from(replica.take(key, rate).await == Verdict::Allowed);
    }
    allowed
}

#[tokio::test(start_paused = true)]
async fn replicas_together_allow_what_one_would_and_ask_seldom() {
    let (shelf, rate, key) = (Shelf::new(), rate(10, 1_000, 100), key("ada"));
    let ((one, _), (two, _)) = (shelf.replica(), shelf.replica());
    let mut together = 0;
    for _ in 0..100 {
        together += allowed(&one, &key, &rate, 2).await + allowed(&two, &key, &rate, 2).await;
    }
    assert_eq!(together, 100, "the burst, to the last call");
    assert!(shelf.asked() < 25, "a tenth of the burst is drawn at once");
    assert_eq!(allowed(&one, &key, &rate, 1_000).await, 0);
    assert_eq!(shelf.asked(), 0, "who was told to wait is not asked for");
    for _ in 0..50 {
        tokio::time::advance(Duration::from_millis(100)).await;
        together += allowed(&one, &key, &rate, 5).await + allowed(&two, &key, &rate, 5).await;
    }
    assert!((100 + 50 - 22..=100 + 50).contains(&together), "{together}: the burst and five seconds of the rate");
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_as_long_as_the_store_says_and_then_over() {
    let (shelf, rate, key) = (Shelf::new(), rate(1, 1_000, 3), key("ada"));
    let (replica, _) = shelf.replica();
    assert_eq!(allowed(&replica, &key, &rate, 3).await, 3);
    assert_eq!(replica.take(&key, &rate).await, Verdict::Wait(1_000));
    tokio::time::advance(Duration::from_millis(400)).await;
    assert_eq!(replica.take(&key, &rate).await, Verdict::Wait(600));
    tokio::time::advance(Duration::from_millis(600)).await;
    assert_eq!(replica.take(&key, &rate).await, Verdict::Allowed);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_stops_nobody_and_each_replica_counts_for_itself_meanwhile() {
    for silent in [false, true] {
        let (shelf, rate, key) = (Shelf::new(), rate(1, 60_000, 10), key("ada"));
        let (one, metrics) = shelf.replica();
        shelf.away.store(true, Ordering::Relaxed);
        shelf.silent.store(silent, Ordering::Relaxed);
        assert_eq!(allowed(&one, &key, &rate, 50).await, 10, "limited all the same");
        assert_eq!(shelf.asked(), 1, "it is left alone for a while");
        assert_eq!((metrics.limits_alone.get(), one.ails().is_some()), (1, true));
        shelf.away.store(false, Ordering::Relaxed);
        shelf.silent.store(false, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(allowed(&one, &key, &rate, 50).await, 10, "what was counted alone is not known there");
        assert_eq!((metrics.limits_alone.get(), one.ails()), (0, None));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_made_already_is_paid_for_by_the_next() {
    let (shelf, rate) = (Shelf::new(), rate(1, 60_000, 10));
    let (shared, _) = shelf.replica();
    for counters in [Counters::local(), shared] {
        (0..4).for_each(|_| counters.spend(&key("ada"), &rate));
        assert_eq!(allowed(&counters, &key("ada"), &rate, 50).await, 6);
        assert_eq!(allowed(&counters, &key("ben"), &rate, 50).await, 10);
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_counts_in_this_process_alone() {
    let (shelf, rate) = (Shelf::new(), rate(1, 60_000, 2));
    let (shared, _) = shelf.replica();
    let verdicts: Vec<_> = (0..3).map(|_| shared.take_here(&key("192.0.2.1"), &rate)).collect();
    assert_eq!(verdicts[..2], [Verdict::Allowed; 2]);
    assert!(matches!(verdicts[2], Verdict::Wait(_)));
    assert_eq!(shelf.asked(), 0);
}
