//! What people do with approvals, writes and policy, and what they may read of them.
//!
//! receive → authenticate → resolve tenant → see → record → change → record → answer
//!
//! Promises: nothing changes before it is durable in the journal that somebody is about to change
//! it, and what came of it is recorded before it is answered; what was begun is carried to its end
//! whether or not anybody waits; what somebody may not see answers as what does not exist, and so
//! does everything of another organisation. Never sends anything to a backend and never votes for
//! anybody. Called by `adapters::admin`; the steps themselves are `domain`'s, made by the ledger.

mod approvals;
mod carried;
mod declined;
mod journal;
mod page;
mod policy;
mod view;
mod writes;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tracing::error;

pub use approvals::ApprovalQuery;
pub use approvals::Cast;
pub use carried::Carried;
pub use declined::Declined;
pub use declined::Kind;
pub use journal::RecordQuery;
pub use page::Place;
pub use policy::Back;
pub use policy::Policy;
pub use writes::Said;
pub use writes::WriteQuery;

use super::asked::bare_credential;
use super::asked::fresh_id;
use super::ports::Approvals;
use super::ports::Clock;
use super::ports::Journal;
use super::ports::Keys;
use super::ports::Ledger;
use super::ports::Records;
use super::refused::Refused;
use crate::domain::approval::Person;
use crate::domain::audit::JournalFault;
use crate::domain::audit::record::Opened;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::audit::redaction::Secrets;
use crate::domain::identity;
use crate::domain::identity::AuthMethod;
use crate::domain::identity::Principal;
use crate::domain::identity::Tenant;
use crate::domain::identity::fault::AuthFault;
use crate::domain::refusal::No;
use crate::metrics::Metrics;

/// Characters of an id that is noted though it may name nothing.
const NAMED_CHARS_MAX: usize = 256;

/// Everything the desk needs, complete at birth.
pub struct Desk {
    /// The writes.
    pub ledger: Arc<dyn Ledger>,
    /// The approvals.
    pub approvals: Arc<dyn Approvals>,
    /// Where everything is written down.
    pub journal: Arc<dyn Journal>,
    /// Reads it back.
    pub records: Arc<dyn Records>,
    /// Who a token stands for.
    pub keys: Arc<dyn Keys>,
    /// Time and fresh ids.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Policy, and who may see and change it.
    pub policy: Policy,
    /// Plain settings.
    pub settings: Settings,
    /// How often refusals of strangers are recorded.
    pub refused: Refused,
    /// Changes under way.
    pub carried: Carried,
}

/// Plain settings of the desk.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Organisation roles that may read everything of their organisation.
    pub read: Vec<String>,
    /// Organisation roles that may revoke approvals and settle unknown writes.
    pub settle: Vec<String>,
    /// The address under which approvals are opened, without the id; empty for none.
    pub link: String,
    /// Scopes named in challenges.
    pub scopes: Vec<String>,
}

/// Who comes, before anything of it is believed.
#[derive(Debug, Clone, Default)]
pub struct Visit {
    /// Every `Authorization` header.
    pub authorization: Vec<String>,
    /// Every `X-LoopIQ-Tenant` header.
    pub tenant: Vec<String>,
    /// From where.
    pub peer: Option<SocketAddr>,
}

/// Somebody who is known, with what they came for.
struct Errand {
    operation: &'static str,
    principal: Arc<Principal>,
    tenant: Tenant,
    request_id: String,
    record: Record,
    /// The id that they named, as long as it stands nowhere else in the record.
    named: String,
    /// A last record has been written already.
    told: bool,
}

impl Errand {
    fn person(&self) -> Person {
        Person { issuer: self.principal.issuer.clone(), user: self.principal.user.clone() }
    }

    fn teams(&self) -> Vec<String> {
        self.principal.teams.keys().cloned().collect()
    }

    /// Whether they hold one of these organisation roles.
    fn holds(&self, roles: &[String]) -> bool {
        // A service account's roles count for nothing, here as in policy.
        self.principal.method != AuthMethod::ServiceAccount
            && roles.iter().any(|role| self.principal.roles.contains(role))
    }

    fn names(&mut self, id: &str) {
        self.named = id.chars().take(NAMED_CHARS_MAX).collect();
    }

    /// `otto in org_gcn`.
    fn who(&self) -> String {
        format!("{} in {}", self.principal.user, self.tenant.as_str())
    }
}

impl Desk {
    /// receive → authenticate → resolve tenant.
    async fn admit(&self, visit: &Visit, operation: &'static str) -> Result<Errand, Declined> {
        let now_ms = self.clock.now_ms();
        let request_id = fresh_id(now_ms, self.clock.random());
        let mut record = Record::open(Opened {
            request_id: request_id.clone(),
            received_ms: now_ms,
            method: operation.to_owned(),
            source: visit.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            secrets: Secrets::new(visit.authorization.iter().map(|header| bare_credential(header))),
            ..Opened::default()
        });
        let principal = match self.authenticate(visit, now_ms).await {
            Ok(principal) => principal,
            Err(no) => return Err(self.turned_away(no, record, operation).await),
        };
        record.caller(&principal, None);
        // WHY: two headers are two choices; an empty name is nobody's tenant.
        let named = match visit.tenant.as_slice() {
            [] => None,
            [only] => Some(only.as_str()),
            [_, _, ..] => Some(""),
        };
        let tenant = match identity::resolve_tenant(&principal, named, None) {
            Ok(tenant) => tenant,
            Err(refusal) => {
                let no = Declined::from(refusal.clone());
                record.refused(&No::from(refusal));
                let _recorded_or_not = self.journal.append(record.stage(Stage::Denied, self.clock.now_ms())).await;
                self.count(operation, no.code);
                return Err(no);
            }
        };
        record.caller(&principal, Some(&tenant));
        Ok(Errand { operation, principal, tenant, request_id, record, named: String::new(), told: false })
    }

