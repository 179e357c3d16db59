//! One definition of an upstream server, read strictly.
//!
//! Promises: what comes out can be shown to a model and held against a call: its name has our
//! grammar, its schemas compile and refer to nothing outside, none of its words hide characters, it
//! is bounded; what clients are shown is rebuilt from members that we know. A server is believed
//! about its effect only where the settings say so. Never repairs. Called by [`super`].

use serde_json::{Map, Value, json};

use super::Terms;
use super::ToolTerms;
use crate::domain::canonical;
use crate::domain::catalog::Answerer;
use crate::domain::catalog::Compiled;
use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;
use crate::domain::catalog::Part;
use crate::domain::catalog::Tool;
use crate::domain::catalog::Upstream;
use crate::domain::catalog::check::input;
use crate::domain::catalog::check::properties;
use crate::domain::catalog::pointer::Pointer;
use crate::domain::catalog::schema;
use crate::domain::catalog::text;
use crate::domain::mcp::offered::OPERATION;

/// Bytes of one definition.
const BYTES_MAX: usize = 64 << 10;
/// Characters of a name with its prefix, as clients of every revision take them.
const NAME_CHARS_MAX: usize = 64;
const TITLE_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 10_000;
const URI_CHARS_MAX: usize = 2_048;

/// A tool of the catalog.
pub(super) fn tool(definition: &Value, terms: &Terms, digest: &str) -> Result<Tool, String> {
    bounded(definition)?;
    let own_name = words(definition, "name", NAME_CHARS_MAX)?.ok_or("it has no name")?;
    let name = name_of(&own_name, terms)?;
    let nothing = ToolTerms::default();
    let said = terms.tools.get(&own_name).unwrap_or(&nothing);
    let in_annotations = definition.get("annotations").unwrap_or(&Value::Null);
    let title = words(definition, "title", TITLE_CHARS_MAX)?.or(words(in_annotations, "title", TITLE_CHARS_MAX)?);
    let input = definition.get("inputSchema").cloned().ok_or("it has no `inputSchema`")?;
    if input.get("type").and_then(Value::as_str) != Some("object") {
        return Err("the root of its `inputSchema` is no object".to_owned());
    }
    let taken = |name: &&&str| properties(&input).is_some_and(|members| members.contains_key(**name));
    if let Some(control) = input::CONTROLS.iter().find(taken) {
        return Err(format!("its argument `{control}` is one that the gateway takes out of every call"));
    }
    let output = definition.get("outputSchema").filter(|schema| !schema.is_null()).cloned();
    let description = words(definition, "description", DESCRIPTION_CHARS_MAX)?.unwrap_or_default();
    let (effect, impact) = class(in_annotations, said, terms);
    let made = Made {
        name,
        title: title.unwrap_or_else(|| own_name.clone()),
        description,
        effect,
        impact,
        input,
        output,
        part: Part::Tool(own_name),
    };
    build(made, said, terms, digest)
}

/// The tool that stands for all prompts, or all resources, of a server.
pub(super) fn part(name: &str, part: Part, terms: &Terms) -> Result<Tool, String> {
    grammar(name)?;
    let (title, operations): (&str, &[&str]) = match part {
        Part::Prompts => ("Prompts", &["prompts/get", "completion/complete"]),
        Part::Resources | Part::Tool(_) => {
            ("Resources", &["resources/read", "completion/complete", "resources/subscribe", "resources/unsubscribe"])
        }
    };
    let input = json!({
        "type": "object",
        "required": [OPERATION],
        "properties": {OPERATION: {"enum": operations}},
    });
    let made = Made {
        name: name.to_owned(),
        title: format!("{title} of {}", terms.server),
        description: format!("{title} of the upstream server {}; no client calls this as a tool.", terms.server),
        effect: Effect::Read,
        impact: Impact::Low,
        input,
        output: None,
        part,
    };
    let nothing = ToolTerms::default();
    build(made, terms.tools.get(name).unwrap_or(&nothing), terms, "")
}

/// What a tool is made of before it is checked.
struct Made {
    name: String,
    title: String,
    description: String,
    effect: Effect,
    impact: Impact,
    input: Value,
    output: Option<Value>,
    part: Part,
}

