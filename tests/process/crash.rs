//! `kill -9` under load: what was answered is recorded, and what was changed afterwards is named.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::harness::AT_ONCE;
use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Sandbox;
use crate::harness::audit_ref;
use crate::harness::call;
use crate::harness::copy;
use crate::harness::read_certification;
use crate::harness::run;
use crate::harness::until;

const CLIENTS: usize = 16;
const ROUNDS: usize = 3;
/// Answers in a round before the kill: enough for every client to be in the middle of something.
const ANSWERS: usize = 100;

/// Reads, writes and refusals, from many clients at once, until the gateway is killed; what was answered.
fn load_until_killed(gateway: &mut Gateway, token: &str) -> BTreeSet<String> {
    let answered = Mutex::new(BTreeSet::new());
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (answered, count, mcp) = (&answered, &count, gateway.mcp.clone());
            scope.spawn(move || {
                for turn in client.. {
                    let answer = match turn % 3 {
                        0 => read_certification(&mcp, token),
                        1 => call(&mcp, token, "loopiq_create_work_item", &work_item(turn)),
                        _ => call(&mcp, token, "loopiq_no_such_tool", &json!({})),
                    };
                    match answer {
                        Ok(result) => assert!(answered.lock().unwrap().insert(audit_ref(&result)), "a reference twice"),
                        // An unknown tool is a protocol error in itself; anything else means that it is dead.
                        Err(words) if words.contains("-32602") => {}
                        Err(_) => return,
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        until("answers under load", || (count.load(Ordering::Relaxed) >= ANSWERS).then_some(()));
        gateway.process.signal(Signal::KILL);
    });
    assert_eq!(gateway.process.ended(AT_ONCE), -9);
    answered.into_inner().unwrap()
}

fn work_item(turn: usize) -> Value {
    json!({"title": format!("item {turn}"), "type": "task", "parent": "WI-1001", "owner": "ada"})
}

/// Writes among these records that the backend has carried out.
fn written(home: &Home, answered: &BTreeSet<String>) -> usize {
    let is = |record: &Value, pointer: &str, value: &str| record.pointer(pointer).is_some_and(|found| found == value);
    let records = home.records().into_iter().filter(|record| {
        is(record, "/unmapped/loopgate/tool", "loopiq_create_work_item")
            && is(record, "/unmapped/loopgate/execution/outcome", "executed")
            && record["metadata"]["uid"].as_str().is_some_and(|uid| answered.contains(uid))
    });
    records.count()
}

fn recorded(home: &Home) -> BTreeSet<String> {
    home.records().iter().map(|record| record["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
}

/// The segments of the only writer, the latest last.
fn segments(home: &Home) -> Vec<PathBuf> {
    let dir = home.path("audit/gateway-1");
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    found.sort_by_key(|path| {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (epoch, first) = stem.split_once('-').unwrap();
        (epoch.parse::<u64>().unwrap(), first.parse::<u64>().unwrap())
    });
    found
}

#[test]
fn after_kill_9_under_load_every_answered_call_is_recorded_and_the_journal_verifies() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let token = home.token();
    let mut answered = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut gateway = Gateway::serve(&home);
        if round > 0 {
            home.verify().exits(0);
        }
        answered.append(&mut load_until_killed(&mut gateway, &token));
        let said = home.verify().exits(0);
        assert!(said.out.contains("fine"), "before the next start: {said:?}");
    }
    let gateway = Gateway::serve(&home);
    let said = home.verify().exits(0);
    assert!(said.out.contains(&format!("{} epochs", ROUNDS + 1)), "{said:?}");
    let lost: Vec<_> = answered.difference(&recorded(&home)).cloned().collect();
    assert!(lost.is_empty() && answered.len() >= ROUNDS * ANSWERS / 3, "{} answered, lost: {lost:?}", answered.len());
    assert!(written(&home, &answered) > ROUNDS, "the load has writes in it");
    gateway.process.stop();
    home.verify().exits(0);
}

#[test]
fn a_torn_last_line_was_never_acknowledged_and_is_put_aside() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let token = home.token();
    let mut gateway = Gateway::serve(&home);
    let answered = audit_ref(&read_certification(&gateway.mcp, &token).unwrap());
    gateway.process.signal(Signal::KILL);
    gateway.process.ended(AT_ONCE);
    let last = segments(&home).pop().unwrap();
    OpenOptions::new().append(true).open(last).unwrap().write_all(b"{\"activity_id\":1,\"ca").unwrap();
    let said = home.verify().exits(0);
    assert!(said.out.contains("20 bytes behind the last record"), "{said:?}");
    let gateway = Gateway::serve(&home);
    let again = audit_ref(&read_certification(&gateway.mcp, &token).unwrap());
    gateway.process.stop();
    let said = home.verify().exits(0);
    assert!(said.out.contains("2 epochs") && said.out.contains(".torn"), "{said:?}");
    let recorded = recorded(&home);
    assert!(recorded.contains(&answered) && recorded.contains(&again));
}

#[test]
fn one_changed_byte_is_exit_1_and_names_segment_line_and_record() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let token = home.token();
    let gateway = Gateway::serve(&home);
    let changed = audit_ref(&read_certification(&gateway.mcp, &token).unwrap());
    read_certification(&gateway.mcp, &token).unwrap();
    gateway.process.stop();
    home.verify().exits(0);
    let segment = segments(&home).remove(0);
    let text = std::fs::read_to_string(&segment).unwrap();
    let uid = format!("\"uid\":\"{changed}\"");
    let line = text.lines().position(|line| line.contains(&uid) && line.contains("\"ada\"")).unwrap();
    let place = text.lines().take(line).map(|line| line.len() + 1).sum::<usize>();
    for (what, from, to) in [("a user", "\"ada\"", "\"adb\""), ("a bracket", "}", "]"), ("a line end", "\n", " ")] {
        let copied = home.path("copied");
        copy(Path::new(&home.path("audit")), Path::new(&copied));
        let mut bytes = text.clone().into_bytes();
        let at = place + text.split_at(place).1.find(from).unwrap();
        bytes.splice(at..at + from.len(), to.bytes());
        let target = Path::new(&copied).join("gateway-1").join(segment.file_name().unwrap());
        std::fs::write(target, bytes).unwrap();
        let key = home.path("keys/audit.pub");
        let said = run(&["audit", "verify", &copied, "--pub", &key]).exits(1);
        assert!(said.out.contains(&format!("ALTERED: segment 1-0.jsonl, line {}", line + 1)), "{what}: {said:?}");
        if what == "a user" {
            assert!(said.out.contains(&format!("record {changed}, request ")), "{what}: {said:?}");
        }
        let json = run(&["audit", "verify", &copied, "--pub", &key, "--json"]).exits(1).json();
        let finding = &json["writers"][0]["findings"][0];
        assert_eq!((&finding["kind"], &finding["line"]), (&json!("altered"), &json!(line + 1)), "{what}: {json:#}");
    }
}
