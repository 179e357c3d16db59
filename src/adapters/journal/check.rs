//! Verifies a writer's journal while somebody reads it.
//!
//! Promises: what is handed on was verified as it was read, in the same pass, so that no file is
//! swapped between the two; a checkpoint counts only if a given key signed it for this writer.
//! Never writes, and never says what to do about a finding. Called by `cli::audit` and by
//! `policy replay`.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::read::{self, Piece, Series};
use crate::domain::audit::checkpoint::{BadNote, Checkpoint, PublicKey};
use crate::domain::audit::finding::{Finding, Kind, Summary};
use crate::domain::audit::line::{SegmentName, read_origin};
use crate::domain::audit::verify::Verifier;

/// What was found of one writer.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// The writer.
    pub writer: String,
    /// What was found in order; none when a record does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// Files with what was cut off after a crash.
    pub torn_files: Vec<String>,
}

/// A finding without a place.
#[must_use]
pub fn bare(kind: Kind, writer: &str, what: String) -> Finding {
    Finding { kind, writer: writer.to_owned(), segment: None, line: None, epoch: 0, seq: None, request_id: None, what }
}

/// Verifies a writer's files against `notes`, and hands every line on until one does not fit: its
/// bytes, its segment, and where the next segment of its epoch starts.
pub fn check(
    series: &Series,
    notes: &[String],
    keys: &[PublicKey],
    unsigned_ms_max: i64,
    each: impl FnMut(&[u8], SegmentName, Option<u64>),
) -> Result<Checked, (PathBuf, io::Error)> {
    let mut checked =
        Checked { writer: series.writer.clone(), summary: None, findings: Vec::new(), torn_files: series.torn.clone() };
    let mut checkpoints = Vec::new();
    for (index, note) in notes.iter().enumerate() {
        match signed_for(series, note, keys) {
            Ok(checkpoint) => checkpoints.push(checkpoint),
            // One is enough to know; a wrong key would otherwise be told once a second.
            Err(what) if checked.findings.is_empty() => {
                let what = format!("checkpoint {} of {}: {what}", index + 1, notes.len());
                checked.findings.push(bare(Kind::BadSignature, &series.writer, what));
            }
            Err(_) => {}
        }
    }
    match read_through(series, &checkpoints, unsigned_ms_max, each)? {
        Ok(summary) => checked.summary = Some(summary),
        Err(finding) => checked.findings.push(*finding),
    }
    checked.findings.sort_by_key(|finding| finding.kind.exit_code());
    // Without checkpoints that can be trusted everything is unsigned; the signature is the cause.
    if checked.findings.iter().any(|finding| finding.kind == Kind::BadSignature) {
        checked.findings.retain(|finding| finding.kind != Kind::Unsigned);
    }
    Ok(checked)
}

/// The same without verifying anything.
pub fn unchecked(
    series: &Series,
    mut each: impl FnMut(&[u8], SegmentName, Option<u64>),
) -> Result<(), (PathBuf, io::Error)> {
    for (segment, next) in segments(series) {
        let read = read::lines(series, segment, |piece| {
            if let Piece::Line(line) = piece {
                each(line, segment, next);
            }
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = read.map_err(|error| (series.dir.join(segment.to_string()), error))?;
    }
    Ok(())
}

/// Every segment, and where the next one of its epoch starts.
fn segments(series: &Series) -> impl Iterator<Item = (SegmentName, Option<u64>)> {
    series.segments.iter().enumerate().map(|(index, segment)| {
        let next = series.segments.get(index + 1).filter(|next| next.epoch == segment.epoch);
        (*segment, next.map(|next| next.first))
    })
}

fn signed_for(series: &Series, note: &str, keys: &[PublicKey]) -> Result<Checkpoint, String> {
    let checkpoint = Checkpoint::verify(note, keys).map_err(|bad: BadNote| bad.to_string())?;
    match read_origin(&checkpoint.origin) {
        Some((_, writer, _)) if writer == series.writer => Ok(checkpoint),
        _ => Err(format!("it is of `{}`, another journal", checkpoint.origin)),
    }
}

fn read_through(
    series: &Series,
    checkpoints: &[Checkpoint],
    unsigned_ms_max: i64,
    mut each: impl FnMut(&[u8], SegmentName, Option<u64>),
) -> Result<Result<Summary, Box<Finding>>, (PathBuf, io::Error)> {
    let mut verifier = match Verifier::new(&series.writer, checkpoints) {
        Ok(verifier) => verifier,
        Err(finding) => return Ok(Err(finding)),
    };
    for (segment, next) in segments(series) {
        if let Err(finding) = verifier.begin(segment, next) {
            return Ok(Err(finding));
        }
        let read = read::lines(series, segment, |piece| match piece {
            Piece::Line(line) => {
                verifier.line(line)?;
                each(line, segment, next);
                Ok(())
            }
            Piece::Torn(bytes) => verifier.torn(bytes),
        });
        if let Err(finding) = read.map_err(|error| (series.dir.join(segment.to_string()), error))? {
            return Ok(Err(finding));
        }
    }
    Ok(verifier.finish(unsigned_ms_max))
}
