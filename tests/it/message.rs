//! What a client says and hears: one MCP message on its way, one answer taken apart.

use reqwest::header::HeaderMap;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The revision without `initialize`.
pub(crate) const MODERN: &str = "2026-07-28";

/// A message that is being put together.
#[derive(Clone)]
pub(crate) struct Message {
    http: reqwest::Client,
    url: String,
    method: String,
    id: Value,
    params: Map<String, Value>,
    meta: Map<String, Value>,
    headers: Vec<(String, String)>,
    modern: bool,
}

impl Message {
    pub(crate) fn new(http: &reqwest::Client, url: &str, method: &str) -> Self {
        Self {
            http: http.clone(),
            url: url.to_owned(),
            method: method.to_owned(),
            id: json!(7),
            params: Map::new(),
            meta: Map::new(),
            headers: Vec::new(),
            modern: false,
        }
    }

    pub(crate) fn param(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), value.into());
        self
    }

    /// A member of `params._meta`.
    pub(crate) fn meta(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.meta.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn id(mut self, id: impl Into<Value>) -> Self {
        self.id = id.into();
        self
    }

    /// With the envelope and the headers of the newest revision.
    pub(crate) fn modern(mut self) -> Self {
        self.modern = true;
        self.meta("io.modelcontextprotocol/protocolVersion", MODERN)
            .meta("io.modelcontextprotocol/clientCapabilities", json!({}))
    }

    /// The request, ready to go.
    pub(crate) fn request(&self) -> reqwest::RequestBuilder {
        let mut params = self.params.clone();
        if !self.meta.is_empty() {
            params.insert("_meta".to_owned(), Value::Object(self.meta.clone()));
        }
        let mut request = self.http.post(&self.url);
        if self.modern {
            request = request.header("MCP-Protocol-Version", MODERN).header("Mcp-Method", &self.method);
            let named =
                params.get("name").or_else(|| params.get("uri")).filter(|_| self.method != "completion/complete");
            if let Some(name) = named.and_then(Value::as_str) {
                request = request.header("Mcp-Name", name);
            }
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.json(&json!({"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": params}))
    }

    pub(crate) async fn send(&self) -> Answer {
        Answer::read(self.request().send().await.unwrap()).await
    }
}

/// An answer with everything that was said in it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// The body as JSON; null when it is none.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, body }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `structuredContent`, or the text of a revision without it, of a call that went through.
    pub(crate) fn done(&self) -> Value {
        assert_eq!(self.body["result"]["isError"], false, "refused: {}", self.text);
        serde_json::from_str(self.words()).unwrap()
    }

    /// The text that a model reads.
    pub(crate) fn words(&self) -> &str {
        self.body["result"]["content"][0]["text"].as_str().unwrap_or_default()
    }

    /// `_meta["com.loopiq/error"]`.
    pub(crate) fn refusal(&self) -> &Value {
        &self.body["result"]["_meta"]["com.loopiq/error"]
    }

    /// `_meta["com.loopiq/audit"]`.
    pub(crate) fn audit(&self) -> &Value {
        &self.body["result"]["_meta"]["com.loopiq/audit"]
    }

    /// The code of a no of whatever form: a refusal, a JSON-RPC error with one, a challenge; else `ok`.
    pub(crate) fn code(&self) -> &str {
        let places = ["/result/_meta/com.loopiq~1error/code", "/error/data/code", "/error"];
        let said = places.iter().find_map(|place| self.body.pointer(place).and_then(Value::as_str));
        said.unwrap_or(if self.body["result"].is_object() { "ok" } else { "?" })
    }

    /// Asserts a no with this code.
    #[track_caller]
    pub(crate) fn is_refused(&self, code: &str) -> &Self {
        assert_eq!(self.code(), code, "{} {}", self.status, self.text);
        self
    }

    /// JSON-RPC error code.
    pub(crate) fn rpc_code(&self) -> Option<i64> {
        self.body["error"]["code"].as_i64()
    }
}
