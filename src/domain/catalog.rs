//! What exists: tools, the routes behind them, their effect and impact.
//!
//! Promises: a [`Tool`] is complete and checked when it exists; arguments are validated before
//! anyone else sees them; a request to a backend is built from validated arguments and each path
//! variable is one encoded segment; a raw route invocation becomes the semantic tool of its route.
//! Never asks policy and never sends anything. Called by `pep`, `pdp` and the catalog commands.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::identity::Tenant;
use crate::domain::mcp::ToolCall;
use crate::domain::refusal::Code;
use crate::domain::refusal::Reason;
use crate::domain::refusal::Refusal;

pub mod raw;
mod check;
mod schema;
mod template;
mod request;
mod resolve;
mod lint;
pub mod pointer;
pub mod text;
pub mod upstream;

use pointer::Pointer;

/// The catalog that comes with the gateway: `config/catalog.yaml`.
pub const BUILT_IN: &str = include_str!("../../config/catalog.yaml");

/// How many faults of one call are told.
const REASONS_MAX: usize = 20;

/// Every tool, checked, in the order of their names.
#[derive(Debug, Clone)]
pub struct Catalog {
    tools: BTreeMap<String, Arc<Tool>>,
    /// Prompts of upstream servers, by the names that clients see.
    prompts: BTreeMap<String, upstream::Prompt>,
    /// Templates of resources, of each upstream server.
    templates: Vec<upstream::Template>,
    digest: String,
}

impl Catalog {
    /// Reads a catalog file. All faults are found at once; one fault and there is no catalog.
    pub fn from_yaml(text: &str) -> Result<Self, Vec<CatalogFault>> {
        Self::from_raw(&raw::RawCatalog::from_yaml(text)?)
    }

    /// Checks a catalog that was read or made elsewhere.
    pub fn from_raw(raw: &raw::RawCatalog) -> Result<Self, Vec<CatalogFault>> {
        check::check(raw)
    }

    /// Every tool, sorted by name.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.tools.values()
    }

    /// The tool of that name.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&Arc<Tool>> {
        self.tools.get(name)
    }

    /// Names of the backends that tools are on; each needs an address in the gateway's config.
    #[must_use]
    pub fn backends(&self) -> BTreeSet<&str> {
        self.tools().filter_map(|tool| tool.route().map(|route| route.backend.as_str())).collect()
    }

    /// SHA-256 (hex) over every tool's digest; two catalogs with one digest define the same tools.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Finds out which tool a call is about. A raw route invocation becomes the semantic tool of
    /// that route, with that tool's arguments; these are not validated yet, see [`Tool::validate`].
    pub fn resolve(&self, call: &ToolCall) -> Result<Target, ResolveFault> {
        resolve::resolve(self, call)
    }

    /// What is not wrong but will hurt: missing record ids, unguarded high-impact writes and the like.
    #[must_use]
    pub fn lint(&self) -> Vec<CatalogFault> {
        lint::lint(self)
    }
}

/// What a call is about.
#[derive(Debug, Clone)]
pub struct Target {
    /// The tool to judge, preview, approve, forward and record.
    pub tool: Arc<Tool>,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// The generic tool that the caller used instead of `tool` itself.
    pub via: Option<Arc<Tool>>,
}

/// Why a call is about nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveFault {
    /// No tool of that name.
    #[error("unknown tool: {0}")]
    UnknownTool(String),
    /// A raw invocation of a route that no tool stands for.
    #[error("unknown route: {method} {path}")]
    UnknownRoute {
        /// HTTP method as the caller gave it.
        method: String,
        /// Path as the caller gave it.
        path: String,
    },
    /// The call is malformed. Whoever may not see `tool` must not be shown the refusal either.
    #[error("{refusal}")]
    Invalid {
        /// The tool whose arguments are wrong: the generic one or that of the route.
        tool: Arc<Tool>,
        /// What is wrong with them.
        refusal: Box<Refusal>,
    },
}

/// One thing wrong with a catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[error("{path}: {message}; {remedy}")]
pub struct CatalogFault {
    /// Where, such as `tools[loopiq_get_release].input`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl CatalogFault {
    /// A fault at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), remedy: remedy.into() }
    }
}

/// What a tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes nothing.
    Read,
    /// Creates or changes records.
    Write,
    /// Changes how LoopIQ itself is run.
    Admin,
}

/// How bad a mistake would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Goes through when policy allows.
    Low,
    /// Needs a person.
    High,
}

/// Who answers a tool.
#[derive(Debug, Clone, PartialEq)]
pub enum Answerer {
    /// A backend route.
    Route(Route),
    /// The gateway itself.
    Gateway(OwnTool),
    /// An upstream MCP server.
    Upstream(Upstream),
}

/// What an upstream MCP server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the settings.
    pub server: String,
    /// What the gateway puts before the names of its tools and prompts.
    pub prefix: String,
    /// What of it.
    pub part: Part,
    /// How long it may take.
    pub timeout: Duration,
}

