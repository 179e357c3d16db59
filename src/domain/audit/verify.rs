//! Reads a writer's lines in order and names the first record that does not fit.
//!
//! Promises: a changed, missing, repeated, inserted or moved record is found and named by segment,
//! line and place; a checkpoint that the lines do not bear out is found; what stands behind a
//! clean stop is altered; what no checkpoint of its own epoch covers is counted, for a later epoch
//! takes over what it finds and cannot vouch for it. Never opens a file and never holds more than one line. Without a checkpoint that
//! was kept elsewhere nobody can tell that the end of a journal, with its checkpoints, was cut off.
//! Called by `cli::audit`, which streams the files.

mod epoch;

use std::collections::BTreeMap;

use self::epoch::{Epoch, Place, Tail};
use crate::domain::audit::chain::{Hash, Tree};
use crate::domain::audit::checkpoint::Checkpoint;
use crate::domain::audit::finding::{Finding, Kind, Summary};
use crate::domain::audit::line::{Line, Recovered, SegmentName, request_id_of};

/// Records that are not where they should be, and may yet turn up further on.
#[derive(Debug)]
struct Gap {
    from: u64,
    to: u64,
    place: Place,
}

/// Bytes of a segment behind the record that the next segment goes on from.
#[derive(Debug)]
struct Surplus {
    place: Place,
    kept_bytes: u64,
}

/// The reader of one writer's lines.
#[derive(Debug)]
pub struct Verifier {
    writer: String,
    /// (epoch, size) → root, from every checkpoint whose signature is good.
    checkpoints: BTreeMap<(u64, u64), Hash>,
    /// Epoch → its size when it was closed.
    closed: BTreeMap<u64, u64>,
    epoch: Option<Epoch>,
    segment: SegmentName,
    next_first: Option<u64>,
    line: u64,
    offset: u64,
    gap: Option<Gap>,
    surplus: Option<Surplus>,
    tails: Vec<Tail>,
    summary: Summary,
}

impl Verifier {
    /// For one writer, with every checkpoint of it whose signature is good.
    ///
    /// Two checkpoints of one size with different roots are a fault of their own.
    pub fn new(writer: &str, checkpoints: &[Checkpoint]) -> Result<Self, Box<Finding>> {
        let mut verifier = Self {
            writer: writer.to_owned(),
            checkpoints: BTreeMap::new(),
            closed: BTreeMap::new(),
            epoch: None,
            segment: SegmentName { epoch: 0, first: 0 },
            next_first: None,
            line: 0,
            offset: 0,
            gap: None,
            surplus: None,
            tails: Vec::new(),
            summary: Summary::default(),
        };
        for checkpoint in checkpoints {
            let Some((_, _, epoch)) = super::line::read_origin(&checkpoint.origin) else { continue };
            let known = verifier.checkpoints.insert((epoch, checkpoint.size), checkpoint.root);
            if known.is_some_and(|root| root != checkpoint.root) {
                let what = format!("two signed checkpoints tell different histories of {} records", checkpoint.size);
                return Err(verifier.finding(Kind::Altered, epoch, None, what));
            }
            if checkpoint.closed {
                verifier.closed.insert(epoch, checkpoint.size);
            }
        }
        Ok(verifier)
    }

    fn finding(&self, kind: Kind, epoch: u64, place: Option<Place>, what: impl Into<String>) -> Box<Finding> {
        let (segment, line, seq, request_id) = match place {
            Some(Place { segment, line, seq, request_id }) => {
                (Some(segment.to_string()), (line > 0).then_some(line), Some(seq), request_id)
            }
            None => (None, None, None, None),
        };
        let (writer, what) = (self.writer.clone(), what.into());
        Box::new(Finding { kind, writer, segment, line, epoch, seq, request_id, what })
    }

    /// The place of the next record of the epoch that the file at hand is of.
    fn expected(&self) -> u64 {
        self.epoch.as_ref().filter(|epoch| epoch.number == self.segment.epoch).map_or(0, |epoch| epoch.tree.size())
    }

