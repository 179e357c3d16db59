//! A credential opens the door only when everything about it is right, and never leaves it.

use std::fs;

use aws_lc_rs::hmac;
use loopgate::app;
use loopgate::domain::identity::signing::SigningKey;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::AUDIENCE;
use crate::harness::PEOPLE;
use crate::harness::World;
use crate::harness::base64url;
use crate::harness::claims;
use crate::harness::sign;
use crate::message::Message;

/// Claims that get ada in.
fn good() -> Value {
    let now = app::now_s();
    json!({
        "iss": PEOPLE, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600, "jti": "one",
        "tenants": ["org_gcn"], "roles": ["release_manager"],
    })
}

fn but(claim: &str, value: impl Into<Value>) -> Value {
    let mut claims = good();
    claims[claim] = value.into();
    claims
}

fn header(world: &World) -> Value {
    json!({"alg": "EdDSA", "typ": "at+jwt", "kid": world.people.key.kid()})
}

/// The public key taken for a shared secret, in every form that a confused verifier might take.
fn confused(world: &World) -> Vec<String> {
    let jwks = world.people.jwks();
    let jwk = jwks["keys"][0].to_string();
    let file = fs::read(world.path("issuers/people/dev-issuer.jwks.json")).unwrap();
    let secrets = [world.people.key.public_key().to_vec(), jwk.into_bytes(), jwks.to_string().into_bytes(), file];
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": world.people.key.kid()});
    let message = format!("{}.{}", base64url(header.to_string()), base64url(good().to_string()));
    let sign = |secret: &Vec<u8>| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    secrets.iter().map(|secret| format!("{message}.{}", base64url(sign(secret)))).collect()
}

/// Every bad credential: what the client is told, and its token.
fn bad(world: &World) -> Vec<(&'static str, String)> {
    let key = &world.people.key;
    let now = app::now_s();
    let signed = |claims: Value| sign(key, &header(world), &claims);
    let none = json!({"alg": "none", "typ": "at+jwt"});
    let unsigned = format!("{}.{}.", base64url(none.to_string()), base64url(good().to_string()));
    let whole = signed(good());
    let (front, signature) = whole.rsplit_once('.').unwrap();
    let grown =
        format!("{}.{}.{signature}", front.split('.').next().unwrap(), base64url(but("sub", "tess").to_string()));
    let stranger = SigningKey::generate(&[7; 32]).unwrap();
    let mut bad = vec![
        ("token_expired", signed(but("exp", now - 3600))),
        ("unauthenticated", signed(but("aud", "another-service"))),
        ("unauthenticated", signed(but("aud", json!([])))),
        ("unauthenticated", signed(but("iss", "https://evil.invalid"))),
        ("unauthenticated", signed(but("iss", "https://services.it.invalid"))),
        ("unauthenticated", signed(but("nbf", now + 3600))),
        ("unauthenticated", unsigned),
        ("unauthenticated", front.to_owned()),
        ("unauthenticated", format!("{front}.")),
        ("unauthenticated", grown),
        ("unauthenticated", sign(&stranger, &header(world), &good())),
        ("unauthenticated", "not.a.token".to_owned()),
    ];
    bad.extend(confused(world).into_iter().map(|token| ("unauthenticated", token)));
    bad
}

fn ask(world: &World, token: &str) -> Message {
    Message::new(&world.http, &world.mcp, "tools/list").header("authorization", &format!("Bearer {token}"))
}

