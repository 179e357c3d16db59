//! Limits: how many messages an organisation, a caller and a tool may have.
//!
//! Promises: what is beyond a rate is refused before anything is previewed, claimed or sent, and told
//! when to come back; a caller beyond their own rate does not use up their
//! organisation's, and one whom policy denies does not use up a tool for the others; a class that the
//! settings do not know is a no. One message counts once, with its preview and whether or not its
//! answer is an earlier one. Counters that fail stop nobody. Called by `pep`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use serde_json::json;

use super::Pep;
use super::answer::REFUSED;
use super::arrival::Arrival;
use super::asked::Asked;
use super::asked::Known;
use super::asked::Reply;
use super::decide::Standing;
use super::ports::Limits;
use super::refused::Flooded;
use crate::domain::identity;
use crate::domain::identity::Principal;
use crate::domain::limit::Key;
use crate::domain::limit::Rate;
use crate::domain::limit::Rates;
use crate::domain::limit::Verdict;
use crate::domain::pdp::Obligation;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::ruling::Ruling;
use crate::domain::refusal::Code;
use crate::domain::refusal::Fault;
use crate::domain::refusal::No;
use crate::domain::refusal::Reason;
use crate::domain::refusal::Refusal;

/// Member of a refusal that says what was used up. Such a refusal came before anything else was done
/// or recorded of its message.
pub(super) const LIMIT: &str = "limit";
/// Reason code of an obligation that names a class which the settings lack.
const CLASS_UNKNOWN: &str = "limit_class_unknown";
/// How long a caller waits when too much is under way: about as long as a call takes.
const OVERLOADED_MS: u64 = 1_000;

/// The rates, and what counts against them.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    counters: Arc<dyn Limits>,
    busy: Arc<Busy>,
    pub(super) flooded: Flooded,
}

impl Limiter {
    /// With these rates, counted there.
    #[must_use]
    pub fn new(rates: Rates, counters: Arc<dyn Limits>) -> Self {
        Self { rates, counters, busy: Arc::default(), flooded: Flooded::default() }
    }

    /// Without any.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Rates::default(), Arc::new(Unlimited))
    }
}

/// Counts nothing, where there is nothing to count.
#[derive(Debug)]
struct Unlimited;

#[async_trait]
impl Limits for Unlimited {
    async fn take(&self, _key: &Key, _rate: &Rate) -> Verdict {
        Verdict::Allowed
    }

    fn take_here(&self, _key: &Key, _rate: &Rate) -> Verdict {
        Verdict::Allowed
    }

    fn spend(&self, _key: &Key, _rate: &Rate) {}
}

/// Messages under way, by organisation; bounded by the messages under way.
#[derive(Debug, Default)]
struct Busy(Mutex<HashMap<String, usize>>);

/// A message under way; gives its place back however it ends.
#[derive(Debug)]
pub(super) struct Place {
    busy: Arc<Busy>,
    tenant: String,
}

