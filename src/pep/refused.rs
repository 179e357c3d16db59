//! How often refusals of strangers get a record of their own.
//!
//! Promises: a stranger cannot fill the disk: above a rate, refusals are counted and the count goes
//! into the next record, so that none is lost from sight; what HTTP alone refuses has a rate of its
//! own, so that noise at the door hides no bad credential. Never delays an answer. Called by `pep`.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use serde_json::json;
use tracing::error;

use super::Pep;
use super::arrival::Turned;
use crate::domain::audit::record::Opened;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;

/// Records of their own that may come at once.
const BURST: f64 = 200.0;
/// Records of their own per second after that.
const PER_SECOND: f64 = 20.0;
/// Organisations that are told apart; beyond that those share who cannot be forgotten.
const TENANTS_MAX: usize = 4_096;
/// The same for what HTTP alone refuses: some 90 MB in a day of attack.
const TURNED_BURST: f64 = 50.0;
const TURNED_PER_SECOND: f64 = 1.0;

/// Two token buckets, each with a count of what it swallowed.
#[derive(Debug)]
pub struct Refused {
    strangers: Mutex<(Bucket, u64)>,
    turned: Mutex<(Bucket, BTreeMap<Turned, u64>)>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    at_ms: i64,
}

impl Bucket {
    const fn full(burst: f64, per_second: f64) -> Self {
        Self { tokens: burst, burst, per_second, at_ms: 0 }
    }

    fn take(&mut self, now_ms: i64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds between two refusals")]
        let passed_s = now_ms.saturating_sub(self.at_ms).max(0) as f64 / 1000.0;
        self.tokens = passed_s.mul_add(self.per_second, self.tokens).min(self.burst);
        self.at_ms = now_ms;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    fn is_full(&self, now_ms: i64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds between two refusals")]
        let passed_s = now_ms.saturating_sub(self.at_ms).max(0) as f64 / 1000.0;
        passed_s.mul_add(self.per_second, self.tokens) >= self.burst
    }
}

impl Refused {
    /// Full buckets.
    #[must_use]
    pub fn new() -> Self {
        Self {
            strangers: Mutex::new((Bucket::full(BURST, PER_SECOND), 0)),
            turned: Mutex::new((Bucket::full(TURNED_BURST, TURNED_PER_SECOND), BTreeMap::new())),
        }
    }

    /// `Some(n)`: write a record, which stands for `n` refusals before it too. `None`: only count.
    pub(super) fn record_now(&self, now_ms: i64) -> Option<u64> {
        let mut state = self.strangers.lock().ok()?;
        let (bucket, swallowed) = &mut *state;
        if bucket.take(now_ms) {
            return Some(std::mem::take(swallowed));
        }
        *swallowed += 1;
        None
    }

    /// `Some`: write a record, which stands for this many of each cause, this one among them.
    fn turned_now(&self, cause: Turned, now_ms: i64) -> Option<BTreeMap<Turned, u64>> {
        let mut state = self.turned.lock().ok()?;
        let (bucket, counts) = &mut *state;
        *counts.entry(cause).or_default() += 1;
        bucket.take(now_ms).then(|| std::mem::take(counts))
    }

