//! Bytes and headers to one well-formed [`Message`].
//!
//! Promises: checks happen in one order and the first failure answers, each with its HTTP status
//! and JSON-RPC code; the era is told by the body and cross-checked with the headers; the id is
//! given back wherever it could be read. Never authenticates and never looks at a tool's schema.
//! Called by `pep`: [`receive_head`] before authentication, [`receive`] after it.
//!
//! Batches (JSON-RPC arrays) are refused for every revision, 2025-03-26 too: no known client sends
//! one, and one request per HTTP exchange is what approvals, audit and idempotency rest on.

use serde_json::{Map, Value, json};

use crate::domain::canonical::{Flaw, Limits, parse};
use crate::domain::mcp::headers;
use crate::domain::mcp::input;
use crate::domain::mcp::listen;
use crate::domain::mcp::offered;
use crate::domain::mcp::{Ask, Era, Head, MODERN, Message, Notification, Request, RequestId, ToolCall};
use crate::domain::refusal::Fault;

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
pub(super) const INVALID_PARAMS: i64 = -32602;
const UNSUPPORTED_VERSION: i64 = -32022;

const VERSION_META: &str = "io.modelcontextprotocol/protocolVersion";
pub(super) const CAPABILITIES_META: &str = "io.modelcontextprotocol/clientCapabilities";

/// Who may talk to this door at all; guards browsers against DNS rebinding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoorRules {
    /// Names that `Host` may carry, without port, lower case; empty means any unless `loopback`.
    pub allowed_hosts: Vec<String>,
    /// Origins that browsers may call from, as they send them; `*` allows every one.
    pub allowed_origins: Vec<String>,
    /// Whether the door is bound to loopback: then `localhost`, `127.0.0.0/8` and `[::1]` are ours.
    pub loopback: bool,
}

impl DoorRules {
    /// Whether a browser page of this origin may call.
    #[must_use]
    pub fn allows_origin(&self, origin: &str) -> bool {
        let listed = self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin));
        let web = |scheme: &str| ["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
        let authority = origin.split_once("://").filter(|(scheme, _)| web(scheme)).map(|(_, authority)| authority);
        listed || (self.loopback && authority.and_then(host_name).is_some_and(is_loopback))
    }

    /// Whether this `Host` names us.
    #[must_use]
    pub fn allows_host(&self, host: &str) -> bool {
        let Some(name) = host_name(host) else { return false };
        let listed = self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
        listed || if self.loopback { is_loopback(name) } else { self.allowed_hosts.is_empty() }
    }
}

/// What was wrong, and the id to answer to where it could be read.
pub type Rejected = (Fault, Option<RequestId>);

/// Checks 1 and 2: origin and host (403), method (405, to be sent with `Allow: POST`).
pub fn receive_head(head: &Head, rules: &DoorRules) -> Result<(), Fault> {
    if let Some(origin) = head.all("origin").find(|origin| !rules.allows_origin(origin)) {
        return Err(Fault::new(403, INVALID_REQUEST, format!("the origin `{origin}` may not call this server")));
    }
    if !head.get("host").is_some_and(|host| rules.allows_host(host)) {
        return Err(Fault::new(403, INVALID_REQUEST, "the `Host` header does not name this server"));
    }
    if head.method != "POST" {
        return Err(Fault::new(405, INVALID_REQUEST, format!("`{}` is not served here; send `POST`", head.method)));
    }
    Ok(())
}

/// Checks 4 to 18: one message, or what was wrong with it.
pub fn receive(head: &Head, body: &[u8], limits: &Limits) -> Result<Message, Rejected> {
    check_content_type(head).map_err(without_id)?;
    let value = parse(body, limits).map_err(|fault| {
        without_id(match fault.what {
            Flaw::TooLong(bytes_max) => too_large(bytes_max),
            _ => Fault::new(400, PARSE_ERROR, fault.to_string()),
        })
    })?;
    match value {
        Value::Object(object) => message(head, object),
        Value::Array(_) => Err(without_id(invalid("batches are not served; send one message per request"))),
        _ => Err(without_id(invalid("a message is a JSON object"))),
    }
}

/// Check 5: the body is longer than this server reads.
#[must_use]
pub fn too_large(bytes_max: usize) -> Fault {
    Fault::new(413, INVALID_REQUEST, format!("the body is longer than {bytes_max} bytes; send less"))
}

/// The body did not arrive in time.
#[must_use]
pub fn too_slow() -> Fault {
    Fault::new(408, INVALID_REQUEST, "the request did not arrive in time; send it again")
}

