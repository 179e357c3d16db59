//! Policy: how it stands, what goes live, what is taken back.
//!
//! Promises: only people whom the settings name see or change it, for it decides for every
//! organisation; a change is one record made before it, with who, from what, to what and why; a
//! change that is refused is one record with the code. Never says what may go live: the gate of
//! `domain::rollout` does. Called by `adapters::admin`.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use super::Declined;
use super::Desk;
use super::Errand;
use super::Kind;
use super::Visit;
use super::view;
use crate::domain::audit::record::Stage;
use crate::domain::identity::AuthMethod;
use crate::domain::rollout::By;
use crate::domain::rollout::Ended;
use crate::domain::rollout::StepFault;
use crate::domain::rollout::Term;
use crate::pep::rollout::Order;
use crate::pep::rollout::Rollout;
use crate::pep::rollout::RolloutFault;
use crate::pep::rollout::Standing;

/// Characters of a reason.
const REASON_CHARS_MAX: usize = 1_000;
/// Organisations that a canary may name.
const TENANTS_MAX: usize = 1_000;

/// Policy, and who may see and change it.
pub struct Policy {
    /// Changes it.
    pub rollout: Arc<dyn Rollout>,
    /// Organisations of those who may; none means nobody.
    pub tenants: Vec<String>,
    /// Organisation roles of those who may.
    pub roles: Vec<String>,
}

/// What is to be taken back.
#[derive(Debug, Clone, Default)]
pub struct Back {
    /// To this revision; without it to the one before.
    pub to: Option<String>,
    /// Why.
    pub reason: String,
}

impl Desk {
    /// What decides, what waits, what decided before.
    pub async fn show_policy(&self, visit: &Visit) -> Result<Value, Declined> {
        let errand = self.admit(visit, "policy.show").await?;
        let outcome = self.policy_person(&errand).map(|()| shown(&self.policy.rollout.standing()));
        self.close(errand, outcome).await
    }

    /// Puts a candidate in force.
    pub async fn activate_policy(self: &Arc<Self>, visit: &Visit, order: Order) -> Result<Value, Declined> {
        let mut errand = self.admit(visit, "policy.activate").await?;
        let desk = Arc::clone(self);
        self.carry(async move {
            let outcome = desk.policy_activated(&mut errand, order).await;
            desk.close(errand, outcome).await
        })
        .await
    }

    async fn policy_activated(&self, errand: &mut Errand, order: Order) -> Result<Value, Declined> {
        self.policy_person(errand)?;
        errand.names(&order.revision);
        bounded(&order.reason)?;
        if order.canary.as_ref().is_some_and(|share| share.tenants.len() > TENANTS_MAX) {
            return Err(Declined::request(format!("a canary names at most {TENANTS_MAX} organisations"), "name fewer"));
        }
        let data = json!({"revision": errand.named, "reason": order.reason, "report": order.digest});
        let done = self.policy.rollout.activate(order, by(errand), errand.record.clone()).await;
        self.policy_after(errand, done, data).await
    }

    /// Takes a canary back, or what is in force.
    pub async fn roll_back_policy(self: &Arc<Self>, visit: &Visit, back: Back) -> Result<Value, Declined> {
        let mut errand = self.admit(visit, "policy.rollback").await?;
        let desk = Arc::clone(self);
        self.carry(async move {
            let outcome = desk.policy_rolled_back(&mut errand, back).await;
            desk.close(errand, outcome).await
        })
        .await
    }

    async fn policy_rolled_back(&self, errand: &mut Errand, back: Back) -> Result<Value, Declined> {
        self.policy_person(errand)?;
        errand.names(back.to.as_deref().unwrap_or_default());
        bounded(&back.reason)?;
        let data = json!({"to": back.to, "reason": back.reason});
        let done = self.policy.rollout.roll_back(back.to, back.reason, by(errand), errand.record.clone()).await;
        self.policy_after(errand, done, data).await
    }

    /// How policy stands after a change; or why nothing was changed, on record.
    async fn policy_after(
        &self,
        errand: &mut Errand,
        done: Result<(), RolloutFault>,
        data: Value,
    ) -> Result<Value, Declined> {
        let Err(fault) = done else {
            // The change itself is the record of it.
            errand.told = true;
            return Ok(shown(&self.policy.rollout.standing()));
        };
        if let RolloutFault::Journal(fault) = &fault {
            errand.told = true;
            return Err(self.unrecorded(errand, fault, "nothing was changed"));
        }
        let no = Declined::from(fault);
        errand.record.declined(no.code, &no.message);
        let says = format!("{} changes no policy: {}", errand.who(), no.code);
        match self.conclude(errand, Stage::Policy("refused"), says, data).await {
            Ok(()) => Err(no),
            Err(unrecorded) => Err(unrecorded),
        }
    }

