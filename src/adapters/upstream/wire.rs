//! What is sent to an upstream server: the envelope, the headers, the bytes.
//!
//! Promises: everything is made here from nothing; of a caller only what [`crate::pep::ports::Upstreams`]
//! names goes on, and no header of HTTP's or MCP's own can be set from outside. Never sends.
//! Called by [`super::hear`].

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http_body_util::Full;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::params;
use super::place::Place;
use crate::domain::mcp::Era;

/// The prefix of MCP's own keys in `_meta`.
const RESERVED: &str = "io.modelcontextprotocol/";

/// What of a caller's envelope goes on to a modern server.
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// Headers that are nobody's to set but this room's and HTTP's.
const OWN: [&str; 14] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "accept",
    "accept-encoding",
    "cookie",
    "expect",
    "last-event-id",
];

/// Who asks, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    /// The revision spoken.
    pub(super) era: Era,
    /// The legacy session, once there is one.
    pub(super) session: Option<&'a str>,
    /// The caller's credential and ids.
    pub(super) headers: &'a [(&'static str, String)],
}

/// How the gateway calls itself.
pub(super) fn client_info() -> Value {
    json!({"name": "loopgate", "version": env!("CARGO_PKG_VERSION")})
}

/// The parameters with their `_meta` made anew.
pub(super) fn enveloped(manner: Manner<'_>, params: &Map<String, Value>, token: Option<i64>) -> Map<String, Value> {
    let given = params.get("_meta").and_then(Value::as_object);
    let from_caller = |name: &str| given.and_then(|given| given.get(name));
    let mut meta: Map<String, Value> = given
        .into_iter()
        .flatten()
        .filter(|(name, _)| {
            !is_reserved(name) && !matches!(name.as_str(), "progressToken" | "traceparent" | "tracestate")
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for name in ["traceparent", "tracestate"] {
        if let Some((_, value)) = manner.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)) {
            meta.insert(name.to_owned(), json!(value));
        }
    }
    if let Some(token) = token {
        meta.insert("progressToken".to_owned(), json!(token));
    }
    if manner.era.is_modern() {
        let capabilities = from_caller(CAPABILITIES).filter(|value| value.is_object()).cloned();
        meta.insert(format!("{RESERVED}protocolVersion"), json!(manner.era.as_str()));
        meta.insert(format!("{RESERVED}clientInfo"), client_info());
        meta.insert(CAPABILITIES.to_owned(), capabilities.unwrap_or_else(|| json!({})));
        meta.extend(
            from_caller(LOG_LEVEL).filter(|value| value.is_string()).map(|value| (LOG_LEVEL.to_owned(), value.clone())),
        );
    }
    let mut params = params.clone();
    params.remove("_meta");
    if !meta.is_empty() {
        params.insert("_meta".to_owned(), Value::Object(meta));
    }
    params
}

/// A key whose second label is MCP's.
fn is_reserved(name: &str) -> bool {
    let Some((prefix, _)) = name.split_once('/') else { return false };
    matches!(prefix.split('.').nth(1), Some("modelcontextprotocol" | "mcp"))
}

/// The headers that repeat a modern request's body.
pub(super) fn routing(method: &str, params: &Map<String, Value>, schema: Option<&Value>) -> Vec<(String, String)> {
    let member = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => "",
    };
    let mut headers = vec![("mcp-method".to_owned(), method.to_owned())];
    headers
        .extend(params.get(member).and_then(Value::as_str).map(|name| ("mcp-name".to_owned(), params::encoded(name))));
    if let (Some(schema), Some(Value::Object(arguments))) = (schema, params.get("arguments")) {
        headers.extend(params::headers(schema, arguments));
    }
    headers
}

