//! What a call refers to: an approval that people gave, a write that was made earlier.
//!
//! Promises: only what the caller asked for themselves, in the organisation of the call, is found;
//! anything else is as if it did not exist. A ledger that cannot answer is remembered and said only
//! after policy has spoken, so that nobody learns from it what they may not see. Changes nothing.
//! Called by `pep`.

use super::Pep;
use super::asked::Asked;
use super::decide::Standing;
use super::ports::LedgerFault;
use crate::domain::approval::Ticket;
use crate::domain::catalog::Answerer;
use crate::domain::catalog::OwnTool;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Key;
use crate::domain::idempotency::execution_id;
use crate::domain::mcp::ToolCall;
use crate::domain::refusal::Code;
use crate::domain::refusal::Refusal;

/// What a call refers to.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    /// The approval, as it stands now.
    pub(super) ticket: Option<Ticket>,
    /// The write under the call's key, or the one that used the approval.
    pub(super) write: Option<Execution>,
    /// Why neither could be looked for.
    pub(super) fault: Option<LedgerFault>,
}

impl Recalled {
    /// What is wrong with the ledger, once it may be said.
    pub(super) fn available(&self) -> Result<(), Refusal> {
        self.fault.as_ref().map_or(Ok(()), |fault| Err(unavailable(fault)))
    }
}

/// The refusal that a ledger's fault means before anything was sent.
pub(super) fn unavailable(fault: &LedgerFault) -> Refusal {
    Refusal::of(Code::LedgerUnavailable).detail(fault)
}

impl Pep {
    /// Looks up what the call refers to; reads and previews refer to nothing.
    pub(super) async fn recall(&self, standing: &Standing, asked: &Asked, call: &ToolCall) -> Recalled {
        if !refers(standing, asked, call) {
            return Recalled::default();
        }
        match self.look_up(standing, asked).await {
            Ok((ticket, write)) => Recalled { ticket, write, fault: None },
            Err(fault) => Recalled { fault: Some(fault), ..Recalled::default() },
        }
    }

    async fn look_up(
        &self,
        standing: &Standing,
        asked: &Asked,
    ) -> Result<(Option<Ticket>, Option<Execution>), LedgerFault> {
        let key = asked.controls.idempotency_key.as_deref().and_then(|key| Key::parse(key).ok());
        let mut write = match &key {
            Some(key) => self.ledger.find(&execution_id(&standing.tenant, &standing.principal, key)).await?,
            None => None,
        };
        // WHY: a call repeated under the key of an approved write means that write, whether or not
        // the model remembers the approval's id.
        let of_write = || write.as_ref().and_then(|write| write.plan.approval_id.clone());
        let Some(id) = asked.controls.approval_id.clone().or_else(of_write) else { return Ok((None, write)) };
        let ticket = self.approvals.ticket(&id).await?.filter(|ticket| asked_by(ticket, standing));
        let ticket = ticket.map(|ticket| ticket.at(asked.now_ms));
        if let (None, None, Some(used)) = (&write, &key, ticket.as_ref().and_then(|ticket| ticket.consumed_by.as_ref()))
        {
            write = self.ledger.find(used).await?;
        }
        Ok((ticket, write))
    }
}

/// Whether an approval was asked for by this caller, in this organisation.
pub(super) fn asked_by(ticket: &Ticket, standing: &Standing) -> bool {
    let (subject, principal) = (&ticket.subject, &standing.principal);
    subject.tenant == standing.tenant.as_str()
        && subject.requester.issuer == principal.issuer
        && subject.requester.user == principal.user
}

/// Whether the call can refer to an approval or a write at all.
fn refers(standing: &Standing, asked: &Asked, call: &ToolCall) -> bool {
    let named = asked.controls.approval_id.is_some() || asked.controls.idempotency_key.is_some();
    if !named || asked.controls.dry_run {
        return false;
    }
    let own = |own| standing.rules.catalog.tool(&call.name).is_some_and(|tool| tool.answerer == Answerer::Gateway(own));
    own(OwnTool::ExecuteApproved)
        || own(OwnTool::GetAction)
        || standing.rules.catalog.resolve(call).is_ok_and(|target| target.tool.writes())
}
