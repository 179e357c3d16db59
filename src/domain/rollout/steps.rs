//! The steps from one state to the next.
//!
//! Promises: each is all or nothing, and says what the caller has to do about it. Never forgets why
//! something is held. Called by `adapters::reload`.

use super::{BundleId, Canary, Candidate, Ended, HISTORY_MAX, How, Past, State, Term};

/// What a bundle that has just been read means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing new decides or waits; the state may still have changed.
    Stays(State),
    /// It waits for a person from now on.
    Waits(State),
    /// It is to decide from now on.
    GoesLive(How),
}

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepFault {
    /// No candidate goes by that revision.
    #[error("no candidate goes by the revision `{0}`")]
    NoCandidate(String),
    /// It decides already.
    #[error("`{0}` is in force already")]
    AlreadyLive(String),
    /// It decides its part already.
    #[error("`{0}` decides a part of the calls already")]
    AlreadyCanary(String),
    /// There is nothing to be compared with.
    #[error("nothing is in force that a canary could be compared with")]
    NothingLive,
    /// A canary for nobody, or for more than everybody.
    #[error("a canary needs a share from 1 to 100 percent, or organisations")]
    NoShare,
    /// What was in force before is not known, or was taken back itself.
    #[error("nothing was in force before that was not taken back")]
    NothingBefore,
    /// That revision was never in force.
    #[error("`{0}` was not in force before, as far as is remembered")]
    NeverLive(String),
}

impl StepFault {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCandidate(_) => "policy_candidate_unknown",
            Self::AlreadyLive(_) => "policy_already_live",
            Self::AlreadyCanary(_) => "policy_already_canary",
            Self::NothingLive => "policy_nothing_live",
            Self::NoShare => "policy_canary_share",
            Self::NothingBefore => "policy_nothing_before",
            Self::NeverLive(_) => "policy_revision_unknown",
        }
    }

    /// What to do next.
    #[must_use]
    pub const fn next(&self) -> &'static str {
        match self {
            Self::NoCandidate(_) => "see `loopgate policy status` for what waits, and activate that",
            Self::AlreadyLive(_) => "nothing is left to do; see `loopgate policy status`",
            Self::AlreadyCanary(_) => "promote it, or roll it back first",
            Self::NothingLive => "activate it without a canary",
            Self::NoShare => "say `10%`, or name the organisations",
            Self::NothingBefore => "name the revision with `--to`, or change the policy itself",
            Self::NeverLive(_) => "use a revision of the history in `loopgate policy status`",
        }
    }
}

impl State {
    /// A bundle was read from the folder or the server, whether or not it has been seen before.
    #[must_use]
    pub fn arrived(&self, candidate: &Candidate, gated: bool) -> Arrival {
        let id = &candidate.id;
        let mut next = self.clone();
        if self.waiting.as_ref().is_some_and(|waiting| waiting.id != *id) {
            next.waiting = None;
        }
        if self.held.contains(id) {
            return Arrival::Stays(next);
        }
        // WHY: whatever was held was held as long as the files stay what they were, and they did not.
        next.held.clear();
        if self.live_id() == Some(id) || self.canary.as_ref().is_some_and(|canary| canary.id == *id) {
            return Arrival::Stays(next);
        }
        if self.live.is_none() {
            return Arrival::GoesLive(How::First);
        }
        if !gated {
            return Arrival::GoesLive(How::Automatic);
        }
        if next.waiting.is_some() {
            return Arrival::Stays(next);
        }
        next.waiting = Some(candidate.clone());
        Arrival::Waits(next)
    }

    /// The bundle that somebody means who wants to activate a revision.
    pub fn candidate(&self, revision: &str) -> Result<BundleId, StepFault> {
        let waiting = self.waiting.iter().map(|waiting| &waiting.id);
        let canary = self.canary.iter().map(|canary| &canary.id);
        let found = waiting.chain(canary).chain(&self.held).find(|id| id.revision() == revision);
        match found {
            Some(id) => Ok(id.clone()),
            None if self.live_revision() == revision => Err(StepFault::AlreadyLive(revision.to_owned())),
            None => Err(StepFault::NoCandidate(revision.to_owned())),
        }
    }

    /// A bundle decides from now on. Ends a canary, which was compared with what decided before.
    #[must_use]
    pub fn activated(&self, term: Term) -> Self {
        let held = |id: &&BundleId| **id != term.id && matches!(term.how, How::Person | How::Promoted);
        let mut next = Self {
            held: self.held.iter().filter(held).cloned().collect(),
            waiting: self.waiting.clone().filter(|waiting| waiting.id != term.id),
            canary: None,
            ..self.clone()
        };
        if term.how == How::Automatic {
            next.waiting = None;
        }
        next.follow(term, Ended::Replaced);
        next
    }

    /// A candidate decides a part of the calls from now on.
    pub fn canary_started(&self, canary: Canary) -> Result<Self, StepFault> {
        if self.live.is_none() {
            return Err(StepFault::NothingLive);
        }
        if canary.share.is_nobody() {
            return Err(StepFault::NoShare);
        }
        if self.canary.as_ref().is_some_and(|now| now.id == canary.id) {
            return Err(StepFault::AlreadyCanary(canary.id.revision()));
        }
        let waiting = self.waiting.clone().filter(|waiting| waiting.id != canary.id);
        let held = self.held.iter().filter(|id| **id != canary.id).cloned().collect();
        Ok(Self { waiting, held, canary: Some(canary), ..self.clone() })
    }

    /// The canary decides nothing any more, and does not come back by itself.
    #[must_use]
    pub fn canary_taken_back(&self, now_ms: i64) -> Self {
        let mut next = self.clone();
        if let Some(canary) = next.canary.take() {
            next.held.insert(canary.id);
            next.taken_back_ms = Some(now_ms);
        }
        next
    }

    /// The bundle that follows when what is in force is taken back.
    pub fn before(&self, to: Option<&str>) -> Result<BundleId, StepFault> {
        let live = self.live_id().ok_or(StepFault::NothingBefore)?;
        let mut past = self.history.iter().map(|past| &past.term.id);
        if let Some(to) = to {
            if live.revision() == to {
                return Err(StepFault::AlreadyLive(to.to_owned()));
            }
            return past.find(|id| id.revision() == to).cloned().ok_or_else(|| StepFault::NeverLive(to.to_owned()));
        }
        let last = |id: &BundleId| self.history.iter().find(|past| past.term.id == *id).map(|past| past.ended);
        past.find(|id| *id != live && last(id) == Some(Ended::Replaced)).cloned().ok_or(StepFault::NothingBefore)
    }

    /// What is in force is taken back, and so is a canary; an earlier bundle decides again.
    #[must_use]
    pub fn rolled_back(&self, term: Term) -> Self {
        let mut next = Self { taken_back_ms: Some(term.since_ms), ..self.canary_taken_back(term.since_ms) };
        next.held.remove(&term.id);
        next.waiting.take_if(|waiting| waiting.id == term.id);
        if let Some(live) = &self.live {
            next.held.insert(live.id.clone());
        }
        next.follow(term, Ended::RolledBack);
        next
    }

    fn follow(&mut self, term: Term, ended: Ended) {
        let until_ms = term.since_ms;
        if let Some(before) = self.live.replace(term) {
            self.history.insert(0, Past { term: before, until_ms, ended });
            self.history.truncate(HISTORY_MAX);
        }
    }
}
