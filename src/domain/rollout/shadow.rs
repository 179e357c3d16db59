//! What a candidate says of a decision that another policy made.
//!
//! Promises: every comparison falls in exactly one class, the gravest that applies. Never decides.
//! Called by `pep::shadow`.

use serde::Serialize;

use crate::domain::pdp::ruling::{Fault, Ruling};
use crate::domain::pdp::{Obligation, Outcome};

/// How a candidate's answer differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// In nothing.
    Same,
    /// It gives no trustworthy answer.
    Fault,
    /// It denies what was not denied.
    NewlyDenied,
    /// It allows what was not allowed.
    NewlyAllowed,
    /// It asks people about what was allowed or denied.
    NewlyPending,
    /// It lets other tools be seen.
    Visible,
    /// It asks for other things to be done.
    Obligations,
    /// It gives other reasons for the same no.
    Reasons,
}

impl Class {
    /// Every class, in the order in which people read them.
    pub const ALL: [Self; 8] = [
        Self::Same,
        Self::NewlyDenied,
        Self::NewlyAllowed,
        Self::NewlyPending,
        Self::Visible,
        Self::Obligations,
        Self::Reasons,
        Self::Fault,
    ];

    /// The name as records and metrics have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Fault => "fault",
            Self::NewlyDenied => "newly_denied",
            Self::NewlyAllowed => "newly_allowed",
            Self::NewlyPending => "newly_pending",
            Self::Visible => "visible",
            Self::Obligations => "obligations",
            Self::Reasons => "reasons",
        }
    }
}

/// What one policy said, as far as another can be compared with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Made {
    /// What came of it.
    pub outcome: Outcome,
    /// Codes of the reasons, in order.
    pub reasons: Vec<String>,
    /// What must be done.
    pub obligations: Vec<Obligation>,
    /// Tools that may be seen.
    pub visible: Vec<String>,
    /// Why it could not be made.
    pub fault: Option<&'static str>,
}

impl Made {
    /// What a ruling says.
    #[must_use]
    pub fn of(ruling: &Ruling) -> Self {
        Self {
            outcome: ruling.outcome(),
            reasons: ruling.reasons().iter().map(|reason| reason.code.clone()).collect(),
            obligations: ruling.obligations().to_vec(),
            visible: ruling.visible().to_vec(),
            fault: ruling.fault().map(Fault::as_str),
        }
    }

    /// How the other's answer differs from this one.
    #[must_use]
    pub fn against(&self, other: &Self) -> Class {
        if other.fault.is_some() {
            return if self.fault == other.fault { Class::Same } else { Class::Fault };
        }
        if self.outcome != other.outcome {
            return match other.outcome {
                Outcome::Deny => Class::NewlyDenied,
                Outcome::Allow => Class::NewlyAllowed,
                Outcome::Pending => Class::NewlyPending,
            };
        }
        if self.visible != other.visible {
            Class::Visible
        } else if self.obligations != other.obligations {
            Class::Obligations
        } else if self.reasons != other.reasons {
            Class::Reasons
        } else {
            Class::Same
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pdp::AuditMode;

    fn made(outcome: Outcome) -> Made {
        Made { outcome, reasons: Vec::new(), obligations: Vec::new(), visible: vec!["a".to_owned()], fault: None }
    }

    #[test]
    fn a_comparison_falls_in_the_gravest_class_that_applies() {
        let allow = made(Outcome::Allow);
        let deny = Made { reasons: vec!["closed".to_owned()], visible: Vec::new(), ..made(Outcome::Deny) };
        let audited = Made { obligations: vec![Obligation::Audit { mode: AuditMode::Durable }], ..allow.clone() };
        let hidden = Made { visible: Vec::new(), ..audited.clone() };
        let other_words = Made { reasons: vec!["shut".to_owned()], ..deny.clone() };
        let broken = Made { fault: Some("policy_error"), ..deny.clone() };
        for (before, after, class) in [
            (&allow, &allow, Class::Same),
            (&allow, &deny, Class::NewlyDenied),
            (&deny, &allow, Class::NewlyAllowed),
            (&allow, &made(Outcome::Pending), Class::NewlyPending),
            (&allow, &audited, Class::Obligations),
            (&allow, &hidden, Class::Visible),
            (&deny, &other_words, Class::Reasons),
            (&deny, &broken, Class::Fault),
            (&broken, &broken, Class::Same),
            (&broken, &allow, Class::NewlyAllowed),
        ] {
            assert_eq!(before.against(after), class, "{before:?} -> {after:?}");
        }
    }
}
