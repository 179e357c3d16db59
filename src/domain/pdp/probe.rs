//! Trying a compiled bundle before it may decide.
//!
//! Promises: a bundle that lets a caller without roles write with high impact, or any caller into
//! a tenant that does not exist, is refused; for sample callers, one per tenant and role of the
//! data, a listed tool passes the call phase but for what was sent and for approval, every other
//! is denied, and nothing of high impact is written without approval. The number of samples is bounded.
//! A policy that hides every tool from everybody is pointed out, and so is a list that takes long.
//! Called by `pdp::engine`.

mod reach;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;
use crate::domain::identity::AuthMethod;
use crate::domain::pdp::Caller;
use crate::domain::pdp::Context;
use crate::domain::pdp::Input;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::ruling::APPROVAL_REQUIRED;
use crate::domain::pdp::ruling::Fault;
use crate::domain::pdp::ruling::Ruling;

/// Calls that the self-test may decide; about a tenth of a second on the virtual machine.
const CALLS_MAX: usize = 4_096;

/// Faults reported before the self-test stops looking for more.
const FAULTS_MAX: usize = 10;

/// What to do about a policy that takes too long, or a machine that does.
pub const GROWS: &str = "look for rules or data that grow without bound";

/// A tenant that no data names.
const NOWHERE: &str = "org_that_is_nowhere";

