//! Who calls and how they are proven: settings become issuers, and credentials for backends.
//!
//! Promises: what `check` finds wrong here keeps the gateway from starting, and nothing else does.
//! Never asks anybody. Called by `app` and by the commands that examine settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::AppFault;
use super::keys;
use super::resource;
use super::upstream;
use crate::adapters::exchange::Exchange;
use crate::adapters::exchange::Service;
use crate::adapters::fetch::Way;
use crate::adapters::fetch::client::Client;
use crate::adapters::fetch::client::Proof as ClientProof;
use crate::adapters::keys::IssuerConfig;
use crate::adapters::keys::Keys;
use crate::adapters::keys::asked::Introspection;
use crate::adapters::keys::source::KeySource;
use crate::config;
use crate::config::Settings;
use crate::domain::identity::issuer::Alg;
use crate::domain::identity::issuer::ClaimMap;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::ring::Ring;
use crate::pep;
use crate::pep::Pep;
use crate::pep::Signers;

/// What would keep issuers and credentials of these settings from being used; reaches for nothing.
pub(super) fn faults(settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    faults.extend(issuers(settings, &resource(settings, settings.mcp)).err().map(|fault| fault.to_string()));
    let Ok(signers) = some_signers(settings) else { return faults };
    for backend in &settings.backends {
        if let config::Propagation::Static { secret_file } = &backend.propagation {
            faults.extend(secret(secret_file).err().map(|fault| format!("backend `{}`: {fault}", backend.name)));
        }
    }
    faults.extend(exchange(settings, &signers).err().map(|fault| fault.to_string()));
    faults
}

/// The settings' issuers, for whoever only looks at them.
pub fn issuers(settings: &Settings, resource: &str) -> Result<Keys, AppFault> {
    issuers_with(settings, resource, &some_signers(settings)?)
}

/// The gateway's signing keys, and the issuers with what is known of them.
pub(super) async fn known(
    settings: &Settings,
    resource: &str,
    ring: Ring,
) -> Result<(Arc<Signers>, Arc<Keys>), AppFault> {
    let signers = Arc::new(Signers::new(ring));
    let keys = Arc::new(issuers_with(settings, resource, &signers)?);
    keys.load().await;
    keys.probe(super::now_s()).await;
    Ok((signers, keys))
}

/// What keeps both as they are out there, until the gateway stops.
pub(super) fn watched(
    settings: &Settings,
    keys: Arc<Keys>,
    signers: Arc<Signers>,
    gate: &Pep,
    stopped: &watch::Receiver<bool>,
) -> [JoinHandle<()>; 2] {
    let rotation = keys::Rotation::new(settings, signers, Arc::clone(&gate.clock), Arc::clone(&gate.journal));
    let (of_keys, of_rotation) = (stopped.clone(), stopped.clone());
    [super::task(async move { keys.run(of_keys).await }), super::task(rotation.run(of_rotation))]
}

/// The gateway's keys as far as they are there; makes none that stays.
fn some_signers(settings: &Settings) -> Result<Arc<Signers>, AppFault> {
    let ring = keys::read(&settings.keys_dir)?.map_or_else(keys::passing, Ok)?;
    Ok(Arc::new(Signers::new(ring)))
}

/// The settings' issuers, as `adapters::keys` takes them.
pub(super) fn issuers_with(settings: &Settings, resource: &str, signers: &Arc<Signers>) -> Result<Keys, AppFault> {
    let mut callers = Vec::new();
    for issuer in &settings.issuers {
        let mut of_issuer = IssuerSettings::new(&issuer.name, &issuer.issuer, resource).of_kind(issuer.kind);
        if !issuer.audiences.is_empty() {
            of_issuer.audiences.clone_from(&issuer.audiences);
        }
        of_issuer.algs = algs(&issuer.algorithms);
        of_issuer.leeway_s = i64::try_from(issuer.leeway.as_secs()).unwrap_or(i64::MAX);
        of_issuer.claims = claims(&issuer.claims);
        of_issuer.tenants_allowed.clone_from(&issuer.tenants);
        of_issuer.certificates.clone_from(&issuer.certificates);
        if let config::KeySource::Introspection(server) = &issuer.keys {
            of_issuer.token_prefix.clone_from(&server.token_prefix);
        }
        let mut config = IssuerConfig::new(of_issuer, key_source(&issuer.keys, signers)?);
        config.refresh = issuer.refresh;
        config.max_stale = issuer.max_stale;
        config.way = way(&issuer.place);
        callers.push(config);
    }
    let mut approvers = Vec::new();
    for issuer in &settings.approval_issuers {
        let mut of_issuer = IssuerSettings::of_approvals(&issuer.name, &issuer.issuer);
        of_issuer.algs = algs(&issuer.algorithms);
        of_issuer.tenants_allowed.clone_from(&issuer.tenants);
        let mut config = IssuerConfig::new(of_issuer, key_source(&issuer.keys, signers)?);
        config.way = way(&issuer.place);
        approvers.push(config);
    }
    let keys = Keys::new(callers).map_err(|fault| AppFault::Issuers(fault.to_string()))?;
    keys.with_approvers(approvers).map_err(|fault| AppFault::Issuers(format!("of approvals: {fault}")))
}

