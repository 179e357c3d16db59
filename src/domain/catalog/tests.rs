//! Promises of the catalog, tried on the catalog that comes with the gateway and on broken ones.

use serde_json::json;

use super::*;

mod request;
mod resolve;

fn built_in() -> &'static Catalog {
    static CATALOG: std::sync::LazyLock<Catalog> =
        std::sync::LazyLock::new(|| Catalog::from_yaml(BUILT_IN).unwrap_or_else(|faults| panic!("{faults:#?}")));
    &CATALOG
}

/// The tenant of a caller who has only this one.
fn tenant() -> Tenant {
    crate::domain::identity::forge::tenant("org_gcn")
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

/// A catalog with one tool, made of the given YAML lines.
fn one(lines: &str) -> Result<Catalog, Vec<CatalogFault>> {
    let common = "title: T\n    description: D\n    family: f\n    ";
    Catalog::from_yaml(&format!("schema: 1\ntools:\n  - name: t\n    {common}{}\n", lines.replace('\n', "\n    ")))
}

#[track_caller]
fn refuses(lines: &str, path: &str, words: &str) {
    let faults = one(lines).map(|_| ()).expect_err(lines);
    let hit = faults.iter().any(|fault| fault.path == path && fault.message.contains(words));
    assert!(hit, "{lines}\nlacks `{path}` … {words}: {faults:#?}");
    assert!(faults.iter().all(|fault| !fault.remedy.is_empty()), "{faults:#?}");
}

#[test]
fn the_built_in_catalog_loads_and_lints_clean() {
    let catalog = built_in();
    assert_eq!(catalog.lint(), Vec::new());
    assert_eq!(catalog.tools().count(), 43);
    assert_eq!(catalog.backends(), BTreeSet::from(["loopiq"]));
    let names: Vec<_> = catalog.tools().map(|tool| tool.name.clone()).collect();
    assert!(names.is_sorted());
}

#[test]
fn the_schema_of_the_file_is_the_one_committed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/catalog.schema.json");
    let now = format!("{}\n", serde_json::to_string_pretty(&raw::file_schema()).unwrap());
    #[expect(clippy::disallowed_methods, reason = "a developer asks this test to write the file")]
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(committed, now, "run `UPDATE=1 cargo test --lib the_schema_of_the_file`");
}

