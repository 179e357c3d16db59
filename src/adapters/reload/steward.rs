//! Keeps what is in force: what is written down of it, what is in memory, and the order of the two.
//!
//! Promises: a step is in the journal, then in the store, then in memory; killed anywhere between,
//! the gateway starts with what the store says and records it, so the journal tells which of the two
//! it was; a step that cannot be recorded or kept changes nothing; steps wait for each other.
//! Never reads the policy folder. Called by `reload`, by people through `people`, by `app`.

mod people;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tracing::error;
use tracing::info;
use tracing::warn;

use super::bundle;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::catalog::Catalog;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::engine::Pdp;
use crate::domain::rollout::Arrival;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::Canary;
use crate::domain::rollout::Candidate;
use crate::domain::rollout::How;
use crate::domain::rollout::Origin;
use crate::domain::rollout::State;
use crate::domain::rollout::Term;
use crate::domain::rollout::canary::Limits;
use crate::domain::rollout::gate::Demands;
use crate::domain::rollout::gate::Evidence;
use crate::domain::rollout::gate::GateFault;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;
use crate::pep::ports::Journal;
use crate::pep::rollout::Bundles;
use crate::pep::rollout::BundlesFault;
use crate::pep::rollout::RolloutFault;
use crate::pep::rules::InForce;
use crate::pep::rules::OnTrial;
use crate::pep::rules::Rules;
use crate::pep::rules::RulesCell;
use crate::pep::shadow::tally::Tallies;

/// Verifies a signed report, and gives what it shows.
pub type Examine = dyn Fn(&[u8]) -> Result<Evidence, GateFault> + Send + Sync;

/// What the journal says was put in force last; nothing if nothing ever was.
pub type Lived = dyn Fn() -> Result<Option<BundleId>, String> + Send + Sync;

/// How a changed bundle goes live.
pub struct Ways {
    /// Whether it waits for a report and a person.
    pub gated: bool,
    /// What the report must show.
    pub demands: Demands,
    /// Reads reports.
    pub examine: Arc<Examine>,
    /// Reads the journal.
    pub lived: Arc<Lived>,
    /// Whether what waits is asked beside the live policy.
    pub shadow_waiting: bool,
    /// When a canary is taken back.
    pub limits: Limits,
}

/// What the steward works with.
pub struct Tools {
    /// Where rules decide from.
    pub cell: Arc<RulesCell>,
    /// Where bundles and state are kept.
    pub store: Arc<dyn Bundles>,
    /// Records every step.
    pub journal: Arc<dyn Journal>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is counted of canaries and of what is in shadow.
    pub tallies: Arc<Tallies>,
    /// The program that tries bundles in a child process: this one.
    pub checker: PathBuf,
}

/// Keeps what is in force.
pub struct Steward {
    pub(super) tools: Tools,
    ways: Ways,
    /// Steps wait for each other here.
    turn: Mutex<Turn>,
    /// The state as it was last made, for whoever only looks.
    shown: ArcSwap<State>,
}

/// What a step starts from.
#[derive(Default)]
struct Turn {
    /// Read from the store once.
    state: Option<Arc<State>>,
    /// The catalog in force.
    catalog: Option<Arc<Catalog>>,
}

/// A bundle that was just read.
pub(super) type Arrived = Result<Option<(Bundle, Origin)>, RolloutFault>;

impl Steward {
    /// Keeps what is in force, beginning with what the store says.
    #[must_use]
    pub fn new(tools: Tools, ways: Ways) -> Self {
        Self { tools, ways, turn: Mutex::default(), shown: ArcSwap::default() }
    }

