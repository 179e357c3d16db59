//! Writes: list, read, and say what became of one that nobody knows about.
//!
//! Promises: whoever settles a write says how they know, and two people say the same; nobody settles
//! their own. Never sends a write and never asks the backend. Called by `adapters::admin`.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use super::Declined;
use super::Desk;
use super::Errand;
use super::Kind;
use super::Place;
use super::Visit;
use super::page::page;
use super::view;
use crate::domain::audit::record::Answered;
use crate::domain::audit::record::Execution as Came;
use crate::domain::audit::record::Stage;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Key;
use crate::domain::idempotency::Opinion;
use crate::domain::idempotency::State;
use crate::domain::idempotency::execution_id;
use crate::domain::identity::AuthMethod;
use crate::pep::ports::WriteFilter;

/// Characters of the evidence.
const EVIDENCE_CHARS_MAX: usize = 4_000;
/// Ids of records that a write can have made.
const RECORD_IDS_MAX: usize = 100;
/// Characters of such an id.
const RECORD_ID_CHARS_MAX: usize = 256;
/// Writes per page.
const PAGE_MAX: usize = 200;

/// Which writes are wanted.
#[derive(Debug, Clone, Default)]
pub struct WriteQuery {
    /// In this state.
    pub state: Option<State>,
    /// Under this idempotency key.
    pub key: Option<String>,
    /// At most this many.
    pub limit: usize,
    /// After this place.
    pub after: Option<Place>,
}

/// What somebody says became of a write.
#[derive(Debug, Clone)]
pub struct Said {
    /// Whether it happened.
    pub happened: bool,
    /// How they know.
    pub evidence: String,
    /// The records that it made or changed.
    pub record_ids: Vec<String>,
}

impl Desk {
    /// The writes that somebody may see, newest first.
    pub async fn list_writes(&self, visit: &Visit, query: WriteQuery) -> Result<Value, Declined> {
        let errand = self.admit(visit, "writes.list").await?;
        let outcome = self.listed_writes(&errand, query).await;
        self.close(errand, outcome).await
    }

    async fn listed_writes(&self, errand: &Errand, query: WriteQuery) -> Result<Value, Declined> {
        let fetch = |before_ms, limit| {
            let filter = WriteFilter {
                tenant: Some(errand.tenant.as_str().to_owned()),
                state: query.state,
                key: query.key.clone(),
                before_ms,
                limit,
            };
            async move { self.ledger.writes(&filter).await }
        };
        let place = |write: &Execution| Place { at_ms: write.created_ms, id: write.plan.execution_id.clone() };
        let wanted = |write: &Execution| self.sees_write(errand, write);
        let found = page(query.limit.clamp(1, PAGE_MAX), query.after.clone(), fetch, place, wanted).await?;
        let items: Vec<Value> = found.items.iter().map(view::write_line).collect();
        Ok(json!({"items": items, "next": found.next.map(|next| next.to_string())}))
    }

    /// One write, by its execution id or by the key under which it was made.
    pub async fn show_write(&self, visit: &Visit, id: &str) -> Result<Value, Declined> {
        let mut errand = self.admit(visit, "writes.show").await?;
        let outcome = self.visible_write(&mut errand, id).await.map(|write| view::write(&write));
        self.close(errand, outcome).await
    }

    /// Says what became of an unknown write.
    pub async fn resolve(self: &Arc<Self>, visit: &Visit, id: &str, said: Said) -> Result<Value, Declined> {
        let mut errand = self.admit(visit, "writes.resolve").await?;
        let (desk, id) = (Arc::clone(self), id.to_owned());
        self.carry(async move {
            let outcome = desk.resolved(&mut errand, &id, said).await;
            desk.close(errand, outcome).await
        })
        .await
    }

    async fn resolved(&self, errand: &mut Errand, id: &str, said: Said) -> Result<Value, Declined> {
        let write = self.visible_write(errand, id).await?;
        let said = checked(said)?;
        errand.record.concerns(&write.plan.tool);
        let outcome = if said.happened { "executed" } else { "failed" };
        let says = format!("{} says that {} was {outcome}", errand.who(), about(&write));
        let data = json!({"outcome": outcome, "evidence": said.evidence, "recordIds": said.record_ids});
        self.intend(errand, Stage::Write("opinion"), says, data).await?;
        if errand.principal.method == AuthMethod::ServiceAccount {
            return Err(self.refuse_write(errand, &write, Declined::not_a_person("settle writes")).await);
        }
        if !errand.holds(&self.settings.settle) {
            let no = Declined::role("settling a write", &self.settings.settle);
            return Err(self.refuse_write(errand, &write, no).await);
        }
        let opinion = Opinion {
            issuer: errand.principal.issuer.clone(),
            user: errand.principal.user.clone(),
            happened: said.happened,
            evidence: said.evidence,
            record_ids: said.record_ids,
            at_ms: self.clock.now_ms(),
        };
        match self.ledger.resolve(&write.plan.execution_id, &opinion).await {
            Ok(Ok(now)) => self.settled(errand, &write, &now).await,
            Ok(Err(fault)) => Err(self.refuse_write(errand, &write, Declined::from(fault)).await),
            Err(fault) => Err(self.refuse_write(errand, &write, Declined::from(fault)).await),
        }
    }

