//! A write happens once, and whoever made it knows what became of it, or is told that nobody does.

use std::net::TcpListener;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::harness::PATIENCE;
use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::World;
use crate::message::Answer;
use crate::message::Message;

const WRITES: &str = "/api/v1/work-items";
/// The tools that the time limits below are set on.
const CREATE: &str = "    route: POST /api/v1/work-items\n";
const CREATE_IN_TIME: &str = "    route: POST /api/v1/work-items\n    timeout: 1500ms\n";
const READ: &str = "    route: GET /api/v1/releases/{release}/certification\n";
const READ_IN_TIME: &str = "    route: GET /api/v1/releases/{release}/certification\n    timeout: 1500ms\n";

/// The call repeated until the gateway has found out what became of the write.
async fn known(call: &Message) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = call.send().await;
        if !["execution_unknown", "execution_in_flight"].contains(&answer.code()) {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not known: {}", answer.text);
        tokio::task::yield_now().await;
    }
}

fn outcome(record: &Value) -> &str {
    record["unmapped"]["loopgate"]["execution"]["outcome"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_low_impact_write_goes_through_once_with_a_key_and_the_key_gives_the_same_answer_again() {
    let world = World::new().await;
    let made = world.write("ada", "Keyed-by-the-gateway").send().await;
    let item = made.done();
    let key = made.audit()["idempotencyKey"].as_str().unwrap().to_owned();
    let mut executions = vec![made.audit()["executionId"].clone()];
    assert_eq!(made.audit()["recordIds"], json!([item["id"]]));
    assert_eq!(world.seen().await.len(), 1, "sent once");

    // The client's own key is kept wherever it stands; the backend sees the execution that it stands for.
    for (nth, call) in [
        world.write("ada", "Keyed-by-header").header("Idempotency-Key", "client-0"),
        world.write("ada", "Keyed-by-meta").meta("com.loopiq/idempotencyKey", "client-1"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = call.send().await;
        answer.done();
        assert_eq!(answer.audit()["idempotencyKey"], format!("client-{nth}"));
        executions.push(answer.audit()["executionId"].clone());
    }
    let seen = world.seen().await;
    let keys: Vec<&Value> = seen.iter().map(|request| &request["headers"]["idempotency-key"]).collect();
    assert_eq!(keys, executions.iter().collect::<Vec<_>>());
    assert!(executions.iter().all(Value::is_string));

    // The key that the gateway made is the caller's to use.
    let again = world.write("ada", "Keyed-by-the-gateway").header("Idempotency-Key", &key).send().await;
    assert_eq!(again.done(), item, "the first answer");
    assert_eq!(world.work_items("Keyed-by-the-gateway").await.len(), 1);
    let other = world.write("ada", "Keyed-otherwise").header("Idempotency-Key", &key).send().await;
    assert_ne!(other.code(), "ok", "one key, two payloads: {}", other.text);
    assert!(world.work_items("Keyed-otherwise").await.is_empty());
    // Another caller's equal key is another key: nobody gets ben's answer, or keeps him from writing.
    let by_ben = world.write("ben", "Keyed-by-header").header("Idempotency-Key", "client-0").send().await;
    assert_eq!(by_ben.done()["createdBy"], "ben");
    assert_eq!(world.work_items("Keyed-by-header").await.len(), 2);
    // Two keys for one write are a contradiction, and nothing is sent.
    let before = world.seen().await.len();
    let two = world.write("ada", "t").header("Idempotency-Key", "one").meta("com.loopiq/idempotencyKey", "two");
    two.send().await.is_refused("invalid_arguments");
    assert_eq!(world.seen().await.len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_the_effect_and_creates_nothing() {
    let world = World::new().await;
    for call in [
        world.write("ada", "Only-tried").meta("com.loopiq/dryRun", true),
        world.call(
            "ada",
            "loopiq_create_work_item",
            json!({
                "title": "Only-tried", "type": "task", "parent": "WI-1001", "owner": "ben", "dryRun": true,
            }),
        ),
    ] {
        let answer = call.send().await;
        assert!(answer.done().to_string().contains("Only-tried"), "{}", answer.text);
        assert!(answer.audit().get("idempotencyKey").is_none(), "{}", answer.text);
        assert_eq!(world.record(answer.audit())["unmapped"]["loopgate"]["dry_run"], true);
    }
    for request in world.seen().await {
        assert_eq!(request["query"], "dryRun=true", "{request}");
    }
    assert!(world.work_items("Only-tried").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definite_no_of_the_backend_is_told_with_its_reason() {
    let world = World::new().await;
    let orphan = json!({"title": "Orphan", "type": "task", "parent": "WI-9999", "owner": "ben"});
    let answer = world.call("ada", "loopiq_create_work_item", orphan).send().await;
    answer.is_refused("backend_rejected");
    assert!(answer.words().contains("WI-9999"), "{}", answer.text);
    assert_eq!(answer.refusal()["retryable"], false);
    let record = world.record(answer.audit());
    assert_eq!((outcome(&record), &record["unmapped"]["loopgate"]["stage"]), ("failed", &json!("outcome")));
    let missing = world.call("ada", "loopiq_get_release", json!({"release": "no-such-release"})).send().await;
    missing.is_refused("backend_rejected");
    assert_eq!(missing.refusal()["status"], 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_backend_leaves_a_write_unknown_and_a_read_failed() {
    let world = World::new().await;
    for status in [500, 502, 503, 408] {
        world.fault(json!({"method": "POST", "path": WRITES, "kind": "status", "status": status})).await;
        let write = world.write("ada", "Lost-in-a-failure").send().await;
        write.is_refused("execution_unknown");
        assert!(write.refusal()["next"].as_str().unwrap().contains(write.audit()["idempotencyKey"].as_str().unwrap()));
        let record = world.record(write.audit());
        assert_eq!((outcome(&record), &record["status"]), ("unknown", &json!("Unknown")), "{record}");
        world.fault(json!({"method": "GET", "path": "/api/v1/releases", "kind": "status", "status": status})).await;
        let read = world.read("ada").send().await;
        read.is_refused(if status == 408 { "backend_rejected" } else { "backend_failed" });
        assert_eq!(outcome(&world.record(read.audit())), "failed");
    }
    assert_eq!(world.seen().await.len(), 8, "none was sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_happens_once_however_often_it_is_repeated_under_its_key() {
    let world = World::new().await;
    // A pooled connection is in use, which is when a client is tempted to send again by itself.
    world.read("ada").send().await.done();
    for (kind, title) in [
        ("reset_after_commit", "Lost-after-commit"),
        ("reset_before_commit", "Lost-before-commit"),
        ("truncated", "Cut-short"),
    ] {
        world.fault(json!({"method": "POST", "path": WRITES, "kind": kind})).await;
        let lost = world.write("ada", title).send().await;
        lost.is_refused("execution_unknown");
        let key = lost.refusal()["idempotencyKey"].as_str().unwrap_or_else(|| panic!("no key: {}", lost.text));
        let record = world.record(lost.audit());
        assert_eq!(outcome(&record), "unknown");
        assert_eq!(record["unmapped"]["loopgate"]["idempotency_key"], key);

        let first = known(&world.write("ada", title).header("Idempotency-Key", key)).await;
        let second = world.write("ada", title).header("Idempotency-Key", key).send().await;
        assert_eq!((first.words(), first.done()["title"].as_str()), (second.words(), Some(title)), "{kind}");
        assert_eq!(second.audit()["replayed"], true, "{}", second.text);
        assert_eq!(world.work_items(title).await.len(), 1, "{kind}: exactly one effect");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_connection_breaks_is_answered_or_failed_and_never_unknown() {
    let world = World::new().await;
    for kind in ["reset_before_commit", "truncated", "bad_json"] {
        world.fault(json!({"method": "GET", "path": "/api/v1/releases", "kind": kind, "times": 2})).await;
        for _ in 0..2 {
            let answer = world.read("ada").send().await;
            assert!(["ok", "backend_failed"].contains(&answer.code()), "{kind}: {}", answer.text);
            assert!(world.record(answer.audit()).is_object());
        }
        world.http.delete(format!("{}/_sandbox/faults", world.backend)).send().await.unwrap();
    }
    // The next one is as good as ever: a broken connection is not kept.
    world.read("ada").send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_read_in_full_is_not_shown_in_part() {
    let small = Setup { settings: "limits: {response: 64KiB}\n".to_owned(), ..Setup::default() };
    let world = World::with(small).await;
    for (kind, code) in
        [("bad_json", "backend_failed"), ("truncated", "backend_failed"), ("oversized", "response_too_large")]
    {
        world.fault(json!({"path": "/api/v1/releases", "kind": kind, "bytes": 200_000})).await;
        let answer = world.read("ada").send().await;
        answer.is_refused(code);
        assert!(!answer.text.contains("SOC2"), "{}", answer.text);
    }
    // A write that was made is not called failed because its answer cannot be read.
    for (kind, title, codes) in [
        ("bad_json", "Garbled", &["backend_failed", "execution_unknown"][..]),
        ("oversized", "Swollen", &["response_too_large", "execution_unknown"]),
    ] {
        world.fault(json!({"method": "POST", "path": WRITES, "kind": kind, "bytes": 200_000})).await;
        let answer = world.write("ada", title).send().await;
        assert!(codes.contains(&answer.code()), "{}", answer.text);
        let record = world.record(answer.audit());
        assert!(["executed", "unknown"].contains(&outcome(&record)), "{record}");
        assert_eq!(world.work_items(title).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_cannot_be_reached_was_sent_nothing() {
    // A port that was free a moment ago and on which nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::with(Setup { backend: Some(format!("http://{free}")), ..Setup::default() }).await;
    for call in [world.read("ada"), world.write("ada", "Never-sent")] {
        let answer = call.send().await;
        answer.is_refused("backend_unavailable");
        assert_eq!(answer.refusal()["retryable"], true);
        let record = world.record(answer.audit());
        assert_eq!(outcome(&record), "not_sent", "{record}");
        assert!(!answer.text.contains(&free.port().to_string()), "{}", answer.text);
    }
    // What needs no backend goes on.
    world.call("ada", "loopiq_get_tenant_context", json!({})).send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_101_is_no_answer_to_a_call() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = format!("http://{}", listener.local_addr().unwrap());
    let world = World::with(Setup { backend: Some(backend), ..Setup::default() }).await;
    let body = json!({"id": "WI-1", "tenant": "org_gcn"}).to_string();
    let forged = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let switching = async {
        let mut open = Vec::new();
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.readable().await.unwrap();
            connection.write_all(forged.as_bytes()).await.unwrap();
            open.push(connection);
        }
    };
    let (read, write) = tokio::select! {
        () = switching => unreachable!("it goes on for ever"),
        answers = async { (world.read("ada").send().await, world.write("ada", "Switched").send().await) } => answers,
    };
    read.is_refused("backend_failed");
    write.is_refused("execution_unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_too_slow_times_a_read_out_and_leaves_a_write_unknown() {
    let world =
        World::with(Setup { catalog: vec![(CREATE, CREATE_IN_TIME), (READ, READ_IN_TIME)], ..Setup::default() }).await;
    world.read("ada").send().await.done();
    let path = format!("/api/v1/releases/{RELEASE}/certification");
    world.fault(json!({"method": "GET", "path": path, "kind": "delay", "ms": 60_000})).await;
    let read = world.read("ada").send().await;
    read.is_refused("backend_timeout");
    assert_eq!(read.refusal()["retryable"], true);
    world.fault(json!({"method": "POST", "path": WRITES, "kind": "delay", "ms": 60_000, "when": "after"})).await;
    let write = world.write("ada", "Too-slow").send().await;
    write.is_refused("execution_unknown");
    let key = write.refusal()["idempotencyKey"].as_str().unwrap();
    known(&world.write("ada", "Too-slow").header("Idempotency-Key", key)).await.done();
    assert_eq!(world.work_items("Too-slow").await.len(), 1, "exactly one effect");
}
