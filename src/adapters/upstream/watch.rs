//! Keeping what is known of a server fresh: at the start, every so often, and when the server says that it changed.
//!
//! Promises: a server that cannot be reached keeps its last offer, and is tried again after longer and longer
//! pauses; one that says all the time that it changed is read at most once a second; nothing here is waited for
//! by a call. Called by [`super::UpstreamServers`].

use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tracing::info;
use tracing::warn;

use super::carry::cancelled;
use super::meet::own;
use super::server::Spoken;
use super::server::Upstream;
use super::wire::Manner;
use crate::domain::mcp::Era;
use crate::domain::upstream::Offer;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// Shortest pause between two readings.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Time for all lists together, in times of one exchange.
const READING_EXCHANGES: u32 = 10;

/// How long one stream of changes is listened to. WHY: a connection that died silently is noticed by then.
const LISTEN_FOR: Duration = Duration::from_mins(10);

/// A legacy request that is no longer wanted.
pub(super) struct Unwanted {
    pub(super) era: Era,
    pub(super) session: Option<String>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) id: i64,
}

impl Upstream {
    /// Runs until it is dropped. Every reading is told, whatever came of it.
    pub(super) async fn keep(&self, told: impl Fn(Result<Offer, SendFault>)) {
        tokio::join!(self.read_again_and_again(told), self.listen_for_changes(), self.take_back());
    }

    async fn read_again_and_again(&self, told: impl Fn(Result<Offer, SendFault>)) {
        let mut pause = PAUSE_MIN;
        loop {
            let read = self.read().await;
            let good = read.is_ok();
            match (&read, self.state().fault) {
                (Err(fault), before) if before.as_deref() != Some(&fault.detail) => {
                    warn!("upstream `{}` cannot be read: {fault}", self.settings.name);
                }
                (Ok(offer), Some(_)) => info!("upstream `{}` is read again, by {}", self.settings.name, offer.era),
                (Ok(_), None) | (Err(_), _) => {}
            }
            self.note(read.as_ref().err().map(|fault| fault.detail.clone()));
            told(read);
            pause = if good { PAUSE_MIN } else { (pause * 2).min(self.settings.refresh.max(PAUSE_MIN)) };
            let wait = if good { self.settings.refresh } else { pause };
            tokio::time::sleep(PAUSE_MIN).await;
            tokio::select! {
                () = tokio::time::sleep(wait.saturating_sub(PAUSE_MIN)) => {}
                // WHY only of a server that works: whoever calls one that does not would have it tried all the time.
                () = self.to_be_looked_at(), if good => {}
            }
        }
    }

    pub(super) async fn read(&self) -> Result<Offer, SendFault> {
        if self.settings.place.tls && self.trust.look(&self.settings.name) {
            self.links.forget();
        }
        let within = self.settings.timeout * READING_EXCHANGES;
        let read = tokio::time::timeout(within, self.read_untimed()).await;
        let late = || format!("the lists did not come within {within:?}");
        read.unwrap_or_else(|_| Err(SendFault { kind: SendFaultKind::Timeout, bytes_left: true, detail: late() }))
    }

    async fn read_untimed(&self) -> Result<Offer, SendFault> {
        let known = self.spoken.load_full().filter(|spoken| !spoken.era.is_modern());
        // WHY a fault is none yet: its session has ended, or it is another server by now.
        if let Some(spoken) = known
            && let Ok(offer) = self.offered(&spoken).await
        {
            return Ok(offer);
        }
        let spoken = self.meet().await?;
        let changed = self.spoken.load().as_ref().is_some_and(|before| before.era != spoken.era);
        if changed {
            self.sessions.forget();
        }
        let offer = self.offered(&spoken).await?;
        self.spoken.store(Some(spoken.into()));
        self.met.notify_one();
        Ok(offer)
    }

    /// Has the server tell when its lists change, if it says that it does.
    async fn listen_for_changes(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let Some(spoken) = self.spoken.load_full().filter(|spoken| tells(&spoken.capabilities)) else {
                self.met.notified().await;
                continue;
            };
            // Whether it ended well or not, it is tried again, and polling goes on meanwhile.
            match tokio::time::timeout(LISTEN_FOR, self.listen(&spoken)).await {
                Err(_) => pause = PAUSE_MIN,
                Ok(_) => pause = (pause * 2).min(self.settings.refresh.max(PAUSE_MIN)),
            }
            tokio::time::sleep(pause).await;
            // What changed while nobody listened.
            self.look_again();
        }
    }

    async fn listen(&self, spoken: &Spoken) -> Result<(), SendFault> {
        let session = spoken.session.as_ref().and_then(|session| session.id.as_deref());
        let manner = Manner { era: spoken.era, session, headers: &[] };
        let leaving = AtomicBool::new(false);
        let mut params = Map::new();
        if !spoken.era.is_modern() {
            return self.overhear(own(manner, "", &params, &leaving)).await;
        }
        let lists =
            [("tools", "toolsListChanged"), ("prompts", "promptsListChanged"), ("resources", "resourcesListChanged")];
        let wanted = lists.into_iter().filter(|(capability, _)| changes(&spoken.capabilities, capability));
        params.insert("notifications".to_owned(), wanted.map(|(_, name)| (name.to_owned(), json!(true))).collect());
        self.ask(own(manner, "subscriptions/listen", &params, &leaving), self.next_id()).await.map(|_| ())
    }

    /// Tells the server of requests that nobody waits for any more.
    async fn take_back(&self) {
        let inbox = self.unwanted_inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut inbox) = inbox else { return };
        while let Some(unwanted) = inbox.recv().await {
            let manner = Manner { era: unwanted.era, session: unwanted.session.as_deref(), headers: &unwanted.headers };
            // A server that does not hear it works on for nothing; that is all.
            let _unheard = self.aside(manner, &cancelled(unwanted.id)).await;
        }
    }
}

fn changes(capabilities: &Map<String, Value>, capability: &str) -> bool {
    capabilities.get(capability).and_then(|one| one.get("listChanged")) == Some(&Value::Bool(true))
}

fn tells(capabilities: &Map<String, Value>) -> bool {
    ["tools", "prompts", "resources"].into_iter().any(|one| changes(capabilities, one))
}
