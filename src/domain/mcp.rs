//! MCP on the wire, both eras: bytes to [`Message`], results to bytes.
//!
//! Promises: the era is told by the body and cross-checked with the headers; checks happen in a
//! fixed order and each has its status and code; what a legacy client cannot read is left out of
//! its answers. Never decides who may do what, and never passes client bytes on.
//! Called by `pep`; strict JSON comes from `domain::canonical`. Follows MCP 2026-07-28 and
//! 2025-11-25, 2025-06-18, 2025-03-26.

use serde_json::{Map, Value};

/// What the HTTP request line and headers said; names are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// HTTP method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Every header in order of arrival, names in lower case. Values that are not UTF-8 are kept lossily.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Protocol revision that a message is read and answered under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Era {
    /// 2025-03-26.
    V2025_03_26,
    /// 2025-06-18.
    V2025_06_18,
    /// 2025-11-25.
    V2025_11_25,
    /// 2026-07-28, stateless.
    Modern,
}

/// A JSON-RPC request id: a string or an integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// A number.
    Number(i64),
    /// A string.
    Text(String),
}

/// One well-formed message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification(Notification),
}

/// A request, its envelope already checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Revision to answer under.
    pub era: Era,
    /// Echoed in the answer.
    pub id: RequestId,
    /// What is asked.
    pub ask: Ask,
    /// `params._meta` as sent, for `com.loopiq/…` keys, trace context and progress token.
    pub meta: Map<String, Value>,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// `server/discover`.
    Discover,
    /// `initialize`; the version is the one to answer with.
    Initialize(Era),
    /// `ping`, legacy only.
    Ping,
    /// `tools/list`.
    ListTools {
        /// Opaque cursor as the client sent it.
        cursor: Option<String>,
    },
    /// `tools/call`.
    CallTool(ToolCall),
}

/// A tool call as the client put it; nothing in it has been validated against a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments; an absent object is an empty one.
    pub arguments: Map<String, Value>,
}

/// A notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Notification {
    /// `notifications/cancelled`, legacy.
    Cancelled {
        /// The request to give up.
        request_id: RequestId,
    },
    /// Anything else; accepted and dropped.
    Other(String),
}