    /// A catalog and, unless it was refused, a bundle were read. Puts in force what is to be in force.
    pub(super) async fn offer(&self, catalog: Catalog, arrived: Arrived) -> Result<(), RolloutFault> {
        let mut turn = self.turn.lock().await;
        self.recall(&mut turn).await?;
        let catalog = Arc::new(catalog);
        if self.tools.cell.current().is_none() {
            turn.catalog = Some(Arc::clone(&catalog));
        }
        let (outcome, at_hand) = match arrived {
            Ok(Some((bundle, origin))) => (self.meet(&mut turn, &catalog, &bundle, origin).await, Some(bundle)),
            Ok(None) => (Ok(()), None),
            Err(fault) => (Err(fault), None),
        };
        // WHY: what was refused is refused whole, its catalog too; but a gateway that has just started
        // goes on with what was in force.
        if outcome.is_ok() || self.tools.cell.current().is_none() {
            outcome.and(self.uphold(&mut turn, &catalog, at_hand.as_ref()).await)
        } else {
            outcome
        }
    }

    /// What is written down, read once.
    async fn recall(&self, turn: &mut Turn) -> Result<Arc<State>, RolloutFault> {
        if let Some(state) = &turn.state {
            return Ok(Arc::clone(state));
        }
        let state = Arc::new(self.stored(|store| store.state()).await?.unwrap_or_default());
        self.know(turn, Arc::clone(&state));
        Ok(state)
    }

    fn know(&self, turn: &mut Turn, state: Arc<State>) {
        self.tools.metrics.policy_waiting.set(i64::from(state.waiting.is_some()));
        self.tools.metrics.policy_canary.set(i64::from(state.canary.is_some()));
        self.shown.store(Arc::clone(&state));
        turn.state = Some(state);
    }

    /// What a bundle that was just read means, and doing it.
    async fn meet(
        &self,
        turn: &mut Turn,
        catalog: &Arc<Catalog>,
        bundle: &Bundle,
        from: Origin,
    ) -> Result<(), RolloutFault> {
        let state = self.recall(turn).await?;
        let now_ms = self.tools.clock.now_ms();
        let id = BundleId::new(bundle.digest(), bundle.data_digest());
        let candidate = Candidate { id: id.clone(), since_ms: now_ms, from };
        match state.arrived(&candidate, self.ways.gated) {
            Arrival::Stays(next) if next == *state => Ok(()),
            Arrival::Stays(next) => self.forget_waiting(turn, &state, next).await,
            Arrival::GoesLive(how) => {
                if how == How::First && self.ways.gated {
                    self.never_lived(&id).await?;
                }
                let rules = self.compiled(bundle, catalog).await?;
                self.keep(bundle).await?;
                let term = Term { id, since_ms: now_ms, how, by: None, reason: String::new(), report: None };
                let record = Record::event(Stage::Policy("activated"), now_ms, "new rules are in force")
                    .with("how", how.as_str())
                    .with("origin", from.as_str())
                    .with("from", state.live_id().map(BundleId::revision));
                self.go_live(turn, state.activated(term), Arc::new(rules), record).await
            }
            Arrival::Waits(next) => {
                let rules = self.compiled(bundle, catalog).await?;
                self.keep(bundle).await?;
                let says = format!("{} waits for a replay report and a person", id.revision());
                let record = of_bundle(Record::event(Stage::Policy("waiting"), now_ms, says), &id)
                    .with("origin", from.as_str())
                    .with("live", state.live_revision());
                self.step(turn, next, record).await?;
                info!(candidate.revision = %id.revision(), "policy {} waits to be activated", id.revision());
                if self.ways.shadow_waiting {
                    self.tools.cell.ask_beside(Some(Arc::new(rules)));
                }
                Ok(())
            }
        }
    }

    /// Whether no other policy was in force before, as far as the journal knows.
    ///
    /// WHY: the first policy passes the gate without a report, and with a store that was lost any
    /// policy would look like the first.
    async fn never_lived(&self, id: &BundleId) -> Result<(), RolloutFault> {
        let lived = Arc::clone(&self.ways.lived);
        let told = tokio::task::spawn_blocking(move || lived()).await;
        let (faults, passing) = match told.unwrap_or_else(|cause| Err(cause.to_string())) {
            Ok(None) => return Ok(()),
            Ok(Some(last)) if last == *id => return Ok(()),
            Ok(Some(last)) => {
                let (last, this) = (last.revision(), id.revision());
                let fault = format!(
                    "policy.store: it knows of no policy, and the journal says that {last} was in force; {this} does \
                     not follow it without a report. Put the store back from a copy, or the files of {last} in \
                     place of these; to begin anew, start once with `policy.activation: automatic`"
                );
                (vec![fault], false)
            }
            Err(cause) => (vec![format!("whether a policy was in force before cannot be told: {cause}")], true),
        };
        Err(RolloutFault::Bundle { faults, passing })
    }

