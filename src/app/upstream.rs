//! Upstream MCP servers: their client, and the one backend that routes and servers are together.
//!
//! Promises: a name leads to a route's backend or to an upstream server, never to both. Called by
//! the start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::adapters::backend::Backends;
use crate::adapters::reload::Seen;
use crate::adapters::reload::Watcher;
use crate::adapters::reload::upstream::Neighbours;
use crate::adapters::upstream::Place;
use crate::adapters::upstream::Server;
use crate::adapters::upstream::TrustFiles;
use crate::adapters::upstream::UpstreamServers;
use crate::config::Credential;
use crate::config::Settings;
use crate::domain::pdp::ruling::Permit;
use crate::metrics::Metrics;
use crate::pep;
use crate::pep::ports::Action;
use crate::pep::ports::Backend;
use crate::pep::ports::BackendAnswer;
use crate::pep::ports::Outbound;
use crate::pep::ports::SendFault;
use crate::pep::ports::Upstreams;

/// How long a start waits for what they offer; who answers later joins later.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The client of these settings' servers. Connects nothing yet.
fn servers(settings: &Settings, metrics: &Arc<Metrics>) -> Arc<UpstreamServers> {
    let limits = super::answer_limits(settings);
    let servers = settings.upstreams.iter().map(|upstream| Server {
        name: upstream.terms.server.clone(),
        place: Place {
            tls: upstream.tls,
            host: upstream.host.clone(),
            port: upstream.port,
            path: upstream.path.clone(),
            private: upstream.private_addresses,
        },
        trust: TrustFiles { ca: upstream.ca_file.clone(), own: upstream.own.clone() },
        credential: match &upstream.credential {
            Credential::Static { secret_file } => Some(secret_file.clone()),
            Credential::None | Credential::Assertion { .. } => None,
        },
        connect: upstream.connect,
        timeout: upstream.terms.timeout,
        refresh: upstream.refresh,
        limits: crate::adapters::upstream::Limits {
            answer_bytes: limits.bytes_max,
            json: limits,
            ..crate::adapters::upstream::Limits::default()
        },
    });
    Arc::new(UpstreamServers::new(servers.collect(), metrics))
}

/// Their client, at work until the gateway stops. Waits a little for what they offer.
pub(super) async fn start(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    stopped: &watch::Receiver<bool>,
) -> (Arc<UpstreamServers>, JoinHandle<()>) {
    let upstreams = servers(settings, metrics);
    let (at_work, stopped) = (Arc::clone(&upstreams), stopped.clone());
    let listening = super::task(async move { at_work.run(stopped).await });
    upstreams.first(ANSWER_WITHIN).await;
    (upstreams, listening)
}

/// What they offer joins the catalog, each on its terms and with the file of its accepted definitions;
/// catalog and policy are loaded for the first time.
pub(super) async fn joined(watcher: Watcher, settings: &Settings, servers: &Arc<UpstreamServers>) -> (Watcher, Seen) {
    let members = settings.upstreams.iter().map(|one| (one.terms.clone(), one.accepted.clone())).collect();
    let neighbours = Neighbours::new(Arc::clone(servers) as Arc<dyn Upstreams>, members);
    let mut watcher = watcher.with_neighbours(neighbours);
    let seen = watcher.first().await;
    (watcher, seen)
}

/// How the caller is proven to each of them. A service credential is shown by the client itself.
pub(super) fn proofs(settings: &Settings) -> BTreeMap<String, pep::Proof> {
    let proof = |credential: &Credential| match credential {
        Credential::None | Credential::Static { .. } => pep::Proof::Nothing,
        Credential::Assertion { audience, lifetime } => {
            pep::Proof::Assertion { audience: audience.clone(), lifetime: *lifetime }
        }
    };
    settings.upstreams.iter().map(|one| (one.terms.server.clone(), proof(&one.credential))).collect()
}

/// Routes and upstream servers.
pub(super) struct Everyone {
    pub(super) routes: Arc<Backends>,
    pub(super) upstreams: Arc<UpstreamServers>,
}

#[async_trait]
impl Backend for Everyone {
    async fn send(&self, permit: &Permit<Action>, request: Outbound) -> Result<BackendAnswer, SendFault> {
        if self.upstreams.has(&request.backend) {
            self.upstreams.send(permit, request).await
        } else {
            self.routes.send(permit, request).await
        }
    }
}
