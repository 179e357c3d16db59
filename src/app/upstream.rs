//! Upstream MCP servers: on which terms they are passed on, and what is shown them.
//!
//! Promises: every one of the settings has its terms and its credential. Called by the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::domain::upstream::Offer;
use crate::pep::ports::Upstreams;

/// Nobody offers anything.
pub(super) struct Nobody;

impl Upstreams for Nobody {
    fn offers(&self) -> Arc<BTreeMap<String, Arc<Offer>>> {
        Arc::default()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
