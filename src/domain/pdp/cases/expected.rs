//! What must come of a case.
//!
//! Promises: outcome and reasons are always compared, in full; everything else is compared when the
//! case says anything about it; a misspelt field is refused. Called by `pdp::cases`.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::domain::pdp::AuditMode;
use crate::domain::pdp::Obligation;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::ruling::Ruling;

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
    /// Who must agree, if the case says anything about it.
    #[serde(default)]
    pub approval: Option<Approval>,
    /// How it must be recorded, if the case says anything about it.
    #[serde(default)]
    pub audit: Option<AuditMode>,
    /// The limit class, if the case says anything about it.
    #[serde(default)]
    pub limit: Option<String>,
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

/// The approval that must be asked for; what is left out is not compared.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approval {
    /// Roles that may agree, in any order.
    pub roles: Option<Vec<String>>,
    /// Teams that may agree, in any order.
    pub teams: Option<Vec<String>>,
    /// Users who may agree, in any order.
    pub users: Option<Vec<String>>,
    /// How many must.
    pub count: Option<u32>,
    /// Seconds until the request expires.
    pub approve_by_s: Option<u64>,
    /// Seconds until an approval that was given expires.
    pub execute_within_s: Option<u64>,
    /// Whether they must be shown a preview.
    pub preview: Option<bool>,
}

impl Expected {
    /// What is not as expected; `tool` is the one called, none when listing.
    pub(super) fn differences(&self, tool: Option<&str>, ruling: &Ruling) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(fault) = ruling.fault() {
            wrong.push(format!("no decision: {}: {}", fault.as_str(), ruling.detail()));
        }
        if ruling.outcome() != self.outcome {
            wrong.push(format!("outcome {}, expected {}", word(ruling.outcome()), word(self.outcome)));
        }
        let mut got: Vec<&str> = ruling.reasons().iter().map(|reason| reason.code.as_str()).collect();
        let mut want: Vec<&str> = self.reasons.iter().map(String::as_str).collect();
        got.sort_unstable();
        want.sort_unstable();
        if got != want {
            wrong.push(format!("reasons [{}], expected [{}]", got.join(", "), want.join(", ")));
        }
        if let Some(reason) = ruling.reasons().iter().find(|reason| reason.message.is_empty() || reason.next.is_empty())
        {
            wrong.push(format!("reason `{}` has no message or no next step", reason.code));
        }
        wrong.extend(self.obligations(ruling));
        match tool {
            Some(tool) if ruling.sees(tool) == self.hidden => {
                wrong.push(format!("`{tool}` is {}", if self.hidden { "seen" } else { "hidden" }));
            }
            Some(_) => {}
            None => wrong.extend(self.listed(ruling)),
        }
        wrong
    }

    fn obligations(&self, ruling: &Ruling) -> Vec<String> {
        let (mut redacted, mut approval, mut audit, mut limit) = (Vec::new(), None, None, None);
        for one in ruling.obligations() {
            match one {
                Obligation::Redact { paths } => redacted.clone_from(paths),
                Obligation::RequireApproval { .. } => approval = Some(one),
                Obligation::Audit { mode } => audit = Some(*mode),
                Obligation::Limit { class } => limit = Some(class),
            }
        }
        let mut wrong = Vec::new();
        if let Some(paths) = self.redact.as_ref().filter(|paths| **paths != redacted) {
            wrong.push(format!("redacts {redacted:?}, expected {paths:?}"));
        }
        match (&self.approval, approval) {
            (Some(_), None) => wrong.push("asks for no approval".to_owned()),
            (Some(expected), Some(approval)) => wrong.extend(expected.differences(approval)),
            (None, _) => {}
        }
        if let Some(mode) = self.audit.filter(|mode| Some(*mode) != audit) {
            wrong.push(format!("audit {audit:?}, expected {mode:?}"));
        }
        if let Some(class) = self.limit.as_ref().filter(|class| Some(*class) != limit) {
            wrong.push(format!("limit {limit:?}, expected {class:?}"));
        }
        wrong
    }

    fn listed(&self, ruling: &Ruling) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(names) = self.visible.as_ref().filter(|names| names.as_slice() != ruling.visible()) {
            wrong.push(format!("sees {:?}, expected {names:?}", ruling.visible()));
        }
        wrong.extend(self.sees.iter().filter(|name| !ruling.sees(name)).map(|name| format!("does not see `{name}`")));
        wrong.extend(self.misses.iter().filter(|name| ruling.sees(name)).map(|name| format!("sees `{name}`")));
        wrong
    }
}

impl Approval {
    fn differences(&self, asked: &Obligation) -> Vec<String> {
        let Obligation::RequireApproval { roles, teams, users, count, approve_by_s, execute_within_s, preview } = asked
        else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        for (what, got, want) in
            [("roles", roles, &self.roles), ("teams", teams, &self.teams), ("users", users, &self.users)]
        {
            let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
            if let Some(want) = want.as_ref().filter(|want| set(want) != set(got)) {
                wrong.push(format!("approval by {what} {got:?}, expected {want:?}"));
            }
        }
        let numbers = [
            ("count", u64::from(*count), self.count.map(u64::from)),
            ("approve_by_s", *approve_by_s, self.approve_by_s),
            ("execute_within_s", *execute_within_s, self.execute_within_s),
        ];
        for (what, got, want) in numbers {
            if let Some(want) = want.filter(|want| *want != got) {
                wrong.push(format!("approval {what} {got}, expected {want}"));
            }
        }
        if let Some(want) = self.preview.filter(|want| want != preview) {
            wrong.push(format!("approval preview {preview}, expected {want}"));
        }
        wrong
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allow => "allow",
        Outcome::Pending => "pending",
        Outcome::Deny => "deny",
    }
}
