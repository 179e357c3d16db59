//! Approvals: list, read, approve, reject, take back.
//!
//! Promises: a vote names the digest that its voter saw; service accounts do not vote; the requester
//! cancels, an approver or whoever settles revokes. Whether a vote counts is `domain::approval`'s to
//! say, inside the ledger. Called by `adapters::admin`.

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
use crate::domain::approval::Ballot;
use crate::domain::approval::Ground;
use crate::domain::approval::State;
use crate::domain::approval::Ticket;
use crate::domain::approval::Verdict;
use crate::domain::approval::VoteFault;
use crate::domain::audit::record::Stage;
use crate::domain::identity::AuthMethod;
use crate::pep::ports::LedgerFault;
use crate::pep::ports::TicketFilter;

/// Characters of a reason.
const REASON_CHARS_MAX: usize = 1_000;
/// Approvals per page.
const PAGE_MAX: usize = 200;

/// Which approvals are wanted.
#[derive(Debug, Clone, Default)]
pub struct ApprovalQuery {
    /// In this state.
    pub state: Option<State>,
    /// Asked for by this user.
    pub requester: Option<String>,
    /// At most this many.
    pub limit: usize,
    /// After this place.
    pub after: Option<Place>,
}

/// What a voter sends.
#[derive(Debug, Clone, Default)]
pub struct Cast {
    /// The digest of what they saw; needed to vote, and compared where it is given.
    pub digest: Option<String>,
    /// Why, in their words.
    pub reason: String,
}

impl Desk {
    /// The approvals that somebody may see, newest first.
    pub async fn list_approvals(&self, visit: &Visit, query: ApprovalQuery) -> Result<Value, Declined> {
        let errand = self.admit(visit, "approvals.list").await?;
        let outcome = self.listed(&errand, query).await;
        self.close(errand, outcome).await
    }

    async fn listed(&self, errand: &Errand, query: ApprovalQuery) -> Result<Value, Declined> {
        let now_ms = self.ledger.now_ms().await?;
        // WHY: one whose time has passed may still be written as pending or approved.
        let written = query.state.filter(|state| *state != State::Rejected);
        let fetch = |before_ms, limit| {
            let filter = TicketFilter {
                tenant: Some(errand.tenant.as_str().to_owned()),
                state: written,
                requester: query.requester.clone(),
                before_ms,
                limit,
            };
            async move { self.approvals.tickets(&filter).await }
        };
        let place = |ticket: &Ticket| Place { at_ms: ticket.asked_ms, id: ticket.id.clone() };
        let wanted = |ticket: &Ticket| {
            self.sees(errand, ticket) && query.state.is_none_or(|state| ticket.clone().at(now_ms).state == state)
        };
        let found = page(query.limit.clamp(1, PAGE_MAX), query.after.clone(), fetch, place, wanted).await?;
        let items = found.items.into_iter().map(|ticket| view::line(&ticket.at(now_ms), &self.settings.link));
        Ok(json!({"items": items.collect::<Vec<_>>(), "next": found.next.map(|next| next.to_string())}))
    }

    /// One approval, whole.
    pub async fn show_approval(&self, visit: &Visit, id: &str) -> Result<Value, Declined> {
        let mut errand = self.admit(visit, "approvals.show").await?;
        let outcome = self.shown(&mut errand, id).await;
        self.close(errand, outcome).await
    }

    async fn shown(&self, errand: &mut Errand, id: &str) -> Result<Value, Declined> {
        let ticket = self.visible_ticket(errand, id).await?;
        let now_ms = self.ledger.now_ms().await?;
        Ok(self.view_of(errand, &ticket.at(now_ms)))
    }

    /// Approves or rejects.
    pub async fn vote(
        self: &Arc<Self>,
        visit: &Visit,
        id: &str,
        verdict: Verdict,
        cast: Cast,
    ) -> Result<Value, Declined> {
        let operation = match verdict {
            Verdict::Approve => "approvals.approve",
            Verdict::Reject => "approvals.reject",
        };
        let mut errand = self.admit(visit, operation).await?;
        let (desk, id) = (Arc::clone(self), id.to_owned());
        self.carry(async move {
            let outcome = desk.voted(&mut errand, &id, verdict, cast).await;
            desk.close(errand, outcome).await
        })
        .await
    }

