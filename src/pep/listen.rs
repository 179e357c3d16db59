//! `subscriptions/listen`: tells clients that what they may see has changed.
//!
//! Promises: told is only who asked, and only when the list that this very caller may see is another
//! than the one they were told of last; at most once a second; the caller is known anew each time,
//! and a stream ends when its credential does, when the client goes and when the gateway stops. Bounded
//! in number, for each caller and in all. Opening and closing are recorded. Never says what changed.
//! Called by `pep`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::Map;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep_until;

use super::Pep;
use super::arrival::Arrival;
use super::asked::Asked;
use super::asked::Reply;
use super::decide::Standing;
use super::decide::input;
use crate::domain::audit::record::Stage as Written;
use crate::domain::canonical;
use crate::domain::catalog::Part;
use crate::domain::identity::Principal;
use crate::domain::mcp;
use crate::domain::mcp::RequestId;
use crate::domain::mcp::listen::Filter;
use crate::domain::mcp::listen::List;
use crate::domain::pdp::Context;
use crate::domain::pdp::Input;
use crate::domain::pdp::Phase;
use crate::domain::refusal::Code;
use crate::domain::refusal::Fault;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;

/// Between two notifications of one stream.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks at a credential that nothing else gives a reason to look at.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// Lists that are made at once when the rules change, so that calls are not kept waiting.
const LISTS_AT_ONCE: usize = 2;
/// How long a caller waits who has too many streams.
const FULL_MS: u64 = 30_000;

/// Streams that are open.
#[derive(Debug)]
pub struct Listeners {
    open: Arc<Mutex<HashMap<Caller, usize>>>,
    caller_max: usize,
    all_max: usize,
    turns: Semaphore,
    closing: watch::Sender<bool>,
}

/// Organisation, issuer and user.
type Caller = (String, String, String);

/// A stream's place among those that may be open; given back however it ends.
struct Seat {
    open: Arc<Mutex<HashMap<Caller, usize>>>,
    caller: Caller,
    gauge: prometheus::IntGauge,
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The client hung up.
    Left,
    /// The credential is no longer good, or can no longer be verified.
    Unknown,
    /// The gateway stops.
    Stopped,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "client_left",
            Self::Unknown => "credential_ended",
            Self::Stopped => "gateway_stopped",
        }
    }
}

impl Listeners {
    /// Room for so many streams of one caller in one organisation, and so many in all.
    #[must_use]
    pub fn new(caller_max: usize, all_max: usize) -> Self {
        let turns = Semaphore::new(LISTS_AT_ONCE);
        Self { open: Arc::default(), caller_max, all_max, turns, closing: watch::Sender::new(false) }
    }

    /// Ends every stream, with its result, and lets none open.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _closing = closing.wait_for(|closing| *closing).await;
    }

    /// A seat; or, when there is none, whether they are all the caller's own.
    fn sit(&self, caller: Caller, gauge: prometheus::IntGauge) -> Result<Seat, bool> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(&caller).copied().unwrap_or(0);
        if own >= self.caller_max {
            return Err(true);
        }
        if open.values().sum::<usize>() >= self.all_max {
            return Err(false);
        }
        *open.entry(caller.clone()).or_default() += 1;
        gauge.inc();
        Ok(Seat { open: Arc::clone(&self.open), caller, gauge })
    }
}

impl Default for Listeners {
    fn default() -> Self {
        Self::new(8, 1_000)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gauge.dec();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.caller) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

impl Pep {
    /// One stream, from its opening to its end.
    pub(super) async fn listen(
        &self,
        arrival: &Arrival,
        principal: &Arc<Principal>,
        asked: &mut Asked,
        filter: &Filter,
    ) -> Result<Reply, No> {
        let meta = asked.request.as_ref().map(|request| request.meta.clone()).unwrap_or_default();
        asked.controls = mcp::controls::controls(&meta, &arrival.head, &mut Map::new())?;
        let standing = self.resolve_tenant(arrival, principal, asked).await?;
        if !asked.progress.is_heard() {
            let words =
                "a subscription is a stream; send `Accept: application/json, text/event-stream` over HTTP/1.1 or later";
            return Err(Fault::new(406, -32600, words).into());
        }
        let _seat = self.seat(&standing)?;
        // WHY before the first look: a change between the two is told of, not lost.
        let changes = self.rules.changes();
        self.visible(&standing, asked, standing.rules.facts.clone())?;
        let seen = self.shown(&standing, asked);
        let prompts = filter.prompts && self.offers().prompts;
        let honoured = Filter { tools: filter.tools, prompts, ..Filter::default() };
        self.opened(asked, &honoured).await?;
        // WHY: it is no longer a message under way; it may stay for days.
        (asked.place, asked.under_way) = (None, None);
        let id = asked.id.clone().unwrap_or(RequestId::Number(0));
        asked.progress.say(mcp::listen::acknowledged(&id, &honoured));
        let (ended, told) = self.watch(arrival, asked, standing, Told { id, honoured, seen, times: 0 }, changes).await;
        let closed = json!({"state": "closed", "why": ended.as_str(), "told": told});
        asked.record = asked.record.clone().with("subscription", closed);
        Ok(Reply::Unsubscribed)
    }

