//! What a replay report must show before a candidate may decide.
//!
//! Promises: every fault of a report is found, each with a code and a remedy; what is not shown
//! counts as not so. Never reads a key file: whoever asks says whose signature is good.
//! Called by `adapters::reload`; the report itself is `domain::replay`'s.

use super::BundleId;
use super::State;
use crate::domain::audit::checkpoint::PublicKey;
use crate::domain::replay::envelope;
use crate::domain::replay::report::{Digests, Report};

/// What a replay report shows, as far as the gate asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// SHA-256 (hex) of the report: what a person approves.
    pub digest: String,
    /// What was replayed.
    pub candidate: BundleId,
    /// Whose recorded decisions were met.
    pub baselines: Vec<BundleId>,
    /// Recorded decisions that were made again.
    pub decisions: u64,
    /// Recorded decisions that could not be replayed, for a reason that nobody explained.
    pub unexplained: u64,
    /// Whether the recorded bundles gave every decision as it was recorded.
    pub proven: bool,
    /// Whether the journal was verified.
    pub verified: bool,
    /// Whether only a part of the journal was read.
    pub filtered: bool,
    /// When it was made: milliseconds since the Unix epoch.
    pub made_at_ms: i64,
}

/// What the gate asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demands {
    /// Recorded decisions made again, at least.
    pub decisions: u64,
    /// Milliseconds that a report is good for.
    pub age_ms: i64,
}

/// Why a report opens no gate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateFault {
    /// There is none.
    #[error("a gated activation needs a signed replay report")]
    Missing,
    /// It is no signed report, or nobody who may has signed it.
    #[error("the replay report is not believed: {0}")]
    Untrusted(String),
    /// It is about another bundle.
    #[error("the replay report is about `{0}`")]
    OtherCandidate(String),
    /// It says nothing of what the live policy decided.
    #[error("the replay report does not cover decisions of `{0}`, which is in force")]
    OtherBaseline(String),
    /// It was made too long ago, or will be made.
    #[error("the replay report was made {0}, and may be no older than {1}")]
    Stale(String, String),
    /// It knows nothing of why something was taken back, or of what was put in force since.
    #[error("the replay report was made before policy was changed or taken back the last time")]
    Overtaken,
    /// Too little was replayed.
    #[error("the replay report covers {0} decisions, and {1} are needed")]
    TooFew(u64, u64),
    /// Something was skipped and nobody knows why.
    #[error("the replay report left out {0} decisions without an explanation")]
    Unexplained(u64),
    /// The replay did not prove itself.
    #[error("the replay report did not reproduce what was recorded")]
    Unproven,
    /// The journal may have been changed.
    #[error("the replay report was made from a journal that was not verified")]
    Unverified,
    /// Only some decisions were looked at.
    #[error("the replay report was made from a part of the decisions only")]
    Filtered,
    /// The person approved something else.
    #[error("what was approved is not this replay report: its digest is another")]
    OtherDigest,
}

impl GateFault {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "gate_report_missing",
            Self::Untrusted(_) => "gate_report_untrusted",
            Self::OtherCandidate(_) => "gate_report_other_candidate",
            Self::OtherBaseline(_) => "gate_report_other_baseline",
            Self::Stale(..) => "gate_report_stale",
            Self::Overtaken => "gate_report_overtaken",
            Self::TooFew(..) => "gate_too_few_decisions",
            Self::Unexplained(_) => "gate_unexplained",
            Self::Unproven => "gate_unproven",
            Self::Unverified => "gate_journal_unverified",
            Self::Filtered => "gate_report_filtered",
            Self::OtherDigest => "gate_digest_mismatch",
        }
    }

    /// What to do next.
    #[must_use]
    pub const fn next(&self) -> &'static str {
        match self {
            Self::Missing => {
                "make one with `loopgate policy replay --candidate DIR --sign --out FILE`, and send it along"
            }
            Self::Untrusted(_) => {
                "make it where the gateway's report key is, or name the signer's key in `policy.gate.keys`"
            }
            Self::OtherCandidate(_) => "replay the candidate that waits; `loopgate policy status` names it",
            Self::OtherBaseline(_) | Self::Stale(..) | Self::Overtaken => {
                "replay the candidate again over recent decisions"
            }
            Self::TooFew(..) => "replay a longer time; where too little happens, lower `policy.gate.decisions`",
            Self::Unexplained(_) => "read in the report what was left out, mend its cause, and replay again",
            Self::Unproven => "read in the report which decisions were not reproduced; do not trust the rest of it",
            Self::Unverified => "replay again without `--no-verify`",
            Self::Filtered => "replay again without filters",
            Self::OtherDigest => "read this report, and approve its own digest",
        }
    }
}

