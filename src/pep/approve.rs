//! preview, approve: a permit for what may be done now, or the question to people.
//!
//! Promises: what needs approval is previewed before anyone is asked, and asked about whole; an
//! approval is good for exactly what was shown, compared again just before it is used, and every
//! difference is named; a request for approval that cannot be recorded is taken back. Never counts
//! a vote and never sends the write itself. Called by `pep`.

mod card;
mod elicit;
mod preview;

pub use card::card;
pub(super) use elicit::Question;
pub(super) use elicit::holder;

use serde_json::json;

use self::preview::Foreseen;
use super::Pep;
use super::asked::Asked;
use super::asked::fresh_id;
use super::decide::Standing;
use super::decide::input;
use super::decide::no_such;
use super::ports::Action;
use super::recall::Recalled;
use super::recall::unavailable;
use crate::domain::approval::Change;
use crate::domain::approval::Ground;
use crate::domain::approval::Person;
use crate::domain::approval::Requirement;
use crate::domain::approval::State;
use crate::domain::approval::Subject;
use crate::domain::approval::Ticket;
use crate::domain::approval::Unusable;
use crate::domain::approval::drift;
use crate::domain::audit::record::Stage as Written;
use crate::domain::canonical::NotCanonical;
use crate::domain::catalog::Target;
use crate::domain::idempotency::State as Made;
use crate::domain::pdp::Input;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ruling::Permit;
use crate::domain::pdp::ruling::Ruling;
use crate::domain::refusal::Code;
use crate::domain::refusal::No;
use crate::domain::refusal::Reason;
use crate::domain::refusal::Refusal;

impl Pep {
    /// A permit, or the no that the ruling means.
    pub(super) async fn approve(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        ruling: Ruling,
        target: Target,
        recalled: &mut Recalled,
    ) -> Result<Permit<Action>, No> {
        if let Some(no) = self.no_answer(&ruling) {
            return Err(no);
        }
        if !ruling.sees(&target.tool.name) {
            return Err(no_such(&target.tool.name, target.via.is_some()));
        }
        asked.best_effort = target.tool.best_effort_audit;
        let dry_run = asked.controls.dry_run;
        let action =
            Action { tenant: standing.tenant.clone(), tool: target.tool, arguments: target.arguments, dry_run };
        let ruling = self.honour(standing, asked, ruling, &action, recalled)?;
        self.charge(standing, &ruling, &action.tool.name).await?;
        match ruling.outcome() {
            Outcome::Deny => Err(denied(&ruling)),
            Outcome::Pending => Err(self.wait(standing, asked, &ruling, &action, recalled).await?.into()),
            Outcome::Allow => {
                let permit = ruling.into_permit(action).map_err(|ruling| denied(&ruling))?;
                if permit.action().tool.writes() && !dry_run {
                    self.hold(standing, asked, &permit, recalled).await?;
                }
                Ok(permit)
            }
        }
    }

    /// Policy asks for people, and LoopIQ has asked them: its signed approval becomes a ticket, and
    /// policy is asked again with it.
    fn honour(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        ruling: Ruling,
        action: &Action,
        recalled: &mut Recalled,
    ) -> Result<Ruling, No> {
        let Some(signed) = recalled.signed.take_if(|_| recalled.ticket.is_none()) else { return Ok(ruling) };
        if ruling.outcome() != Outcome::Pending {
            return Ok(ruling);
        }
        let requirement = Requirement::among(ruling.obligations())
            .ok_or_else(|| Refusal::of(Code::PolicyUnavailable).detail("pending without a requirement"))?;
        let shown_elsewhere = Foreseen::elsewhere(action)?;
        let subject = Self::subject(standing, asked, action, &requirement, shown_elsewhere);
        let (request, trace) = (asked.request_id.clone(), asked.trace.trace_id.clone());
        let ticket = signed
            .ticket(subject, requirement, ruling.reasons().to_vec(), &request, &trace)
            .map_err(|cause| not_issued_for_this(&signed.id, cause))?
            .at(asked.now_ms);
        asked.under(&ticket);
        let input = Input {
            tool: standing.rules.facts.get(&action.tool.name).cloned(),
            arguments: action.arguments.clone(),
            approval: Some(ticket.facts()),
            facts: asked.facts.clone(),
            ..input(Phase::Call, standing, asked)
        };
        recalled.ticket = Some(ticket);
        Ok(self.rule(&standing.rules, asked, &input))
    }

