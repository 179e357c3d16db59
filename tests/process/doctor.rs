//! `loopgate doctor`: one line for each thing that the gateway needs.

use serde_json::json;

use crate::harness::Home;
use crate::harness::Sandbox;
use crate::harness::run;

#[test]
fn what_is_well_is_one_ok_line_each() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let said = run(&["doctor", "--config", &home.config()]).exits(0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 7, "{said:#?}");
    for (line, what) in
        lines.iter().zip(["rules", "issuer main", "backend loopiq", "journal", "ledger", "policy store", "keys"])
    {
        assert!(line.starts_with("ok ") && line.contains(what), "{line}");
    }
    assert!(lines[1].ends_with("1 key"), "{said:#?}");
    let json = run(&["doctor", "--json", "--config", &home.config()]).exits(0).json();
    assert_eq!((&json["ok"], json["findings"].as_array().unwrap().len()), (&json!(true), 7));
}

#[test]
fn what_is_wrong_is_one_line_each_with_what_to_do_and_exit_3() {
    // Nothing listens on port 9; a file is no directory, not even for root.
    let home = Home::with_own_policies("http://127.0.0.1:9");
    home.settings(|text| {
        text.replace("{file: issuer/dev-issuer.jwks.json}", "{url: \"http://127.0.0.1:9/jwks\"}")
            .replace("audit: {dir: audit}", "audit: {dir: gateway.yaml/audit}")
            .replace("ledger: {path: ledger.db}", "ledger: {path: gateway.yaml/ledger.db}")
            .replace("store: store", "store: gateway.yaml/store")
    });
    let file = "policies/loopiq/gateway/roles.rego";
    home.write(file, &(home.read(file) + "\nallow if {\n"));
    let said = run(&["doctor", "--config", &home.config()]).exits(3);
    let expected = [
        ("WRONG", "rules", "`loopgate check`"),
        ("WRONG", "issuer main", "check the address and that the issuer is up"),
        ("WRONG", "backend loopiq", "check `backends[].url`"),
        ("WRONG", "journal", "or change `audit.dir`"),
        ("WRONG", "ledger", "or change `ledger.path`"),
        ("WRONG", "policy store", "or change `policy.store`"),
        ("ok ", "keys", "can be written"),
    ];
    assert_eq!(said.out.lines().count(), expected.len(), "{said:#?}");
    for (line, (mark, what, words)) in said.out.lines().zip(expected) {
        assert!(line.starts_with(mark) && line.contains(what) && line.contains(words), "{line}");
    }
    let json = run(&["doctor", "--json", "--config", &home.config()]).exits(3).json();
    let ok: Vec<_> = json["findings"].as_array().unwrap().iter().map(|finding| finding["ok"] == true).collect();
    assert_eq!((json["ok"] == true, ok), (false, vec![false, false, false, false, false, false, true]), "{json:#}");
}

#[test]
fn a_database_that_is_away_is_told_of_without_its_password() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    home.settings(|text| text.replace("{path: ledger.db}", "{kind: postgres, url_file: ledger.url}"));
    let said = run(&["check", "--config", &home.config()]).exits(2);
    assert!(said.err.contains("ledger.url") && said.err.contains("make the file readable"), "{said:#?}");
    home.write("ledger.url", "postgres://loopgate:hunter2@127.0.0.1:9/loopgate\n");
    run(&["check", "--config", &home.config()]).exits(0);
    let said = run(&["doctor", "--config", &home.config()]).exits(3);
    let line = said.out.lines().find(|line| line.contains("ledger")).unwrap();
    assert!(line.starts_with("WRONG") && line.contains("refused"), "{line}");
    assert!(!format!("{said:?}").contains("hunter2"), "{said:#?}");
}

#[test]
fn settings_that_do_not_hold_are_exit_2_in_either_form() {
    let home = Home::new("nowhere");
    assert!(run(&["doctor", "--config", &home.config()]).exits(2).err.contains("backends[0].url"));
    let json = run(&["doctor", "--json", "--config", &home.config()]).exits(2).json();
    assert_eq!(json["faults"][0]["path"], "backends[0].url");
}

#[test]
fn without_audiences_tokens_are_for_the_gateways_own_address_as_when_it_serves() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    home.settings(|text| text.replace("    audiences: [http://127.0.0.1:8080/mcp]\n", ""));
    let said = run(&["doctor", "--config", &home.config()]).exits(0);
    assert!(said.out.contains("issuer main"), "{said:#?}");
}
