//! What upstream servers may offer besides tools, as clients ask for it: prompts, resources,
//! completion, log levels.
//!
//! Promises: of a request only the members that its method has go on, each of the right type and
//! bounded; a method that a revision does not have is none of that revision. Never says whether
//! what is asked for exists. Called by `mcp::receive`; read by `pep`.

use serde_json::{Map, Value, json};

use crate::domain::mcp::input;
use crate::domain::mcp::receive::{cursor, invalid_params};
use crate::domain::mcp::{Ask, Era, ToolCall};
use crate::domain::refusal::Fault;

/// Member of an operation's arguments that names it, as policies see it.
pub const OPERATION: &str = "operation";

/// Longest name or URI, in bytes.
const NAME_BYTES_MAX: usize = 2_048;

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

impl Listed {
    /// The method.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The member of the result that holds the list.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The member of an element that names it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

/// What is done with something offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `prompts/get`.
    GetPrompt,
    /// `resources/read`.
    ReadResource,
    /// `completion/complete`.
    Complete,
    /// `resources/subscribe`, legacy only.
    Subscribe,
    /// `resources/unsubscribe`, legacy only.
    Unsubscribe,
}

impl Verb {
    const ALL: [Self; 5] = [Self::GetPrompt, Self::ReadResource, Self::Complete, Self::Subscribe, Self::Unsubscribe];

    /// The method.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::GetPrompt => "prompts/get",
            Self::ReadResource => "resources/read",
            Self::Complete => "completion/complete",
            Self::Subscribe => "resources/subscribe",
            Self::Unsubscribe => "resources/unsubscribe",
        }
    }

    /// The verb of that method.
    #[must_use]
    pub fn of(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.method() == method)
    }

    /// Whether its server may ask the client's user before it answers (MCP 2026-07-28).
    #[must_use]
    pub const fn may_ask(self) -> bool {
        matches!(self, Self::GetPrompt | Self::ReadResource)
    }
}

/// One operation, in the form of a call: policy judges it as the tool that stands for what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// What is done.
    pub verb: Verb,
    /// With what: the method's own members, and [`OPERATION`].
    pub call: ToolCall,
}

/// What a client asks about a thing that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A prompt, by the name that the gateway gives it.
    Prompt(&'a str),
    /// A resource, or a template of resources.
    Resource(&'a str),
}

impl Operation {
    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        let text = |pointer: &str| {
            let (first, rest) = pointer.split_once('/').unwrap_or((pointer, ""));
            let value = self.call.arguments.get(first);
            let value = if rest.is_empty() { value } else { value.and_then(|value| value.get(rest)) };
            value.and_then(Value::as_str)
        };
        match self.verb {
            Verb::GetPrompt => Subject::Prompt(text("name").unwrap_or_default()),
            Verb::ReadResource | Verb::Subscribe | Verb::Unsubscribe => {
                Subject::Resource(text("uri").unwrap_or_default())
            }
            Verb::Complete => match (text("ref/name"), text("ref/uri")) {
                (Some(name), None) => Subject::Prompt(name),
                (_, uri) => Subject::Resource(uri.unwrap_or_default()),
            },
        }
    }
}

/// Severity of a log message, least first (RFC 5424 the other way round).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `debug`.
    Debug,
    /// `info`.
    Info,
    /// `notice`.
    Notice,
    /// `warning`.
    Warning,
    /// `error`.
    Error,
    /// `critical`.
    Critical,
    /// `alert`.
    Alert,
    /// `emergency`.
    Emergency,
}

impl Level {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Notice, "notice"),
        (Self::Warning, "warning"),
        (Self::Error, "error"),
        (Self::Critical, "critical"),
        (Self::Alert, "alert"),
        (Self::Emergency, "emergency"),
    ];

    /// The level of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(level, _)| level)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(level, _)| *level == self).map_or("debug", |(_, name)| name)
    }
}

/// Reads a request that upstream servers may answer; none if the revision has no such method.
pub(super) fn read(method: &str, era: Era, params: &mut Map<String, Value>) -> Result<Option<Ask>, Fault> {
    let listed = [Listed::Prompts, Listed::Resources, Listed::Templates];
    if let Some(what) = listed.into_iter().find(|what| what.method() == method) {
        return Ok(Some(Ask::List { what, cursor: cursor(params)? }));
    }
    if method == "logging/setLevel" && !era.is_modern() {
        let level = params.get("level").and_then(Value::as_str).and_then(Level::named);
        return level.map(|level| Some(Ask::SetLevel(level))).ok_or_else(|| invalid_params("`level` is no log level"));
    }
    let Some(verb) = Verb::of(method) else { return Ok(None) };
    if era.is_modern() && matches!(verb, Verb::Subscribe | Verb::Unsubscribe) {
        return Ok(None);
    }
    let mut call = ToolCall { name: method.to_owned(), ..ToolCall::default() };
    if era.is_modern() && verb.may_ask() {
        input::read(params, &mut call)?;
    }
    call.arguments = match verb {
        Verb::GetPrompt => prompt(params)?,
        Verb::Complete => completion(params)?,
        Verb::ReadResource | Verb::Subscribe | Verb::Unsubscribe => object(json!({"uri": name(params, "uri")?})),
    };
    call.arguments.insert(OPERATION.to_owned(), method.into());
    Ok(Some(Ask::Operate(Operation { verb, call })))
}