fn algs(names: &[String]) -> Vec<Alg> {
    names.iter().filter_map(|name| Alg::named(name)).collect()
}

fn key_source(keys: &config::KeySource, signers: &Arc<Signers>) -> Result<KeySource, AppFault> {
    Ok(match keys {
        config::KeySource::File(path) => KeySource::File(path.clone()),
        config::KeySource::Url(url) => KeySource::Url(url.clone()),
        config::KeySource::SecretFile(path) => KeySource::Secret(secret(path)?.into_bytes()),
        config::KeySource::Certificates => KeySource::Certificates,
        config::KeySource::Introspection(server) => KeySource::Asked(Box::new(Introspection {
            url: server.url.clone(),
            client: client(&server.client_id, server.secret_file.as_deref(), signers)?,
            keep: server.cache,
        })),
    })
}

fn client(id: &str, secret_file: Option<&Path>, signers: &Arc<Signers>) -> Result<Client, AppFault> {
    let proof = match secret_file {
        Some(path) => ClientProof::Secret(secret(path)?),
        None => ClientProof::Key(Arc::clone(signers)),
    };
    Ok(Client { id: id.to_owned(), proof })
}

fn way(place: &config::Way) -> Way {
    Way { ca_file: place.ca_file.clone(), allow_private: place.allow_private, plain_http: false }
}

fn claims(raw: &config::RawClaims) -> ClaimMap {
    ClaimMap {
        user: raw.user.clone(),
        tenants: raw.tenants.clone(),
        active_tenant: raw.active_tenant.clone(),
        roles: raw.roles.clone(),
        teams: raw.teams.clone(),
        permissions: raw.permissions.clone(),
        scopes: raw.scopes.clone(),
        client: raw.client.clone(),
    }
}

/// A secret from a file, without the line end that editors add.
pub(super) fn secret(path: &Path) -> Result<String, AppFault> {
    let text = std::fs::read_to_string(path).map_err(|cause| AppFault::File {
        path: path.to_owned(),
        cause: cause.to_string(),
        remedy: "make the file readable for the gateway's user",
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// How callers are proven to the backends.
pub(super) fn propagation(
    settings: &Settings,
    signers: Arc<Signers>,
    resource: &str,
) -> Result<pep::Propagation, AppFault> {
    let mut proofs = BTreeMap::new();
    for backend in &settings.backends {
        let proof = match &backend.propagation {
            config::Propagation::Assertion { audience, lifetime } => {
                pep::Proof::Assertion { audience: audience.clone(), lifetime: *lifetime }
            }
            config::Propagation::Exchange { url, .. } => pep::Proof::Exchange { audience: url.clone() },
            config::Propagation::Static { secret_file } => pep::Proof::Static(secret(secret_file)?),
        };
        proofs.insert(backend.name.clone(), proof);
    }
    proofs.extend(upstream::proofs(settings));
    let exchange = Arc::new(exchange(settings, &signers)?);
    Ok(pep::Propagation { issuer: resource.to_owned(), signers, backends: proofs, exchange })
}

fn exchange(settings: &Settings, signers: &Arc<Signers>) -> Result<Exchange, AppFault> {
    let mut services = Vec::new();
    for backend in &settings.backends {
        if let config::Propagation::Exchange { url, place, client_id, secret_file, audience, scope } =
            &backend.propagation
        {
            services.push(Service {
                backend: backend.name.clone(),
                url: url.clone(),
                way: way(place),
                client: client(client_id, secret_file.as_deref(), signers)?,
                audience: audience.clone(),
                scope: scope.clone(),
            });
        }
    }
    Exchange::new(services).map_err(|fault| AppFault::Exchange(fault.to_string()))
}
