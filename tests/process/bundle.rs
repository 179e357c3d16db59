//! `loopgate policy bundle`, and a gateway that pulls bundles from a server.
//!
//! Whatever the server sends, or if it sends nothing, the live policy goes on deciding.

mod server;

use serde_json::Value;
use serde_json::json;

use crate::bundle::server::Server;
use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Said;
use crate::harness::Sandbox;
use crate::harness::get;
use crate::harness::of_repository;
use crate::harness::read_certification;
use crate::harness::run;
use crate::harness::shown;
use crate::harness::until;

const TENANTS: &str = "policies/data/tenants.yaml";

/// A home with policies of its own and keys to sign them with.
fn home(backend: &str) -> Home {
    let home = Home::with_own_policies(backend);
    for name in ["ci", "other", "stranger"] {
        run(&["policy", "bundle", "keygen", "--out", &home.path(&format!("{name}.key"))]).exits(0);
    }
    home
}

/// Builds the policies as they are into `name`.
fn build(home: &Home, name: &str, serial: u64, more: &[&str]) -> Vec<u8> {
    let (policies, out, serial) = (home.path("policies"), home.path(name), serial.to_string());
    let catalog = shown(&of_repository("config/catalog.yaml"));
    let fixed = ["policy", "bundle", "build", &policies, "--catalog", &catalog, "-o", &out, "--serial", &serial];
    run(&[&fixed, more].concat()).exits(0);
    std::fs::read(&out).unwrap()
}

/// The same, signed as the gateways ask for.
fn signed(home: &Home, name: &str, serial: u64) -> Vec<u8> {
    build(home, name, serial, &["--sign", &home.path("ci.key"), "--scope", "prod", "--revision", name])
}

fn resigned(home: &Home, from: &str, key: &str, scope: &str) -> Vec<u8> {
    let out = home.path("resigned.tar.gz");
    let key = home.path(key);
    run(&["policy", "bundle", "sign", &home.path(from), "--key", &key, "--scope", scope, "-o", &out]).exits(0);
    std::fs::read(&out).unwrap()
}

/// Closes the organisation to every agent: a change that one notices.
fn close_org(home: &Home) {
    let open = home.read(TENANTS);
    let closed = open.replacen(
        "name: Global Card Network\n  mcp_enabled: true",
        "name: Global Card Network\n  mcp_enabled: false",
        1,
    );
    assert_ne!(open, closed);
    home.write(TENANTS, &closed);
}

fn pull_from(home: &Home, server: &Server) {
    let bundle = format!("bundle: {{url: \"{}\", keys: [other.pub, ci.pub], scope: prod, every: 100ms}}", server.url());
    home.settings(|text| text.replace("reload_every: 100ms", &format!("reload_every: 50ms, {bundle}")));
}

/// Whether a release manager's call is allowed.
fn allowed(gateway: &Gateway, token: &str) -> bool {
    read_certification(&gateway.mcp, token).unwrap()["isError"] == json!(false)
}

fn waits_for_finding(gateway: &Gateway, words: &str) -> Value {
    until(words, || {
        let (status, ready) = gateway.ready();
        assert_eq!((status, &ready["ready"]), (200, &json!(true)), "a gateway with a policy is ready: {ready:#}");
        ready["findings"].to_string().contains(words).then_some(ready)
    })
}

