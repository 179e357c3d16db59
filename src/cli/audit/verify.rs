//! `loopgate audit verify`: streams the files through `domain::audit::verify` and says what it found.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use super::row::{plain, plain_json};
use super::{Stop, Verify};
use crate::adapters::journal::check::{self, Checked};
use crate::adapters::journal::read;
use crate::cli::print;
use crate::domain::audit::checkpoint::{Checkpoint, PublicKey, split_notes};
use crate::domain::audit::finding::Kind;
use crate::domain::audit::line::read_origin;

pub(super) fn run(args: &Verify, out: &mut dyn Write) -> Result<u8, Stop> {
    let found = args.place.find()?;
    let keys = read_keys(args, found.key)?;
    let mut kept = read_kept(args)?;
    let series = read::series(&found.dir).map_err(|error| Stop::file(&found.dir, error))?;
    let mut reports = Vec::new();
    for series in &series {
        let mut notes = series.notes.clone();
        notes.extend(kept.remove(&series.writer).unwrap_or_default());
        let unsigned_ms_max = i64::from(args.unsigned_seconds) * 1000;
        let checked = check::check(series, &notes, &keys, unsigned_ms_max, |_, _, _| {});
        reports.push(checked.map_err(|(path, error)| Stop::file(&path, error))?);
    }
    for writer in kept.into_keys() {
        reports.push(absent(&writer, "a checkpoint was kept of this writer, and its journal is not there"));
    }
    if reports.is_empty() {
        let what = format!("there is no journal in {}", found.dir.display());
        reports.push(absent("-", &what));
    }
    let worst = reports.iter().flat_map(|report| &report.findings).map(|finding| finding.kind).min();
    let exit = worst.map_or(0, Kind::exit_code);
    if args.json {
        let report = serde_json::json!({"ok": exit == 0, "exit": exit, "writers": reports});
        writeln!(out, "{}", plain_json(&report.to_string()))?;
    } else {
        for report in &reports {
            print(report, out)?;
        }
    }
    Ok(exit)
}

/// A writer of whom nothing is there.
fn absent(writer: &str, what: &str) -> Checked {
    let finding = check::bare(Kind::Missing, writer, what.to_owned());
    Checked { writer: writer.to_owned(), summary: None, findings: vec![finding], torn_files: Vec::new() }
}

fn read_keys(args: &Verify, own: Option<PathBuf>) -> Result<Vec<PublicKey>, Stop> {
    let mut files = args.keys.clone();
    if files.is_empty() {
        files.extend(own);
    }
    if files.is_empty() {
        return Err(Stop::Usage("say which key must have signed: --pub KEY_FILE".to_owned()));
    }
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| Stop::file(path, error))?;
        PublicKey::parse(&text).map_err(|error| Stop::Usage(format!("{}: {error}", path.display())))
    };
    files.iter().map(read).collect()
}

/// Notes that were kept elsewhere, by writer.
fn read_kept(args: &Verify) -> Result<BTreeMap<String, Vec<String>>, Stop> {
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &args.checkpoints {
        let text = std::fs::read_to_string(path).map_err(|error| Stop::file(path, error))?;
        let (notes, rest) = split_notes(&text);
        let unreadable = || Stop::Usage(format!("{}: not a checkpoint", path.display()));
        if notes.is_empty() || text.get(text.len() - rest..).is_some_and(|rest| !rest.trim().is_empty()) {
            return Err(unreadable());
        }
        for note in notes {
            let checkpoint = Checkpoint::parse(note).map_err(|_| unreadable())?;
            let (_, writer, _) = read_origin(&checkpoint.origin).ok_or_else(unreadable)?;
            kept.entry(writer.to_owned()).or_default().push(note.to_owned());
        }
    }
    Ok(kept)
}

fn print(report: &Checked, out: &mut dyn Write) -> Result<(), Stop> {
    for finding in &report.findings {
        let kind = match finding.kind {
            Kind::Altered => "ALTERED",
            Kind::Missing => "MISSING",
            Kind::BadSignature => "BAD SIGNATURE",
            Kind::Unsigned => "UNSIGNED",
        };
        let mut place = Vec::new();
        place.extend(finding.segment.as_ref().map(|segment| format!("segment {segment}")));
        place.extend(finding.line.map(|line| format!("line {line}")));
        place.extend(finding.seq.map(|seq| format!("record {}/{}/{seq}", finding.writer, finding.epoch)));
        place.extend(finding.request_id.as_ref().map(|id| format!("request {}", plain(id))));
        let place = if place.is_empty() { String::new() } else { format!("{}: ", place.join(", ")) };
        let kind = format!("{}{kind}{}", print::BAD, print::PLAIN);
        writeln!(out, "{}: {kind}: {place}{}", report.writer, plain(&finding.what))?;
    }
    if let Some(summary) = report.summary.as_ref().filter(|_| report.findings.is_empty()) {
        writeln!(
            out,
            "{}: {}fine{}: {} in {}, {}; {} since the last one",
            report.writer,
            print::GOOD,
            print::PLAIN,
            count(summary.records, "record"),
            count(summary.epochs, "epoch"),
            count(summary.checkpoints, "checkpoint"),
            count(summary.unsigned, "record"),
        )?;
        if summary.unsigned_before > 0 {
            writeln!(
                out,
                "{}: note: {} at the end of earlier epochs that were not stopped cleanly: none of their own checkpoints covers that",
                report.writer,
                count(summary.unsigned_before, "record"),
            )?;
        }
        if summary.torn_bytes > 0 {
            writeln!(
                out,
                "{}: note: {} bytes behind the last record are no record; they were never acknowledged",
                report.writer, summary.torn_bytes
            )?;
        }
    }
    if !report.torn_files.is_empty() {
        writeln!(
            out,
            "{}: note: what was cut off after a crash is in {}",
            report.writer,
            plain(&report.torn_files.join(", "))
        )?;
    }
    Ok(())
}

fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}
