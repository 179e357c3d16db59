//! Sessions with legacy servers: one for each user of each issuer in each organisation.
//!
//! WHY not one for the gateway: a server may keep things in a session, such as a working directory or who
//! logged in, and nobody must find there what somebody else left. WHY not one for each of the client's own
//! connections: the gateway keeps no sessions with its clients, so there is nothing else to tell them apart by.
//!
//! Promises: bounded in number, given up when idle; never shared by two users. A session that is given up is
//! left to the server to forget. Called by [`super::carry`] and [`super::meet`].

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use super::server::Limits;
use crate::domain::mcp::Era;

/// Whose session: organisation, issuer and user.
pub(super) type Whose = [String; 3];

/// The session of one user, opened by the first who needs it while the others wait.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Arc<Session>>>>;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    /// Its id; none of a server that keeps no sessions.
    pub(super) id: Option<String>,
    /// The revision agreed on.
    pub(super) era: Era,
    used: Mutex<Instant>,
}

/// All sessions with one server.
pub(super) struct Sessions {
    slots: Cache<Whose, Slot>,
}

impl Session {
    pub(super) fn new(id: Option<String>, era: Era) -> Self {
        Self { id, era, used: Mutex::new(Instant::now()) }
    }

    /// How long ago the server was last heard to know it.
    pub(super) fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn known(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Sessions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { slots: Cache::builder().max_capacity(limits.sessions).time_to_idle(limits.session_idle).build() }
    }

    pub(super) fn of(&self, whose: Whose) -> Slot {
        self.slots.get_with(whose, Slot::default)
    }

    /// All are opened anew, because the server is another one now.
    pub(super) fn forget(&self) {
        self.slots.invalidate_all();
    }
}