fn build(made: Made, said: &ToolTerms, terms: &Terms, digest: &str) -> Result<Tool, String> {
    let family = said.class.family.as_ref().or(terms.defaults.family.as_ref()).cloned();
    let family = family.unwrap_or_else(|| family_of(&terms.server));
    let compiled = |what: &str, schema: &Value| {
        schema::compile_offered(schema).map_err(|why| format!("its `{what}` is no usable JSON Schema: {why}"))
    };
    let pointers = |texts: &[String]| {
        texts.iter().map(|text| Pointer::parse(text)).collect::<Result<Vec<_>, _>>().map_err(|fault| fault.to_string())
    };
    let stated = said.tenant_fields.clone();
    let class = json!({"upstream": terms.server, "definition": digest, "name": made.name, "family": family,
        "effect": made.effect, "impact": made.impact, "tenantFields": stated, "recordIds": said.record_ids,
        "tenantArguments": said.tenant_arguments, "sensitive": said.sensitive});
    let mut tool = Tool {
        compiled: Compiled {
            input: compiled("inputSchema", &made.input)?,
            output: made.output.as_ref().map(|schema| compiled("outputSchema", schema)).transpose()?,
            offered: Value::Null,
            template: None,
            version: None,
            lookup: None,
            shadows: Vec::new(),
            tenant_fields: pointers(stated.as_deref().unwrap_or_default())?,
            record_ids: pointers(&said.record_ids)?,
            tenant_arguments: pointers(&said.tenant_arguments)?,
            tenant_fields_stated: stated.is_some(),
        },
        name: made.name,
        title: made.title,
        description: made.description,
        family,
        effect: made.effect,
        impact: made.impact,
        input: made.input,
        output: made.output,
        answerer: Answerer::Upstream(Upstream {
            server: terms.server.clone(),
            prefix: terms.prefix.clone(),
            part: made.part,
            timeout: terms.timeout,
        }),
        tenant_fields: stated.unwrap_or_default(),
        record_ids: said.record_ids.clone(),
        tenant_arguments: said.tenant_arguments.clone(),
        sensitive: said.sensitive.clone(),
        // What its effect needs in the settings counts for it too; a server names no scopes of ours.
        scopes: Vec::new(),
        dry_run: None,
        idempotent: false,
        lookup: None,
        etag: None,
        best_effort_audit: false,
        digest: canonical::digest_value(&class).map_err(|fault| fault.to_string())?,
    };
    tool.compiled.offered = input::offered(&tool);
    Ok(tool)
}

/// What a tool is taken for: what the settings say; the server's own word where it is believed; else
/// the worst.
fn class(annotations: &Value, said: &ToolTerms, terms: &Terms) -> (Effect, Impact) {
    let hint = |name: &str| annotations.get(name).and_then(Value::as_bool).filter(|_| terms.believe_hints);
    let believed = (hint("readOnlyHint") == Some(true)).then_some(Effect::Read);
    let effect = said.class.effect.or(believed).or(terms.defaults.effect).unwrap_or(Effect::Write);
    // WHY: the impact that is meant for writes says nothing of a tool that is known to read only.
    let of_defaults =
        terms.defaults.impact.filter(|_| effect != Effect::Read || terms.defaults.effect == Some(Effect::Read));
    let believed = (effect == Effect::Read || hint("destructiveHint") == Some(false)).then_some(Impact::Low);
    let impact = said.class.impact.or(of_defaults).or(believed).unwrap_or(Impact::High);
    (effect, impact)
}

/// A prompt's name and definition, as clients see them.
pub(super) fn prompt(definition: &Value, terms: &Terms) -> Result<(String, Value), String> {
    bounded(definition)?;
    let own_name = words(definition, "name", NAME_CHARS_MAX)?.ok_or("it has no name")?;
    let name = name_of(&own_name, terms)?;
    let mut shown = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
    described(definition, &mut shown)?;
    if let Some(arguments) = definition.get("arguments").filter(|arguments| !arguments.is_null()) {
        let arguments = arguments.as_array().ok_or("its `arguments` are no list")?;
        let arguments = arguments.iter().map(argument).collect::<Result<Vec<Value>, String>>()?;
        shown.insert("arguments".to_owned(), Value::Array(arguments));
    }
    Ok((name, Value::Object(shown)))
}