/// A part of an upstream MCP server that policy decides about as one tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A tool, by its name there.
    Tool(String),
    /// All its prompts; no client can call them as a tool.
    Prompts,
    /// All its resources; no client can call them as a tool.
    Resources,
}

impl Upstream {
    /// What policies see as the route.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.part {
            Part::Tool(name) => format!("mcp {}/{name}", self.server),
            Part::Prompts => format!("mcp {} prompts", self.server),
            Part::Resources => format!("mcp {} resources", self.server),
        }
    }
}

/// The gateway's own tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnTool {
    /// What this gateway promises about retries, approvals and audit.
    ReliabilityContract,
    /// Which organisation this connection is in, and as whom.
    TenantContext,
    /// Resource families the caller may use.
    ListResources,
    /// Routes the caller may invoke.
    ListRoutes,
    /// A route by method and path; resolved to its semantic tool before anything else happens.
    InvokeRoute,
    /// Where an approval or a write of the caller stands.
    GetAction,
    /// What people approved, with the stored arguments; resolved to its tool before anything else happens.
    ExecuteApproved,
}

/// `METHOD /path/{var}` on a backend, and where each argument goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Name of the backend in the config.
    pub backend: String,
    /// HTTP method, upper case.
    pub method: String,
    /// Path template, such as `/api/v1/releases/{release}/certification`.
    pub template: String,
    /// Arguments that go into the query string.
    pub query: Vec<String>,
    /// Arguments that go into the JSON body; path variables are found in the template.
    pub body: Vec<String>,
    /// How long the backend may take.
    pub timeout: Duration,
}

/// One tool.
#[derive(Debug)]
pub struct Tool {
    /// `[A-Za-z0-9_.-]{1,64}`.
    pub name: String,
    /// For people.
    pub title: String,
    /// For models.
    pub description: String,
    /// Family, such as `release` or `remediation`.
    pub family: String,
    /// What it does to the world.
    pub effect: Effect,
    /// How bad a mistake would be.
    pub impact: Impact,
    /// JSON Schema 2020-12 of the arguments, `additionalProperties: false` unless the catalog says otherwise.
    pub input: Value,
    /// JSON Schema 2020-12 of the structured answer.
    pub output: Option<Value>,
    /// Who answers.
    pub answerer: Answerer,
    /// JSON pointers (`*` allowed) to fields that name a record's tenant in the answer.
    pub tenant_fields: Vec<String>,
    /// JSON pointers (`*` allowed) to ids of created or updated records in the answer.
    pub record_ids: Vec<String>,
    /// JSON pointers to argument fields that name a tenant; another tenant there is `tenant_forbidden`.
    pub tenant_arguments: Vec<String>,
    /// JSON pointers to argument fields that audit must not keep in clear.
    pub sensitive: Vec<String>,
    /// Scopes that a token needs for it, besides those that the settings ask for its effect.
    pub scopes: Vec<String>,
    /// Query flag or header that makes the backend do a dry run.
    pub dry_run: Option<DryRun>,
    /// Whether the backend honours `Idempotency-Key` on this route.
    pub idempotent: bool,
    /// How to ask the backend what became of an execution, as `METHOD /path/{key}`.
    pub lookup: Option<String>,
    /// Where the version of the target record is: `GET /path/{var}` whose `ETag` counts.
    pub etag: Option<String>,
    /// Whether a read may be answered when the journal cannot take its record.
    pub best_effort_audit: bool,
    /// SHA-256 (hex) of the definition as the catalog gives it.
    pub digest: String,
    /// What was worked out once when the catalog was checked.
    compiled: Compiled,
}

/// What is worked out once per tool, so that a call pays for none of it.
struct Compiled {
    input: jsonschema::Validator,
    output: Option<jsonschema::Validator>,
    /// `input` plus the control arguments that the gateway takes out of a call.
    offered: Value,
    template: Option<template::Template>,
    /// `etag`, taken apart.
    version: Option<template::Template>,
    /// `lookup`, taken apart.
    lookup: Option<template::Template>,
    /// Values of path variables that would make this tool's path another tool's route.
    shadows: Vec<BTreeMap<String, String>>,
    tenant_fields: Vec<Pointer>,
    record_ids: Vec<Pointer>,
    tenant_arguments: Vec<Pointer>,
    /// Whether the catalog names `tenant_fields`, be it as an empty list.
    tenant_fields_stated: bool,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compiled")
    }
}

impl Tool {
    /// The route behind the tool; none for the gateway's own tools.
    #[must_use]
    pub fn route(&self) -> Option<&Route> {
        match &self.answerer {
            Answerer::Route(route) => Some(route),
            Answerer::Gateway(_) | Answerer::Upstream(_) => None,
        }
    }

    /// The upstream server behind the tool, if it is one's.
    #[must_use]
    pub fn upstream(&self) -> Option<&Upstream> {
        match &self.answerer {
            Answerer::Upstream(upstream) => Some(upstream),
            Answerer::Gateway(_) | Answerer::Route(_) => None,
        }
    }

