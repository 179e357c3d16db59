//! What people, and the judge of canaries, make the steward do.
//!
//! Promises: nothing is activated through a gate whose report does not open it; a rollback asks for
//! nothing and takes one step; whoever did it, from what, to what and why is in one record, made
//! before anything changes. Called through `pep::rollout`.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::MutexGuard;
use tracing::info;

use super::Steward;
use super::Turn;
use super::of_bundle;
use super::of_rules;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::catalog::Catalog;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::By;
use crate::domain::rollout::Canary;
use crate::domain::rollout::How;
use crate::domain::rollout::State;
use crate::domain::rollout::StepFault;
use crate::domain::rollout::Term;
use crate::domain::rollout::canary::Counts;
use crate::domain::rollout::canary::Judgement;
use crate::domain::rollout::gate::GateFault;
use crate::pep::rollout::Order;
use crate::pep::rollout::Rollout;
use crate::pep::rollout::RolloutFault;
use crate::pep::rollout::Standing;
use crate::pep::rules::InForce;
use crate::pep::rules::OnTrial;
use crate::pep::rules::Rules;

/// What a step by a person starts from.
struct Begun<'a> {
    turn: MutexGuard<'a, Turn>,
    state: Arc<State>,
    catalog: Arc<Catalog>,
    now_ms: i64,
}

#[async_trait]
impl Rollout for Steward {
    fn standing(&self) -> Standing {
        let state = self.shown.load_full();
        let in_force = self.tools.cell.current();
        let canary = state.canary.as_ref().map(|canary| self.counts(&canary.id));
        let shadow = self.tools.cell.beside().map(|rules| {
            let id = rules.id();
            let counts = self.tools.tallies.of_shadow(&id);
            (id, counts)
        });
        Standing {
            state,
            gated: self.ways.gated,
            canary,
            shadow,
            in_force: in_force.map(|rules| (rules.catalog.digest().to_owned(), rules.pdp.engine().as_str())),
            faults: self.tools.cell.faults().map(|faults| faults.to_vec()).unwrap_or_default(),
        }
    }

    async fn activate(&self, order: Order, by: By, record: Record) -> Result<(), RolloutFault> {
        let begun = self.begin().await?;
        let id = begun.state.candidate(&order.revision)?;
        let runs = begun.state.canary.as_ref().filter(|canary| canary.id == id).cloned();
        match (order.canary.clone(), runs) {
            (None, Some(canary)) => self.promote(begun, canary, order, by, record).await,
            (None, None) => {
                let report = self.gate(&begun, &id, &order).await?;
                let rules = self.fresh(&id, &begun.catalog).await?;
                let how = How::Person;
                let says = format!("{} puts policy {} in force", by.user, id.revision());
                let record = self.told(record, "activated", says, &begun, &order).with("report", report.clone());
                let term = Term { id, since_ms: begun.now_ms, how, by: Some(by), reason: order.reason, report };
                self.put(begun, term, rules, record.with("how", how.as_str())).await
            }
            (Some(share), _) => {
                let since_ms = begun.now_ms;
                let canary = Canary { id, share, since_ms, by, reason: order.reason.clone(), report: None };
                self.try_out(begun, canary, &order, record).await
            }
        }
    }

    async fn roll_back(&self, to: Option<String>, reason: String, by: By, record: Record) -> Result<(), RolloutFault> {
        let mut begun = self.begin().await?;
        let order = Order { reason: reason.clone(), ..Order::default() };
        if let (None, Some(canary)) = (&to, &begun.state.canary) {
            let (id, next) = (canary.id.clone(), begun.state.canary_taken_back(begun.now_ms));
            let says = format!("{} takes back canary {}", by.user, id.revision());
            let record = self.told(record, "rolled_back", says, &begun, &order).with("how", "person");
            let record = of_bundle(record, &id).with("counts", as_json(self.counts(&id)));
            return self.end_canary(&mut begun.turn, next, record).await;
        }
        let id = begun.state.before(to.as_deref())?;
        let rules = self.fresh(&id, &begun.catalog).await?;
        let how = How::RolledBack;
        let says = format!("{} goes back to policy {}", by.user, id.revision());
        let record = self.told(record, "rolled_back", says, &begun, &order).with("how", "person");
        let term = Term { id, since_ms: begun.now_ms, how, by: Some(by), reason, report: None };
        self.put(begun, term, rules, record).await
    }

    async fn canary_judged(&self, id: &BundleId, judgement: Judgement, counts: Counts) -> Result<(), RolloutFault> {
        let mut begun = self.begin().await?;
        if begun.state.canary.as_ref().is_none_or(|canary| canary.id != *id) {
            return Ok(());
        }
        let says = format!("canary {} left its band and took itself back: {}", id.revision(), counts.words());
        let record = Record::event(Stage::Policy("rolled_back"), begun.now_ms, says)
            .with("how", "canary")
            .with("judgement", judgement.as_str())
            .with("counts", as_json(counts))
            .with("live", begun.state.live_revision());
        let next = begun.state.canary_taken_back(begun.now_ms);
        self.end_canary(&mut begun.turn, next, of_bundle(record, id)).await
    }
}

