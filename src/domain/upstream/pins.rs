//! Which definitions of an upstream server are accepted, by digest.
//!
//! Promises: what is accepted is accepted word for word; a definition under an accepted name with
//! another digest is a changed one, never a new one. Never decides what is accepted: settings and
//! people do. Called by `catalog`, `adapters::reload` and the catalog commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a definition defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tool, by name.
    Tool,
    /// A prompt, by name.
    Prompt,
    /// A template of resources, by its URI template.
    Template,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Tool, Self::Prompt, Self::Template];

    /// The word for one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Template => "template",
        }
    }
}

/// One accepted definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// SHA-256 (hex) of the definition, see [`super::digest`].
    pub digest: String,
    /// The definition, so that a change of it can be shown.
    pub definition: Value,
}

/// Every accepted definition of one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Version of this form; 1.
    pub schema: u32,
    /// The server's name in the settings.
    pub server: String,
    /// Accepted tools.
    #[serde(default)]
    pub tools: BTreeMap<String, Pin>,
    /// Accepted prompts.
    #[serde(default)]
    pub prompts: BTreeMap<String, Pin>,
    /// Accepted templates.
    #[serde(default)]
    pub templates: BTreeMap<String, Pin>,
}

impl Pins {
    /// Nothing of this server is accepted yet.
    #[must_use]
    pub fn none(server: &str) -> Self {
        let [tools, prompts, templates] = [(); 3].map(|()| BTreeMap::new());
        Self { schema: 1, server: server.to_owned(), tools, prompts, templates }
    }

    /// Reads the file's text; the message says what is wrong with it.
    pub fn read(text: &str, server: &str) -> Result<Self, String> {
        let pins: Self = serde_json::from_str(text).map_err(|cause| cause.to_string())?;
        if pins.schema != 1 {
            return Err(format!("form {} is not known", pins.schema));
        }
        if pins.server != server {
            return Err(format!("it is of the server `{}`, not of `{server}`", pins.server));
        }
        let mut all = Kind::ALL.into_iter().flat_map(|kind| pins.of(kind));
        match all.find(|(_, pin)| super::digest(&pin.definition).as_ref() != Some(&pin.digest)) {
            Some((name, _)) => Err(format!("the digest of `{name}` is not that of its definition")),
            None => Ok(pins),
        }
    }

    /// The accepted ones of a kind.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> &BTreeMap<String, Pin> {
        match kind {
            Kind::Tool => &self.tools,
            Kind::Prompt => &self.prompts,
            Kind::Template => &self.templates,
        }
    }

    /// The accepted definition of that name.
    #[must_use]
    pub fn pin(&self, kind: Kind, name: &str) -> Option<&Pin> {
        self.of(kind).get(name)
    }

    /// Accepts a definition, in place of an earlier one of its name. False if it has no digest.
    pub fn accept(&mut self, kind: Kind, name: &str, definition: &Value) -> bool {
        let Some(digest) = super::digest(definition) else { return false };
        let pins = match kind {
            Kind::Tool => &mut self.tools,
            Kind::Prompt => &mut self.prompts,
            Kind::Template => &mut self.templates,
        };
        pins.insert(name.to_owned(), Pin { digest, definition: definition.clone() });
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pins_come_back_as_they_were_written_and_only_for_their_server() {
        let mut pins = Pins::none("crm");
        assert!(pins.accept(Kind::Tool, "find", &json!({"name": "find", "inputSchema": {}})));
        let text = serde_json::to_string(&pins).unwrap();
        assert_eq!(Pins::read(&text, "crm").unwrap(), pins);
        assert!(Pins::read(&text, "erp").is_err());
        assert!(Pins::read(&text.replace("\"schema\":1", "\"schema\":2"), "crm").is_err());
        assert!(Pins::read("{", "crm").is_err());
    }

    #[test]
    fn an_edited_definition_does_not_pass_for_the_accepted_one() {
        let mut pins = Pins::none("crm");
        pins.accept(Kind::Tool, "find", &json!({"name": "find", "description": "finds"}));
        let text = serde_json::to_string(&pins).unwrap().replace("finds", "deletes");
        assert!(Pins::read(&text, "crm").unwrap_err().contains("find"));
    }

    #[test]
    fn the_order_of_members_is_no_change_and_any_word_is() {
        let of = |value: Value| super::super::digest(&value);
        let one = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let other = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        assert_eq!(of(one), of(other));
        assert_ne!(of(json!({"description": "a"})), of(json!({"description": "a "})));
    }
}
