//! How many calls may be made: `limits.rates` and `limits.subscriptions` as they are written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

section! {
    /// How many messages may be sent, and where they are counted. What is 0 is not limited.
    RawRates {
        /// Messages for one organisation, over all its callers.
        tenant: RawRate = RawRate::default();
        /// Messages of one caller in one organisation.
        user: RawRate = RawRate::default();
        /// Calls of one tool in one organisation.
        tool: RawRate = RawRate::default();
        /// Failed credentials of one address; behind a load balancer all callers have its address.
        failures: RawRate = RawRate::default();
        /// Classes that a policy's `limit` obligation may name: calls of one caller in one organisation.
        classes: BTreeMap<String, RawRate> = BTreeMap::new();
        /// Messages of one organisation under way at once, in each gateway.
        concurrent: usize = 0;
        /// Where replicas count: each for itself, in the database of `ledger`, or in a Redis-compatible store.
        shared: SharedCounters = SharedCounters::Local;
        /// File with the connection URL of `shared: redis`, which may hold a password.
        url_file: String = String::new();
    }
}

section! {
    /// So many in a second or in a minute, and so many at once.
    RawRate {
        /// In a second.
        per_second: u64 = 0;
        /// Or in a minute.
        per_minute: u64 = 0;
        /// At once, after a pause. 0: as many as in that second or minute.
        burst: u64 = 0;
    }
}

/// Where replicas count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SharedCounters {
    /// Each for itself: together they let through as many times the rate as there are replicas.
    Local,
    /// In the database of `ledger`, which must be of kind `postgres`.
    Postgres,
    /// In a Redis-compatible store.
    Redis,
}

section! {
    /// Streams that tell clients of changes (`subscriptions/listen`), in each gateway.
    RawSubscriptions {
        /// Of one caller in one organisation.
        caller: usize = 8;
        /// In all; each keeps a connection open.
        all: usize = 1000;
    }
}
