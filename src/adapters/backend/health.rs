//! Whether a member is well, asked of the member itself.
//!
//! Promises: a check goes to the member's own address with the certificates that calls use, over a
//! connection of its own, with no caller's credential; a change is said once. Called by pingora's
//! load balancing, as [`super::members`] tells it to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora_load_balancing::Backend as Found;
use pingora_load_balancing::health_check::HealthCheck;
use tokio::time::Instant;
use tracing::info;
use tracing::warn;

use super::members::Member;
use super::members::member;
use super::pool::Pool;
use super::tls::Certificates;

/// Bytes of an answer that are read before a check has seen enough.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How health is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// Path that must answer 2xx; none means that a connection is enough.
    pub path: Option<String>,
    /// Between two checks.
    pub every: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Checks in a row that must pass before a member is well again.
    pub healthy: usize,
    /// Checks in a row that must fail before it is left out.
    pub unhealthy: usize,
}

/// Checks one backend's members.
pub(super) struct Doctor {
    pub(super) backend: String,
    pub(super) named: String,
    pub(super) checks: Checks,
    pub(super) pool: Arc<Pool>,
    pub(super) certificates: Arc<Certificates>,
}

#[async_trait]
impl HealthCheck for Doctor {
    async fn check(&self, target: &Found) -> pingora::Result<()> {
        let failed = |cause: String| pingora::Error::explain(pingora::ErrorType::ConnectError, cause);
        let Some(member) = member(target) else { return Ok(()) };
        let asked = tokio::time::timeout(self.checks.timeout, self.ask(member)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.checks.timeout)));
        member.examined(asked.as_ref().err().cloned());
        asked.map_err(failed)?;
        if member.breaker().checked(Instant::now()) {
            info!("backend `{}`: {} is let through again", self.backend, member.address);
        }
        Ok(())
    }

    async fn health_status_change(&self, target: &Found, healthy: bool) {
        if healthy {
            info!("backend `{}`: {} is well", self.backend, target.addr);
        } else {
            let why = member(target).and_then(|member| member.ailment()).unwrap_or_default();
            warn!("backend `{}`: {} fails its health checks and is left out: {why}", self.backend, target.addr);
        }
    }

    fn backend_summary(&self, target: &Found) -> String {
        target.addr.to_string()
    }

    fn health_threshold(&self, success: bool) -> usize {
        if success { self.checks.healthy } else { self.checks.unhealthy }
    }
}

impl Doctor {
    pub(super) async fn ask(&self, member: &Member) -> Result<(), String> {
        let peer = self.pool.peer(member, &self.certificates.trust(), self.certificates.name())?;
        let (mut session, _) = self.pool.session(&peer, true).await.map_err(|cause| cause.to_string())?;
        let Some(path) = &self.checks.path else { return Ok(()) };
        let path = format!("{}{path}", member.place.prefix);
        let mut exchange = async || -> pingora::Result<u16> {
            let mut header = RequestHeader::build("GET", path.as_bytes(), None)?;
            header.insert_header("Host", member.place.authority(&self.named))?;
            if session.as_http2().is_none() {
                header.insert_header("Connection", "close")?;
            }
            session.write_request_header(Box::new(header)).await?;
            session.finish_request_body().await?;
            session.read_response_header().await?;
            let status = session.response_header().map_or(0, |head| head.status.as_u16());
            let mut seen = 0;
            while let Some(part) = session.read_response_body().await? {
                seen += part.len();
                if seen > ANSWER_BYTES_MAX {
                    break;
                }
            }
            Ok(status)
        };
        match exchange().await {
            Ok(200..=299) => Ok(()),
            Ok(status) => Err(format!("{path} answered {status}")),
            Err(cause) => Err(cause.to_string()),
        }
    }
}