impl Busy {
    /// A place among `most`, if one is free.
    fn enter(self: &Arc<Self>, tenant: &str, most: usize) -> Option<Place> {
        let mut busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = busy.entry(tenant.to_owned()).or_default();
        if *under_way >= most {
            return None;
        }
        *under_way += 1;
        Some(Place { busy: Arc::clone(self), tenant: tenant.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut busy = self.busy.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = busy.get_mut(&self.tenant) {
            *under_way = under_way.saturating_sub(1);
            if *under_way == 0 {
                busy.remove(&self.tenant);
            }
        }
    }
}

impl Pep {
    /// Whether the caller and their organisation may have one more message.
    pub(super) async fn admit(&self, tenant: &str, caller: &Principal, asked: &mut Asked) -> Result<(), No> {
        let rates = &self.limiter.rates;
        if let Some(rate) = &rates.user {
            let words = || "you have sent as many messages as you may for now".to_owned();
            self.take("user", rate, &[tenant, &caller.issuer, &caller.user], words).await?;
        }
        if let Some(rate) = &rates.tenant {
            let words = || format!("`{tenant}` has sent as many messages as it may for now");
            self.take("tenant", rate, &[tenant], words).await?;
        }
        if let Some(most) = rates.concurrent {
            let place = self.limiter.busy.enter(tenant, most);
            asked.place = Some(place.ok_or_else(|| {
                let words = format!("`{tenant}` has as many messages under way as it may");
                self.refuse("concurrent", Code::Overloaded, words, OVERLOADED_MS)
            })?);
        }
        asked.known = Known::Admitted;
        Ok(())
    }

    /// A message that is for no organisation: counts for the one that a call would be for, if that is clear.
    pub(super) async fn greet(
        &self,
        arrival: &Arrival,
        caller: &Principal,
        asked: &mut Asked,
        reply: Reply,
    ) -> Result<Reply, No> {
        match identity::resolve_tenant(caller, arrival.head.get("x-loopiq-tenant"), None) {
            Ok(tenant) => self.admit(tenant.as_str(), caller, asked).await?,
            Err(_) => self.admit_alone(caller, asked).await?,
        }
        Ok(reply)
    }

    /// The same where it is not clear for which organisation. WHY by the caller: those who name none
    /// have nothing in common, and must not use up what the others have.
    async fn admit_alone(&self, caller: &Principal, asked: &mut Asked) -> Result<(), No> {
        let rates = &self.limiter.rates;
        for (limit, rate) in [("user", rates.user), ("tenant", rates.tenant)] {
            if let Some(rate) = rate {
                let words = || "you have sent as many messages as you may for now".to_owned();
                self.take(limit, &rate, &["", &caller.issuer, &caller.user], words).await?;
            }
        }
        asked.known = Known::Admitted;
        Ok(())
    }

    /// Whether the tool, and the class that policy puts the call in, may have one more call.
    pub(super) async fn charge(&self, standing: &Standing, ruling: &Ruling, tool: &str) -> Result<(), No> {
        // WHY: who is denied must not use up the tool; their messages were counted when they came.
        if ruling.outcome() == Outcome::Deny {
            return Ok(());
        }
        let class = self.class(ruling.obligations())?;
        if let Some((class, rate)) = class {
            let words = || "you have made as many calls of this kind as you may for now".to_owned();
            self.take("class", rate, &class_parts(standing, class), words).await?;
        }
        if let Some(rate) = &self.limiter.rates.tool {
            let tenant = standing.tenant.as_str();
            let words = || format!("`{tool}` has been called as often as `{tenant}` may for now");
            self.take("tool", rate, &[tenant, tool], words).await?;
        }
        Ok(())
    }

    /// Counts what policy says of a list or an answer: it has been made, so whoever comes next pays.
    /// What `charged` names was counted already.
    pub(super) fn charge_after(
        &self,
        standing: &Standing,
        obligations: &[Obligation],
        charged: &[Obligation],
    ) -> Result<(), Refusal> {
        if let Some((class, rate)) = self.class(obligations)?
            && !names(charged).any(|one| one == class)
        {
            self.limiter.counters.spend(&Key::of("class", rate, &class_parts(standing, class)), rate);
        }
        Ok(())
    }

    /// The class that obligations name, and its rate.
    fn class<'a>(&'a self, obligations: &'a [Obligation]) -> Result<Option<(&'a str, &'a Rate)>, Refusal> {
        let Some(class) = names(obligations).next() else { return Ok(None) };
        let rate = self.limiter.rates.classes.get(class).ok_or_else(|| {
            self.metrics.policy_faults.with_label_values(&[CLASS_UNKNOWN]).inc();
            let message = "policy asks for a limit that this gateway does not have";
            let reason = Reason::new(CLASS_UNKNOWN, message, "tell an operator the request id");
            Refusal::of(Code::PolicyUnavailable)
                .with_reasons(vec![reason])
                .detail(format!("`limits.rates.classes` has no class `{class}`"))
        })?;
        Ok(Some((class, rate)))
    }

    /// What a credential that failed is answered with: beyond the rate of its address, that it should wait.
    pub(super) fn failed(&self, arrival: &Arrival, no: No) -> No {
        let (Some(rate), Some(peer), No::Challenge(challenge)) = (&self.limiter.rates.failures, arrival.peer, &no)
        else {
            return no;
        };
        // WHY not who shows none: clients come so at first, and must learn where to get one.
        if challenge.code == Code::InsufficientScope || !challenge.presented {
            return no;
        }
        let key = Key::of("failures", rate, &[&network(peer.ip())]);
        match self.limiter.counters.take_here(&key, rate) {
            Verdict::Allowed => no,
            Verdict::Wait(wait_ms) => {
                self.metrics.limited.with_label_values(&["failures"]).inc();
                let words = "too many credentials from this address have failed; wait before you try another";
                let data = json!({"code": Code::RateLimited.as_str(), "retryable": true,
                    "retryAfterMs": wait_ms, "retryAfter": seconds(wait_ms)});
                Fault::new(429, REFUSED, words).with(data).into()
            }
        }
    }

    async fn take(
        &self,
        limit: &'static str,
        rate: &Rate,
        parts: &[&str],
        words: impl FnOnce() -> String,
    ) -> Result<(), No> {
        match self.limiter.counters.take(&Key::of(limit, rate, parts), rate).await {
            Verdict::Allowed => Ok(()),
            Verdict::Wait(wait_ms) => Err(self.refuse(limit, Code::RateLimited, words(), wait_ms).into()),
        }
    }

    /// A refusal that says when to come back.
    pub(super) fn refuse(&self, limit: &'static str, code: Code, words: String, wait_ms: u64) -> Refusal {
        self.metrics.limited.with_label_values(&[limit]).inc();
        Refusal::because(code, words)
            .then(format!("wait {} s and call again", seconds(wait_ms)))
            .with(LIMIT, limit)
            .with("retryAfterMs", wait_ms)
    }
}

/// Whole seconds, as the `Retry-After` header has them.
pub(super) fn seconds(wait_ms: u64) -> u64 {
    wait_ms.div_ceil(1_000).max(1)
}

/// The classes that obligations name; `pdp` lets one through at most.
fn names(obligations: &[Obligation]) -> impl Iterator<Item = &str> {
    obligations.iter().filter_map(|one| match one {
        Obligation::Limit { class } => Some(class.as_str()),
        Obligation::RequireApproval { .. } | Obligation::Redact { .. } | Obligation::Audit { .. } => None,
    })
}

fn class_parts<'a>(standing: &'a Standing, class: &'a str) -> [&'a str; 4] {
    [standing.tenant.as_str(), &standing.principal.issuer, &standing.principal.user, class]
}

/// Whom an address belongs to: of IPv6 the network, for its owner has all addresses in it.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_and_nothing_is_remembered_of_who_has_none() {
        let busy = Arc::new(Busy::default());
        let (one, two) = (busy.enter("a", 2), busy.enter("a", 2));
        assert!(one.is_some() && two.is_some() && busy.enter("a", 2).is_none());
        assert!(busy.enter("b", 2).is_some(), "organisations never mix");
        drop(one);
        assert!(busy.enter("a", 2).is_some());
        drop(two);
        assert!(busy.0.lock().unwrap().is_empty());
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_count_together() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }

    #[test]
    fn a_wait_in_seconds_is_never_too_short_and_never_nothing() {
        assert_eq!([0, 1, 1_000, 1_001].map(seconds), [1, 1, 1, 2]);
    }
}