    /// The line being read, for a finding.
    fn here(&self, seq: u64, bytes: &[u8]) -> Place {
        Place { segment: self.segment, line: self.line, seq, request_id: request_id_of(bytes) }
    }

    /// Where a record should be, in the file being read.
    fn after(&self, seq: u64) -> Place {
        Place { segment: self.segment, line: 0, seq, request_id: None }
    }

    /// The next file, in order of [`SegmentName`]; `next_first` is where the one after it in the
    /// same epoch starts.
    pub fn begin(&mut self, segment: SegmentName, next_first: Option<u64>) -> Result<(), Box<Finding>> {
        if self.epoch.as_ref().is_none_or(|epoch| epoch.number != segment.epoch) {
            self.end_epoch()?;
        }
        self.segment = segment;
        self.next_first = next_first;
        self.line = 0;
        self.offset = 0;
        Ok(())
    }

    /// The next line, its exact bytes without the newline.
    pub fn line(&mut self, bytes: &[u8]) -> Result<(), Box<Finding>> {
        self.line += 1;
        let at = self.offset;
        self.offset += bytes.len() as u64 + 1;
        if self.gap.is_none() && self.in_surplus() {
            let place = self.here(self.expected(), bytes);
            self.surplus.get_or_insert(Surplus { place, kept_bytes: at });
            return Ok(());
        }
        let expected = self.expected();
        let line = Line::read(bytes).map_err(|broken| {
            let place = self.here(expected, bytes);
            self.finding(Kind::Altered, self.segment.epoch, Some(place), broken.to_string())
        })?;
        if line.writer != self.writer || line.epoch != self.segment.epoch {
            let place = self.here(line.seq, bytes);
            let what = format!("it belongs to {}", line.at());
            return Err(self.finding(Kind::Altered, self.segment.epoch, Some(place), what));
        }
        self.is_not_closed_at(line.seq, bytes)?;
        if self.in_order(&line, bytes)? {
            self.accept(&line)?;
        }
        Ok(())
    }

