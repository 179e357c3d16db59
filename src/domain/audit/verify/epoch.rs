//! An epoch while it is read, and what is left of it when it ends without a signature.
//!
//! Promises: what an epoch did not sign itself is told, whatever a later one has signed, for a
//! start takes over what it finds. Never reads a line. Called by `verify`.

use crate::domain::audit::chain::{Hash, Tree};
use crate::domain::audit::line::SegmentName;

/// Where a record stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) segment: SegmentName,
    pub(super) line: u64,
    pub(super) seq: u64,
    pub(super) request_id: Option<String>,
}

/// An epoch while it is read.
#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) number: u64,
    pub(super) tree: Tree,
    pub(super) head: Hash,
    pub(super) last: Option<Place>,
    /// First place not covered by a checkpoint that was borne out.
    pub(super) unproven_from: u64,
    pub(super) unsigned_since_ms: Option<i64>,
    pub(super) last_ms: i64,
}

impl Epoch {
    /// What none of its checkpoints covers; nothing, as a rule.
    pub(super) fn tail(self) -> Option<Tail> {
        let since_ms = self.unsigned_since_ms?;
        let records = self.tree.size() - self.unproven_from;
        let span_ms = self.last_ms.saturating_sub(since_ms);
        Some(Tail { epoch: self.number, signed: self.unproven_from, records, span_ms, last: self.last })
    }
}

/// Records at the end of an epoch that it did not sign.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) epoch: u64,
    pub(super) signed: u64,
    pub(super) records: u64,
    pub(super) span_ms: i64,
    pub(super) last: Option<Place>,
}

impl Tail {
    /// Whether a crash can have left it. INVARIANT: a writer signs the record that an epoch begins
    /// with before it takes another, so an epoch without any checkpoint has no more than that one.
    pub(super) const fn is_of_a_crash(&self, span_ms_max: i64) -> bool {
        if self.signed == 0 { self.records == 1 } else { self.span_ms <= span_ms_max }
    }

    /// What is wrong with it.
    pub(super) fn words(&self) -> String {
        let Self { epoch, records, span_ms, .. } = self;
        match records {
            1 => format!("the last record of epoch {epoch} was never signed by it"),
            _ => format!("{records} records at the end of epoch {epoch} were never signed by it, over {span_ms} ms"),
        }
    }
}
