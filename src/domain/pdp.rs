//! Policy decision point: compiles a bundle, asks it, and reads its answer.
//!
//! Promises: default is deny; undefined, engine errors, a spent budget, a wrong shape and an
//! unknown obligation are each a deny with a code of their own; the same input, bundle and data
//! give the same verdict; `tools/list` is one evaluation. Nothing reaches a backend without a
//! [`Permit`], and only this room (later `approval`) makes one. Never calls out, never reads a clock.
//! Called by `pep`, `adapters::reload` and the policy commands.

pub mod bundle;
pub mod capabilities;
pub mod archive;
pub mod ruling;
pub mod engine;
pub mod suite;
pub mod coverage;
pub mod cases;
pub mod conformance;
pub mod outline;
pub mod explain;
mod ast;
mod lint;
pub mod probe;
mod obligations;

pub use self::lint::reads::{Reads, Step};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::catalog::Catalog;
use crate::domain::catalog::Tool;
use crate::domain::catalog::{Effect, Impact};
use crate::domain::identity::AuthMethod;
use crate::domain::refusal::Reason;

/// The one entry point of every bundle.
pub const ENTRY_POINT: &str = "data.loopiq.gateway.decision";

/// What a policy sees. Its JSON Schema is committed as `policies/schema/input.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Version of this shape; 1.
    pub schema: u32,
    /// What is being decided.
    pub phase: Phase,
    /// Who calls, for which tenant.
    pub caller: Caller,
    /// The tool called; absent in the list phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolFacts>,
    /// The tools to filter, by name; only in the list phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeMap<String, ToolFacts>>,
    /// Arguments, already valid under the tool's schema; empty in the list phase.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Whether the caller asks for a preview only.
    #[serde(default)]
    pub dry_run: bool,
    /// An approval, verified by the gateway; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalFacts>,
    /// Earlier calls that the same caller made in the same workflow, oldest first.
    #[serde(default)]
    pub facts: Vec<EarlierCall>,
    /// The answer under inspection; only in the response phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseFacts>,
    /// Workflow, chain and time.
    pub context: Context,
}

/// What is being decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Which tools the caller may see.
    List,
    /// Whether one call may be made.
    Call,
    /// Whether its answer may be shown.
    Response,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// The user, as the issuer names them. Two issuers may name one user, so this alone names nobody.
    pub user: String,
    /// The issuer that vouches for the user: the `iss` of the token.
    pub issuer: String,
    /// The tenant the call is made for.
    pub tenant: String,
    /// Organisation roles.
    pub roles: Vec<String>,
    /// Team to roles in that team.
    pub teams: BTreeMap<String, Vec<String>>,
    /// Direct permissions.
    pub permissions: Vec<String>,
    /// OAuth scopes.
    pub scopes: Vec<String>,
    /// The OAuth client; empty when the token names none.
    pub client: String,
    /// How the caller authenticated.
    pub method: AuthMethod,
}

/// What a policy may know of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolFacts {
    /// Name.
    pub name: String,
    /// Family.
    pub family: String,
    /// Effect.
    pub effect: Effect,
    /// Impact.
    pub impact: Impact,
    /// `METHOD /path/{var}`, or `gateway` for the gateway's own tools.
    pub route: String,
}

impl From<&Tool> for ToolFacts {
    fn from(tool: &Tool) -> Self {
        Self {
            name: tool.name.clone(),
            family: tool.family.clone(),
            effect: tool.effect,
            impact: tool.impact,
            route: tool.route_text(),
        }
    }
}

impl ToolFacts {
    /// What policies may know of every tool of a catalog, by name.
    #[must_use]
    pub fn of(catalog: &Catalog) -> BTreeMap<String, Self> {
        catalog.tools().map(|tool| (tool.name.clone(), Self::from(tool.as_ref()))).collect()
    }
}

/// A verified approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalFacts {
    /// Approval id.
    pub id: String,
    /// `pending`, `approved`, `rejected`, `executed` or `failed`.
    pub state: String,
    /// Who voted for it, with the roles they held.
    pub votes: Vec<Vote>,
}

/// One approving vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Who.
    pub user: String,
    /// Their organisation roles when they voted.
    pub roles: Vec<String>,
    /// The teams they were in when they voted.
    #[serde(default)]
    pub teams: Vec<String>,
}

/// A call that the same caller made earlier in the same workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlierCall {
    /// Tool name.
    pub tool: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// Ids of records its answer carried.
    pub record_ids: Vec<String>,
    /// When it was answered: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Whether it succeeded.
    pub ok: bool,
}

/// The answer under inspection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseFacts {
    /// HTTP status of the backend's answer.
    pub status: u16,
    /// Size of its body in bytes.
    pub bytes: u64,
    /// Ids of records it names.
    pub record_ids: Vec<String>,
}

/// Workflow, chain and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The client's workflow id; empty when it names none.
    pub workflow: String,
    /// Tool-call chain as the client names it, outermost first.
    pub chain: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// The same moment, RFC 3339 in UTC.
    pub now: String,
}

/// What a policy answers. Its JSON Schema is committed as `policies/schema/decision.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Whether the call may go on.
    pub allow: bool,
    /// Why not; must be empty when `allow` is true.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// What must be done if it goes on; one that the gateway cannot perform is a deny.
    #[serde(default)]
    pub obligations: Vec<Obligation>,
    /// Names of visible tools: in the list phase all that the caller may see, in the other phases
    /// the called tool's name if the caller may see it. What is not here is as good as not there.
    #[serde(default)]
    pub visible: Vec<String>,
}

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Obligation {
    /// People must agree first.
    RequireApproval {
        /// Roles that may approve.
        #[serde(default)]
        roles: Vec<String>,
        /// Teams that may approve.
        #[serde(default)]
        teams: Vec<String>,
        /// Users who may approve.
        #[serde(default)]
        users: Vec<String>,
        /// How many must agree.
        count: u32,
        /// Seconds until the request for approval expires.
        approve_by_s: u64,
        /// Seconds until an approval that was given expires.
        execute_within_s: u64,
        /// Whether approvers must be shown a preview.
        preview: bool,
    },
    /// Fields of the answer that the caller must not see: JSON pointers, `*` allowed.
    Redact {
        /// JSON pointers into the structured answer.
        paths: Vec<String>,
    },
    /// How the call must be recorded.
    Audit {
        /// `durable` (the default) or `best_effort` (reads only).
        mode: AuditMode,
    },
    /// The limit class that the call counts against.
    Limit {
        /// Name of the class.
        class: String,
    },
}

/// How a call must be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditMode {
    /// No record, no answer.
    Durable,
    /// The answer goes out even if the record cannot be kept; counted.
    BestEffort,
}

/// What the gateway derives from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Go on.
    Allow,
    /// Allowed once people agree.
    Pending,
    /// No.
    Deny,
}
