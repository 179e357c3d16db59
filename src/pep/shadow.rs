//! Decisions that other rules are asked about, off the path of the calls.
//!
//! Promises: telling never waits and never fails a call: what does not fit in the queue, in number
//! or in bytes, is dropped and counted; what is told is what was recorded, and nothing of it is
//! changed. Never decides.
//! Filled by `pep::decide`; emptied by [`judge`], which `app` runs beside the doors.

pub mod judge;
pub mod tally;

use std::io;
use std::sync::Arc;

use prometheus::IntCounterVec;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use super::Pep;
use super::asked::Asked;
use crate::domain::pdp::Input;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ruling::Ruling;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::canary::percentile;
use crate::domain::rollout::shadow::Made;

/// What may wait; a list of all tools takes some ten kilobytes, and a call as much as its caller likes.
pub const QUEUE: Room = Room { decisions: 1_024, kilobytes: 32 << 10 };

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Decisions.
    pub decisions: usize,
    /// Kilobytes that they have as JSON, each decision rounded up.
    pub kilobytes: usize,
}

/// What a decision was about, as far as it counts for a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Whether a call may be made.
    Call,
    /// Whether the tool of a call may be seen: it may not, so the call is over.
    Unseen,
    /// A list, or an answer.
    Other,
}

impl About {
    pub(super) fn phase(phase: Phase) -> Self {
        if phase == Phase::Call { Self::Call } else { Self::Other }
    }
}

/// One decision.
#[derive(Debug)]
pub struct Seen {
    by: BundleId,
    id: String,
    request_id: String,
    about: About,
    input: Input,
    made: Made,
    /// Its part of the room, given back when it was looked at.
    _room: OwnedSemaphorePermit,
}

/// Which decisions the candidate in shadow is asked about.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Those about callers of these organisations.
    pub tenants: Vec<String>,
    /// And this share of all others, in percent.
    pub percent: u8,
}

impl Sample {
    /// Whether it asks about anything.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.percent > 0 || !self.tenants.is_empty()
    }

    /// All decisions of one request, or none.
    fn takes(&self, tenant: &str, request_id: &str) -> bool {
        self.tenants.iter().any(|one| one == tenant)
            || (self.percent > 0 && percentile(&["shadow", request_id]) < u64::from(self.percent) * 100)
    }
}

/// Where decisions are told.
#[derive(Debug)]
pub struct Aside {
    queue: mpsc::Sender<Seen>,
    kilobytes: Arc<Semaphore>,
    sample: Sample,
    results: IntCounterVec,
}

impl Aside {
    /// A queue with so much room, and its other end. `results` counts what is dropped.
    #[must_use]
    pub fn new(sample: Sample, room: Room, results: IntCounterVec) -> (Self, mpsc::Receiver<Seen>) {
        let (queue, told) = mpsc::channel(room.decisions.max(1));
        let kilobytes = Arc::new(Semaphore::new(room.kilobytes));
        (Self { queue, kilobytes, sample, results }, told)
    }

    /// Room for one decision about this.
    fn room_for(&self, input: &Input) -> Option<(mpsc::Permit<'_, Seen>, OwnedSemaphorePermit)> {
        let place = self.queue.try_reserve().ok()?;
        let mut bytes = Length(0);
        serde_json::to_writer(&mut bytes, input).ok()?;
        let kilobytes = u32::try_from(bytes.0.div_ceil(1 << 10)).ok()?;
        Some((place, Arc::clone(&self.kilobytes).try_acquire_many_owned(kilobytes).ok()?))
    }
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pep {
    /// Tells of a decision, if anybody is to be asked about it too.
    pub(super) fn tell_aside(&self, asked: &Asked, id: &str, about: About, input: &Input, ruling: &Ruling) {
        let Some(aside) = &self.rules.aside else { return };
        let by = || BundleId::new(ruling.bundle_digest(), ruling.data_digest());
        let by_canary = self.rules.in_force().is_some_and(|in_force| {
            in_force.canary.as_ref().is_some_and(|canary| canary.rules.id() == by() && in_force.live.id() != by())
        });
        let in_shadow = || self.rules.beside().is_some() && aside.sample.takes(&input.caller.tenant, &asked.request_id);
        if !by_canary && !in_shadow() {
            return;
        }
        match aside.room_for(input) {
            // WHY first the room and then the copy: who is too late costs nothing.
            Some((place, room)) => place.send(Seen {
                by: by(),
                id: id.to_owned(),
                request_id: asked.request_id.clone(),
                about,
                input: input.clone(),
                made: Made::of(ruling),
                _room: room,
            }),
            None => aside.results.with_label_values(&["dropped"]).inc(),
        }
    }
}
