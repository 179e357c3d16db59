//! Client to the LoopIQ routes over pooled pingora connections.
//!
//! Promises: one deadline over the whole exchange; a write of which any byte may have left is never
//! sent again; a fault says whether any byte may have left; no redirect is followed; the host is the
//! configured one, whatever the arguments say; what is too much, or fails too often, is refused
//! before it is sent. Never adds a header of the client's. Called by `pep`.

pub mod place;
mod breaker;
mod budget;
mod carry;
mod exchange;
mod health;
mod limit;
mod members;
mod pool;
mod queue;
mod tls;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::breaker::BreakerRules;
use self::breaker::Circuit;
use self::carry::Service;
pub use self::health::Checks;
pub use self::members::Balance;
pub use self::members::Whereabouts;
pub use self::pool::Http2;
pub use self::queue::Concurrency;
pub use self::tls::TlsFiles;
use crate::domain::pdp::ruling::Permit;
use crate::metrics::Metrics;
use crate::pep::ports::Action;
use crate::pep::ports::Backend;
use crate::pep::ports::BackendAnswer;
use crate::pep::ports::Outbound;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// Between two looks at certificates, at names and at who is well.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One backend, as the settings have it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name that the catalog uses.
    pub name: String,
    /// Where its members are.
    pub whereabouts: Whereabouts,
    /// Who of them gets the next call.
    pub balance: Balance,
    /// What stands in `Host` towards a Unix socket.
    pub host: String,
    /// Whose certificates count, and the gateway's own.
    pub tls: TlsFiles,
    /// Whether HTTP/2 is spoken.
    pub http2: Http2,
    /// Time to connect.
    pub connect: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// How members' health is checked.
    pub checks: Checks,
    /// When a member is left alone.
    pub breaker: BreakerRules,
    /// How much may be under way at once.
    pub concurrency: Concurrency,
}

/// All backends.
pub struct Backends {
    services: BTreeMap<String, Service>,
}

impl Backends {
    /// Connects nothing yet.
    #[must_use]
    pub fn new(targets: Vec<Target>, pool: usize, response_bytes: usize, metrics: &Arc<Metrics>) -> Self {
        let service = |target: Target| (target.name.clone(), Service::new(target, pool, response_bytes, metrics));
        Self { services: targets.into_iter().map(service).collect() }
    }

    /// Whether each member of each backend is well, for `doctor`.
    pub async fn probe(&self) -> Vec<(String, Result<(), String>)> {
        let mut results = Vec::new();
        for (name, service) in &self.services {
            results.push((name.clone(), service.probe().await));
        }
        results
    }

    /// Looks after names, certificates and health until the gateway stops.
    pub async fn run(&self, stopped: watch::Receiver<bool>) {
        join_all(self.services.values().map(|service| look_after(service, stopped.clone()))).await;
    }

    /// How every backend is, for operators.
    #[must_use]
    pub fn state(&self) -> Vec<Value> {
        self.services.iter().map(|(name, service)| state(name, service)).collect()
    }

    /// What is wrong, in plain words. WHY none of it makes the gateway unready: other backends, the tools
    /// that the gateway answers itself and every refusal still work, and another replica is no better off.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, service) in &self.services {
            let faults = service.members.faults().into_iter().chain(service.certificates.fault());
            findings.extend(faults.map(|fault| format!("backend `{name}`: {fault}")));
            let members = service.members.all();
            let unwell: Vec<_> = members.iter().filter(|(_, healthy)| !healthy).collect();
            let all = unwell.len() == members.len();
            for (member, _) in &unwell {
                let but = if all { "all members do, so all are tried" } else { "others are used" };
                let why = member.ailment().unwrap_or_default();
                findings.push(format!("backend `{name}`: {} fails its health checks ({why}); {but}", member.address));
            }
            for (member, _) in members.iter().filter(|(member, _)| member.breaker().circuit() != Circuit::Closed) {
                findings.push(format!("backend `{name}`: {} failed too often and is left alone", member.address));
            }
        }
        findings
    }
}

async fn look_after(service: &Service, mut stopped: watch::Receiver<bool>) {
    let mut checked: Option<Instant> = None;
    loop {
        service.look(false).await;
        service.look_at_certificates().await;
        if checked.is_none_or(|at| at.elapsed() >= service.target.checks.every) {
            checked = Some(Instant::now());
            service.members.check().await;
        }
        service.count_members();
        let pause = LOOK_EVERY.min(service.target.checks.every);
        tokio::select! {
            _ = stopped.changed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn state(name: &str, service: &Service) -> Value {
    let members = service.members.all().into_iter().map(|(member, healthy)| {
        let breaker = match member.breaker().circuit() {
            Circuit::Closed => "closed",
            Circuit::Open(_) => "open",
            Circuit::Trying(_) => "half_open",
        };
        json!({"address": member.address.to_string(), "healthy": healthy, "breaker": breaker})
    });
    json!({"backend": name, "members": members.collect::<Vec<_>>()})
}

#[async_trait]
impl Backend for Backends {
    async fn send(&self, permit: &Permit<Action>, request: Outbound) -> Result<BackendAnswer, SendFault> {
        let Some(service) = self.services.get(&request.backend) else {
            let detail = format!("the catalog names backend `{}`, the settings do not", request.backend);
            return Err(SendFault { kind: SendFaultKind::Unreachable, bytes_left: false, detail });
        };
        service.send(permit, &request).await
    }
}

/// Whether files that a backend's TLS needs can be used, for `check`.
pub fn examine_tls(files: &TlsFiles) -> Result<(), String> {
    tls::Certificates::open(files.clone()).fault().map_or(Ok(()), Err)
}

/// Whether a file of members can be read.
pub fn examine_members(file: &Path) -> Result<(), String> {
    std::fs::read(file).map(|_| ()).map_err(|cause| format!("{}: {cause}", file.display()))
}