    fn seat(&self, standing: &Standing) -> Result<Seat, Refusal> {
        let principal = &standing.principal;
        let caller = (standing.tenant.as_str().to_owned(), principal.issuer.clone(), principal.user.clone());
        self.listeners.sit(caller, self.metrics.subscriptions.clone()).map_err(|all_own| {
            let (code, words) = if all_own {
                (Code::RateLimited, "you have as many subscriptions open as you may; close one")
            } else {
                (Code::Overloaded, "as many subscriptions are open as there may be")
            };
            self.refuse("subscriptions", code, words.to_owned(), FULL_MS)
        })
    }

    /// The record of what is opened: without it, nothing is told.
    async fn opened(&self, asked: &mut Asked, honoured: &Filter) -> Result<(), Refusal> {
        let opened = json!({"state": "opened", "tools": honoured.tools, "prompts": honoured.prompts});
        let record = asked.record.stage(Written::Outcome, self.clock.now_ms()).with("subscription", opened);
        let kept = self.journal.append(record).await;
        kept.map(|_| ()).map_err(|fault| {
            self.metrics.journal_faults.with_label_values(&["refused"]).inc();
            Refusal::of(Code::AuditUnavailable).detail(fault)
        })
    }

    /// Tells of changes until the stream ends; why it did, and how often it was told.
    async fn watch(
        &self,
        arrival: &Arrival,
        asked: &Asked,
        mut standing: Standing,
        mut told: Told,
        mut changes: watch::Receiver<u64>,
    ) -> (Ended, u64) {
        let mut due: Option<Instant> = None;
        let mut quiet_until = Instant::now();
        let mut known_until = Instant::now() + self.known_for(&standing);
        let ended = loop {
            // Every branch is asked again when another wins; none has taken anything before it completes.
            tokio::select! {
                biased;
                () = arrival.cancel.raised() => break Ended::Left,
                () = self.listeners.closed() => break Ended::Stopped,
                news = changes.changed(), if due.is_none() => {
                    if news.is_err() {
                        break Ended::Stopped;
                    }
                    due = Some(quiet_until);
                }
                () = sleep_until(due.unwrap_or(known_until)), if due.is_some() => {
                    due = None;
                    changes.mark_unchanged();
                    match self.again(arrival, &standing).await {
                        Ok(now) => standing = now,
                        Err(ended) => break ended,
                    }
                    if self.tell(asked, &standing, &mut told).await {
                        quiet_until = Instant::now() + EVERY;
                    }
                }
                () = sleep_until(known_until) => {
                    match self.again(arrival, &standing).await {
                        Ok(now) => standing = now,
                        Err(ended) => break ended,
                    }
                    known_until = Instant::now() + self.known_for(&standing);
                }
            }
        };
        (ended, told.times)
    }

    /// Makes the caller's list anew and tells them if it is another. Says whether they were told.
    async fn tell(&self, asked: &Asked, standing: &Standing, told: &mut Told) -> bool {
        let now = {
            // A semaphore that nobody closes always has a turn.
            let _turn = self.listeners.turns.acquire().await;
            self.shown(standing, asked)
        };
        // WHY: while policy gives no answer nobody knows the list; it is as it was told of last.
        if now.is_none() || now == told.seen {
            return false;
        }
        let before = std::mem::replace(&mut told.seen, now);
        let of = |seen: &Option<Shown>, list: List| seen.as_ref().map(|seen| seen.of(list).to_owned());
        let mut any = false;
        for (list, wanted) in [(List::Tools, told.honoured.tools), (List::Prompts, told.honoured.prompts)] {
            if wanted && of(&before, list) != of(&told.seen, list) {
                asked.progress.say(mcp::listen::changed(&told.id, list));
                told.times += 1;
                self.metrics.changes_told.with_label_values(&[list.as_str()]).inc();
                any = true;
            }
        }
        any
    }

