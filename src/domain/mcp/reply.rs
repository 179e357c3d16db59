//! Results, refusals and faults to bytes, in what the client's revision can read.
//!
//! Promises: every modern result has `resultType` and names the server; what a legacy client cannot
//! read is left out of its answers and its text says the same; a refusal is always a result with
//! `isError`, in words and as data; `tools/list` is never cacheable across callers. Never decides
//! what to say. Called by `pep`.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::domain::mcp::listen::SUBSCRIPTION_META;
use crate::domain::mcp::{AUDIT_META, ERROR_META, Era, MODERN, Request, RequestId};
use crate::domain::refusal::{Fault, Refusal};

mod pass;

/// The server's name on the wire.
const SERVER_NAME: &str = "loopgate";
const SERVER_META: &str = "io.modelcontextprotocol/serverInfo";

/// What the server says of itself.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The gateway's version.
    pub version: &'a str,
    /// What a model should know before it uses the tools.
    pub instructions: &'a str,
    /// What upstream servers add to tools.
    pub offers: Offers,
}

/// What upstream servers add to tools, all of them together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "these are capabilities of MCP, each independent of the others")]
pub struct Offers {
    /// Some have prompts.
    pub prompts: bool,
    /// Some have resources.
    pub resources: bool,
    /// Some complete arguments.
    pub completions: bool,
    /// Some send log messages, legacy only.
    pub logging: bool,
}

/// A tool as a caller who may use it sees it.
#[derive(Debug, Clone, Copy)]
pub struct ToolView<'a> {
    /// The tool's name.
    pub name: &'a str,
    /// For people.
    pub title: &'a str,
    /// For models.
    pub description: &'a str,
    /// JSON Schema of the arguments; its root is an object.
    pub input: &'a Value,
    /// JSON Schema of the structured answer.
    pub output: Option<&'a Value>,
    /// What the tool does to the world.
    pub hints: Hints,
}

/// Hints to clients that decide whether to ask their user first. Policy never reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are the four annotations of MCP, each independent of the others"
)]
pub struct Hints {
    /// Changes nothing.
    #[serde(rename = "readOnlyHint")]
    pub read_only: bool,
    /// May change or remove what exists.
    #[serde(rename = "destructiveHint")]
    pub destructive: bool,
    /// Twice with the same arguments does no more than once.
    #[serde(rename = "idempotentHint")]
    pub idempotent: bool,
    /// Reaches beyond LoopIQ.
    #[serde(rename = "openWorldHint")]
    pub open_world: bool,
}

impl Hints {
    /// A read of LoopIQ records.
    #[must_use]
    pub const fn read() -> Self {
        Self { read_only: true, destructive: false, idempotent: true, open_world: false }
    }

    /// A write of LoopIQ records.
    #[must_use]
    pub const fn write(destructive: bool, idempotent: bool) -> Self {
        Self { read_only: false, destructive, idempotent, open_world: false }
    }
}

/// The answer of one tool call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallAnswer {
    /// What every client can read.
    pub text: String,
    /// The same as data.
    pub structured: Option<Value>,
    /// Whether the call failed.
    pub is_error: bool,
    /// Further `_meta` members, `com.loopiq/audit` among them.
    pub meta: Map<String, Value>,
}

/// Writes the answer to one request.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    era: Era,
    id: &'a RequestId,
    version: &'a str,
}

impl<'a> Reply<'a> {
    /// An answer to `request` by a gateway of this version.
    #[must_use]
    pub fn to(request: &'a Request, version: &'a str) -> Self {
        Self { era: request.era, id: &request.id, version }
    }

    /// `server/discover`.
    #[must_use]
    pub fn discover(&self, about: &About<'_>, ttl_ms: u64) -> Vec<u8> {
        let result = json!({
            "supportedVersions": [MODERN],
            "capabilities": capabilities(about.offers, self.era),
            "instructions": about.instructions,
        });
        self.cacheable(result, ttl_ms)
    }

    /// `initialize`, in the revision that was negotiated.
    #[must_use]
    pub fn initialize(&self, about: &About<'_>) -> Vec<u8> {
        self.result(json!({
            "protocolVersion": self.era.as_str(),
            "capabilities": capabilities(about.offers, self.era),
            "serverInfo": {"name": SERVER_NAME, "version": about.version},
            "instructions": about.instructions,
        }))
    }

    /// `ping`.
    #[must_use]
    pub fn pong(&self) -> Vec<u8> {
        self.result(json!({}))
    }

