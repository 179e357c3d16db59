//! One decision that the candidate makes otherwise.
//!
//! Promises: it counts once, as its gravest difference; both sides are shown as the gateway derives
//! them, not as a rule writes them. Never decides. Called by `replay`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::pdp::ruling::Ruling;
use crate::domain::pdp::{Obligation, Outcome};
use crate::domain::replay::recorded::About;

/// Names of tools of a list that one sample carries.
const NAMES_MAX: usize = 50;

/// What kind of difference it is; the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The candidate gives no trustworthy decision, which is a no.
    Fault,
    /// It was allowed, or waited for people, and would be denied.
    NewlyDenied,
    /// It was denied and would be allowed.
    NewlyAllowed,
    /// It was allowed or denied and would wait for people.
    NewlyPending,
    /// It waited for people and would be allowed at once.
    NoLongerPending,
    /// The caller knew of the tool and would not.
    NewlyHidden,
    /// The caller did not know of the tool and would.
    NewlySeen,
    /// A list would have other tools.
    ListChanged,
    /// The outcome is the same, and other things must be done.
    ObligationsChanged,
    /// The outcome is the same, for other reasons or in other words.
    ReasonsChanged,
}

impl Class {
    /// Every class, the gravest first.
    pub const ALL: [Self; 10] = [
        Self::Fault,
        Self::NewlyDenied,
        Self::NewlyAllowed,
        Self::NewlyPending,
        Self::NoLongerPending,
        Self::NewlyHidden,
        Self::NewlySeen,
        Self::ListChanged,
        Self::ObligationsChanged,
        Self::ReasonsChanged,
    ];

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::NewlyDenied => "newly_denied",
            Self::NewlyAllowed => "newly_allowed",
            Self::NewlyPending => "newly_pending",
            Self::NoLongerPending => "no_longer_pending",
            Self::NewlyHidden => "newly_hidden",
            Self::NewlySeen => "newly_seen",
            Self::ListChanged => "list_changed",
            Self::ObligationsChanged => "obligations_changed",
            Self::ReasonsChanged => "reasons_changed",
        }
    }

    /// The same for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Fault => "no decision at all",
            Self::NewlyDenied => "newly denied",
            Self::NewlyAllowed => "newly allowed",
            Self::NewlyPending => "newly needs approval",
            Self::NoLongerPending => "no longer needs approval",
            Self::NewlyHidden => "newly hidden",
            Self::NewlySeen => "newly seen",
            Self::ListChanged => "list has other tools",
            Self::ObligationsChanged => "other obligations",
            Self::ReasonsChanged => "other reasons or words",
        }
    }
}

/// A reason, without what only programs need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// Its code.
    pub code: String,
    /// Its words.
    pub message: String,
}

/// What was, or would be, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// What comes of it.
    pub outcome: Outcome,
    /// Why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Why>,
    /// What must be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<Obligation>,
    /// How many tools are seen: of a call or an answer one or none.
    pub sees: u64,
}

impl Side {
    fn of(ruling: &Ruling) -> Self {
        let reason = |reason: &crate::domain::refusal::Reason| Why {
            code: reason.code.clone(),
            message: reason.message.clone(),
        };
        Self {
            outcome: ruling.outcome(),
            reasons: ruling.reasons().iter().map(reason).collect(),
            obligations: ruling.obligations().to_vec(),
            sees: ruling.visible().len() as u64,
        }
    }
}

/// A decision that the candidate makes otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What kind of difference it is.
    pub class: Class,
    /// Which decision.
    pub about: About,
    /// As it was recorded.
    pub before: Side,
    /// As the candidate decides.
    pub after: Side,
    /// Tools that would be seen and were not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub appears: Vec<String>,
    /// Tools that were seen and would not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vanishes: Vec<String>,
}

impl Change {
    pub(super) fn new(class: Class, about: About, before: &Ruling, after: &Ruling) -> Self {
        let only = |these: &Ruling, those: &Ruling| -> Vec<String> {
            these.visible().iter().filter(|name| !those.sees(name)).cloned().collect()
        };
        Self {
            class,
            about,
            before: Side::of(before),
            after: Side::of(after),
            appears: only(after, before),
            vanishes: only(before, after),
        }
    }

    /// The tools that it is about: that of a call, or those that a list gains or loses.
    pub(super) fn tools(&self) -> Vec<&str> {
        if self.about.tool.is_empty() {
            self.appears.iter().chain(&self.vanishes).map(String::as_str).collect()
        } else {
            vec![&self.about.tool]
        }
    }

    /// The same with bounded lists of names.
    pub(super) fn shortened(mut self) -> Self {
        self.appears.truncate(NAMES_MAX);
        self.vanishes.truncate(NAMES_MAX);
        self
    }
}

/// How often each class was met.
pub type Counts = BTreeMap<Class, u64>;
