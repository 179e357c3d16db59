//! Composition root: builds every part from settings, wires the sentence, starts, drains.
//!
//! Promises: a part is complete when it exists; nothing is served before the journal is open; at a
//! stop, readiness goes first, then new connections, then calls under way are carried to their
//! end, then the journal is closed. Never decides anything. Called by the commands.

pub mod keys;
pub mod stop;
mod backends;
mod callers;
mod clock;
mod desk;
mod doors;
mod housekeeping;
mod ledger;
mod limits;
mod policy;
mod upstream;
mod vitals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;
use tracing::info;
use tracing::warn;
use tracing_subscriber::EnvFilter;

pub use self::backends::targets;
pub use self::callers::issuers;
use self::callers::secret;
use self::clock::SystemClock;
use self::keys::OwnKeys;
pub use self::ledger::examine_ledger;
pub use self::ledger::open_ledger;
pub use self::limits::examine_counters;
pub use self::policy::checker;
pub use self::policy::load_rules;
pub use self::policy::sources;
use self::vitals::Parts;
use crate::adapters::admin;
use crate::adapters::backend::Backends;
use crate::adapters::door;
use crate::adapters::facts::RecentCalls;
use crate::adapters::journal;
use crate::config;
use crate::config::Settings;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::canonical;
use crate::metrics::Metrics;
use crate::pep;
use crate::pep::Pep;
use crate::pep::desk::Desk;
use crate::pep::ports::Clock;
use crate::pep::ports::Journal;
use crate::pep::reconcile::Patience;
use crate::pep::rollout::Rollout;

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppFault {
    /// A listener, by its name in the settings.
    #[error("`{name}` cannot listen on {addr}: {cause}; choose another address or stop what listens there")]
    Listen {
        /// `listen.mcp` or `listen.admin`.
        name: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        cause: String,
    },
    /// The Unix socket.
    #[error("`listen.mcp_socket` cannot listen on {path}: {cause}")]
    Socket {
        /// The path.
        path: PathBuf,
        /// What is in the way, and what to do.
        cause: String,
    },
    /// TLS of a listener, by its name in the settings.
    #[error("`{name}`: {cause}")]
    Tls {
        /// `listen.tls` or `listen.admin_tls`.
        name: &'static str,
        /// The file, what is wrong with it, and what to do.
        cause: String,
    },
    /// Issuers.
    #[error("issuers: {0}")]
    Issuers(String),
    /// Token services.
    #[error("token services: {0}")]
    Exchange(String),
    /// A file with a secret or a key.
    #[error("{path}: {cause}; {remedy}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The journal.
    #[error("audit: {0}")]
    Journal(String),
    /// The ledger.
    #[error("ledger: {0}")]
    Ledger(String),
    /// The store of policies.
    #[error("policy.store: {0}")]
    Store(String),
}

/// How long a stop waits for a candidate in shadow; one decision takes a second at most, unless a
/// built-in goes on for longer than its timer can see.
const JUDGE_ENDS_WITHIN: Duration = Duration::from_secs(3);

