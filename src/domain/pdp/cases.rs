//! Case tables: who calls what, and what must come of it.
//!
//! Promises: a case goes the whole way that a call goes ([`Pdp::decide`]), on whichever engine
//! decides; what is not expected is a failure, so a case that names no reasons expects none; a
//! misspelt field is refused. Called by the policy commands and `tests/policies.rs`.

pub mod expected;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

use crate::domain::identity::AuthMethod;
use crate::domain::pdp::ApprovalFacts;
use crate::domain::pdp::Caller;
use crate::domain::pdp::Context;
use crate::domain::pdp::EarlierCall;
use crate::domain::pdp::Input;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ResponseFacts;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::cases::expected::Expected;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::ruling::Engine;
use crate::domain::pdp::ruling::Ruling;

/// The moment of every case that names none: 2026-09-21T14:13:20Z.
const NOW_MS: i64 = 1_790_000_000_000;
const NOW: &str = "2026-09-21T14:13:20Z";

/// One file of cases.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Callers by the name that cases use.
    pub callers: BTreeMap<String, Who>,
    /// The cases.
    pub cases: Vec<Case>,
}

/// A caller.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// The tenant the call is made for.
    pub tenant: String,
    /// The issuer that vouches for them; empty when nothing is said.
    #[serde(default)]
    pub issuer: String,
    /// Organisation roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Team to roles in that team.
    #[serde(default)]
    pub teams: BTreeMap<String, Vec<String>>,
    /// Direct permissions.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// OAuth scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The OAuth client; empty when nothing is said.
    #[serde(default)]
    pub client: String,
    /// How they authenticated; `oauth` when nothing is said.
    #[serde(default = "oauth")]
    pub method: AuthMethod,
}

fn oauth() -> AuthMethod {
    AuthMethod::Oauth
}

/// One case.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Who calls, among `callers`.
    pub caller: String,
    /// In which phase; `call` when nothing is said.
    #[serde(default = "call")]
    pub phase: Phase,
    /// The tool called; none when listing.
    #[serde(default)]
    pub tool: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Whether only a preview is asked for.
    #[serde(default)]
    pub dry_run: bool,
    /// The approval that the gateway verified.
    #[serde(default)]
    pub approval: Option<ApprovalFacts>,
    /// The client's workflow.
    #[serde(default)]
    pub workflow: String,
    /// Earlier calls in it, oldest first.
    #[serde(default)]
    pub earlier: Vec<Earlier>,
    /// The answer under inspection; only in the response phase.
    #[serde(default)]
    pub response: Option<ResponseFacts>,
    /// The moment, RFC 3339; 2026-09-21T14:13:20Z when nothing is said.
    #[serde(default)]
    pub at: Option<jiff::Timestamp>,
    /// What must come of it.
    pub expect: Expected,
}

fn call() -> Phase {
    Phase::Call
}

/// An earlier call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// Tool.
    pub tool: String,
    /// Arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Ids of records that its answer carried.
    #[serde(default)]
    pub record_ids: Vec<String>,
    /// Whether it succeeded; it did when nothing is said.
    #[serde(default = "yes")]
    pub ok: bool,
}

fn yes() -> bool {
    true
}

/// Whether a file of a bundle is a table of cases, by its path.
#[must_use]
pub fn is_table(path: &str) -> bool {
    let name = path.strip_prefix("cases/").and_then(|name| name.strip_suffix(".yaml"));
    name.is_some_and(|name| name != "tools")
}

/// Reads a table of cases.
pub fn read(path: &str, text: &str) -> Result<Table, BundleFault> {
    yaml(path, text)
}

/// Reads facts of tools by name, for a bundle that is tried without a catalog.
pub fn read_tools(path: &str, text: &str) -> Result<BTreeMap<String, ToolFacts>, BundleFault> {
    let rows: BTreeMap<String, Row> = yaml(path, text)?;
    Ok(rows
        .into_iter()
        .map(|(name, row)| {
            let facts = ToolFacts {
                name: name.clone(),
                family: row.family,
                effect: row.effect,
                impact: row.impact,
                route: row.route,
            };
            (name, facts)
        })
        .collect())
}

/// A tool without its name, which is the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    family: String,
    effect: crate::domain::catalog::Effect,
    impact: crate::domain::catalog::Impact,
    route: String,
}

fn yaml<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, BundleFault> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|cause| BundleFault::new(path, cause.to_string(), "correct the table; the rest of it was not read"))
}

impl Case {
    /// What is not as expected in what was decided.
    #[must_use]
    pub fn differences(&self, ruling: &Ruling) -> Vec<String> {
        self.expect.differences(self.tool.as_deref(), ruling)
    }
}

impl Table {
    /// Runs one case and says what was not as expected.
    pub fn run(
        &self,
        case: &Case,
        pdp: &Pdp,
        engine: Engine,
        tools: &BTreeMap<String, ToolFacts>,
    ) -> Result<(), String> {
        let input = self.input(case, tools)?;
        let wrong = case.differences(&pdp.decide_on(engine, &input));
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// What the policy is asked in a case.
    pub fn input(&self, case: &Case, tools: &BTreeMap<String, ToolFacts>) -> Result<Input, String> {
        let who = self.callers.get(&case.caller).ok_or_else(|| format!("there is no caller `{}`", case.caller))?;
        let tool = match &case.tool {
            Some(name) => Some(tools.get(name).cloned().ok_or_else(|| format!("there is no tool `{name}`"))?),
            None => None,
        };
        if tool.is_none() != (case.phase == Phase::List) {
            return Err("a list names no tool, and everything else names one".to_owned());
        }
        if case.response.is_some() && case.phase != Phase::Response {
            return Err("only the response phase has a response".to_owned());
        }
        let now_ms = case.at.map_or(NOW_MS, jiff::Timestamp::as_millisecond);
        Ok(Input {
            schema: 1,
            phase: case.phase,
            caller: Caller {
                user: case.caller.clone(),
                issuer: who.issuer.clone(),
                tenant: who.tenant.clone(),
                roles: who.roles.clone(),
                teams: who.teams.clone(),
                permissions: who.permissions.clone(),
                scopes: who.scopes.clone(),
                client: who.client.clone(),
                method: who.method,
            },
            tool,
            tools: (case.phase == Phase::List).then(|| tools.clone()),
            arguments: case.arguments.clone(),
            dry_run: case.dry_run,
            approval: case.approval.clone(),
            facts: case.earlier.iter().map(|call| earlier(call, now_ms)).collect(),
            response: case.response.clone(),
            context: Context {
                workflow: case.workflow.clone(),
                chain: Vec::new(),
                now_ms,
                now: case.at.map_or_else(|| NOW.to_owned(), |at| at.to_string()),
            },
        })
    }
}

fn earlier(call: &Earlier, now_ms: i64) -> EarlierCall {
    EarlierCall {
        tool: call.tool.clone(),
        arguments: call.arguments.clone(),
        record_ids: call.record_ids.clone(),
        at_ms: now_ms.saturating_sub(60_000),
        ok: call.ok,
    }
}

#[cfg(test)]
mod tests;
