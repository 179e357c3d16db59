//! What would have to be different: changes that were tried.
//!
//! Promises: a change is named only if the decision, made again with it by the engine that serves,
//! is the one that is said; two at once only if no single one does it; the number of tries is
//! bounded. Candidates come from the data, the decision and the conditions that failed. Never
//! changes anything. Called by `pdp::explain`.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::domain::pdp::ApprovalFacts;
use crate::domain::pdp::EarlierCall;
use crate::domain::pdp::Input;
use crate::domain::pdp::Obligation;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Vote;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::explain::Changes;
use crate::domain::pdp::explain::show;
use crate::domain::pdp::ruling::Ruling;

/// Single changes that are tried.
const SINGLES_MAX: usize = 400;
/// Pairs that are tried.
const PAIRS_MAX: usize = 1_500;
/// Pairs that are told: one is an answer, many are a list to read.
const PAIRS_TOLD_MAX: usize = 8;
/// Changes of the data that are tried; each compiles the bundle anew.
const EDITS_MAX: usize = 8;
/// How deep the data is looked through for names of roles and permissions.
const DEPTH_MAX: usize = 6;
/// A team that no data names.
const ANY_TEAM: &str = "a-team-of-no-name";

/// One change of what is asked, or of the data.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// People agree: so many, with one of these roles, in one of these teams, or these very users.
    Approval {
        /// How many.
        count: u32,
        /// Roles.
        roles: Vec<String>,
        /// Teams.
        teams: Vec<String>,
        /// Users.
        users: Vec<String>,
    },
    /// Only a preview is asked for.
    DryRun,
    /// Arguments have a value: JSON pointers.
    Arguments {
        /// JSON pointers into the arguments.
        pointers: Vec<String>,
        /// The value that was tried there.
        value: Value,
    },
    /// The caller has called a tool earlier in the workflow.
    Earlier {
        /// The tool.
        tool: String,
    },
    /// The caller has another role.
    Role {
        /// The role.
        role: String,
    },
    /// The caller has another permission.
    Permission {
        /// The permission.
        permission: String,
    },
    /// The caller has a role in a team; in any team when none is named.
    Team {
        /// The team.
        #[serde(skip_serializing_if = "Option::is_none")]
        team: Option<String>,
        /// The role in it.
        role: String,
    },
    /// The data has `true` at a place.
    Data {
        /// The place: names under `data`.
        path: Vec<String>,
        /// The same as Rego writes it.
        reference: String,
    },
    /// Another tenant.
    Tenant {
        /// The tenant.
        tenant: String,
    },
}

impl Change {
    /// The same question with this change; nothing when it changes nothing, or not the question.
    fn apply(&self, input: &Input) -> Option<Input> {
        let mut changed = input.clone();
        match self {
            Self::Approval { count, roles, teams, users } => {
                let made_up = (1..).map(|number| format!("approver-{number}"));
                let people = users.iter().filter(|user| **user != input.caller.user).cloned().chain(made_up);
                let agreeing = people.take(usize::try_from(*count).unwrap_or(usize::MAX).min(64));
                let vote = |user| Vote { user, roles: roles.clone(), teams: teams.clone() };
                changed.approval = Some(ApprovalFacts {
                    id: "ap-tried".to_owned(),
                    state: "approved".to_owned(),
                    votes: agreeing.map(vote).collect(),
                });
            }
            Self::DryRun => changed.dry_run = true,
            Self::Arguments { pointers, value } => {
                let mut arguments = Value::Object(changed.arguments);
                for pointer in pointers {
                    put(&mut arguments, &steps_of(pointer), value);
                }
                let Value::Object(arguments) = arguments else { return None };
                changed.arguments = arguments;
            }
            Self::Earlier { tool } => changed.facts.push(EarlierCall {
                tool: tool.clone(),
                arguments: input.arguments.clone(),
                record_ids: Vec::new(),
                at_ms: input.context.now_ms,
                ok: true,
            }),
            Self::Role { role } => changed.caller.roles.push(role.clone()),
            Self::Permission { permission } => changed.caller.permissions.push(permission.clone()),
            Self::Team { team, role } => {
                let team = team.clone().unwrap_or_else(|| ANY_TEAM.to_owned());
                changed.caller.teams.entry(team).or_default().push(role.clone());
            }
            Self::Data { .. } => return None,
            Self::Tenant { tenant } => changed.caller.tenant.clone_from(tenant),
        }
        (changed != *input).then_some(changed)
    }

