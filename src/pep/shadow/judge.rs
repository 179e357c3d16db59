//! Asks other rules about decisions that were made, and acts on what they say.
//!
//! Promises: the live rules are asked about what a canary decided, a candidate about what the live
//! rules decided; a canary that leaves its band is taken back at once; differences are counted
//! exactly and recorded by samples and sums, never one by one without end. Never touches a call.
//! Run by `app` beside the doors, until the gateway stops.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::error;
use tracing::warn;

use super::About;
use super::Seen;
use super::tally;
use super::tally::Classes;
use super::tally::Tallies;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::canary::Compared;
use crate::domain::rollout::canary::Counts;
use crate::domain::rollout::canary::Denied;
use crate::domain::rollout::canary::Judgement;
use crate::domain::rollout::canary::Limits;
use crate::domain::rollout::shadow::Class;
use crate::domain::rollout::shadow::Made;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;
use crate::pep::ports::Journal;
use crate::pep::rollout::Rollout;
use crate::pep::rules::RulesCell;

/// Decisions that are taken from the queue at once.
const BATCH: usize = 64;
/// Differences of one class in one phase that are recorded one by one between two sums.
const SAMPLES: u64 = 3;
/// Between two sums.
pub const SUM_EVERY: Duration = Duration::from_mins(1);

/// Everything that judging needs.
pub struct Judge {
    /// The rules.
    pub cell: Arc<RulesCell>,
    /// Takes canaries back.
    pub rollout: Arc<dyn Rollout>,
    /// Records differences.
    pub journal: Arc<dyn Journal>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Counts for whoever asks.
    pub tallies: Arc<Tallies>,
    /// When a canary is taken back.
    pub limits: Limits,
}

/// What other rules said of a decision.
enum Answer {
    /// The live rules, of a canary's.
    Live { canary: BundleId, compared: Compared },
    /// The candidate in shadow.
    Shadow { candidate: BundleId, class: Class, after: Made },
}

/// What was found since the last sum.
#[derive(Default)]
struct Found {
    shadow: BTreeMap<BundleId, Classes>,
    /// Differences of a class in a phase.
    samples: HashMap<(Class, Phase), u64>,
    /// The canary, if any, that was already said to be within its band.
    within: Option<BundleId>,
    /// Canaries that decided something.
    canaries: Vec<BundleId>,
}