impl From<&Digests> for BundleId {
    fn from(digests: &Digests) -> Self {
        Self::new(&digests.bundle, &digests.data)
    }
}

impl From<&Report> for Evidence {
    fn from(report: &Report) -> Self {
        Self {
            digest: report.digest(),
            candidate: report.candidate().into(),
            baselines: report.replay.recorded.iter().map(|baseline| (&baseline.policy).into()).collect(),
            decisions: report.decisions_replayed(),
            unexplained: report.unexplained(),
            proven: report.proven(),
            verified: report.verified(),
            filtered: report.filtered(),
            made_at_ms: report.made_at_ms(),
        }
    }
}

impl Evidence {
    /// What a report shows that one of these keys has signed.
    pub fn signed(envelope: &str, trusted: &[PublicKey]) -> Result<Self, GateFault> {
        let report = envelope::verify(envelope, trusted).map_err(|fault| GateFault::Untrusted(fault.to_string()))?;
        Ok(Self::from(&report))
    }

    /// Whether the report lets the candidate follow what decides in this state. `approved` is the digest
    /// of the report that the person saw.
    pub fn opens(
        &self,
        demands: &Demands,
        candidate: &BundleId,
        state: &State,
        approved: &str,
        now_ms: i64,
    ) -> Result<(), GateFault> {
        let age_ms = now_ms.saturating_sub(self.made_at_ms);
        let live_unmet = state.live_id().filter(|live| !self.baselines.contains(live));
        // WHY: a report on which a policy went live must not bring it back after it was taken back. It
        // says when it was made in whole seconds.
        let overtaken = state.changed_ms().is_some_and(|changed| self.made_at_ms.saturating_add(999) < changed);
        let faults = [
            (self.candidate != *candidate).then(|| GateFault::OtherCandidate(self.candidate.revision())),
            (!self.proven).then_some(GateFault::Unproven),
            (!self.verified).then_some(GateFault::Unverified),
            self.filtered.then_some(GateFault::Filtered),
            (self.unexplained > 0).then_some(GateFault::Unexplained(self.unexplained)),
            live_unmet.map(|live| GateFault::OtherBaseline(live.revision())),
            (self.decisions < demands.decisions).then_some(GateFault::TooFew(self.decisions, demands.decisions)),
            // WHY the second part: a report from the future was made by a clock that proves nothing.
            (age_ms > demands.age_ms || age_ms < -CLOCKS_DIFFER_MS)
                .then(|| GateFault::Stale(ago(age_ms), span(demands.age_ms))),
            overtaken.then_some(GateFault::Overtaken),
            // What has no digest cannot have been approved.
            (self.digest != approved || approved.is_empty()).then_some(GateFault::OtherDigest),
        ];
        faults.into_iter().flatten().next().map_or(Ok(()), Err)
    }
}

/// How far the clocks of two machines may differ: milliseconds.
const CLOCKS_DIFFER_MS: i64 = 60_000;

fn ago(ms: i64) -> String {
    if ms < 0 { format!("{} in the future", span(-ms)) } else { format!("{} ago", span(ms)) }
}