/// A running gateway.
pub struct Running {
    /// Where MCP clients connect.
    pub mcp: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    urls: doors::Urls,
    parts: Arc<Parts>,
    desk: Arc<Desk>,
    stop: watch::Sender<bool>,
    door: JoinHandle<door::Closed>,
    judge: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

/// Starts everything. Rules that cannot be loaded leave it running and not ready.
pub async fn start(settings: Settings) -> Result<Running, AppFault> {
    // WHY boxed: every part of a gateway is in this one future, and few callers have room for it.
    Box::pin(start_with(settings, checker())).await
}

/// The same, with bundles tried in children of `checker`, for programs that are not loopgate themselves.
pub async fn start_with(settings: Settings, checker: PathBuf) -> Result<Running, AppFault> {
    let own = OwnKeys::open(&settings.keys_dir)?;
    let (clock, metrics): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Arc::new(Metrics::new()));
    let doors::Doors { door, operators, secured, urls } = doors::open(&settings, &clock, &metrics).await?;
    let (mcp, admin) = (door.addr(), operators.addr);
    let resource = resource(&settings, mcp);
    let journal = Arc::new(open_journal(&settings, &own, &clock)?);
    let (signers, keys) = callers::known(&settings, &resource, own.ring.clone()).await?;
    let policy = policy::open(&settings, checker, &(Arc::clone(&journal) as Arc<dyn Journal>), &clock, &metrics)?;
    started(&journal, &*clock, &settings).await?;
    let (stop, stopped) = watch::channel(false);
    let (upstreams, listening) = upstream::start(&settings, &metrics, &stopped).await;
    let (watcher, seen) = upstream::joined(policy.watcher, &settings, &upstreams).await;
    let ledger = open_ledger(&settings, &clock, &metrics).await?;
    let backends = open_backends(&settings, &metrics);
    let gate = Arc::new(Pep {
        rules: Arc::clone(&policy.cell),
        keys: Arc::clone(&keys) as Arc<dyn pep::ports::Keys>,
        backend: Arc::new(upstream::Everyone { routes: Arc::clone(&backends), upstreams: Arc::clone(&upstreams) }),
        upstreams: Arc::clone(&upstreams) as Arc<dyn pep::ports::Upstreams>,
        ledger: Arc::clone(&ledger) as Arc<dyn pep::ports::Ledger>,
        approvals: Arc::clone(&ledger) as Arc<dyn pep::ports::Approvals>,
        journal: Arc::clone(&journal) as Arc<dyn Journal>,
        facts: Arc::new(RecentCalls::new()),
        clock: Arc::clone(&clock),
        propagation: callers::propagation(&settings, Arc::clone(&signers), &resource)?,
        metrics: Arc::clone(&metrics),
        settings: sentence_settings(&settings, &resource, admin),
        in_flight: pep::InFlight::default(),
        levels: pep::Levels::default(),
        refused: pep::Refused::new(),
        quiet: pep::Quiet::default(),
        limiter: limits::limiter(&settings, &ledger, &metrics)?,
        listeners: limits::listeners(&settings),
    });
    let rollout = policy.steward as Arc<dyn Rollout>;
    let desk = Arc::new(desk::desk(&settings, &gate, &journal, &rollout));
    let parts = Arc::new(Parts {
        cell: policy.cell,
        rollout,
        keys: Arc::clone(&keys),
        journal,
        ledger,
        backends: Arc::clone(&backends),
        ails: Arc::default(),
        secured: secured.clone(),
        metrics,
        clock,
        stopping: stopped.clone(),
    });
    // WHY: operators can still ask while calls are drained, so their door closes last, on its own signal.
    let mut others = doors::watched(secured, settings.reload_every, &stopped);
    others.extend(callers::watched(&settings, keys, signers, &gate, &stopped));
    others.extend([
        listening,
        task(backends::look_after(backends, stopped.clone())),
        task(watcher.run(seen, stopped.clone())),
        task(housekeeping::run(Arc::clone(&gate), settings.ledger.keep, Arc::clone(&parts.ails), stopped.clone())),
        operated(operators, &settings, resource, &parts, &desk),
    ]);
    let (judge, door) = (task(policy.judge.run(policy.told, stopped.clone())), task(door.run(gate, stopped)));
    info!("serving MCP on {mcp}, operators on {admin}");
    Ok(Running { mcp, admin, urls, parts, desk, stop, door, judge, others })
}

/// The operators' door at work.
fn operated(
    operators: admin::Bound,
    settings: &Settings,
    resource: String,
    parts: &Arc<Parts>,
    desk: &Arc<Desk>,
) -> JoinHandle<()> {
    let rules = doors::operators_rules(settings);
    let api = admin::api::Api { desk: Arc::clone(desk), rules: rules.clone(), resource };
    task(operators.serve(Arc::clone(parts) as Arc<dyn admin::Vitals>, api, rules))
}

impl Running {
    /// The URL that MCP clients dial on this machine.
    #[must_use]
    pub fn mcp_url(&self) -> String {
        self.urls.mcp.clone()
    }

    /// The URL of the operators' door on this machine.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.urls.admin.clone()
    }

    /// Why nothing is decided: the faults of rules that were refused, when there are none in force.
    #[must_use]
    pub fn undecided(&self) -> Option<Vec<String>> {
        let faults = || self.parts.cell.faults().map(|faults| faults.to_vec()).unwrap_or_default();
        self.parts.cell.current().is_none().then(faults)
    }

    /// The gateway's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.clock
    }

    /// Not ready, no new connections, calls under way to their end, journal closed.
    pub async fn stop(self) {
        // Everyone who listens for it may have gone already, which is what is wanted.
        let _all_gone = self.stop.send(true);
        match self.door.await {
            Ok(closed) if closed.calls_cut > 0 => {
                warn!("{} calls were cut off at the end of `drain`", closed.calls_cut);
            }
            Ok(_) => {}
            Err(cause) => error!("the MCP door ended badly: {cause}"),
        }
        self.others.iter().for_each(JoinHandle::abort);
        for other in self.others {
            // Aborted, or ended by the same signal.
            let _ended = other.await;
        }
        self.desk.carried.drain().await;
        match tokio::time::timeout(JUDGE_ENDS_WITHIN, self.judge).await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => error!("what looks at canaries ended badly: {cause}"),
            // Nothing of it is owed to anybody, and the journal must be closed.
            Err(_elapsed) => warn!("a candidate in shadow did not end its decision in time; it is left behind"),
        }
        if let Err(fault) = self.parts.journal.close() {
            error!("the journal did not close properly: {fault}");
        }
        info!("stopped");
    }
}

/// The one home of spawned tasks; every handle is owned by [`Running`].
#[expect(clippy::disallowed_methods, reason = "the one home of spawned tasks; `Running` owns and drains them")]
fn task<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Sends logs to standard error, once per process.
pub fn log(settings: &config::Log) {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call in one process (tests) keeps the first.
    let _first_stays = if settings.json { builder.json().try_init() } else { builder.try_init() };
}