    /// Answers a request that makes no sense: to strangers as to strangers, to others with what is
    /// wrong with it, and on record.
    pub async fn misread(&self, visit: &Visit, operation: &'static str, no: Declined) -> Declined {
        let outcome = match self.admit(visit, operation).await {
            Ok(errand) => self.close(errand, Err(no.clone())).await,
            Err(stranger) => Err(stranger),
        };
        outcome.err().unwrap_or(no)
    }

    /// Whether somebody who is known comes. Notes and counts nothing: what they came for will.
    pub async fn recognises(&self, visit: &Visit) -> bool {
        self.identified(visit, self.clock.now_ms()).await.is_ok()
    }

    async fn identified(&self, visit: &Visit, now_ms: i64) -> Result<Arc<Principal>, AuthFault> {
        let headers: Vec<&str> = visit.authorization.iter().map(String::as_str).collect();
        self.keys.principal(identity::token::credentials(&headers)?, now_ms.div_euclid(1000)).await
    }

    async fn authenticate(&self, visit: &Visit, now_ms: i64) -> Result<Arc<Principal>, Declined> {
        let found = self.identified(visit, now_ms).await;
        found.map_err(|fault| {
            self.metrics.credentials_refused.with_label_values(&[fault.cause()]).inc();
            if fault.is_ours() {
                Declined::of(
                    Kind::Unavailable,
                    "keys_unavailable",
                    "tokens cannot be verified at the moment",
                    "try again later",
                )
            } else {
                Declined::stranger(fault.challenge(self.settings.scopes.clone()))
            }
        })
    }

    /// A stranger; recorded sparingly, for being one costs nothing.
    async fn turned_away(&self, no: Declined, mut record: Record, operation: &'static str) -> Declined {
        self.count(operation, no.code);
        match self.refused.record_now(self.clock.now_ms()) {
            Some(before) => {
                let cause = no.challenge.as_ref().map_or(no.message.as_str(), |challenge| challenge.cause);
                record.declined(no.code, cause);
                let mut record = record.stage(Stage::Denied, self.clock.now_ms());
                if before > 0 {
                    record = record.with("refusedBefore", before);
                }
                // WHY: what a stranger is told shows nothing, so it needs no record to go out.
                let _recorded_or_not = self.journal.append(record).await;
            }
            None => self.metrics.records_aggregated.inc(),
        }
        no
    }

    /// One record; what it tells of happens only when it is durable.
    async fn write(&self, errand: &mut Errand, stage: Stage, says: String, data: Value) -> Result<(), JournalFault> {
        errand.record.says(says);
        let mut record = errand.record.stage(stage, self.clock.now_ms());
        for (name, value) in data.as_object().into_iter().flatten() {
            record = record.with(name, value.clone());
        }
        self.journal.append(record).await.map(|_| ())
    }

    /// What somebody is about to change is durable, or they may not.
    async fn intend(&self, errand: &mut Errand, stage: Stage, says: String, data: Value) -> Result<(), Declined> {
        let ready = self.journal.ready(true);
        let durable = match ready {
            Ok(()) => self.write(errand, stage, says, data).await,
            Err(fault) => Err(fault),
        };
        durable.map_err(|fault| {
            errand.told = true;
            self.unrecorded(errand, &fault, "nothing was changed")
        })
    }

    /// What came of it. When that cannot be recorded, the answer says so, and what was done stands.
    async fn conclude(&self, errand: &mut Errand, stage: Stage, says: String, data: Value) -> Result<(), Declined> {
        errand.told = true;
        self.write(errand, stage, says, data).await.map_err(|fault| {
            self.unrecorded(errand, &fault, "what came of it is done; read it again before you repeat anything")
        })
    }

    fn unrecorded(&self, errand: &Errand, fault: &JournalFault, what: &str) -> Declined {
        error!(request.id = %errand.request_id, "a record of request {} is not durable: {fault}", errand.request_id);
        self.metrics.journal_faults.with_label_values(&["refused"]).inc();
        let words = format!("it cannot be recorded; {what}");
        Declined::of(Kind::Unavailable, "audit_unavailable", words, "try again later; an operator has been told")
    }

    /// The last record and the answer. No record, no answer.
    async fn close(&self, mut errand: Errand, outcome: Result<Value, Declined>) -> Result<Value, Declined> {
        let outcome = if errand.told {
            outcome
        } else {
            let (stage, says) = match &outcome {
                Ok(_) => (Stage::Outcome, format!("{}: {}", errand.who(), errand.operation)),
                Err(no) => {
                    errand.record.declined(no.code, &no.message);
                    (Stage::Denied, format!("{}: {}: {}", errand.who(), errand.operation, no.code))
                }
            };
            let data = if errand.named.is_empty() { json!({}) } else { json!({"named": errand.named}) };
            match self.write(&mut errand, stage, says, data).await {
                Ok(()) => outcome,
                Err(fault) => Err(self.unrecorded(&errand, &fault, "nothing is shown")),
            }
        };
        self.count(errand.operation, outcome.as_ref().map_or_else(|no| no.code, |_| "ok"));
        outcome
    }

    fn count(&self, operation: &str, code: &str) {
        self.metrics.operators.with_label_values(&[operation, code]).inc();
    }
}

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;
