//! Promises of the catalog, tried on the catalog that comes with the gateway and on broken ones.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn built_in() -> &'static Catalog {
    static CATALOG: std::sync::LazyLock<Catalog> =
        std::sync::LazyLock::new(|| Catalog::from_yaml(BUILT_IN).unwrap_or_else(|faults| panic!("{faults:#?}")));
    &CATALOG
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
    assert_eq!(catalog.tools().count(), 41);
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
    let get = "effect: read\nroute: GET /a";
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
    refuses("effect: wrong\nroute: GET /a", "tools[t].effect", "");
    refuses("effect: read\nroute: GET /a\ncolour: red", "tools[t].colour", "not known");
    refuses("effect: read\nroute: GET /a/{b}", "tools[t].input.properties.b", "required string");
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
        let title = format!("a\\U{:0>8}b", bad);
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
        assert!(faults.iter().any(|fault| fault.path.ends_with(".name")), "{text}: {faults:?}");
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
        "`/evidenceAsOf` is not a \"date-time\"",
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
    let lines = "effect: read\nroute: GET /a\ntenant_arguments: [/tenant, '/list/*/tenant']\ninput: {type: object, properties: {tenant: {type: string}, list: {type: array}}}";
    let catalog = one(lines).unwrap();
    let tool = catalog.tool("t").unwrap();
    let foreign = |arguments: Value| tool.foreign_tenant(&object(arguments), "org_gcn").map(|refusal| refusal.code);
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
fn a_request_has_one_form() {
    let catalog = built_in();
    let build = |name: &str, arguments: Value, dry_run: bool| {
        let request = catalog.tool(name).unwrap().request(&object(arguments), dry_run).unwrap();
        let body = request.body.map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
        format!("{} {} {body}", request.method, request.path_and_query)
    };
    assert_eq!(
        build("loopiq_get_release", json!({"release": "backend-v1.0-GCN"}), false),
        "GET /api/v1/releases/backend-v1.0-GCN "
    );
    let search = json!({"limit": 20, "status": "certification", "q": "a b&c=d+é"});
    assert_eq!(
        build("loopiq_search_releases", search, false),
        "GET /api/v1/releases?limit=20&q=a%20b%26c%3Dd%2B%C3%A9&status=certification "
    );
    let item = json!({"type": "task", "title": "t", "owner": "ada"});
    assert_eq!(
        build("loopiq_create_work_item", item.clone(), false),
        r#"POST /api/v1/work-items {"owner":"ada","title":"t","type":"task"}"#
    );
    assert_eq!(
        build("loopiq_create_work_item", item, true),
        r#"POST /api/v1/work-items?dryRun=true {"owner":"ada","title":"t","type":"task"}"#
    );
    let refresh = json!({"release": "r"});
    assert_eq!(
        build("loopiq_refresh_release_certification_evidence_graph", refresh, false),
        "POST /api/v1/releases/r/certification/evidence-graph/refresh {}"
    );
}

#[test]
fn lists_in_the_query_are_explicit_and_other_structures_are_refused() {
    let catalog =
        one("effect: read\nroute: GET /a\nquery: [b, a]\ninput: {type: object, properties: {a: {}, b: {}}}").unwrap();
    let build = |arguments: Value| {
        catalog.tool("t").unwrap().request(&object(arguments), false).map(|request| request.path_and_query)
    };
    assert_eq!(build(json!({"a": ["y", "x", 1.0, true], "b": 1e3})).unwrap(), "/a?b=1000&a=y&a=x&a=1&a=true");
    assert_eq!(build(json!({"a": [], "b": ""})).unwrap(), "/a?b=");
    for bad in [
        json!({"a": null}),
        json!({"a": {"b": 1}}),
        json!({"a": [["b"]]}),
        json!({"a": [null]}),
        json!({"c": 1}),
        json!({"a": 9_007_199_254_740_993_u64}),
    ] {
        assert_eq!(build(bad.clone()).map_err(|refusal| refusal.code), Err(Code::InvalidArguments), "{bad}");
    }
}