    /// Policy asks for people: the refusal that says where their approval stands, asked for now if it was not.
    async fn wait(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        ruling: &Ruling,
        action: &Action,
        recalled: &Recalled,
    ) -> Result<Refusal, No> {
        recalled.available()?;
        let Some(ticket) = &recalled.ticket else {
            if let Some(id) = &asked.controls.approval_id {
                return Ok(no_such_approval(id));
            }
            return self.ask(standing, asked, ruling, action).await;
        };
        asked.under(ticket);
        same_call(ticket, action, asked)?;
        self.put(standing, asked, ticket).await?;
        if let Err(refusal) = usable(ticket, &self.settings.approvals_link) {
            return Ok(refusal);
        }
        // WHY: enough people agreed under the rules of then, and today's rules want more.
        let asks = Requirement::among(ruling.obligations()).map(|now| now.words()).unwrap_or_default();
        let message = format!("policy now asks for more than was given: {asks}");
        Ok(Refusal::of(Code::ApprovalMismatch)
            .with_reasons(vec![Reason::new("requirement", message, Code::ApprovalMismatch.next())])
            .with("approvalId", ticket.id.clone())
            .with("changes", json!([{"field": "/requirement", "was": ticket.requirement, "is": asks}])))
    }

    /// Previews, stores the question and says what the caller can tell people.
    async fn ask(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        ruling: &Ruling,
        action: &Action,
    ) -> Result<Refusal, No> {
        let requirement = Requirement::among(ruling.obligations())
            .ok_or_else(|| Refusal::of(Code::PolicyUnavailable).detail("pending without a requirement"))?;
        let foreseen = self.foresee(standing, asked, action, requirement.preview).await?;
        let subject = Self::subject(standing, asked, action, &requirement, foreseen);
        let ticket = Ticket {
            id: format!("apr_{}", fresh_id(asked.now_ms, self.clock.random())),
            digest: subject.digest().map_err(|cause| unsafe_number(&cause))?,
            requirement,
            reasons: ruling.reasons().to_vec(),
            asked_ms: asked.now_ms,
            request_id: asked.request_id.clone(),
            trace_id: asked.trace.trace_id.clone(),
            state: State::Pending,
            ended: None,
            ballots: Vec::new(),
            execute_by_ms: None,
            consumed_by: None,
            subject,
        };
        let stored = self.approvals.ask(&ticket).await.map_err(|fault| unavailable(&fault))?;
        asked.under(&stored);
        let link = &self.settings.approvals_link;
        if stored.id == ticket.id {
            self.announce(asked, &stored).await?;
        }
        self.put(standing, asked, &stored).await?;
        if stored.id == ticket.id {
            return Ok(required(&stored, Code::ApprovalRequired, link));
        }
        Ok(match usable(&stored, link) {
            Err(refusal) => refusal,
            Ok(()) => required(&stored, Code::ApprovalRequired, link)
                .then(format!("people have agreed: call again with `approvalId` {}", stored.id)),
        })
    }

    /// The question is in the journal before anyone hears of it. Of the preview only its digest: it may
    /// repeat arguments that the journal must not keep.
    async fn announce(&self, asked: &mut Asked, ticket: &Ticket) -> Result<(), Refusal> {
        let record = asked
            .record
            .stage(Written::Approval("requested"), self.clock.now_ms())
            .with("digest", ticket.digest.clone())
            .with("approveByMs", ticket.subject.approve_by_ms)
            .with("requirement", serde_json::to_value(&ticket.requirement).unwrap_or_default())
            .with("previewDigest", ticket.subject.preview_digest.clone())
            .with("recordVersion", ticket.subject.record_version.clone());
        let Err(fault) = self.journal.append(record).await else { return Ok(()) };
        let by = ticket.subject.requester.clone();
        // Whatever comes of it, the caller is told that nothing was asked; the ticket lapses by itself.
        drop(self.approvals.take_back(&ticket.id, &by, Ground::Cancelled, "it could not be recorded").await);
        Err(Refusal::of(Code::AuditUnavailable).detail(fault))
    }