#[test]
fn each_fault_is_told_with_its_place_and_a_remedy() {
    refuses("effect: read", "tools[t].route", "either");
    refuses("effect: read\nroute: GET /a\ngateway: list_routes", "tools[t].route", "either");
    refuses("effect: read\nroute: FETCH /a", "tools[t].route", "start with one of");
    refuses("effect: read\nroute: get /a", "tools[t].route", "start with one of");
    for template in
        ["a", "/a//b", "/a/../b", "/a/./b", "/a/{b}.json", "/a/{b-c}", "/a/b c", "/a/%2e", "/a?b=c", "/a/", "/{b}/{b}"]
    {
        refuses(&format!("effect: read\nroute: \"GET {template}\""), "tools[t].route", "");
    }
    refuses("effect: write\nroute: POST /a", "tools[t].impact", "must state");
    refuses("effect: write\nimpact: low\nroute: GET /a", "tools[t].effect", "no write");
    refuses("effect: read\nroute: DELETE /a", "tools[t].effect", "no read");
    refuses("effect: wrong\nroute: GET /a", "tools[t].effect", r#"none of "read", "write", "admin""#);
    refuses("effect: read\nroute: GET /a\ncolour: red", "tools[t].colour", "not known");
    refuses("effect: read\nroute: GET /a/{b}", "tools[t].input.properties.b", "required string");
}

#[test]
fn a_schema_that_cannot_be_kept_is_refused() {
    let get = "effect: read\nroute: GET /a";
    refuses(&format!("{get}\ninput: {{type: array}}"), "tools[t].input.type", "object");
    refuses(
        &format!("{get}\ninput: {{type: object, additionalProperties: true}}"),
        "tools[t].input.additionalProperties",
        "no place",
    );
    refuses(
        &format!("{get}\ninput: {{type: object, properties: {{dryRun: {{type: boolean}}}}}}"),
        "tools[t].input.properties.dryRun",
        "takes this argument",
    );
    refuses(&format!("{get}\ninput: {{type: object, properties: {{a: {{type: strin}}}}}}"), "tools[t].input", "");
    refuses(
        &format!("{get}\ninput: {{type: object, properties: {{a: {{$ref: \"https://x/y\"}}}}}}"),
        "tools[t].input",
        "leaves the schema",
    );
    refuses(
        &format!("{get}\ninput: {{type: object, properties: {{a: {{$ref: \"file:///etc/passwd\"}}}}}}"),
        "tools[t].input",
        "leaves the schema",
    );
    refuses(
        &format!("{get}\ninput: {{type: object, properties: {{a: {{pattern: \"(?=x)\"}}}}}}"),
        "tools[t].input",
        "",
    );
    refuses(
        &format!("{get}\ninput: {{type: object, $schema: \"http://json-schema.org/draft-07/schema#\"}}"),
        "tools[t].input",
        "2020-12",
    );
    refuses(&format!("{get}\noutput: {{type: 7}}"), "tools[t].output", "");
}

#[test]
fn a_place_that_does_not_fit_is_refused() {
    let get = "effect: read\nroute: GET /a";
    refuses(&format!("{get}\nbody: [a]\ninput: {{type: object, properties: {{a: {{}}}}}}"), "tools[t].body", "no body");
    refuses(
        &format!("{get}\nquery: []\ninput: {{type: object, properties: {{a: {{}}}}}}"),
        "tools[t].input.properties.a",
        "0 places",
    );
    refuses(
        &format!("{get}\nquery: [a, a]\ninput: {{type: object, properties: {{a: {{}}}}}}"),
        "tools[t].input.properties.a",
        "2 places",
    );
    refuses(&format!("{get}\nquery: [b]"), "tools[t].input.properties", "no free argument");
    refuses(&format!("{get}\ntimeout: 10"), "tools[t].timeout", "");
    refuses(&format!("{get}\ntimeout: 10 parsecs"), "tools[t].timeout", "no time");
    refuses(&format!("{get}\ntimeout: 0s"), "tools[t].timeout", "no time");
    refuses(&format!("{get}\ntimeout: 1h"), "tools[t].timeout", "no time");
    refuses(&format!("{get}\ntenant_fields: [tenant]"), "tools[t].tenant_fields", "start with");
    refuses(&format!("{get}\nlookup: GET /x"), "tools[t].lookup", "no execution");
    refuses(&format!("{get}\nlookup: POST /x/{{key}}"), "tools[t].lookup", "GET");
    refuses(&format!("{get}\netag: GET /x/{{other}}"), "tools[t].etag", "variables");
    refuses(&format!("{get}\nbackend: \"a/b\""), "tools[t].backend", "name");
    refuses("effect: read\ngateway: list_routes\ntimeout: 1s", "tools[t].timeout", "itself");
    refuses("effect: write\nimpact: low\ngateway: list_routes", "tools[t].effect", "changes nothing");
    refuses("effect: write\nimpact: low\nroute: POST /a\naudit: best_effort", "tools[t].audit", "only a read");
}

#[test]
fn all_faults_are_told_at_once() {
    let faults = one("effect: read\nroute: GET /a/{b}\ntimeout: never\ntenant_fields: [x]\nbackend: ''").unwrap_err();
    assert_eq!(faults.len(), 4, "{faults:#?}");
}

#[test]
fn broken_yaml_is_told_and_never_half_read() {
    for text in [
        "",
        "tools: [",
        "schema: 1\ntools: []\ntools: []",
        "- 1",
        "schema: one\ntools: []",
        "schema: 2\ntools: []",
        "schema: 1\ntools: []\nmore: 1",
    ] {
        let faults = Catalog::from_yaml(text).map(|_| ()).expect_err(text);
        assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.remedy.is_empty()), "{text}");
    }
}

