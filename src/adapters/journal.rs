//! The audit journal: append-only segments, one writer thread, group commit, signed checkpoints.
//!
//! Promises: an append resolves with a reference only after its line is durable; a full queue, a
//! slow disk and a failing disk are each a fault of their own, and none of them blocks a caller
//! past the deadline; the journal comes back by itself when the disk does. Never drops a record
//! silently and never writes to a directory that another process writes to.
//! Called by `pep` through its port, and by `app`, which opens and closes it.

mod disk;
mod recover;
mod writer;
mod thread;
pub mod read;
pub mod check;
pub mod find;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use self::disk::{Directory, Disk, NotHad};
use self::thread::{Counts, Job, Order, Shared, publish, serve};
use self::writer::{Plan, Writer};
use crate::domain::audit::chain::Body;
use crate::domain::audit::checkpoint::{PublicKey, Signer};
use crate::domain::audit::record::Record;
use crate::domain::audit::{AuditRef, JournalFault, is_name};

/// The largest record: four times the largest request body.
const RECORD_BYTES_MAX: usize = 8 << 20;
/// Bytes that may wait; a bound on memory, as the queue is one on records.
const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// Wall clock: milliseconds since the Unix epoch.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Where the signing key is.
pub enum SigningKey {
    /// PKCS#8 PEM in a file.
    File(PathBuf),
    /// PKCS#8 PEM.
    Pem(String),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Pem(_) => f.write_str("Pem(***)"),
        }
    }
}

/// How a journal is kept.
#[derive(Debug)]
pub struct Settings {
    /// Directory of all writers; this one's is `<dir>/<writer>`.
    pub dir: PathBuf,
    /// Name of this writer; one process at a time.
    pub writer: String,
    /// Name of the deployment, the first part of what checkpoints are signed as.
    pub deployment: String,
    /// Ed25519 key that signs checkpoints.
    pub signing_key: SigningKey,
    /// A segment is closed when it has this many bytes.
    pub segment_bytes: u64,
    /// A segment is closed when it is this old.
    pub segment_age: Duration,
    /// How many records may wait.
    pub queue: usize,
    /// How long an append may take.
    pub deadline: Duration,
    /// Free space below which writes are refused, so that reads can still be recorded.
    pub low_water_bytes: u64,
    /// How long a record may go without a checkpoint.
    pub sign_every: Duration,
    /// How long the journal may be silent.
    pub heartbeat_every: Duration,
}

impl Settings {
    /// The defaults, for a directory, a writer, a deployment and a key.
    #[must_use]
    pub fn new(dir: PathBuf, writer: String, deployment: String, signing_key: SigningKey) -> Self {
        Self {
            dir,
            writer,
            deployment,
            signing_key,
            segment_bytes: 128 << 20,
            segment_age: Duration::from_hours(1),
            queue: 4096,
            deadline: Duration::from_secs(2),
            low_water_bytes: 64 << 20,
            sign_every: Duration::from_secs(1),
            heartbeat_every: Duration::from_mins(1),
        }
    }
}

/// How the journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Everything can be recorded.
    Ok,
    /// Space is running out: reads are recorded, writes are refused.
    ReadsOnly {
        /// What is left.
        free_bytes: u64,
        /// What must be left for writes.
        low_water_bytes: u64,
    },
    /// Nothing can be recorded.
    Failing {
        /// What the disk said.
        cause: String,
    },
}

/// How the journal was found when it was opened; worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The epoch that began.
    pub epoch: u64,
    /// Bytes behind the last record that were no record and are now in a `.torn` file.
    pub bytes_dropped: u64,
    /// Records that a signed checkpoint promised and that are gone: somebody cut them off, or the disk lied.
    pub promised_missing: u64,
}

/// What has happened since the journal was opened; for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records made durable.
    pub appended: u64,
    /// Syncs that made them durable.
    pub batches: u64,
    /// Appends refused because the queue was full.
    pub busy: u64,
    /// Appends not known durable within the deadline.
    pub slow: u64,
    /// Appends that failed for another reason.
    pub failed: u64,
    /// Records waiting now.
    pub waiting: u64,
}