    /// The approval that a permitted write names is good for it, now.
    async fn hold(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        permit: &Permit<Action>,
        recalled: &Recalled,
    ) -> Result<(), No> {
        recalled.available()?;
        let Some(ticket) = &recalled.ticket else {
            return match &asked.controls.approval_id {
                Some(id) => Err(no_such_approval(id).into()),
                None => Ok(()),
            };
        };
        asked.under(ticket);
        same_call(ticket, permit.action(), asked)?;
        // WHY: what was made is not compared with the world it has changed; `remember` gives its first
        // answer again, or says that the approval is spent. It may have been made under another
        // approval, when a delayed copy of the call asked anew.
        let made =
            ticket.consumed_by.is_some() || recalled.write.as_ref().is_some_and(|write| write.state != Made::Reserved);
        if !made {
            usable(ticket, &self.settings.approvals_link)?;
        }
        // WHY: what LoopIQ asked people about, the gateway has not previewed; LoopIQ answers for it.
        if !made
            && !ticket.subject.is_issued()
            && let Err(no) = self.compare(standing, asked, permit.action(), ticket).await
        {
            // WHY: the world may differ because a twin of this call has made the write meanwhile.
            let now = self.approvals.ticket(&ticket.id).await.map_err(|fault| unavailable(&fault))?;
            if now.is_none_or(|now| now.consumed_by.is_none()) {
                return Err(no);
            }
        }
        asked.if_match.clone_from(&ticket.subject.record_version);
        asked.approved_by = Some(ticket.id.clone());
        Ok(())
    }

    /// Previews again: the world is as it was when people agreed.
    async fn compare(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        action: &Action,
        ticket: &Ticket,
    ) -> Result<(), No> {
        let foreseen = self.foresee(standing, asked, action, ticket.requirement.preview).await?;
        let now = Self::subject(standing, asked, action, &ticket.requirement, foreseen);
        // `same_call` has looked at the key; one that was not asked for with is no difference.
        let now = Subject { idempotency_key: ticket.subject.idempotency_key.clone(), ..now };
        let changes = drift(&ticket.subject, &now).map_err(|cause| unsafe_number(&cause))?;
        if changes.is_empty() { Ok(()) } else { Err(drifted(ticket, &changes).into()) }
    }

    /// Everything that an approval of this call covers.
    fn subject(
        standing: &Standing,
        asked: &Asked,
        action: &Action,
        requirement: &Requirement,
        foreseen: Foreseen,
    ) -> Subject {
        let principal = &standing.principal;
        let within_ms = i64::try_from(requirement.approve_by_s).unwrap_or(i64::MAX).saturating_mul(1000);
        Subject {
            v: 1,
            tenant: standing.tenant.as_str().to_owned(),
            requester: Person { issuer: principal.issuer.clone(), user: principal.user.clone() },
            client: principal.client.clone().unwrap_or_default(),
            workflow: asked.controls.workflow.clone().unwrap_or_default(),
            idempotency_key: asked.controls.idempotency_key.clone(),
            tool: action.tool.name.clone(),
            definition: action.tool.digest.clone(),
            route: action.tool.route_text(),
            arguments: action.arguments.clone(),
            request: foreseen.request,
            preview: foreseen.preview,
            preview_digest: foreseen.preview_digest,
            preview_by: foreseen.preview_by,
            record_version: foreseen.record_version,
            policy_bundle: standing.rules.pdp.bundle_digest().to_owned(),
            policy_data: standing.rules.pdp.data_digest().to_owned(),
            approve_by_ms: asked.now_ms.saturating_add(within_ms),
            execute_within_s: requirement.execute_within_s,
        }
    }
}

/// A ruling that is neither a yes nor a question to people.
fn denied(ruling: &Ruling) -> No {
    Refusal::of(Code::PolicyDenied).with_reasons(ruling.reasons().to_vec()).detail(ruling.detail()).into()
}

fn unsafe_number(cause: &NotCanonical) -> Refusal {
    Refusal::because(Code::InvalidArguments, "a number cannot be carried exactly; send it as a string").detail(cause)
}

/// The answer to an approval that does not exist, and to one that somebody else asked for.
pub(super) fn no_such_approval(id: &str) -> Refusal {
    let next = "use the `approvalId` of your own `approval_required` answer, or leave it out to ask anew";
    Refusal::because(Code::ApprovalMismatch, "no approval of that id was asked for by you in this organisation")
        .then(next)
        .with("approvalId", id)
        .with("approvalKnown", false)
}

