//! `loopgate audit query`: the latest records that fit, as a table or as they are.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write;

use super::row::{Entry, each, plain, plain_json, time};
use super::{Query, Stop};
use crate::cli::print;

pub(super) fn run(args: &Query, out: &mut dyn Write) -> Result<u8, Stop> {
    let since = args.since.as_deref().map(moment).transpose()?;
    let until = args.until.as_deref().map(moment).transpose()?;
    let mut kept: VecDeque<Entry> = VecDeque::new();
    let mut found = 0_u64;
    each(&args.place.find()?.dir, |row| {
        let in_time =
            since.is_none_or(|since| row.time_ms() >= since) && until.is_none_or(|until| row.time_ms() < until);
        if !in_time || !fits(args, &row) {
            return;
        }
        found += 1;
        kept.push_back(row);
        // Writers are read one after the other: with several, the latest are known only at the end.
        if args.limit > 0 && kept.len() > args.limit.saturating_mul(64).max(4096) {
            keep_latest(&mut kept, args.limit);
        }
    })?;
    keep_latest(&mut kept, args.limit);
    if args.json {
        for row in &kept {
            writeln!(out, "{}", plain_json(&row.line))?;
        }
        return Ok(0);
    }
    if kept.is_empty() {
        writeln!(out, "no record fits")?;
        return Ok(0);
    }
    table(&kept, out)?;
    if found > kept.len() as u64 {
        writeln!(out, "\nthe latest {} of {found} records; --limit 0 shows all", kept.len())?;
    }
    Ok(0)
}

fn keep_latest(kept: &mut VecDeque<Entry>, limit: usize) {
    kept.make_contiguous().sort_by_key(|row| (row.time_ms(), row.seq()));
    if limit > 0 && kept.len() > limit {
        kept.drain(..kept.len() - limit);
    }
}

fn fits(args: &Query, row: &Entry) -> bool {
    let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
    // Silence is not news.
    let stage = args.stage.as_deref().map_or(row.stage() != "heartbeat", |wanted| row.is_at(wanted));
    stage
        && is(&args.tenant, row.tenant())
        && is(&args.user, row.user())
        && is(&args.tool, row.tool())
        && is(&args.code, row.code())
        && is(&args.request_id, row.request_id())
}

/// A moment, or the start of a day in UTC.
fn moment(text: &str) -> Result<i64, Stop> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let day = text.parse::<jiff::civil::Date>().ok().and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok());
    day.map(|day| day.timestamp().as_millisecond())
        .ok_or_else(|| Stop::Usage(format!("`{text}` is no time; write 2026-11-20 or 2026-11-20T18:00:00Z")))
}

/// Columns that may be cut; what is cut stands whole in `audit show` and in `--json`.
const USER_MAX: usize = 24;
const TENANT_MAX: usize = 16;
/// A tool's name keeps at least this much, even where the other columns are wide.
const WHAT_MIN: usize = 16;

/// One line per record, under a line per day; a reference is never cut, for it is what `show` takes.
fn table(rows: &VecDeque<Entry>, out: &mut dyn Write) -> Result<(), Stop> {
    let head = ["TIME", "TENANT", "USER", "RESULT", "REF", "WHAT"].map(str::to_owned);
    let lines: Vec<[String; 6]> = rows.iter().map(cells).collect();
    let width = |column: usize| {
        let all = lines.iter().chain([&head]).filter_map(|line| line.get(column));
        all.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let room = print::WIDTH.saturating_sub(widths.iter().sum::<usize>() + 2 * widths.len()).max(WHAT_MIN);
    let padded = |line: &[String; 6]| {
        let or_none = |cell: &str| if cell.is_empty() { "-".to_owned() } else { cell.to_owned() };
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            // WHY: writing to a `String` cannot fail.
            let _infallible = write!(text, "{:<width$}  ", or_none(cell));
        }
        text + &or_none(&line.last().map(|what| cut(what, room)).unwrap_or_default())
    };
    let mut day = String::new();
    for (row, line) in rows.iter().zip(&lines) {
        let today: String = time(row.time_ms()).chars().take(10).collect();
        if today != day {
            let again = if day.is_empty() { "" } else { "\n" };
            writeln!(out, "{again}{}{today} UTC{}", print::STRONG, print::PLAIN)?;
            writeln!(out, "{}{}{}", print::STRONG, padded(&head), print::PLAIN)?;
            day = today;
        }
        writeln!(out, "{}", padded(line))?;
    }
    Ok(())
}

fn cells(row: &Entry) -> [String; 6] {
    let result = match (row.stage(), row.result()) {
        // A code says that it was denied, and how it was carried out that it is the outcome.
        ("denied" | "outcome", result) if !result.is_empty() => result,
        (stage, result) => format!("{stage} {result}").trim_end().to_owned(),
    };
    let what = match (row.tool(), row.method()) {
        // What is no request has no method; its stage says what it is.
        ("", method) if method == row.stage() => "",
        ("", method) => method,
        (tool, _) => tool,
    };
    [
        time(row.time_ms()).chars().skip(11).take(8).collect(),
        cut(&plain(row.tenant()), TENANT_MAX),
        cut(&plain(row.user()), USER_MAX),
        plain(&result),
        plain(row.reference()),
        plain(what),
    ]
}

/// At most `max` characters, with what is left out in the middle: tools differ at both ends.
fn cut(text: &str, max: usize) -> String {
    let length = text.chars().count();
    if length <= max {
        return text.to_owned();
    }
    let end = (max - 1) / 2;
    let begin = max - 1 - end;
    text.chars().take(begin).chain(['…']).chain(text.chars().skip(length - end)).collect()
}
