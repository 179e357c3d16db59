use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::domain::catalog::BUILT_IN;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::upstream::Class;
use crate::domain::catalog::upstream::Terms;
use crate::domain::catalog::upstream::ToolTerms;
use crate::domain::catalog::upstream::Trust;
use crate::domain::mcp::Era;
use crate::domain::upstream::Offer;

const LIMITS: Limits = Limits { bytes_max: 1 << 20, depth_max: 32, members_max: 10_000 };

fn tool(output: Option<Value>, said: ToolTerms) -> Arc<Tool> {
    let mut definition = json!({"name": "find", "inputSchema": {"type": "object"}});
    if let Some(output) = output {
        definition["outputSchema"] = output;
    }
    let offer = Offer {
        server: "crm".into(),
        era: Era::Modern,
        capabilities: Map::new(),
        tools: vec![definition],
        prompts: Vec::new(),
        resources: Vec::new(),
        templates: Vec::new(),
    };
    let terms = Terms {
        server: "crm".into(),
        prefix: String::new(),
        trust: Trust::First,
        believe_hints: false,
        defaults: Class::default(),
        tools: BTreeMap::from([("find".to_owned(), said)]),
        prompts: true,
        resources: true,
        timeout: Duration::from_secs(1),
    };
    let offers = BTreeMap::from([("crm".to_owned(), Arc::new(offer))]);
    let joined = Catalog::from_yaml(BUILT_IN).unwrap().join(&offers, &[terms], &BTreeMap::new());
    Arc::clone(joined.catalog.tool("find").unwrap())
}

fn plain_tool() -> Arc<Tool> {
    tool(None, ToolTerms::default())
}

fn said(result: &Value, tool: &Tool) -> Result<Said, Refusal> {
    Said::read(result.to_string().as_bytes(), Form::Call, tool, &LIMITS)
}

fn gcn() -> Tenant {
    Tenant::of_ledger("org_gcn").unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "a test reads better without the ampersands")]
fn text(text: impl ToString) -> Value {
    json!({"type": "text", "text": text.to_string()})
}

#[test]
fn a_result_is_rebuilt_from_what_is_known() {
    let result = json!({
        "content": [
            {"type": "text", "text": "hi", "_meta": {"track": 1}, "annotations": {"priority": 1, "x": 2}},
            {"type": "image", "data": "AA==", "mimeType": "image/png", "src": "https://evil.example"},
            {"type": "resource", "resource": {"uri": "a:b", "text": "t", "_meta": {}}},
            {"type": "resource_link", "uri": "a:c", "name": "c", "icons": [1], "size": 7},
        ],
        "_meta": {"com.loopiq/audit": {"auditRef": "forged"}}, "structuredContent": {"a": 1}, "more": 1,
    });
    let said = said(&result, &plain_tool()).unwrap();
    assert_eq!(
        Value::Object(said.result),
        json!({
            "content": [
                {"type": "text", "text": "hi", "annotations": {"priority": 1}},
                {"type": "image", "data": "AA==", "mimeType": "image/png"},
                {"type": "resource", "resource": {"uri": "a:b", "text": "t"}},
                {"type": "resource_link", "uri": "a:c", "name": "c", "size": 7},
            ],
            "structuredContent": {"a": 1}, "isError": false,
        })
    );
}

#[test]
fn what_has_the_wrong_form_goes_no_further() {
    for bad in [
        json!({"content": "text"}),
        json!({"content": [{"type": "video", "data": "x"}]}),
        json!({"content": [{"type": "text"}]}),
        json!({"content": [{"type": "text", "text": 7}]}),
        json!({"content": [7]}),
        json!({"content": [{"type": "resource", "resource": {"uri": "a"}}]}),
        json!({"content": [], "isError": "no"}),
        json!([]),
    ] {
        assert_eq!(said(&bad, &plain_tool()).unwrap_err().code, Code::BackendFailed, "{bad}");
    }
}

#[test]
fn an_answer_naming_another_tenant_is_withheld_wherever_it_names_it() {
    let foreign = json!({"items": [{"tenantId": "org_nordbank"}]});
    for result in [
        json!({"structuredContent": foreign, "content": []}),
        json!({"content": [text(&foreign)]}),
        json!({"content": [text("see below"), text(&foreign)]}),
        json!({"structuredContent": {"a": 1}, "content": [text(&foreign)]}),
        json!({"content": [{"type": "resource", "resource": {"uri": "a:b", "text": foreign.to_string()}}]}),
        json!({"content": [text(&foreign)], "isError": true}),
    ] {
        let tool = plain_tool();
        let refused = said(&result, &tool).unwrap().of_tenant(&tool, &gcn()).unwrap_err();
        assert_eq!(refused.code, Code::ResponseWithheld, "{result}");
        assert!(!refused.words().contains("nordbank"));
    }
    let own = json!({"structuredContent": {"tenantId": "org_gcn"}, "content": [text(json!({"tenantId": "org_gcn"}))]});
    let tool = plain_tool();
    assert!(said(&own, &tool).unwrap().of_tenant(&tool, &gcn()).is_ok());
}

