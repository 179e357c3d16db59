//! The gateway's settings: a raw mirror of the file, then checked [`Settings`].
//!
//! Promises: every fault of a file is reported at once, each with its path and a remedy; unknown
//! members are faults; relative paths are relative to the file; secrets are references to files.
//! Never opens a socket and never reads a secret. Called by `app` and the commands.

mod callers;
mod check;
mod raw;
mod units;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use callers::ApprovalIssuer;
pub use callers::Introspection;
pub use callers::Issuer;
pub use callers::KeySource;
pub use callers::Propagation;
pub use callers::Rotation;
pub use callers::Scopes;
pub use callers::Way;
pub use check::load;
pub use check::parse;
pub use check::place;
pub use raw::Activation;
pub use raw::Balance;
pub use raw::Http2;
pub use raw::RawApprovalIssuer;
pub use raw::RawBackend;
pub use raw::RawClaims;
pub use raw::RawConfig;
pub use raw::RawIssuer;
pub use raw::RawUpstream;
pub use raw::schema;
pub use upstream::Credential;
pub use upstream::Upstream;

use crate::domain::limit::Rates;

/// One thing wrong with a settings file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[error("{path}: {message}; {remedy}")]
pub struct ConfigFault {
    /// Where in the file, as `backends[0].url`; the file itself when it cannot be read.
    pub path: String,
    /// What is wrong, in the user's own names.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Checked settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where MCP clients connect.
    pub mcp: SocketAddr,
    /// TLS there.
    pub mcp_tls: Option<Tls>,
    /// A Unix socket for MCP clients besides.
    pub mcp_socket: Option<PathBuf>,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// TLS there.
    pub admin_tls: Option<Tls>,
    /// The URL that clients dial, the `resource` of RFC 9728. None: the MCP listener's own address.
    pub public_url: Option<String>,
    /// Hosts that a request may name besides the listener's own.
    pub allowed_hosts: Vec<String>,
    /// Origins of browser clients that may call.
    pub allowed_origins: Vec<String>,
    /// Bounds on what strangers may send.
    pub limits: Limits,
    /// Who vouches for callers.
    pub issuers: Vec<Issuer>,
    /// Scopes that calls need.
    pub scopes: Scopes,
    /// Tools and routes.
    pub catalog: PathBuf,
    /// The policy bundle, and how a change of it goes live.
    pub policy: Policy,
    /// How often policies, catalog and key files are looked at for changes.
    pub reload_every: Duration,
    /// Where calls go.
    pub backends: Vec<Backend>,
    /// Upstream MCP servers.
    pub upstreams: Vec<Upstream>,
    /// The journal.
    pub audit: Audit,
    /// What remembers every write and every approval.
    pub ledger: Ledger,
    /// Base URL that approvers open. None: the operators' door.
    pub approvals_link: Option<String>,
    /// Whose signed approvals are accepted.
    pub approval_issuers: Vec<ApprovalIssuer>,
    /// What people may do with approvals, writes and the journal.
    pub operators: Operators,
    /// Folder with the gateway's own keys; made on first start.
    pub keys_dir: PathBuf,
    /// When the key that signs assertions is replaced.
    pub rotation: Rotation,
    /// Tools per page of `tools/list`.
    pub list_page: usize,
    /// How long a client may keep a tool list.
    pub list_ttl: Duration,
    /// How long to wait for calls under way at a stop.
    pub drain: Duration,
    /// How to log.
    pub log: Log,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// File with the certificate and its chain.
    pub certificate: PathBuf,
    /// File with its private key.
    pub key: PathBuf,
    /// Whose client certificates are taken; none when nobody is asked for one.
    pub clients: Option<TlsClients>,
}

/// Clients that show a certificate of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsClients {
    /// File with the certificates of their authorities.
    pub ca: PathBuf,
    /// Whether a client without one is sent away.
    pub required: bool,
}

/// Bounds on what strangers may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Nesting of a JSON document.
    pub json_depth: usize,
    /// Members and elements of a JSON document, all told.
    pub json_members: usize,
    /// Time for a whole request to arrive.
    pub request_arrival: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a backend's answer.
    pub response_bytes: usize,
    /// How many messages may be sent.
    pub rates: Rates,
    /// Where they are counted.
    pub counted: Counted,
    /// Streams that tell clients of changes.
    pub subscriptions: Subscriptions,
}

/// Where messages are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// In each gateway for itself.
    Here,
    /// In the database of the ledger.
    Postgres,
    /// In a Redis-compatible store.
    Redis {
        /// File with the connection URL.
        url_file: PathBuf,
    },
}

/// Streams that tell clients of changes, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriptions {
    /// Of one caller in one organisation.
    pub caller: usize,
    /// In all.
    pub all: usize,
}

/// The policy bundle, and how a change of it goes live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Folder with the bundle; read unless one is pulled from a server.
    pub dir: PathBuf,
    /// Folder of the bundles that were in force, and of which one is.
    pub store: PathBuf,
    /// The bundle pulled from a server, if one is.
    pub served: Option<Served>,
    /// How a changed bundle goes live.
    pub activation: Activation,
    /// What a gated activation needs.
    pub gate: Gate,
    /// What is evaluated beside the live policy.
    pub shadow: Shadow,
    /// When a canary is taken back.
    pub canary: Canary,
}

