//! A backend that misbehaves costs its own calls, and no promise.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::PATIENCE;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::eventually;
use crate::message::Answer;
use crate::message::Message;
use crate::rig::Act;
use crate::rig::Rig;
use crate::rig::Seen;

/// A world whose LoopIQ is behind this rig.
async fn world(rig: &Rig, settings: Setup) -> World {
    let world = World::with(Setup { backend: Some(rig.url()), ..settings }).await;
    rig.behind(&world.backend);
    world
}

async fn plain(rig: &Rig) -> World {
    world(rig, Setup::default()).await
}

/// One rig, whose backend has these settings too.
async fn with(rig: &Rig, members: &str) -> World {
    let world = World::with(Setup { backend: Some(format!("{}\n    {members}", rig.url())), ..Setup::default() }).await;
    rig.behind(&world.backend);
    world
}

async fn known(call: &Message) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = call.send().await;
        if !["execution_unknown", "execution_in_flight", "backend_unavailable"].contains(&answer.code()) {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not known: {}", answer.text);
        tokio::task::yield_now().await;
    }
}

fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// What is wrong with an answer, and the answer.
type Wrong = (&'static str, fn() -> Act);

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resetting_every_third_write_leaves_one_effect_for_each_key() {
    let nth = AtomicUsize::new(0);
    let rig = Rig::new(move |seen: &Seen| {
        // Every third write: half of them before it happened, half of them after.
        let nth = if seen.is_write() { nth.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        match nth {
            nth if nth > 0 && nth % 6 == 0 => Act::Reset,
            nth if nth > 0 && nth % 3 == 0 => Act::PassThenReset,
            _ => Act::Pass,
        }
    })
    .await;
    let world = plain(&rig).await;
    for nth in 0..12 {
        let call = world.write("ada", &format!("Third-{nth:02}-x")).header("Idempotency-Key", &format!("key-{nth}"));
        let title = known(&call).await.done()["title"].clone();
        assert_eq!(title, format!("Third-{nth:02}-x"));
    }
    for nth in 0..12 {
        assert_eq!(world.work_items(&format!("Third-{nth:02}-x")).await.len(), 1, "{nth}: exactly one effect");
    }
    let lost = rig.seen().iter().filter(|seen| seen.is_write()).count();
    assert!(lost > 12, "some were sent again, by the gateway and under their key: {lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_whole_answer_fails_a_read_and_leaves_a_write_unknown() {
    let wrong: Vec<Wrong> = vec![
        ("shorter than it says", || Act::SayAndEnd(format!("{HEAD}Content-Length: 9000\r\n\r\n{{}}").into_bytes())),
        ("half closed", || Act::SayAndEnd(b"HTTP/1.1 200 OK\r\nContent-Ty".to_vec())),
        ("closed", || Act::SayAndEnd(Vec::new())),
        ("reset", || Act::Reset),
        ("a chunk cut off", || {
            Act::SayAndEnd(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nff\r\n{{}}").into_bytes())
        }),
        ("chunks that are none", || Act::Say(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nZZ\r\n").into_bytes())),
        ("two lengths", || Act::Say(format!("{HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}").into_bytes())),
        ("no HTTP", || Act::Say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())),
        ("a flood of interim answers", || Act::Flood(Vec::new(), b"HTTP/1.1 102 Processing\r\n\r\n".repeat(64))),
        ("a head without end", || {
            Act::Flood(b"HTTP/1.1 200 OK\r\n".to_vec(), format!("X-More: {}\r\n", "a".repeat(4000)).into_bytes())
        }),
        ("one header without end", || Act::Flood(b"HTTP/1.1 200 OK\r\nX-More: ".to_vec(), vec![b'a'; 4096])),
    ];
    let calm = "breaker: {failures: 1000}";
    let rig = Rig::new(|_| Act::Pass).await;
    let world = with(&rig, calm).await;
    for (nth, (what, act)) in wrong.into_iter().enumerate() {
        rig.then(move |_| act());
        let read = world.read("ada").send().await;
        assert_eq!(read.code(), "backend_failed", "{what}: {}", read.text);
        let title = format!("Wrong-{nth:02}-x");
        let write = world.write("ada", &title).send().await;
        assert_eq!(write.code(), "execution_unknown", "{what}: {}", write.text);
        rig.then(|_| Act::Pass);
        let key = write.refusal()["idempotencyKey"].as_str().unwrap().to_owned();
        known(&world.write("ada", &title).header("Idempotency-Key", &key)).await.done();
        assert_eq!(world.work_items(&title).await.len(), 1, "{what}: exactly one effect");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_end_is_cut_off_at_the_limit() {
    let rig = Rig::new(|_| {
        Act::Flood(
            format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n").into_bytes(),
            b"1000\r\n".iter().copied().chain(std::iter::repeat_n(b' ', 0x1000)).chain(*b"\r\n").collect(),
        )
    })
    .await;
    let small = Setup { settings: "limits: {response: 64KiB}\n".to_owned(), ..Setup::default() };
    let world = world(&rig, small).await;
    world.read("ada").send().await.is_refused("response_too_large");
    eventually("the connection was closed", || async { (rig.open() == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_behind_an_answer_is_never_taken_for_the_next_one() {
    let rig = Rig::new(|_| Act::Pass).await;
    let world = plain(&rig).await;
    let honest = world.read("ada").send().await.done();
    // The second answer would be the next caller's, were the connection used again.
    let smuggled = ok(&json!({"tenant": "org_gcn", "release": "smuggled", "requirements": []}).to_string());
    rig.then(move |_| Act::PassAnd(smuggled.clone()));
    for _ in 0..6 {
        let answer = world.read("ada").send().await;
        assert_eq!(answer.done(), honest, "{}", answer.text);
    }
    let seen = rig.seen();
    let connections: std::collections::BTreeSet<_> = seen[1..].iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 6, "none was used again: {connections:?}");
    // Without anything behind it, one is; not always, for two calls may meet in the pool.
    rig.then(|_| Act::Pass);
    eventually("a connection is used again", || async {
        world.read("ada").send().await.done();
        let [.., before, after] = &rig.seen()[..] else { return None };
        (before.connection == after.connection).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed_and_no_encoding_is_asked_for_or_undone() {
    let elsewhere = Rig::new(|_| Act::Say(ok("{}"))).await;
    let rig = Rig::new(|_| Act::Pass).await;
    let world = plain(&rig).await;
    for status in [301, 302, 303, 307, 308, 300, 304] {
        let location = elsewhere.url();
        rig.then(move |_| {
            let head = format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {location}/\r\nContent-Length: 0\r\n\r\n");
            Act::Say(head.into_bytes())
        });
        world.read("ada").send().await.is_refused("backend_failed");
        world.write("ada", "Redirected").send().await.is_refused("execution_unknown");
    }
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
    // A gzip of many zeros, that claims to be JSON.
    rig.then(|_| {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b' '; 8 << 20]).unwrap();
        let body = gzip.finish().unwrap();
        let head = format!("{HEAD}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
        Act::Say([head.into_bytes(), body].concat())
    });
    world.read("ada").send().await.is_refused("backend_failed");
    assert!(rig.seen().iter().all(|seen| !seen.headers.contains_key("accept-encoding")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_keeps_failing_is_left_alone_and_a_write_is_never_the_one_to_try_it() {
    let rig = Rig::new(|_| Act::Reset).await;
    // Health checks need an answer, so that none of them closes the breaker.
    let world = with(&rig, "breaker: {failures: 3, rest: 300ms}\n    health: {path: /down, every: 100ms}").await;
    rig.then(|seen| if seen.path == "/down" { Act::SayAndEnd(Vec::new()) } else { Act::Reset });
    let calls = || rig.seen().iter().filter(|seen| seen.path != "/down").count();
    for _ in 0..3 {
        world.read("ada").send().await.is_refused("backend_failed");
    }
    let before = calls();
    let open = world.write("ada", "Never-the-trial").send().await;
    open.is_refused("backend_unavailable");
    assert!(open.refusal()["retryAfterMs"].as_u64().unwrap() <= 300, "{}", open.text);
    assert_eq!(open.refusal()["retryable"], true);
    assert_eq!(calls(), before, "nothing was sent");
    assert_eq!(world.metric("loopgate_backend_breaker_total{backend=\"loopiq\",state=\"opened\"}").await, Some(1.0));
    let findings = world.readiness().await;
    assert_eq!(findings["ready"], true, "{findings}");
    assert!(findings["findings"].to_string().contains("left alone"), "{findings}");

    // It is well again; only a read finds out, however often writes ask.
    rig.then(|seen| if seen.path == "/down" { Act::SayAndEnd(Vec::new()) } else { Act::Pass });
    let rested = Instant::now() + std::time::Duration::from_millis(300);
    while Instant::now() < rested {
        world.write("ada", "Never-the-trial").send().await.is_refused("backend_unavailable");
    }
    world.write("ada", "Never-the-trial").send().await.is_refused("backend_unavailable");
    assert_eq!(calls(), before, "nothing was sent");
    eventually("a read goes through", || async { (world.read("ada").send().await.code() == "ok").then_some(()) }).await;
    world.write("ada", "Never-the-trial").send().await.done();
    assert_eq!(world.work_items("Never-the-trial").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_check_that_passes_lets_writes_through_again() {
    let rig = Rig::new(|seen| if seen.is_write() { Act::Reset } else { Act::Pass }).await;
    let world = with(&rig, "breaker: {failures: 1, rest: 100ms}\n    health: {every: 100ms}").await;
    let lost = world.write("ada", "Back-by-check").header("Idempotency-Key", "back").send().await;
    lost.is_refused("execution_unknown");
    rig.then(|_| Act::Pass);
    known(&world.write("ada", "Back-by-check").header("Idempotency-Key", "back")).await.done();
    assert_eq!(world.work_items("Back-by-check").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_room_is_refused_before_it_is_sent_and_reads_leave_room_for_writes() {
    let let_go = Arc::new(Semaphore::new(0));
    let until = Arc::clone(&let_go);
    let rig = Rig::new(move |seen| if seen.is_write() { Act::Pass } else { Act::Held(Arc::clone(&until)) }).await;
    let held = || rig.seen().len();
    let world = with(&rig, "concurrency: {min: 5, max: 5, queue: 0, wait: 0s}").await;
    let mut slow = JoinSet::new();
    for _ in 0..4 {
        let call = world.read("ada");
        slow.spawn(async move { call.send().await });
    }
    eventually("four reads are under way", || async { (held() == 4).then_some(()) }).await;
    let shed = world.read("ada").send().await;
    shed.is_refused("overloaded");
    assert_eq!(shed.refusal()["retryable"], true);
    assert!(shed.refusal()["retryAfterMs"].as_u64().unwrap() > 0, "{}", shed.text);
    assert_eq!(held(), 4, "it was not sent");
    assert_eq!(world.metric("loopgate_backend_shed_total{backend=\"loopiq\",class=\"read\"}").await, Some(1.0));
    assert_eq!(world.metric("loopgate_backend_in_flight{backend=\"loopiq\"}").await, Some(4.0));
    // The fifth place is a write's.
    world.write("ada", "In-spite-of-reads").send().await.done();
    let_go.add_permits(4);
    for read in slow.join_all().await {
        read.done();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_shed_was_not_sent_and_goes_through_under_its_key_later() {
    let let_go = Arc::new(Semaphore::new(0));
    let until = Arc::clone(&let_go);
    let rig = Rig::new(move |_| Act::Held(Arc::clone(&until))).await;
    let world = with(&rig, "concurrency: {min: 1, max: 1, queue: 0, wait: 0s}").await;
    let first = world.write("ada", "Holds-the-place");
    let mut under_way = JoinSet::new();
    under_way.spawn(async move { first.send().await });
    eventually("a write is under way", || async { (rig.seen().len() == 1).then_some(()) }).await;
    let second = world.write("ada", "Shed-x").header("Idempotency-Key", "shed");
    let shed = second.send().await;
    shed.is_refused("overloaded");
    assert_eq!(world.record(shed.audit())["unmapped"]["loopgate"]["execution"]["outcome"], "not_sent");
    assert!(world.work_items("Shed-x").await.is_empty());
    let_go.add_permits(2);
    under_way.join_next().await.unwrap().unwrap().done();
    second.send().await.done();
    assert_eq!(world.work_items("Shed-x").await.len(), 1);
}
