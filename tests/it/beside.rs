//! A candidate that is asked beside the calls costs them nothing: neither memory nor the way out.

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use loopgate::domain::audit::AuditRef;
use loopgate::domain::audit::JournalFault;
use loopgate::domain::audit::record::Record;
use loopgate::domain::rollout::BundleId;
use loopgate::domain::rollout::By;
use loopgate::domain::rollout::canary::Counts;
use loopgate::domain::rollout::canary::Judgement;
use loopgate::domain::rollout::canary::Limits;
use loopgate::metrics::Metrics;
use loopgate::pep::ports;
use loopgate::pep::rollout::Order;
use loopgate::pep::rollout::Rollout;
use loopgate::pep::rollout::RolloutFault;
use loopgate::pep::rollout::Standing;
use loopgate::pep::rules::RulesCell;
use loopgate::pep::shadow;
use loopgate::pep::shadow::Aside;
use loopgate::pep::shadow::Room;
use loopgate::pep::shadow::Sample;
use loopgate::pep::shadow::Seen;
use loopgate::pep::shadow::judge::Judge;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::bench::Bench;
use crate::bench::Now;

/// A bench whose live policy is asked beside itself, about everything.
async fn beside(room: Room) -> (Bench, mpsc::Receiver<Seen>, Arc<RulesCell>, Metrics) {
    let mut bench = Bench::with_room(1_000).await;
    let live = loopgate::adapters::reload::load(&bench.site.sources(), 0).await.unwrap();
    let candidate = loopgate::adapters::reload::load(&bench.site.sources(), 0).await.unwrap();
    let metrics = Metrics::new();
    let sample = Sample { tenants: Vec::new(), percent: 100 };
    let (aside, told) = Aside::new(sample, room, metrics.shadow.clone());
    let cell = Arc::new(RulesCell::watched(aside));
    cell.activate(live);
    cell.ask_beside(Some(Arc::new(candidate)));
    bench.gate.rules = Arc::clone(&cell);
    (bench, told, cell, metrics)
}

/// A thousand calls with a megabyte of arguments each used to fit in the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_candidate_is_bounded_in_bytes_and_room_comes_back() {
    let (bench, mut told, _cell, metrics) = beside(Room { kilobytes: 100, ..shadow::QUEUE }).await;
    let dropped = || metrics.shadow.with_label_values(&["dropped"]).get();
    let mut lists = 0;
    while dropped() == 0 {
        bench.ask("tools/list", json!({})).await;
        lists += 1;
        assert!(lists < 100, "a hundred lists have more than a hundred kilobytes");
    }
    assert_eq!(told.len(), lists - 1);
    while told.try_recv().is_ok() {}
    bench.ask("tools/list", json!({})).await;
    assert_eq!((told.len(), dropped()), (1, 1));
}

/// Writes down nothing, and takes nothing back.
#[derive(Default)]
struct Nobody(Mutex<Vec<String>>);

#[async_trait]
impl ports::Journal for Nobody {
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault> {
        self.0.lock().unwrap().push(record.at().to_string());
        Ok(AuditRef { writer: "nobody".to_owned(), epoch: 1, seq: 0 })
    }

    fn ready(&self, _for_write: bool) -> Result<(), JournalFault> {
        Ok(())
    }
}

#[async_trait]
impl Rollout for Nobody {
    fn standing(&self) -> Standing {
        panic!("nobody asks")
    }

    async fn activate(&self, _: Order, _: By, _: Record) -> Result<(), RolloutFault> {
        panic!("nobody activates")
    }

    async fn roll_back(&self, _: Option<String>, _: String, _: By, _: Record) -> Result<(), RolloutFault> {
        panic!("nobody goes back")
    }

    async fn canary_judged(&self, _: &BundleId, _: Judgement, _: Counts) -> Result<(), RolloutFault> {
        panic!("no canary runs")
    }
}

/// A candidate that takes a second for each of a thousand decisions used to hold a stop for as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_asks_a_candidate_about_nothing_more() {
    let (bench, told, cell, metrics) = beside(shadow::QUEUE).await;
    for _ in 0..3 {
        bench.ask("tools/list", json!({})).await;
    }
    assert_eq!(told.len(), 3);
    let (stop, stopped) = watch::channel(false);
    stop.send(true).unwrap();
    let (nobody, metrics) = (Arc::new(Nobody::default()), Arc::new(metrics));
    let judge = Judge {
        cell,
        rollout: Arc::clone(&nobody) as Arc<dyn Rollout>,
        journal: Arc::clone(&nobody) as Arc<dyn ports::Journal>,
        clock: Arc::new(Now),
        metrics: Arc::clone(&metrics),
        tallies: Arc::default(),
        limits: Limits { least: 1, band: 0, errors: 0, window_ms: 1_000 },
    };
    judge.run(told, stopped).await;
    let count = |result: &str| metrics.shadow.with_label_values(&[result]).get();
    assert_eq!((count("dropped"), count("same")), (3, 0));
    assert!(nobody.0.lock().unwrap().is_empty());
}