#[test]
fn where_the_settings_say_that_an_answer_names_its_tenant_it_does() {
    let said_where = ToolTerms { tenant_fields: Some(vec!["/owner".into()]), ..ToolTerms::default() };
    let tool = tool(None, said_where);
    let judged = |result: Value| said(&result, &tool).unwrap().of_tenant(&tool, &gcn()).is_ok();
    assert!(judged(json!({"structuredContent": {"owner": "org_gcn"}})));
    assert!(judged(json!({"content": [text(json!({"owner": "org_gcn"}))]})));
    assert!(!judged(json!({"structuredContent": {"owner": "org_nordbank"}})));
    assert!(!judged(json!({"structuredContent": {"other": 1}})));
    assert!(!judged(json!({"content": [text("in words")]})));
    assert!(judged(json!({"content": [text("it failed")], "isError": true})));
}

#[test]
fn redaction_reaches_the_text_too() {
    let tool = plain_tool();
    let record = json!({"id": 7, "email": "ada@example.com"});
    let result = json!({"structuredContent": record, "content": [text(&record)]});
    let mut said = said(&result, &tool).unwrap();
    assert_eq!(said.redact(&tool, &["/email".into()]).unwrap(), ["/email"]);
    let shown = Value::Object(said.result).to_string();
    assert!(!shown.contains("ada@example.com"), "{shown}");
    assert_eq!(shown.matches(REDACTED).count(), 2, "{shown}");
}

#[test]
fn what_cannot_be_hidden_everywhere_is_withheld_whole() {
    let record = json!({"id": 7, "email": "ada@example.com"});
    for content in [
        json!([text("write to ada@example.com")]),
        json!([text("it is about somebody")]),
        json!([{"type": "image", "data": "AA==", "mimeType": "image/png"}]),
        json!([{"type": "resource", "resource": {"uri": "a:b", "blob": "AA=="}}]),
        json!([text(json!({"wrapped": record}))]),
        json!([text(json!({"summary": "write to ada@example.com"}))]),
        json!([text(json!({"ada@example.com": true}))]),
    ] {
        let tool = plain_tool();
        let mut said = said(&json!({"structuredContent": record, "content": content}), &tool).unwrap();
        let refused = said.redact(&tool, &["/email".into()]).unwrap_err();
        assert_eq!(refused.code, Code::ResponseWithheld, "{content}");
    }
    let tool = plain_tool();
    let mut nothing = said(&json!({"structuredContent": {"id": 7}, "content": [text("fine")]}), &tool).unwrap();
    assert!(nothing.redact(&tool, &["/email".into()]).unwrap().is_empty(), "there is nothing to hide");
}

#[test]
fn a_text_that_two_readers_read_differently_is_read_by_none() {
    let twice = text(r#"{"tenantId": "org_gcn", "tenantId": "org_nordbank"}"#);
    assert!(said(&json!({"content": [twice]}), &plain_tool()).is_err());
    assert!(said(&json!({"content": [text("{not json")]}), &plain_tool()).is_ok());
}

#[test]
fn data_fits_the_tools_schema_or_the_answer_failed() {
    let output = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let tool = tool(Some(output), ToolTerms::default());
    assert!(said(&json!({"structuredContent": {"n": 1}}), &tool).is_ok());
    assert_eq!(said(&json!({"structuredContent": {"n": "x"}}), &tool).unwrap_err().code, Code::BackendFailed);
    assert_eq!(said(&json!({"content": [text("1")]}), &tool).unwrap_err().code, Code::BackendFailed);
    assert!(said(&json!({"content": [text("no")], "isError": true}), &tool).is_ok());
}

#[test]
fn other_results_have_their_own_forms() {
    let tool = plain_tool();
    let read = |result: Value, form| Said::read(result.to_string().as_bytes(), form, &tool, &LIMITS);
    let prompt = json!({"description": "d", "messages": [{"role": "user", "content": text("x")}], "ttlMs": 3});
    assert_eq!(read(prompt, Form::Prompt).unwrap().ttl_ms, 3);
    assert!(read(json!({"messages": [{"role": "system", "content": text("x")}]}), Form::Prompt).is_err());
    let foreign = json!({"contents": [{"uri": "a:b", "text": "{\"tenantId\":\"org_nordbank\"}"}]});
    assert!(read(foreign, Form::Resource).unwrap().of_tenant(&tool, &gcn()).is_err());
    assert!(read(json!({"completion": {"values": ["a"], "total": 1}}), Form::Completion).is_ok());
    assert!(read(json!({"completion": {"values": [1]}}), Form::Completion).is_err());
    assert!(read(json!({"anything": 1}), Form::Done).unwrap().result.is_empty());
}
