//! Promises of the import, tried on a plain 3.0 document and on a 3.1 document with `x-loopiq`.

use serde_json::json;

use super::*;
use crate::domain::catalog::DryRun;
use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;
use crate::domain::catalog::Tool;

const PLAIN_30: &str = include_str!("../../../../tests/data/openapi-3.0.yaml");
const LOOPIQ_31: &str = include_str!("../../../../tests/data/openapi-3.1.json");

fn imported(text: &str, output_schemas: bool) -> (Imported, Catalog) {
    let options = Options { backend: "desk".to_owned(), output_schemas };
    let imported = import(&document(text).unwrap(), &options).unwrap();
    let catalog = Catalog::from_yaml(&imported.to_yaml().unwrap()).unwrap();
    (imported, catalog)
}

fn tool<'c>(catalog: &'c Catalog, name: &str) -> &'c Tool {
    catalog
        .tool(name)
        .unwrap_or_else(|| panic!("no {name} in {:?}", catalog.tools().map(|tool| &tool.name).collect::<Vec<_>>()))
}

fn noted(imported: &Imported, kind: Kind, at: &str, words: &str) -> bool {
    imported.notes.iter().any(|note| note.kind == kind && note.at == at && note.what.contains(words))
}

#[track_caller]
fn left_out(imported: &Imported, at: &str, words: &str) {
    assert!(noted(imported, Kind::LeftOut, at, words), "{at} {words}: {:#?}", imported.notes);
}

#[test]
fn an_imported_catalog_loads_and_lints_clean() {
    for outputs in [false, true] {
        let (_, catalog) = imported(LOOPIQ_31, outputs);
        assert_eq!(catalog.lint(), Vec::new());
        assert_eq!(catalog.backends(), BTreeSet::from(["desk"]));
        assert_eq!(catalog.tools().filter(|tool| tool.route().is_none()).count(), 7, "the gateway's own tools");
    }
    let (_, catalog) = imported(PLAIN_30, true);
    let paths: Vec<String> = catalog.lint().into_iter().map(|fault| fault.path).collect();
    // What the document does not say is for a person: where a deletion names its tenant and records,
    // and what becomes of a lost answer.
    let delete =
        ["tenant_fields", "record_ids", "dry_run", "idempotent"].map(|field| format!("tools[delete_revision].{field}"));
    assert_eq!(paths, delete);
}

#[test]
fn what_x_loopiq_says_is_believed() {
    let (imported, catalog) = imported(LOOPIQ_31, false);
    let tool = tool(&catalog, "loopiq_update_work_item");
    assert_eq!(tool.route_text(), "PATCH /api/v1/work-items/{workItem}");
    assert_eq!((tool.effect, tool.impact, tool.family.as_str()), (Effect::Write, Impact::Low, "work_item"));
    assert_eq!((tool.dry_run.clone(), tool.idempotent), (Some(DryRun::Query("dryRun".to_owned())), true));
    assert_eq!(tool.lookup.as_deref(), Some("GET /api/v1/executions/{key}"));
    assert_eq!(tool.etag.as_deref(), Some("GET /api/v1/work-items/{workItem}"));
    assert_eq!(
        (tool.tenant_fields.as_slice(), tool.record_ids.as_slice()),
        (&["/tenant".to_owned()][..], &["/id".to_owned()][..])
    );
    let properties: Vec<&String> = tool.input["properties"].as_object().unwrap().keys().collect();
    assert_eq!(properties, ["points", "title", "workItem"], "no dryRun: clients send the control argument");
    assert!(!imported.notes.iter().any(|note| note.kind == Kind::Guessed), "{:#?}", imported.notes);
}

#[test]
fn what_serves_the_gateway_or_operators_is_no_tool() {
    let (imported, catalog) = imported(LOOPIQ_31, false);
    assert_eq!(imported.routes(), 2);
    left_out(&imported, "GET /api/v1/executions/{key}", "lookups");
    left_out(&imported, "DELETE /_sandbox/faults", "operators");
    left_out(&imported, "POST /api/v1/internal", "no tool");
    assert!(catalog.tool("internal").is_none());
}