impl Steward {
    async fn begin(&self) -> Result<Begun<'_>, RolloutFault> {
        let mut turn = self.turn.lock().await;
        let state = self.recall(&mut turn).await?;
        let catalog = turn.catalog.clone().ok_or_else(|| RolloutFault::Bundle {
            faults: vec!["no catalog has been loaded; see /readyz".to_owned()],
            passing: true,
        })?;
        Ok(Begun { turn, state, catalog, now_ms: self.tools.clock.now_ms() })
    }

    fn counts(&self, id: &BundleId) -> Counts {
        self.tools.tallies.of_canary(id, self.tools.clock.now_ms(), &self.ways.limits)
    }

    /// Digest of the report that lets a candidate through; none where none is needed.
    async fn gate(&self, begun: &Begun<'_>, id: &BundleId, order: &Order) -> Result<Option<String>, GateFault> {
        let Some(report) = &order.report else {
            return if self.ways.gated { Err(GateFault::Missing) } else { Ok(None) };
        };
        let (examine, report) = (Arc::clone(&self.ways.examine), report.clone());
        // WHY: a report has megabytes, and whose keys are trusted stands in files.
        let examined = tokio::task::spawn_blocking(move || examine(&report)).await;
        let evidence = examined.unwrap_or_else(|cause| Err(GateFault::Untrusted(cause.to_string())))?;
        let approved = order.digest.as_deref().unwrap_or_default();
        evidence.opens(&self.ways.demands, id, &begun.state, approved, begun.now_ms)?;
        Ok(Some(evidence.digest))
    }

    /// The record of whoever asks, with from what and why.
    fn told(&self, mut record: Record, what: &'static str, says: String, begun: &Begun<'_>, order: &Order) -> Record {
        record.says(says);
        record
            .stage(Stage::Policy(what), self.tools.clock.now_ms())
            .with("from", begun.state.live_revision())
            .with("reason", order.reason.clone())
    }

    /// A bundle from the store, tried again: since it was checked, the catalog may have changed.
    async fn fresh(&self, id: &BundleId, catalog: &Arc<Catalog>) -> Result<Arc<Rules>, RolloutFault> {
        let bundle = self.kept(id).await?;
        self.compiled(&bundle, catalog).await.map(Arc::new)
    }

    async fn put(
        &self,
        mut begun: Begun<'_>,
        term: Term,
        rules: Arc<Rules>,
        record: Record,
    ) -> Result<(), RolloutFault> {
        let next = match term.how {
            How::RolledBack => begun.state.rolled_back(term),
            How::First | How::Automatic | How::Person | How::Promoted => begun.state.activated(term),
        };
        self.go_live(&mut begun.turn, next, rules, record).await
    }

    /// A canary decides about everybody.
    async fn promote(
        &self,
        begun: Begun<'_>,
        canary: Canary,
        order: Order,
        by: By,
        record: Record,
    ) -> Result<(), RolloutFault> {
        // WHY: one that was started while there was no gate has shown nothing.
        let report = match canary.report.clone() {
            None => self.gate(&begun, &canary.id, &order).await?,
            shown => shown,
        };
        let rules = self.rules_of(&canary.id, &begun.catalog, None).await?;
        let how = How::Promoted;
        let says = format!("{} puts canary {} in force for everybody", by.user, canary.id.revision());
        let record = self
            .told(record, "promoted", says, &begun, &order)
            .with("how", how.as_str())
            .with("report", report.clone())
            .with("counts", as_json(self.counts(&canary.id)));
        let id = canary.id;
        let term = Term { id, since_ms: begun.now_ms, how, by: Some(by), reason: order.reason, report };
        self.put(begun, term, rules, record).await
    }

    /// A candidate decides about some callers.
    async fn try_out(
        &self,
        mut begun: Begun<'_>,
        mut canary: Canary,
        order: &Order,
        record: Record,
    ) -> Result<(), RolloutFault> {
        let live = self.tools.cell.in_force().ok_or(StepFault::NothingLive)?;
        // WHY twice: what makes no sense needs no report to be refused.
        begun.state.canary_started(canary.clone())?;
        canary.report = self.gate(&begun, &canary.id, order).await?;
        let next = begun.state.canary_started(canary.clone())?;
        let rules = self.fresh(&canary.id, &begun.catalog).await?;
        let says =
            format!("{} lets policy {} decide about {}", canary.by.user, canary.id.revision(), canary.share.words());
        let record = self
            .told(record, "canary", says, &begun, order)
            .with("how", "started")
            .with("report", canary.report.clone())
            .with("percent", canary.share.percent)
            .with("tenants", canary.share.tenants.clone());
        self.step(&mut begun.turn, next, of_rules(record, &rules)).await?;
        info!("policy {} decides about {}", canary.id.revision(), canary.share.words());
        let canary = Some(OnTrial::new(rules, canary.share));
        self.tools.cell.put(InForce { live: Arc::clone(&live.live), canary });
        if self.ways.shadow_waiting {
            self.tools.cell.ask_beside(None);
        }
        Ok(())
    }

    /// Records, writes down, and lets the live rules decide about everybody again.
    async fn end_canary(&self, turn: &mut Turn, next: State, record: Record) -> Result<(), RolloutFault> {
        self.step(turn, next, record).await?;
        self.tools.metrics.activations.with_label_values(&[How::RolledBack.as_str()]).inc();
        if let Some(now) = self.tools.cell.in_force() {
            self.tools.cell.put(InForce { live: Arc::clone(&now.live), canary: None });
        }
        Ok(())
    }
}

fn as_json(counts: Counts) -> serde_json::Value {
    serde_json::to_value(counts).unwrap_or_default()
}
