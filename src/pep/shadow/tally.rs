//! What was counted of a canary and of a candidate in shadow, for whoever asks how they do.
//!
//! Promises: counts belong to one bundle; another one starts anew. Filled by `judge`.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::domain::rollout::BundleId;
use crate::domain::rollout::canary::Compared;
use crate::domain::rollout::canary::Counts;
use crate::domain::rollout::canary::Limits;
use crate::domain::rollout::canary::Window;
use crate::domain::rollout::shadow::Class;

/// Comparisons by class, in the order of [`Class::ALL`].
pub type Classes = [u64; Class::ALL.len()];

/// Counts that are kept.
#[derive(Debug, Default)]
pub struct Tallies {
    canary: Mutex<Option<(BundleId, Window)>>,
    shadow: Mutex<Option<(BundleId, Classes)>>,
}

impl Tallies {
    /// Counts a decision of a canary.
    pub(super) fn canary(&self, id: &BundleId, now_ms: i64, limits: &Limits, one: Compared) {
        let mut kept = self.canary.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(of, _)| of != id) {
            *kept = Some((id.clone(), Window::default()));
        }
        if let Some((_, window)) = kept.as_mut() {
            window.note(now_ms, limits, one);
        }
    }

    /// What a canary decided of late.
    #[must_use]
    pub fn of_canary(&self, id: &BundleId, now_ms: i64, limits: &Limits) -> Counts {
        let kept = self.canary.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = kept.as_ref().filter(|(of, _)| of == id);
        of_it.map(|(_, window)| window.counts(now_ms, limits)).unwrap_or_default()
    }

    /// Counts a comparison with a candidate in shadow.
    pub(super) fn shadow(&self, id: &BundleId, class: Class) {
        let mut kept = self.shadow.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(of, _)| of != id) {
            *kept = Some((id.clone(), Classes::default()));
        }
        if let Some((_, counts)) = kept.as_mut() {
            add(counts, class);
        }
    }

    /// How often a candidate in shadow said what.
    #[must_use]
    pub fn of_shadow(&self, id: &BundleId) -> Vec<(&'static str, u64)> {
        let kept = self.shadow.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = kept.as_ref().filter(|(of, _)| of == id).map(|(_, counts)| *counts).unwrap_or_default();
        named(&counts)
    }
}

/// One more of a class.
pub(super) fn add(counts: &mut Classes, class: Class) {
    for (of, count) in Class::ALL.iter().zip(counts) {
        *count = count.saturating_add(u64::from(*of == class));
    }
}

/// Each class by its name.
pub(super) fn named(counts: &Classes) -> Vec<(&'static str, u64)> {
    Class::ALL.iter().zip(counts).map(|(class, count)| (class.as_str(), *count)).collect()
}