#[test]
fn what_the_document_does_not_say_is_derived_or_guessed_on_the_safe_side() {
    let (imported, catalog) = imported(PLAIN_30, false);
    let create = tool(&catalog, "create_release");
    assert_eq!((create.effect, create.impact, create.family.as_str()), (Effect::Write, Impact::High, "release_desk"));
    assert_eq!((create.dry_run.clone(), create.idempotent), (Some(DryRun::Query("dryRun".to_owned())), true));
    assert!(!create.description.contains('\u{202e}') && create.description.contains("Hidden text"));
    let at = "POST /api/v2/releases";
    assert!(noted(&imported, Kind::Guessed, at, "impact `high`") && noted(&imported, Kind::Guessed, at, "dry run"));
    assert!(noted(&imported, Kind::Derived, at, "name `create_release` from `operationId`"));

    let list = tool(&catalog, "list_releases");
    assert_eq!((list.effect, list.impact), (Effect::Read, Impact::Low));
    assert_eq!(list.tenant_fields, ["/items/*/parts/*/tenantId", "/items/*/tenant"]);
    assert_eq!(list.record_ids, ["/items/*/id", "/items/*/parts/*/id"]);

    let revision = tool(&catalog, "get_releases_release_id_revisions_number");
    assert_eq!((revision.family.as_str(), revision.title.as_str()), ("releases", "Get a revision"));
    let arguments = json!({"release_id": "a/b", "number": "7"});
    let request = revision.request(arguments.as_object().unwrap(), false).unwrap();
    assert_eq!(
        (request.backend.as_str(), request.path_and_query.as_str()),
        ("desk", "/api/v2/releases/a%2Fb/revisions/7")
    );
    assert!(revision.validate(json!({"release_id": "a", "number": "../7"}).as_object().unwrap()).is_err());
}