#[test]
fn a_dry_run_is_sent_as_one_or_not_at_all() {
    let write = one("effect: write\nimpact: high\nroute: POST /a").unwrap();
    let refusal = write.tool("t").unwrap().request(&Map::new(), true).unwrap_err();
    assert_eq!((refusal.code, refusal.reasons[0].code.as_str()), (Code::InvalidArguments, "dry_run_unsupported"));
    let in_body = one("effect: write\nimpact: high\nroute: POST /a\ndry_run: {body: simulate}").unwrap();
    let request = in_body.tool("t").unwrap().request(&Map::new(), true).unwrap();
    assert_eq!(request.body.as_deref(), Some(&br#"{"simulate":true}"#[..]));
    assert!(in_body.tool("t").unwrap().request(&object(json!({"simulate": false})), true).is_err());
}

#[test]
fn no_value_leaves_its_path_segment() {
    let catalog =
        one("effect: read\nroute: GET /a/{v}/z\ninput: {type: object, required: [v], properties: {v: {type: string}}}")
            .unwrap();
    let tool = catalog.tool("t").unwrap();
    let build = |value: &str| tool.request(&object(json!({ "v": value })), false);
    let refused = [
        "",
        ".",
        "..",
        "../x",
        "..\\x",
        "x/..",
        "x/../y",
        "x\\..\\y",
        "/..",
        "./x",
        "..;/x",
        "..;a=b",
        ".;",
        "%2e",
        "%2e%2e",
        "%2E%2E",
        ".%2e",
        "%252e%252e",
        "%2e%2e%2fx",
        "%2e%2e/x",
        "..%2fx",
        "..%5cx",
        "..%252fx",
        "x%2f..%2fy",
        "x\r\ny",
        "x\ny",
        "x\0y",
        "\u{7f}",
        "\u{85}",
        "x\u{202e}y",
        "x\u{200b}",
        "e\u{301}",
        "\u{212b}",
        "\u{feff}x",
        "x\u{e0041}",
        "x\ty",
    ];
    assert!(refused.len() >= 30);
    for value in refused {
        assert_eq!(build(value).map_err(|refusal| refusal.code), Err(Code::InvalidArguments), "{value:?}");
    }
    let encoded = [
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("a?b=c", "a%3Fb%3Dc"),
        ("a#b", "a%23b"),
        ("a%b", "a%25b"),
        ("a%2fb", "a%252fb"),
        ("a;b", "a%3Bb"),
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("a&b", "a%26b"),
        ("a@b:c", "a%40b%3Ac"),
        ("http://evil/", "http%3A%2F%2Fevil%2F"),
        ("//evil", "%2F%2Fevil"),
        ("é", "%C3%A9"),
        ("...", "..."),
        ("a..b", "a..b"),
        ("{v}", "%7Bv%7D"),
        ("*", "%2A"),
        ("\"'<>", "%22%27%3C%3E"),
        ("~_-.", "~_-."),
    ];
    for (value, segment) in encoded {
        assert_eq!(build(value).unwrap().path_and_query, format!("/a/{segment}/z"), "{value:?}");
    }
    for value in [json!(1), json!(true), json!(null), json!(["a"]), json!({})] {
        assert!(tool.request(&object(json!({ "v": value })), false).is_err(), "{value}");
    }
    assert!(tool.request(&Map::new(), false).is_err());
}

#[test]
fn a_value_never_turns_one_tool_into_another() {
    let text = "
schema: 1
tools:
  - {name: get, title: T, description: D, family: f, effect: read, route: 'GET /r/{id}', input: &i {type: object, required: [id], properties: {id: {type: string}}}}
  - {name: secrets, title: T, description: D, family: f, effect: read, route: GET /r/secrets}
  - {name: part, title: T, description: D, family: f, effect: read, route: 'GET /r/{id}/part', input: *i}
  - {name: post, title: T, description: D, family: f, effect: write, impact: low, route: POST /r/keys}
";
    let catalog = Catalog::from_yaml(text).unwrap();
    let get = catalog.tool("get").unwrap();
    assert_eq!(get.request(&object(json!({"id": "secrets"})), false).unwrap_err().code, Code::InvalidArguments);
    assert!(get.request(&object(json!({"id": "Secrets"})), false).is_ok());
    assert!(get.request(&object(json!({"id": "keys"})), false).is_ok(), "another method is another route");
    assert!(catalog.tool("part").unwrap().request(&object(json!({"id": "secrets"})), false).is_ok());
}

fn raw(catalog: &Catalog, arguments: Value) -> Result<Target, ResolveFault> {
    catalog.resolve(&ToolCall { name: "loopiq_invoke_route".to_owned(), arguments: object(arguments) })
}

#[test]
fn a_raw_route_is_resolved_to_its_tool_or_refused() {
    let catalog = built_in();
    let target =
        raw(catalog, json!({"method": "PATCH", "path": "/api/v1/work-items/W-1", "body": {"title": "t"}})).unwrap();
    assert_eq!(target.tool.name, "loopiq_update_work_item");
    assert_eq!(Value::Object(target.arguments), json!({"workItem": "W-1", "title": "t"}));
    assert_eq!(target.via.unwrap().name, "loopiq_invoke_route");

    let encoded = raw(catalog, json!({"method": "GET", "path": "/api/v1/%72eleases/backend%2Dv1.0-GCN"})).unwrap();
    assert_eq!(encoded.tool.name, "loopiq_get_release");
    assert_eq!(Value::Object(encoded.arguments), json!({"release": "backend-v1.0-GCN"}));

    for path in [
        "/api/v1/releases/x/nothing",
        "/api/v1/Releases",
        "/api/v2/releases",
        "/healthz",
        "/api/v1/executions/k",
        "/openapi.json",
    ] {
        let fault = raw(catalog, json!({"method": "GET", "path": path})).unwrap_err();
        assert!(matches!(fault, ResolveFault::UnknownRoute { .. }), "{path}: {fault}");
    }
    let fault = raw(catalog, json!({"method": "DELETE", "path": "/api/v1/releases"})).unwrap_err();
    assert!(matches!(fault, ResolveFault::UnknownRoute { .. }));
    assert!(matches!(
        catalog.resolve(&ToolCall { name: "nothing".to_owned(), arguments: Map::new() }),
        Err(ResolveFault::UnknownTool(_))
    ));
}

#[test]
fn an_ambiguous_raw_route_is_refused() {
    let catalog = built_in();
    let paths = [
        "/api/v1/releases/",
        "//api/v1/releases",
        "/api/v1//releases",
        "/api/v1/./releases",
        "/api/v1/x/../releases",
        "/api/v1/%2e%2e/releases",
        "/api/v1/%2e/releases",
        "/api/v1%2freleases",
        "/api/v1/releases%2Fx",
        "/api/v1/releases/a%5cb",
        "/api/v1/releases\\x",
        "/api/v1/releases/%zz",
        "/api/v1/releases/%2",
        "/api/v1/releases/%ff",
        "/api/v1/releases/%00",
        "/api/v1/releases/%0d%0a",
        "/api/v1/releases/e%CC%81",
        "/api/v1/releases?q=1",
        "/api/v1/releases?q=1&q=2",
        "/api/v1/releases#x",
        "/api/v1/releases/%252e%252e",
        "/api/v1/releases/..;",
        "/api/v1/releases/..;x/certification",
        "http://evil/api/v1/releases",
        "api/v1/releases",
        "",
    ];
    for path in paths {
        let fault = raw(catalog, json!({"method": "GET", "path": path})).unwrap_err();
        assert!(matches!(fault, ResolveFault::Invalid { .. }), "{path}: {fault}");
    }
    let others = [
        json!({"method": "get", "path": "/api/v1/releases"}),
        json!({"method": "GET"}),
        json!({"method": "GET", "path": "/api/v1/releases", "query": "q=1"}),
        json!({"method": "GET", "path": "/api/v1/releases", "query": {"nothing": 1}}),
        json!({"method": "GET", "path": "/api/v1/releases", "query": {"dryRun": true}}),
        json!({"method": "GET", "path": "/api/v1/releases", "body": {"q": "x"}}),
        json!({"method": "GET", "path": "/api/v1/releases", "headers": {"X-LoopIQ-Tenant": "org_nordbank"}}),
        json!({"method": "PATCH", "path": "/api/v1/work-items/W-1", "body": {"workItem": "W-2", "title": "t"}}),
        json!({"method": "PATCH", "path": "/api/v1/work-items/W-1", "query": {"title": "t"}}),
        json!({"method": "POST", "path": "/api/v1/work-items", "query": {"dryRun": true}, "body": {"title": "t", "type": "task"}}),
    ];
    for arguments in others {
        let fault = raw(catalog, arguments.clone()).unwrap_err();
        assert!(matches!(fault, ResolveFault::Invalid { .. }), "{arguments}: {fault}");
    }
}

/// A plain value that a query or a body could carry.
fn plain_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~äß€]{0,12}".prop_map(Value::from)
    ]
}

