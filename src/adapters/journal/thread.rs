//! The writer thread: takes what waits, makes it durable in one sync, answers, looks at the time.
//!
//! Promises: whoever hears of a fault can already see it in the journal's health; what was taken
//! is written even if its caller has stopped waiting; a journal that is dropped without being
//! closed still gets its last checkpoint. Never touches a file itself. Spawned by the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::writer::{Now, Writer};
use super::{Health, WallClock};
use crate::domain::audit::chain::Body;
use crate::domain::audit::{AuditRef, JournalFault};

/// Records that one sync may make durable.
const BATCH_RECORDS: usize = 512;
/// Bytes that one sync may make durable; a batch ends after the record that reaches it.
const BATCH_BYTES: usize = 4 << 20;
/// The writer looks up at least this often.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Job {
    pub(super) body: Body,
    pub(super) done: oneshot::Sender<Result<AuditRef, JournalFault>>,
}

pub(super) enum Order {
    Append(Job),
    Close(SyncSender<Result<(), JournalFault>>),
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) appended: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) slow: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) waiting_bytes: AtomicU64,
    /// Since when the disk is being waited for, in microseconds after the start; 0 when it is not.
    pub(super) busy_since_us: AtomicU64,
}

pub(super) struct Shared {
    pub(super) counts: Counts,
    pub(super) health: ArcSwap<Health>,
    pub(super) note: ArcSwap<Option<String>>,
    pub(super) began: Instant,
    pub(super) closing: AtomicBool,
    pub(super) clock: WallClock,
}

impl Shared {
    pub(super) fn now(&self) -> Now {
        Now { wall_ms: (self.clock)(), steady: self.began.elapsed() }
    }

    /// From here on the disk is being waited for.
    fn begin_work(&self) -> Now {
        let now = self.now();
        let since_us = u64::try_from(now.steady.as_micros()).unwrap_or(u64::MAX).max(1);
        self.counts.busy_since_us.store(since_us, Ordering::Release);
        now
    }

    fn end_work(&self) {
        self.counts.busy_since_us.store(0, Ordering::Release);
    }
}

pub(super) fn publish<D: Disk>(writer: &Writer<D>, shared: &Shared) {
    if shared.health.load().as_ref() != writer.health() {
        shared.health.store(Arc::new(writer.health().clone()));
    }
    if shared.note.load().as_deref() != writer.last_note() {
        shared.note.store(Arc::new(writer.last_note().map(str::to_owned)));
    }
}

/// The writer thread: takes what waits, makes it durable in one sync, answers, looks at the time.
pub(super) fn serve<D: Disk>(mut writer: Writer<D>, inbox: &Receiver<Order>, shared: &Shared) {
    loop {
        let mut closing = None;
        let mut gone = false;
        match inbox.recv_timeout(TICK) {
            Ok(Order::Append(first)) => {
                let (batch, end) = gather(first, inbox);
                commit(&mut writer, batch, shared);
                match end {
                    End::More => {}
                    End::Close(done) => closing = Some(done),
                    End::Gone => gone = true,
                }
            }
            Ok(Order::Close(done)) => closing = Some(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => gone = true,
        }
        if closing.is_some() || gone {
            let outcome = writer.close(shared.now());
            publish(&writer, shared);
            if let Some(done) = closing {
                // Whoever closes it may have stopped waiting.
                drop(done.send(outcome));
            }
            return;
        }
        writer.tick(shared.begin_work());
        shared.end_work();
        publish(&writer, shared);
    }
}

enum End {
    More,
    Close(SyncSender<Result<(), JournalFault>>),
    Gone,
}

fn gather(first: Job, inbox: &Receiver<Order>) -> (Vec<Job>, End) {
    let mut bytes = first.body.len();
    let mut batch = vec![first];
    while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
        match inbox.try_recv() {
            Ok(Order::Append(job)) => {
                bytes += job.body.len();
                batch.push(job);
            }
            Ok(Order::Close(done)) => return (batch, End::Close(done)),
            Err(TryRecvError::Empty) => break,
            Err(TryRecvError::Disconnected) => return (batch, End::Gone),
        }
    }
    (batch, End::More)
}

fn commit<D: Disk>(writer: &mut Writer<D>, batch: Vec<Job>, shared: &Shared) {
    let counts = &shared.counts;
    let now = shared.begin_work();
    let size = batch.len() as u64;
    let (bodies, answers): (Vec<Body>, Vec<_>) = batch.into_iter().map(|job| (job.body, job.done)).unzip();
    let bytes: usize = bodies.iter().map(Body::len).sum();
    let outcome = writer.append(&bodies, now);
    shared.end_work();
    counts.waiting.fetch_sub(size, Ordering::AcqRel);
    counts.waiting_bytes.fetch_sub(bytes as u64, Ordering::AcqRel);
    // Before anyone hears of a fault, `ready` knows of it.
    publish(writer, shared);
    match outcome {
        Ok(refs) => {
            counts.appended.fetch_add(size, Ordering::Relaxed);
            counts.batches.fetch_add(1, Ordering::Relaxed);
            for (answer, at) in answers.into_iter().zip(refs) {
                // A caller past its deadline has gone; its record stands all the same.
                drop(answer.send(Ok(at)));
            }
        }
        Err(fault) => {
            counts.failed.fetch_add(size, Ordering::Relaxed);
            for answer in answers {
                drop(answer.send(Err(fault.clone())));
            }
        }
    }
}