/// An open journal.
pub struct Journal {
    shared: Arc<Shared>,
    orders: SyncSender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
    deadline: Duration,
    opening: Opening,
    public: PublicKey,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal(epoch {})", self.opening.epoch)
    }
}

impl Journal {
    /// Opens `<dir>/<writer>`: takes its lock, recovers it, begins a new epoch.
    pub fn open(settings: Settings, clock: WallClock) -> Result<Self, JournalFault> {
        for (what, name) in [("writer", &settings.writer), ("deployment", &settings.deployment)] {
            if !is_name(name) {
                return Err(unusable(
                    format!("`{name}` cannot name a {what}"),
                    "use letters, digits, `.`, `_` and `-`, at most 64",
                ));
            }
        }
        let path = settings.dir.join(&settings.writer);
        let directory = Directory::open(&path).map_err(|not_had| match not_had {
            NotHad::Locked => unusable(
                format!("another process writes to {}", path.display()),
                "give each gateway process a `writer` name of its own",
            ),
            NotHad::Io(error) => {
                unusable(format!("{}: {error}", path.display()), "make the directory writable for the gateway's user")
            }
        })?;
        Self::open_on(directory, settings, clock)
    }

    fn open_on(disk: impl Disk, settings: Settings, clock: WallClock) -> Result<Self, JournalFault> {
        let signer = load_signer(&settings.signing_key)?;
        let public = signer.public();
        let shared = Arc::new(Shared {
            counts: Counts::default(),
            health: ArcSwap::from_pointee(Health::Ok),
            note: ArcSwap::from_pointee(None),
            began: Instant::now(),
            closing: AtomicBool::new(false),
            clock,
        });
        let plan = Plan {
            deployment: settings.deployment,
            writer: settings.writer,
            signer,
            segment_bytes: settings.segment_bytes,
            segment_age: settings.segment_age,
            sign_every: settings.sign_every,
            heartbeat_every: settings.heartbeat_every,
            probe_every: Duration::from_secs(1),
            low_water_bytes: settings.low_water_bytes,
        };
        let (writer, found) = Writer::open(disk, plan, shared.now())
            .map_err(|error| unusable(error.to_string(), "see that the disk has space and takes writes"))?;
        let opening = Opening {
            epoch: found.epoch_max + 1,
            bytes_dropped: found.bytes_dropped,
            promised_missing: found.promised_missing,
        };
        publish(&writer, &shared);
        let (orders, inbox) = sync_channel(settings.queue.max(1));
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || serve(writer, &inbox, &seen))
            .map_err(|error| unusable(error.to_string(), "raise the limit on threads"))?;
        Ok(Self { shared, orders, thread: Mutex::new(Some(thread)), deadline: settings.deadline, opening, public })
    }

    /// Appends a record; resolves once it is durable, or with why that is not known.
    pub async fn append(&self, record: Record) -> Result<AuditRef, JournalFault> {
        let counts = &self.shared.counts;
        let done = self.enqueue(record.body()).inspect_err(|fault| {
            let counter = if matches!(fault, JournalFault::Busy { .. }) { &counts.busy } else { &counts.failed };
            counter.fetch_add(1, Ordering::Relaxed);
        })?;
        match tokio::time::timeout(self.deadline, done).await {
            Ok(Ok(outcome)) => outcome,
            // The thread is gone, and with it the promise to answer.
            Ok(Err(_)) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                Err(JournalFault::Closed)
            }
            Err(_) => {
                counts.slow.fetch_add(1, Ordering::Relaxed);
                Err(JournalFault::Slow { deadline_ms: millis(self.deadline) })
            }
        }
    }

    fn enqueue(&self, body: Body) -> Result<oneshot::Receiver<Result<AuditRef, JournalFault>>, JournalFault> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(JournalFault::Closed);
        }
        let bytes = body.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(JournalFault::TooLarge { bytes: bytes as u64, bytes_max: RECORD_BYTES_MAX as u64 });
        }
        let counts = &self.shared.counts;
        let waiting = counts.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting_bytes = counts.waiting_bytes.fetch_add(bytes as u64, Ordering::AcqRel);
        let (done, answer) = oneshot::channel();
        let sent = if waiting_bytes > QUEUE_BYTES_MAX {
            Err(JournalFault::Busy { waiting })
        } else {
            self.orders.try_send(Order::Append(Job { body, done })).map_err(|error| match error {
                TrySendError::Full(_) => JournalFault::Busy { waiting },
                TrySendError::Disconnected(_) => JournalFault::Closed,
            })
        };
        if sent.is_err() {
            counts.waiting.fetch_sub(1, Ordering::AcqRel);
            counts.waiting_bytes.fetch_sub(bytes as u64, Ordering::AcqRel);
        }
        sent.map(|()| answer)
    }

    /// Whether a record would be taken now; cheap enough to ask before every call.
    pub fn ready(&self, for_write: bool) -> Result<(), JournalFault> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(JournalFault::Closed);
        }
        let since_us = self.shared.counts.busy_since_us.load(Ordering::Acquire);
        let age = self.shared.began.elapsed().saturating_sub(Duration::from_micros(since_us));
        if since_us > 0 && age > self.deadline {
            return Err(JournalFault::Slow { deadline_ms: millis(self.deadline) });
        }
        match self.shared.health.load().as_ref() {
            Health::ReadsOnly { free_bytes, low_water_bytes } if for_write => {
                Err(JournalFault::Full { free_bytes: *free_bytes, low_water_bytes: *low_water_bytes })
            }
            Health::Failing { cause } => Err(JournalFault::Failing { cause: cause.clone() }),
            Health::Ok | Health::ReadsOnly { .. } => Ok(()),
        }
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health.load().as_ref().clone()
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = &self.shared.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            appended: read(&counts.appended),
            batches: read(&counts.batches),
            busy: read(&counts.busy),
            slow: read(&counts.slow),
            failed: read(&counts.failed),
            waiting: read(&counts.waiting),
        }
    }

    /// How it was found when it was opened.
    #[must_use]
    pub const fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The key that verifies its checkpoints.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The newest signed checkpoint. Kept on another machine it is what shows that records were cut off the end.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<String> {
        self.shared.note.load().as_ref().clone()
    }

    /// Writes what waits, signs the last checkpoint and ends the thread. Blocks: not for an async task.
    pub fn close(&self) -> Result<(), JournalFault> {
        self.shared.closing.store(true, Ordering::Release);
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let (done, answer) = sync_channel(1);
        let outcome = match self.orders.send(Order::Close(done)) {
            Ok(()) => answer.recv().unwrap_or(Err(JournalFault::Closed)),
            Err(_) => Err(JournalFault::Closed),
        };
        if thread.join().is_err() { Err(JournalFault::Closed) } else { outcome }
    }
}