    /// Records what came of an opinion. A write that is settled by it ends with an outcome, like any.
    async fn settled(&self, errand: &mut Errand, before: &Execution, now: &Execution) -> Result<Value, Declined> {
        let by: Vec<&str> = now.opinions.iter().map(|opinion| opinion.user.as_str()).collect();
        let evidence: Vec<&str> = now.opinions.iter().map(|opinion| opinion.evidence.as_str()).collect();
        if now.state.is_final() {
            let execution = if now.state == State::Executed { Came::Executed } else { Came::Failed };
            errand.record.answered(Answered {
                execution,
                backend_status: None,
                bytes: 0,
                record_ids: now.record_ids.clone(),
                replayed: false,
            });
            let says = format!("{} is {}: {} say so", about(now), now.state.as_str(), by.join(" and "));
            let data = json!({"resolvedBy": by, "evidence": evidence});
            self.conclude(errand, Stage::Outcome, says, data).await?;
        } else {
            let again = before.opinions.len() >= now.opinions.len();
            let says = if again {
                format!("{} is still unknown: opinions differ, so they begin anew", about(now))
            } else {
                format!("{} is still unknown until a second person says the same", about(now))
            };
            let stage = Stage::Write(if again { "disputed" } else { "seconding" });
            self.conclude(errand, stage, says, json!({"opinionsOf": by})).await?;
        }
        Ok(view::write(now))
    }

    /// Records that an opinion was refused, and why.
    async fn refuse_write(&self, errand: &mut Errand, write: &Execution, no: Declined) -> Declined {
        errand.record.declined(no.code, &no.message);
        let says = format!("{} is not changed: {}", about(write), no.code);
        match self.conclude(errand, Stage::Write("refused"), says, json!({})).await {
            Ok(()) => no,
            Err(unrecorded) => unrecorded,
        }
    }

    /// The write, if somebody may see it; noted on their record.
    async fn visible_write(&self, errand: &mut Errand, id: &str) -> Result<Execution, Declined> {
        errand.names(id);
        let found = match self.ledger.find(id).await?.filter(|write| self.sees_write(errand, write)) {
            Some(write) => Some(write),
            None => self.by_key(errand, id).await?,
        };
        let Some(write) = found else { return Err(Declined::no_write()) };
        errand.named.clear();
        let (plan, record) = (&write.plan, &mut errand.record);
        record.keyed(&plan.key, Some(&plan.execution_id));
        record.workflow(&plan.workflow, &[]);
        if let Some(approval) = &plan.approval_id {
            record.approved_by(approval);
        }
        self.join_trace(errand, &plan.trace_id);
        Ok(write)
    }

    /// The write under a key: one's own, or the only one that one may see.
    async fn by_key(&self, errand: &Errand, key: &str) -> Result<Option<Execution>, Declined> {
        let Ok(key) = Key::parse(key) else { return Ok(None) };
        let own = execution_id(&errand.tenant, &errand.principal, &key);
        if let Some(write) = self.ledger.find(&own).await? {
            return Ok(Some(write));
        }
        let filter = WriteFilter {
            tenant: Some(errand.tenant.as_str().to_owned()),
            key: Some(key.as_str().to_owned()),
            limit: PAGE_MAX,
            ..WriteFilter::default()
        };
        let mut seen = self.ledger.writes(&filter).await?;
        seen.retain(|write| self.sees_write(errand, write));
        match seen.as_slice() {
            [] => Ok(None),
            [only] => Ok(self.ledger.find(&only.plan.execution_id).await?),
            several => {
                let ids: Vec<&str> = several.iter().map(|write| write.plan.execution_id.as_str()).collect();
                let message = format!("{} callers chose that key: {}", ids.len(), ids.join(", "));
                Err(Declined::of(Kind::Conflict, "key_ambiguous", message, "use one of these execution ids"))
            }
        }
    }

    fn sees_write(&self, errand: &Errand, write: &Execution) -> bool {
        let plan = &write.plan;
        plan.tenant == errand.tenant.as_str()
            && ((plan.issuer == errand.principal.issuer && plan.user == errand.principal.user)
                || errand.holds(&self.settings.read)
                || errand.holds(&self.settings.settle))
    }
}

/// `loopiq_close_release for ada (0f3c…)`.
fn about(write: &Execution) -> String {
    format!("{} for {} ({})", write.plan.tool, write.plan.user, write.plan.execution_id)
}

/// What is said, in the form in which two people can say the same.
fn checked(mut said: Said) -> Result<Said, Declined> {
    if said.evidence.chars().count() > EVIDENCE_CHARS_MAX {
        let message = format!("`evidence` is longer than {EVIDENCE_CHARS_MAX} characters");
        return Err(Declined::request(message, "say it shorter, and name where the rest is kept"));
    }
    if !said.happened && !said.record_ids.is_empty() {
        let message = "`recordIds` names records of a write that did not happen";
        return Err(Declined::request(message, "leave them out, or say `executed`"));
    }
    let proper = |id: &String| !id.is_empty() && id.chars().count() <= RECORD_ID_CHARS_MAX;
    if said.record_ids.len() > RECORD_IDS_MAX || !said.record_ids.iter().all(proper) {
        let message = format!("`recordIds` holds up to {RECORD_IDS_MAX} ids of 1 to {RECORD_ID_CHARS_MAX} characters");
        return Err(Declined::request(message, "correct the list"));
    }
    said.record_ids.sort();
    said.record_ids.dedup();
    Ok(said)
}