    /// `tools/list`: one page of what this caller may use.
    #[must_use]
    pub fn tools(&self, tools: &[ToolView<'_>], next_cursor: Option<&str>, ttl_ms: u64) -> Vec<u8> {
        let tools: Vec<Value> = tools.iter().map(|tool| self.tool(tool)).collect();
        let mut result = json!({"tools": tools});
        if let Some(cursor) = next_cursor {
            put(&mut result, "nextCursor", cursor.into());
        }
        self.cacheable(result, ttl_ms)
    }

    /// `tools/call`, answered.
    #[must_use]
    pub fn call(&self, answer: CallAnswer) -> Vec<u8> {
        let mut result = json!({"content": [{"type": "text", "text": answer.text}], "isError": answer.is_error});
        let structured = answer.structured.filter(|value| match self.era {
            Era::V2025_03_26 => false,
            Era::V2025_06_18 | Era::V2025_11_25 => value.is_object(),
            Era::Modern => true,
        });
        if let Some(structured) = structured {
            put(&mut result, "structuredContent", structured);
        }
        if !answer.meta.is_empty() {
            put(&mut result, "_meta", Value::Object(answer.meta));
        }
        self.result(result)
    }

    /// `tools/call`, refused: words for a model, data for a program.
    #[must_use]
    pub fn refusal(&self, refusal: &Refusal, audit: Map<String, Value>) -> Vec<u8> {
        let mut meta = Map::new();
        meta.insert(ERROR_META.to_owned(), error_data(refusal));
        meta.insert(AUDIT_META.to_owned(), Value::Object(audit));
        self.call(CallAnswer { text: refusal.words(), structured: None, is_error: true, meta })
    }

    /// `tools/call` that waits for its client: to put `requests` to the user, or only to call again,
    /// in either case bringing `state` back, if there is any. None for revisions that do not know of it.
    #[must_use]
    pub fn input_required(
        &self,
        requests: Map<String, Value>,
        state: Option<&str>,
        meta: Map<String, Value>,
    ) -> Option<Vec<u8>> {
        let mut result = Value::Object(Map::from_iter([("_meta".to_owned(), Value::Object(meta))]));
        if let Some(state) = state {
            put(&mut result, "requestState", state.into());
        }
        if !requests.is_empty() {
            put(&mut result, "inputRequests", Value::Object(requests));
        }
        self.era.is_modern().then(|| self.of_type("input_required", result))
    }

    /// `subscriptions/listen`, ended by the server.
    #[must_use]
    pub fn unsubscribed(&self) -> Vec<u8> {
        self.result(json!({"_meta": {SUBSCRIPTION_META: self.id}}))
    }

    fn tool(&self, tool: &ToolView<'_>) -> Value {
        let mut input = tool.input.clone();
        if !self.era.is_modern() {
            strip_header_annotations(&mut input);
        }
        let mut view = json!({
            "name": tool.name,
            "description": tool.description,
            "inputSchema": input,
            "annotations": tool.hints,
        });
        let output = tool.output.filter(|schema| match self.era {
            Era::V2025_03_26 => false,
            Era::V2025_06_18 | Era::V2025_11_25 => schema.get("type").and_then(Value::as_str) == Some("object"),
            Era::Modern => true,
        });
        if let Some(output) = output {
            put(&mut view, "outputSchema", output.clone());
        }
        if self.era == Era::V2025_03_26 {
            // WHY: `title` beside `name` came with 2025-06-18; before that it is an annotation.
            if let Some(annotations) = view.get_mut("annotations") {
                put(annotations, "title", tool.title.into());
            }
        } else {
            put(&mut view, "title", tool.title.into());
        }
        view
    }

    /// A list that depends on the caller: modern clients may keep it, but only for that caller.
    fn cacheable(&self, mut result: Value, ttl_ms: u64) -> Vec<u8> {
        if self.era.is_modern() {
            put(&mut result, "ttlMs", ttl_ms.into());
            put(&mut result, "cacheScope", "private".into());
        }
        self.result(result)
    }

    fn result(&self, result: Value) -> Vec<u8> {
        self.of_type("complete", result)
    }

    fn of_type(&self, kind: &str, mut result: Value) -> Vec<u8> {
        if self.era.is_modern() {
            put(&mut result, "resultType", kind.into());
            let server = json!({"name": SERVER_NAME, "version": self.version});
            match result.get_mut("_meta") {
                Some(meta) => put(meta, SERVER_META, server),
                None => put(&mut result, "_meta", json!({SERVER_META: server})),
            }
        }
        bytes(&json!({"jsonrpc": "2.0", "id": self.id, "result": result}))
    }
}

fn capabilities(offers: Offers, era: Era) -> Value {
    let tools = if era.is_modern() { json!({"listChanged": true}) } else { json!({}) };
    let mut capabilities = json!({"tools": tools});
    let logging = offers.logging && !era.is_modern();
    for (name, offered) in [
        ("prompts", offers.prompts),
        ("resources", offers.resources),
        ("completions", offers.completions),
        ("logging", logging),
    ] {
        if offered {
            // WHY: resources are read anew at every look, and no caller is told of them here.
            let is_told = name == "prompts" && era.is_modern();
            put(&mut capabilities, name, if is_told { json!({"listChanged": true}) } else { json!({}) });
        }
    }
    capabilities
}

/// A JSON-RPC error. Without an id the member is left out, as MCP's own schema has it.
#[must_use]
pub fn fault(id: Option<&RequestId>, fault: &Fault) -> Vec<u8> {
    let mut error = json!({"code": fault.code, "message": fault.message});
    if let Some(data) = &fault.data {
        put(&mut error, "data", data.clone());
    }
    let mut message = json!({"jsonrpc": "2.0", "error": error});
    if let Some(id) = id {
        put(&mut message, "id", json!(id));
    }
    bytes(&message)
}

/// A notification of an upstream server, in its own words.
#[must_use]
pub fn notification(method: &str, params: &Map<String, Value>) -> Vec<u8> {
    bytes(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

/// `notifications/progress` for the token that a request carried.
#[must_use]
pub fn progress(token: &RequestId, step: u32, total: u32, message: &str) -> Vec<u8> {
    bytes(&json!({
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": token, "progress": step, "total": total, "message": message},
    }))
}

/// `_meta["com.loopiq/error"]`: the refusal as data. Its own members win over those of a policy.
#[must_use]
pub fn error_data(refusal: &Refusal) -> Value {
    let mut data = refusal.data.clone();
    data.insert("code".to_owned(), refusal.code.as_str().into());
    data.insert("reasons".to_owned(), json!(refusal.reasons));
    data.insert("retryable".to_owned(), refusal.retryable.into());
    data.insert("next".to_owned(), refusal.next.as_str().into());
    Value::Object(data)
}

/// Legacy clients do not send the headers that these annotations ask for.
fn strip_header_annotations(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            // WHY: a property may bear this name; then it is a schema and no annotation.
            if members.get("x-mcp-header").is_some_and(Value::is_string) {
                members.remove("x-mcp-header");
            }
            members.values_mut().for_each(strip_header_annotations);
        }
        Value::Array(elements) => elements.iter_mut().for_each(strip_header_annotations),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(key.to_owned(), value);
    }
}

fn bytes(message: &Value) -> Vec<u8> {
    message.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mcp::Ask;
    use crate::domain::mcp::input;
    use crate::domain::refusal::{Code, Reason};

    const ABOUT: About<'_> = About { version: "1.2.3", instructions: "ask first", offers: NOTHING };
    const NOTHING: Offers = Offers { prompts: false, resources: false, completions: false, logging: false };

    fn request(era: Era) -> Request {
        Request { era, id: RequestId::Text("r-1".into()), ask: Ask::Ping, meta: Map::new() }
    }

    fn sent(era: Era, write: impl FnOnce(&Reply<'_>) -> Vec<u8>) -> Value {
        let request = request(era);
        let message: Value = serde_json::from_slice(&write(&Reply::to(&request, "1.2.3"))).unwrap();
        assert_eq!(message["jsonrpc"], "2.0");
        assert_eq!(message["id"], "r-1");
        message["result"].clone()
    }

    fn all_eras() -> [Era; 4] {
        [Era::V2025_03_26, Era::V2025_06_18, Era::V2025_11_25, Era::Modern]
    }

    #[test]
    fn every_modern_result_is_complete_and_names_the_server_and_no_legacy_one_does() {
        let tool = json!({"type": "object"});
        let view =
            ToolView { name: "t", title: "T", description: "d", input: &tool, output: None, hints: Hints::read() };
        for era in all_eras() {
            for result in [
                sent(era, |reply| reply.discover(&ABOUT, 5)),
                sent(era, |reply| reply.tools(&[view], None, 5)),
                sent(era, |reply| reply.call(CallAnswer { text: "x".into(), ..CallAnswer::default() })),
                sent(era, |reply| reply.refusal(&Refusal::of(Code::PolicyDenied), Map::new())),
            ] {
                assert_eq!(result.get("resultType").is_some(), era.is_modern(), "{era} {result}");
                assert_eq!(result["_meta"].get(SERVER_META).is_some(), era.is_modern(), "{era} {result}");
                if !era.is_modern() {
                    assert!(result.get("ttlMs").is_none() && result.get("cacheScope").is_none(), "{result}");
                }
            }
        }
        let list = sent(Era::Modern, |reply| reply.tools(&[view], None, 5));
        assert_eq!((&list["ttlMs"], &list["cacheScope"]), (&json!(5), &json!("private")));
    }

    #[test]
    fn a_modern_client_may_be_asked_to_come_back_and_a_legacy_one_never_is() {
        let requests = Map::from_iter([("approval".to_owned(), input::form("Go?", &json!({"type": "object"})))]);
        let audit = Map::from_iter([(AUDIT_META.to_owned(), json!({"requestId": "q"}))]);
        let asked =
            sent(Era::Modern, |reply| reply.input_required(requests.clone(), Some("v1.s"), audit.clone()).unwrap());
        assert_eq!(
            asked,
            json!({
                "resultType": "input_required",
                "inputRequests": {"approval": {"method": "elicitation/create", "params": {
                    "mode": "form", "message": "Go?", "requestedSchema": {"type": "object"}}}},
                "requestState": "v1.s",
                "_meta": {AUDIT_META: {"requestId": "q"}, SERVER_META: {"name": "loopgate", "version": "1.2.3"}},
            })
        );
        let only_state = sent(Era::Modern, |reply| reply.input_required(Map::new(), Some("v1.s"), Map::new()).unwrap());
        assert!(only_state.get("inputRequests").is_none() && only_state.get("ttlMs").is_none(), "{only_state}");
        for era in Era::LEGACY {
            let request = request(era);
            assert!(
                Reply::to(&request, "1.2.3").input_required(requests.clone(), Some("s"), Map::new()).is_none(),
                "{era}"
            );
        }
    }

    #[test]
    fn discovery_lists_modern_revisions_only() {
        let result = sent(Era::Modern, |reply| reply.discover(&ABOUT, 300_000));
        assert_eq!(result["supportedVersions"], json!(["2026-07-28"]));
        assert_eq!(result["capabilities"], json!({"tools": {"listChanged": true}}));
        assert_eq!(result["_meta"][SERVER_META], json!({"name": "loopgate", "version": "1.2.3"}));
    }

    #[test]
    fn capabilities_follow_what_upstream_servers_offer() {
        let about = About { offers: Offers { prompts: true, logging: true, ..NOTHING }, ..ABOUT };
        let modern = sent(Era::Modern, |reply| reply.discover(&about, 1));
        assert_eq!(modern["capabilities"], json!({"tools": {"listChanged": true}, "prompts": {"listChanged": true}}));
        let legacy = sent(Era::V2025_11_25, |reply| reply.initialize(&about));
        assert_eq!(legacy["capabilities"], json!({"tools": {}, "prompts": {}, "logging": {}}));
    }

    #[test]
    fn initialize_answers_with_the_negotiated_revision() {
        for era in Era::LEGACY {
            let result = sent(era, |reply| reply.initialize(&ABOUT));
            assert_eq!(result["protocolVersion"], era.as_str());
            assert_eq!(result["serverInfo"]["name"], "loopgate");
        }
        let request = request(Era::V2025_06_18);
        let pong: Value = serde_json::from_slice(&Reply::to(&request, "1.2.3").pong()).unwrap();
        assert_eq!(pong, json!({"jsonrpc": "2.0", "id": "r-1", "result": {}}));
    }

    #[test]
    fn each_era_sees_only_what_it_can_read_of_a_tool() {
        let input = json!({"type": "object", "properties": {"t": {"type": "string", "x-mcp-header": "T"},
            "x-mcp-header": {"type": "string"}}});
        let (object, array) = (json!({"type": "object"}), json!({"type": "array"}));
        let view = |output| ToolView {
            name: "n",
            title: "T",
            description: "d",
            input: &input,
            output,
            hints: Hints::write(true, false),
        };
        let tool = |era, output| sent(era, |reply| reply.tools(&[view(output)], Some("c"), 1))["tools"][0].clone();
        assert_eq!(tool(Era::Modern, Some(&array))["outputSchema"], array);
        assert_eq!(tool(Era::Modern, None)["inputSchema"], input);
        assert_eq!(tool(Era::V2025_11_25, Some(&object))["outputSchema"], object);
        assert!(tool(Era::V2025_11_25, Some(&array)).get("outputSchema").is_none());
        assert!(tool(Era::V2025_03_26, Some(&object)).get("outputSchema").is_none());
        let oldest = tool(Era::V2025_03_26, None);
        assert_eq!((oldest.get("title"), &oldest["annotations"]["title"]), (None, &json!("T")));
        for era in Era::LEGACY {
            let shown = &tool(era, None)["inputSchema"];
            assert!(shown["properties"]["t"].get("x-mcp-header").is_none(), "{shown}");
            assert_eq!(
                shown["properties"]["x-mcp-header"],
                json!({"type": "string"}),
                "a property of that name is no annotation"
            );
        }
        assert_eq!(
            tool(Era::Modern, None)["annotations"],
            json!({"readOnlyHint": false, "destructiveHint": true, "idempotentHint": false, "openWorldHint": false})
        );
    }

    #[test]
    fn structured_content_is_left_out_where_it_cannot_be_read_and_the_text_stays() {
        let call = |era, structured| {
            sent(era, |reply| {
                reply.call(CallAnswer { text: "words".into(), structured: Some(structured), ..CallAnswer::default() })
            })
        };
        assert_eq!(call(Era::Modern, json!(null)).get("structuredContent"), Some(&json!(null)));
        assert_eq!(call(Era::V2025_11_25, json!({"a": 1}))["structuredContent"], json!({"a": 1}));
        assert!(call(Era::V2025_11_25, json!([1])).get("structuredContent").is_none());
        assert!(call(Era::V2025_03_26, json!({"a": 1})).get("structuredContent").is_none());
        for era in all_eras() {
            let result = call(era, json!([1]));
            assert_eq!((&result["content"][0]["text"], &result["isError"]), (&json!("words"), &json!(false)));
        }
    }

    #[test]
    fn a_refusal_is_a_result_in_words_and_as_data() {
        let refusal = Refusal::because(Code::TenantRequired, "choose `org_gcn` or `org_nordbank`")
            .with("tenants", json!(["org_gcn", "org_nordbank"]))
            .with("code", "forged")
            .detail("10.0.0.7 said so");
        let audit: Map<String, Value> = serde_json::from_value(json!({"requestId": "q"})).unwrap();
        for era in all_eras() {
            let result = sent(era, |reply| reply.refusal(&refusal, audit.clone()));
            assert_eq!(result["isError"], true);
            assert_eq!(result["content"][0]["text"], refusal.words());
            let error = &result["_meta"][ERROR_META];
            assert_eq!(error["code"], "tenant_required");
            assert_eq!(error["tenants"], json!(["org_gcn", "org_nordbank"]));
            assert_eq!(error["retryable"], false);
            assert_eq!(error["reasons"][0]["message"], "choose `org_gcn` or `org_nordbank`");
            assert_eq!(result["_meta"][AUDIT_META]["requestId"], "q");
            assert!(!result.to_string().contains("10.0.0.7"));
        }
        let reasons = vec![Reason::new("a", "b", "c")];
        assert_eq!(error_data(&Refusal::of(Code::PolicyDenied).with_reasons(reasons))["next"], "c");
    }

    #[test]
    fn a_fault_echoes_the_id_and_has_none_where_none_could_be_read() {
        let value = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let unsupported = Fault::new(400, -32022, "no").with(json!({"supported": [MODERN]}));
        assert_eq!(
            value(fault(Some(&RequestId::Number(7)), &unsupported)),
            json!({"jsonrpc": "2.0", "id": 7, "error": {"code": -32022, "message": "no", "data": {"supported": ["2026-07-28"]}}})
        );
        assert_eq!(
            value(fault(None, &Fault::new(400, -32700, "no"))),
            json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": "no"}})
        );
    }

    #[test]
    fn progress_names_the_clients_token() {
        let sent: Value = serde_json::from_slice(&progress(&RequestId::Number(3), 1, 4, "forward")).unwrap();
        assert_eq!(sent["params"], json!({"progressToken": 3, "progress": 1, "total": 4, "message": "forward"}));
        assert_eq!((&sent["method"], sent.get("id")), (&json!("notifications/progress"), None));
    }
}
