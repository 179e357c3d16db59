//! Faults on demand, and a memory of the requests seen.
//!
//! Promises: a fault strikes as often as asked and then is gone; the memory is bounded. Never
//! strikes the sandbox's own controls. Set through `sandbox::controls`, read by `sandbox::door`.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Most requests remembered; older ones make room.
const SEEN_MAX: usize = 10_000;

/// Most bytes of a body remembered; what is longer is cut.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wrong {
    /// The answer takes `ms` longer.
    Delay,
    /// Nothing is done and `status` is answered.
    Status,
    /// The connection is reset and nothing is kept.
    ResetBeforeCommit,
    /// The connection is reset after everything is kept.
    ResetAfterCommit,
    /// One record of the answer belongs to another organisation.
    ForeignRecord,
    /// The answer is padded to `bytes`.
    Oversized,
    /// The answer is no JSON.
    BadJson,
    /// The answer ends before its announced length.
    Truncated,
}

/// When a delay strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Moment {
    /// Before anything is done; a caller who leaves meanwhile has changed nothing.
    #[default]
    Before,
    /// After everything is kept.
    After,
}

/// A fault waiting for its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// Only requests of this method; any when absent.
    #[serde(default)]
    pub(super) method: Option<String>,
    /// Path, or its beginning.
    pub(super) path: String,
    /// Whether `path` is the whole path.
    #[serde(default)]
    pub(super) exact: bool,
    /// Only dry runs, or only what is none; either when absent.
    #[serde(default)]
    pub(super) dry_run: Option<bool>,
    /// What goes wrong.
    pub(super) kind: Wrong,
    /// Milliseconds of a delay.
    #[serde(default = "delay_ms")]
    pub(super) ms: u64,
    /// When a delay strikes.
    #[serde(default)]
    pub(super) when: Moment,
    /// Status of a status fault.
    #[serde(default = "status")]
    pub(super) status: u16,
    /// Size of an oversized answer.
    #[serde(default = "oversized_bytes")]
    pub(super) bytes: usize,
    /// How often it strikes.
    #[serde(default = "once")]
    pub(super) times: u32,
}

fn delay_ms() -> u64 {
    1000
}

fn status() -> u16 {
    500
}

fn oversized_bytes() -> usize {
    16 * 1024 * 1024
}

fn once() -> u32 {
    1
}

impl Fault {
    /// What is wrong with the fault itself.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self { times: 0, .. } => Err("`times` must be at least 1"),
            Self { path, .. } if !path.starts_with('/') => Err("`path` must start with `/`"),
            Self { ms, .. } if *ms > 600_000 => Err("`ms` must be at most 600000"),
            Self { bytes, .. } if *bytes > 256 * 1024 * 1024 => Err("`bytes` must be at most 268435456"),
            Self { status, .. } if !(200..=599).contains(status) => Err("`status` must be 200 to 599"),
            _ => Ok(()),
        }
    }

    fn strikes(&self, method: &str, uri: &http::Uri) -> bool {
        let path = uri.path();
        let dry_run = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "dryRun=true"));
        let here = if self.exact { path == self.path } else { path.starts_with(&self.path) };
        here && self.dry_run.is_none_or(|wanted| wanted == dry_run)
            && self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
    }
}

/// Faults waiting and requests seen.
#[derive(Debug, Default)]
pub(super) struct Panel {
    faults: Mutex<Vec<Fault>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: VecDeque<Value>,
    dropped: u64,
}

impl Panel {
    /// Adds a fault behind those that wait.
    pub(super) fn add(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// The faults that wait.
    pub(super) fn waiting(&self) -> Vec<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets every fault.
    pub(super) fn clear_faults(&self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The first fault that strikes this request, used up by one.
    pub(super) fn strike(&self, method: &str, uri: &http::Uri) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = faults.iter_mut().find(|fault| fault.strikes(method, uri))?;
        fault.times = fault.times.saturating_sub(1);
        let struck = fault.clone();
        faults.retain(|fault| fault.times > 0);
        Some(struck)
    }

    /// Remembers a request with its credentials: what a caller sends here is what a test wants to see.
    pub(super) fn remember(&self, method: &str, uri: &http::Uri, headers: &HeaderMap, body: &[u8], now: Timestamp) {
        let mut shown = Map::new();
        for name in headers.keys() {
            let values: Vec<_> = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
            shown.insert(name.to_string(), Value::from(values.join(", ")));
        }
        let request = json!({
            "method": method,
            "path": uri.path(),
            "query": uri.query(),
            "headers": shown,
            "body": String::from_utf8_lossy(body.get(..BODY_BYTES_MAX).unwrap_or(body)),
            "bodyBytes": body.len(),
            "at": now.to_string(),
        });
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.requests.len() == SEEN_MAX {
            seen.requests.pop_front();
            seen.dropped = seen.dropped.saturating_add(1);
        }
        seen.requests.push_back(request);
    }

    /// The requests seen, oldest first.
    pub(super) fn seen(&self) -> Value {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        json!({"items": seen.requests, "dropped": seen.dropped})
    }

    /// Forgets the requests seen.
    pub(super) fn clear_seen(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_requests_is_bounded_and_the_oldest_go() {
        let panel = Panel::default();
        for n in 0..=SEEN_MAX {
            let uri = format!("/api/v1/releases/{n}").parse().unwrap();
            let body = vec![b'x'; if n == SEEN_MAX { BODY_BYTES_MAX + 1 } else { 0 }];
            panel.remember("GET", &uri, &HeaderMap::new(), &body, Timestamp::UNIX_EPOCH);
        }
        let seen = panel.seen();
        assert_eq!(seen["items"].as_array().unwrap().len(), SEEN_MAX);
        assert_eq!((&seen["dropped"], &seen["items"][0]["path"]), (&json!(1), &json!("/api/v1/releases/1")));
        let last = &seen["items"][SEEN_MAX - 1];
        assert_eq!(last["body"].as_str().unwrap().len(), BODY_BYTES_MAX);
        assert_eq!(last["bodyBytes"], json!(BODY_BYTES_MAX + 1));
    }
}
