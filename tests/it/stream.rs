//! Calls that take a while: who hears of them meanwhile, and what happens when nobody does.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::Weak;

use loopgate::domain::identity::Principal;
use loopgate::domain::pdp::EarlierCall;
use loopgate::pep::ports;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::harness::World;
use crate::harness::eventually;
use crate::message::Answer;

const BOTH: &str = "application/json, text/event-stream";

/// The messages of an event stream, in order.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), "text/event-stream", "{}", answer.text);
    let data = answer.text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|data| serde_json::from_str(data.trim()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_rises_and_the_answer_comes_last_for_a_client_that_asked() {
    let world = World::new().await;
    for (token, modern) in [(json!("step-by-step"), false), (json!(42), true)] {
        let mut call =
            world.write("ada", "Watched").header("accept", BOTH).meta("progressToken", token.clone()).id("c-1");
        if modern {
            call = call.modern();
        }
        let heard = events(&call.send().await);
        let (answer, steps) = heard.split_last().unwrap();
        assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!("c-1"), &json!(false)), "{answer}");
        let done: Vec<f64> = steps.iter().map(|step| step["params"]["progress"].as_f64().unwrap()).collect();
        assert!(done.len() >= 2 && done.windows(2).all(|pair| pair[0] < pair[1]), "{done:?}");
        for step in steps {
            assert_eq!(step["method"], "notifications/progress");
            assert_eq!(step["params"]["progressToken"], token);
            assert!(!step.to_string().contains("WI-"), "{step}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_did_not_ask_or_cannot_read_a_stream_gets_one_json_answer() {
    let world = World::new().await;
    for call in [
        world.read("ada").header("accept", BOTH),
        world.read("ada").header("accept", "application/json").meta("progressToken", "t"),
    ] {
        let answer = call.send().await;
        assert_eq!(answer.header("content-type"), "application/json");
        answer.done();
    }
    // A refusal that comes before anything was sent on has no progress to tell of.
    let refused = world.read("cleo").header("accept", BOTH).meta("progressToken", "t").send().await;
    assert_eq!(refused.header("content-type"), "application/json");
    refused.is_refused("tenant_required");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_client_hangs_up_after_it_was_sent_on_is_carried_to_its_end_and_recorded() {
    let world = World::new().await;
    for (nth, streaming) in [false, true].into_iter().enumerate() {
        world.forget().await;
        world.fault(json!({"method": "POST", "path": "/api/v1/work-items", "kind": "delay", "ms": 1500})).await;
        let title = format!("Abandoned-{nth}");
        let mut call = world.write("ada", &title);
        if streaming {
            call = call.header("accept", BOTH).meta("progressToken", "t");
        }
        let mut clients = JoinSet::new();
        clients.spawn(async move { call.send().await.status });
        eventually("the request at the backend", || async { (!world.seen().await.is_empty()).then_some(()) }).await;
        assert_eq!(world.metric("loopgate_requests_in_flight").await, Some(1.0));
        clients.shutdown().await;
        let record = eventually("the outcome", || async {
            world.journal().into_iter().find(|one| {
                let of_call = one["api"]["request"]["data"]["arguments"]["title"] == *title;
                of_call && one["unmapped"]["loopgate"]["stage"] == "outcome"
            })
        })
        .await;
        assert_eq!(record["unmapped"]["loopgate"]["execution"]["outcome"], "executed", "{record}");
        assert_eq!(world.work_items(&title).await.len(), 1);
        assert_eq!(world.seen().await.len(), 2, "sent once, and looked at behind the gateway's back once");
        let carried = world.metric("loopgate_carried_to_end_total").await;
        assert_eq!(carried, Some(f64::from(u32::try_from(nth + 1).unwrap())));
    }
    eventually("rest", || async { (world.metric("loopgate_requests_in_flight").await == Some(0.0)).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_calls_under_way_be_answered_and_takes_no_new_ones() {
    let mut world = World::new().await;
    world.fault(json!({"method": "POST", "path": "/api/v1/work-items", "kind": "delay", "ms": 700})).await;
    let (call, late) = (world.write("ada", "Under-way"), world.read("ada"));
    let mut clients = JoinSet::new();
    clients.spawn(async move { call.send().await });
    eventually("the request at the backend", || async { (!world.seen().await.is_empty()).then_some(()) }).await;
    world.stop_gateway().await;
    assert!(late.request().send().await.is_err(), "the door is closed");
    let answer = clients.join_next().await.unwrap().unwrap();
    answer.done();
    assert_eq!(world.stages(answer.audit()["requestId"].as_str().unwrap()), ["intent", "outcome"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_that_comes_after_sending_stops_nothing() {
    let world = World::new().await;
    world.fault(json!({"method": "POST", "path": "/api/v1/work-items", "kind": "delay", "ms": 400})).await;
    let call = world.write("ada", "Cancelled-too-late").id("late");
    let mut clients = JoinSet::new();
    clients.spawn(async move { call.send().await });
    eventually("the request at the backend", || async { (!world.seen().await.is_empty()).then_some(()) }).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "late"}});
    let bearer = format!("Bearer {}", world.token("ada"));
    let taken = world.http.post(&world.mcp).header("authorization", bearer).json(&cancel).send().await.unwrap();
    assert_eq!(taken.status(), 202);
    let answer = clients.join_next().await.unwrap().unwrap();
    answer.done();
    assert_eq!(world.work_items("Cancelled-too-late").await.len(), 1);
}

/// Somebody says "cancelled" at the very moment at which policy is about to decide.
#[derive(Default)]
struct Interrupter {
    bench: OnceLock<Weak<Bench>>,
    /// Who says so, of which request.
    says: Mutex<Option<(&'static str, Value)>>,
}

impl ports::Facts for Interrupter {
    fn recall(&self, _tenant: &str, _caller: &Principal, _workflow: &str) -> Vec<EarlierCall> {
        if let Some((who, id)) = self.says.lock().unwrap().take() {
            let bench = self.bench.get().and_then(Weak::upgrade).unwrap();
            let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
            let taken = tokio::task::block_in_place(|| Handle::current().block_on(bench.hear(who, &cancel)));
            assert_eq!(taken.status, 202);
        }
        Vec::new()
    }

    fn note(&self, _tenant: &str, _caller: &Principal, _workflow: &str, _call: EarlierCall) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_its_caller_gives_up_before_it_is_sent_is_not_sent() {
    let interrupter = Arc::new(Interrupter::default());
    let bench = Arc::new(Bench::with(20, Arc::clone(&interrupter) as Arc<dyn ports::Facts>).await);
    interrupter.bench.set(Arc::downgrade(&bench)).unwrap();
    *interrupter.says.lock().unwrap() = Some(("ada", json!(1)));
    let answer = bench.write("given-up").await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("cancelled"), "{answer}");
    assert_eq!(bench.sent().await, 0);
    assert_eq!(bench.journal.stages(), ["denied"]);
    // Neither another caller nor another id stops it.
    for (who, id) in [("ben", json!(1)), ("ada", json!(2)), ("ada", json!("1"))] {
        *interrupter.says.lock().unwrap() = Some((who, id.clone()));
        let answer = bench.write(&format!("kept-{who}-{}", bench.sent().await)).await;
        assert_eq!(answer["result"]["isError"], false, "{who} {id}: {answer}");
    }
    assert_eq!(bench.sent().await, 3);
}
