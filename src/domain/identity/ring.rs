//! The gateway's signing keys over time: one signs, the next is known before it does, the last one
//! is known until nothing that it signed is good any more.
//!
//! Promises: at any time exactly one key signs; whatever was signed and is still good can be verified
//! with what is published. Never makes a key and never reads a clock. Filled by `app::keys`; held by `pep`.

use serde_json::{Value, json};

use crate::domain::identity::assertion::ASSERTION_LIFETIME_MAX_S;
use crate::domain::identity::signing::SigningKey;

/// Seconds for which a key is still published after the next one signs: the longest life of what it
/// has signed, and as much again for clocks that differ.
pub const GRACE_S: i64 = 2 * ASSERTION_LIFETIME_MAX_S;

/// Signing keys, each with the time from which it signs.
#[derive(Debug, Clone)]
pub struct Ring {
    first: Held,
    later: Vec<Held>,
}

/// A key and the time from which it signs: seconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Held {
    /// From when on.
    pub from_s: i64,
    /// The key.
    pub key: SigningKey,
}

/// What a key is for at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Published, and signs later.
    Next,
    /// Signs.
    Signs,
    /// Published, signs no more.
    Leaving,
    /// Nothing that it signed is good any more.
    Gone,
}

impl Ring {
    /// One key, which signs at any time.
    #[must_use]
    pub fn of(key: SigningKey) -> Self {
        Self { first: Held { from_s: 0, key }, later: Vec::new() }
    }

    /// The keys in order of their times; none when there is no key.
    #[must_use]
    pub fn new(mut keys: Vec<Held>) -> Option<Self> {
        keys.sort_by_key(|held| held.from_s);
        let mut keys = keys.into_iter();
        Some(Self { first: keys.next()?, later: keys.collect() })
    }

    /// Every key with its use at time `now`, in order of their times.
    pub fn uses(&self, now: i64) -> impl Iterator<Item = (&Held, Use)> {
        let all = || std::iter::once(&self.first).chain(&self.later);
        let successors = self.later.iter().map(Some).chain(std::iter::once(None));
        all().zip(successors).enumerate().map(move |(place, (held, successor))| {
            let begun = place == 0 || held.from_s <= now;
            let of = match successor {
                _ if !begun => Use::Next,
                Some(next) if next.from_s.saturating_add(GRACE_S) <= now => Use::Gone,
                Some(next) if next.from_s <= now => Use::Leaving,
                _ => Use::Signs,
            };
            (held, of)
        })
    }

    /// The key that signs at time `now`.
    #[must_use]
    pub fn signer(&self, now: i64) -> &SigningKey {
        let signs = self.uses(now).find(|(_, of)| *of == Use::Signs);
        signs.map_or(&self.first.key, |(held, _)| &held.key)
    }

    /// The JSON Web Key Set that is published at time `now`.
    #[must_use]
    pub fn jwks(&self, now: i64) -> Value {
        let known = self.uses(now).filter(|(_, of)| *of != Use::Gone);
        json!({ "keys": known.map(|(held, _)| held.key.public_jwk()).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(from_s: i64, seed: u8) -> Held {
        Held { from_s, key: SigningKey::generate(&[seed; 32]).unwrap() }
    }

    fn published(ring: &Ring, now: i64) -> usize {
        ring.jwks(now)["keys"].as_array().unwrap().len()
    }

    #[test]
    fn a_key_is_known_before_it_signs_and_until_nothing_of_it_is_good() {
        let (old, new) = (held(0, 1), held(1_000, 2));
        let ring = Ring::new(vec![new.clone(), old.clone()]).unwrap();
        assert_eq!(ring.signer(999).kid(), old.key.kid());
        assert_eq!(published(&ring, 999), 2, "the next one is known");
        assert_eq!(ring.signer(1_000).kid(), new.key.kid());
        assert_eq!(published(&ring, 1_000 + GRACE_S - 1), 2, "what the last one signed is good");
        assert_eq!(published(&ring, 1_000 + GRACE_S), 1);
        assert_eq!(ring.jwks(9_999_999)["keys"][0]["kid"], new.key.kid());
    }

    #[test]
    fn exactly_one_key_signs_at_any_time() {
        let ring = Ring::new(vec![held(500, 1), held(600, 2), held(600, 3), held(2_000, 4)]).unwrap();
        for now in [-1, 0, 499, 500, 599, 600, 601, 1_999, 2_000, 5_000, i64::MAX] {
            assert_eq!(ring.uses(now).filter(|(_, of)| *of == Use::Signs).count(), 1, "{now}");
        }
        assert!(Ring::new(Vec::new()).is_none());
    }
}