/// Every file of the world's journal, as text.
fn journal_text(world: &World) -> String {
    let files = fs::read_dir(world.path("audit/it")).unwrap();
    files.map(|file| String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_proves_nothing_is_challenged_and_recorded_with_its_cause() {
    let world = World::new().await;
    let all = bad(&world);
    // The forge works: the same hands make a token that gets in.
    let good = sign(&world.people.key, &header(&world), &good());
    assert_eq!(ask(&world, &good).send().await.code(), "ok");
    for (code, token) in &all {
        let answer = ask(&world, token).send().await;
        assert_eq!(answer.status, 401, "{token}: {}", answer.text);
        answer.is_refused(code);
        let challenge = answer.header("www-authenticate");
        let metadata =
            format!("resource_metadata=\"{}\"", world.mcp.replace("/mcp", "/.well-known/oauth-protected-resource/mcp"));
        assert!(challenge.starts_with("Bearer ") && challenge.contains(&metadata), "{challenge}");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
    let bare = Message::new(&world.http, &world.mcp, "tools/list").send().await;
    assert_eq!(bare.status, 401);
    assert!(!bare.header("www-authenticate").contains("error="), "{}", bare.header("www-authenticate"));

    let journal = world.journal();
    let challenged: Vec<&Value> =
        journal.iter().filter(|record| record["unmapped"]["loopgate"]["refusal"]["status"] == 401).collect();
    assert_eq!(challenged.len(), all.len() + 1, "one record each");
    let mut causes: Vec<&str> = challenged
        .iter()
        .map(|record| record["unmapped"]["loopgate"]["refusal"]["detail"].as_str().unwrap())
        .inspect(|cause| assert!(!cause.is_empty()))
        .collect();
    causes.sort_unstable();
    causes.dedup();
    assert!(causes.len() >= 6, "causes can be told apart: {causes:?}");
    let text = journal_text(&world);
    for (_, token) in &all {
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!text.contains(part), "a part of a refused token is in the journal: {part}");
        }
    }
    assert!(world.seen().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_in_no_journal_file_and_in_no_request_to_the_backend() {
    let world = World::new().await;
    let token = world.token("ada");
    for call in [world.read("ada"), world.write("ada", "Hold the token back")] {
        call.header("Cookie", &format!("session={token}")).header("X-Api-Key", &token).send().await.done();
    }
    // Where the caller itself writes it into an argument, the journal still does not keep it.
    let told = json!({"title": "t", "type": "task", "parent": "WI-1001", "owner": "ben", "description": token});
    world.call("vic", "loopiq_create_work_item", told.clone()).header("X-Api-Key", &token).send().await;
    let signature = token.rsplit('.').next().unwrap();
    for request in world.seen().await {
        assert!(!request.to_string().contains(signature), "the token was sent on: {request}");
    }
    world.call("ada", "loopiq_create_work_item", told).send().await.done();
    let text = journal_text(&world);
    assert!(text.contains("Hold the token back"), "the eye sees");
    assert!(!text.contains(signature), "the token is in the journal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_vouches_only_for_its_own_kind_of_caller_and_its_own_tenants() {
    let world = World::new().await;
    let now = app::now_s();
    world.read("svc-pipeline").send().await.done();
    world.forget().await;
    let ask = |token: &str| {
        Message::new(&world.http, &world.mcp, "tools/call")
            .header("authorization", &format!("Bearer {token}"))
            .param("name", "loopiq_search_releases")
            .param("arguments", json!({}))
    };
    // The issuer of services may vouch for org_gcn alone; a token that says more says nothing.
    let mut service = claims("svc-pipeline");
    service.tenants = vec!["org_gcn".to_owned(), "org_nordbank".to_owned()];
    let wide = world.services.mint(&service, now, 600, "wide");
    assert_eq!(ask(&wide).header("X-LoopIQ-Tenant", "org_gcn").send().await.status, 401);
    service.tenants = vec!["org_nordbank".to_owned()];
    assert_eq!(ask(&world.services.mint(&service, now, 600, "other")).send().await.status, 401);
    // A service does not become a person by its name and roles, nor a person a service.
    let pretender = world.services.mint(&claims("ada"), now, 600, "pretender");
    assert_eq!(ask(&pretender).send().await.code(), "unknown_tool");
    let listed = world.people.mint(&claims("svc-pipeline"), now, 600, "listed");
    assert_eq!(ask(&listed).send().await.code(), "unknown_tool");
    assert!(world.seen().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anyone_may_read_where_to_get_a_token_and_with_which_key_the_gateway_signs() {
    let world = World::new().await;
    let origin = world.mcp.strip_suffix("/mcp").unwrap();
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let document: Value = serde_json::from_str(&world.get(&format!("{origin}{path}")).await).unwrap();
        assert_eq!(document["resource"], world.mcp);
        assert!(document["authorization_servers"].as_array().unwrap().contains(&json!(PEOPLE)), "{document}");
    }
    let text = world.get(&format!("{origin}/.well-known/jwks.json")).await;
    let jwks: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1, "{jwks}");
    assert!(jwks["keys"][0]["x"].is_string() && jwks["keys"][0].get("d").is_none(), "{jwks}");
    let elsewhere = world.http.get(format!("{origin}/.well-known/openid-configuration")).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_before_a_long_body_is_read_and_a_caller_is_heard() {
    let world = World::new().await;
    let addr = world.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let token = world.token("ada");
    for credential in [String::new(), format!("Authorization: Bearer {token}x\r\n")] {
        let mut connection = TcpStream::connect(&addr).await.unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {addr}\r\n{credential}Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // No byte of the body is sent; the connection ends with the answer.
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    let note = "n".repeat(500_000);
    world.read("ada").meta("com.example/note", note).send().await.done();
}