    /// Bytes at the end of a file that no newline ends.
    pub fn torn(&mut self, bytes: &[u8]) -> Result<(), Box<Finding>> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.line += 1;
        if self.gap.is_none() && self.in_surplus() {
            let place = self.here(self.expected(), bytes);
            let kept_bytes = self.offset;
            self.surplus.get_or_insert(Surplus { place, kept_bytes });
            return Ok(());
        }
        self.gap_is_missing()?;
        self.is_not_closed_at(self.expected(), bytes)?;
        self.summary.torn_bytes = bytes.len() as u64;
        Ok(())
    }

    /// A clean stop is signed: nothing can have been written behind it.
    fn is_not_closed_at(&self, seq: u64, bytes: &[u8]) -> Result<(), Box<Finding>> {
        let epoch = self.segment.epoch;
        match self.closed.get(&epoch) {
            Some(size) if seq >= *size => {
                let what =
                    format!("it was added behind the end of epoch {epoch}, which was closed with {size} records");
                Err(self.finding(Kind::Altered, epoch, Some(self.here(seq, bytes)), what))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn in_surplus(&self) -> bool {
        self.line > 0 && self.next_first.is_some_and(|next| next <= self.expected())
    }

    /// Whether the line is the next one; a line that shows others to be missing is not, yet.
    fn in_order(&mut self, line: &Line<'_>, bytes: &[u8]) -> Result<bool, Box<Finding>> {
        // Only the very last line of all may be torn.
        if self.summary.torn_bytes > 0 {
            let place = self.after(self.expected());
            return Err(self.finding(
                Kind::Altered,
                self.segment.epoch,
                Some(place),
                "the record before this file is torn",
            ));
        }
        let expected = self.expected();
        if let Some(gap) = &self.gap {
            if (gap.from..=gap.to).contains(&line.seq) {
                let place = self.here(line.seq, bytes);
                return Err(self.finding(Kind::Altered, line.epoch, Some(place), "it stands behind a later record"));
            }
            return Ok(false);
        }
        if line.seq > expected {
            self.surplus_is_altered()?;
            let place = Place { line: self.line, ..self.after(expected) };
            self.gap = Some(Gap { from: expected, to: line.seq - 1, place });
            return Ok(false);
        }
        if line.seq < expected {
            let place = self.here(line.seq, bytes);
            return Err(self.finding(Kind::Altered, line.epoch, Some(place), "it stands twice, or was moved"));
        }
        if self.line == 1 && self.segment.first != line.seq {
            let place = self.here(line.seq, bytes);
            let what = format!("the file is named for record {}", self.segment.first);
            return Err(self.finding(Kind::Altered, line.epoch, Some(place), what));
        }
        Ok(true)
    }

    fn accept(&mut self, line: &Line<'_>) -> Result<(), Box<Finding>> {
        let request_id = line.request_id.as_deref().map(str::to_owned);
        let place = Place { segment: self.segment, line: self.line, seq: line.seq, request_id };
        self.check_surplus(line)?;
        if self.epoch.as_ref().is_none_or(|epoch| epoch.number != line.epoch) {
            self.start_epoch(line, &place)?;
        }
        let Some(epoch) = self.epoch.as_mut() else { return Ok(()) };
        if line.prev != epoch.head {
            let blamed = epoch.last.clone().unwrap_or(place);
            let what = "the record after it was written behind another one";
            return Err(self.finding(Kind::Altered, line.epoch, Some(blamed), what));
        }
        epoch.tree.push(line.leaf);
        epoch.head = line.leaf;
        epoch.last = Some(place.clone());
        epoch.unsigned_since_ms.get_or_insert(line.time_ms);
        epoch.last_ms = line.time_ms;
        self.summary.records += 1;
        self.check_root(line.epoch, place)
    }

    fn check_root(&mut self, number: u64, place: Place) -> Result<(), Box<Finding>> {
        let Some(epoch) = self.epoch.as_mut() else { return Ok(()) };
        let Some(root) = self.checkpoints.get(&(number, epoch.tree.size())) else { return Ok(()) };
        if epoch.tree.root() == *root {
            epoch.unproven_from = epoch.tree.size();
            epoch.unsigned_since_ms = None;
            self.summary.checkpoints += 1;
            return Ok(());
        }
        let (from, to) = (epoch.unproven_from, place.seq);
        let what = if from == to {
            "it is not the record that the checkpoint was signed for".to_owned()
        } else {
            format!("a record from {from} to {to} is not the one that the checkpoint was signed for")
        };
        Err(self.finding(Kind::Altered, number, Some(place), what))
    }

    /// The first record of an epoch must say how the one before it ended.
    fn start_epoch(&mut self, line: &Line<'_>, place: &Place) -> Result<(), Box<Finding>> {
        let before = self.epoch.take();
        let (number, size, head, last) = before.as_ref().map_or((0, 0, Hash::ZERO, None), |epoch| {
            (epoch.number, epoch.tree.size(), epoch.head, epoch.last.clone())
        });
        self.tails.extend(before.and_then(Epoch::tail));
        let altered = |what: String| self.finding(Kind::Altered, line.epoch, Some(place.clone()), what);
        let Some(Recovered::Start { prev_epoch, prev_size, prev_head, .. }) = &line.recovered else {
            return Err(altered("the epoch does not begin with the record that every epoch begins with".to_owned()));
        };
        if let Some(((lost, size), _)) = self.checkpoints.range((number + 1, 0)..(line.epoch, 0)).next() {
            let what = format!("a signed checkpoint says {size} records of epoch {lost}, none is there");
            return Err(self.finding(Kind::Missing, *lost, None, what));
        }
        if *prev_epoch > number {
            let what = format!("epoch {prev_epoch}, which this one goes on from, is not there");
            return Err(self.finding(Kind::Missing, *prev_epoch, None, what));
        }
        if *prev_epoch < number {
            return Err(altered(format!("it goes on from epoch {prev_epoch} though epoch {number} came between")));
        }
        if *prev_size > size {
            let missing = last.map(|last| Place { segment: last.segment, ..self.after(size) });
            let what = format!("records {size} to {} of the epoch are gone from its end", prev_size - 1);
            return Err(self.finding(Kind::Missing, number, missing, what));
        }
        if *prev_size < size {
            let what = format!(
                "records were added behind record {}, the last when the next epoch began",
                prev_size.saturating_sub(1)
            );
            return Err(self.finding(Kind::Altered, number, last, what));
        }
        if line.prev.to_string() != *prev_head {
            return Err(altered("it names two different records as the one before it".to_owned()));
        }
        if line.prev != head {
            let what = "the next epoch was written behind another record";
            return Err(self.finding(Kind::Altered, number, last, what));
        }
        self.summary.epochs += 1;
        self.epoch = Some(Epoch {
            number: line.epoch,
            tree: Tree::default(),
            head,
            last: None,
            unproven_from: 0,
            unsigned_since_ms: None,
            last_ms: line.time_ms,
        });
        Ok(())
    }

    /// Bytes behind the end of a segment are only in order if the next one says that its disk failed there.
    fn check_surplus(&mut self, line: &Line<'_>) -> Result<(), Box<Finding>> {
        let told = self.surplus.as_ref().is_some_and(|surplus| match &line.recovered {
            Some(Recovered::DiskFault { segment, bytes_kept, .. }) => {
                *segment == surplus.place.segment.to_string() && *bytes_kept == surplus.kept_bytes
            }
            Some(Recovered::Start { .. }) | None => false,
        });
        if told {
            self.surplus = None;
        }
        self.surplus_is_altered()
    }

    fn surplus_is_altered(&mut self) -> Result<(), Box<Finding>> {
        let Some(Surplus { place, .. }) = self.surplus.take() else { return Ok(()) };
        let epoch = place.segment.epoch;
        Err(self.finding(Kind::Altered, epoch, Some(place), "it was added behind the end of its file"))
    }

    fn gap_is_missing(&mut self) -> Result<(), Box<Finding>> {
        let Some(Gap { from, to, place }) = self.gap.take() else { return Ok(()) };
        let what = if from == to {
            format!("record {from} is not there")
        } else {
            format!("records {from} to {to} are not there")
        };
        Err(self.finding(Kind::Missing, self.segment.epoch, Some(place), what))
    }

    fn end_epoch(&mut self) -> Result<(), Box<Finding>> {
        self.gap_is_missing()?;
        self.surplus_is_altered()?;
        let Some(epoch) = &self.epoch else { return Ok(()) };
        let size = epoch.tree.size();
        let promised = self.checkpoints.range((epoch.number, 0)..=(epoch.number, u64::MAX)).next_back();
        match promised {
            Some(((_, promised), _)) if *promised > size => {
                let missing = epoch.last.as_ref().map(|last| Place { segment: last.segment, ..self.after(size) });
                let what = format!("a signed checkpoint says {promised} records, {size} are there");
                Err(self.finding(Kind::Missing, epoch.number, missing, what))
            }
            _ => Ok(()),
        }
    }

    /// The end of all files. `unsigned_ms_max` is how much time the records at the end of an epoch
    /// may span that none of its checkpoints covers; a journal without any checkpoint is always too long.
    pub fn finish(mut self, unsigned_ms_max: i64) -> Result<Summary, Box<Finding>> {
        self.end_epoch()?;
        let last_epoch = self.epoch.as_ref().map_or(0, |epoch| epoch.number);
        if let Some(((epoch, size), _)) = self.checkpoints.range((last_epoch.saturating_add(1), 0)..).next() {
            let what = format!("a signed checkpoint says {size} records of epoch {epoch}, none is there");
            return Err(self.finding(Kind::Missing, *epoch, None, what));
        }
        let own = self.epoch.take().and_then(Epoch::tail);
        self.summary.unsigned = own.as_ref().map_or(0, |tail| tail.records);
        self.summary.unsigned_before = self.tails.iter().map(|tail| tail.records).sum();
        self.tails.extend(own);
        let all_unsigned = self.summary.checkpoints == 0;
        match self.tails.iter().find(|tail| all_unsigned || !tail.is_of_a_crash(unsigned_ms_max)) {
            Some(tail) => Err(self.finding(Kind::Unsigned, tail.epoch, tail.last.clone(), tail.words())),
            None => Ok(self.summary),
        }
    }
}

#[cfg(test)]
mod tests;