#[test]
fn what_cannot_be_sent_as_the_document_wants_is_left_out() {
    let (imported, catalog) = imported(PLAIN_30, false);
    left_out(&imported, "POST /api/v2/upload", "not JSON");
    let about_upload = imported.notes.iter().filter(|note| note.at == "POST /api/v2/upload");
    assert_eq!(about_upload.count(), 1, "what is left out needs one note");
    left_out(&imported, "POST /api/v2/choose", "several forms");
    left_out(&imported, "GET /api/v2/session", "cookie parameter `sid`");
    left_out(&imported, "POST /api/v2/clash/{name}", "two arguments");
    left_out(&imported, "GET /api/v2/lookahead", "JSON Schema");
    left_out(&imported, "GET /api/v2/healthz", "operators");
    left_out(&imported, "GET /api/v2/releases", "`tags` joins");
    left_out(&imported, "GET /api/v2/releases", "`filter` is an object");
    left_out(&imported, "GET /api/v2/releases", "`X-Debug` is not passed on");
    let list = tool(&catalog, "list_releases");
    let names: Vec<&String> = list.input["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["ids", "limit", "state"]);
    assert_eq!(imported.routes(), 4);
}

#[test]
fn schemas_stand_alone_and_speak_2020_12() {
    let (imported, catalog) = imported(PLAIN_30, true);
    let text = serde_json::to_string(&imported.catalog).unwrap();
    for gone in ["$ref", "nullable", "readOnly", "writeOnly", "secret", "\"example\"", "\"exclusiveMinimum\":true"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    let list = tool(&catalog, "list_releases");
    assert_eq!(list.input["properties"]["limit"]["exclusiveMinimum"], json!(0));
    assert_eq!(list.input["properties"]["limit"].get("minimum"), None);
    assert_eq!(list.input["properties"]["state"]["type"], json!(["string", "null"]));
    assert_eq!(list.input["properties"]["state"]["enum"], json!(["open", "closed", null]));
    assert_eq!(list.output.as_ref().unwrap()["properties"]["nextCursor"]["type"], json!(["string", "null"]));

    let create = tool(&catalog, "create_release");
    let properties = create.input["properties"].as_object().unwrap();
    assert_eq!(properties.keys().collect::<Vec<_>>(), ["limit", "owner", "plan", "title"]);
    assert_eq!(create.input["required"], json!(["plan", "title"]), "`id` is readOnly");
    assert!(properties["owner"]["anyOf"].as_array().unwrap().contains(&json!({"type": "null"})));
    let check = |arguments: Value| create.validate(arguments.as_object().unwrap()).is_ok();
    assert!(check(json!({"title": "t", "plan": {"name": "a", "steps": [{"anything": 1}]}, "owner": null})));
    assert!(!check(json!({"title": "t", "plan": {"name": 7}})));
    assert!(noted(&imported, Kind::Derived, "POST /api/v2/releases", "leads to itself"));
    assert!(noted(&imported, Kind::Derived, "POST /api/v2/releases", "does not lead anywhere"));
}

#[test]
fn a_document_of_another_kind_is_refused_in_words() {
    let refused = |text: &str| {
        let options = Options { backend: "desk".to_owned(), output_schemas: false };
        document(text).and_then(|root| import(&root, &options)).unwrap_err().to_string()
    };
    assert!(refused("swagger: '2.0'\npaths: {}").contains("openapi: absent"));
    assert!(refused("{\"openapi\": \"2.0\"}").contains("convert it"));
    assert!(refused("{\"openapi\": \"3.1.0\"}").contains("paths"));
    assert!(refused("{ nothing").contains("neither JSON nor YAML"));
    assert!(refused("a: b: c").contains("neither JSON nor YAML"));
}

#[test]
fn equal_names_are_told_apart() {
    let get = json!({"operationId": "same", "responses": {}});
    let text = json!({"openapi": "3.1.0", "paths": {"/a": {"get": get}, "/b": {"get": get}}}).to_string();
    let (imported, catalog) = imported(&text, false);
    assert!(catalog.tool("same").is_some() && catalog.tool("same_2").is_some());
    assert!(noted(&imported, Kind::Derived, "GET /b", "stands twice"));
}

#[test]
fn names_become_snake_case() {
    for (text, name) in [
        ("getReleaseById", "get_release_by_id"),
        ("GET /releases/{id}", "get_releases_id"),
        ("Release Governance", "release_governance"),
        ("HTTPServer2", "httpserver2"),
        ("a--b", "a_b"),
        ("2fa", "op_2fa"),
        ("", "op_"),
    ] {
        assert_eq!(operation::snake(text), name);
    }
}

#[test]
fn the_stand_ins_document_imports_to_the_built_in_catalog() {
    let (imported, catalog) = imported(&crate::sandbox::openapi().to_string(), true);
    assert_eq!(catalog.lint(), Vec::new(), "{:#?}", imported.notes);
    let built_in = Catalog::from_yaml(BUILT_IN).unwrap();
    let names = |catalog: &Catalog| catalog.tools().map(|tool| tool.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&catalog), names(&built_in));
    for (imported, built_in) in catalog.tools().zip(built_in.tools()) {
        let name = &built_in.name;
        assert_eq!(imported.route_text(), built_in.route_text(), "{name}");
        assert_eq!((imported.effect, imported.impact), (built_in.effect, built_in.impact), "{name}");
        assert_eq!((&imported.family, &imported.dry_run), (&built_in.family, &built_in.dry_run), "{name}");
        assert_eq!((imported.idempotent, &imported.lookup), (built_in.idempotent, &built_in.lookup), "{name}");
        assert_eq!(imported.etag, built_in.etag, "{name}");
        assert_eq!(imported.tenant_fields, built_in.tenant_fields, "{name}");
        let arguments = |tool: &Tool| -> BTreeSet<String> {
            let names = tool.input.get("properties").and_then(Value::as_object);
            names.into_iter().flat_map(|members| members.keys().cloned()).collect()
        };
        assert_eq!(arguments(imported), arguments(built_in), "{name}");
    }
}