    /// Whether it says the same as another, or more.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Team { team: None, role }, Self::Team { role: same, .. }) => role == same,
            (Self::Arguments { pointers, .. }, Self::Arguments { pointers: same, .. }) => pointers == same,
            _ => self == other,
        }
    }

    /// Changes of one kind are not tried together: who lacks two roles lacks one that has both.
    fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Finds what makes `input` come out better than `ruling` says. `wanted` are places in the data
/// where conditions that failed found nothing.
pub(super) fn find(
    pdp: &Pdp,
    bundle: &Bundle,
    input: &Input,
    ruling: &Ruling,
    wanted: &BTreeSet<Vec<String>>,
) -> Changes {
    let mut found = Changes::default();
    let mut candidates = candidates(bundle.data(), input, ruling);
    candidates.truncate(SINGLES_MAX);
    for change in &candidates {
        let covered = found.allow.iter().chain(&found.pending).flatten().any(|other| other.covers(change));
        if let Some(changed) = change.apply(input).filter(|_| !covered) {
            found.tried += 1;
            found.note(pdp.decide(&changed).outcome(), ruling.outcome(), vec![change.clone()]);
        }
    }
    for path in wanted.iter().take(EDITS_MAX) {
        let Some(edited) = edited(bundle.data(), path) else { continue };
        let Some(other) = bundle.with_data(edited).ok().and_then(|bundle| Pdp::load(&bundle).ok()) else { continue };
        found.tried += 1;
        found.note(
            other.decide(input).outcome(),
            ruling.outcome(),
            vec![Change::Data { path: path.clone(), reference: reference(path) }],
        );
    }
    if found.allow.is_empty() && found.pending.is_empty() {
        pairs(pdp, input, ruling, &candidates, &mut found);
    }
    found
}

impl Changes {
    fn note(&mut self, outcome: Outcome, was: Outcome, changes: Vec<Change>) {
        match outcome {
            Outcome::Allow => self.allow.push(changes),
            Outcome::Pending if was == Outcome::Deny => self.pending.push(changes),
            Outcome::Pending | Outcome::Deny => {}
        }
    }
}

fn pairs(pdp: &Pdp, input: &Input, ruling: &Ruling, candidates: &[Change], found: &mut Changes) {
    let mut left = PAIRS_MAX;
    for (at, first) in candidates.iter().enumerate() {
        let Some(changed) = first.apply(input) else { continue };
        for second in candidates.iter().skip(at + 1).filter(|second| !second.same_kind(first)) {
            if left == 0 || found.allow.len() + found.pending.len() >= PAIRS_TOLD_MAX {
                return;
            }
            left -= 1;
            if let Some(changed) = second.apply(&changed) {
                found.tried += 1;
                found.note(pdp.decide(&changed).outcome(), ruling.outcome(), vec![first.clone(), second.clone()]);
            }
        }
    }
}

