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
use crate::domain::identity::approval_token::SignedApproval;
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
    /// An approval that LoopIQ signed and that has not been used here.
    pub(super) signed: Option<SignedApproval>,
    /// Why none of it could be looked for, or believed.
    pub(super) fault: Option<Refusal>,
}

impl Recalled {
    /// What is wrong with the ledger, once it may be said.
    pub(super) fn available(&self) -> Result<(), Refusal> {
        self.fault.clone().map_or(Ok(()), Err)
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
        let signed = match self.signed(asked).await {
            Ok(signed) => signed,
            Err(fault) => return Recalled { fault: Some(fault), ..Recalled::default() },
        };
        match self.look_up(standing, asked, signed.as_ref()).await {
            Ok((ticket, write)) => Recalled { ticket, write, signed, fault: None },
            Err(fault) => Recalled { fault: Some(unavailable(&fault)), ..Recalled::default() },
        }
    }

    /// The approval that LoopIQ signed, if one came with the call. Its name here is its own, so that
    /// one that also names another approval contradicts itself.
    async fn signed(&self, asked: &Asked) -> Result<Option<SignedApproval>, Refusal> {
        let Some(token) = &asked.controls.approval_token else { return Ok(None) };
        let found = self.keys.approval(token.as_str(), self.ledger.name(), asked.now_ms.div_euclid(1000)).await;
        let signed = found.map_err(|fault| {
            let ours = fault.is_ours();
            let code = if ours { Code::LedgerUnavailable } else { Code::ApprovalMismatch };
            let refusal = Refusal::because(code, "the signed approval cannot be believed").detail(fault);
            if ours { refusal } else { refusal.then("have LoopIQ sign a new approval, for this gateway's ledger") }
        })?;
        match &asked.controls.approval_id {
            Some(named) if *named != signed.id => {
                Err(Refusal::because(Code::ApprovalMismatch, "`approvalId` names another approval than the signed one"))
            }
            _ => Ok(Some(signed)),
        }
    }

    async fn look_up(
        &self,
        standing: &Standing,
        asked: &Asked,
        signed: Option<&SignedApproval>,
    ) -> Result<(Option<Ticket>, Option<Execution>), LedgerFault> {
        let key = asked.controls.idempotency_key.as_deref().and_then(|key| Key::parse(key).ok());
        let mut write = match &key {
            Some(key) => self.ledger.find(&execution_id(&standing.tenant, &standing.principal, key)).await?,
            None => None,
        };
        // WHY: a call repeated under the key of an approved write means that write, whether or not
        // the model remembers the approval's id.
        let of_write = || write.as_ref().and_then(|write| write.plan.approval_id.clone());
        let named = signed.map(|signed| signed.id.clone()).or_else(|| asked.controls.approval_id.clone());
        let Some(id) = named.or_else(of_write) else { return Ok((None, write)) };
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
    let controls = &asked.controls;
    let named =
        controls.approval_id.is_some() || controls.approval_token.is_some() || controls.idempotency_key.is_some();
    if !named || asked.controls.dry_run {
        return false;
    }
    let own = |own| standing.rules.catalog.tool(&call.name).is_some_and(|tool| tool.answerer == Answerer::Gateway(own));
    own(OwnTool::ExecuteApproved)
        || own(OwnTool::GetAction)
        || standing.rules.catalog.resolve(call).is_ok_and(|target| target.tool.writes())
}