#[async_trait::async_trait]
impl crate::pep::ports::Journal for Journal {
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault> {
        Self::append(self, record).await
    }

    fn ready(&self, for_write: bool) -> Result<(), JournalFault> {
        Self::ready(self, for_write)
    }
}

/// A new Ed25519 key: PKCS#8 PEM, and the public key that belongs to it.
pub fn generate_signing_key() -> Result<(String, PublicKey), JournalFault> {
    use base64::Engine;
    let cannot =
        || unusable("no signing key could be made".to_owned(), "make one with `openssl genpkey -algorithm ed25519`");
    let random = aws_lc_rs::rand::SystemRandom::new();
    let der = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| cannot())?;
    let signer = Signer::from_pkcs8(der.as_ref()).map_err(|_| cannot())?;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    Ok((format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n"), signer.public()))
}

fn load_signer(key: &SigningKey) -> Result<Signer, JournalFault> {
    let bad = |error: String| unusable(format!("signing key: {error}"), "name an Ed25519 key in PKCS#8 PEM");
    match key {
        SigningKey::Pem(pem) => Signer::from_pem(pem).map_err(|error| bad(error.to_string())),
        SigningKey::File(path) => {
            let pem = std::fs::read_to_string(path).map_err(|error| bad(format!("{}: {error}", path.display())))?;
            Signer::from_pem(&pem).map_err(|error| bad(format!("{}: {error}", path.display())))
        }
    }
}

fn unusable(what: String, next: &str) -> JournalFault {
    JournalFault::Unusable { what, next: next.to_owned() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
