//! What a candidate policy would have decided of the decisions that were recorded.
//!
//! Promises: each recorded decision is first made again under the policy that made it, and counts
//! only if that gives the same; what cannot be made again is counted under its reason and never
//! left out silently; the same journal, bundle and data give the same report, byte for byte but
//! for when and how fast it was made. Never opens a file, starts a thread or reads a clock.
//! Called by `cli::policy` (replay) and by whoever puts a policy in force only with such a report.

pub mod recorded;
pub mod change;
pub mod tally;
pub mod report;
pub mod envelope;
pub mod rows;
#[cfg(test)]
mod tests;

use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::ruling::Fault;
use crate::domain::pdp::ruling::Ruling;
use crate::domain::pdp::{Input, Outcome, Phase};

use self::change::{Change, Class};
use self::recorded::Recorded;

/// Why a recorded decision says nothing about the candidate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// Its own policy decides otherwise now.
    NotReproduced,
    /// Its input is not the one that its digest was made of.
    InputAltered,
    /// No bundle with its digests is at hand.
    BundleUnknown,
    /// No record of it carries its input, and none says why.
    InputMissing,
    /// Its input has a form that this version does not read.
    InputUnreadable,
    /// Its record was too large, so that its input was left out.
    NoInput,
    /// A value was dropped from its input that one of the two policies may read.
    FieldDropped,
    /// It ran out of instructions or time, which depends on the machine.
    TimedOut,
}

impl Skip {
    /// Every reason, the gravest first.
    pub const ALL: [Self; 8] = [
        Self::NotReproduced,
        Self::InputAltered,
        Self::BundleUnknown,
        Self::InputMissing,
        Self::InputUnreadable,
        Self::NoInput,
        Self::FieldDropped,
        Self::TimedOut,
    ];

    /// Whether what is missing is known and was meant to be missing.
    #[must_use]
    pub const fn explained(self) -> bool {
        matches!(self, Self::NoInput | Self::FieldDropped | Self::TimedOut)
    }

    /// Whether it shows that decisions cannot be made again as they were.
    #[must_use]
    pub const fn disproves(self) -> bool {
        matches!(self, Self::NotReproduced | Self::InputAltered)
    }

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotReproduced => "not_reproduced",
            Self::InputAltered => "input_altered",
            Self::BundleUnknown => "bundle_unknown",
            Self::InputMissing => "input_missing",
            Self::InputUnreadable => "input_unreadable",
            Self::NoInput => "no_input",
            Self::FieldDropped => "field_dropped",
            Self::TimedOut => "timed_out",
        }
    }

    /// What happened, and what to do where something can be done.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotReproduced => {
                "the policy that was in force decides otherwise now; compare the gateway's version with the one that recorded it"
            }
            Self::InputAltered => "the recorded input is not the one that was decided about: its digest does not fit",
            Self::BundleUnknown => {
                "the policy that was in force is not at hand; name a folder or bundle that holds it with --recorded"
            }
            Self::InputMissing => {
                "no record carries what was decided about; the first record of that call could not be kept"
            }
            Self::InputUnreadable => "the record was written by a version whose form is not read here",
            Self::NoInput => "the record was too large to keep what was decided about, and says so",
            Self::FieldDropped => "a sensitive value was not recorded, and one of the two policies may read it",
            Self::TimedOut => "the decision ran out of instructions or time, which another machine need not",
        }
    }
}

/// What became of one recorded decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// The candidate decides the same.
    Same,
    /// The candidate decides otherwise.
    Changed(Box<Change>),
    /// It says nothing about the candidate.
    Skipped {
        /// Why.
        skip: Skip,
        /// What was found, in particular.
        why: String,
    },
}

/// Makes a decision again, under the policy that made it and under the candidate.
#[must_use]
pub fn judge(recorded: &Recorded, baseline: &Pdp, candidate: &Pdp) -> Judged {
    let read = |pdp: &Pdp| recorded.dropped.iter().find(|one| pdp.reads().may_read(&one.path));
    if let Some(dropped) = read(baseline).or_else(|| read(candidate)) {
        return Judged::Skipped { skip: Skip::FieldDropped, why: dropped.pointer.clone() };
    }
    let before = decide(baseline, &recorded.input);
    if let Some(why) = recorded.differs_from(&before) {
        let skip = if recorded.timed_out() { Skip::TimedOut } else { Skip::NotReproduced };
        return Judged::Skipped { skip, why };
    }
    if (baseline.bundle_digest(), baseline.data_digest()) == (candidate.bundle_digest(), candidate.data_digest()) {
        return Judged::Same;
    }
    let after = decide(candidate, &recorded.input);
    match class_of(&recorded.input, &before, &after) {
        None => Judged::Same,
        Some(class) => Judged::Changed(Box::new(Change::new(class, recorded.about.clone(), &before, &after))),
    }
}

/// One decision; again if it ran out of time, since a busy machine stops a thread for longer than
/// policies may take.
fn decide(pdp: &Pdp, input: &Input) -> Ruling {
    let ruling = pdp.decide(input);
    if ruling.fault() == Some(Fault::Budget) { pdp.decide(input) } else { ruling }
}

/// The gravest difference between two rulings; none when they are the same.
#[must_use]
pub fn class_of(input: &Input, before: &Ruling, after: &Ruling) -> Option<Class> {
    if after.fault().is_some() && before.fault() != after.fault() {
        return Some(Class::Fault);
    }
    match (before.outcome(), after.outcome()) {
        (Outcome::Allow | Outcome::Pending, Outcome::Deny) => return Some(Class::NewlyDenied),
        (Outcome::Deny, Outcome::Allow) => return Some(Class::NewlyAllowed),
        (Outcome::Allow | Outcome::Deny, Outcome::Pending) => return Some(Class::NewlyPending),
        (Outcome::Pending, Outcome::Allow) => return Some(Class::NoLongerPending),
        (Outcome::Allow, Outcome::Allow) | (Outcome::Pending, Outcome::Pending) | (Outcome::Deny, Outcome::Deny) => {}
    }
    // WHY not of answers: once a call has been made, nobody asks whether its tool may be seen.
    if input.phase != Phase::Response && before.visible() != after.visible() {
        let asked = input.tools.as_ref().map_or(1, std::collections::BTreeMap::len);
        return Some(match (asked, after.visible().is_empty()) {
            (0 | 1, true) => Class::NewlyHidden,
            (0 | 1, false) => Class::NewlySeen,
            _ => Class::ListChanged,
        });
    }
    if before.obligations() != after.obligations() {
        return Some(Class::ObligationsChanged);
    }
    (before.reasons() != after.reasons()).then_some(Class::ReasonsChanged)
}
