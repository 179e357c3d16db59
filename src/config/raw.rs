//! The file as it is written: one struct per section, every field with its default.
//!
//! `config/schema.json` is generated from here; `config/gateway.yaml` shows every field.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

pub(super) use self::rates::RawRate;
pub(super) use self::rates::RawRates;
pub(super) use self::rates::RawSubscriptions;
pub(super) use self::rates::SharedCounters;

/// Defines a section with its defaults beside its fields.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $( $(#[$field_doc:meta])* $field:ident : $kind:ty = $default:expr; )* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $( $(#[$field_doc])* pub $field: $kind, )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }
    };
}

mod backends;
mod upstream;

pub use self::backends::Balance;
pub use self::backends::Http2;
pub use self::backends::RawBackend;
pub(super) use self::backends::RawBackendTls;
pub(super) use self::backends::RawBreaker;
pub(super) use self::backends::RawConcurrency;
pub(super) use self::backends::RawHealth;
mod callers;

pub(super) use callers::PropagationMode;
pub use callers::RawClaims;
pub(super) use callers::RawIntrospection;
pub use callers::RawIssuer;
pub(super) use callers::RawKeySource;
pub(super) use callers::RawKeys;
pub(super) use callers::RawPropagation;
pub(super) use callers::RawScopes;
mod rates;
pub(super) use self::upstream::RawCredentialMode;
pub use self::upstream::RawUpstream;
pub(super) use self::upstream::RawUpstreamTool;

section! {
    /// The settings file of the gateway.
    RawConfig {
        /// Listeners.
        listen: RawListen = RawListen::default();
        /// The URL that clients dial, the `resource` of RFC 9728; needed behind a load balancer. Empty: the MCP listener's own address.
        public_url: String = String::new();
        /// Host names that a request may carry besides the listener's own and the public URL's.
        allowed_hosts: Vec<String> = Vec::new();
        /// Origins of browser clients that may call; any other `Origin` is refused.
        allowed_origins: Vec<String> = Vec::new();
        /// Bounds on what strangers may send.
        limits: RawLimits = RawLimits::default();
        /// Who vouches for callers; at least one.
        issuers: Vec<RawIssuer> = Vec::new();
        /// Scopes that calls need.
        scopes: RawScopes = RawScopes::default();
        /// File with tools and routes.
        catalog: String = "catalog.yaml".into();
        /// The policy bundle.
        policy: RawPolicy = RawPolicy::default();
        /// Where calls go; at least one.
        backends: Vec<RawBackend> = Vec::new();
        /// Upstream MCP servers whose tools, prompts and resources are passed on under policy.
        upstreams: Vec<RawUpstream> = Vec::new();
        /// The journal.
        audit: RawAudit = RawAudit::default();
        /// What remembers every write and every approval.
        ledger: RawLedger = RawLedger::default();
        /// Approvals by people.
        approvals: RawApprovals = RawApprovals::default();
        /// What people may do with approvals, writes and the journal besides what policy lets them.
        operators: RawOperators = RawOperators::default();
        /// The gateway's own keys.
        keys: RawKeys = RawKeys::default();
        /// Tool lists.
        tools_list: RawToolsList = RawToolsList::default();
        /// How long calls under way may take to end when the gateway is stopped.
        drain: String = "20s".into();
        /// Logs.
        log: RawLog = RawLog::default();
    }
}

section! {
    /// Listeners.
    RawListen {
        /// Where MCP clients connect, as `address:port`.
        mcp: String = "127.0.0.1:8080".into();
        /// TLS, with HTTP/2, where MCP clients connect. Without it a proxy in front must have TLS, unless all are on this machine.
        tls: RawTls = RawTls::default();
        /// A Unix socket for MCP clients besides, for owner and group of the gateway. Empty: none.
        mcp_socket: String = String::new();
        /// Where operators connect: health, metrics, API. Keep it off the public network.
        admin: String = "127.0.0.1:8081".into();
        /// TLS where operators connect.
        admin_tls: RawTls = RawTls::default();
    }
}

section! {
    /// TLS of a listener. Its files are read again when they change.
    RawTls {
        /// File with the certificate and its chain (PEM). Empty: no TLS.
        certificate: String = String::new();
        /// File with its private key (PEM).
        key: String = String::new();
        /// Clients that show a certificate of their own.
        clients: RawTlsClients = RawTlsClients::default();
    }
}

