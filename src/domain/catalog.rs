//! What exists: tools, the routes behind them, their effect and impact.
//!
//! Promises: a [`Tool`] is complete and checked when it exists; arguments are validated before
//! anyone else sees them; a request to a backend is built from validated arguments and each path
//! variable is one encoded segment; a raw route invocation becomes the semantic tool of its route.
//! Never asks policy and never sends anything. Called by `pep`, `pdp` and the catalog commands.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