/// The body ended early or was framed wrongly.
#[must_use]
pub fn broken_off() -> Fault {
    Fault::new(400, INVALID_REQUEST, "the body broke off or was framed wrongly; send it again")
}

fn without_id(fault: Fault) -> Rejected {
    (fault, None)
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(400, INVALID_REQUEST, message)
}

/// The name in `name`, `name:port`, `[v6]` or `[v6]:port`; none when it is anything else.
fn host_name(authority: &str) -> Option<&str> {
    let (name, rest) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (name, rest) = bracketed.split_once(']')?;
            name.parse::<std::net::Ipv6Addr>().ok()?;
            (name, rest)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let has_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(has_port)).then_some(name)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn check_content_type(head: &Head) -> Result<(), Fault> {
    let mut types = head.all("content-type");
    let essence = types.next().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") && types.next().is_none() {
        Ok(())
    } else {
        Err(Fault::new(415, INVALID_REQUEST, "send the message as `Content-Type: application/json`"))
    }
}

/// A message taken apart, nothing in it believed yet.
struct Parts {
    id: Option<RequestId>,
    method: String,
    /// An absent object is an empty one.
    params: Map<String, Value>,
}

impl Parts {
    fn declared(&self, key: &str) -> Option<&Value> {
        self.params.get("_meta")?.get(key)
    }

    /// The version that a complete modern envelope declares.
    fn envelope(&self) -> Option<&str> {
        self.declared(CAPABILITIES_META)?.as_object()?;
        self.declared(VERSION_META)?.as_str()
    }
}

fn message(head: &Head, mut object: Map<String, Value>) -> Result<Message, Rejected> {
    let id = read_id(&object).map_err(without_id)?;
    let reject = |fault: Fault| (fault, id.clone());
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(reject(invalid("`jsonrpc` must be \"2.0\"")));
    }
    let answers = object.contains_key("result") || object.contains_key("error");
    let method = match object.remove("method") {
        Some(Value::String(method)) if !answers => method,
        None if answers => return stray_answer(head).map_err(reject),
        _ => {
            return Err(reject(invalid(
                "a message has either a `method`, which is a string, or a `result` or `error`",
            )));
        }
    };
    let params = match object.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(reject(invalid("`params` must be an object"))),
    };
    let parts = Parts { id: id.clone(), method, params };
    classified(head, parts).map_err(|fault| (fault, id))
}

fn read_id(object: &Map<String, Value>) -> Result<Option<RequestId>, Fault> {
    object
        .get("id")
        .map(|id| RequestId::read(id).ok_or_else(|| invalid("`id` must be a string or an integer")))
        .transpose()
}

/// An answer to nothing: this server never asks. Legacy revisions want it taken, modern ones refused.
fn stray_answer(head: &Head) -> Result<Message, Fault> {
    if says_modern(head) {
        return Err(invalid("this server sends no requests, so it takes no answers"));
    }
    legacy_era(head)?;
    Ok(Message::Notification(Notification::StrayAnswer))
}

/// Check 9: which era's rules the message is read under.
fn classified(head: &Head, parts: Parts) -> Result<Message, Fault> {
    if parts.method == "initialize" && parts.envelope().is_none() {
        return if says_modern(head) { Err(headers::legacy_method("initialize")) } else { legacy(head, parts) };
    }
    if parts.declared(VERSION_META).is_some() || says_modern(head) { modern(head, parts) } else { legacy(head, parts) }
}

/// Whether the header claims the modern revision or a later one.
fn says_modern(head: &Head) -> bool {
    let is_date = |text: &str| {
        text.len() == MODERN.len()
            && text
                .bytes()
                .zip(MODERN.bytes())
                .all(|(byte, model)| if model == b'-' { byte == b'-' } else { byte.is_ascii_digit() })
    };
    head.all("mcp-protocol-version").map(str::trim).any(|version| is_date(version) && version >= MODERN)
}