    /// Digests of the lists that the caller would get now; none without an answer of policy.
    fn shown(&self, standing: &Standing, asked: &Asked) -> Option<Shown> {
        let rules = &standing.rules;
        let mut asking = Input { tools: Some(rules.facts.clone()), ..input(Phase::List, standing, asked) };
        let now_ms = self.clock.now_ms();
        let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default().to_string();
        asking.context = Context { now_ms, now, ..asking.context };
        let ruling = rules.pdp.decide(&asking);
        if ruling.fault().is_some() {
            return None;
        }
        let visible = rules.catalog.tools().filter(|tool| tool.is_called() && ruling.sees(&tool.name));
        let tools: Vec<(&str, &str)> = visible.map(|tool| (tool.name.as_str(), tool.digest.as_str())).collect();
        let parts = rules.catalog.parts().filter(|(one, tool)| one.part == Part::Prompts && ruling.sees(&tool.name));
        let servers: Vec<&str> = parts.map(|(one, _)| one.server.as_str()).collect();
        let prompts = rules.catalog.prompts().filter(|(_, prompt)| servers.contains(&prompt.server.as_str()));
        let prompts: Vec<_> = prompts.map(|(_, prompt)| &prompt.definition).collect();
        let digest = |text: Vec<u8>| canonical::digest(&text);
        Some(Shown {
            tools: serde_json::to_vec(&tools).ok().map(digest)?,
            prompts: serde_json::to_vec(&prompts).ok().map(digest)?,
        })
    }

    /// Who the credential that opened the stream stands for now, under the rules in force now.
    async fn again(&self, arrival: &Arrival, standing: &Standing) -> Result<Standing, Ended> {
        let known = self.identified(&arrival.head, arrival.certificate.as_deref(), self.clock.now_ms()).await;
        let principal = known.map_err(|_| Ended::Unknown)?;
        let principal = as_long_as_shown(principal, standing.principal.expires_at, self.clock.now_ms())?;
        let tenant = standing.tenant.clone();
        if !principal.tenants.iter().any(|one| one == tenant.as_str()) {
            return Err(Ended::Unknown);
        }
        // Rules that were in force once are never taken away, only followed.
        let rules = self.rules_for(&tenant, &principal).unwrap_or_else(|_| Arc::clone(&standing.rules));
        Ok(Standing { principal, tenant, rules })
    }

    /// How long the caller may be taken for known: until the credential ends, and never for long.
    fn known_for(&self, standing: &Standing) -> Duration {
        let left_ms = standing.principal.expires_at.saturating_mul(1_000).saturating_sub(self.clock.now_ms());
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).clamp(EVERY, KNOWN_FOR)
    }
}

/// WHY: headers name somebody for the request that they came with, and look as fresh at every look;
/// a stream must not make more of them, nor of any credential, than was shown when it opened.
fn as_long_as_shown(now: Arc<Principal>, expires_at: i64, now_ms: i64) -> Result<Arc<Principal>, Ended> {
    if now.expires_at <= expires_at {
        return Ok(now);
    }
    if now_ms.div_euclid(1_000) >= expires_at {
        return Err(Ended::Unknown);
    }
    Ok(Arc::new(Principal { expires_at, ..(*now).clone() }))
}

/// What one stream was told.
struct Told {
    id: RequestId,
    honoured: Filter,
    /// The list that the client knows, or could have asked for when it was told last.
    seen: Option<Shown>,
    times: u64,
}

/// Digests of the lists that a caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    tools: String,
    prompts: String,
}

impl Shown {
    fn of(&self, list: List) -> &str {
        match list {
            List::Tools => &self.tools,
            List::Prompts => &self.prompts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::forge::principal;
    use crate::metrics::Metrics;

    #[test]
    fn a_stream_lasts_no_longer_than_the_credential_that_opened_it() {
        let now = |expires_at| Arc::new(Principal { expires_at, ..principal("i", "ada", "org_a") });
        let until = |expires_at, now_ms| as_long_as_shown(now(expires_at), 1_060, now_ms).map(|one| one.expires_at);
        // Headers over a connection of LoopIQ's backend, looked at again half a minute later.
        assert_eq!(until(1_090, 1_030_000), Ok(1_060));
        assert_eq!(until(1_120, 1_060_000), Err(Ended::Unknown));
        assert_eq!(until(1_060, 1_061_000), Ok(1_060), "a token within its leeway is its issuer's to judge");
        assert_eq!(until(1_040, 1_030_000), Ok(1_040), "one that was cut short is");
    }

    #[test]
    fn seats_are_bounded_for_each_caller_and_in_all_and_are_given_back() {
        let gauge = Metrics::new().subscriptions;
        let listeners = Listeners::new(2, 3);
        let sit = |user: &str| listeners.sit(("org_a".to_owned(), "i".to_owned(), user.to_owned()), gauge.clone());
        let (one, two) = (sit("ada").ok(), sit("ada").ok());
        assert!(one.is_some() && two.is_some());
        assert_eq!(sit("ada").err(), Some(true));
        let three = sit("ben").ok();
        assert_eq!(sit("cleo").err(), Some(false));
        assert_eq!(gauge.get(), 3);
        drop((one, two, three));
        assert!(listeners.open.lock().unwrap().is_empty() && gauge.get() == 0);
    }
}
