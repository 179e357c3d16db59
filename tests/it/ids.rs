//! What the gateway tells LoopIQ of a call, and that it tells nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use loopgate::app;
use loopgate::domain::identity::assertion;
use loopgate::domain::identity::issuer::Alg;
use loopgate::domain::identity::keyset::KeySet;
use serde_json::Value;
use serde_json::json;

use crate::approvals::Package;
use crate::harness::World;
use crate::message::Message;
use crate::signed::agreed;
use crate::signed::signed;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER_TRACE: &str = "11111111111111111111111111111111";

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-01")
}

/// A call with everything that a client or a proxy may send along.
fn laden(call: Message) -> Message {
    call.header("Cookie", "session=secret")
        .header("X-Forwarded-For", "203.0.113.7")
        .header("X-Forwarded-Host", "evil.invalid")
        .header("Forwarded", "for=203.0.113.7")
        .header("X-LoopIQ-User", "tess")
        .header("X-LoopIQ-Approval-Id", "apr_forged")
        .header("X-Request-Id", "chosen-by-the-client")
        .header("X-LoopIQ-Role", "tenant_admin")
        .header("Accept-Language", "de")
        .meta("com.loopiq/workflow", "wf-42")
        .meta("com.loopiq/chain", json!(["plan", "read"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_sees_the_ids_of_the_call_and_nothing_of_the_clients() {
    let world = World::new().await;
    // A good approval of something else: neither call needs one.
    let approval = signed(&world, &agreed(&world, &Package::drafted(&world, "wf-0").await).await);
    let before = world.seen().await.len();
    let read = laden(world.read("ada")).header("traceparent", &traceparent(TRACE)).header("tracestate", "vendor=1");
    let write = laden(world.write("ada", "Carry the ids")).meta("traceparent", traceparent(TRACE));
    let calls = [read, write].map(|call| call.header("X-LoopIQ-Approval-Token", &approval));
    let answers = [calls[0].send().await, calls[1].send().await];
    let seen = world.seen().await.split_off(before);
    assert_eq!(seen.len(), 2, "{seen:?}");
    for (answer, request) in answers.iter().zip(&seen) {
        answer.done();
        let (headers, audit) = (&request["headers"], answer.audit());
        assert_eq!(headers["x-request-id"], audit["requestId"]);
        assert_eq!(headers["x-loopiq-tenant"], "org_gcn");
        assert_eq!(headers["x-loopiq-user"], "ada");
        assert_eq!(headers["x-loopiq-workflow"], "wf-42");
        let trace = headers["traceparent"].as_str().unwrap();
        assert!(trace.starts_with(&format!("00-{TRACE}-")) && trace != traceparent(TRACE), "{trace}");
        assert_eq!(audit["traceId"], TRACE);
        let record = world.record(audit);
        assert_eq!(record["metadata"]["correlation_uid"], audit["requestId"]);
        assert_eq!(record["trace"]["uid"], TRACE);
        assert_eq!(
            record["trace"]["span"]["uid"],
            trace.split('-').nth(2).unwrap(),
            "the span of the record is the one sent on"
        );
        assert_eq!(record["trace"]["span"]["parent_uid"], "00f067aa0ba902b7");
        assert_eq!(record["unmapped"]["loopgate"]["workflow"], "wf-42");
        assert_eq!(record["unmapped"]["loopgate"]["tool_chain"], json!(["plan", "read"]));

        let ours: BTreeSet<&str> = headers.as_object().unwrap().keys().map(String::as_str).collect();
        let allowed = [
            "host",
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "x-request-id",
            "traceparent",
            "tracestate",
            "x-loopiq-tenant",
            "x-loopiq-user",
            "x-loopiq-workflow",
            "idempotency-key",
        ];
        let strange: Vec<_> = ours.iter().filter(|name| !allowed.contains(name)).collect();
        assert!(strange.is_empty(), "sent on: {strange:?}");
    }
    assert_eq!(seen[0]["headers"]["tracestate"], "vendor=1");
    assert!(seen[0]["headers"].get("idempotency-key").is_none(), "a read has no key");
    assert_eq!(seen[1]["headers"]["idempotency-key"], answers[1].audit()["executionId"]);
    assert!(answers[1].audit()["idempotencyKey"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trace_of_the_message_wins_over_that_of_the_header_and_a_bad_one_is_replaced() {
    let world = World::new().await;
    let both = world
        .read("ada")
        .header("traceparent", &traceparent(OTHER_TRACE))
        .meta("traceparent", traceparent(TRACE))
        .send()
        .await;
    assert_eq!(both.audit()["traceId"], TRACE);
    let zeros = "0".repeat(32);
    for bad in ["garbage", &traceparent(&zeros), "00-4bf92f35-00f067aa0ba902b7-01"] {
        let answer = world.read("ada").header("traceparent", bad).send().await;
        let trace = answer.audit()["traceId"].as_str().unwrap().to_owned();
        assert!(trace.len() == 32 && trace != zeros && trace.bytes().all(|b| b.is_ascii_hexdigit()), "{trace}");
    }
    let unasked = [world.read("ada").send().await, world.read("ada").send().await];
    assert_ne!(unasked[0].audit()["traceId"], unasked[1].audit()["traceId"]);
    for request in world.seen().await {
        assert!(!request["headers"]["traceparent"].as_str().unwrap().contains(OTHER_TRACE));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_can_verify_on_whose_behalf_it_is_called_by_the_published_keys() {
    let world = World::new().await;
    let answer = world.write("ada", "Vouch for the caller").send().await;
    answer.done();
    let seen = world.seen().await;
    let bearer = seen[0]["headers"]["authorization"].as_str().unwrap().strip_prefix("Bearer ").unwrap();
    let jwks = world.get(&world.mcp.replace("/mcp", "/.well-known/jwks.json")).await;
    let keys = Arc::new(KeySet::from_jwks(jwks.as_bytes(), &[Alg::EdDsa]).unwrap());
    let now = app::now_s();
    let told = assertion::verify_assertion(bearer, &keys, &world.mcp, "loopiq", now).unwrap();
    assert_eq!((told.sub.as_str(), told.tenant.as_str()), ("ada", "org_gcn"));
    assert_eq!(told.roles, ["release_manager"]);
    assert_eq!(json!(told.request_id), answer.audit()["requestId"]);
    assert_eq!(json!(told.decision_id), answer.audit()["decisionId"]);
    assert!(told.exp - told.iat <= 60, "it lives for seconds");
    // It is good for nothing else: not later, not for another audience, not at the gateway's own door.
    assert!(assertion::verify_assertion(bearer, &keys, &world.mcp, "loopiq", now + 600).is_err());
    assert!(assertion::verify_assertion(bearer, &keys, &world.mcp, "billing", now).is_err());
    let back = Message::new(&world.http, &world.mcp, "tools/list").header("authorization", &format!("Bearer {bearer}"));
    assert_eq!(back.send().await.status, 401);
    let decided = &world.record(answer.audit())["unmapped"]["loopgate"]["decisions"];
    let ids: Vec<&Value> = decided.as_array().unwrap().iter().map(|decision| &decision["id"]).collect();
    assert!(ids.contains(&&answer.audit()["decisionId"]), "{decided}");
}
