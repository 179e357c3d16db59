//! What the most that anybody could be is shown, and what showing it takes.
//!
//! Promises: a policy that shows no tool to anybody is pointed out, and so is a list of all tools that
//! takes many instructions. "Anybody" has every role, team, permission and scope that data and rules
//! name, so that only a policy which is closed to all is taken for one. Keeps a bundle from
//! nothing: who closes everything in an emergency must be obeyed. Called by `pdp::probe`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::identity::AuthMethod;
use crate::domain::pdp::Caller;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::lint;
use crate::domain::pdp::probe::caller;
use crate::domain::pdp::probe::fault;
use crate::domain::pdp::probe::keys;
use crate::domain::pdp::probe::list;

/// Instructions that a list may take without a word; 200 tools take about five thousand.
const LIST_INSTRUCTIONS_MAX: usize = 50_000;

/// Names that one caller is given of each kind.
const NAMES_MAX: usize = 512;

/// Letters of a name; what is longer is a message.
const LETTERS_MAX: usize = 64;

/// Roles that one caller holds in each team.
const ROLES_MAX: usize = 32;

/// Tenants that are tried.
const TENANTS_MAX: usize = 32;

/// What is worth a second look. `seen` says whether a lesser caller already saw a tool.
pub(super) fn check(pdp: &Pdp, bundle: &Bundle, tools: &BTreeMap<String, ToolFacts>, seen: bool) -> Vec<BundleFault> {
    let tenants = keys(bundle.data(), "tenants");
    if tools.is_empty() || tenants.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let shows = |caller: Caller| !pdp.decide(&list(caller, tools)).visible().is_empty();
    if !seen {
        let anybody = Anybody::of(bundle, tools);
        if !tenants.iter().take(TENANTS_MAX).any(|tenant| shows(anybody.caller(tenant))) {
            let message =
                "the policy hides every tool from every caller that was tried, whatever their roles".to_owned();
            let remedy = "look at what `visible` needs, and at the tables of tenants and roles";
            found.push(fault(Code::HidesEverything, message, remedy));
        }
    }
    let roles = keys(bundle.data(), "roles").into_iter().take(ROLES_MAX).collect();
    let everyday = tenants.first().map(|tenant| caller(tenant, roles, AuthMethod::Oauth));
    let instructions = everyday.and_then(|caller| pdp.instructions(&list(caller, tools)));
    if let Some(count) = instructions.filter(|count| *count > LIST_INSTRUCTIONS_MAX) {
        let message = format!(
            "a list of all {} tools takes {count} instructions of the {LIST_INSTRUCTIONS_MAX} that are well",
            tools.len()
        );
        let remedy =
            "look for loops within the loop over tools; work out once, in a rule of its own, what is the same for all";
        found.push(fault(Code::SlowLayout, message, remedy));
    }
    found
}

/// Names of everything that anybody could be.
struct Anybody {
    roles: Vec<String>,
    names: Vec<String>,
}

impl Anybody {
    fn of(bundle: &Bundle, tools: &BTreeMap<String, ToolFacts>) -> Self {
        let permissions = tools.values().filter_map(|tool| {
            let effect = serde_json::to_value(tool.effect).ok()?;
            Some(format!("{}:{}", tool.family, effect.as_str()?))
        });
        let teams = bundle.data().get("teams").and_then(Value::as_object).into_iter().flatten();
        let in_teams =
            teams.flat_map(|(_, roles)| roles.as_object().into_iter().flatten()).map(|(role, _)| role.clone());
        let roles: BTreeSet<String> =
            keys(bundle.data(), "roles").into_iter().chain(in_teams).take(ROLES_MAX).collect();
        let mut names: BTreeSet<String> = permissions.chain(keys(bundle.data(), "teams")).collect();
        names.extend(roles.iter().cloned());
        for (path, text) in bundle.files() {
            names.extend(lint::words(path, text).into_iter().filter(|word| word.len() <= LETTERS_MAX));
        }
        Self { roles: roles.into_iter().collect(), names: names.into_iter().take(NAMES_MAX).collect() }
    }

    fn caller(&self, tenant: &str) -> Caller {
        Caller {
            teams: self.names.iter().map(|team| (team.clone(), self.roles.clone())).collect(),
            permissions: self.names.clone(),
            scopes: self.names.clone(),
            ..caller(tenant, self.names.clone(), AuthMethod::Oauth)
        }
    }
}