fn modern(head: &Head, mut parts: Parts) -> Result<Message, Fault> {
    let Some(id) = parts.id.clone() else {
        let version = parts.declared(VERSION_META).and_then(Value::as_str);
        headers::check_notification(head, version, &parts.method)?;
        return Ok(Message::Notification(Notification::Other(parts.method)));
    };
    let Some(version) = parts.envelope() else {
        let message =
            format!("`params._meta` must carry `{VERSION_META}`, a string, and `{CAPABILITIES_META}`, an object");
        return Err(Fault::new(400, INVALID_PARAMS, message));
    };
    headers::check_routing(head, version, &parts.method, &parts.params)?;
    if version != MODERN {
        let data = json!({"supported": [MODERN], "requested": version});
        return Err(
            Fault::new(400, UNSUPPORTED_VERSION, format!("protocol version `{version}` is not served")).with(data)
        );
    }
    let ask = match parts.method.as_str() {
        "server/discover" => Ask::Discover,
        "tools/list" => Ask::ListTools { cursor: cursor(&parts.params)? },
        "tools/call" => {
            let mut call = call_tool(&mut parts.params)?;
            input::read(&mut parts.params, &mut call)?;
            Ask::CallTool(call)
        }
        "subscriptions/listen" => Ask::Listen(listen::filter(&parts.params)?),
        method => {
            let ask = offered::read(method, Era::Modern, &mut parts.params)?;
            ask.ok_or_else(|| unknown_method(Era::Modern, method))?
        }
    };
    Ok(Message::Request(Request { era: Era::Modern, id, ask, meta: meta(&mut parts.params)? }))
}

fn legacy(head: &Head, mut parts: Parts) -> Result<Message, Fault> {
    if parts.method == "initialize"
        && let Some(id) = parts.id.clone()
    {
        let era = negotiate(&parts.params)?;
        return Ok(Message::Request(Request { era, id, ask: Ask::Initialize(era), meta: meta(&mut parts.params)? }));
    }
    let era = legacy_era(head)?;
    let Some(id) = parts.id.clone() else {
        return Ok(Message::Notification(legacy_notification(parts)));
    };
    let ask = match parts.method.as_str() {
        "ping" => Ask::Ping,
        "tools/list" => Ask::ListTools { cursor: cursor(&parts.params)? },
        "tools/call" => Ask::CallTool(call_tool(&mut parts.params)?),
        method => offered::read(method, era, &mut parts.params)?.ok_or_else(|| unknown_method(era, method))?,
    };
    Ok(Message::Request(Request { era, id, ask, meta: meta(&mut parts.params)? }))
}

/// The version to answer `initialize` with: the client's if served, else our newest legacy one.
fn negotiate(params: &Map<String, Value>) -> Result<Era, Fault> {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let asked = asked.ok_or_else(|| invalid_params("`protocolVersion` must be a string"))?;
    Ok(Era::legacy(asked).unwrap_or(Era::V2025_11_25))
}

/// Check 10 of legacy: the header, where absence means 2025-03-26.
fn legacy_era(head: &Head) -> Result<Era, Fault> {
    let mut versions = head.all("mcp-protocol-version").map(str::trim);
    let Some(version) = versions.next() else {
        return Ok(Era::V2025_03_26);
    };
    let same = versions.all(|other| other == version);
    Era::legacy(version).filter(|_| same).ok_or_else(|| {
        let supported: Vec<&str> = Era::LEGACY.iter().map(|era| era.as_str()).collect();
        invalid(format!("`MCP-Protocol-Version: {version}` is not served")).with(json!({"supported": supported}))
    })
}

fn legacy_notification(parts: Parts) -> Notification {
    let cancelled = parts.params.get("requestId").and_then(RequestId::read);
    match cancelled {
        Some(request_id) if parts.method == "notifications/cancelled" => Notification::Cancelled { request_id },
        _ => Notification::Other(parts.method),
    }
}

pub(super) fn cursor(params: &Map<String, Value>) -> Result<Option<String>, Fault> {
    match params.get("cursor") {
        None => Ok(None),
        Some(Value::String(cursor)) => Ok(Some(cursor.clone())),
        Some(_) => Err(invalid_params("`cursor` must be a string")),
    }
}

fn call_tool(params: &mut Map<String, Value>) -> Result<ToolCall, Fault> {
    let Some(Value::String(name)) = params.remove("name") else {
        return Err(invalid_params("`name` must be a string"));
    };
    let arguments = match params.remove("arguments") {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(invalid_params("`arguments` must be an object")),
    };
    Ok(ToolCall { name, arguments, ..ToolCall::default() })
}

fn meta(params: &mut Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    match params.remove("_meta") {
        None => Ok(Map::new()),
        Some(Value::Object(meta)) => Ok(meta),
        Some(_) => Err(invalid_params("`_meta` must be an object")),
    }
}

pub(super) fn invalid_params(message: &str) -> Fault {
    Fault::new(200, INVALID_PARAMS, message)
}

/// The answer to a method that nobody serves here: 404 in the modern revision, as it asks.
#[must_use]
pub fn unknown_method(era: Era, method: &str) -> Fault {
    let status = if era.is_modern() { 404 } else { 200 };
    Fault::new(status, METHOD_NOT_FOUND, format!("method `{method}` is not served"))
}

#[cfg(test)]
mod tests;