#[test]
fn names_and_descriptions_hide_nothing() {
    for bad in ["202e", "200b", "e0041", "7", "feff", "85"] {
        let title = format!("a\\U{bad:0>8}b");
        let text = format!(
            "schema: 1\ntools:\n  - {{name: t, title: \"{title}\", description: D, family: f, effect: read, route: GET /a}}"
        );
        let faults = Catalog::from_yaml(&text).map(|_| ()).expect_err(&text);
        let hit = |fault: &CatalogFault| fault.path == "tools[t].title" && fault.message.contains("invisible");
        assert!(faults.iter().any(hit), "{text}: {faults:?}");
    }
    for bad in ["", "a b", "a/b", "ü", &"x".repeat(65)] {
        let text = format!(
            "schema: 1\ntools:\n  - {{name: {bad:?}, title: T, description: D, family: f, effect: read, route: GET /a}}"
        );
        let faults = Catalog::from_yaml(&text).map(|_| ()).expect_err(&text);
        assert!(faults.iter().any(|fault| fault.path.contains("].name")), "{text}: {faults:?}");
    }
}

#[test]
fn two_tools_never_share_a_name_or_a_route() {
    let tool = |name: &str, route: &str| {
        let input = "{type: object, required: [x], properties: {x: {type: string}}}";
        format!(
            "  - {{name: {name}, title: T, description: D, family: f, effect: read, route: \"{route}\", input: {}}}\n",
            input.replace('x', if route.contains("{y}") { "y" } else { "x" })
        )
    };
    let check = |first: &str, second: &str, words: &str| {
        let faults = Catalog::from_yaml(&format!("schema: 1\ntools:\n{first}{second}")).map(|_| ()).unwrap_err();
        assert!(faults.iter().any(|fault| fault.message.contains(words)), "{faults:?}");
    };
    check(&tool("a", "GET /r/{x}"), &tool("b", "GET /r/{y}"), "is the route of `a` too");
    check(&tool("a", "GET /r/{x}"), &tool("a", "GET /s/{x}"), "stands twice");
}

#[test]
fn equal_catalogs_have_equal_digests_and_a_changed_word_changes_them() {
    let first = one("effect: read\nroute: GET /a").unwrap();
    let again = one("route:   'GET /a'\neffect: \"read\" # a remark").unwrap();
    let other = one("effect: read\nroute: GET /b").unwrap();
    assert_eq!(first.digest(), again.digest());
    assert_eq!(first.tool("t").unwrap().digest, again.tool("t").unwrap().digest);
    assert_ne!(first.digest(), other.digest());
}

#[test]
fn invalid_arguments_are_told_all_at_once_in_the_users_names() {
    let catalog = built_in();
    let tool = catalog.tool("loopiq_create_remediation_work_package").unwrap();
    let refusal = tool
        .validate(&object(json!({
            "release": "../x", "certification": "c", "title": " ", "owner": "ada", "parentStory": {},
            "tasks": [{"titel": "t"}], "evidence": "e", "blockers": [], "evidenceAsOf": "yesterday", "a\u{202e}/b": 1,
        })))
        .unwrap_err();
    assert_eq!(refusal.code, Code::InvalidArguments);
    let told =
        |words: &str| refusal.reasons.iter().any(|reason| reason.message.contains(words) && !reason.next.is_empty());
    for words in [
        "`/release` does not match",
        "`/title` does not match",
        "`/parentStory/title` is required",
        "`/tasks/0/title` is required",
        "`/tasks/0/titel` is not known",
        "`/evidence` is not of type",
        "`/evidenceAsOf` fits none of the 2 forms allowed",
        "`/a~1b` is not known",
    ] {
        assert!(told(words), "{words}: {:#?}", refusal.reasons);
    }
    assert!(!refusal.words().contains('\u{202e}'));
}

#[test]
fn at_most_twenty_faults_are_told_and_none_echoes_a_value() {
    let catalog = built_in();
    let tool = catalog.tool("loopiq_get_release").unwrap();
    let mut many: Map<String, Value> = (0..100).map(|at| (format!("x{at}"), json!("secret"))).collect();
    many.insert("release".to_owned(), json!("secret value"));
    let refusal = tool.validate(&many).unwrap_err();
    assert_eq!(refusal.reasons.len(), 20);
    assert!(!refusal.words().contains("secret"));
}

