//! receive, authenticate, resolve tenant: from bytes to who asks what for whom.
//!
//! Promises: a stranger learns nothing beyond how to get a credential; a token is looked at before
//! a body is read. Never decides what a caller may do. Called by `pep`.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::Pep;
use super::arrival::Answer;
use super::arrival::Arrival;
use super::arrival::Turned;
use super::asked::Asked;
use super::asked::Known;
use super::asked::Reply;
use super::decide::Standing;
use crate::domain::identity;
use crate::domain::identity::ClientCertificate;
use crate::domain::identity::Principal;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::metadata;
use crate::domain::identity::shown;
use crate::domain::identity::shown::Shown;
use crate::domain::mcp;
use crate::domain::mcp::Head;
use crate::domain::mcp::Message;
use crate::domain::mcp::Notification;
use crate::domain::refusal::Fault;
use crate::domain::refusal::No;
use crate::metrics::Stage;

impl Pep {
    /// Documents that anyone may read, and paths where nothing is.
    pub(super) fn document(&self, head: &Head) -> Option<Answer> {
        let content = match head.path.trim_end_matches('/') {
            "" | "/mcp" => return None,
            metadata::DOCUMENT_PATH | "/.well-known/oauth-protected-resource/mcp" => metadata::protected_resource(
                &self.settings.resource,
                &self.settings.issuers,
                &self.settings.scopes,
                "LoopIQ through loopgate",
            ),
            "/.well-known/jwks.json" => self.propagation.signers.jwks(self.clock.now_ms().div_euclid(1000)),
            _ => return Some(Answer::empty(404)),
        };
        Some(match head.method.as_str() {
            "GET" | "HEAD" => {
                Answer::json(200, content.to_string().into_bytes()).with("access-control-allow-origin", "*")
            }
            _ => Answer::empty(405).with("allow", "GET"),
        })
    }

    /// Where the RFC 9728 document of this gateway is.
    pub(super) fn resource_metadata_url(&self) -> String {
        metadata::document_url(&self.settings.resource)
    }

    /// Origin, host and method.
    pub(super) fn receive_head(&self, arrival: &Arrival) -> Result<(), No> {
        Ok(mcp::receive::receive_head(&arrival.head, &self.settings.door).inspect_err(|fault| {
            self.metrics.door_refused.with_label_values(&[Turned::of(fault).as_str()]).inc();
        })?)
    }

    /// Whether `receive_head` and `authenticate` let this head pass. Notes and counts nothing: they will.
    pub(super) async fn knows(&self, head: &Head, certificate: Option<&ClientCertificate>) -> bool {
        mcp::receive::receive_head(head, &self.settings.door).is_ok()
            && self.identified(head, certificate, self.clock.now_ms()).await.is_ok()
    }

    pub(super) async fn identified(
        &self,
        head: &Head,
        certificate: Option<&ClientCertificate>,
        now_ms: i64,
    ) -> Result<Arc<Principal>, AuthFault> {
        let all = |name| head.all(name).collect();
        let shown = Shown {
            authorization: all("authorization"),
            user: all(shown::USER_HEADER),
            tenant: all(shown::TENANT_HEADER),
            roles: all(shown::ROLES_HEADER),
            teams: all(shown::TEAMS_HEADER),
            certificate,
        };
        self.keys.identify(&shown, now_ms.div_euclid(1000)).await
    }

    /// Credential to principal.
    pub(super) async fn authenticate(&self, arrival: &Arrival, asked: &mut Asked) -> Result<Arc<Principal>, No> {
        let started = Instant::now();
        let found = self.identified(&arrival.head, arrival.certificate.as_deref(), asked.now_ms).await;
        asked.took(&self.metrics, Stage::Authenticate, started);
        let principal = found.map_err(|fault| {
            self.metrics.credentials_refused.with_label_values(&[fault.cause()]).inc();
            if fault.is_ours() {
                No::Fault(Fault::new(503, -32603, "tokens cannot be verified at the moment; try again later"))
            } else {
                No::Challenge(fault.challenge(self.settings.scopes.clone()))
            }
        })?;
        asked.known = Known::Caller;
        asked.principal = Some(Arc::clone(&principal));
        asked.record.caller(&principal, None);
        asked.tell("user", principal.user.clone());
        Ok(principal)
    }

    /// The body: one well-formed message.
    pub(super) fn receive_body(&self, arrival: &Arrival, asked: &mut Asked) -> Result<Message, No> {
        let started = Instant::now();
        let read = match &arrival.body {
            Ok(body) => mcp::receive::receive(&arrival.head, body, &self.settings.json),
            Err(fault) => {
                let causes = fault.turned().into_iter();
                causes.for_each(|cause| self.metrics.door_refused.with_label_values(&[cause.as_str()]).inc());
                Err((fault.fault(), None))
            }
        };
        asked.took(&self.metrics, Stage::Receive, started);
        let message = read.map_err(|(fault, id)| {
            asked.id = id;
            fault
        })?;
        if let Message::Request(request) = &message {
            asked.read(request, &arrival.head);
        }
        Ok(message)
    }

    /// A notification needs no answer; one kind of it has an effect.
    pub(super) fn notified(&self, principal: &Principal, notification: &Notification) -> Reply {
        if let Notification::Cancelled { request_id } = notification {
            self.in_flight.cancel(principal, request_id);
        }
        Reply::Accepted
    }

    /// Principal to tenant, within the rates of both; from here on one snapshot of the rules decides.
    pub(super) async fn resolve_tenant(
        &self,
        arrival: &Arrival,
        principal: &Arc<Principal>,
        asked: &mut Asked,
    ) -> Result<Standing, No> {
        let started = Instant::now();
        let mut named = arrival.head.all("x-loopiq-tenant");
        let (header, second) = (named.next(), named.next());
        // WHY: two headers are two choices; taking the first would let a proxy and us disagree.
        let header = if second.is_some() { Some("") } else { header };
        let tenant = identity::resolve_tenant(principal, header, asked.controls.tenant_meta.as_deref())?;
        asked.record.caller(principal, Some(&tenant));
        asked.tell("tenant", tenant.as_str());
        asked.took(&self.metrics, Stage::ResolveTenant, started);
        self.admit(tenant.as_str(), principal, asked).await?;
        let rules = self.rules_for(&tenant, principal)?;
        Ok(Standing { principal: Arc::clone(principal), tenant, rules })
    }
}

/// The body of a 401 or 403; the challenge itself is in the header.
pub(super) fn challenge_body(code: &str) -> Vec<u8> {
    json!({"error": code}).to_string().into_bytes()
}