/// A request in its final form.
pub(super) fn request(
    place: &Place,
    manner: Manner<'_>,
    credential: Option<&str>,
    more: &[(String, String)],
    body: Option<Vec<u8>>,
) -> Result<Request<Full<Bytes>>, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in manner.headers {
        if !OWN.contains(&name.to_ascii_lowercase().as_str()) && !name.to_ascii_lowercase().starts_with("mcp-") {
            put(&mut headers, name, value)?;
        }
    }
    if let (Some(credential), false) = (credential, headers.contains_key("authorization")) {
        put(&mut headers, "authorization", &format!("Bearer {credential}"))?;
    }
    put(&mut headers, "host", &place.authority())?;
    put(&mut headers, "user-agent", concat!("loopgate/", env!("CARGO_PKG_VERSION")))?;
    // WHY both: a server may answer 406 to whoever does not accept both.
    put(
        &mut headers,
        "accept",
        if body.is_some() { "application/json, text/event-stream" } else { "text/event-stream" },
    )?;
    if body.is_some() {
        put(&mut headers, "content-type", "application/json")?;
    }
    if let Some(session) = manner.session {
        put(&mut headers, "mcp-session-id", session)?;
    }
    for (name, value) in more {
        put(&mut headers, name, value)?;
    }
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::new(Full::new(Bytes::from(body.unwrap_or_default())));
    *request.method_mut() = method;
    *request.uri_mut() = place.path.parse().map_err(|cause| format!("`{}`: {cause}", place.path))?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let named = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header name"))?;
    let value = HeaderValue::try_from(value).map_err(|_| format!("the value of header `{name}` cannot be sent"))?;
    headers.insert(named, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: &[(&str, String)] = &[];

    fn manner(era: Era) -> Manner<'static> {
        Manner { era, session: None, headers: HEADERS }
    }

    #[test]
    fn the_envelope_is_the_gateways_own_but_for_what_the_caller_can_answer() {
        let params = json!({"name": "t", "_meta": {
            "io.modelcontextprotocol/protocolVersion": "v999",
            "io.modelcontextprotocol/clientInfo": {"name": "evil"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
            "io.modelcontextprotocol/subscriptionId": 4,
            "com.mcp/x": 1, "com.example/kept": 2,
            "progressToken": "theirs", "traceparent": "theirs",
        }});
        let modern = enveloped(manner(Era::Modern), params.as_object().unwrap(), Some(7));
        assert_eq!(
            modern["_meta"],
            json!({
                "com.example/kept": 2, "progressToken": 7,
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": client_info(),
                "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
            })
        );
        let legacy = enveloped(manner(Era::V2025_11_25), params.as_object().unwrap(), None);
        assert_eq!(legacy["_meta"], json!({"com.example/kept": 2}), "legacy servers know of no envelope");
    }

    #[test]
    fn no_header_of_http_or_mcp_is_set_from_outside() {
        let place = Place { tls: true, host: "mcp.example".into(), port: 8443, path: "/mcp".into(), private: false };
        let headers = [
            ("Host", "evil".to_owned()),
            ("Transfer-Encoding", "chunked".to_owned()),
            ("Mcp-Session-Id", "stolen".to_owned()),
            ("X-Request-Id", "r1".to_owned()),
        ];
        let manner = Manner { era: Era::Modern, session: None, headers: &headers };
        let request = request(&place, manner, Some("secret"), &[], Some(b"{}".to_vec())).unwrap();
        assert_eq!(request.headers()["host"], "mcp.example:8443");
        assert_eq!(request.headers()["authorization"], "Bearer secret");
        assert_eq!(request.headers()["x-request-id"], "r1");
        assert!(
            request.headers().get("transfer-encoding").is_none() && request.headers().get("mcp-session-id").is_none()
        );
    }

    #[test]
    fn what_cannot_be_a_header_is_not_sent() {
        let place = Place { tls: false, host: "h".into(), port: 80, path: "/".into(), private: false };
        let headers = [("X-LoopIQ-User", "ada\r\nX-Evil: 1".to_owned())];
        let manner = Manner { era: Era::Modern, session: None, headers: &headers };
        assert!(request(&place, manner, None, &[], None).is_err());
    }
}