fn counted(gateway: &Gateway, outcome: &str) -> f64 {
    let (_, metrics) = get(&format!("{}/metrics", gateway.admin)).unwrap();
    let name = format!("loopgate_policy_pulls_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |count| count.parse().unwrap())
}

#[test]
fn whatever_the_server_sends_the_live_policy_goes_on_deciding() {
    let sandbox = Sandbox::start();
    let home = home(&sandbox.url);
    let live = signed(&home, "live.tar.gz", 10);
    close_org(&home);
    let newer = signed(&home, "newer.tar.gz", 11);
    let mut flipped = newer.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let bad = [
        ("not_a_bundle", flipped),
        ("signature_missing", build(&home, "unsigned.tar.gz", 11, &[])),
        ("signature_invalid", resigned(&home, "newer.tar.gz", "stranger.key", "prod")),
        ("scope_mismatch", resigned(&home, "newer.tar.gz", "ci.key", "test")),
        ("older_revision", signed(&home, "older.tar.gz", 9)),
        ("older_revision", signed(&home, "same.tar.gz", 10)),
    ];
    let server = Server::start();
    server.serves(&live);
    pull_from(&home, &server);
    let gateway = Gateway::serve(&home);
    let token = home.token();
    assert!(allowed(&gateway, &token));
    for (place, (code, bytes)) in bad.iter().enumerate() {
        server.serves(bytes);
        until("it is sent", || (server.sent() == place + 2).then_some(()));
        waits_for_finding(&gateway, code);
        assert!(allowed(&gateway, &token), "{code} decides");
        until("it is not asked for again", || (server.spared() > place).then_some(()));
    }
    assert_eq!(server.sent(), bad.len() + 1, "each was sent once");
    assert_eq!((counted(&gateway, "new"), counted(&gateway, "refused")), (1.0, 6.0));
    assert!(counted(&gateway, "unchanged") > 0.0);

    server.serves(&newer);
    until("the newer policy decides", || (!allowed(&gateway, &token)).then_some(()));
    until("nothing is wrong", || (gateway.ready().1["findings"] == json!([])).then_some(()));
    gateway.process.stop();
    let stage = |record: &&Value, stage: &str| record["unmapped"]["loopgate"]["stage"] == stage;
    let records = home.records();
    let refusals = records.iter().filter(|record| stage(record, "policy.refused")).count();
    assert_eq!(refusals, bad.len(), "each refusal is recorded once");
    assert_eq!(records.iter().filter(|record| stage(record, "policy.activated")).count(), 2);
    home.verify().exits(0);
}

#[test]
fn after_a_restart_without_the_server_the_last_good_policy_decides() {
    let sandbox = Sandbox::start();
    let home = home(&sandbox.url);
    let older = signed(&home, "older.tar.gz", 9);
    close_org(&home);
    let live = signed(&home, "live.tar.gz", 10);
    let server = Server::start();
    server.serves(&live);
    pull_from(&home, &server);
    let check = || run(&["check", "--config", &home.config()]);
    check().exits(0);
    let token = home.token();
    let mut gateway = Gateway::serve(&home);
    assert!(!allowed(&gateway, &token));
    gateway.process.signal(rustix::process::Signal::KILL);
    gateway.process.ended(crate::harness::AT_ONCE);

    let address = server.stop();
    let said = check().exits(2);
    assert!(said.err.contains("policy.bundle.url: ") && said.err.contains("gives no bundle"), "{said:?}");
    let gateway = Gateway::serve(&home);
    assert!(!allowed(&gateway, &token), "the stored policy decides at once");
    waits_for_finding(&gateway, "gives no bundle");

    // Whoever has taken the server's place has an old bundle, well signed.
    let server = Server::at(address);
    server.serves(&older);
    waits_for_finding(&gateway, "older_revision: .manifest: its serial 9 is before 10");
    assert!(!allowed(&gateway, &token));
    assert!(check().exits(2).err.contains("older_revision"));
    gateway.process.stop();

    home.settings(|text| text.replace("scope: prod", "scope: prod, allow_rollback: true"));
    let gateway = Gateway::serve(&home);
    until("the older policy decides, since that was asked for", || allowed(&gateway, &token).then_some(()));
    gateway.process.stop();
    home.verify().exits(0);
}

fn verify(home: &Home, name: &str, more: &[&str]) -> Said {
    run(&[&["policy", "bundle", "verify", &home.path(name), "--key", &home.path("ci.pub")], more].concat())
}

#[test]
fn verify_says_who_signed_what_or_why_nobody_should_trust_it() {
    let home = home("http://127.0.0.1:9");
    signed(&home, "b.tar.gz", 7);
    let said = verify(&home, "b.tar.gz", &["--scope", "prod"]).exits(0);
    let starts =
        ["ok: signed by the owner of ", "revision b.tar.gz", "serial   7, built at ", "bundle   ", "data     "];
    assert!(starts.iter().zip(said.out.lines()).all(|(start, line)| line.starts_with(start)), "{said:#?}");
    let found = verify(&home, "b.tar.gz", &["--scope", "prod", "--json"]).exits(0).json();
    assert_eq!(
        (&found["ok"], &found["serial"], &found["signed"]["algorithm"]),
        (&json!(true), &json!(7), &json!("EdDSA"))
    );
    assert!(found["roots"].as_array().unwrap().contains(&json!("loopiq/gateway")));

    std::fs::write(home.path("other.tar.gz"), resigned(&home, "b.tar.gz", "other.key", "prod")).unwrap();
    build(&home, "unsigned.tar.gz", 7, &[]);
    for (name, scope, code) in [
        ("b.tar.gz", "test", "scope_mismatch"),
        ("other.tar.gz", "prod", "signature_invalid"),
        ("unsigned.tar.gz", "prod", "signature_missing"),
    ] {
        let said = verify(&home, name, &["--scope", scope]).exits(1);
        assert!(said.out.starts_with(&format!("{code}: .signatures.json: ")), "{said:?}");
        assert_eq!(said.err, "error: 1 fault; do not trust this bundle\n");
        let found = verify(&home, name, &["--scope", scope, "--json"]).exits(1).json();
        assert_eq!((&found["ok"], &found["faults"][0]["code"]), (&json!(false), &json!(code)));
        assert!(found["faults"][0]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
    }
    let said = run(&["policy", "bundle", "verify", &home.path("b.tar.gz"), "--key", &home.path("ci.key")]).exits(2);
    assert!(said.err.contains("belongs to the signer alone"), "{said:?}");
    verify(&home, "not-there", &[]).exits(2);
    home.write("torn.tar.gz", "torn");
    assert!(verify(&home, "torn.tar.gz", &[]).exits(1).err.contains("not_a_bundle"));
}

#[test]
fn the_same_folder_at_the_same_time_gives_the_same_bytes_and_the_same_policy() {
    let home = home("http://127.0.0.1:9");
    let key = home.path("ci.key");
    let more = ["--at", "2026-11-20T10:00:00Z", "--sign", key.as_str(), "--key-id", "k1"];
    assert_eq!(build(&home, "one.tar.gz", 3, &more), build(&home, "two.tar.gz", 3, &more));
    let digests = |path: &str| {
        let said = run(&["policy", "check", path, "--catalog", &shown(&of_repository("config/catalog.yaml"))]).exits(0);
        said.out
            .lines()
            .filter(|line| line.starts_with("bundle ") || line.starts_with("data "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(digests(&home.path("policies")), digests(&home.path("one.tar.gz")));
    assert_eq!(digests(&home.path("policies")).len(), 2);
    let shown = run(&["policy", "bundle", "show", &home.path("one.tar.gz"), "--json"]).exits(0).json();
    assert_eq!((&shown["signed"], &shown["built_at"]), (&json!(true), &json!("2026-11-20T10:00:00Z")));
}

#[test]
fn nothing_is_built_that_would_not_load_and_no_key_is_overwritten() {
    let home = home("http://127.0.0.1:9");
    let rules = "policies/loopiq/gateway/roles.rego";
    home.write(rules, &(home.read(rules) + "\nallow if {\n"));
    let out = home.path("b.tar.gz");
    let said = run(&["policy", "bundle", "build", &home.path("policies"), "-o", &out]).exits(1);
    assert!(said.out.contains("roles.rego:") && !std::path::Path::new(&out).exists(), "{said:?}");
    let key = home.read("ci.key");
    run(&["policy", "bundle", "keygen", "--out", &home.path("ci.key")]).exits(2);
    assert_eq!(home.read("ci.key"), key);
    let said = run(&["policy", "bundle", "build", &home.path("policies"), "--scope", "prod"]).exits(2);
    assert!(said.err.contains("--sign"), "{said:?}");
}
