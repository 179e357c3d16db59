//! Promises about raw route invocations.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn raw(catalog: &Catalog, arguments: Value) -> Result<Target, ResolveFault> {
    catalog.resolve(&ToolCall {
        name: "loopiq_invoke_route".to_owned(),
        arguments: object(arguments),
        ..ToolCall::default()
    })
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
        catalog.resolve(&ToolCall { name: "nothing".to_owned(), ..ToolCall::default() }),
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
    fn a_raw_route_is_its_semantic_tool(
        pick in any::<prop::sample::Index>(),
        texts in prop::collection::vec("[a-zA-Z0-9äß%/;:@ +._~-]{1,12}", 4),
        values in prop::collection::vec(plain_value(), 16),
    ) {
        let catalog = built_in();
        let routed: Vec<_> = catalog.tools().filter(|tool| tool.route().is_some()).collect();
        let tool = routed[pick.index(routed.len())];
        let route = tool.route().unwrap();
        let variables: Vec<_> = tool.compiled.template.as_ref().unwrap().variables().map(str::to_owned).collect();
        let texts = texts.into_iter().map(Value::from);
        let mut arguments: Map<String, Value> = variables.into_iter().zip(texts).collect();
        let names: Vec<_> = route.query.iter().chain(&route.body).cloned().collect();
        arguments.extend(names.into_iter().zip(values));
        let part = |known: &[String]| {
            let given = known.iter().filter_map(|name| Some((name.clone(), arguments.get(name)?.clone())));
            Value::Object(given.collect())
        };
        match tool.request(&arguments, false) {
            Err(refusal) => prop_assert_eq!(refusal.code, Code::InvalidArguments),
            Ok(request) => {
                let path = request.path_and_query.split('?').next().unwrap();
                prop_assert_eq!(path.matches('/').count(), route.template.matches('/').count());
                let (query, body) = (part(&route.query), part(&route.body));
                let call = json!({"method": route.method, "path": path, "query": query, "body": body});
                match raw(catalog, call) {
                    // A raw path with an encoded slash means two things to two readers.
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
}
