//! `backends[]`: where calls go, and what stands before it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::RawPropagation;

section! {
    /// Where calls go.
    RawBackend {
        /// Name that the catalog uses.
        name: String = "loopiq".into();
        /// Base URL, `http://host:port/prefix` or `https://…`, or `unix:/path` of a socket.
        url: String = String::new();
        /// More of them, one for each further member.
        urls: Vec<String> = Vec::new();
        /// A file with more of them, one to a line, read again when it changes. Empty: none.
        members_file: String = String::new();
        /// Who gets the next call: `round_robin`, or `tenant` for the same member for the same organisation.
        balance: Balance = Balance::RoundRobin;
        /// Whether host names may lead to private addresses; an address that the URL itself names is always reached.
        allow_private: bool = false;
        /// `Host` towards a Unix socket.
        host: String = "localhost".into();
        /// Time to connect.
        connect: String = "2s".into();
        /// Idle connections kept.
        pool: usize = 128;
        /// How long an idle connection is kept; must be shorter than the backend's own keep-alive.
        idle: String = "30s".into();
        /// TLS of `https` members. What is empty is as the system has it. Verification is never off.
        tls: RawBackendTls = RawBackendTls::default();
        /// HTTP/2: `auto` when a member agrees to it over TLS, `never`, or `only`.
        http2: Http2 = Http2::Auto;
        /// How members' health is checked. One that fails is left out, unless all do.
        health: RawHealth = RawHealth::default();
        /// When a member is left alone for a while.
        breaker: RawBreaker = RawBreaker::default();
        /// How much may be under way at once.
        concurrency: RawConcurrency = RawConcurrency::default();
        /// How the gateway proves the caller to the backend.
        propagation: RawPropagation = RawPropagation::default();
    }
}

section! {
    /// TLS towards a backend; files are read again when they change.
    RawBackendTls {
        /// File with the authorities (PEM) that may sign its certificate. Empty: whom the system trusts.
        ca: String = String::new();
        /// File with the gateway's own certificate and its chain (PEM). Empty: none is shown.
        certificate: String = String::new();
        /// File with the key (PEM) of that certificate.
        key: String = String::new();
        /// The name that its certificate must bear. Empty: the host of the URL.
        name: String = String::new();
    }
}

section! {
    /// How members' health is checked.
    RawHealth {
        /// Path that must answer 2xx. Empty: a connection is enough.
        path: String = String::new();
        /// Between two checks of a member.
        every: String = "5s".into();
        /// For one check.
        timeout: String = "1s".into();
        /// Checks in a row that must pass before a member is used again.
        healthy: usize = 2;
        /// Checks in a row that must fail before it is left out.
        unhealthy: usize = 3;
    }
}

section! {
    /// When a member is left alone: no connection, no answer in time, a broken one, or 502, 503, 504.
    RawBreaker {
        /// Failures in a row.
        failures: u32 = 5;
        /// The first rest; each further one is twice as long, up to 30 s. It ends with one read, or a health check.
        rest: String = "2s".into();
    }
}

section! {
    /// How much may be under way at once. The limit moves between `min` and `max` with how fast answers come; a fifth of
    /// it is kept from reads of tools that only read.
    RawConcurrency {
        /// Exchanges that may always be under way.
        min: u16 = 8;
        /// Exchanges that may be under way at most.
        max: u16 = 256;
        /// Calls that may wait for room; beyond that they are refused with `overloaded`.
        queue: usize = 128;
        /// How long one may wait.
        wait: String = "1s".into();
    }
}

/// Who gets the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Everybody in turn.
    RoundRobin,
    /// The same member for the same organisation.
    Tenant,
}

/// Whether HTTP/2 is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Http2 {
    /// When a member agrees to it over TLS.
    Auto,
    /// Never.
    Never,
    /// Always; without TLS too.
    Only,
}
