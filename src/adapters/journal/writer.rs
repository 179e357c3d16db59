//! The one hand that writes: batches to lines, lines to a durable segment, checkpoints beside it.
//!
//! Promises: [`Writer::append`] says yes only for lines that are durable; after a fault the same
//! file is never trusted again: a new segment takes the lines, and if that fails too every append
//! is refused until a probe succeeds; a line never acknowledged may be on disk, an acknowledged
//! one always is. Never reads a clock or waits: both times are arguments. Called by the journal's thread.

use std::io;
use std::time::Duration;

use super::Health;
use super::disk::{Disk, Sink};
use super::recover::{CHECKPOINTS, Found, recover};
use crate::domain::audit::chain::{Body, Chain, Hash};
use crate::domain::audit::checkpoint::{Checkpoint, Signer};
use crate::domain::audit::line::{Recovered, SegmentName};
use crate::domain::audit::record::{Record, Stage};
use crate::domain::audit::{AuditRef, JournalFault};

/// A checkpoint is due after this many records even if a second has not passed.
const SIGN_RECORDS: u64 = 4096;

/// What the writer needs to know.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) deployment: String,
    pub(super) writer: String,
    pub(super) signer: Signer,
    pub(super) segment_bytes: u64,
    pub(super) segment_age: Duration,
    pub(super) sign_every: Duration,
    pub(super) heartbeat_every: Duration,
    pub(super) probe_every: Duration,
    pub(super) low_water_bytes: u64,
}

/// The moment, on both clocks: the wall's for records, the steady one for intervals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) wall_ms: i64,
    pub(super) steady: Duration,
}

struct Segment {
    name: String,
    sink: Box<dyn Sink>,
    /// INVARIANT: every byte before this one is durable and belongs to an acknowledged record.
    bytes: u64,
    opened: Duration,
}

/// The writer and all it knows.
pub(super) struct Writer<D> {
    disk: D,
    plan: Plan,
    chain: Chain,
    segment: Option<Segment>,
    /// The segment given up last, and how much of it counts; told in the next one.
    given_up: Option<(String, u64, String)>,
    checkpoints: Option<Box<dyn Sink>>,
    checkpoint_bytes: u64,
    /// Whether there may be a part of a note behind the last whole one.
    checkpoints_torn: bool,
    signed_size: u64,
    signed_at: Duration,
    wrote_at: Duration,
    probed_at: Duration,
    health: Health,
    last_note: Option<String>,
    /// INVARIANT: once a note may say that the epoch is closed, nothing is written to it any more.
    closed: bool,
}

impl<D: Disk> Writer<D> {
    /// Recovers what is there and begins a new epoch with a durable `recovered` record.
    pub(super) fn open(disk: D, plan: Plan, now: Now) -> io::Result<(Self, Found)> {
        let found = recover(&disk)?;
        let epoch = found.epoch_max + 1;
        let chain = Chain::begin(&plan.deployment, &plan.writer, epoch, found.previous.clone());
        let mut writer = Self {
            disk,
            plan,
            chain,
            segment: None,
            given_up: None,
            checkpoints: None,
            checkpoint_bytes: found.checkpoint_bytes,
            checkpoints_torn: false,
            signed_size: 0,
            signed_at: now.steady,
            wrote_at: now.steady,
            probed_at: now.steady,
            health: Health::Ok,
            last_note: None,
            closed: false,
        };
        let start = Record::recovered(
            now.wall_ms,
            &Recovered::Start {
                prev_epoch: found.previous.as_ref().map_or(0, |previous| previous.at.epoch),
                prev_size: found.previous.as_ref().map_or(0, |previous| previous.at.seq + 1),
                prev_head: found.previous.as_ref().map_or(Hash::ZERO, |previous| previous.leaf).to_string(),
                bytes_dropped: found.bytes_dropped,
            },
        );
        writer.new_segment(now)?;
        writer.write(&[start.body()], now)?;
        writer.sign(now)?;
        writer.look_at_space();
        Ok((writer, found))
    }

