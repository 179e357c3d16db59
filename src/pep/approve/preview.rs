//! What a write would do, found out without doing it.
//!
//! Promises: the backend's own dry run where the catalog says it has one, else the exact request;
//! policy is asked about the dry run like about any other, and it is sent under that permit; what
//! the caller must not see is hidden before anyone is shown it; nothing is created. Called by
//! `approve`, when people are asked and again just before their approval is used.

use serde_json::Value;
use serde_json::json;

use super::Pep;
use crate::domain::approval::PreviewBy;
use crate::domain::canonical;
use crate::domain::pdp::Input;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ruling::Permit;
use crate::domain::refusal::Code;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;
use crate::pep::act::Outcomes;
use crate::pep::act::says_dry_run;
use crate::pep::asked::Asked;
use crate::pep::decide::Standing;
use crate::pep::decide::input;
use crate::pep::once::unknown;
use crate::pep::ports::Action;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;
use crate::pep::unsent::unsent;

/// What would happen.
pub(super) struct Foreseen {
    /// The exact request.
    pub(super) request: Value,
    /// The effect, as the caller may see it.
    pub(super) preview: Value,
    /// SHA-256 (hex) of the effect before anything was hidden.
    pub(super) preview_digest: String,
    /// Who worked it out.
    pub(super) preview_by: PreviewBy,
    /// The version of the record that it is about.
    pub(super) record_version: Option<String>,
}

impl Foreseen {
    /// What LoopIQ asked people about itself: the exact request is all that is known here.
    pub(super) fn elsewhere(action: &Action) -> Result<Self, Refusal> {
        let request = request(action)?;
        let preview_digest = canonical::digest_value(&request).map_err(|cause| super::unsafe_number(&cause))?;
        Ok(Self { request, preview: Value::Null, preview_digest, preview_by: PreviewBy::None, record_version: None })
    }
}

/// The exact request that a call makes.
fn request(action: &Action) -> Result<Value, Refusal> {
    let real = action.tool.request(&action.arguments, false)?;
    Ok(json!({"method": real.method, "path": real.path_and_query, "body": body(real.body.as_deref())}))
}

impl Pep {
    /// Finds out what a write would do. Without `wanted`, the exact request is all that is shown.
    pub(super) async fn foresee(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        action: &Action,
        wanted: bool,
    ) -> Result<Foreseen, No> {
        let permit = self.permit_to_try(standing, asked, action)?;
        // WHY: the version is read before the effect is worked out, so that a change in between shows.
        let record_version = self.record_version(standing, asked, &permit).await?;
        let request = request(action)?;
        let foreseen = |preview: Value, preview_digest, preview_by| {
            Ok(Foreseen { request: request.clone(), preview, preview_digest, preview_by, record_version })
        };
        if !wanted || action.tool.dry_run.is_none() {
            let digest = canonical::digest_value(&request).map_err(|cause| super::unsafe_number(&cause))?;
            return foreseen(Value::Null, digest, PreviewBy::Gateway);
        }
        // WHY: only the backend's word keeps a dry run from being a write, so it is recorded as one.
        asked.record.dry_run(true);
        let intended = self.write_intent(asked).await;
        asked.record.dry_run(false);
        intended?;
        let outcome = self.forward_try(standing, asked, &permit).await?;
        let (preview, digest) = self.inspect_try(standing, asked, &permit, &outcome)?;
        foreseen(preview, digest, PreviewBy::Backend)
    }

    /// Policy's leave to try it out.
    fn permit_to_try(&self, standing: &Standing, asked: &mut Asked, action: &Action) -> Result<Permit<Action>, No> {
        let attempt = Action { dry_run: true, ..action.clone() };
        let workflow = asked.controls.workflow.clone().unwrap_or_default();
        let input = Input {
            tool: standing.rules.facts.get(&attempt.tool.name).cloned(),
            arguments: attempt.arguments.clone(),
            dry_run: true,
            facts: self.facts.recall(standing.tenant.as_str(), &standing.principal, &workflow),
            ..input(Phase::Call, standing, asked)
        };
        let ruling = self.rule_aside(&standing.rules, asked, &input);
        if let Some(no) = self.no_answer(&ruling) {
            return Err(no);
        }
        ruling.into_permit(attempt).map_err(|ruling| super::denied(&ruling))
    }

    /// The `ETag` of the record that the call is about.
    async fn record_version(
        &self,
        standing: &Standing,
        asked: &Asked,
        permit: &Permit<Action>,
    ) -> Result<Option<String>, No> {
        let action = permit.action();
        let Some(request) = action.tool.version_request(&action.arguments)? else { return Ok(None) };
        let outbound = self.outbound(standing, asked, action, request, None).await?;
        let answer = self
            .backend
            .send(permit, outbound)
            .await
            .map_err(|fault| unanswered(&fault, "the record's version could not be read"))?;
        let unread = |detail: String| {
            Refusal::because(Code::BackendRejected, "the record's version could not be read").detail(detail)
        };
        if !(200..300).contains(&answer.status) {
            crate::domain::inspect::judge(&action.tool, answer.status, answer.retry_after.as_deref(), &answer.body)?;
            return Err(unread(format!("status {}", answer.status)).into());
        }
        // WHY: a catalog that promises a version and a backend that gives none leave a hole where
        // changes would go unseen.
        answer.etag.map(Some).ok_or_else(|| unread("no ETag".to_owned()).into())
    }

    async fn forward_try(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        permit: &Permit<Action>,
    ) -> Result<Outcomes, No> {
        let action = permit.action();
        let request = action.tool.request(&action.arguments, true)?;
        let outbound = self.outbound(standing, asked, action, request, None).await?;
        let answer = self
            .backend
            .send(permit, outbound)
            .await
            .map_err(|fault| unanswered(&fault, "what the call would do could not be found out"))?;
        crate::domain::inspect::judge(&action.tool, answer.status, answer.retry_after.as_deref(), &answer.body)?;
        Ok(Outcomes::Backend(answer))
    }

    /// The preview as it may be shown, and the digest of it before anything was hidden.
    fn inspect_try(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        permit: &Permit<Action>,
        outcome: &Outcomes,
    ) -> Result<(Value, String), No> {
        let mut inspected = self.examine_try(permit.action(), outcome)?;
        if !says_dry_run(&inspected) {
            return Err(unknown(asked, "the answer to a dry run does not say `dryRun: true`").into());
        }
        let digest = canonical::digest_value(&inspected.value).map_err(|cause| super::unsafe_number(&cause))?;
        let hide = self.judge_response(standing, permit, asked, outcome, &inspected)?;
        inspected.redact(&permit.action().tool, &hide)?;
        Ok((inspected.value, digest))
    }
}

/// The backend was not heard: too busy to be asked, or away.
fn unanswered(fault: &SendFault, message: &str) -> Refusal {
    match fault.kind {
        SendFaultKind::Overloaded { .. } => unsent(fault),
        _ => Refusal::because(Code::BackendUnavailable, message).detail(fault),
    }
}

fn body(bytes: Option<&[u8]>) -> Value {
    bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default()
}