/// Tries `pdp`, and says what it got wrong; or, when nothing, what is worth a second look.
pub(super) fn check(
    pdp: &Pdp,
    bundle: &Bundle,
    tools: &BTreeMap<String, ToolFacts>,
) -> Result<Vec<BundleFault>, Vec<BundleFault>> {
    let mut faults = must_deny(pdp, bundle, tools);
    let mut seen = false;
    if faults.is_empty() {
        seen = must_agree(pdp, bundle, tools, &mut faults);
    }
    // WHY: nothing follows from a decision that was not made in time.
    if faults.iter().any(|fault| fault.remedy == GROWS) {
        faults.retain(|fault| fault.remedy == GROWS);
        faults.truncate(1);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(reach::check(pdp, bundle, tools, seen))
}

fn must_deny(pdp: &Pdp, bundle: &Bundle, tools: &BTreeMap<String, ToolFacts>) -> Vec<BundleFault> {
    let mut faults = Vec::new();
    let mut denied = false;
    let mut dangerous: Vec<ToolFacts> = tools
        .values()
        .filter(|tool| tool.effect != Effect::Read && tool.impact == Impact::High && tool.route != "gateway")
        .cloned()
        .collect();
    if dangerous.is_empty() {
        dangerous.push(ToolFacts {
            name: "loopiq_probe".to_owned(),
            family: "release".to_owned(),
            effect: Effect::Write,
            impact: Impact::High,
            route: "POST /api/v1/probe".to_owned(),
        });
    }
    let tenants = keys(bundle.data(), "tenants").into_iter().chain([NOWHERE.to_owned()]);
    let roles = keys(bundle.data(), "roles");
    for tenant in tenants.take(64) {
        // Nobody is a member of nowhere, whatever their roles.
        let callers = if tenant == NOWHERE { vec![Vec::new(), roles.clone()] } else { vec![Vec::new()] };
        for roles in callers {
            for tool in &dangerous {
                if faults.len() >= FAULTS_MAX {
                    return if denied { faults } else { cannot_deny(faults) };
                }
                let who = if roles.is_empty() { "a caller without roles" } else { "a caller with every role" };
                let ruling = decide(pdp, &call(caller(&tenant, roles.clone(), AuthMethod::Oauth), tool));
                faults.extend(broken(&ruling));
                denied |= ruling.outcome() == Outcome::Deny;
                if ruling.outcome() != Outcome::Deny {
                    faults.push(fault(
                        Code::MustDeny,
                        format!("{who} may call `{}`, which writes with high impact, in tenant `{tenant}`", tool.name),
                        "the policy must deny this call: check the tenant and the permission before anything else",
                    ));
                }
            }
        }
    }
    if denied { faults } else { cannot_deny(faults) }
}

/// One fault says more than the same one of every tool and tenant.
fn cannot_deny(mut faults: Vec<BundleFault>) -> Vec<BundleFault> {
    let Some(example) = faults.first() else { return faults };
    let message = format!("the policy denies nothing that must be denied: {}, and so on", example.message);
    let remedy = "let `allow` in `decision` depend on rules: `\"allow\": count(reasons) == 0`";
    faults.truncate(0);
    faults.push(fault(Code::CannotDeny, message, remedy));
    faults
}

fn fault(code: Code, message: String, remedy: &str) -> BundleFault {
    BundleFault::new("", message, remedy).coded(code)
}

/// Whether any caller sees any tool.
fn must_agree(pdp: &Pdp, bundle: &Bundle, tools: &BTreeMap<String, ToolFacts>, faults: &mut Vec<BundleFault>) -> bool {
    let mut left = CALLS_MAX;
    let mut seen = false;
    for caller in samples(bundle.data()) {
        if faults.len() >= FAULTS_MAX || left < tools.len() + 1 {
            return seen;
        }
        left -= tools.len() + 1;
        let list = decide(pdp, &list(caller.clone(), tools));
        faults.extend(broken(&list));
        seen |= !list.visible().is_empty();
        for tool in tools.values() {
            let ruling = decide(pdp, &call(caller.clone(), tool));
            faults.extend(broken(&ruling));
            faults.extend(disagreement(&list, &ruling, &caller, &tool.name));
            if ruling.outcome() == Outcome::Allow && tool.impact == Impact::High && tool.effect != Effect::Read {
                faults.push(fault(
                    Code::NoApproval,
                    format!("`{}` has high impact, and {} may call it without anybody's approval", tool.name, who(&caller)),
                    "answer `approval_required` with a `require_approval` obligation, or lower its impact in the catalog",
                ));
            }
        }
    }
    seen
}

fn disagreement(list: &Ruling, call: &Ruling, caller: &Caller, tool: &str) -> Option<BundleFault> {
    let remedy = "list and call must follow the same rules; reasons about what was sent carry `data: {\"about\": \"arguments\"}`";
    let who = who(caller);
    let listed = list.sees(tool);
    if listed != call.sees(tool) {
        let (one, other) = if listed { ("listed", "hidden") } else { ("not listed", "seen") };
        let message = format!("`{tool}` is {one} for {who}, and {other} in a call of it");
        return Some(fault(Code::ListDisagrees, message, remedy));
    }
    if !listed && call.outcome() != Outcome::Deny {
        let message = format!("`{tool}` is not listed for {who}, and a call of it goes through");
        return Some(fault(Code::ListDisagrees, message, remedy));
    }
    let other = call.reasons().iter().find(|reason| {
        let about = reason.data.get("about").and_then(Value::as_str);
        reason.code != APPROVAL_REQUIRED && about != Some("arguments")
    })?;
    listed.then(|| {
        let message = format!("`{tool}` is listed for {who}, and a call of it is denied: `{}`", other.code);
        fault(Code::ListDisagrees, message, remedy)
    })
}

fn who(caller: &Caller) -> String {
    match caller.method {
        AuthMethod::ServiceAccount => format!("service account `{}` of `{}`", caller.user, caller.tenant),
        AuthMethod::Oauth | AuthMethod::Loopiq | AuthMethod::Helix => {
            format!("a caller of `{}` with role `{}`", caller.tenant, caller.roles.join("`, `"))
        }
    }
}

/// One decision; again if it ran out of time.
///
/// WHY: a busy machine stops a thread for longer than policies may take, and a policy that decided
/// for a year must be had back on such a machine above all.
fn decide(pdp: &Pdp, input: &Input) -> Ruling {
    let ruling = pdp.decide(input);
    if ruling.fault() == Some(Fault::Budget) { pdp.decide(input) } else { ruling }
}

fn broken(ruling: &Ruling) -> Option<BundleFault> {
    let why = ruling.fault()?;
    if why == Fault::Budget {
        let message = format!("the self-test got no decision in time ({})", ruling.detail());
        return Some(fault(Code::CheckFailed, message, GROWS));
    }
    Some(fault(
        Code::NoDecision,
        format!("the self-test got no decision ({}): {}", why.as_str(), ruling.detail()),
        "every call, list and response must get a decision; nothing may be undefined",
    ))
}

/// One caller per tenant and role, then the service accounts. Roles first, so that a bound on
/// samples still sees every role once.
fn samples(data: &Value) -> Vec<Caller> {
    let tenants = keys(data, "tenants");
    let roles = keys(data, "roles");
    let mut found = Vec::new();
    for tenant in tenants.iter().take(32) {
        for role in roles.iter().take(32) {
            found.push(caller(tenant, vec![role.clone()], AuthMethod::Oauth));
        }
        for account in keys(data, "service_accounts").into_iter().take(8) {
            let mut caller = caller(tenant, Vec::new(), AuthMethod::ServiceAccount);
            caller.user = account;
            found.push(caller);
        }
    }
    found
}

fn keys(data: &Value, table: &str) -> Vec<String> {
    data.get(table).and_then(Value::as_object).map(|rows| rows.keys().cloned().collect()).unwrap_or_default()
}

fn caller(tenant: &str, roles: Vec<String>, method: AuthMethod) -> Caller {
    Caller {
        user: "self-test".to_owned(),
        issuer: String::new(),
        tenant: tenant.to_owned(),
        roles,
        teams: BTreeMap::new(),
        permissions: Vec::new(),
        scopes: Vec::new(),
        client: String::new(),
        method,
    }
}

fn call(caller: Caller, tool: &ToolFacts) -> Input {
    Input { tool: Some(tool.clone()), ..empty(Phase::Call, caller) }
}

fn list(caller: Caller, tools: &BTreeMap<String, ToolFacts>) -> Input {
    Input { tools: Some(tools.clone()), ..empty(Phase::List, caller) }
}

fn empty(phase: Phase, caller: Caller) -> Input {
    Input {
        schema: 1,
        phase,
        caller,
        tool: None,
        tools: None,
        arguments: serde_json::Map::new(),
        dry_run: false,
        approval: None,
        facts: Vec::new(),
        response: None,
        context: Context {
            workflow: String::new(),
            chain: Vec::new(),
            now_ms: 1_790_000_000_000,
            now: "2026-09-21T14:13:20Z".to_owned(),
        },
    }
}
