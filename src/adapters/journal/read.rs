//! Reads journals back: which writers there are, their segments in order, their lines one by one.
//!
//! Promises: streams, so that a journal of any size fits in memory; reads checkpoints before
//! segments, so that a journal being written to is never found to lack what was signed meanwhile;
//! reads regular files only, so that no link is followed and no pipe waited for.
//! Never writes, locks or judges. Called by `cli::audit` and by whoever shows records.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::disk::open_file;
use crate::domain::audit::checkpoint::split_notes;
use crate::domain::audit::is_name;
use crate::domain::audit::line::{LINE_BYTES_MAX, SegmentName};

/// One writer's files as they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The writer.
    pub writer: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Its signed notes, oldest first.
    pub notes: Vec<String>,
    /// Its segments, in order.
    pub segments: Vec<SegmentName>,
    /// Files that hold what was cut off after a crash.
    pub torn: Vec<String>,
}

/// Finds the writers under `dir`, which may also be one writer's own directory.
pub fn series(dir: &Path) -> io::Result<Vec<Series>> {
    let mut found = Vec::new();
    let mut subdirs = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            subdirs.push(entry.path());
        }
    }
    subdirs.sort();
    let own = read_series(dir)?;
    found.extend(own.filter(has_something));
    for subdir in subdirs {
        found.extend(read_series(&subdir)?.filter(has_something));
    }
    Ok(found)
}

fn has_something(series: &Series) -> bool {
    !series.segments.is_empty() || !series.notes.is_empty() || !series.torn.is_empty()
}

fn read_series(dir: &Path) -> io::Result<Option<Series>> {
    let dir = dir.canonicalize()?;
    let Some(writer) = dir.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name)) else {
        return Ok(None);
    };
    let notes = match open_file(OpenOptions::new().read(true), &dir.join("checkpoints")) {
        Ok(mut file) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            split_notes(&String::from_utf8_lossy(&bytes)).0.into_iter().map(str::to_owned).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut series = Series { writer: writer.to_owned(), notes, segments: Vec::new(), torn: Vec::new(), dir };
    for entry in std::fs::read_dir(&series.dir)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        match SegmentName::read(&name) {
            Some(segment) => series.segments.push(segment),
            None if name.contains(".jsonl.torn") => series.torn.push(name),
            None => {}
        }
    }
    series.segments.sort_unstable();
    series.torn.sort();
    Ok(Some(series))
}

/// A piece of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, without its newline.
    Line(&'a [u8]),
    /// Bytes at the end of the file that no newline ends.
    Torn(&'a [u8]),
}

/// Gives every piece of a segment to `each` until it says stop; says whether it was read to its end.
pub fn lines<E>(
    series: &Series,
    segment: SegmentName,
    mut each: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> io::Result<Result<(), E>> {
    let file = open_file(OpenOptions::new().read(true), &series.dir.join(segment.to_string()))?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(Ok(()));
        }
        let piece = match bytes.strip_suffix(b"\n") {
            Some(line) => Piece::Line(line),
            // Too long to be a record: a line that cannot be read.
            None if read == LINE_BYTES_MAX => Piece::Line(&bytes),
            None => Piece::Torn(&bytes),
        };
        if let Err(stop) = each(piece) {
            return Ok(Err(stop));
        }
    }
}