/// A bundle pulled from a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Its address.
    pub url: String,
    /// File with a bearer token.
    pub token_file: Option<PathBuf>,
    /// Files with public keys of those who may sign it.
    pub keys: Vec<PathBuf>,
    /// The scope that a signature must carry; empty for none.
    pub scope: String,
    /// How often the server is asked.
    pub every: Duration,
    /// Whether an older bundle may follow.
    pub allow_rollback: bool,
}

/// What a gated activation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Recorded decisions that the replay must have made again, at least.
    pub decisions: u64,
    /// How old the report may be.
    pub age: Duration,
    /// Files with public keys of others who may sign reports.
    pub keys: Vec<PathBuf>,
}

/// What is evaluated beside the live policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shadow {
    /// The candidate's folder; none means the bundle that waits for activation.
    pub dir: Option<PathBuf>,
    /// Organisations whose calls it is asked about.
    pub tenants: Vec<String>,
    /// And the share of all other calls, in percent.
    pub percent: u8,
}

/// When a canary is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Decisions before it is judged.
    pub least: u64,
    /// Percentage points by which its share of denials may differ.
    pub band: u8,
    /// Share of its decisions that may fail, in percent.
    pub errors: u8,
    /// Time over which the shares are counted.
    pub window: Duration,
}

/// Where calls go.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Name that the catalog uses.
    pub name: String,
    /// Where its members are.
    pub places: Vec<Place>,
    /// A file with more of them.
    pub members_file: Option<PathBuf>,
    /// Who gets the next call.
    pub balance: Balance,
    /// Whether host names may lead to private addresses.
    pub allow_private: bool,
    /// `Host` towards a Unix socket.
    pub host: String,
    /// TLS of `https` members.
    pub tls: BackendTls,
    /// Whether HTTP/2 is spoken.
    pub http2: Http2,
    /// How members' health is checked.
    pub health: Health,
    /// When a member is left alone.
    pub breaker: Breaker,
    /// How much may be under way at once.
    pub concurrency: Concurrency,
    /// Time to connect.
    pub connect: Duration,
    /// Idle connections kept.
    pub pool: usize,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// How the gateway proves the caller to the backend.
    pub propagation: Propagation,
}

/// Where members of a backend are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `https`.
    pub tls: bool,
    /// The way there.
    pub at: At,
    /// Path prefix put before every route; empty or starting with `/`.
    pub prefix: String,
}

/// The way to a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A host and a port.
    Host {
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Socket(PathBuf),
}

/// TLS towards a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendTls {
    /// File with authorities; none means whom the system trusts.
    pub ca: Option<PathBuf>,
    /// Files with the gateway's own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The name that the backend's certificate must bear.
    pub name: Option<String>,
}

/// How members' health is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Path that must answer 2xx; none means that a connection is enough.
    pub path: Option<String>,
    /// Between two checks.
    pub every: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Checks in a row that must pass.
    pub healthy: usize,
    /// Checks in a row that must fail.
    pub unhealthy: usize,
}

/// When a member is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row.
    pub failures: u32,
    /// The first rest.
    pub rest: Duration,
}

/// How much may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Always.
    pub min: u16,
    /// At most.
    pub max: u16,
    /// Calls that may wait.
    pub queue: usize,
    /// How long one may wait.
    pub wait: Duration,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Folder of segments and checkpoints.
    pub dir: PathBuf,
    /// Name of this writer; unique among replicas that share a folder.
    pub writer: String,
    /// Name of the deployment, in every checkpoint.
    pub deployment: String,
    /// Bytes after which a segment is sealed.
    pub segment_bytes: u64,
    /// Records that may wait to be written.
    pub queue: usize,
    /// How long a call may wait for its record.
    pub deadline: Duration,
    /// Free bytes below which writes are refused.
    pub low_water_bytes: u64,
}

/// What remembers every write and every approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Where it is.
    pub place: LedgerPlace,
    /// How long whole answers are kept.
    pub keep: Duration,
    /// How long an unknown write may be sent again under its key.
    pub resend_within: Duration,
    /// How long a copy of a write may be on its way.
    pub settle_after: Duration,
}

/// Where a ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerPlace {
    /// In a file, for one gateway.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// In a database, shared by replicas.
    Postgres {
        /// File with the connection URL.
        url_file: PathBuf,
        /// Connections, at most.
        pool: usize,
    },
}

/// What people may do with approvals, writes and the journal besides what policy lets them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operators {
    /// Roles that may read all of their organisation's.
    pub read: Vec<String>,
    /// Roles that may also revoke approvals and settle unknown writes.
    pub settle: Vec<String>,
    /// Who may see, activate and roll back policy.
    pub policy: PolicyPeople,
}

/// Who may see, activate and roll back policy, which decides for every organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyPeople {
    /// Their organisations; none means nobody may.
    pub tenants: Vec<String>,
    /// Their organisation roles.
    pub roles: Vec<String>,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// JSON lines instead of text.
    pub json: bool,
    /// Level or filter, as `info` or `loopgate=debug`.
    pub filter: String,
}
