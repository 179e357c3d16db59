//! Both doors, bound and silent: addresses, TLS, names and bounds from the settings.
//!
//! Promises: nothing is accepted before the sentence is complete; no more connections are let in
//! than there are file descriptors for, less those that backends, ledger and journal need.
//! Called by `app`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use super::AppFault;
use crate::adapters::admin;
use crate::adapters::door;
use crate::adapters::tls;
use crate::config;
use crate::config::Settings;
use crate::domain::mcp::receive::DoorRules;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;

/// File descriptors for everything but MCP clients: operators, backends, database, files.
const DESCRIPTORS_KEPT: usize = 1024;

/// What is bound.
pub(super) struct Doors {
    pub(super) door: door::Door,
    pub(super) operators: admin::Bound,
    /// Every TLS listener; somebody must watch its files.
    pub(super) secured: Vec<Arc<tls::Server>>,
    pub(super) urls: Urls,
}

/// URLs of both doors, as dialled on this machine.
pub(super) struct Urls {
    pub(super) mcp: String,
    pub(super) admin: String,
}

impl Urls {
    pub(super) fn of(settings: &Settings, mcp: SocketAddr, admin: SocketAddr) -> Self {
        let scheme = |tls: &Option<config::Tls>| if tls.is_some() { "https" } else { "http" };
        Self {
            mcp: format!("{}://{mcp}/mcp", scheme(&settings.mcp_tls)),
            admin: format!("{}://{admin}", scheme(&settings.admin_tls)),
        }
    }
}

pub(super) async fn open(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<Doors, AppFault> {
    let secured = |name: &'static str, tls: &Option<config::Tls>, protocols: &[&[u8]]| {
        let Some(tls) = tls else { return Ok(None) };
        let server = tls::Server::open(name, files(tls), protocols, Arc::clone(clock), Arc::clone(metrics));
        server.map(|server| Some(Arc::new(server))).map_err(|fault| AppFault::Tls { name, cause: fault.to_string() })
    };
    let of_mcp = secured("listen.tls", &settings.mcp_tls, &[tls::H2, tls::HTTP11])?;
    let of_admin = secured("listen.admin_tls", &settings.admin_tls, &[tls::HTTP11])?;
    let door = door::Door::open(listen(settings, of_mcp.clone())).await.map_err(|fault| match fault {
        door::DoorError::Bind { addr, source } => {
            AppFault::Listen { name: "listen.mcp", addr, cause: source.to_string() }
        }
        door::DoorError::Socket { path, cause } => AppFault::Socket { path, cause },
    })?;
    let refused = |cause: std::io::Error| AppFault::Listen {
        name: "listen.admin",
        addr: settings.admin,
        cause: cause.to_string(),
    };
    let operators = admin::bind(settings.admin, of_admin.clone()).await.map_err(refused)?;
    settings.notes().iter().for_each(|note| warn!("{note}"));
    let urls = Urls::of(settings, door.addr(), operators.addr);
    Ok(Doors { door, operators, secured: of_mcp.into_iter().chain(of_admin).collect(), urls })
}

/// Looks at the files of every TLS listener, until `stopped`.
pub(super) fn watched(
    secured: Vec<Arc<tls::Server>>,
    every: Duration,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let with_signal = secured.into_iter().map(|tls| (tls, stopped.clone()));
    with_signal.map(|(tls, stopped)| super::task(async move { tls.watch(every, stopped).await })).collect()
}

/// What would keep TLS of these settings from being used; reaches for nothing but its files.
pub(super) fn check(settings: &Settings) -> Vec<AppFault> {
    let of_door = |name, tls: &Option<config::Tls>| {
        let fault = tls.as_ref().and_then(|tls| tls::check(&files(tls), super::now_s()).err());
        fault.map(|fault| AppFault::Tls { name, cause: fault.to_string() })
    };
    let faults = [of_door("listen.tls", &settings.mcp_tls), of_door("listen.admin_tls", &settings.admin_tls)];
    faults.into_iter().flatten().collect()
}

fn files(tls: &config::Tls) -> tls::Files {
    let clients = tls.clients.as_ref();
    tls::Files {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        clients: clients.map(|clients| tls::Clients { ca: clients.ca.clone(), required: clients.required }),
    }
}

pub(super) fn door_rules(settings: &Settings) -> DoorRules {
    let mut allowed_hosts = settings.allowed_hosts.clone();
    let public = settings.public_url.as_deref().and_then(|url| url.parse::<http::Uri>().ok());
    allowed_hosts.extend(public.as_ref().and_then(http::Uri::host).map(str::to_ascii_lowercase));
    // WHY: clients of a Unix socket have no other name for this server, and no page can use one.
    if settings.mcp_socket.is_some() && !allowed_hosts.is_empty() {
        allowed_hosts.push("localhost".to_owned());
    }
    DoorRules {
        allowed_hosts,
        allowed_origins: settings.allowed_origins.clone(),
        loopback: settings.mcp.ip().is_loopback(),
    }
}

/// WHY any name off loopback: probes and scrapers come by whatever address their platform gives them.
pub(super) fn operators_rules(settings: &Settings) -> DoorRules {
    let loopback = settings.admin.ip().is_loopback();
    let allowed_hosts = if loopback { settings.allowed_hosts.clone() } else { Vec::new() };
    DoorRules { allowed_hosts, allowed_origins: Vec::new(), loopback }
}

fn listen(settings: &Settings, tls: Option<Arc<tls::Server>>) -> door::Listen {
    let limits = door::DoorLimits {
        body_bytes_max: settings.limits.body_bytes,
        read_within: settings.limits.request_arrival,
        connections_max: connections(settings.limits.connections),
        drain_within: settings.drain,
        ..door::DoorLimits::default()
    };
    let socket: Option<PathBuf> = settings.mcp_socket.clone();
    door::Listen { addr: settings.mcp, tls, socket, rules: door_rules(settings), limits }
}

/// As many as wanted, if the system lets us. A client must not take the descriptor that a record needs.
fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let (Some(soft), hard) = (limit.current, limit.maximum) else { return wanted };
    let needed = wanted.saturating_add(DESCRIPTORS_KEPT) as u64;
    let raised = hard.map_or(needed, |hard| needed.min(hard)).max(soft);
    // What cannot be raised stays, and is what counts.
    let _stays = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: hard });
    let have = getrlimit(Resource::Nofile).current.unwrap_or(raised);
    let have = usize::try_from(have).unwrap_or(usize::MAX);
    let room = have.saturating_sub(DESCRIPTORS_KEPT).max(have / 2);
    if room < wanted {
        warn!(
            "`limits.connections` is {wanted}, and {have} open files leave room for {room}; raise the limit of open files"
        );
    }
    wanted.min(room)
}