    /// Makes the records durable, all or none. On a fault nothing is acknowledged.
    pub(super) fn append(&mut self, bodies: &[Body], now: Now) -> Result<Vec<AuditRef>, JournalFault> {
        if self.closed {
            return Err(JournalFault::Closed);
        }
        if let Health::Failing { cause } = &self.health {
            return Err(JournalFault::Failing { cause: cause.clone() });
        }
        let first = match self.rotate_if_due(now) {
            Ok(()) => self.write(bodies, now),
            Err(error) => Err(error),
        };
        match first {
            Ok(refs) => Ok(refs),
            Err(error) => {
                self.give_up(&error);
                self.resume(bodies, now).map_err(|error| self.fail(&error, now))
            }
        }
    }

    /// What time alone brings: a probe, a checkpoint, a heartbeat, a look at the free space.
    pub(super) fn tick(&mut self, now: Now) {
        if self.closed {
            return;
        }
        if now.steady.saturating_sub(self.probed_at) >= self.plan.probe_every {
            self.probed_at = now.steady;
            if matches!(self.health, Health::Failing { .. }) {
                self.probe(now);
            }
            self.look_at_space();
        }
        if matches!(self.health, Health::Failing { .. }) {
            return;
        }
        if now.steady.saturating_sub(self.wrote_at) >= self.plan.heartbeat_every {
            let quiet = Record::event(Stage::Heartbeat, now.wall_ms, "nothing to record for a while").body();
            // A failure is the writer's state from here on; there is nobody else to tell.
            drop(self.append(&[quiet], now));
        }
        let due = now.steady.saturating_sub(self.signed_at) >= self.plan.sign_every
            || self.chain.size() - self.signed_size >= SIGN_RECORDS;
        if due {
            self.sign_or_fail(now);
        }
    }

    /// The last checkpoint, which says that it is the last. Records are durable already.
    ///
    /// A journal that is failing is not closed: what its disk holds behind the last record is not known.
    pub(super) fn close(&mut self, now: Now) -> Result<(), JournalFault> {
        if let Health::Failing { cause } = &self.health {
            return Err(JournalFault::Failing { cause: cause.clone() });
        }
        if !std::mem::replace(&mut self.closed, true) {
            self.sign_or_fail(now);
        }
        match &self.health {
            Health::Failing { cause } => Err(JournalFault::Failing { cause: cause.clone() }),
            Health::Ok | Health::ReadsOnly { .. } => Ok(()),
        }
    }

    /// How it is.
    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    /// The newest signed note.
    pub(super) fn last_note(&self) -> Option<&str> {
        self.last_note.as_deref()
    }

    /// How many records this epoch has.
    #[cfg(test)]
    pub(super) const fn size(&self) -> u64 {
        self.chain.size()
    }

    fn write(&mut self, bodies: &[Body], now: Now) -> io::Result<Vec<AuditRef>> {
        let Some(segment) = self.segment.as_mut() else { return Err(io::Error::other("no segment is open")) };
        // The chain moves on only with the disk.
        let mut chain = self.chain.clone();
        let mut lines = Vec::with_capacity(bodies.iter().map(Body::len).sum());
        let refs = bodies.iter().map(|body| chain.push(body, &mut lines)).collect();
        segment.sink.write_all(&lines)?;
        segment.sink.sync()?;
        segment.bytes += lines.len() as u64;
        self.chain = chain;
        self.wrote_at = now.steady;
        Ok(refs)
    }

    fn rotate_if_due(&mut self, now: Now) -> io::Result<()> {
        let due = self.segment.as_ref().is_some_and(|segment| {
            segment.bytes > 0
                && (segment.bytes >= self.plan.segment_bytes
                    || now.steady.saturating_sub(segment.opened) >= self.plan.segment_age)
        });
        if due {
            self.sign(now)?;
            self.new_segment(now)?;
        }
        Ok(())
    }

    fn new_segment(&mut self, now: Now) -> io::Result<()> {
        let name = SegmentName { epoch: self.chain.epoch(), first: self.chain.size() }.to_string();
        // A file of this name can only be one that was given up before a record in it counted.
        let sink = self.disk.create(&name)?;
        self.disk.sync_names()?;
        self.segment = Some(Segment { name, sink, bytes: 0, opened: now.steady });
        Ok(())
    }

