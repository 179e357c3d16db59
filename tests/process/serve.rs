//! `loopgate serve`: what it says of itself, how it stops, and how it starts on what is broken.

use std::net::TcpListener;
use std::net::TcpStream;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::harness::AT_ONCE;
use crate::harness::FREE;
use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Sandbox;
use crate::harness::Stream;
use crate::harness::audit_ref;
use crate::harness::get;
use crate::harness::read_certification;
use crate::harness::run;
use crate::harness::until;

const CERTIFICATION: &str = "/api/v1/releases/backend-v1.0-GCN/certification";

#[test]
fn a_gateway_lives_is_ready_and_counts() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let gateway = Gateway::serve(&home);
    assert_eq!(get(&format!("{}/healthz", gateway.admin)).unwrap(), (200, "ok\n".to_owned()));
    let (status, ready) = gateway.ready();
    assert_eq!((status, &ready["ready"], &ready["journal"]), (200, &json!(true), &json!("ok")), "{ready:#}");
    assert_eq!(ready["findings"], json!([]), "{ready:#}");
    read_certification(&gateway.mcp, &home.token()).unwrap();
    let (status, metrics) = get(&format!("{}/metrics", gateway.admin)).unwrap();
    let counted = metrics.lines().any(|line| line.starts_with("loopgate_requests_total{") && line.ends_with(" 1"));
    assert!(status == 200 && counted, "{metrics}");
    gateway.process.stop();
    home.verify().exits(0);
}

#[test]
fn sigterm_carries_the_call_under_way_to_its_end_and_takes_no_other() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let mut gateway = Gateway::serve(&home);
    let token = home.token();
    sandbox.fault(&json!({"path": CERTIFICATION, "kind": "delay", "ms": 2000}));
    let mcp = gateway.mcp.clone();
    let under_way = thread::spawn(move || read_certification(&mcp, &token));
    sandbox.sees(CERTIFICATION);
    gateway.process.signal(Signal::TERM);
    until("the door to close", || TcpStream::connect(gateway.address()).is_err().then_some(()));
    assert!(!under_way.is_finished(), "the call is still under way while the door is closed");
    let result = under_way.join().unwrap().unwrap();
    assert_eq!(result["isError"], false, "{result:#}");
    assert_eq!(gateway.process.ended(AT_ONCE), 0, "{}", gateway.process.said(Stream::Err));
    let reference = json!(audit_ref(&result));
    let record = home.records().into_iter().find(|record| record["metadata"]["uid"] == reference).unwrap();
    assert_eq!(record["unmapped"]["loopgate"]["stage"], "outcome");
    home.verify().exits(0);
}

#[test]
fn a_second_signal_does_not_wait_and_says_so() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let mut gateway = Gateway::serve(&home);
    let token = home.token();
    sandbox.fault(&json!({"path": CERTIFICATION, "kind": "delay", "ms": 30_000}));
    let mcp = gateway.mcp.clone();
    let under_way = thread::spawn(move || read_certification(&mcp, &token));
    sandbox.sees(CERTIFICATION);
    gateway.process.signal(Signal::INT);
    until("the door to close", || TcpStream::connect(gateway.address()).is_err().then_some(()));
    gateway.process.signal(Signal::INT);
    assert_eq!(gateway.process.ended(AT_ONCE), 1);
    assert!(gateway.process.said(Stream::Err).contains("calls under way were cut off"));
    assert!(under_way.join().unwrap().is_err());
    home.verify().exits(0);
}

#[test]
fn a_signal_in_the_moment_it_serves_is_a_drain_like_any_other() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    Gateway::serve(&home).process.stop();
    home.verify().exits(0);
}

#[test]
fn an_address_in_use_is_exit_3_and_is_named() {
    let taken = TcpListener::bind(FREE).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in ["mcp", "admin"] {
        let home = Home::new("http://127.0.0.1:9");
        home.settings(|text| text.replace(&format!("{name}: \"{FREE}\""), &format!("{name}: \"{address}\"")));
        let said = run(&["serve", "--config", &home.config()]).exits(3);
        let words = said.err.lines().find(|line| line.starts_with("error: the gateway cannot start: ")).unwrap();
        assert!(words.contains(&format!("`listen.{name}` cannot listen on {address}")), "{words}");
        assert_eq!(words.matches(&address).count(), 1, "{words}");
    }
}

#[test]
fn settings_that_do_not_hold_are_exit_2_with_every_fault() {
    let home = Home::new("nowhere");
    home.settings(|text| text + "drain: 20\n");
    let said = run(&["serve", "--config", &home.config()]).exits(2);
    assert!(said.err.contains("backends[0].url") && said.err.contains("drain") && said.err.contains("2 faults"));
}

#[test]
fn a_journal_that_cannot_be_opened_is_exit_3_before_anything_is_served() {
    let home = Home::new("http://127.0.0.1:9");
    home.settings(|text| text.replace("audit: {dir: audit}", "audit: {dir: gateway.yaml/audit}"));
    let said = run(&["serve", "--config", &home.config()]).exits(3);
    assert!(said.err.contains("error: the gateway cannot start: audit"), "{said:?}");
    assert!(!said.err.contains("serving"), "{said:?}");
}

#[test]
fn broken_policies_at_the_start_keep_it_unready_until_they_are_mended() {
    let sandbox = Sandbox::start();
    let home = Home::with_own_policies(&sandbox.url);
    let file = "policies/loopiq/gateway/roles.rego";
    let good = home.read(file);
    home.write(file, &format!("{good}\nallow if {{\n"));
    let gateway = Gateway::serve(&home);
    let token = home.token();
    let (status, ready) = gateway.ready();
    assert_eq!((status, &ready["ready"]), (503, &json!(false)), "{ready:#}");
    let findings = ready["findings"].as_array().unwrap();
    let named = |words: &str| findings.iter().filter_map(Value::as_str).any(|finding| finding.contains(words));
    assert!(named("roles.rego") && named("no rules have been loaded"), "{ready:#}");
    assert_eq!(get(&format!("{}/healthz", gateway.admin)).unwrap().0, 200, "it lives all the same");
    let refused = read_certification(&gateway.mcp, &token);
    assert!(format!("{refused:?}").contains("policy_unavailable"), "{refused:?}");
    home.write(file, &good);
    until("ready", || (gateway.ready().0 == 200).then_some(()));
    assert_eq!(gateway.ready().1["findings"], json!([]));
    assert_eq!(read_certification(&gateway.mcp, &token).unwrap()["isError"], false);
    gateway.process.stop();
}