fn argument(argument: &Value) -> Result<Value, String> {
    let name = words(argument, "name", 100)?.ok_or("an argument has no name")?;
    let mut shown = Map::from_iter([("name".to_owned(), Value::from(name))]);
    described(argument, &mut shown)?;
    if let Some(required) = argument.get("required").and_then(Value::as_bool) {
        shown.insert("required".to_owned(), required.into());
    }
    Ok(Value::Object(shown))
}

/// A template, as clients see it.
pub(super) fn template(definition: &Value) -> Result<Value, String> {
    let mut shown = Map::new();
    let uri = words(definition, "uriTemplate", URI_CHARS_MAX)?.ok_or("it has no `uriTemplate`")?;
    shown.insert("uriTemplate".to_owned(), uri.into());
    placed(definition, shown)
}

/// A resource, as clients see it; the message says why it cannot be shown.
pub fn resource(definition: &Value) -> Result<Value, String> {
    let mut shown = Map::new();
    let uri = words(definition, "uri", URI_CHARS_MAX)?.ok_or("it has no `uri`")?;
    shown.insert("uri".to_owned(), uri.into());
    if let Some(size) = definition.get("size").and_then(Value::as_u64) {
        shown.insert("size".to_owned(), size.into());
    }
    placed(definition, shown)
}

fn placed(definition: &Value, mut shown: Map<String, Value>) -> Result<Value, String> {
    bounded(definition)?;
    let name = words(definition, "name", TITLE_CHARS_MAX)?.ok_or("it has no name")?;
    shown.insert("name".to_owned(), name.into());
    described(definition, &mut shown)?;
    if let Some(media) = words(definition, "mimeType", 200)? {
        shown.insert("mimeType".to_owned(), media.into());
    }
    Ok(Value::Object(shown))
}

/// `title` and `description`, where they are there.
fn described(definition: &Value, shown: &mut Map<String, Value>) -> Result<(), String> {
    for (member, chars_max) in [("title", TITLE_CHARS_MAX), ("description", DESCRIPTION_CHARS_MAX)] {
        if let Some(text) = words(definition, member, chars_max)? {
            shown.insert(member.to_owned(), text.into());
        }
    }
    Ok(())
}

/// The name that clients see.
fn name_of(own_name: &str, terms: &Terms) -> Result<String, String> {
    let name = format!("{}{own_name}", terms.prefix);
    grammar(&name).map(|()| name)
}

fn grammar(name: &str) -> Result<(), String> {
    let proper = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(proper) {
        return Ok(());
    }
    Err(format!("`{}` is no name of 1 to {NAME_CHARS_MAX} of `A-Z a-z 0-9 _ . -`", text::plain(name, 100)))
}

/// A family that policies can speak of, after the server's name.
fn family_of(server: &str) -> String {
    let lower = server.to_ascii_lowercase().replace('-', "_");
    if lower.starts_with(|first: char| first.is_ascii_lowercase()) { lower } else { format!("upstream_{lower}") }
}

/// A text, if it is there, that shows all that it says.
fn words(definition: &Value, member: &str, chars_max: usize) -> Result<Option<String>, String> {
    match definition.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= chars_max => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err(format!("its `{member}` is longer than {chars_max} characters")),
        Some(_) => Err(format!("its `{member}` is no text")),
    }
}

/// Small enough, and without characters that people cannot see, in names as in words.
fn bounded(definition: &Value) -> Result<(), String> {
    if !definition.is_object() {
        return Err("it is no object".to_owned());
    }
    let bytes = definition.to_string().len();
    if bytes > BYTES_MAX {
        return Err(format!("it is {bytes} bytes long; at most {BYTES_MAX} are read"));
    }
    if shows_all(definition) {
        return Ok(());
    }
    Err("it has control, bidirectional, tag or invisible characters: a model would read what people cannot see"
        .to_owned())
}

/// Whether people see every character of every text and name in a value.
#[must_use]
pub fn shows_all(value: &Value) -> bool {
    let shows = |text: &str| !text.chars().any(|c| text::is_hidden(c) && !matches!(c, '\n' | '\r' | '\t'));
    match value {
        Value::String(text) => shows(text),
        Value::Array(items) => items.iter().all(shows_all),
        Value::Object(members) => members.iter().all(|(name, member)| shows(name) && shows_all(member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}