fn prompt(params: &Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    let mut members = object(json!({"name": name(params, "name")?}));
    if let Some(arguments) = texts(params, "arguments")? {
        members.insert("arguments".to_owned(), arguments);
    }
    Ok(members)
}

fn completion(params: &Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    let wanted = "`ref` must be a `ref/prompt` with a `name`, or a `ref/resource` with a `uri`";
    let reference = params.get("ref").and_then(Value::as_object).ok_or_else(|| invalid_params(wanted))?;
    let reference = match reference.get("type").and_then(Value::as_str) {
        Some(kind @ "ref/prompt") => json!({"type": kind, "name": name(reference, "name")?}),
        Some(kind @ "ref/resource") => json!({"type": kind, "uri": name(reference, "uri")?}),
        _ => return Err(invalid_params(wanted)),
    };
    let wanted = "`argument` must have a `name` and a `value`, both strings";
    let argument = params.get("argument").and_then(Value::as_object).ok_or_else(|| invalid_params(wanted))?;
    let value = argument.get("value").and_then(Value::as_str).ok_or_else(|| invalid_params(wanted))?;
    let mut members = object(json!({"ref": reference, "argument": {"name": name(argument, "name")?, "value": value}}));
    match params.get("context") {
        None => {}
        Some(Value::Object(context)) => {
            let known = texts(context, "arguments")?.unwrap_or_else(|| json!({}));
            members.insert("context".to_owned(), json!({"arguments": known}));
        }
        Some(_) => return Err(invalid_params("`context` must be an object")),
    }
    Ok(members)
}

/// An object of strings, if it is there.
fn texts(params: &Map<String, Value>, member: &str) -> Result<Option<Value>, Fault> {
    match params.get(member) {
        None => Ok(None),
        Some(Value::Object(texts)) if texts.values().all(Value::is_string) => Ok(Some(Value::Object(texts.clone()))),
        Some(_) => Err(invalid_params(&format!("`{member}` must be an object of strings"))),
    }
}

fn name<'a>(params: &'a Map<String, Value>, member: &str) -> Result<&'a str, Fault> {
    let proper = |name: &&str| (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    let found = params.get(member).and_then(Value::as_str).filter(proper);
    found.ok_or_else(|| invalid_params(&format!("`{member}` must be a string of 1 to {NAME_BYTES_MAX} bytes")))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, era: Era, params: Value) -> Result<Option<Ask>, Fault> {
        read(method, era, &mut object(params))
    }

    fn operation(method: &str, params: Value) -> Operation {
        match asked(method, Era::Modern, params).unwrap() {
            Some(Ask::Operate(operation)) => operation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_a_request_only_what_its_method_has_goes_on() {
        let params = json!({"name": "p", "arguments": {"a": "1"}, "secret": true, "operation": "tools/call"});
        let got = operation("prompts/get", params);
        assert_eq!(
            json!(got.call.arguments),
            json!({"name": "p", "arguments": {"a": "1"}, "operation": "prompts/get"})
        );
        assert_eq!(got.subject(), Subject::Prompt("p"));
        let params = json!({"ref": {"type": "ref/resource", "uri": "t://{x}", "name": "p"},
            "argument": {"name": "x", "value": "", "more": 1}});
        let got = operation("completion/complete", params);
        assert_eq!(got.subject(), Subject::Resource("t://{x}"));
        let said = json!({"ref": {"type": "ref/resource", "uri": "t://{x}"}, "argument": {"name": "x", "value": ""},
            "operation": "completion/complete"});
        assert_eq!(json!(got.call.arguments), said);
    }

    #[test]
    fn what_has_the_wrong_form_is_refused() {
        for (method, params) in [
            ("prompts/get", json!({})),
            ("prompts/get", json!({"name": 7})),
            ("prompts/get", json!({"name": "p", "arguments": {"a": 1}})),
            ("resources/read", json!({"uri": ""})),
            ("resources/read", json!({"uri": "a\nb"})),
            ("resources/read", json!({"uri": "x".repeat(NAME_BYTES_MAX + 1)})),
            ("completion/complete", json!({"ref": {"type": "ref/tool", "name": "x"}, "argument": {}})),
            ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a"}})),
            ("prompts/list", json!({"cursor": 1})),
        ] {
            let fault = asked(method, Era::Modern, params.clone()).unwrap_err();
            assert_eq!((fault.status, fault.code), (200, -32602), "{method} {params}");
        }
        assert!(asked("logging/setLevel", Era::V2025_11_25, json!({"level": "loud"})).is_err());
    }

    #[test]
    fn a_method_is_of_its_revisions_only() {
        for method in ["resources/subscribe", "resources/unsubscribe", "logging/setLevel"] {
            let params = json!({"uri": "a:b", "level": "info"});
            assert_eq!(asked(method, Era::Modern, params.clone()).unwrap(), None, "{method}");
            assert!(asked(method, Era::V2025_11_25, params).unwrap().is_some(), "{method}");
        }
        assert_eq!(asked("tasks/get", Era::Modern, json!({})).unwrap(), None);
    }
}