    /// Whether somebody may see and change policy.
    fn policy_person(&self, errand: &Errand) -> Result<(), Declined> {
        let Policy { tenants, roles, .. } = &self.policy;
        if errand.principal.method == AuthMethod::ServiceAccount {
            return Err(Declined::not_a_person("see or change policy"));
        }
        if tenants.iter().any(|tenant| tenant == errand.tenant.as_str()) && errand.holds(roles) {
            return Ok(());
        }
        let message =
            "policy decides for every organisation; only people whom the gateway's settings name see or change it";
        Err(Declined::of(Kind::Forbidden, "role_required", message, "ask somebody whom `operators.policy` names"))
    }
}

fn by(errand: &Errand) -> By {
    let person = errand.person();
    By { user: person.user, issuer: person.issuer, tenant: errand.tenant.as_str().to_owned() }
}

fn bounded(reason: &str) -> Result<(), Declined> {
    if reason.chars().count() > REASON_CHARS_MAX {
        let message = format!("`reason` is longer than {REASON_CHARS_MAX} characters");
        return Err(Declined::request(message, "say it shorter"));
    }
    Ok(())
}

impl From<RolloutFault> for Declined {
    fn from(fault: RolloutFault) -> Self {
        let message = fault.to_string();
        match fault {
            RolloutFault::Step(step) => {
                let kind = match step {
                    StepFault::NoCandidate(_) | StepFault::NeverLive(_) => Kind::Missing,
                    StepFault::NoShare => Kind::Request,
                    _ => Kind::Conflict,
                };
                Self::of(kind, step.code(), message, step.next())
            }
            RolloutFault::Gate(gate) => Self::of(Kind::Conflict, gate.code(), message, gate.next()),
            RolloutFault::Bundle { passing: true, .. } => {
                Self::of(Kind::Unavailable, "policy_unchecked", message, "try again later; see /readyz")
            }
            RolloutFault::Bundle { .. } => {
                let next = "it was fine when it was checked; see what has changed in the catalog since";
                Self::of(Kind::Conflict, "policy_refused", message, next)
            }
            RolloutFault::Journal(_) | RolloutFault::Store(_) => {
                // WHY: the cause names files, which are the operators' and stand in the log.
                tracing::error!("{message}");
                let message = "what is in force cannot be written down at the moment; nothing was changed";
                Self::of(Kind::Unavailable, "policy_store_unavailable", message, "see the gateway's log, and try again")
            }
        }
    }
}

/// How policy stands, for people and their programs.
fn shown(standing: &Standing) -> Value {
    let state = &standing.state;
    let live = state.live.as_ref().map(|live| {
        let (catalog, engine) = standing.in_force.clone().unzip();
        with(term(live), [("catalog", json!(catalog)), ("engine", json!(engine))])
    });
    let waiting = state.waiting.as_ref().map(|waiting| {
        json!({
            "revision": waiting.id.revision(),
            "bundle": waiting.id.bundle,
            "data": waiting.id.data,
            "since": view::moment(Some(waiting.since_ms)),
            "origin": waiting.from.as_str(),
        })
    });
    let canary = state.canary.as_ref().map(|canary| {
        json!({
            "revision": canary.id.revision(),
            "bundle": canary.id.bundle,
            "data": canary.id.data,
            "since": view::moment(Some(canary.since_ms)),
            "percent": canary.share.percent,
            "tenants": canary.share.tenants,
            "by": canary.by.user,
            "reason": canary.reason,
            "report": canary.report,
            "counts": standing.canary.unwrap_or_default(),
        })
    });
    let shadow = standing.shadow.as_ref().map(|(id, counts)| {
        let counts: serde_json::Map<String, Value> =
            counts.iter().map(|(class, count)| ((*class).to_owned(), json!(count))).collect();
        json!({"revision": id.revision(), "bundle": id.bundle, "data": id.data, "counts": counts})
    });
    let history = state.history.iter().map(|past| {
        let ended = match past.ended {
            Ended::Replaced => "replaced",
            Ended::RolledBack => "rolled_back",
        };
        with(term(&past.term), [("until", view::moment(Some(past.until_ms))), ("ended", ended.into())])
    });
    json!({
        "activation": if standing.gated { "gated" } else { "automatic" },
        "live": live,
        "waiting": waiting,
        "canary": canary,
        "shadow": shadow,
        "held": state.held.iter().map(crate::domain::rollout::BundleId::revision).collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
        "faults": standing.faults,
    })
}

fn with(mut shown: Value, more: [(&str, Value); 2]) -> Value {
    if let Some(members) = shown.as_object_mut() {
        members.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    shown
}

fn term(term: &Term) -> Value {
    json!({
        "revision": term.id.revision(),
        "bundle": term.id.bundle,
        "data": term.id.data,
        "since": view::moment(Some(term.since_ms)),
        "how": term.how.as_str(),
        "by": term.by.as_ref().map(|by| by.user.as_str()),
        "reason": term.reason,
        "report": term.report,
    })
}
