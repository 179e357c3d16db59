//! Buckets in a Redis-compatible store (Redis 5 or later, Valkey).
//!
//! Promises: one round trip for one draw, counted by the store's own clock and in one step, so that
//! replicas never count past each other; a key goes away by itself when its bucket is full again;
//! starts while the store is away and finds it again. What a failover of the store forgets is counted
//! anew. Never shows the connection URL. Called by the counters.

use std::time::Duration;

use async_trait::async_trait;
use redis::Client;
use redis::Script;
use redis::aio::ConnectionManager;
use redis::aio::ConnectionManagerConfig;
use tokio::time::timeout;

use crate::domain::limit::Grant;
use crate::domain::limit::Key;
use crate::domain::limit::Rate;
use crate::domain::limit::SKEW_MS;
use crate::pep::ports::Buckets;
use crate::pep::ports::BucketsFault;

/// The same steps as those of `domain::limit::Bucket`. Every number stays below 2^53.
const DRAW: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local calls, window, capacity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full, want, skew = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local kept = redis.call('HMGET', KEYS[1], 'units', 'at')
local units, at = tonumber(kept[1]), tonumber(kept[2])
if not units or not at then
    units, at = capacity, now
end
if now < at then
    if at - now > skew then at = now end
else
    units = math.min(capacity, units + math.min(now - at, full) * calls)
    at = now
end
local granted = math.min(want, math.floor(units / window))
units = units - granted * window
redis.call('HSET', KEYS[1], 'units', string.format('%.0f', units), 'at', string.format('%.0f', at))
redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - units) / calls) + (at - now) + 1000)
local wait = 0
if granted < 1 then wait = math.ceil((window - units) / calls) + (at - now) end
return {granted, wait}
";
/// Longest wait for a sign of life.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// What every key begins with, so that the store may be shared with others.
const PREFIX: &str = "loopgate:limit:";

/// A Redis-compatible store.
pub struct Redis {
    connection: ConnectionManager,
    draw: Script,
}

/// What can be known of a connection URL without reaching for anything.
pub fn check(url: &str) -> Result<(), BucketsFault> {
    client(url).map(|_| ())
}

fn client(url: &str) -> Result<Client, BucketsFault> {
    // WHY not in the driver's words: they may quote the URL, which may hold a password.
    Client::open(url).map_err(|_| BucketsFault("the connection URL is none of a Redis".to_owned()))
}

impl Redis {
    /// Behind a connection URL: `redis://`, `rediss://` (TLS) or `redis+unix://`. Reached when it is first used.
    pub fn new(url: &str) -> Result<Self, BucketsFault> {
        let fault = |error: redis::RedisError| BucketsFault(error.to_string());
        let connection = ConnectionManager::new_lazy_with_config(client(url)?, ConnectionManagerConfig::new());
        Ok(Self { connection: connection.map_err(fault)?, draw: Script::new(DRAW) })
    }

    /// Whether it answers. Changes nothing.
    pub async fn probe(&self) -> Result<(), BucketsFault> {
        let mut connection = self.connection.clone();
        let ping = redis::cmd("PING");
        let answered = timeout(PROBE_WITHIN, ping.query_async::<String>(&mut connection)).await;
        let answer = answered.map_err(|_| BucketsFault(format!("no answer within {} s", PROBE_WITHIN.as_secs())))?;
        answer.map(|_| ()).map_err(|error| BucketsFault(error.to_string()))
    }
}

#[async_trait]
impl Buckets for Redis {
    async fn draw(&self, key: &Key, rate: &Rate, want: u64) -> Result<Grant, BucketsFault> {
        let mut connection = self.connection.clone();
        let drawn: Result<(u64, u64), _> = self
            .draw
            .key(format!("{PREFIX}{}", key.as_str()))
            .arg(rate.calls())
            .arg(rate.window_ms())
            .arg(rate.capacity())
            .arg(rate.full_ms())
            .arg(want)
            .arg(SKEW_MS)
            .invoke_async(&mut connection)
            .await;
        let (calls, wait_ms) = drawn.map_err(|error| BucketsFault(error.to_string()))?;
        Ok(Grant { calls, wait_ms })
    }
}
