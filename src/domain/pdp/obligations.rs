//! Several obligations of one kind become one.
//!
//! Promises: at most one obligation of each kind, the stricter of those given; what cannot be
//! combined, makes no sense, or cannot be performed is a fault and so a deny. Called by
//! `pdp::ruling`.

use std::collections::BTreeSet;

use crate::domain::catalog::Effect;
use crate::domain::catalog::pointer::Pointer;
use crate::domain::pdp::AuditMode;
use crate::domain::pdp::Input;
use crate::domain::pdp::Obligation;
use crate::domain::pdp::ruling::Broken;
use crate::domain::pdp::ruling::Fault;

/// At most one obligation of each kind, the stricter of several; what cannot be combined is a conflict.
pub(super) fn combine(obligations: Vec<Obligation>, input: &Input) -> Result<Vec<Obligation>, Broken> {
    let mut approval: Option<Obligation> = None;
    let mut paths = BTreeSet::new();
    let mut audit: Option<AuditMode> = None;
    let mut limit: Option<String> = None;
    for obligation in obligations {
        match obligation {
            Obligation::RequireApproval { .. } => {
                check_approval(&obligation)?;
                approval = Some(match approval {
                    None => sorted(obligation),
                    Some(other) => stricter(other, sorted(obligation))?,
                });
            }
            Obligation::Redact { paths: more } => {
                if let Some(bad) = more.iter().find(|path| !path.starts_with('/') || Pointer::parse(path).is_err()) {
                    return Err(Broken::new(Fault::Shape, format!("redact: `{bad}` is not a JSON pointer")));
                }
                paths.extend(more);
            }
            Obligation::Audit { mode } => audit = Some(audit.map_or(mode, |other| other.min(mode))),
            Obligation::Limit { class } => match &limit {
                _ if class.is_empty() => return Err(Broken::new(Fault::Shape, "limit: no class is named")),
                Some(other) if *other != class => {
                    return Err(Broken::new(Fault::Conflict, format!("limit: both `{other}` and `{class}`")));
                }
                Some(_) | None => limit = Some(class),
            },
        }
    }
    let writes = input.tool.as_ref().is_some_and(|tool| tool.effect != Effect::Read);
    if writes && audit == Some(AuditMode::BestEffort) {
        return Err(Broken::new(Fault::Conflict, "audit: best effort is for reads only"));
    }
    let redact = if paths.is_empty() { None } else { Some(Obligation::Redact { paths: paths.into_iter().collect() }) };
    Ok([approval, redact, audit.map(|mode| Obligation::Audit { mode }), limit.map(|class| Obligation::Limit { class })]
        .into_iter()
        .flatten()
        .collect())
}

fn check_approval(obligation: &Obligation) -> Result<(), Broken> {
    let Obligation::RequireApproval { roles, teams, users, count, approve_by_s, execute_within_s, preview: _ } =
        obligation
    else {
        return Ok(());
    };
    if roles.is_empty() && teams.is_empty() && users.is_empty() {
        return Err(Broken::new(Fault::Shape, "require_approval: nobody may approve"));
    }
    if *count == 0 || *approve_by_s == 0 || *execute_within_s == 0 {
        return Err(Broken::new(Fault::Shape, "require_approval: count and times must be at least 1"));
    }
    Ok(())
}

fn sorted(obligation: Obligation) -> Obligation {
    let Obligation::RequireApproval { mut roles, mut teams, mut users, count, approve_by_s, execute_within_s, preview } =
        obligation
    else {
        return obligation;
    };
    for names in [&mut roles, &mut teams, &mut users] {
        names.sort();
        names.dedup();
    }
    Obligation::RequireApproval { roles, teams, users, count, approve_by_s, execute_within_s, preview }
}

/// The stricter of two requests for approval by the same people. Two groups of people that must
/// both agree cannot be said in one obligation, so that is a conflict and not a guess.
fn stricter(one: Obligation, other: Obligation) -> Result<Obligation, Broken> {
    match (one, other) {
        (
            Obligation::RequireApproval { roles, teams, users, count, approve_by_s, execute_within_s, preview },
            Obligation::RequireApproval {
                roles: roles2,
                teams: teams2,
                users: users2,
                count: count2,
                approve_by_s: approve2,
                execute_within_s: execute2,
                preview: preview2,
            },
        ) if roles == roles2 && teams == teams2 && users == users2 => Ok(Obligation::RequireApproval {
            roles,
            teams,
            users,
            count: count.max(count2),
            approve_by_s: approve_by_s.min(approve2),
            execute_within_s: execute_within_s.min(execute2),
            preview: preview || preview2,
        }),
        _ => Err(Broken::new(Fault::Conflict, "require_approval: two rules name different approvers")),
    }
}