proptest! {
    #[test]
    fn a_raw_route_is_its_semantic_tool(pick in any::<prop::sample::Index>(), texts in prop::collection::vec("[a-zA-Z0-9äß%/;:@ +._~-]{1,12}", 4), values in prop::collection::vec(plain_value(), 16)) {
        let catalog = built_in();
        let routed: Vec<_> = catalog.tools().filter(|tool| tool.route().is_some()).collect();
        let tool = routed[pick.index(routed.len())];
        let route = tool.route().unwrap();
        let variables: Vec<_> = tool.compiled.template.as_ref().unwrap().variables().map(str::to_owned).collect();
        let mut arguments: Map<String, Value> = variables.iter().cloned().zip(texts.into_iter().map(Value::from)).collect();
        let names: Vec<_> = route.query.iter().chain(&route.body).cloned().collect();
        arguments.extend(names.into_iter().zip(values));
        let part = |known: &[String]| -> Map<String, Value> { known.iter().filter_map(|name| Some((name.clone(), arguments.get(name)?.clone()))).collect() };
        match tool.request(&arguments, false) {
            Err(refusal) => prop_assert_eq!(refusal.code, Code::InvalidArguments),
            Ok(request) => {
                let path = request.path_and_query.split('?').next().unwrap();
                prop_assert_eq!(path.matches('/').count(), route.template.matches('/').count());
                let call = json!({"method": route.method, "path": path, "query": part(&route.query), "body": part(&route.body)});
                match raw(catalog, call) {
                    // A slash inside a segment is one encoded segment to us but two things to two readers when it comes in raw.
                    Err(fault) => prop_assert!(path.contains("%2F"), "{}: {}", path, fault),
                    Ok(target) => {
                        prop_assert_eq!(&target.tool.name, &tool.name);
                        prop_assert_eq!(target.tool.request(&target.arguments, false).unwrap(), request);
                        prop_assert_eq!(target.arguments, arguments);
                    }
                }
            }
        }
    }

    #[test]
    fn any_text_is_one_segment_that_decodes_to_itself_or_is_refused(value in any::<String>()) {
        if let Ok(segment) = template::encode(&value) {
            prop_assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
            prop_assert!(!matches!(segment.as_str(), "" | "." | ".."));
            let decoded = percent_encoding::percent_decode_str(&segment).decode_utf8().unwrap();
            prop_assert_eq!(decoded.as_ref(), value);
        }
    }

    #[test]
    fn plain_text_is_bounded_and_hides_nothing(text in any::<String>(), chars_max in 0_usize..40) {
        let plain = text::plain(&text, chars_max);
        prop_assert!(plain.chars().count() <= chars_max + 1);
        prop_assert!(!plain.chars().any(text::is_hidden));
    }
}