/// The time now, for commands: seconds since the Unix epoch.
#[must_use]
pub fn now_s() -> i64 {
    SystemClock.now_ms().div_euclid(1000)
}

/// Keys that were looked at once.
async fn started(journal: &journal::Journal, clock: &dyn Clock, settings: &Settings) -> Result<(), AppFault> {
    let opening = journal.opening();
    if opening.bytes_dropped > 0 {
        warn!("the journal's last segment ended in {} torn bytes, kept beside it as .torn", opening.bytes_dropped);
    }
    if opening.promised_missing > 0 {
        error!(
            "the journal lacks {} records that a signed checkpoint promised; run `loopgate audit verify`",
            opening.promised_missing
        );
    }
    let record = Record::event(Stage::Config("started"), clock.now_ms(), "the gateway has started")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("issuers", settings.issuers.iter().map(|issuer| issuer.issuer.clone()).collect::<Vec<_>>())
        .with("approvalIssuers", settings.approval_issuers.iter().map(|one| one.issuer.clone()).collect::<Vec<_>>())
        .with("upstreams", settings.upstreams.iter().map(|one| one.terms.server.clone()).collect::<Vec<_>>())
        .with("backends", settings.backends.iter().map(|backend| backend.name.clone()).collect::<Vec<_>>());
    journal.append(record).await.map(|_| ()).map_err(|fault| AppFault::Journal(fault.to_string()))
}

fn open_journal(settings: &Settings, own: &OwnKeys, clock: &Arc<dyn Clock>) -> Result<journal::Journal, AppFault> {
    let audit = &settings.audit;
    let mut of_journal = journal::Settings::new(
        audit.dir.clone(),
        audit.writer.clone(),
        audit.deployment.clone(),
        journal::SigningKey::File(own.audit_pem.clone()),
    );
    of_journal.segment_bytes = audit.segment_bytes;
    of_journal.queue = audit.queue;
    of_journal.deadline = audit.deadline;
    of_journal.low_water_bytes = audit.low_water_bytes;
    let clock = Arc::clone(clock);
    journal::Journal::open(of_journal, Arc::new(move || clock.now_ms()))
        .map_err(|fault| AppFault::Journal(fault.to_string()))
}

fn open_backends(settings: &Settings, metrics: &Arc<Metrics>) -> Arc<Backends> {
    let (pool, bytes_max) = (backends::pool(settings), answer_limits(settings).bytes_max);
    Arc::new(Backends::new(targets(settings), pool, bytes_max, metrics))
}

/// The URL that tokens must be made for: the public one, or the listener's own.
#[must_use]
pub fn resource(settings: &Settings, mcp: SocketAddr) -> String {
    settings.public_url.clone().unwrap_or_else(|| doors::Urls::of(settings, mcp, settings.admin).mcp)
}

/// What would keep issuers, backends and ledger of these settings from being used; reaches for nothing.
#[must_use]
pub fn parties(settings: &Settings) -> Vec<String> {
    let mut faults: Vec<String> = doors::check(settings).into_iter().map(|fault| fault.to_string()).collect();
    faults.extend(callers::faults(settings));
    faults.extend(backends::faults(settings));
    faults.extend(ledger::check(settings).err().map(|fault| fault.to_string()));
    faults.extend(limits::check(settings).err().map(|fault| fault.to_string()));
    faults
}

fn answer_limits(settings: &Settings) -> canonical::Limits {
    canonical::Limits {
        bytes_max: settings.limits.response_bytes,
        depth_max: settings.limits.json_depth,
        // WHY: an answer is as long as the backend likes; its bytes bound it, not its members.
        members_max: settings.limits.response_bytes,
    }
}

/// Where approvers open an approval: as the settings say, else at the operators' door.
fn approvals_link(settings: &Settings, admin: SocketAddr) -> String {
    let here = || format!("{}/api/v1/approvals", doors::Urls::of(settings, settings.mcp, admin).admin);
    settings.approvals_link.clone().unwrap_or_else(here)
}

fn sentence_settings(settings: &Settings, resource: &str, admin: SocketAddr) -> pep::Settings {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let ledger = &settings.ledger;
    pep::Settings {
        door: doors::door_rules(settings),
        json: canonical::Limits {
            bytes_max: settings.limits.body_bytes,
            depth_max: settings.limits.json_depth,
            members_max: settings.limits.json_members,
        },
        answers: answer_limits(settings),
        list_page: settings.list_page,
        list_ttl_ms: u64::try_from(settings.list_ttl.as_millis()).unwrap_or(u64::MAX),
        resource: resource.to_owned(),
        issuers: settings.issuers.iter().map(|issuer| issuer.issuer.clone()).collect(),
        scopes: settings.issuers.iter().flat_map(|issuer| issuer.scopes.clone()).collect(),
        needs: pep::Needs {
            read: settings.scopes.read.clone(),
            write: settings.scopes.write.clone(),
            admin: settings.scopes.admin.clone(),
        },
        approvals_link: approvals_link(settings, admin),
        patience: Patience { resend_ms: ms(ledger.resend_within), settle: ledger.settle_after },
    }
}
