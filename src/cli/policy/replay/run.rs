//! Reads a journal once, verifies it, and decides on every core.
//!
//! Promises: what is replayed is what was verified, line by line, in one pass; parts are counted
//! apart and merged in the order of the journal, so that the report does not depend on threads; a
//! record that does not fit ends it without a report. Memory is bounded whatever the journal's size.
//! Called by `policy replay`.

use std::collections::BTreeMap;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use std::time::Instant;

use aws_lc_rs::digest::Context;
use aws_lc_rs::digest::SHA256;

use super::source::Opened;
use crate::adapters::journal::check;
use crate::cli::policy::PolicyFault;
use crate::cli::print;
use crate::domain::audit::AuditRef;
use crate::domain::audit::finding::Finding;
use crate::domain::pdp::engine::Pdp;
use crate::domain::replay;
use crate::domain::replay::Judged;
use crate::domain::replay::Skip;
use crate::domain::replay::recorded;
use crate::domain::replay::recorded::About;
use crate::domain::replay::recorded::Found;
use crate::domain::replay::report::Digests;
use crate::domain::replay::report::Window;
use crate::domain::replay::tally::Tally;

/// Bytes of lines that are handed to a thread at once.
const BATCH_BYTES: usize = 1 << 20;

/// How often a terminal is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What is to be done.
pub(super) struct Work<'a> {
    pub(super) source: &'a Opened,
    pub(super) candidate: &'a Pdp,
    pub(super) window: &'a Window,
    pub(super) threads: usize,
}

/// What came of it.
pub(super) struct Replayed {
    pub(super) tally: Tally,
    /// SHA-256 (hex) of all changes as lines.
    pub(super) list: String,
}

/// Lines of one segment.
struct Batch {
    number: u64,
    writer: Arc<str>,
    /// Where the next segment of the epoch starts; what stands behind it here does not count.
    until: Option<u64>,
    /// Lines, each with its newline.
    lines: Vec<u8>,
}

/// What came of a batch.
type Done = (u64, usize, Tally);

/// Why the reader stopped.
enum Ended {
    Whole,
    Found(Box<Finding>),
    Unread(PathBuf, io::Error),
}

/// Reads, verifies, decides; `list` is given every change, in the order of the journal.
pub(super) fn replay(
    work: &Work<'_>,
    list: &mut dyn FnMut(&[u8]) -> Result<(), PolicyFault>,
) -> Result<Replayed, PolicyFault> {
    let (give, take) = sync_channel::<Batch>(work.threads * 2);
    let (tell, hear) = sync_channel::<Done>(work.threads * 2);
    let take = Arc::new(Mutex::new(take));
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(work.source, &give));
        for _ in 0..work.threads {
            let (take, tell) = (Arc::clone(&take), tell.clone());
            scope.spawn(move || decide(work, &take, &tell));
        }
        // WHY: the last of them ends the loop below.
        drop((take, tell));
        let merged = merge(work, &hear, list);
        // WHY: whoever still waits to hand something over must not wait for ever.
        drop(hear);
        let ended = reader.join().map_err(|_panic| PolicyFault::No("the journal could not be read".to_owned()))?;
        match ended {
            Ended::Whole => merged,
            Ended::Found(finding) => Err(PolicyFault::No(refused(&finding))),
            Ended::Unread(path, error) => {
                Err(PolicyFault::File { path: path.display().to_string(), message: error.to_string() })
            }
        }
    })
}

fn refused(finding: &Finding) -> String {
    let kind = format!("{:?}", finding.kind).to_lowercase();
    let place = finding.seq.map_or_else(String::new, |seq| format!(" at {}/{}/{seq}", finding.writer, finding.epoch));
    format!(
        "the journal does not verify ({kind}{place}): {}; nothing was replayed. `loopgate audit verify` says more; \
         --no-verify replays it all the same, for reading and not for activating",
        print::plain(&finding.what)
    )
}

/// Reads every writer's lines in order and hands them out in batches.
fn read(source: &Opened, give: &SyncSender<Batch>) -> Ended {
    let mut number = 0;
    for series in &source.series {
        let writer: Arc<str> = series.writer.as_str().into();
        let mut batch: Option<Batch> = None;
        let mut each = |line: &[u8], segment: crate::domain::audit::line::SegmentName, until: Option<u64>| {
            let _ = segment;
            let full = |batch: &Batch| batch.until != until || batch.lines.len() + line.len() >= BATCH_BYTES;
            if batch.as_ref().is_some_and(full)
                && let Some(batch) = batch.take()
            {
                // Whoever decides has gone away only when something went wrong there.
                let _gone = give.send(batch);
            }
            let current = batch.get_or_insert_with(|| {
                number += 1;
                Batch { number: number - 1, writer: Arc::clone(&writer), until, lines: Vec::new() }
            });
            current.lines.extend_from_slice(line);
            current.lines.push(b'\n');
        };
        let read = match &source.keys {
            Some(keys) => check::check(series, &series.notes, keys, source.unsigned_ms_max, &mut each)
                .map(|checked| checked.findings.into_iter().next()),
            None => check::unchecked(series, &mut each).map(|()| None),
        };
        match read {
            Err((path, error)) => return Ended::Unread(path, error),
            Ok(Some(finding)) => return Ended::Found(Box::new(finding)),
            Ok(None) => {}
        }
        if let Some(batch) = batch.take() {
            let _gone = give.send(batch);
        }
    }
    Ended::Whole
}

