//! `loopgate check`: everything is loaded, nothing is served, every fault is told at once.

use serde_json::json;

use crate::harness::Home;
use crate::harness::run;

const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn good_settings_are_ok_without_anything_to_reach() {
    let home = Home::new(NOWHERE);
    let said = run(&["check", "--config", &home.config()]).exits(0);
    assert!(said.out.starts_with("ok: 43 tools, policy ") && said.err.is_empty(), "{said:?}");
    let json = run(&["check", "--json", "--config", &home.config()]).exits(0).json();
    assert_eq!((&json["ok"], &json["tools"]), (&json!(true), &json!(43)));
    let left: Vec<_> = std::fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing is made: {left:?}");
}

#[test]
fn five_faults_of_form_and_of_meaning_are_five_lines_each_with_its_path_and_a_remedy() {
    let home = Home::new("ftp://backend.example");
    home.settings(|text| {
        text.replace("algorithms: [EdDSA]", "algorithms: [none]").replacen(
            "listen: {mcp: \"127.0.0.1:0\"",
            "listen: {mcp: \"everywhere\"",
            1,
        ) + "drain: 20\ncolour: red\n"
    });
    let expected = [
        ("listen.mcp", "`everywhere` is not an address", "write it as"),
        ("issuers[0].algorithms", "`none` is not accepted", "use RS256"),
        ("backends[0].url", "`ftp://backend.example` is not a URL", "write it as"),
        ("drain", "20 is not", "see config/gateway.yaml"),
        ("colour", "`colour` is no option", "take it out"),
    ];
    let said = run(&["check", "--config", &home.config()]).exits(2);
    assert_eq!((said.err.lines().count(), said.out.as_str()), (expected.len() + 1, ""), "{said:#?}");
    assert!(said.err.ends_with("5 faults\n"), "{said:#?}");
    let json = run(&["check", "--json", "--config", &home.config()]).exits(2).json();
    assert_eq!(json["ok"], false);
    for (path, fault, remedy) in expected {
        let place = format!("{}: {path}: ", home.config());
        let line =
            said.err.lines().find(|line| line.starts_with(&place)).unwrap_or_else(|| panic!("{path}: {said:#?}"));
        assert!(line.contains(fault) && line.contains(remedy), "{line}");
        let told = json["faults"].as_array().unwrap().iter().find(|told| told["path"] == path).unwrap();
        assert!(told["fault"].as_str().unwrap().contains(fault), "{told}");
        assert!(told["remedy"].as_str().unwrap().contains(remedy), "{told}");
    }
}

#[test]
fn settings_that_are_not_there_are_named_once() {
    let said = run(&["check", "--config", "not-there.yaml"]).exits(2);
    assert_eq!(said.err.matches("not-there.yaml").count(), 1, "{said:?}");
    assert!(said.err.contains("1 fault\n"), "{said:?}");
}

#[test]
fn what_is_no_yaml_is_told_with_its_line() {
    let home = Home::new(NOWHERE);
    home.settings(|text| text + "listen: [\n");
    let said = run(&["check", "--config", &home.config()]).exits(2);
    assert!(said.err.starts_with(&format!("{}: settings: line ", home.config())), "{said:#?}");
}

#[test]
fn what_would_keep_the_rules_from_being_loaded_is_told_with_its_place() {
    let home = Home::with_own_policies(NOWHERE);
    let file = "policies/loopiq/gateway/roles.rego";
    home.write(file, &(home.read(file) + "\nallow if {\n"));
    let said = run(&["check", "--config", &home.config()]).exits(2);
    assert!(said.err.contains("roles.rego:"), "{said:?}");
    let json = run(&["check", "--json", "--config", &home.config()]).exits(2).json();
    assert!(json["faults"][0]["message"].as_str().unwrap().contains("roles.rego:"), "{json}");
}

#[test]
fn a_catalog_that_needs_a_backend_which_is_not_there_is_a_fault() {
    let home = Home::new(NOWHERE);
    home.settings(|text| text.replace("backends:\n  - url", "backends:\n  - name: other\n    url"));
    let said = run(&["check", "--config", &home.config()]).exits(2);
    assert!(said.err.contains("`loopiq`") && said.err.contains("add a backend of that name"), "{said:?}");
}

#[test]
fn secrets_and_rules_that_cannot_be_used_are_told_together() {
    let home = Home::with_own_policies(NOWHERE);
    home.settings(|text| {
        let issuer = "    kind: loopiq\n    algorithms: [HS256]\n    keys: {secret_file: no-secret}";
        let backend = format!("- url: {NOWHERE}\n    propagation: {{mode: static, secret_file: no-credential}}\n");
        text.replace("    algorithms: [EdDSA]\n    keys: {file: issuer/dev-issuer.jwks.json}", issuer)
            .replace(&format!("- url: {NOWHERE}\n"), &backend)
    });
    let file = "policies/loopiq/gateway/roles.rego";
    home.write(file, &(home.read(file) + "\nallow if {\n"));
    let said = run(&["check", "--config", &home.config()]).exits(2);
    for words in ["no-secret", "backend `loopiq`", "no-credential", "roles.rego:", "3 faults"] {
        assert!(said.err.contains(words), "{words}: {said:#?}");
    }
}