section! {
    /// Clients that show a certificate of their own.
    RawTlsClients {
        /// File with the certificates of their authorities (PEM). Empty: nobody is asked for one.
        ca: String = String::new();
        /// Whether a client without one is sent away.
        required: bool = false;
    }
}

section! {
    /// Bounds on what strangers may send.
    RawLimits {
        /// Size of a request body. A call's arguments are kept in memory and in the journal.
        body: String = "1MiB".into();
        /// Nesting of a JSON document.
        json_depth: usize = 64;
        /// Members and elements of a JSON document, all told.
        json_members: usize = 10_000;
        /// Time for a whole request to arrive; slower clients are cut off.
        request_arrival: String = "15s".into();
        /// Connections at once; each idle one costs about 18 KiB.
        connections: usize = 12_000;
        /// Size of a backend's answer; a larger one is refused with `response_too_large`.
        response: String = "4MiB".into();
        /// How many messages may be sent, and where they are counted.
        rates: RawRates = RawRates::default();
        /// Streams that tell clients of changes.
        subscriptions: RawSubscriptions = RawSubscriptions::default();
    }
}

section! {
    /// The policy bundle, and how a change of it goes live.
    RawPolicy {
        /// Folder with `.rego` files and `data/`; read unless `bundle.url` is set.
        dir: String = "../policies".into();
        /// How often policies, catalog and key files are looked at for changes.
        reload_every: String = "1s".into();
        /// Folder of the bundles that were in force, and of which one is. Losing it is losing rollback and the proof of replays.
        store: String = "../data/policies".into();
        /// A bundle pulled from a server instead of `dir`.
        bundle: RawServed = RawServed::default();
        /// `automatic`: a changed bundle that passes the check decides at once. `gated`: it waits for a replay report and a person.
        activation: Activation = Activation::Automatic;
        /// What a gated activation needs.
        gate: RawGate = RawGate::default();
        /// A candidate that is evaluated beside the live policy and decides nothing.
        shadow: RawShadow = RawShadow::default();
        /// When a candidate that decides a part of the calls is taken back by itself.
        canary: RawCanary = RawCanary::default();
    }
}

/// How a changed bundle goes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// At once, when it passes the check.
    Automatic,
    /// With a signed replay report and a person's approval.
    Gated,
}

section! {
    /// A bundle pulled from a server, in OPA's format.
    RawServed {
        /// Its address; `https`, or `http` on a loopback address. Empty: `policy.dir` is read.
        url: String = String::new();
        /// File with a bearer token for the server.
        token_file: String = String::new();
        /// Files with the public keys (PEM) of those who may sign it; at least one.
        keys: Vec<String> = Vec::new();
        /// The `scope` that a signature must carry. Empty: none.
        scope: String = String::new();
        /// How often the server is asked; after a failure it is asked ever more rarely.
        every: String = "60s".into();
        /// Whether a bundle older than the one in force may follow it.
        allow_rollback: bool = false;
    }
}

section! {
    /// What a gated activation needs.
    RawGate {
        /// Recorded decisions that the replay must have made again, at least.
        decisions: u64 = 1000;
        /// How old the report may be.
        age: String = "24h".into();
        /// Files with the public keys (PEM) of others who may sign reports. The gateway's own report key always may.
        keys: Vec<String> = Vec::new();
    }
}

section! {
    /// A candidate that is evaluated beside the live policy and decides nothing.
    RawShadow {
        /// Its folder. Empty: the bundle that waits for activation.
        dir: String = String::new();
        /// Organisations whose calls it is asked about.
        tenants: Vec<String> = Vec::new();
        /// And the share of all other calls, in percent.
        percent: u8 = 0;
    }
}

section! {
    /// When a candidate that decides a part of the calls is taken back by itself.
    RawCanary {
        /// Decisions before it is judged.
        least: u64 = 100;
        /// Share of its calls, in percent, that only one of it and the live policy may deny.
        band: u8 = 5;
        /// Share of its decisions that may fail, in percent.
        errors: u8 = 0;
        /// Time over which the shares are counted; longer where fewer decisions than `least` are made in it.
        window: String = "10m".into();
    }
}