    /// The files went back to what decides, or was taken back: nothing waits any more, and what is
    /// held may be released.
    async fn forget_waiting(&self, turn: &mut Turn, before: &State, next: State) -> Result<(), RolloutFault> {
        let Some(waited) = before.waiting.as_ref().filter(|_| next.waiting.is_none()) else {
            self.set_state(turn, next).await?;
            return Ok(());
        };
        let says = format!("{} waits no longer: the files changed", waited.id.revision());
        let record = of_bundle(Record::event(Stage::Policy("waiting"), self.tools.clock.now_ms(), says), &waited.id)
            .with("waits", false);
        self.step(turn, next, record).await?;
        if self.ways.shadow_waiting {
            self.tools.cell.ask_beside(None);
        }
        Ok(())
    }

    /// Makes memory what the state says, under this catalog.
    async fn uphold(
        &self,
        turn: &mut Turn,
        catalog: &Arc<Catalog>,
        at_hand: Option<&Bundle>,
    ) -> Result<(), RolloutFault> {
        let state = self.recall(turn).await?;
        let Some(live_id) = state.live_id() else { return Ok(()) };
        let now = self.tools.cell.in_force();
        let canary_runs = now.as_ref().and_then(|now| now.canary.as_ref()).map(|canary| canary.rules.id());
        let same = |rules: &Rules| rules.are(live_id, catalog);
        if now.as_ref().is_some_and(|now| same(&now.live))
            && canary_runs == state.canary.as_ref().map(|one| one.id.clone())
        {
            turn.catalog = Some(Arc::clone(catalog));
            self.uphold_shadow(&state, catalog, at_hand).await;
            return Ok(());
        }
        let live = self.rules_of(live_id, catalog, at_hand).await?;
        let canary = match &state.canary {
            None => None,
            Some(canary) => match self.rules_of(&canary.id, catalog, at_hand).await {
                Ok(rules) => Some(OnTrial::new(rules, canary.share.clone())),
                Err(fault) => {
                    self.lose_canary(turn, canary, &fault).await?;
                    None
                }
            },
        };
        let (how, says) = match now {
            None => ("start", "the rules that were in force are in force again"),
            Some(_) => ("catalog", "the rules in force decide under another catalog"),
        };
        let record = Record::event(Stage::Policy("activated"), self.tools.clock.now_ms(), says).with("how", how);
        self.tools.journal.append(of_rules(record, &live)).await?;
        self.show(&live);
        self.tools.cell.put(InForce { live, canary });
        turn.catalog = Some(Arc::clone(catalog));
        self.uphold_shadow(&state, catalog, at_hand).await;
        Ok(())
    }

    /// A canary that cannot be had any more, or does not fit another catalog, is taken back.
    async fn lose_canary(&self, turn: &mut Turn, canary: &Canary, fault: &RolloutFault) -> Result<(), RolloutFault> {
        let state = self.recall(turn).await?;
        let now_ms = self.tools.clock.now_ms();
        warn!("canary {} is taken back, for it cannot be loaded: {fault}", canary.id.revision());
        let says = format!("canary {} is taken back, for it cannot be loaded", canary.id.revision());
        let record = Record::event(Stage::Policy("rolled_back"), now_ms, says)
            .with("how", "lost")
            .with("faults", fault.to_string());
        self.step(turn, state.canary_taken_back(now_ms), of_bundle(record, &canary.id)).await
    }

