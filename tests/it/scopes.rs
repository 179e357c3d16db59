//! A scope is needed and never enough; who lacks one is told all of them at once.

use loopgate::app;
use loopgate::domain::identity::dev::DevClaims;
use serde_json::json;

use crate::harness::RELEASE;
use crate::harness::Setup;
use crate::harness::World;
use crate::harness::claims;
use crate::message::Message;

fn setup() -> Setup {
    Setup {
        settings: "scopes: {read: [\"tools:read\"], write: [\"tools:read\", \"tools:write\"]}".to_owned(),
        catalog: vec![(
            "  - name: loopiq_create_work_item\n",
            "  - name: loopiq_create_work_item\n    scopes: [\"work:items\"]\n",
        )],
        ..Setup::default()
    }
}

fn call(world: &World, user: &str, scopes: &[&str], tool: &str, arguments: serde_json::Value) -> Message {
    let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    let token = world.people.mint(&DevClaims { scopes, ..claims(user) }, app::now_s(), 600, "scoped");
    Message::new(&world.http, &world.mcp, "tools/call")
        .header("authorization", &format!("Bearer {token}"))
        .param("name", tool)
        .param("arguments", arguments)
}

fn item() -> serde_json::Value {
    json!({"title": "Scoped", "type": "task", "parent": "WI-1001", "owner": "ben"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lacks_a_scope_is_told_every_scope_that_the_call_needs() {
    let world = World::with(setup()).await;
    let metadata = world.mcp.replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    for scopes in [&["tools:read", "work:items"][..], &[], &["tools:write"], &["TOOLS:WRITE", "tools:read work:items"]]
    {
        let answer = call(&world, "ada", scopes, "loopiq_create_work_item", item()).send().await;
        assert_eq!(answer.status, 403, "{scopes:?}: {}", answer.text);
        answer.is_refused("insufficient_scope");
        let challenge = format!(
            "Bearer error=\"insufficient_scope\", error_description=\"the token lacks a scope\", \
             scope=\"tools:read tools:write work:items\", resource_metadata=\"{metadata}\""
        );
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    let denied = world.journal();
    let denied: Vec<_> =
        denied.iter().map(|one| &one["unmapped"]["loopgate"]["refusal"]).filter(|one| one["status"] == 403).collect();
    assert_eq!(denied.len(), 4);
    assert!(denied.iter().all(|one| one["code"] == "insufficient_scope"), "{denied:?}");
    let counted = world.metric("loopgate_credentials_refused_total{cause=\"insufficient_scope\"}").await;
    assert_eq!(counted, Some(4.0));
    assert!(world.seen().await.is_empty());
    let all = ["work:items", "tools:write", "tools:read", "more"];
    call(&world, "ada", &all, "loopiq_create_work_item", item()).send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scopes_are_never_enough_and_reveal_nothing() {
    let world = World::with(setup()).await;
    // Ben may read with the scope and not without; a write that policy denies him stays denied with every scope.
    let read = json!({"release": RELEASE});
    call(&world, "ben", &["tools:read"], "loopiq_get_release_certification", read.clone()).send().await.done();
    let without = call(&world, "ben", &[], "loopiq_get_release_certification", read).send().await;
    assert_eq!(without.status, 403, "{}", without.text);
    // Nobody is told of a tool that they may not see by which scopes it needs.
    let all = ["tools:read", "tools:write", "work:items"];
    for scopes in [&[][..], &all] {
        let hidden = call(&world, "nobody", scopes, "loopiq_create_work_item", item()).send().await;
        let unknown = call(&world, "nobody", scopes, "loopiq_no_such_tool", item()).send().await;
        hidden.is_refused("unknown_tool");
        assert_eq!((hidden.status, hidden.code()), (unknown.status, unknown.code()));
        assert_eq!(hidden.header("www-authenticate"), "");
    }
    assert_eq!(world.seen().await.len(), 1);
}
