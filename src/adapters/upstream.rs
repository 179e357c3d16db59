//! Client to upstream MCP servers, in both eras of the protocol.
//!
//! Promises: one deadline over an exchange; a `tools/call` is sent once at most, and a fault says whether any
//! byte of it may have left; no redirect is followed, no private address reached unless it may be; whatever a
//! server sends is strict JSON and bounded, and an answer is the one to its request; a server that is down
//! keeps its last offer and stops nobody else. Never decides what may be called. Called by `pep` through its
//! ports; `app` starts it.

mod sse;
mod params;
mod place;
mod trust;
mod link;
mod wire;
mod session;
mod server;
mod hear;
mod meet;
mod listing;
mod carry;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch as cell;
use tracing::info;

pub use self::place::Place;
pub use self::server::Limits;
pub use self::server::Server;
pub use self::server::State;
use self::server::Upstream;
pub use self::trust::TrustFiles;
use crate::domain::pdp::ruling::Permit;
use crate::domain::upstream::Offer;
use crate::metrics::Metrics;
use crate::pep::ports::Action;
use crate::pep::ports::Backend;
use crate::pep::ports::BackendAnswer;
use crate::pep::ports::Outbound;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;
use crate::pep::ports::Upstreams;

/// All upstream servers.
pub struct UpstreamServers {
    servers: BTreeMap<String, Arc<Upstream>>,
    offers: ArcSwap<BTreeMap<String, Arc<Offer>>>,
    changes: cell::Sender<u64>,
    tried: cell::Sender<usize>,
    metrics: Arc<Metrics>,
}

impl UpstreamServers {
    /// Connects nothing yet.
    #[must_use]
    pub fn new(servers: Vec<Server>, metrics: &Arc<Metrics>) -> Self {
        let named = |server: Server| (server.name.clone(), Arc::new(Upstream::new(server)));
        Self {
            servers: servers.into_iter().map(named).collect(),
            offers: ArcSwap::default(),
            changes: cell::Sender::new(0),
            tried: cell::Sender::new(0),
            metrics: Arc::clone(metrics),
        }
    }

    /// Keeps what is known of every server fresh, until `stop` says true.
    pub async fn run(&self, mut stop: cell::Receiver<bool>) {
        let keeping = join_all(self.servers.values().map(|server| self.keep(server)));
        tokio::select! {
            _ = keeping => {}
            // A sender that is gone says stop, too.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn keep(&self, server: &Upstream) {
        let first = std::sync::atomic::AtomicBool::new(true);
        let told = |read: Result<Offer, SendFault>| {
            let name = &server.settings.name;
            let result = read.as_ref().map_or_else(|fault| fault_label(fault.kind), |_| "ok");
            self.metrics.upstream_reads.with_label_values(&[name, result]).inc();
            self.metrics.upstream_up.with_label_values(&[name]).set(i64::from(read.is_ok()));
            if let Ok(offer) = read {
                self.publish(server, offer);
            }
            if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
                self.tried.send_modify(|tried| *tried += 1);
            }
        };
        server.keep(told).await;
    }

    fn publish(&self, server: &Upstream, offer: Offer) {
        if server.offer.load().as_deref() == Some(&offer) {
            return;
        }
        let (tools, prompts, resources) = (offer.tools.len(), offer.prompts.len(), offer.resources.len());
        info!("upstream `{}` offers {tools} tools, {prompts} prompts, {resources} resources", offer.server);
        let offer = Arc::new(offer);
        server.offer.store(Some(Arc::clone(&offer)));
        self.offers.rcu(|offers| {
            let mut offers = BTreeMap::clone(offers);
            offers.insert(offer.server.clone(), Arc::clone(&offer));
            offers
        });
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until every server was tried once, or for as long as may be waited.
    pub async fn first(&self, within: Duration) {
        let mut tried = self.tried.subscribe();
        let all = self.servers.len();
        // Whoever was not reached by then is tried on; a start does not wait for it.
        let _late = tokio::time::timeout(within, tried.wait_for(|tried| *tried >= all)).await;
    }

    /// How every server stands, for `doctor` and for people.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        self.servers.values().map(|server| server.state()).collect()
    }

    /// Whether there is a server of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.servers.contains_key(name)
    }

    /// [`Backend::send`] for those who have a permit.
    async fn carry(&self, request: &Outbound) -> Result<BackendAnswer, SendFault> {
        let Some(server) = self.servers.get(&request.backend) else {
            let detail = format!("the settings name no upstream server `{}`", request.backend);
            return Err(SendFault { kind: SendFaultKind::Unreachable, bytes_left: false, detail });
        };
        let result = server.carry(request).await;
        let label = match &result {
            Ok(answer) => status_class(answer.status),
            Err(fault) => fault_label(fault.kind),
        };
        self.metrics.backend_requests.with_label_values(&[&request.backend, label]).inc();
        result
    }
}

impl Upstreams for UpstreamServers {
    fn offers(&self) -> Arc<BTreeMap<String, Arc<Offer>>> {
        self.offers.load_full()
    }

    fn changes(&self) -> cell::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[async_trait]
impl Backend for UpstreamServers {
    async fn send(&self, _permit: &Permit<Action>, request: Outbound) -> Result<BackendAnswer, SendFault> {
        self.carry(&request).await
    }
}

const fn status_class(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

const fn fault_label(kind: SendFaultKind) -> &'static str {
    match kind {
        SendFaultKind::Unreachable => "unreachable",
        SendFaultKind::Timeout => "timeout",
        SendFaultKind::Broken => "broken",
        SendFaultKind::TooLarge => "too_large",
        SendFaultKind::Resting { .. } => "resting",
        SendFaultKind::Overloaded { .. } => "overloaded",
    }
}

#[cfg(test)]
mod tests;