    /// What waits is asked beside, if the settings say so. What cannot be is not, and nothing else fails.
    async fn uphold_shadow(&self, state: &State, catalog: &Arc<Catalog>, at_hand: Option<&Bundle>) {
        if !self.ways.shadow_waiting {
            return;
        }
        let Some(waiting) = &state.waiting else { return self.tools.cell.ask_beside(None) };
        if self.tools.cell.beside().is_some_and(|beside| beside.are(&waiting.id, catalog)) {
            return;
        }
        match self.rules_of(&waiting.id, catalog, at_hand).await {
            Ok(rules) => self.tools.cell.ask_beside(Some(rules)),
            Err(fault) => {
                warn!("{} waits and cannot be asked beside: {fault}", waiting.id.revision());
                self.tools.cell.ask_beside(None);
            }
        }
    }

    /// A candidate of its own folder is asked beside the live policy from now on.
    pub(super) async fn shade(&self, bundle: &Bundle) -> Result<(), RolloutFault> {
        let turn = self.turn.lock().await;
        let Some(catalog) = &turn.catalog else { return Ok(()) };
        let id = BundleId::new(bundle.digest(), bundle.data_digest());
        if self.tools.cell.beside().is_some_and(|beside| beside.are(&id, catalog)) {
            return Ok(());
        }
        let rules = self.compiled(bundle, catalog).await?;
        let says = format!("{} is asked beside the live policy, and decides nothing", id.revision());
        let record = Record::event(Stage::Policy("shadow"), self.tools.clock.now_ms(), says);
        self.tools.journal.append(of_bundle(record, &id)).await?;
        self.tools.cell.ask_beside(Some(Arc::new(rules)));
        Ok(())
    }

    /// Nothing more is asked beside.
    pub(super) fn unshade(&self) {
        self.tools.cell.ask_beside(None);
    }

    /// Records, writes down, puts in force for everybody; in this order.
    async fn go_live(
        &self,
        turn: &mut Turn,
        next: State,
        rules: Arc<Rules>,
        record: Record,
    ) -> Result<(), RolloutFault> {
        let how = next.live.as_ref().map_or("", |live| live.how.as_str());
        let catalog = Arc::clone(&rules.catalog);
        self.step(turn, next, of_rules(record, &rules)).await?;
        self.show(&rules);
        self.tools.metrics.activations.with_label_values(&[how]).inc();
        info!(rules.revision = %rules.revision(), "rules {} are in force", rules.revision());
        self.tools.cell.put(InForce { live: rules, canary: None });
        turn.catalog = Some(catalog);
        if self.ways.shadow_waiting && turn.state.as_ref().is_some_and(|state| state.waiting.is_none()) {
            self.tools.cell.ask_beside(None);
        }
        Ok(())
    }

    /// Records, then writes down. What was recorded and could not be written down is said not to be.
    async fn step(&self, turn: &mut Turn, next: State, record: Record) -> Result<(), RolloutFault> {
        self.tools.journal.append(record).await?;
        let Err(fault) = self.set_state(turn, next).await else { return Ok(()) };
        let kept = turn.state.as_ref().map(|state| state.live_revision());
        let says = "what was just recorded could not be kept, so it is not done";
        let record = Record::event(Stage::Policy("refused"), self.tools.clock.now_ms(), says)
            .with("faults", vec![fault.to_string()])
            .with("kept", kept);
        if let Err(unrecorded) = self.tools.journal.append(record).await {
            error!("a step of policy was recorded and not done, and that cannot be recorded: {unrecorded}");
        }
        Err(fault.into())
    }

    async fn set_state(&self, turn: &mut Turn, next: State) -> Result<(), BundlesFault> {
        let next = Arc::new(next);
        let kept = Arc::clone(&next);
        self.stored(move |store| store.set_state(&kept)).await?;
        self.know(turn, next);
        Ok(())
    }

    async fn keep(&self, bundle: &Bundle) -> Result<(), BundlesFault> {
        let bundle = bundle.clone();
        self.stored(move |store| store.keep(&bundle)).await
    }