/// Everything worth trying, the most likely first.
fn candidates(data: &Value, input: &Input, ruling: &Ruling) -> Vec<Change> {
    let mut all = Vec::new();
    for obligation in ruling.obligations() {
        if let Obligation::RequireApproval { roles, teams, users, count, .. } = obligation {
            all.push(Change::Approval {
                count: *count,
                roles: roles.clone(),
                teams: teams.clone(),
                users: users.clone(),
            });
        }
    }
    all.push(Change::DryRun);
    let of_reasons = |name: &str| -> BTreeSet<String> {
        ruling.reasons().iter().filter_map(|reason| reason.data.get(name)?.as_str()).map(str::to_owned).collect()
    };
    let paths: Vec<String> = of_reasons("path").into_iter().filter(|path| path.starts_with('/')).collect();
    for value in [
        Value::from("something"),
        Value::from(input.context.now.as_str()),
        Value::from(vec![Value::Object(Map::new())]),
    ] {
        let several = if paths.len() > 1 { vec![paths.clone()] } else { Vec::new() };
        let each = paths.iter().map(|path| vec![path.clone()]).chain(several);
        all.extend(each.map(|pointers| Change::Arguments { pointers, value: value.clone() }));
    }
    all.extend(of_reasons("tool").into_iter().map(|tool| Change::Earlier { tool }));
    let named = of_reasons("permission");
    all.extend(named.iter().map(|permission| Change::Permission { permission: permission.clone() }));
    let mut known = Known::default();
    known.roles.extend(keys(data.get("roles")));
    known.look(data, DEPTH_MAX);
    all.extend(known.roles.into_iter().map(|role| Change::Role { role }));
    for team in [None].into_iter().chain(teams(data, input).into_iter().map(Some)) {
        let in_team = |role: &String| Change::Team { team: team.clone(), role: role.clone() };
        all.extend(team_roles(data).iter().map(in_team));
    }
    let permissions = known.permissions.into_iter().filter(|permission| !named.contains(permission));
    all.extend(permissions.map(|permission| Change::Permission { permission }));
    all.extend(keys(data.get("tenants")).into_iter().map(|tenant| Change::Tenant { tenant }));
    all
}

fn keys(table: Option<&Value>) -> BTreeSet<String> {
    table.and_then(Value::as_object).map(|members| members.keys().cloned().collect()).unwrap_or_default()
}

/// Teams that the data or the caller names; `any` is none, but a word of ours for every team.
fn teams(data: &Value, input: &Input) -> BTreeSet<String> {
    keys(data.get("teams")).into_iter().filter(|team| team != "any").chain(input.caller.teams.keys().cloned()).collect()
}

fn team_roles(data: &Value) -> BTreeSet<String> {
    let teams = data.get("teams").and_then(Value::as_object);
    teams.into_iter().flat_map(|teams| teams.values()).flat_map(|team| keys(Some(team))).collect()
}

/// Roles and permissions that the data names: under `roles` and `permissions`, wherever these stand.
#[derive(Default)]
struct Known {
    roles: BTreeSet<String>,
    permissions: BTreeSet<String>,
}

impl Known {
    fn look(&mut self, value: &Value, depth: usize) {
        let Some(members) = value.as_object().filter(|_| depth > 0) else { return };
        for (name, member) in members {
            let into = match name.as_str() {
                "roles" => Some(&mut self.roles),
                "permissions" => Some(&mut self.permissions),
                _ => None,
            };
            match (into, member) {
                (Some(names), Value::Array(items)) => {
                    names.extend(items.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                (Some(names), Value::Object(_)) if name == "permissions" => names.extend(keys(Some(member))),
                (_, member) => self.look(member, depth - 1),
            }
        }
    }
}

/// The data with `true` at a place where there is nothing, or `false`; its table must be there.
fn edited(data: &Value, path: &[String]) -> Option<Value> {
    let mut edited = data.clone();
    let mut at = edited.get_mut(path.first()?)?;
    for step in path.iter().skip(1) {
        at = at.as_object_mut()?.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
    }
    let open = path.len() > 1 && (*at == Value::Object(Map::new()) || *at == Value::Bool(false));
    if !open {
        return None;
    }
    *at = Value::Bool(true);
    Some(edited)
}

fn reference(path: &[String]) -> String {
    let steps = path.iter().map(|name| show::member(&name.as_str().into()));
    std::iter::once("data".to_owned()).chain(steps).collect()
}

fn steps_of(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

/// Puts a value at a place, making objects on the way where there is nothing.
fn put(value: &mut Value, steps: &[String], new: &Value) {
    let Some((step, rest)) = steps.split_first() else {
        new.clone_into(value);
        return;
    };
    if !value.is_object() && !value.is_array() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(members) => put(members.entry(step.clone()).or_insert(Value::Null), rest, new),
        Value::Array(items) => {
            if let Some(item) = step.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                put(item, rest, new);
            }
        }
        _ => {}
    }
}
