//! `loopgate audit query`: the latest records that fit, as a table or as they are.

use std::collections::VecDeque;
use std::io::Write;

use super::row::{Row, each, plain, time};
use super::{Query, Stop};

pub(super) fn run(args: &Query, out: &mut dyn Write) -> Result<u8, Stop> {
    let since = args.since.as_deref().map(moment).transpose()?;
    let until = args.until.as_deref().map(moment).transpose()?;
    let mut kept: VecDeque<Row> = VecDeque::new();
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
            writeln!(out, "{}", row.raw)?;
        }
        return Ok(0);
    }
    if kept.is_empty() {
        writeln!(out, "no record fits")?;
        return Ok(0);
    }
    table(&kept, out)?;
    if found > kept.len() as u64 {
        writeln!(out, "{} of {found} records; --limit 0 shows all", kept.len())?;
    }
    Ok(0)
}

fn keep_latest(kept: &mut VecDeque<Row>, limit: usize) {
    kept.make_contiguous().sort_by_key(|row| (row.time_ms(), row.seq()));
    if limit > 0 && kept.len() > limit {
        kept.drain(..kept.len() - limit);
    }
}

fn fits(args: &Query, row: &Row) -> bool {
    let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
    let stage = match args.stage.as_deref() {
        // Silence is not news.
        None => row.stage() != "heartbeat",
        Some(wanted) => {
            row.stage() == wanted || row.stage().strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
        }
    };
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

fn table(rows: &VecDeque<Row>, out: &mut dyn Write) -> Result<(), Stop> {
    let mut lines = vec![["TIME", "STAGE", "TENANT", "USER", "TOOL", "RESULT", "REF", "REQUEST"].map(str::to_owned)];
    for row in rows {
        let what = match (row.tool(), row.method()) {
            // What is no request has no method; its stage says what it is.
            ("", method) if method == row.stage() => "",
            ("", method) => method,
            (tool, _) => tool,
        };
        let result = row.result();
        lines.push([
            time(row.time_ms()),
            plain(row.stage()),
            plain(row.tenant()),
            plain(row.user()),
            plain(what),
            plain(&result),
            plain(row.reference()),
            plain(row.request_id()),
        ]);
    }
    let widths: Vec<usize> = (0..8)
        .map(|column| {
            lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{:<width$}", if cell.is_empty() { "-" } else { cell }, width = *width))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