    /// Whether clients see and call it as a tool; what stands for prompts or resources is none.
    #[must_use]
    pub fn is_called(&self) -> bool {
        self.upstream().is_none_or(|upstream| matches!(upstream.part, Part::Tool(_)))
    }

    /// `METHOD /path/{var}`, `mcp server/tool`, or `gateway` for the gateway's own tools: what policies
    /// see as the route.
    #[must_use]
    pub fn route_text(&self) -> String {
        match &self.answerer {
            Answerer::Route(route) => route.text(),
            Answerer::Gateway(_) => "gateway".to_owned(),
            Answerer::Upstream(upstream) => upstream.text(),
        }
    }

    /// The input schema as clients see it: with `dryRun`, `idempotencyKey` and `approvalId` where
    /// they mean something. The gateway takes these out before [`Tool::validate`].
    #[must_use]
    pub fn offered_input(&self) -> &Value {
        &self.compiled.offered
    }

    /// Checks arguments against the input schema; every fault is told, up to twenty.
    pub fn validate(&self, arguments: &Map<String, Value>) -> Result<(), Refusal> {
        let instance = Value::Object(arguments.clone());
        if self.compiled.input.is_valid(&instance) {
            return Ok(());
        }
        Err(invalid(schema::reasons(&self.compiled.input, &instance, REASONS_MAX)))
    }

    /// Checks an answer against the output schema; what does not fit is for operators to read.
    pub fn validate_answer(&self, answer: &Value) -> Result<(), String> {
        let Some(validator) = &self.compiled.output else { return Ok(()) };
        if validator.is_valid(answer) {
            return Ok(());
        }
        let faults: Vec<String> =
            schema::reasons(validator, answer, 5).into_iter().map(|reason| reason.message).collect();
        Err(faults.join("; "))
    }

    /// The refusal for arguments that name another tenant than the call's.
    #[must_use]
    pub fn foreign_tenant(&self, arguments: &Map<String, Value>, tenant: &Tenant) -> Option<Refusal> {
        if self.compiled.tenant_arguments.is_empty() {
            return None;
        }
        let instance = Value::Object(arguments.clone());
        for pointer in &self.compiled.tenant_arguments {
            let foreign =
                pointer.find(&instance).values.into_iter().any(|value| value.as_str() != Some(tenant.as_str()));
            if foreign {
                let message =
                    format!("`{pointer}` names another tenant than `{}`, which this call is made for", tenant.as_str());
                let next = format!("leave `{pointer}` out, or choose that tenant in the `X-LoopIQ-Tenant` header");
                return Some(Refusal::because(Code::TenantForbidden, message).then(next));
            }
        }
        None
    }

    /// Builds the request from arguments that [`Tool::validate`] has passed. Every argument is
    /// placed or the call is refused; nothing is spliced.
    pub fn request(&self, arguments: &Map<String, Value>, dry_run: bool) -> Result<RouteRequest, Refusal> {
        request::build(self, arguments, dry_run)
    }

    /// The request whose `ETag` is the version of the record that a call is about; none where the
    /// catalog names no such record.
    pub fn version_request(&self, arguments: &Map<String, Value>) -> Result<Option<RouteRequest>, Refusal> {
        request::question(self, self.compiled.version.as_ref(), arguments)
    }

    /// The request that tells what became of an execution; none where the backend cannot say.
    pub fn lookup_request(&self, execution_id: &str) -> Result<Option<RouteRequest>, Refusal> {
        let key = Map::from_iter([("key".to_owned(), Value::from(execution_id))]);
        request::question(self, self.compiled.lookup.as_ref(), &key)
    }

    /// Where the answer names its tenant.
    #[must_use]
    pub fn tenant_pointers(&self) -> &[Pointer] {
        &self.compiled.tenant_fields
    }

    /// Where the answer names its records.
    #[must_use]
    pub fn record_pointers(&self) -> &[Pointer] {
        &self.compiled.record_ids
    }
}

impl Route {
    /// `METHOD /path/{var}`.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}", self.method, self.template)
    }
}

/// The refusal for arguments with these faults.
fn invalid(reasons: Vec<Reason>) -> Refusal {
    Refusal::of(Code::InvalidArguments).with_reasons(reasons)
}

/// One fault of one argument.
fn argument(message: impl Into<String>, next: impl Into<String>) -> Reason {
    Reason::new("invalid_argument", message, next)
}

/// How a backend is asked for a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DryRun {
    /// A query parameter of this name set to `true`.
    Query(String),
    /// A member of this name in the JSON body set to `true`.
    Body(String),
}

/// What is sent to a backend, before ids and credentials are added.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteRequest {
    /// Name of the backend in the config.
    pub backend: String,
    /// HTTP method, upper case.
    pub method: String,
    /// Encoded path and query.
    pub path_and_query: String,
    /// JSON body, already in its final bytes.
    pub body: Option<Vec<u8>>,
    /// How long the backend may take.
    pub timeout: Duration,
}

#[cfg(test)]
mod tests;
