//! What a journal finds when it opens: where the records end, and what lies behind them.
//!
//! Promises: the longest valid run of records stays, to the byte; what lies behind it moves to a
//! `.torn` file and is never thrown away; it is copied durably before it is cut off, so a crash in
//! the middle costs a second copy and nothing else. Never changes a segment that another one follows. Called by the writer, once.

use std::io::{self, BufRead, BufReader, Read};

use super::disk::Disk;
use crate::domain::audit::chain::Previous;
use crate::domain::audit::checkpoint::{Checkpoint, split_notes};
use crate::domain::audit::line::{LINE_BYTES_MAX, Line, SegmentName, read_origin};

/// File of the signed notes.
pub(super) const CHECKPOINTS: &str = "checkpoints";

/// How the journal was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The highest epoch that left any trace.
    pub(super) epoch_max: u64,
    /// The last record.
    pub(super) previous: Option<Previous>,
    /// Bytes behind it that were no record.
    pub(super) bytes_dropped: u64,
    /// Records that a checkpoint promised and that are not there any more.
    pub(super) promised_missing: u64,
    /// Length of the checkpoints' file.
    pub(super) checkpoint_bytes: u64,
}

/// Finds the end of the records and clears what lies behind it.
pub(super) fn recover(disk: &impl Disk) -> io::Result<Found> {
    let names = disk.names()?;
    let mut found = Found::default();
    // A `.torn` file's epoch counts as used: epochs only ever rise.
    for name in &names {
        if let Some(name) = SegmentName::read(name.split(".torn").next().unwrap_or(name)) {
            found.epoch_max = found.epoch_max.max(name.epoch);
        }
    }
    let mut segments: Vec<SegmentName> = names.iter().filter_map(|name| SegmentName::read(name)).collect();
    segments.sort_unstable();
    while let Some(segment) = segments.pop() {
        let end = valid_end(disk, segment)?;
        let name = segment.to_string();
        let torn = torn_name(&names, segment);
        if let Some(previous) = end.previous {
            if end.bytes_behind > 0 {
                move_behind(disk, &name, &torn, end.bytes)?;
            }
            found.bytes_dropped += end.bytes_behind;
            found.previous = Some(previous);
            break;
        }
        disk.rename(&name, &torn)?;
        found.bytes_dropped += end.bytes_behind;
    }
    recover_checkpoints(disk, &names, &mut found)?;
    disk.sync_names()?;
    Ok(found)
}

struct End {
    previous: Option<Previous>,
    bytes: u64,
    bytes_behind: u64,
}

/// The last record of a segment that follows all before it without a fault.
fn valid_end(disk: &impl Disk, segment: SegmentName) -> io::Result<End> {
    let mut reader = BufReader::with_capacity(1 << 18, disk.read(&segment.to_string())?);
    let mut end = End { previous: None, bytes: 0, bytes_behind: 0 };
    let mut expected = segment.first;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(end);
        }
        let line = bytes.strip_suffix(b"\n").and_then(|line| Line::read(line).ok());
        let fits = line.as_ref().filter(|line| {
            let follows = end.previous.as_ref().is_none_or(|previous| previous.leaf == line.prev);
            line.epoch == segment.epoch && line.seq == expected && follows
        });
        let Some(line) = fits else {
            end.bytes_behind = read + io::copy(&mut reader, &mut io::sink())?;
            return Ok(end);
        };
        end.previous = Some(Previous::of(line));
        end.bytes += read;
        expected += 1;
    }
}

/// A name that no earlier recovery has used.
fn torn_name(names: &[String], segment: SegmentName) -> String {
    let first = format!("{segment}.torn");
    if !names.contains(&first) {
        return first;
    }
    (2..=u32::MAX).map(|n| format!("{first}{n}")).find(|name| !names.contains(name)).unwrap_or(first)
}

/// Copies what lies behind `keep` to the torn file, durably, and only then cuts it off.
fn move_behind(disk: &impl Disk, name: &str, torn: &str, keep: u64) -> io::Result<()> {
    let mut source = disk.read(name)?;
    io::copy(&mut source.by_ref().take(keep), &mut io::sink())?;
    let mut sink = disk.create(torn)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = source.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
        sink.write_all(chunk)?;
    }
    sink.sync()?;
    disk.sync_names()?;
    disk.truncate(name, keep)
}

/// Cuts a torn note off and compares the last promise with what is there.
fn recover_checkpoints(disk: &impl Disk, names: &[String], found: &mut Found) -> io::Result<()> {
    if !names.iter().any(|name| name == CHECKPOINTS) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    disk.read(CHECKPOINTS)?.read_to_end(&mut bytes)?;
    let whole = String::from_utf8_lossy(&bytes);
    let (notes, torn) = split_notes(&whole);
    // A note is ASCII but for its dashes; bytes that are not UTF-8 can only be in the torn end.
    let keep = whole.get(..whole.len() - torn).map_or(0, str::len) as u64;
    if keep < bytes.len() as u64 {
        disk.truncate(CHECKPOINTS, keep)?;
    }
    found.checkpoint_bytes = keep;
    for checkpoint in notes.iter().filter_map(|note| Checkpoint::parse(note).ok()) {
        let Some((_, _, epoch)) = read_origin(&checkpoint.origin) else { continue };
        found.epoch_max = found.epoch_max.max(epoch);
        let (last_epoch, kept) = found.previous.as_ref().map_or((0, 0), |last| (last.at.epoch, last.at.seq + 1));
        if epoch >= last_epoch {
            found.promised_missing = checkpoint.size.saturating_sub(if epoch == last_epoch { kept } else { 0 });
        }
    }
    Ok(())
}
