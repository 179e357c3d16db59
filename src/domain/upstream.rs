//! Upstream MCP servers: what each offers, and which definitions of it are accepted.
//!
//! Promises: a definition is known by the digest of its canonical form, so that one changed word is
//! another definition. Never fetches anything. Called by `catalog`, `pep` and `adapters::upstream`.

pub mod pins;
pub mod carried;

use serde_json::{Map, Value, json};

use crate::domain::canonical;
use crate::domain::mcp::Era;
use crate::domain::upstream::pins::Kind;

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

impl Offer {
    /// The offer as a document that commands read.
    #[must_use]
    pub fn to_document(&self) -> Value {
        json!({
            "schema": 1,
            "server": self.server,
            "era": self.era.as_str(),
            "capabilities": self.capabilities,
            "tools": self.tools,
            "prompts": self.prompts,
            "templates": self.templates,
        })
    }

    /// Reads such a document. Resources are not in it: they are not pinned.
    #[must_use]
    pub fn from_document(document: &Value) -> Option<Self> {
        let list = |name: &str| document.get(name)?.as_array().cloned();
        let era = document.get("era")?.as_str()?;
        Some(Self {
            server: document.get("server")?.as_str()?.to_owned(),
            era: Era::legacy(era).unwrap_or(Era::Modern),
            capabilities: document.get("capabilities")?.as_object()?.clone(),
            tools: list("tools")?,
            prompts: list("prompts")?,
            resources: Vec::new(),
            templates: list("templates")?,
        })
    }

    /// The definition of that name; of two, the first.
    #[must_use]
    pub fn definition(&self, kind: Kind, name: &str) -> Option<&Value> {
        let (all, key) = match kind {
            Kind::Tool => (&self.tools, "name"),
            Kind::Prompt => (&self.prompts, "name"),
            Kind::Template => (&self.templates, "uriTemplate"),
        };
        all.iter().find(|one| one.get(key).and_then(Value::as_str) == Some(name))
    }

    /// Whether the server says that it can do this.
    #[must_use]
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some_and(Value::is_object)
    }
}