fn span(ms: i64) -> String {
    let s = ms / 1000;
    match s {
        0..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min", s / 60),
        7_200..=172_799 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rollout::canary::Share;
    use crate::domain::rollout::{By, Canary, How, Term};

    const DEMANDS: Demands = Demands { decisions: 1_000, age_ms: 86_400_000 };
    const NOW: i64 = 1_000_000_000;

    fn id(name: &str) -> BundleId {
        BundleId::new(name, "data")
    }

    fn good() -> Evidence {
        Evidence {
            digest: "d1".to_owned(),
            candidate: id("new"),
            baselines: vec![id("older"), id("live")],
            decisions: 1_000,
            unexplained: 0,
            proven: true,
            verified: true,
            filtered: false,
            made_at_ms: NOW - DEMANDS.age_ms,
        }
    }

    fn live(since_ms: i64) -> State {
        let (reason, how) = (String::new(), How::First);
        State::default().activated(Term { id: id("live"), since_ms, how, by: None, reason, report: None })
    }

    fn code(evidence: &Evidence) -> &'static str {
        code_in(evidence, &live(0), "d1")
    }

    fn code_in(evidence: &Evidence, state: &State, approved: &str) -> &'static str {
        match evidence.opens(&DEMANDS, &id("new"), state, approved, NOW) {
            Ok(()) => "ok",
            Err(fault) => {
                assert!(!fault.next().is_empty() && !fault.to_string().is_empty());
                fault.code()
            }
        }
    }

    #[test]
    fn a_report_opens_the_gate_only_if_nothing_at_all_is_wrong_with_it() {
        assert_eq!(code(&good()), "ok");
        for (wrong, expected) in [
            (Evidence { candidate: id("other"), ..good() }, "gate_report_other_candidate"),
            (Evidence { baselines: vec![id("older")], ..good() }, "gate_report_other_baseline"),
            (Evidence { decisions: 999, ..good() }, "gate_too_few_decisions"),
            (Evidence { unexplained: 1, ..good() }, "gate_unexplained"),
            (Evidence { proven: false, ..good() }, "gate_unproven"),
            (Evidence { verified: false, ..good() }, "gate_journal_unverified"),
            (Evidence { filtered: true, ..good() }, "gate_report_filtered"),
            (Evidence { made_at_ms: NOW - DEMANDS.age_ms - 1, ..good() }, "gate_report_stale"),
            (Evidence { made_at_ms: NOW + 120_000, ..good() }, "gate_report_stale"),
            (Evidence { digest: "d2".to_owned(), ..good() }, "gate_digest_mismatch"),
        ] {
            assert_eq!(code(&wrong), expected, "{wrong:?}");
        }
    }

    #[test]
    fn a_report_from_before_something_was_taken_back_opens_nothing() {
        let made = |made_at_ms: i64| Evidence { made_at_ms, ..good() };
        let since = live(NOW - 5_000);
        assert_eq!(code_in(&made(NOW - 6_000), &since, "d1"), "gate_report_overtaken");
        assert_eq!(code_in(&made(NOW - 5_999), &since, "d1"), "ok", "within the same second");
        let by = By { user: String::new(), issuer: String::new(), tenant: String::new() };
        let share = Share { percent: 1, tenants: Vec::new() };
        let canary = Canary { id: id("new"), share, since_ms: 1, by, reason: String::new(), report: None };
        let back = live(0).canary_started(canary).unwrap().canary_taken_back(NOW - 1_000);
        assert_eq!(code_in(&made(NOW - 2_500), &back, "d1"), "gate_report_overtaken");
        assert_eq!(code_in(&made(NOW - 1_000), &back, "d1"), "ok");
    }

    #[test]
    fn a_report_without_a_digest_is_approved_by_nobody() {
        assert_eq!(code_in(&Evidence { digest: String::new(), ..good() }, &live(0), ""), "gate_digest_mismatch");
    }

    #[test]
    fn the_same_policies_on_other_data_are_another_candidate_and_another_baseline() {
        let elsewhere = |name: &str| BundleId::new(name, "other data");
        assert_eq!(code(&Evidence { candidate: elsewhere("new"), ..good() }), "gate_report_other_candidate");
        assert_eq!(code(&Evidence { baselines: vec![elsewhere("live")], ..good() }), "gate_report_other_baseline");
    }
}