section! {
    /// The journal.
    RawAudit {
        /// Folder of segments and checkpoints. Losing it is losing the evidence.
        dir: String = "../data/audit".into();
        /// Name of this writer; unique among replicas.
        writer: String = "gateway-1".into();
        /// Name of the deployment, in every checkpoint.
        deployment: String = "loopgate".into();
        /// Size after which a segment is sealed.
        segment: String = "128MiB".into();
        /// Records that may wait to be written; beyond that calls are refused.
        queue: usize = 4096;
        /// How long a call may wait for its record to be durable.
        deadline: String = "5s".into();
        /// Free space below which writes are refused; reads go on until the disk is full.
        low_water: String = "64MiB".into();
    }
}

section! {
    /// What remembers every write and every approval, so that a write happens once.
    RawLedger {
        /// `sqlite`: a file, for one gateway. `postgres`: a database, shared by replicas.
        kind: LedgerKind = LedgerKind::Sqlite;
        /// The file of kind `sqlite`. Losing it is losing the memory of what was done.
        path: String = "../data/ledger.db".into();
        /// File with the connection URL of kind `postgres`, which holds a password.
        url_file: String = String::new();
        /// Connections to the database, at most.
        pool: usize = 16;
        /// How long whole answers are kept, to be given again; that a write was done is kept for ever.
        keep: String = "30d".into();
        /// How long a write whose outcome is unknown may be sent again under its key; no longer than the backend remembers keys.
        resend_within: String = "1h".into();
        /// How long a copy of a write may be on its way: LoopIQ must lack it for longer before it counts as not made.
        settle_after: String = "30s".into();
    }
}

/// Which engine keeps the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LedgerKind {
    /// A file, for one gateway.
    Sqlite,
    /// A database, shared by replicas.
    Postgres,
}

section! {
    /// Approvals by people.
    RawApprovals {
        /// Base URL that approvers open. Empty: the operators' door.
        link: String = String::new();
        /// Whose signed approvals are accepted, such as those that LoopIQ asks people for itself. Empty: nobody's.
        issuers: Vec<RawApprovalIssuer> = Vec::new();
    }
}

section! {
    /// Whose signed approvals are accepted.
    RawApprovalIssuer {
        /// Short name, up to 64 characters; it begins the ids of its approvals here, so it stays once used.
        name: String = String::new();
        /// Exact value of the approval's `iss`.
        issuer: String = String::new();
        /// Accepted signature algorithms. `HS256` is possible alone, with `keys.secret_file`.
        algorithms: Vec<String> = vec!["RS256".into(), "ES256".into(), "EdDSA".into()];
        /// Where the keys are; exactly one member.
        keys: RawKeySource = RawKeySource::default();
        /// Tenants that it may approve for. Empty: any.
        tenants: Vec<String> = Vec::new();
    }
}

section! {
    /// What people may do with approvals, writes and the journal besides what policy lets them.
    RawOperators {
        /// Organisation roles that may read every approval, every write and the journal of their organisation.
        read: Vec<String> = vec!["auditor".into(), "tenant_admin".into()];
        /// Organisation roles that may also revoke any approval and say what became of an unknown write.
        settle: Vec<String> = vec!["tenant_admin".into()];
        /// Who may see, activate and roll back policy, which decides for every organisation.
        policy: RawPolicyPeople = RawPolicyPeople::default();
    }
}

section! {
    /// Who may see, activate and roll back policy: people of these organisations with one of these roles.
    RawPolicyPeople {
        /// Organisations, such as the one that runs the gateway. Empty: nobody may.
        tenants: Vec<String> = Vec::new();
        /// Organisation roles.
        roles: Vec<String> = vec!["policy_admin".into()];
    }
}

section! {
    /// Tool lists.
    RawToolsList {
        /// Tools per page.
        page: usize = 100;
        /// How long a client may keep a list before asking again.
        ttl: String = "60s".into();
    }
}

section! {
    /// Logs.
    RawLog {
        /// `text` for people, `json` for machines.
        format: LogFormat = LogFormat::Text;
        /// Level or filter, as `info`, or `info,loopgate=debug`.
        filter: String = "info".into();
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The JSON Schema of the settings file, as committed in `config/schema.json`.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RawConfig).to_value()
}