    async fn voted(&self, errand: &mut Errand, id: &str, verdict: Verdict, cast: Cast) -> Result<Value, Declined> {
        let ticket = self.visible_ticket(errand, id).await?;
        let digest = cast.digest.ok_or_else(|| {
            Declined::request("`digest` is missing", "read the approval, and send the `digest` of what you saw")
        })?;
        let reason = bounded(cast.reason)?;
        errand.record.concerns(&ticket.subject.tool);
        let verb = view::verb(verdict);
        let says = format!("{} votes to {verb} {}", errand.who(), about(&ticket));
        let data = json!({"verdict": verb, "reason": reason, "digest": digest});
        self.intend(errand, Stage::Approval("vote"), says, data).await?;
        if errand.principal.method == AuthMethod::ServiceAccount {
            return Err(self.refuse(errand, &ticket, Declined::not_a_person("vote")).await);
        }
        let outcome = self.counted(errand, &ticket, verdict, reason, digest).await;
        self.after(errand, &ticket, outcome).await
    }

    async fn counted(
        &self,
        errand: &Errand,
        ticket: &Ticket,
        verdict: Verdict,
        reason: String,
        digest: String,
    ) -> Result<Result<Ticket, VoteFault>, LedgerFault> {
        let ballot = Ballot {
            voter: errand.person(),
            roles: errand.principal.roles.clone(),
            teams: errand.teams(),
            verdict,
            reason,
            digest,
            at_ms: self.ledger.now_ms().await?,
        };
        self.approvals.vote(&ticket.id, &ballot).await
    }

    /// Takes an approval back before it is used: its requester cancels it, others revoke it.
    pub async fn revoke(self: &Arc<Self>, visit: &Visit, id: &str, cast: Cast) -> Result<Value, Declined> {
        let mut errand = self.admit(visit, "approvals.revoke").await?;
        let (desk, id) = (Arc::clone(self), id.to_owned());
        self.carry(async move {
            let outcome = desk.revoked(&mut errand, &id, cast).await;
            desk.close(errand, outcome).await
        })
        .await
    }

    async fn revoked(&self, errand: &mut Errand, id: &str, cast: Cast) -> Result<Value, Declined> {
        let ticket = self.visible_ticket(errand, id).await?;
        let reason = bounded(cast.reason)?;
        errand.record.concerns(&ticket.subject.tool);
        let says = format!("{} takes back {}", errand.who(), about(&ticket));
        self.intend(errand, Stage::Approval("revoke"), says, json!({"reason": reason, "digest": ticket.digest}))
            .await?;
        if cast.digest.is_some_and(|digest| digest != ticket.digest) {
            return Err(self.refuse(errand, &ticket, Declined::vote(VoteFault::Digest, &ticket)).await);
        }
        let Some(ground) = self.ground(errand, &ticket) else {
            return Err(self.refuse(errand, &ticket, Declined::vote(VoteFault::Standing, &ticket)).await);
        };
        let outcome = self.approvals.take_back(&ticket.id, &errand.person(), ground, &reason).await;
        self.after(errand, &ticket, outcome).await
    }

    /// On what ground somebody may take it back; none when they may not.
    fn ground(&self, errand: &Errand, ticket: &Ticket) -> Option<Ground> {
        if ticket.subject.requester == errand.person() {
            return Some(Ground::Cancelled);
        }
        let person = errand.principal.method != AuthMethod::ServiceAccount;
        (person && (entitled(errand, ticket) || errand.holds(&self.settings.settle))).then_some(Ground::Revoked)
    }

    /// Records what came of a change and shows the approval as it stands.
    async fn after(
        &self,
        errand: &mut Errand,
        ticket: &Ticket,
        outcome: Result<Result<Ticket, VoteFault>, LedgerFault>,
    ) -> Result<Value, Declined> {
        let changed = match outcome {
            Ok(Ok(changed)) => changed,
            Ok(Err(fault)) => {
                let now = self.approvals.ticket(&ticket.id).await.ok().flatten().unwrap_or_else(|| ticket.clone());
                let now = now.at(self.clock.now_ms());
                return Err(self.refuse(errand, &now, Declined::vote(fault, &now)).await);
            }
            Err(fault) => return Err(self.refuse(errand, ticket, Declined::from(fault)).await),
        };
        let stage = view::stage_of(&changed);
        let (agreed, count) = (changed.agreed(), changed.requirement.count);
        let says = match stage {
            "voted" => format!("{} is still pending: {agreed} of {count} agree", about(&changed)),
            stage => format!("{} is {stage}", about(&changed)),
        };
        let data = json!({
            "digest": changed.digest,
            "agreed": agreed,
            "count": count,
            "executeBy": view::moment(changed.execute_by_ms),
        });
        self.conclude(errand, Stage::Approval(stage), says, data).await?;
        Ok(self.view_of(errand, &changed))
    }

