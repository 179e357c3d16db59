//! One upstream server: how it is set, and what is known of it.
//!
//! Promises: nothing here waits or sends; a credential is read from its file whenever it is needed, so that a
//! changed one is used at once, and shows in no log. Called by every other file of this room.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde_json::Map;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::link::Links;
use super::place::Place;
use super::session::Session;
use super::session::Sessions;
use super::trust::Trust;
use super::trust::TrustFiles;
use super::watch::Unwanted;
use crate::domain::canonical;
use crate::domain::mcp::Era;
use crate::domain::upstream::Offer;

/// Requests that a server is to be told are no longer wanted; more at once are not told.
const UNWANTED_MAX: usize = 64;

/// How one server is reached and how much is taken from it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name in the settings.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// Whom its TLS believes.
    pub trust: TrustFiles,
    /// A file with the bearer token that the gateway shows where a call carries no credential of its own, above all when it reads what is offered.
    pub credential: Option<PathBuf>,
    /// Time to connect.
    pub connect: Duration,
    /// Time for each exchange that the gateway makes for itself.
    pub timeout: Duration,
    /// How often what is offered is read again.
    pub refresh: Duration,
    /// Bounds.
    pub limits: Limits,
}

/// How much is taken from a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of an answer, and of an event.
    pub answer_bytes: usize,
    /// Shape of one; its `bytes_max` is not read.
    pub json: canonical::Limits,
    /// Pages of one list.
    pub pages: usize,
    /// Elements of one list.
    pub items: usize,
    /// Legacy sessions at once, one for each user of each organisation; the least used is given up for a new one.
    pub sessions: u64,
    /// After how long without a call a legacy session is given up.
    pub session_idle: Duration,
}

impl Default for Limits {
    /// A page of large definitions is some hundred KiB; the rest is well above what servers have.
    fn default() -> Self {
        Self {
            answer_bytes: 4 << 20,
            json: canonical::Limits { members_max: 100_000, ..canonical::Limits::default() },
            pages: 100,
            items: 2_000,
            sessions: 1_000,
            session_idle: Duration::from_mins(30),
        }
    }
}

/// What was agreed on with a server.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) era: Era,
    pub(super) capabilities: Map<String, Value>,
    /// The gateway's own session with a legacy server.
    pub(super) session: Option<Arc<Session>>,
}

/// How a server stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub server: String,
    /// The revision spoken, once it was reached.
    pub era: Option<Era>,
    /// How long ago its offer was read, if it ever was.
    pub read_ago: Option<Duration>,
    /// Why it could not be read since.
    pub fault: Option<String>,
}

/// One server.
pub(super) struct Upstream {
    pub(super) settings: Server,
    pub(super) links: Links,
    pub(super) trust: Trust,
    pub(super) sessions: Sessions,
    pub(super) spoken: ArcSwapOption<Spoken>,
    pub(super) offer: ArcSwapOption<Offer>,
    pub(super) met: Notify,
    pub(super) unwanted: mpsc::Sender<Unwanted>,
    pub(super) unwanted_inbox: Mutex<Option<mpsc::Receiver<Unwanted>>>,
    changed: Notify,
    ids: AtomicI64,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    read: Option<Instant>,
    fault: Option<String>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.settings.name).finish()
    }
}

impl Upstream {
    /// Connects nothing yet.
    pub(super) fn new(settings: Server) -> Self {
        let (unwanted, inbox) = mpsc::channel(UNWANTED_MAX);
        let trust = Trust::new(settings.trust.clone());
        if settings.place.tls {
            trust.look(&settings.name);
        }
        Self {
            links: Links::new(settings.place.clone(), settings.connect),
            trust,
            sessions: Sessions::new(&settings.limits),
            spoken: ArcSwapOption::empty(),
            offer: ArcSwapOption::empty(),
            met: Notify::new(),
            unwanted,
            unwanted_inbox: Mutex::new(Some(inbox)),
            changed: Notify::new(),
            ids: AtomicI64::new(1),
            last: Mutex::default(),
            settings,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Never the same twice on any connection or session.
    pub(super) fn next_id(&self) -> i64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// What is offered is to be read again soon.
    pub(super) fn look_again(&self) {
        self.changed.notify_one();
    }

    pub(super) async fn to_be_looked_at(&self) {
        self.changed.notified().await;
    }

    /// The bearer token of the gateway itself.
    pub(super) fn credential(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.settings.credential else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|cause| format!("{}: {cause}", path.display()))?;
        match text.trim() {
            "" => Err(format!("{}: the file is empty; put the bearer token there", path.display())),
            token => Ok(Some(token.to_owned())),
        }
    }

    pub(super) fn note(&self, fault: Option<String>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.is_none() {
            last.read = Some(Instant::now());
        }
        last.fault = fault;
    }

    pub(super) fn state(&self) -> State {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        State {
            server: self.settings.name.clone(),
            era: self.spoken.load().as_ref().map(|spoken| spoken.era),
            read_ago: last.read.map(|read| read.elapsed()),
            fault: last.fault.clone(),
        }
    }
}