    /// Drops the segment: after a failed write or sync nothing more can be known of its file.
    fn give_up(&mut self, error: &io::Error) {
        let Some(segment) = self.segment.take() else { return };
        if segment.bytes == 0 {
            return;
        }
        drop(segment.sink);
        // Best effort: what could not be cut off is told apart by the next segment's first record.
        let cut = self.disk.truncate(&segment.name, segment.bytes).is_ok();
        let cause = if cut { error.to_string() } else { format!("{error}; its unfinished end could not be cut off") };
        self.given_up = Some((segment.name, segment.bytes, cause));
    }

    /// A new segment that says why it is there, then the records.
    fn resume(&mut self, bodies: &[Body], now: Now) -> io::Result<Vec<AuditRef>> {
        self.new_segment(now)?;
        let mut all = Vec::with_capacity(bodies.len() + 1);
        if let Some((segment, bytes_kept, cause)) = self.given_up.clone() {
            all.push(Record::recovered(now.wall_ms, &Recovered::DiskFault { segment, bytes_kept, cause }).body());
        }
        let told = all.len();
        all.extend_from_slice(bodies);
        let mut refs = self.write(&all, now)?;
        self.given_up = None;
        Ok(refs.split_off(told))
    }

    /// Tries a record of its own, since no caller's is at hand.
    fn probe(&mut self, now: Now) {
        let again = Record::event(Stage::Heartbeat, now.wall_ms, "the journal takes records again").body();
        match self.resume(&[again], now) {
            Ok(_) => self.health = Health::Ok,
            Err(error) => {
                self.segment = None;
                self.health = Health::Failing { cause: error.to_string() };
            }
        }
    }

    fn fail(&mut self, error: &io::Error, now: Now) -> JournalFault {
        self.segment = None;
        self.probed_at = now.steady;
        let cause = error.to_string();
        self.health = Health::Failing { cause: cause.clone() };
        JournalFault::Failing { cause }
    }

    fn look_at_space(&mut self) {
        if matches!(self.health, Health::Failing { .. }) {
            return;
        }
        // WHY: a disk that cannot say how full it is says so soon enough when it is written to.
        let Ok(free_bytes) = self.disk.free_bytes() else { return };
        self.health = if free_bytes < self.plan.low_water_bytes {
            Health::ReadsOnly { free_bytes, low_water_bytes: self.plan.low_water_bytes }
        } else {
            Health::Ok
        };
    }

    fn sign_or_fail(&mut self, now: Now) {
        let Err(first) = self.sign(now) else { return };
        // The same rule as for segments: once more on a file opened anew, then no further.
        if self.sign(now).is_err() {
            self.give_up(&first);
            drop(self.fail(&first, now));
        }
    }

    fn sign(&mut self, now: Now) -> io::Result<()> {
        self.signed_at = now.steady;
        let size = self.chain.size();
        if size == self.signed_size && !self.closed {
            return Ok(());
        }
        let checkpoint = Checkpoint { origin: self.chain.origin(), size, root: self.chain.root(), closed: self.closed };
        let note = checkpoint.to_note(&self.plan.signer);
        // INVARIANT: a file on which anything failed is not put back.
        let mut sink = match self.checkpoints.take() {
            Some(sink) => sink,
            None => self.open_checkpoints()?,
        };
        self.checkpoints_torn = true;
        sink.write_all(note.as_bytes())?;
        sink.sync()?;
        self.checkpoints_torn = false;
        self.checkpoints = Some(sink);
        self.checkpoint_bytes += note.len() as u64;
        self.signed_size = size;
        self.last_note = Some(note);
        Ok(())
    }

    /// Opens the file of notes at the end of its last whole note.
    fn open_checkpoints(&self) -> io::Result<Box<dyn Sink>> {
        let sink = self.disk.append(CHECKPOINTS)?;
        if self.checkpoints_torn {
            self.disk.truncate(CHECKPOINTS, self.checkpoint_bytes)?;
        }
        self.disk.sync_names()?;
        Ok(sink)
    }
}
