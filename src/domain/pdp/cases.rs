//! Case tables: who calls what, and what must come of it.
//!
//! Promises: a case goes the whole way that a call goes ([`Pdp::decide`]), on whichever engine
//! decides; what is not expected is a failure, so a case that names no reasons expects none; a
//! misspelt field is refused. Called by the policy commands and `tests/policies.rs`.

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
use crate::domain::pdp::Obligation;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::BundleFault;
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
    /// Whether it succeeded; it did when nothing is said.
    #[serde(default = "yes")]
    pub ok: bool,
}

fn yes() -> bool {
    true
}

/// What must come of a case.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The outcome.
    pub outcome: Outcome,
    /// Codes of all reasons, in any order.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Paths that must be redacted, if the case says anything about it.
    #[serde(default)]
    pub redact: Option<Vec<String>>,
    /// Whether the caller must not know of the tool.
    #[serde(default)]
    pub hidden: bool,
    /// When listing: all names that are seen.
    #[serde(default)]
    pub visible: Option<Vec<String>>,
    /// When listing: names that are seen, among others.
    #[serde(default)]
    pub sees: Vec<String>,
    /// When listing: names that are not seen.
    #[serde(default)]
    pub misses: Vec<String>,
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
        let ruling = pdp.decide_on(engine, &input);
        let wrong = differences(case, &ruling);
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
                scopes: Vec::new(),
                client: String::new(),
                method: who.method,
            },
            tool,
            tools: (case.phase == Phase::List).then(|| tools.clone()),
            arguments: case.arguments.clone(),
            dry_run: case.dry_run,
            approval: case.approval.clone(),
            facts: case.earlier.iter().map(earlier).collect(),
            response: None,
            context: Context {
                workflow: case.workflow.clone(),
                chain: Vec::new(),
                now_ms: NOW_MS,
                now: NOW.to_owned(),
            },
        })
    }
}

fn earlier(call: &Earlier) -> EarlierCall {
    EarlierCall {
        tool: call.tool.clone(),
        arguments: call.arguments.clone(),
        record_ids: Vec::new(),
        at_ms: NOW_MS - 60_000,
        ok: call.ok,
    }
}

fn differences(case: &Case, ruling: &Ruling) -> Vec<String> {
    let expected = &case.expect;
    let mut wrong = Vec::new();
    if let Some(fault) = ruling.fault() {
        wrong.push(format!("no decision: {}: {}", fault.as_str(), ruling.detail()));
    }
    if ruling.outcome() != expected.outcome {
        wrong.push(format!("outcome {:?}, expected {:?}", ruling.outcome(), expected.outcome));
    }
    let mut got: Vec<&str> = ruling.reasons().iter().map(|reason| reason.code.as_str()).collect();
    let mut want: Vec<&str> = expected.reasons.iter().map(String::as_str).collect();
    got.sort_unstable();
    want.sort_unstable();
    if got != want {
        wrong.push(format!("reasons {got:?}, expected {want:?}"));
    }
    if let Some(reason) = ruling.reasons().iter().find(|reason| reason.message.is_empty() || reason.next.is_empty()) {
        wrong.push(format!("reason `{}` has no message or no next step", reason.code));
    }
    let redacted = ruling.obligations().iter().find_map(|one| match one {
        Obligation::Redact { paths } => Some(paths.clone()),
        Obligation::RequireApproval { .. } | Obligation::Audit { .. } | Obligation::Limit { .. } => None,
    });
    let redacted = redacted.unwrap_or_default();
    if let Some(paths) = expected.redact.as_ref().filter(|paths| **paths != redacted) {
        wrong.push(format!("redacts {redacted:?}, expected {paths:?}"));
    }
    match &case.tool {
        Some(tool) if ruling.sees(tool) == expected.hidden => {
            wrong.push(format!("`{tool}` is {}", if expected.hidden { "seen" } else { "hidden" }));
        }
        Some(_) => {}
        None => wrong.extend(list_differences(expected, ruling)),
    }
    wrong
}

fn list_differences(expected: &Expected, ruling: &Ruling) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(names) = expected.visible.as_ref().filter(|names| names.as_slice() != ruling.visible()) {
        wrong.push(format!("sees {:?}, expected {names:?}", ruling.visible()));
    }
    wrong.extend(expected.sees.iter().filter(|name| !ruling.sees(name)).map(|name| format!("does not see `{name}`")));
    wrong.extend(expected.misses.iter().filter(|name| ruling.sees(name)).map(|name| format!("sees `{name}`")));
    wrong
}
