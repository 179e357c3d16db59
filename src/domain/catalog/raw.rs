//! The catalog file as it is written.
//!
//! Promises: one struct per part of the file, unknown names refused, and the file's JSON Schema
//! generated from the same structs. Never checks meaning: that is `check`. Called by
//! [`super::Catalog`] and by `catalog import`, which writes this form.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CatalogFault;
use super::DryRun;
use super::Effect;
use super::Impact;
use super::OwnTool;
use super::text::plain;

/// Faults of shape that are told at once.
const FAULTS_MAX: usize = 100;

/// A catalog file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCatalog {
    /// Version of this form; 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// Backend of every tool that names none; the gateway's config gives its address.
    #[serde(default = "loopiq")]
    pub backend: String,
    /// Pieces that the tools repeat by YAML anchor; nothing else reads them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub shared: Map<String, Value>,
    /// The tools.
    pub tools: Vec<RawTool>,
}

/// A tool in a catalog file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTool {
    /// What clients call: `[A-Za-z0-9_.-]{1,64}`, unique.
    pub name: String,
    /// For people; one line.
    pub title: String,
    /// For models: what it does, when to use it, what it answers.
    pub description: String,
    /// Family that policies speak of, such as `release`: `[a-z][a-z0-9_]*`.
    pub family: String,
    /// `read` changes nothing, `write` changes records, `admin` concerns how LoopIQ is run.
    pub effect: Effect,
    /// `high` needs a person. `low` if absent, which only a `read` may leave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<Impact>,
    /// `METHOD /path/{var}`; either this or `gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Which of the gateway's own answers this tool is; either this or `route`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<OwnTool>,
    /// Backend of the route; the file's `backend` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Arguments that go into the query. If neither `query` nor `body` is there, every argument
    /// that is no path variable goes into the query of GET, HEAD and DELETE, else into the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Vec<String>>,
    /// Arguments that go into the JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Vec<String>>,
    /// How long the backend may take, with unit; `10s` if absent, at most `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// JSON Schema 2020-12 of the arguments; no arguments if absent. Objects without
    /// `additionalProperties` get `additionalProperties: false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// JSON Schema 2020-12 of the answer; an answer that does not fit it is `backend_failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// JSON pointers (`*` allowed) to what names a record's tenant in the answer; an empty list
    /// says that the answer holds no tenant's records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_fields: Option<Vec<String>>,
    /// JSON pointers to ids of the records that the answer names, creates or changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub record_ids: Vec<String>,
    /// JSON pointers to arguments that name a tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenant_arguments: Vec<String>,
    /// JSON pointers to arguments that audit must not keep in clear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive: Vec<String>,
    /// Scopes that a token needs for it, besides those that the settings ask for its effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// How the backend is asked for a dry run; it has none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
    /// Who makes sure that a repeated write happens once.
    #[serde(default, skip_serializing_if = "Idempotent::is_none")]
    pub idempotent: Idempotent,
    /// How to ask the backend what became of an execution: `GET /path/{key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<String>,
    /// Where the version of the target record is: `GET /path/{var}` whose `ETag` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Whether a read may be answered when the journal cannot take its record.
    #[serde(default, skip_serializing_if = "Audit::is_durable")]
    pub audit: Audit,
}

/// Who makes sure that a repeated write happens once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Idempotent {
    /// Nobody: an unknown outcome waits for a lookup or a person.
    #[default]
    None,
    /// The backend honours `Idempotency-Key` on this route.
    Backend,
}

/// Whether the record of a call must be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audit {
    /// No record, no answer.
    #[default]
    Durable,
    /// Reads only: answered even when the record cannot be kept; counted.
    BestEffort,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `skip_serializing_if` passes references")]
impl Idempotent {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `skip_serializing_if` passes references")]
impl Audit {
    fn is_durable(&self) -> bool {
        matches!(self, Self::Durable)
    }
}

fn loopiq() -> String {
    "loopiq".to_owned()
}

impl RawCatalog {
    /// Reads the file's form. Faults of shape are told all at once, each with its place.
    pub fn from_yaml(text: &str) -> Result<Self, Vec<CatalogFault>> {
        let options = serde_saphyr::options! {
            strict_booleans: true,
            with_snippet: false,
        };
        let document: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            vec![CatalogFault::new("(file)", plain(&error.to_string(), 400), "correct the YAML at the place named")]
        })?;
        let faults = shape_faults(&document);
        if !faults.is_empty() {
            return Err(faults);
        }
        serde_json::from_value(document).map_err(|error| {
            vec![CatalogFault::new("(file)", error.to_string(), "see `config/catalog.schema.json` for the form")]
        })
    }
}

/// JSON Schema of a catalog file, as `config/catalog.schema.json` has it.
#[must_use]
pub fn file_schema() -> Value {
    let mut schema = schemars::schema_for!(RawCatalog).to_value();
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), Value::from("loopgate catalog"));
    }
    schema
}

fn shape_faults(document: &Value) -> Vec<CatalogFault> {
    let validator = match super::schema::compile(&file_schema()) {
        Ok(validator) => validator,
        Err(what) => return vec![CatalogFault::new("(file)", what, "this is a defect of loopgate; report it")],
    };
    super::schema::reasons(&validator, document, FAULTS_MAX)
        .into_iter()
        .map(|reason| {
            let (place, message) = split_place(&reason.message);
            CatalogFault::new(named(document, place), message, reason.next)
        })
        .collect()
}

/// "`/tools/3/effect` is required" as its place and the rest.
fn split_place(message: &str) -> (&str, String) {
    match message.strip_prefix('`').and_then(|rest| rest.split_once("` ")) {
        Some((place, rest)) => (place, rest.to_owned()),
        None => ("", message.to_owned()),
    }
}

/// `/tools/3/effect` as `tools[loopiq_get_release].effect`.
fn named(document: &Value, place: &str) -> String {
    let mut parts = place.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("tools"), Some(index)) => {
            let name = document.pointer(&format!("/tools/{index}/name")).and_then(Value::as_str);
            let name = name.map_or_else(|| index.to_owned(), |name| plain(name, 64));
            let rest: Vec<&str> = parts.collect();
            let dot = if rest.is_empty() { "" } else { "." };
            format!("tools[{name}]{dot}{}", rest.join("."))
        }
        (Some(first), Some(second)) => format!("{first}.{second}"),
        (Some(first), None) => first.to_owned(),
        (None, _) => "(file)".to_owned(),
    }
}