/// Takes batches until there are no more.
fn decide(work: &Work<'_>, take: &Mutex<Receiver<Batch>>, tell: &SyncSender<Done>) {
    loop {
        let batch = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return };
        let bytes = batch.lines.len();
        if tell.send((batch.number, bytes, judge(work, &batch))).is_err() {
            return;
        }
    }
}

/// What becomes of one batch.
fn judge(work: &Work<'_>, batch: &Batch) -> Tally {
    let mut tally = Tally::default();
    let mut last: Option<&[u8]> = None;
    for line in batch.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let read = match recorded::read(line) {
            Ok(read) => read,
            // Bytes that are no record are the verifier's to find; unverified they are passed over aloud.
            Err(cause) => {
                let about = About { record: format!("{}: a line that is no record", batch.writer), ..About::default() };
                tally.skipped(Skip::InputUnreadable, about, cause);
                continue;
            }
        };
        let counts = batch
            .until
            .is_none_or(|until| read.reference.parse::<AuditRef>().is_ok_and(|reference| reference.seq < until));
        let in_time = work.window.from_ms.is_none_or(|from| read.began_ms >= from)
            && work.window.to_ms.is_none_or(|to| read.began_ms < to);
        if !counts || !in_time {
            continue;
        }
        tally.looked_at(&batch.writer, &read.reference);
        last = Some(line);
        for found in read.found {
            count(work, found, &mut tally);
        }
    }
    if let Some(line) = last {
        tally.ends_with(&batch.writer, line);
    }
    tally
}

fn count(work: &Work<'_>, found: Found, tally: &mut Tally) {
    let (Found::Named { about, .. } | Found::Unfit { about, .. }) = &found else {
        let Found::Whole(recorded) = found else { return };
        if !wanted(work.window, &recorded.about) {
            return;
        }
        tally.met(&recorded.about);
        tally.decided_by(&recorded.bundle_digest, &recorded.data_digest);
        let judged = match work.source.recordings.policy(&recorded.bundle_digest, &recorded.data_digest) {
            Ok(baseline) => replay::judge(&recorded, &baseline, work.candidate),
            Err(why) => Judged::Skipped { skip: Skip::BundleUnknown, why },
        };
        return tally.judged(&recorded.about, recorded.says_what_is_seen(), judged);
    };
    if !wanted(work.window, about) {
        return;
    }
    match found {
        Found::Named { about, reduced } => tally.named(about, reduced),
        Found::Unfit { about, skip, why } => {
            tally.met(&about);
            tally.skipped(skip, about, why);
        }
        Found::Whole(_) => {}
    }
}

fn wanted(window: &Window, about: &About) -> bool {
    window.tenant.as_ref().is_none_or(|tenant| *tenant == about.tenant)
        && window.tool.as_ref().is_none_or(|tool| *tool == about.tool)
}

/// Puts what came of the batches together, in the order of the journal.
fn merge(
    work: &Work<'_>,
    hear: &Receiver<Done>,
    list: &mut dyn FnMut(&[u8]) -> Result<(), PolicyFault>,
) -> Result<Replayed, PolicyFault> {
    let mut tally = Tally::default();
    let mut hash = Context::new(&SHA256);
    let mut early: BTreeMap<u64, Tally> = BTreeMap::new();
    let mut next = 0;
    let mut progress = Progress::begin(work);
    while let Ok((number, bytes, done)) = hear.recv() {
        progress.more(bytes, tally.replayed());
        early.insert(number, done);
        while let Some(part) = early.remove(&next) {
            tally.merge(part);
            let lines = tally.take_lines();
            hash.update(&lines);
            list(&lines)?;
            next += 1;
        }
    }
    progress.end();
    tally.finish();
    let list = hash.finish().as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        for digit in [byte >> 4, byte & 0x0f] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
        text
    });
    Ok(Replayed { tally, list })
}

/// The digests of a policy.
pub(super) fn digests(pdp: &Pdp) -> Digests {
    Digests { bundle: pdp.bundle_digest().to_owned(), data: pdp.data_digest().to_owned() }
}

/// How far it is, for people who watch a terminal.
struct Progress {
    all: u64,
    read: u64,
    told: Option<Instant>,
}

impl Progress {
    fn begin(work: &Work<'_>) -> Self {
        let paths = work
            .source
            .series
            .iter()
            .flat_map(|series| series.segments.iter().map(|segment| series.dir.join(segment.to_string())));
        let all = paths.filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.len()).sum();
        Self { all, read: 0, told: io::stderr().is_terminal().then(Instant::now) }
    }

    fn more(&mut self, bytes: usize, replayed: u64) {
        self.read += bytes as u64;
        if self.told.is_none_or(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let percent = (self.read * 100).checked_div(self.all).unwrap_or(100).min(100);
        // Nobody is left to tell.
        let _gone = write!(io::stderr(), "\r{percent:>3} % of the journal, {replayed} decisions replayed");
    }

    fn end(&self) {
        if self.told.is_some() {
            let _gone = write!(io::stderr(), "\r{:60}\r", "");
        }
    }
}