    /// The store waits for a disk, so it is not asked on a thread that serves.
    async fn stored<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Bundles) -> Result<T, BundlesFault> + Send + 'static,
    ) -> Result<T, BundlesFault> {
        let store = Arc::clone(&self.tools.store);
        let asked = tokio::task::spawn_blocking(move || ask(&*store)).await;
        asked.unwrap_or_else(|cause| Err(BundlesFault(format!("it could not be asked: {cause}"))))
    }

    /// The rules of a bundle: those that decide already, or those that are kept, compiled again.
    async fn rules_of(
        &self,
        id: &BundleId,
        catalog: &Arc<Catalog>,
        at_hand: Option<&Bundle>,
    ) -> Result<Arc<Rules>, RolloutFault> {
        let in_force = self.tools.cell.in_force();
        let canary = in_force.as_ref().and_then(|now| now.canary.as_ref()).map(|canary| &canary.rules);
        let known =
            in_force.as_ref().map(|now| &now.live).into_iter().chain(canary).find(|rules| rules.are(id, catalog));
        let beside = self.tools.cell.beside().filter(|rules| rules.are(id, catalog));
        if let Some(rules) = known.cloned().or(beside) {
            return Ok(rules);
        }
        let at_hand = at_hand.filter(|bundle| bundle.digest() == id.bundle && bundle.data_digest() == id.data);
        let bundle = match at_hand {
            Some(bundle) => {
                // It stands in the files, so a store that lost it can have it again.
                self.keep(bundle).await?;
                bundle.clone()
            }
            None => self.kept(id).await?,
        };
        self.compiled(&bundle, catalog).await.map(Arc::new)
    }

    async fn kept(&self, id: &BundleId) -> Result<Bundle, RolloutFault> {
        let wanted = id.clone();
        let found = self.stored(move |store| store.bundle(&wanted)).await?;
        found.ok_or_else(|| {
            let revision = id.revision();
            BundlesFault(format!(
                "bundle {revision} is not there; put it back from a copy, or its files in the policy folder"
            ))
            .into()
        })
    }

    /// Tries a bundle in a child process, then compiles it.
    async fn compiled(&self, bundle: &Bundle, catalog: &Arc<Catalog>) -> Result<Rules, RolloutFault> {
        let facts = ToolFacts::of(catalog);
        let refused = |faults: Vec<crate::domain::pdp::bundle::BundleFault>| RolloutFault::Bundle {
            passing: faults.iter().all(bundle::passing),
            faults: faults.iter().map(ToString::to_string).collect(),
        };
        bundle::check_in_child(&self.tools.checker, bundle, &facts).await.map_err(refused)?;
        let bundle = bundle.clone();
        // WHY: compiling and self-testing take milliseconds to a second, too long for a thread that serves.
        let compiled = tokio::task::spawn_blocking(move || (Pdp::compile(&bundle, &facts), facts)).await;
        let (pdp, facts) = compiled.map_err(|cause| RolloutFault::Bundle {
            faults: vec![format!("the bundle could not be compiled: {cause}")],
            passing: false,
        })?;
        let loaded_ms = self.tools.clock.now_ms();
        Ok(Rules { catalog: Arc::clone(catalog), facts, pdp: pdp.map_err(refused)?, loaded_ms })
    }

    fn show(&self, rules: &Rules) {
        let metrics = &self.tools.metrics;
        let engine = rules.pdp.engine().as_str();
        metrics.rules_info.reset();
        metrics
            .rules_info
            .with_label_values(&[rules.pdp.bundle_digest(), rules.pdp.data_digest(), rules.catalog.digest(), engine])
            .set(1);
        metrics.rules_loaded.set(rules.loaded_ms / 1000);
        metrics.reloads.with_label_values(&["loaded"]).inc();
    }
}

/// Names a bundle in a record.
fn of_bundle(record: Record, id: &BundleId) -> Record {
    record.with("policyRevision", id.revision()).with("bundle", id.bundle.clone()).with("data", id.data.clone())
}

/// Names the rules in force in a record.
fn of_rules(record: Record, rules: &Rules) -> Record {
    of_bundle(record, &rules.id()).with("catalog", rules.catalog.digest()).with("engine", rules.pdp.engine().as_str())
}
