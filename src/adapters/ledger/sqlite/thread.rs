//! A thread with a connection: takes what waits, does it in one transaction, answers after the sync.
//!
//! Promises: what was taken is done even if its caller has stopped waiting; a caller hears a yes only
//! of what was committed; after a failure the connection is made anew, no sooner than a pause allows,
//! and until then every caller is told why. Never ends before what was taken is answered.
//! Called by the SQLite engine.

use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault;
use crate::pep::ports::LedgerFault;

/// Operations that one sync may make durable.
const BATCH_MAX: usize = 512;
/// Operations that may wait.
const QUEUE_MAX: usize = 4096;
/// First pause after a failure; doubled each time, up to a second.
const PAUSE: Duration = Duration::from_millis(20);

type Open = Box<dyn Fn() -> Result<Connection, LedgerFault> + Send>;

/// A way to one thread.
pub(super) struct Lane {
    jobs: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// For work that changes something.
    pub(super) fn writing(
        connection: Connection,
        open: impl Fn() -> Result<Connection, LedgerFault> + Send + 'static,
    ) -> Result<Self, LedgerFault> {
        Self::start("ledger", connection, Box::new(open), transact)
    }

    /// For work that changes nothing.
    pub(super) fn reading(
        connection: Connection,
        open: impl Fn() -> Result<Connection, LedgerFault> + Send + 'static,
    ) -> Result<Self, LedgerFault> {
        Self::start("ledger-reads", connection, Box::new(open), |connection, jobs| {
            // Each has its own outcome; after a failure the connection is made anew.
            let failed = jobs.iter_mut().filter_map(|job| job.run(connection).err()).count();
            Ok(if failed == 0 { Trust::Yes } else { Trust::No })
        })
    }

    fn start(name: &str, connection: Connection, open: Open, how: How) -> Result<Self, LedgerFault> {
        let (jobs, inbox) = sync_channel(QUEUE_MAX);
        let mut bench = Bench { open, connection: Some(connection), failing: None, how };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || bench.serve(&inbox))
            .map_err(|cause| LedgerFault::Unavailable(format!("no thread could be had: {cause}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does the work on the thread; resolves once it is durable, or with why that is not known.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, LedgerFault> + Send + 'static,
    ) -> Result<T, LedgerFault> {
        let (done, answer) = oneshot::channel();
        let job = Box::new(Order { work: Some(work), outcome: None, done });
        let ended = || LedgerFault::Unavailable("its thread has ended; restart the gateway".to_owned());
        self.jobs.as_ref().ok_or_else(ended)?.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => LedgerFault::Unavailable(format!("{QUEUE_MAX} operations wait already")),
            TrySendError::Disconnected(_) => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Lane {
    /// Whoever opens the file next finds it free.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A thread that broke down has nothing left to close.
            drop(thread.join());
        }
    }
}

/// Work whose answer is of some type.
trait Job: Send {
    fn run(&mut self, connection: &Connection) -> Result<(), LedgerFault>;
    fn finish(self: Box<Self>, committed: Result<(), LedgerFault>);
}

struct Order<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, LedgerFault>>,
    done: oneshot::Sender<Result<T, LedgerFault>>,
}

impl<T, F> Job for Order<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, LedgerFault> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), LedgerFault> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let outcome = work(connection);
        let said = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        self.outcome = Some(outcome);
        said
    }

    fn finish(self: Box<Self>, committed: Result<(), LedgerFault>) {
        let never = || Err(LedgerFault::Unavailable("it was not tried".to_owned()));
        let answer = match committed {
            Ok(()) => self.outcome.unwrap_or_else(never),
            Err(fault) => Err(fault),
        };
        // Whoever asked may have stopped waiting.
        drop(self.done.send(answer));
    }
}

type How = fn(&mut Connection, &mut [Box<dyn Job>]) -> Result<Trust, LedgerFault>;

/// Whether the connection may be used again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Yes,
    No,
}

/// What the thread works at.
struct Bench {
    open: Open,
    connection: Option<Connection>,
    failing: Option<Failing>,
    how: How,
}

/// Why nothing is tried now, and until when.
struct Failing {
    fault: LedgerFault,
    until: Instant,
    pause: Duration,
}

impl Bench {
    fn serve(&mut self, inbox: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = inbox.recv() {
            let mut batch = vec![first];
            batch.extend(inbox.try_iter().take(BATCH_MAX - 1));
            let committed = self.work(&mut batch);
            for job in batch {
                job.finish(committed.clone());
            }
        }
    }

    fn work(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), LedgerFault> {
        if let Some(failing) = self.failing.as_ref().filter(|failing| Instant::now() < failing.until) {
            return Err(failing.fault.clone());
        }
        let outcome = self.connected().and_then(|(connection, how)| how(connection, batch));
        match &outcome {
            Ok(trust) => {
                if *trust == Trust::No {
                    self.connection = None;
                }
                if self.failing.take().is_some() {
                    tracing::info!("the ledger works again");
                }
            }
            Err(fault) => self.fail(fault),
        }
        outcome.map(|_| ())
    }

    fn connected(&mut self) -> Result<(&mut Connection, How), LedgerFault> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => (self.open)()?,
        };
        Ok((self.connection.insert(connection), self.how))
    }

    /// WHY the connection goes: after an error of the disk, what its cache holds is not to be trusted.
    fn fail(&mut self, fault: &LedgerFault) {
        let pause = self.failing.as_ref().map(|failing| (failing.pause * 2).min(Duration::from_secs(1)));
        if pause.is_none() {
            tracing::error!("the ledger fails, and with it every write: {fault}");
        }
        let pause = pause.unwrap_or(PAUSE);
        self.connection = None;
        self.failing = Some(Failing { fault: fault.clone(), until: Instant::now() + pause, pause });
    }
}

/// All of it in one transaction, each with a savepoint of its own.
fn transact(connection: &mut Connection, jobs: &mut [Box<dyn Job>]) -> Result<Trust, LedgerFault> {
    let tried = all(connection, jobs);
    if tried.is_err() && !connection.is_autocommit() {
        // The connection is closed next, which undoes as much.
        drop(connection.execute_batch("ROLLBACK"));
    }
    tried.map(|()| Trust::Yes)
}

fn all(connection: &Connection, jobs: &mut [Box<dyn Job>]) -> Result<(), LedgerFault> {
    let say = |sql: &str| {
        let said = connection.prepare_cached(sql).and_then(|mut statement| statement.execute(()));
        said.map(|_| ()).map_err(|error| fault(&error))
    };
    say("BEGIN IMMEDIATE")?;
    for job in jobs {
        say("SAVEPOINT one")?;
        if let Err(fault) = job.run(connection) {
            // A full disk may end the whole transaction, and then every savepoint is gone.
            if connection.is_autocommit() {
                return Err(fault);
            }
            say("ROLLBACK TO one")?;
        }
        say("RELEASE one")?;
    }
    say("COMMIT")
}
