//! The journal as the simulation has it: records in memory that outlives a crash.
//!
//! Promises: what was written stays, in the order in which it was written; what was acknowledged
//! was written. Each boot of a process is an epoch of its own.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use loopgate::domain::audit::AuditRef;
use loopgate::domain::audit::JournalFault;
use loopgate::domain::audit::record::Record;
use loopgate::domain::audit::record::Stage;
use loopgate::pep::ports::Journal;

use crate::flaw::Flaw;
use crate::sea::Gate;
use crate::sea::Sea;
use crate::sea::Shore;

/// A record on disk.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Its place in the order of everything.
    pub(crate) tick: u64,
    pub(crate) at: AuditRef,
    pub(crate) stage: Stage,
    pub(crate) request_id: String,
    pub(crate) execution_id: Option<String>,
}

/// Every disk of a world.
#[derive(Debug, Default)]
pub(crate) struct Disks {
    pub(crate) lines: Mutex<Vec<Line>>,
    /// What a process was told is written.
    pub(crate) acknowledged: Mutex<Vec<AuditRef>>,
}

/// One boot's journal.
pub(crate) struct SimJournal {
    sea: Arc<Sea>,
    gate: Arc<Gate>,
    disks: Arc<Disks>,
    writer: String,
    epoch: u64,
    next: Arc<AtomicU64>,
    flaw: Option<Flaw>,
}

impl SimJournal {
    pub(crate) fn open(
        sea: &Arc<Sea>,
        gate: &Arc<Gate>,
        disks: &Arc<Disks>,
        (writer, epoch): (&str, u64),
        flaw: Option<Flaw>,
    ) -> Self {
        Self {
            sea: Arc::clone(sea),
            gate: Arc::clone(gate),
            disks: Arc::clone(disks),
            writer: writer.to_owned(),
            epoch,
            next: Arc::default(),
            flaw,
        }
    }
}

#[async_trait]
impl Journal for SimJournal {
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault> {
        let (sea, disks, next) = (Arc::clone(&self.sea), Arc::clone(&self.disks), Arc::clone(&self.next));
        let (writer, epoch) = (self.writer.clone(), self.epoch);
        let forgets = self.flaw == Some(Flaw::JournalForgets) && self.sea.dice.permille(300);
        let write = move || {
            let at = AuditRef { writer, epoch, seq: next.fetch_add(1, Ordering::Relaxed) };
            let line = Line {
                tick: sea.tick(),
                at: at.clone(),
                stage: record.at(),
                request_id: record.request_id().to_owned(),
                execution_id: record.execution_id().map(str::to_owned),
            };
            sea.note(|| format!("journal: {line:?}"));
            if !forgets {
                disks.lines.lock().unwrap().push(line);
            }
            at
        };
        let written = self.sea.hand_over(&self.gate, Shore::Journal, write).await;
        let at = written.ok_or(JournalFault::Slow { deadline_ms: 5_000 })?;
        self.disks.acknowledged.lock().unwrap().push(at.clone());
        Ok(at)
    }

    fn ready(&self, _for_write: bool) -> Result<(), JournalFault> {
        // A disk that always fails is one that says so.
        if self.sea.weather().journal_before < 1000 {
            return Ok(());
        }
        Err(JournalFault::Failing { cause: "input/output error".to_owned() })
    }
}