    /// Records that a change was refused, and why.
    async fn refuse(&self, errand: &mut Errand, ticket: &Ticket, no: Declined) -> Declined {
        errand.record.declined(no.code, &no.message);
        let says = format!("{} is not changed: {}", about(ticket), no.code);
        match self.conclude(errand, Stage::Approval("refused"), says, json!({"digest": ticket.digest})).await {
            Ok(()) => no,
            Err(unrecorded) => unrecorded,
        }
    }

    /// The approval, if somebody may see it; noted on their record.
    async fn visible_ticket(&self, errand: &mut Errand, id: &str) -> Result<Ticket, Declined> {
        errand.names(id);
        let ticket = self.approvals.ticket(id).await?.filter(|ticket| self.sees(errand, ticket));
        let Some(ticket) = ticket else { return Err(Declined::no_approval()) };
        errand.named.clear();
        let (subject, record) = (&ticket.subject, &mut errand.record);
        record.approved_by(&ticket.id);
        record.workflow(&subject.workflow, &[]);
        if let Some(key) = &subject.idempotency_key {
            record.keyed(key, ticket.consumed_by.as_deref());
        }
        self.join_trace(errand, &ticket.trace_id);
        Ok(ticket)
    }

    fn sees(&self, errand: &Errand, ticket: &Ticket) -> bool {
        ticket.subject.tenant == errand.tenant.as_str()
            && (ticket.subject.requester == errand.person()
                || entitled(errand, ticket)
                || errand.holds(&self.settings.read)
                || errand.holds(&self.settings.settle))
    }

    fn view_of(&self, errand: &Errand, ticket: &Ticket) -> Value {
        let open = ticket.state == State::Pending;
        let unused = matches!(ticket.state, State::Pending | State::Approved) && ticket.consumed_by.is_none();
        let user = &errand.principal.user;
        let may = view::May {
            vote: open
                && entitled(errand, ticket)
                && errand.principal.method != AuthMethod::ServiceAccount
                && ticket.subject.requester.user != *user
                && ticket.ballots.iter().all(|ballot| ballot.voter.user != *user),
            revoke: unused && self.ground(errand, ticket).is_some(),
        };
        view::approval(ticket, &self.settings.link, may)
    }
}

impl Desk {
    /// Carries a change to its end, whether or not anybody waits for it.
    pub(super) async fn carry(
        &self,
        work: impl Future<Output = Result<Value, Declined>> + Send + 'static,
    ) -> Result<Value, Declined> {
        self.carried.through(work).await.unwrap_or_else(|| {
            let message = "what came of it is not known";
            Err(Declined::of(Kind::Unavailable, "outcome_unknown", message, "read it again before you repeat anything"))
        })
    }

    /// The record goes into the trace of what it is about, with a span of its own.
    pub(super) fn join_trace(&self, errand: &mut Errand, trace_id: &str) {
        let span = format!("{:016x}", u128::from_be_bytes(self.clock.random()) >> 64);
        errand.record.traced(trace_id, &span, "");
    }
}

/// Whether policy named somebody of this standing.
fn entitled(errand: &Errand, ticket: &Ticket) -> bool {
    ticket.requirement.entitles(&errand.principal.user, &errand.principal.roles, &errand.teams())
}

/// `apr_1 (loopiq_close_release for ada)`.
fn about(ticket: &Ticket) -> String {
    format!("{} ({} for {})", ticket.id, ticket.subject.tool, ticket.subject.requester.user)
}

fn bounded(reason: String) -> Result<String, Declined> {
    if reason.chars().count() > REASON_CHARS_MAX {
        let message = format!("`reason` is longer than {REASON_CHARS_MAX} characters");
        return Err(Declined::request(message, "say it shorter"));
    }
    Ok(reason)
}
