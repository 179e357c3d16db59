//! Upstream MCP servers: what each offers, and which definitions of it are accepted.
//!
//! Promises: a definition is known by the digest of its canonical form, so that one changed word is
//! another definition. Never fetches anything. Called by `catalog`, `pep` and `adapters::upstream`.

use serde_json::{Map, Value};

use crate::domain::canonical;
use crate::domain::mcp::Era;

/// What one upstream server offers, as it was read last.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The server's name in the settings.
    pub server: String,
    /// The revision that it is spoken to in.
    pub era: Era,
    /// Its capabilities, as it names them.
    pub capabilities: Map<String, Value>,
    /// Tool definitions, in its order, over all pages.
    pub tools: Vec<Value>,
    /// Prompt definitions.
    pub prompts: Vec<Value>,
    /// Resources.
    pub resources: Vec<Value>,
    /// Resource templates.
    pub templates: Vec<Value>,
}

/// SHA-256 (hex) of a definition's canonical form (RFC 8785); none where JSON cannot carry its numbers.
#[must_use]
pub fn digest(definition: &Value) -> Option<String> {
    canonical::digest_value(definition).ok()
}