    /// Whether a new one would do the same.
    fn is_at_rest(&self, now_ms: i64) -> bool {
        self.strangers.lock().is_ok_and(|state| state.1 == 0 && state.0.is_full(now_ms))
    }
}

/// The same for callers beyond their rates, for each organisation apart: one that floods hides no other.
#[derive(Debug, Default)]
pub(super) struct Flooded(Mutex<HashMap<String, Refused>>);

impl Flooded {
    /// As [`Refused::record_now`], counting refusals of this organisation only.
    pub(super) fn record_now(&self, tenant: &str, now_ms: i64) -> Option<u64> {
        let mut tenants = self.0.lock().ok()?;
        if tenants.len() >= TENANTS_MAX && !tenants.contains_key(tenant) {
            tenants.retain(|_, refused| !refused.is_at_rest(now_ms));
        }
        let tenant = if tenants.len() >= TENANTS_MAX && !tenants.contains_key(tenant) { "" } else { tenant };
        tenants.entry(tenant.to_owned()).or_default().record_now(now_ms)
    }
}

impl Default for Refused {
    fn default() -> Self {
        Self::new()
    }
}

impl Pep {
    /// Counts somebody who was turned away for reasons of HTTP alone, and records it in its turn.
    pub(super) async fn note_turned(&self, cause: Turned, peer: Option<SocketAddr>) {
        self.metrics.door_refused.with_label_values(&[cause.as_str()]).inc();
        let now_ms = self.clock.now_ms();
        let Some(counts) = self.refused.turned_now(cause, now_ms) else {
            self.metrics.records_aggregated.inc();
            return;
        };
        let counts: BTreeMap<_, _> = counts.iter().map(|(cause, count)| (cause.as_str(), count)).collect();
        let source = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let mut record = Record::open(Opened { received_ms: now_ms, source, ..Opened::default() });
        record.said(&format!("turned away at the door: {}", cause.as_str()));
        let record = record.stage(Stage::Denied, now_ms).with("turnedAway", json!(counts));
        // WHY: what a stranger is told shows nothing, so it needs no record to go out.
        if let Err(fault) = self.journal.append(record).await {
            error!("a refusal at the door could not be recorded: {fault}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organisation_that_floods_hides_no_refusal_of_another_and_memory_is_bounded() {
        let flooded = Flooded::default();
        let written = (0..10_000).filter(|_| flooded.record_now("org_a", 1_000_000).is_some()).count();
        assert!(written < 300, "{written} records");
        assert_eq!(flooded.record_now("org_b", 1_000_000), Some(0));
        for tenant in 0..3 * TENANTS_MAX {
            flooded.record_now(&tenant.to_string(), 1_000_000);
        }
        assert!(flooded.0.lock().unwrap().len() <= TENANTS_MAX + 1);
        let swallowed = flooded.record_now("org_a", 1_000_000 + 60_000).unwrap();
        assert_eq!(swallowed, 10_000 - written as u64, "none is lost from sight");
    }

    #[test]
    fn a_flood_of_bad_tokens_is_counted_and_no_refusal_is_lost_from_sight() {
        let refused = Refused::new();
        let mut written = 0;
        let mut stood_for = 0;
        for n in 0..10_000 {
            if let Some(before) = refused.record_now(1_000_000 + n / 100) {
                written += 1;
                stood_for += before;
            }
        }
        assert!(written < 300, "{written} records");
        let last = refused.record_now(1_000_000 + 60_000).unwrap();
        assert_eq!(written + stood_for + last, 10_000);
    }

    #[test]
    fn a_flood_of_bad_requests_writes_little_says_how_many_of_each_and_hides_no_bad_token() {
        let refused = Refused::new();
        let (mut written, mut told) = (0, BTreeMap::new());
        let mut tell = |counts: BTreeMap<Turned, u64>| {
            counts.into_iter().for_each(|(cause, count)| *told.entry(cause).or_insert(0) += count);
        };
        for n in 0..10_000 {
            let cause = if n % 4 == 0 { Turned::HeadTooLong } else { Turned::Malformed };
            if let Some(counts) = refused.turned_now(cause, 1_000_000 + n) {
                written += 1;
                tell(counts);
            }
        }
        assert!(written < 70, "{written} records");
        tell(refused.turned_now(Turned::TooSlow, 1_000_000 + 60_000).unwrap());
        assert_eq!(told, [(Turned::Malformed, 7500), (Turned::HeadTooLong, 2500), (Turned::TooSlow, 1)].into());
        assert_eq!(refused.record_now(1_060_000), Some(0));
    }
}
