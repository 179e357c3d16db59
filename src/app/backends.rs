//! The settings' backends, as `adapters::backend` takes them.

use std::sync::Arc;

use tokio::sync::watch;

use super::config;
use crate::adapters::backend;
use crate::adapters::backend::Backends;
use crate::adapters::backend::Target;
use crate::adapters::backend::place;
use crate::config::Settings;

/// Where the backends of these settings are, and what stands before them.
#[must_use]
pub fn targets(settings: &Settings) -> Vec<Target> {
    settings.backends.iter().map(target).collect()
}

/// Looks after names, certificates and health until the gateway stops.
pub(super) async fn look_after(backends: Arc<Backends>, stopped: watch::Receiver<bool>) {
    backends.run(stopped).await;
}

/// What would keep a backend's files from being used.
pub(super) fn faults(settings: &Settings) -> impl Iterator<Item = String> {
    settings.backends.iter().flat_map(|backend| {
        let of = |fault| format!("backend `{}`: {fault}", backend.name);
        let tls = backend::examine_tls(&files(&backend.tls)).err();
        let members = backend.members_file.as_deref().and_then(|file| backend::examine_members(file).err());
        tls.into_iter().chain(members).map(of)
    })
}

/// Idle connections kept, all told.
pub(super) fn pool(settings: &Settings) -> usize {
    settings.backends.iter().map(|backend| backend.pool).sum::<usize>().max(1)
}

fn target(backend: &config::Backend) -> Target {
    Target {
        name: backend.name.clone(),
        whereabouts: backend::Whereabouts {
            places: backend.places.iter().map(place).collect(),
            file: backend.members_file.clone(),
            read: |url| config::place(url).as_ref().map(place),
            allow_private: backend.allow_private,
        },
        balance: match backend.balance {
            config::Balance::RoundRobin => backend::Balance::RoundRobin,
            config::Balance::Tenant => backend::Balance::Tenant,
        },
        host: backend.host.clone(),
        tls: files(&backend.tls),
        http2: match backend.http2 {
            config::Http2::Auto => backend::Http2::Auto,
            config::Http2::Never => backend::Http2::Never,
            config::Http2::Only => backend::Http2::Only,
        },
        connect: backend.connect,
        idle: backend.idle,
        checks: backend::Checks {
            path: backend.health.path.clone(),
            every: backend.health.every,
            timeout: backend.health.timeout,
            healthy: backend.health.healthy,
            unhealthy: backend.health.unhealthy,
        },
        breaker: backend::BreakerRules { failures: backend.breaker.failures, rest: backend.breaker.rest },
        concurrency: backend::Concurrency {
            min: backend.concurrency.min,
            max: backend.concurrency.max,
            queue: backend.concurrency.queue,
            wait: backend.concurrency.wait,
        },
    }
}

fn files(tls: &config::BackendTls) -> backend::TlsFiles {
    backend::TlsFiles { ca: tls.ca.clone(), own: tls.own.clone(), name: tls.name.clone() }
}

fn place(place: &config::Place) -> place::Place {
    let at = match &place.at {
        config::At::Host { host, port } => place::At::Host { host: host.clone(), port: *port },
        config::At::Socket(path) => place::At::Socket(path.clone()),
    };
    place::Place { tls: place.tls, at, prefix: place.prefix.clone() }
}