impl Judge {
    /// Runs until the gateway stops; what is in the queue by then is counted as dropped.
    ///
    /// WHY: a candidate may take a second for each decision, and a gateway that is told to stop must
    /// not wait for a thousand of them.
    pub async fn run(self, mut told: mpsc::Receiver<Seen>, mut stop: watch::Receiver<bool>) {
        let judge = Arc::new(self);
        let mut found = Found::default();
        let mut sums = tokio::time::interval_at(tokio::time::Instant::now() + SUM_EVERY, SUM_EVERY);
        sums.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                // Nothing is lost: what was not taken stays in the queue.
                () = stopped(&mut stop) => break,
                _ = sums.tick() => judge.sum(&mut found).await,
                taken = told.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    judge.look(std::mem::take(&mut batch), &mut found, &stop).await;
                }
            }
        }
        judge.dropped(told.len());
        judge.sum(&mut found).await;
    }

    fn dropped(&self, decisions: usize) {
        let dropped = u64::try_from(decisions).unwrap_or(u64::MAX);
        self.metrics.shadow.with_label_values(&["dropped"]).inc_by(dropped);
    }

    async fn look(self: &Arc<Self>, batch: Vec<Seen>, found: &mut Found, stop: &watch::Receiver<bool>) {
        let (judge, stop) = (Arc::clone(self), stop.clone());
        // WHY: a decision takes from ten microseconds to a second, which no thread that serves may wait.
        let asked = tokio::task::spawn_blocking(move || {
            let mut answers = Vec::new();
            let mut batch = batch.into_iter();
            while !*stop.borrow()
                && let Some(seen) = batch.next()
            {
                answers.extend(judge.ask(&seen).map(|answer| (seen, answer)));
            }
            judge.dropped(batch.len());
            answers
        });
        let answers = asked.await.unwrap_or_else(|cause| {
            error!("a candidate could not be asked: {cause}");
            Vec::new()
        });
        for (seen, answer) in answers {
            match answer {
                Answer::Live { canary, compared } => self.canary_decided(&canary, compared, &seen, found),
                Answer::Shadow { candidate, class, after } => {
                    self.shadow_said(&candidate, class, &after, &seen, found).await;
                }
            }
        }
        self.judge_canary(found).await;
    }

    /// Asks whom there is to ask; nobody, when the rules have changed since.
    fn ask(&self, seen: &Seen) -> Option<Answer> {
        let in_force = self.cell.in_force()?;
        if in_force.canary.as_ref().is_some_and(|canary| canary.rules.id() == seen.by) {
            let live = Made::of(&in_force.live.pdp.decide(&seen.input));
            let denied = |made: &Made| match seen.about {
                About::Call => Some(made.outcome == Outcome::Deny),
                About::Unseen => Some(made.visible.is_empty()),
                About::Other => None,
            };
            let call = denied(&seen.made).zip(denied(&live));
            let call = call.map(|(by_canary, by_live)| Denied { by_canary, by_live });
            let compared = Compared { call, fault: seen.made.fault.is_some() };
            return Some(Answer::Live { canary: seen.by.clone(), compared });
        }
        let candidate = self.cell.beside().filter(|_| in_force.live.id() == seen.by)?;
        let after = Made::of(&candidate.pdp.decide(&seen.input));
        Some(Answer::Shadow { candidate: candidate.id(), class: seen.made.against(&after), after })
    }

    fn canary_decided(&self, canary: &BundleId, compared: Compared, seen: &Seen, found: &mut Found) {
        let outcome = match (seen.made.fault, seen.about, seen.made.outcome) {
            (Some(_), _, _) => "fault",
            (None, About::Unseen, _) | (None, _, Outcome::Deny) => "deny",
            (None, _, Outcome::Allow) => "allow",
            (None, _, Outcome::Pending) => "pending",
        };
        self.metrics.canary_decisions.with_label_values(&[outcome]).inc();
        self.tallies.canary(canary, self.clock.now_ms(), &self.limits, compared);
        if !found.canaries.contains(canary) {
            found.canaries.push(canary.clone());
        }
    }

    /// Whether the canary may go on.
    async fn judge_canary(&self, found: &mut Found) {
        let running = self.cell.in_force().and_then(|now| now.canary.as_ref().map(|canary| canary.rules.id()));
        let Some(id) = running else { return };
        let counts = self.counts(&id);
        let judgement = counts.judge(&self.limits);
        if judgement.is_bad() {
            warn!("canary {} leaves its band and is taken back: {}", id.revision(), counts.words());
            if let Err(fault) = self.rollout.canary_judged(&id, judgement, counts).await {
                error!("canary {} must be taken back and cannot be: {fault}", id.revision());
            }
        } else if judgement == Judgement::Within && found.within.as_ref() != Some(&id) {
            self.write(told_of_canary(&id, judgement, counts, self.clock.now_ms())).await;
            found.within = Some(id);
        }
    }

    fn counts(&self, id: &BundleId) -> Counts {
        self.tallies.of_canary(id, self.clock.now_ms(), &self.limits)
    }

    async fn shadow_said(&self, candidate: &BundleId, class: Class, after: &Made, seen: &Seen, found: &mut Found) {
        self.metrics.shadow.with_label_values(&[class.as_str()]).inc();
        self.tallies.shadow(candidate, class);
        tally::add(found.shadow.entry(candidate.clone()).or_default(), class);
        if class == Class::Same {
            return;
        }
        let so_far = found.samples.entry((class, seen.input.phase)).or_default();
        *so_far += 1;
        if *so_far <= SAMPLES {
            self.write(sample(candidate, class, after, seen, self.clock.now_ms())).await;
        }
    }

    /// Records what came together since the last time, if anything did.
    async fn sum(&self, found: &mut Found) {
        let now_ms = self.clock.now_ms();
        found.samples.clear();
        for (candidate, counts) in std::mem::take(&mut found.shadow) {
            let counts: serde_json::Map<String, Value> =
                tally::named(&counts).into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
            let says = format!("what {} in shadow said since the last sum", candidate.revision());
            self.write(about(Record::event(Stage::Policy("shadow"), now_ms, says), &candidate).with("counts", counts))
                .await;
        }
        for canary in std::mem::take(&mut found.canaries) {
            let counts = self.counts(&canary);
            self.write(told_of_canary(&canary, counts.judge(&self.limits), counts, now_ms)).await;
        }
    }

    async fn write(&self, record: Record) {
        if let Err(fault) = self.journal.append(record).await {
            warn!("what was found beside the calls cannot be recorded: {fault}");
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say so is gone: that is a stop as well.
    let _either_way = stop.wait_for(|stop| *stop).await.is_ok();
}

fn about(record: Record, id: &BundleId) -> Record {
    record.with("candidate", id.revision()).with("bundle", id.bundle.clone()).with("data", id.data.clone())
}

fn told_of_canary(id: &BundleId, judgement: Judgement, counts: Counts, now_ms: i64) -> Record {
    let says = format!("canary {}: {}", id.revision(), counts.words());
    about(Record::event(Stage::Policy("canary"), now_ms, says), id)
        .with("judgement", judgement.as_str())
        .with("counts", serde_json::to_value(counts).unwrap_or_default())
}

/// One difference. Of the input only who and what: the record of the call has the rest.
fn sample(candidate: &BundleId, class: Class, after: &Made, seen: &Seen, now_ms: i64) -> Record {
    let tool = seen.input.tool.as_ref().map(|tool| tool.name.clone());
    // A list would name every tool; what appears and what goes says it all.
    let differs = |from: &Made, to: &Made| -> Vec<String> {
        to.visible.iter().filter(|name| !from.visible.contains(name)).cloned().collect()
    };
    let side = |made: &Made| json!({"outcome": made.outcome, "reasons": made.reasons, "obligations": made.obligations, "fault": made.fault});
    let says = format!("{} in shadow would differ: {}", candidate.revision(), class.as_str());
    about(Record::event(Stage::Policy("shadow"), now_ms, says), candidate)
        .with("class", class.as_str())
        .with("decisionId", seen.id.clone())
        .with("requestId", seen.request_id.clone())
        .with("tenant", seen.input.caller.tenant.clone())
        .with("user", seen.input.caller.user.clone())
        .with("phase", serde_json::to_value(seen.input.phase).unwrap_or_default())
        .with("tool", tool)
        .with("live", seen.by.revision())
        .with("before", side(&seen.made))
        .with("after", side(after))
        .with("appears", differs(&seen.made, after))
        .with("vanishes", differs(after, &seen.made))
}
