//! `loopgate catalog`: from a backend's own API document to a gateway that serves its tools.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use crate::harness::Gateway;
use crate::harness::Home;
use crate::harness::Sandbox;
use crate::harness::ask;
use crate::harness::of_repository;
use crate::harness::read_certification;
use crate::harness::run;
use crate::harness::shown;

#[test]
fn a_backends_api_document_becomes_a_catalog_that_lints_and_serves() {
    let sandbox = Sandbox::start();
    let home = Home::new(&sandbox.url);
    let imported = home.path("imported.yaml");
    let said = run(&["catalog", "import", &format!("{}/openapi.json", sandbox.url), "--out", &imported]).exits(0);
    assert!(said.out.is_empty() && said.err.contains(" routes imported; "), "{said:?}");
    let lint = run(&["catalog", "lint", &imported]).exits(0);
    assert_eq!(lint.out, "43 tools, nothing to mend\n");
    let json = run(&["catalog", "lint", "--json", &imported]).exits(0).json();
    assert_eq!(json, json!({"loads": true, "tools": 43, "findings": []}));
    home.settings(|text| text.replace(&shown(&of_repository("config/catalog.yaml")), "imported.yaml"));
    let gateway = Gateway::serve(&home);
    let token = home.token();
    let listed = ask(&gateway.mcp, &token, "tools/list", &json!({})).unwrap();
    let names: BTreeSet<&str> =
        listed["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains("loopiq_get_release_certification"), "{names:?}");
    let result = read_certification(&gateway.mcp, &token).unwrap();
    assert_eq!(
        (&result["isError"], &result["_meta"]["com.loopiq/audit"]["tenant"]),
        (&json!(false), &json!("org_gcn"))
    );
    gateway.process.stop();
}

#[test]
fn an_import_is_the_same_in_a_pipe_and_in_json() {
    let sandbox = Sandbox::start();
    let document = format!("{}/openapi.json", sandbox.url);
    let home = Home::new(&sandbox.url);
    let file = home.path("imported.yaml");
    run(&["catalog", "import", &document, "--out", &file]).exits(0);
    assert_eq!(run(&["catalog", "import", &document]).exits(0).out, home.read("imported.yaml"));
    let json = run(&["catalog", "import", &document, "--json"]).exits(0).json();
    assert!(json["catalog"].is_object() && json["notes"].as_array().is_some_and(|notes| !notes.is_empty()), "{json:#}");
    let unwritable = run(&["catalog", "import", &document, "--out", &format!("{file}/catalog.yaml")]).exits(2);
    assert!(unwritable.err.contains("error: cannot use "), "{unwritable:?}");
}

#[test]
fn what_cannot_be_fetched_is_exit_3_and_what_is_no_api_document_exit_2() {
    let sandbox = Sandbox::start();
    for url in ["http://127.0.0.1:9/openapi.json".to_owned(), format!("{}/nothing-here.json", sandbox.url)] {
        let said = run(&["catalog", "import", &url]).exits(3);
        assert!(said.err.starts_with("error: ") && said.err.contains(&url) && said.out.is_empty(), "{said:?}");
        assert_eq!(said.err.matches(&url).count(), 1, "{said:?}");
    }
    for file in [shown(&of_repository("config/gateway.yaml")), "not-there.json".to_owned()] {
        let said = run(&["catalog", "import", &file]).exits(2);
        assert!(said.err.starts_with("error: ") && said.out.is_empty(), "{said:?}");
    }
}

#[test]
fn lint_names_every_fault_with_a_remedy_and_exits_1() {
    let home = Home::new("http://127.0.0.1:9");
    let text = std::fs::read_to_string(of_repository("config/catalog.yaml")).unwrap();
    let spoilt = text.replacen("effect: read", "effect: reads", 1).replacen("impact: high", "impact: higher", 1);
    home.write("catalog.yaml", &spoilt);
    let said = run(&["catalog", "lint", &home.path("catalog.yaml")]).exits(1);
    assert_eq!(said.out.matches("remedy: ").count(), 2, "{said:?}");
    assert!(said.out.ends_with("the catalog does not load: 2 faults\n"), "{said:?}");
    let json = run(&["catalog", "lint", "--json", &home.path("catalog.yaml")]).exits(1).json();
    assert_eq!((&json["loads"], json["findings"].as_array().map(Vec::len)), (&json!(false), Some(2)));
    let show = run(&["catalog", "show", "loopiq_get_release", "--file", &home.path("catalog.yaml")]).exits(2);
    assert!(show.err.contains("2 faults"), "{show:?}");
    run(&["catalog", "lint", "not-there.yaml"]).exits(2);
}

#[test]
fn every_tool_is_shown_within_a_hundred_columns_and_as_json() {
    let all = run(&["catalog", "show", "nothing"]).exits(1);
    assert!(all.err.starts_with("error: no tool `nothing`"), "{all:?}");
    for tool in ["loopiq_create_remediation_work_package", "loopiq_invoke_route", "loopiq_update_tenant_settings"] {
        let said = run(&["catalog", "show", tool]).exits(0);
        assert!(said.out.starts_with(tool), "{said:?}");
        let wide: Vec<&str> = said.out.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{wide:#?}");
        let json: Value = run(&["catalog", "show", tool, "--json"]).exits(0).json();
        assert_eq!(json["name"], tool);
    }
}
