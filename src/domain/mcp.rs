//! MCP on the wire, both eras: bytes to [`Message`], results to bytes.
//!
//! Promises: the era is told by the body and cross-checked with the headers; checks happen in a
//! fixed order and each has its status and code; what a legacy client cannot read is left out of
//! its answers. Never decides who may do what, and never passes client bytes on.
//! Called by `pep`; strict JSON comes from `domain::canonical`. Follows MCP 2026-07-28 and
//! 2025-11-25, 2025-06-18, 2025-03-26.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

pub mod receive;
pub mod headers;
pub mod controls;
pub mod input;
pub mod offered;
pub mod sealed;
pub mod trace;
pub mod reply;
pub mod cursor;
pub mod listen;

use self::listen::Filter;

/// The modern revision served.
pub const MODERN: &str = "2026-07-28";

/// Key of the audit reference in a result's `_meta`.
pub const AUDIT_META: &str = "com.loopiq/audit";

/// Key of a refusal in a result's `_meta`.
pub const ERROR_META: &str = "com.loopiq/error";

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

impl RequestId {
    /// A string or a safe integer; nothing else identifies a request.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => number.as_i64().map(Self::Number),
            _ => None,
        }
    }
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

impl Era {
    /// The legacy revisions served, newest first.
    pub const LEGACY: [Self; 3] = [Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26];

    /// The revision as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::Modern => MODERN,
        }
    }

    /// The legacy revision of that name.
    #[must_use]
    pub fn legacy(version: &str) -> Option<Self> {
        Self::LEGACY.into_iter().find(|era| era.as_str() == version)
    }

    /// Whether this is a revision without `initialize`.
    #[must_use]
    pub fn is_modern(self) -> bool {
        self == Self::Modern
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A JSON-RPC request id, or a progress token: a string or an integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
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
    /// A list of what upstream servers offer besides tools.
    List {
        /// Of what.
        what: offered::Listed,
        /// Opaque cursor as the client sent it.
        cursor: Option<String>,
    },
    /// A prompt, a resource or a completion of an upstream server.
    Operate(offered::Operation),
    /// `logging/setLevel`, legacy only.
    SetLevel(offered::Level),
    /// `subscriptions/listen`, modern only.
    Listen(Filter),
}

impl Ask {
    /// The method, as the wire, metrics and audit records name it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Discover => "server/discover",
            Self::Initialize(_) => "initialize",
            Self::Ping => "ping",
            Self::ListTools { .. } => "tools/list",
            Self::CallTool(_) => "tools/call",
            Self::List { what, .. } => what.method(),
            Self::Operate(operation) => operation.verb.method(),
            Self::SetLevel(_) => "logging/setLevel",
            Self::Listen(_) => "subscriptions/listen",
        }
    }
}

/// A tool call as the client put it; nothing in it has been validated against a schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments; an absent object is an empty one.
    pub arguments: Map<String, Value>,
    /// What the user answered to what an earlier try asked, by the names it was asked under; modern only.
    pub input_responses: Map<String, Value>,
    /// What an earlier try gave the client to bring back, unopened; modern only.
    pub request_state: Option<String>,
}

/// A notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Notification {
    /// `notifications/cancelled`, legacy.
    Cancelled {
        /// The request to give up.
        request_id: RequestId,
    },
    /// Anything else, by its method; accepted and dropped.
    Other(String),
    /// An answer to a request that this server never sent, legacy; accepted and dropped.
    StrayAnswer,
}