/// A signed approval of something else, or of too few.
fn not_issued_for_this(id: &str, cause: Unusable) -> Refusal {
    let message = match cause {
        Unusable::Pending => "the signed approval carries too few votes of people whom policy names",
        _ => "the signed approval is for another action, person or organisation",
    };
    Refusal::because(Code::ApprovalMismatch, message).with("approvalId", id).detail(cause)
}

/// The call is the one that was asked about, as far as the caller chooses it.
///
/// What follows from the world, and not from the caller, is compared by [`drift`].
fn same_call(ticket: &Ticket, action: &Action, asked: &mut Asked) -> Result<(), Refusal> {
    let subject = &ticket.subject;
    if asked.controls.idempotency_key.is_none() {
        asked.controls.idempotency_key.clone_from(&subject.idempotency_key);
    }
    let now = Subject {
        tool: action.tool.name.clone(),
        arguments: action.arguments.clone(),
        workflow: asked.controls.workflow.clone().unwrap_or_default(),
        // WHY: an approval asked for without a key may be used under any, once.
        idempotency_key: subject.idempotency_key.as_ref().and(asked.controls.idempotency_key.clone()),
        ..subject.clone()
    };
    let changes = drift(subject, &now).map_err(|cause| unsafe_number(&cause))?;
    if changes.is_empty() { Ok(()) } else { Err(drifted(ticket, &changes)) }
}

/// What keeps an approval from being used now.
fn usable(ticket: &Ticket, link: &str) -> Result<(), Refusal> {
    let of = |code: Code| required(ticket, code, link);
    match ticket.state {
        State::Approved => Ok(()),
        State::Pending => Err(of(Code::ApprovalPending).with("retryAfterMs", 5_000)),
        State::Executed | State::Failed => Err(of(Code::ApprovalSpent)),
        State::Rejected => {
            let ending = ticket.ended.as_ref();
            if ending.is_some_and(|ending| ending.ground == Ground::Expired) {
                return Err(of(Code::ApprovalExpired));
            }
            let why = ending.map_or_else(String::new, |ending| ending.reason.clone());
            let by = ending.and_then(|ending| ending.by.as_ref()).map_or("nobody", |by| by.user.as_str());
            let message = format!("`{by}` ended the approval: {}", crate::domain::catalog::text::plain(&why, 500));
            let reason = Reason::new(Code::ApprovalRejected.as_str(), message, Code::ApprovalRejected.next());
            Err(of(Code::ApprovalRejected).with_reasons(vec![reason]))
        }
    }
}

/// A refusal with all that the caller needs to tell people, and to come back.
fn required(ticket: &Ticket, code: Code, link: &str) -> Refusal {
    let refusal = Refusal::of(code);
    let refusal = if code == Code::ApprovalRequired && !ticket.reasons.is_empty() {
        refusal.with_reasons(ticket.reasons.clone())
    } else {
        refusal
    };
    let refusal = match code {
        Code::ApprovalRequired | Code::ApprovalPending => refusal.then(format!(
            "ask them ({}) to decide about `{}`; then call again with `approvalId` {}, or ask `loopiq_get_action`",
            ticket.requirement.words(),
            ticket.id,
            ticket.id
        )),
        _ => refusal,
    };
    refusal.with("approvalId", ticket.id.clone()).with("approval", card(ticket, link))
}

/// What was approved is not what would be done.
fn drifted(ticket: &Ticket, changes: &[Change]) -> Refusal {
    let of_world = |change: &Change| change.field.starts_with("/preview") || change.field == "/recordVersion";
    let code = if changes.iter().all(of_world) { Code::PreviewDrift } else { Code::ApprovalMismatch };
    // WHY by name alone: reasons are written down, and the values, of arguments that the journal must
    // not keep or of a preview, are not; the caller finds them in `changes`.
    let reasons = changes
        .iter()
        .map(|change| Reason::new("changed", format!("`{}` is not as it was approved", change.field), code.next()))
        .collect();
    Refusal::of(code)
        .with_reasons(reasons)
        .with("approvalId", ticket.id.clone())
        .with("changes", serde_json::to_value(changes).unwrap_or_default())
}
