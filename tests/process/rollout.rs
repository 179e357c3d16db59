//! `loopgate policy status`, `activate` and `rollback`: a change waits, is shown, goes live, is taken back.

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::harness::AT_ONCE;
use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::RELEASE;
use crate::harness::Said;
use crate::harness::Sandbox;
use crate::harness::call;
use crate::harness::loopgate;
use crate::harness::run;
use crate::harness::run_this;
use crate::harness::until;

const OPEN: &str = "    admin: true\n  tools: {}\n";
const WITHOUT_RELEASES: &str = "    admin: true\n  tools: {loopiq_get_release: false}\n";

/// A home whose changed policy waits, with policies of its own.
fn gated(backend: &str) -> Home {
    let home = Home::with_own_policies(backend);
    home.settings(|text| {
        let text = text.replace("store: store,", "store: store, activation: gated, gate: {decisions: 4},");
        text + "operators: {policy: {tenants: [org_gcn], roles: [tenant_admin]}}\n"
    });
    home
}

/// `loopgate policy …` of somebody at a running gateway.
fn policy(home: &Home, gateway: &Gateway, role: &str, arguments: &[&str]) -> Said {
    home.write("token", &home.token_of("tess", role));
    let mut command: Command = loopgate(&["policy"]);
    command.args(arguments).args(["--url", &gateway.admin, "--token-file", &home.path("token")]);
    run_this(command)
}

fn status(home: &Home, gateway: &Gateway) -> Value {
    policy(home, gateway, "tenant_admin", &["status", "--json"]).exits(0).json()
}

fn sees_releases(home: &Home, gateway: &Gateway) -> bool {
    call(&gateway.mcp, &home.token(), "loopiq_get_release", &json!({"release": RELEASE})).is_ok()
}

#[test]
fn a_change_is_replayed_activated_survives_a_kill_and_is_taken_back_in_one_command() {
    let sandbox = Sandbox::start();
    let home = gated(&sandbox.url);
    let mut gateway = Gateway::serve(&home);
    for _ in 0..3 {
        assert!(sees_releases(&home, &gateway));
    }
    let tenants = home.read("policies/data/tenants.yaml");
    home.write("policies/data/tenants.yaml", &tenants.replace(OPEN, WITHOUT_RELEASES));
    let waiting = until("a policy that waits", || {
        let waiting = status(&home, &gateway)["waiting"]["revision"].clone();
        waiting.as_str().map(str::to_owned)
    });
    let shown = policy(&home, &gateway, "tenant_admin", &["status"]).exits(0).out;
    assert!(
        shown.contains(&format!("waits     {waiting}")) && shown.contains("next: loopgate policy replay"),
        "{shown}"
    );

    // Nobody can be asked in a pipe; nobody else may; and nothing goes live without a report.
    assert!(policy(&home, &gateway, "tenant_admin", &["activate"]).exits(2).err.contains("--yes"));
    assert!(policy(&home, &gateway, "release_manager", &["status"]).exits(1).err.contains("role_required"));
    let none = policy(&home, &gateway, "tenant_admin", &["activate", "--yes"]).exits(1);
    assert!(none.err.contains("gate_report_missing") && none.err.contains("policy replay"), "{}", none.err);
    assert!(sees_releases(&home, &gateway));

    let (config, candidate, report) = (home.config(), home.path("policies"), home.path("report.json"));
    run(&["policy", "replay", "--config", &config, "--candidate", &candidate, "--sign", "--out", &report]).exits(0);
    let activate = ["activate", "--report", &report, "--reason", "nobody needs releases", "--yes"];
    let live = policy(&home, &gateway, "tenant_admin", &[&activate[..], &["--json"]].concat()).exits(0).json();
    assert_eq!((&live["live"]["revision"], &live["live"]["by"]), (&waiting.as_str().into(), &"tess".into()), "{live}");
    assert!(!sees_releases(&home, &gateway));

    gateway.process.signal(Signal::KILL);
    gateway.process.ended(AT_ONCE);
    let gateway = Gateway::serve(&home);
    assert!(!sees_releases(&home, &gateway), "what was activated decides after a kill");
    let back = policy(&home, &gateway, "tenant_admin", &["rollback", "--reason", "they do"]).exits(0).out;
    assert!(
        back.contains("gone back to; by tess: they do") && back.contains(&format!("held      {waiting}")),
        "{back}"
    );
    assert!(sees_releases(&home, &gateway));
    assert!(
        policy(&home, &gateway, "tenant_admin", &["activate", "--yes"]).exits(1).err.contains("policy_nothing_waits")
    );
    gateway.process.stop();
    let stages: Vec<String> = home
        .records()
        .iter()
        .map(|record| record["unmapped"]["loopgate"]["stage"].as_str().unwrap().to_owned())
        .filter(|stage| stage.starts_with("policy."))
        .collect();
    assert_eq!(
        stages,
        [
            "policy.activated",
            "policy.waiting",
            "policy.refused",
            "policy.activated",
            "policy.activated",
            "policy.rolled_back"
        ],
        "first, waiting, no report, by tess, again after the kill, back"
    );
}

#[test]
fn a_store_that_cannot_be_had_keeps_the_gateway_from_starting_and_says_which() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let gateway = Gateway::serve(&home);
    home.settings(|text| {
        text.replace("audit: {dir: audit}", "audit: {dir: audit2}").replace("ledger.db", "ledger2.db")
    });
    let second = run(&["serve", "--config", &home.config()]).exits(3);
    assert!(second.err.contains("policy.store") && second.err.contains("another gateway"), "{}", second.err);
    gateway.process.stop();
}
