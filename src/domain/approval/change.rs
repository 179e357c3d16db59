//! What differs between what was approved and what is about to be done.
//!
//! Promises: every difference is named by the field that changed, with both values where they may
//! be shown; equal subjects differ in nothing. Bounded, so that a huge preview gives a short list.

use serde::Serialize;
use serde_json::Value;

use super::Subject;
use crate::domain::canonical::NotCanonical;
use crate::domain::catalog::pointer;

/// Differences told at once.
const CHANGES_MAX: usize = 20;

/// One field that is not as it was approved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// JSON pointer into the subject, such as `/arguments/title` or `/recordVersion`.
    pub field: String,
    /// As it was approved; null where there was nothing.
    pub was: Value,
    /// As it is; null where there is nothing.
    pub is: Value,
}

/// Every field in which `now` is not what was approved, up to twenty; empty when nothing differs.
///
/// The deadline is not compared: it is a moment, and [`super::Ticket::at`] looks at it.
pub fn drift(approved: &Subject, now: &Subject) -> Result<Vec<Change>, NotCanonical> {
    let mut now = now.clone();
    now.approve_by_ms = approved.approve_by_ms;
    if approved.digest()? == now.digest()? {
        return Ok(Vec::new());
    }
    let mut changes = Vec::new();
    compare("", Some(&serde_json::to_value(approved)?), Some(&serde_json::to_value(&now)?), &mut changes);
    // The digest of a preview changes with the preview; it is news only where nothing else shows it.
    let shown = changes.iter().any(|change| change.field == "/preview" || change.field.starts_with("/preview/"));
    changes.retain(|change| change.field != "/previewDigest" || !shown);
    changes.truncate(CHANGES_MAX);
    Ok(changes)
}

/// Every place in which two documents differ, up to twenty.
#[must_use]
pub fn changes(was: &Value, is: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", Some(was), Some(is), &mut changes);
    changes.truncate(CHANGES_MAX);
    changes
}

fn compare(at: &str, was: Option<&Value>, is: Option<&Value>, changes: &mut Vec<Change>) {
    // WHY: null and nothing stay apart: a null that is sent clears a field, one left out does not.
    if changes.len() > CHANGES_MAX || was == is {
        return;
    }
    match (was, is) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                compare(&format!("{at}/{}", pointer::escape(name)), before.get(name), after.get(name), changes);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for index in 0..before.len().max(after.len()) {
                compare(&format!("{at}/{index}"), before.get(index), after.get(index), changes);
            }
        }
        // WHY: 1 and 1.0 are unequal here and have one canonical form.
        (Some(Value::Number(before)), Some(Value::Number(after))) if before.as_f64() == after.as_f64() => {}
        _ => {
            let [was, is] = [was, is].map(|value| value.cloned().unwrap_or_default());
            changes.push(Change { field: at.to_owned(), was, is });
        }
    }
}