#[test]
fn control_arguments_are_offered_where_they_mean_something_and_never_validated() {
    let catalog = built_in();
    let offered = |name: &str| {
        let tool = catalog.tool(name).unwrap();
        let properties = tool.offered_input()["properties"].as_object().cloned().unwrap_or_default();
        ["dryRun", "idempotencyKey", "approvalId"].map(|control| properties.contains_key(control))
    };
    assert_eq!(offered("loopiq_get_release"), [false, false, false]);
    assert_eq!(offered("loopiq_get_diagnostics"), [false, false, false]);
    assert_eq!(offered("loopiq_create_work_item"), [true, true, false]);
    assert_eq!(offered("loopiq_create_remediation_work_package"), [true, true, true]);
    assert_eq!(offered("loopiq_invoke_route"), [true, true, true]);
    let tool = catalog.tool("loopiq_create_work_item").unwrap();
    assert!(tool.validate(&object(json!({"title": "t", "type": "task", "dryRun": true}))).is_err());
}

#[test]
fn an_argument_that_names_another_tenant_is_refused() {
    let input = "{type: object, properties: {tenant: {type: string}, list: {type: array}}}";
    let pointers = "[/tenant, '/list/*/tenant']";
    let catalog = one(&format!("effect: read\nroute: GET /a\ntenant_arguments: {pointers}\ninput: {input}")).unwrap();
    let tool = catalog.tool("t").unwrap();
    let foreign = |arguments: Value| tool.foreign_tenant(&object(arguments), &tenant()).map(|refusal| refusal.code);
    assert_eq!(foreign(json!({})), None);
    assert_eq!(foreign(json!({"tenant": "org_gcn", "list": [{"tenant": "org_gcn"}, {}]})), None);
    for other in
        [json!("org_nordbank"), json!("ORG_GCN"), json!("org_gcn "), json!(null), json!(["org_gcn"]), json!({"a": 1})]
    {
        assert_eq!(foreign(json!({ "tenant": other })), Some(Code::TenantForbidden), "{other}");
    }
    assert_eq!(
        foreign(json!({"list": [{"tenant": "org_gcn"}, {"tenant": "org_nordbank"}]})),
        Some(Code::TenantForbidden)
    );
}

#[test]
fn lint_finds_what_will_hurt() {
    let hurts = |lines: &str| -> Vec<String> {
        one(lines).unwrap_or_else(|faults| panic!("{faults:#?}")).lint().into_iter().map(|fault| fault.path).collect()
    };
    let write = "effect: write\nimpact: high\nroute: POST /a\ntenant_fields: []";
    assert_eq!(hurts(write), ["tools[t].record_ids", "tools[t].dry_run", "tools[t].idempotent"]);
    assert_eq!(hurts(&format!("{write}\nrecord_ids: [/id]\nlookup: GET /x/{{key}}")), Vec::<String>::new());
    assert_eq!(hurts("effect: read\nroute: GET /a"), ["tools[t].tenant_fields"]);
    assert_eq!(hurts("effect: read\nroute: GET /a\ntenant_fields: []\nidempotent: backend"), ["tools[t].effect"]);
    assert_eq!(hurts("effect: read\ngateway: list_resources"), Vec::<String>::new());
    let with = |property: &str| {
        hurts(&format!(
            "effect: read\nroute: GET /a\ntenant_fields: []\ninput: {{type: object, properties: {{{property}}}}}"
        ))
    };
    let text = "type: string, maxLength: 9, description: D";
    assert_eq!(with(&format!("a: {{{text}}}")), Vec::<String>::new());
    for bad in
        ["a: {type: string, maxLength: 9}", "a: {type: string, description: D}", "a: {type: array, description: D}"]
    {
        assert_eq!(with(bad), ["tools[t].input.properties.a"], "{bad}");
    }
    assert_eq!(with(&format!("tenant: {{{text}}}")), ["tools[t].input.properties.tenant"]);
    for bad in ["a b", "", "'a:b'", "7"] {
        assert_eq!(with(&format!("a: {{{text}, x-mcp-header: {bad}}}")), ["tools[t].input.properties.a"], "{bad}");
    }
    let twice = format!("a: {{{text}, x-mcp-header: R}}, b: {{{text}, x-mcp-header: r}}");
    assert_eq!(with(&twice), ["tools[t].input.properties.b"]);
}
