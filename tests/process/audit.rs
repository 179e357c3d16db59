//! `loopgate audit`: what people read of a journal that a gateway wrote, and the exit codes.

use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Sandbox;
use crate::harness::audit_ref;
use crate::harness::call;
use crate::harness::read_certification;
use crate::harness::run;
use crate::harness::run_this;

/// A journal with a read, a refusal and the longest tool name; the read's reference.
fn journal() -> (Home, String) {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let gateway = Gateway::serve(&home);
    let token = home.token();
    let read = read_certification(&gateway.mcp, &token).unwrap();
    for (tool, arguments) in [
        ("loopiq_refresh_release_certification_evidence_graph", json!({"release": "backend-v1.0-GCN"})),
        (
            "loopiq_decide_release_certification",
            json!({"release": "backend-v1.0-GCN", "decision": "reject", "reason": "because ".repeat(30)}),
        ),
    ] {
        call(&gateway.mcp, &token, tool, &arguments).unwrap();
    }
    gateway.process.stop();
    (home, audit_ref(&read))
}

fn too_wide(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.chars().count() > 100).collect()
}

#[test]
fn the_table_and_the_story_are_readable_at_a_hundred_columns_and_carry_no_colours_into_a_pipe() {
    let (home, reference) = journal();
    let config = home.config();
    let table = run(&["audit", "query", "--config", &config]).exits(0).out;
    assert!(too_wide(&table).is_empty(), "{table}");
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|day| day.ends_with(" UTC")), "{table}");
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["TIME", "TENANT", "USER", "RESULT", "REF", "WHAT"]);
    let row = lines.find(|line| line.contains(&reference)).unwrap();
    assert!(row.contains("org_gcn  ada ") && row.contains("loopiq_get_release_certification"), "{row}");
    assert!(table.contains("approval_required"), "{table}");
    let whole = run(&["audit", "query", "--config", &config, "--json"]).exits(0).out;
    for id in [reference.clone(), id_of(&whole, &reference)] {
        let story = run(&["audit", "show", "--config", &config, &id]).exits(0).out;
        assert!(story.contains("executed 200") && story.contains("ada in org_gcn"), "{story}");
        let took = story.lines().find(|line| line.trim_start().starts_with("took")).unwrap();
        let order = ["receive", "authenticate", "decide", "forward"].map(|step| took.find(step).unwrap());
        assert!(order.is_sorted(), "the steps stand in the order of the sentence: {took}");
    }
    let refused = whole.lines().find(|line| line.contains("approval_required")).unwrap();
    let refused: Value = serde_json::from_str(refused).unwrap();
    let story = run(&["audit", "show", "--config", &config, refused["metadata"]["uid"].as_str().unwrap()]).exits(0).out;
    assert!(too_wide(&story).is_empty(), "{story}");
    assert!(!table.contains('\u{1b}') && !story.contains('\u{1b}'));
}

/// The request id of a record.
fn id_of(records: &str, reference: &str) -> String {
    let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let record = records.into_iter().find(|record| record["metadata"]["uid"] == reference).unwrap();
    record["api"]["request"]["uid"].as_str().unwrap().to_owned()
}

#[test]
fn filters_narrow_and_nonsense_is_refused_and_not_answered_with_nothing() {
    let (home, reference) = journal();
    let config = home.config();
    let count = |more: &[&str]| {
        run(&[&["audit", "query", "--config", &config, "--json"], more].concat()).exits(0).out.lines().count()
    };
    let all = count(&[]);
    assert!(count(&["--user", "ada"]) < all);
    assert_eq!((count(&["--code", "approval_required"]), count(&["--user", "nobody"])), (1, 0));
    assert_eq!((count(&["--limit", "2"]), count(&["--stage", "config"])), (2, 1));
    assert_eq!((count(&["--until", "2026-01-01"]), count(&["--since", "2026-01-01"])), (0, all));
    let few = run(&["audit", "query", "--config", &config, "--limit", "1"]).exits(0).out;
    assert!(few.ends_with("records; --limit 0 shows all\n"), "{few}");
    for (option, nonsense) in [("--stage", "outcomes"), ("--since", "yesterday"), ("--limit", "all")] {
        let said = run(&["audit", "query", "--config", &config, option, nonsense]).exits(2);
        assert!(said.err.starts_with("error: ") && said.err.contains(nonsense), "{said:?}");
    }
    run(&["audit", "query", "not-there"]).exits(2);
    assert_eq!(
        run(&["audit", "show", "--config", &config, "no-such-id"]).exits(1).out,
        "no record goes by `no-such-id`\n"
    );
    let rest = run(&["audit", "show", "--config", &config, "--json", &reference]).exits(0).out;
    assert!(rest.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && !rest.is_empty());
}

#[test]
fn verify_keeps_its_own_exit_codes_apart_from_wrong_usage() {
    let (home, _) = journal();
    let (config, journal) = (home.config(), home.path("audit"));
    let key = home.path("keys/audit.pub");
    run(&["audit", "verify", &journal, "--pub", &key]).exits(0);
    let json = run(&["audit", "verify", "--config", &config, "--json"]).exits(0).json();
    assert_eq!((&json["ok"], &json["exit"]), (&json!(true), &json!(0)));
    let misused: [&[&str]; 6] = [
        &["--nonsense"],
        &[&journal],
        &[&journal, "--pub", "not-there.pub"],
        &[&journal, "--pub", &key, "--unsigned-seconds", "many"],
        &["--config", "not-there.yaml"],
        &[],
    ];
    for words in misused {
        let said = run(&[&["audit", "verify"], words].concat()).exits(64);
        assert!(said.err.starts_with("error: ") && said.out.is_empty(), "{said:?}");
    }
    run(&["audit", "verify", "--help"]).exits(0);
    run(&["token", "init", "--dir", &home.path("other")]).exits(0);
    std::fs::remove_file(home.path("audit/gateway-1/checkpoints")).unwrap();
    let unsigned = run(&["audit", "verify", "--config", &config, "--unsigned-seconds", "0"]);
    assert_eq!(unsigned.exits(4).out.matches("UNSIGNED").count(), 1);
    std::fs::remove_dir_all(home.path("audit/gateway-1")).unwrap();
    assert!(run(&["audit", "verify", "--config", &config]).exits(2).out.contains("MISSING"));
}

#[test]
fn a_reader_who_has_seen_enough_ends_a_listing_quietly() {
    let (home, _) = journal();
    let mut bash = Command::new("bash");
    let listing =
        format!("{} audit query --config '{}' --json --limit 0", env!("CARGO_BIN_EXE_loopgate"), home.config());
    bash.args(["-c", &format!("set -o pipefail; {{ for i in 1 2 3 4; do {listing}; done; }} | head -c 10")]);
    let said = run_this(bash);
    assert_eq!((said.out.len(), said.err.as_str()), (10, ""), "{said:?}");
}
