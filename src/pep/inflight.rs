//! Calls under way, so that a legacy client can give one up by its id.
//!
//! Promises: only the caller who made a call can cancel it; when two calls of one caller carry the
//! same id, neither is cancelled, since the gateway cannot know which was meant. Bounded by the
//! calls under way. Called by `pep`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::arrival::Cancel;
use crate::domain::identity::Principal;
use crate::domain::mcp::RequestId;

type Key = (String, RequestId);

/// Calls under way, by caller and request id.
#[derive(Debug, Default)]
pub struct InFlight {
    calls: Mutex<HashMap<Key, Vec<(u64, Cancel)>>>,
    entered: AtomicU64,
}

/// Takes its call out of the register when the call ends, however it ends.
pub(super) struct Registered<'a> {
    register: &'a InFlight,
    key: Key,
    number: u64,
}

impl InFlight {
    /// Registers a call of `principal` until the guard is dropped.
    pub(super) fn enter(&self, principal: &Principal, id: Option<&RequestId>, cancel: &Cancel) -> Registered<'_> {
        let key = (caller(principal), id.cloned().unwrap_or(RequestId::Number(0)));
        let number = self.entered.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut calls) = self.calls.lock() {
            calls.entry(key.clone()).or_default().push((number, cancel.clone()));
        }
        Registered { register: self, key, number }
    }

    /// Cancels the one call of `principal` with this id. Says whether there was exactly one.
    pub(super) fn cancel(&self, principal: &Principal, id: &RequestId) -> bool {
        let Ok(calls) = self.calls.lock() else { return false };
        match calls.get(&(caller(principal), id.clone())).map(Vec::as_slice) {
            Some([(_, only)]) => {
                only.raise();
                true
            }
            _ => false,
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let Ok(mut calls) = self.register.calls.lock() else { return };
        if let Some(of_id) = calls.get_mut(&self.key) {
            of_id.retain(|(number, _)| *number != self.number);
            if of_id.is_empty() {
                calls.remove(&self.key);
            }
        }
    }
}

/// Who a call belongs to: issuer and user together, since two issuers may name one user; and the
/// client, since all of one user's count their ids from 1.
fn caller(principal: &Principal) -> String {
    format!("{}\n{}\n{}", principal.issuer, principal.user, principal.client.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::forge::principal;

    #[test]
    fn only_the_caller_can_cancel_and_an_ambiguous_id_cancels_nothing() {
        let register = InFlight::default();
        let (one, two) = (Cancel::default(), Cancel::default());
        let id = RequestId::Number(7);
        let (ada, ben) = (principal("i", "ada", "org_a"), principal("i", "ben", "org_a"));
        let first = register.enter(&ada, Some(&id), &one);
        assert!(!register.cancel(&ben, &id));
        let other_agent = Principal { client: Some("other".to_owned()), ..ada.clone() };
        assert!(!register.cancel(&other_agent, &id), "another agent of the same person, at its own call 7");
        let second = register.enter(&ada, Some(&id), &two);
        assert!(!register.cancel(&ada, &id));
        drop(second);
        assert!(register.cancel(&ada, &id) && one.is_raised() && !two.is_raised());
        drop(first);
        assert!(!register.cancel(&ada, &id));
    }
}
