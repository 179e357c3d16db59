//! What is added to a route request on its way to a backend: ids, tenant, user, credential.
//!
//! Promises: nothing of the client's but validated values; the client's token is not among the
//! inputs, so it cannot get out; no credential, no request. Never sends. Called by `pep`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::ports::CredentialFault;
use super::ports::Credentials;
use super::ports::Outbound;
use super::ports::Subject;
use super::signers::Signers;
use crate::domain::catalog::RouteRequest;
use crate::domain::identity::assertion::ASSERTION_LIFETIME_S;
use crate::domain::identity::assertion::Assertion;
use crate::domain::identity::assertion::mint_assertion;
use crate::domain::mcp::trace::TraceContext;
use crate::domain::refusal::Code;
use crate::domain::refusal::Refusal;

/// How callers are proven to backends, by backend name.
pub struct Propagation {
    /// `iss` of assertions.
    pub issuer: String,
    /// Sign assertions.
    pub signers: Arc<Signers>,
    /// How, for each backend.
    pub backends: BTreeMap<String, Proof>,
    /// Gives the tokens of [`Proof::Exchange`].
    pub exchange: Arc<dyn Credentials>,
}

/// Where nothing is exchanged.
#[derive(Debug, Clone, Copy)]
pub struct NoExchange;

#[async_trait]
impl Credentials for NoExchange {
    async fn token(&self, backend: &str, _subject: &Subject, _now_s: i64) -> Result<String, CredentialFault> {
        Err(CredentialFault::Unavailable(format!("no token service is set for `{backend}`")))
    }
}

/// How a caller is proven to one backend.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A short-lived JWT signed by the gateway.
    Assertion {
        /// Its `aud`.
        audience: String,
        /// How long it is good.
        lifetime: Duration,
    },
    /// A token that a token service gives for the gateway's assertion (RFC 8693).
    Exchange {
        /// `aud` of that assertion: the token service.
        audience: String,
    },
    /// A service credential.
    Static(String),
    /// None: an upstream server that wants none, or whose own adapter shows a service credential.
    Nothing,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Assertion { audience, lifetime } => write!(f, "Assertion({audience}, {lifetime:?})"),
            Self::Nothing => f.write_str("Nothing"),
            Self::Exchange { audience } => write!(f, "Exchange({audience})"),
            Self::Static(_) => f.write_str("Static(***)"),
        }
    }
}

/// The ids of one call.
#[derive(Debug, Clone)]
pub(super) struct CallIds<'a> {
    pub(super) request_id: &'a str,
    pub(super) decision_id: &'a str,
    pub(super) workflow: Option<&'a str>,
    pub(super) approval_id: Option<&'a str>,
    pub(super) idempotency_key: Option<&'a str>,
    pub(super) if_match: Option<&'a str>,
    pub(super) trace: &'a TraceContext,
}

/// Who a backend is told that the caller is.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallerProof<'a> {
    pub(super) issuer: &'a str,
    pub(super) user: &'a str,
    pub(super) roles: &'a [String],
}

impl Propagation {
    /// The request in its final form.
    pub(super) async fn outbound(
        &self,
        request: RouteRequest,
        tenant: &str,
        caller: CallerProof<'_>,
        ids: &CallIds<'_>,
        now_s: i64,
    ) -> Result<Outbound, Refusal> {
        let credential = self.credential(&request.backend, tenant, caller, ids, now_s).await?;
        let mut headers = vec![
            ("X-Request-Id", ids.request_id.to_owned()),
            ("traceparent", ids.trace.traceparent()),
            ("X-LoopIQ-Tenant", tenant.to_owned()),
            ("X-LoopIQ-User", caller.user.to_owned()),
        ];
        let optional = [
            ("Authorization", credential.as_deref()),
            ("tracestate", ids.trace.tracestate.as_deref()),
            ("X-LoopIQ-Workflow", ids.workflow),
            ("X-LoopIQ-Approval-Id", ids.approval_id),
            ("Idempotency-Key", ids.idempotency_key),
            ("If-Match", ids.if_match),
        ];
        headers.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))));
        Ok(Outbound {
            backend: request.backend,
            issuer: caller.issuer.to_owned(),
            method: request.method,
            path_and_query: request.path_and_query,
            headers,
            body: request.body,
            timeout: request.timeout,
            send_before: None,
            notices: None,
        })
    }

    async fn credential(
        &self,
        backend: &str,
        tenant: &str,
        caller: CallerProof<'_>,
        ids: &CallIds<'_>,
        now_s: i64,
    ) -> Result<Option<String>, Refusal> {
        let bearer = match self.backends.get(backend) {
            None => return Err(Refusal::of(Code::BackendUnavailable).detail(format!("no settings for `{backend}`"))),
            Some(Proof::Nothing) => return Ok(None),
            Some(Proof::Static(credential)) => credential.clone(),
            Some(Proof::Assertion { audience, lifetime }) => {
                let lifetime_s = i64::try_from(lifetime.as_secs()).unwrap_or(ASSERTION_LIFETIME_S);
                self.assertion((audience, lifetime_s), tenant, caller, ids, now_s)
            }
            Some(Proof::Exchange { audience }) => {
                let subject = Subject {
                    issuer: caller.issuer.to_owned(),
                    user: caller.user.to_owned(),
                    tenant: tenant.to_owned(),
                    roles: caller.roles.to_vec(),
                    assertion: self.assertion((audience, ASSERTION_LIFETIME_S), tenant, caller, ids, now_s),
                };
                self.exchange.token(backend, &subject, now_s).await.map_err(|fault| no_credential(&fault))?
            }
        };
        Ok(Some(format!("Bearer {bearer}")))
    }

    /// The gateway's word for who calls, for one reader and some seconds.
    fn assertion(
        &self,
        (audience, lifetime_s): (&str, i64),
        tenant: &str,
        caller: CallerProof<'_>,
        ids: &CallIds<'_>,
        now_s: i64,
    ) -> String {
        let claims = Assertion {
            iss: self.issuer.clone(),
            aud: audience.to_owned(),
            sub: caller.user.to_owned(),
            tenant: tenant.to_owned(),
            request_id: ids.request_id.to_owned(),
            decision_id: ids.decision_id.to_owned(),
            roles: caller.roles.to_vec(),
            iat: now_s,
            exp: now_s.saturating_add(lifetime_s),
            jti: ids.request_id.to_owned(),
        };
        mint_assertion(&self.signers.signer(now_s), &claims)
    }
}

fn no_credential(fault: &CredentialFault) -> Refusal {
    match fault {
        CredentialFault::Unavailable(_) => Refusal::of(Code::BackendUnavailable).detail(fault),
        CredentialFault::Refused(_) => {
            let words = "LoopIQ's token service gives no token for this caller; nothing was sent";
            Refusal::because(Code::BackendRejected, words)
                .then("ask an operator whether LoopIQ knows this user in this organisation")
                .detail(fault)
        }
    }
}
