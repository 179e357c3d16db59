//! `loopgate audit show`: one action from its first record to its last, for people.

use std::io::Write;

use serde_json::Value;

use super::row::{Row, each, plain, time};
use super::{Show, Stop};
use crate::cli::print;
use crate::domain::audit::AuditRef;

/// The steps of the sentence, in its order.
const STEPS: [&str; 6] = ["receive", "authenticate", "resolve_tenant", "decide", "forward", "inspect"];

pub(super) fn run(args: &Show, out: &mut dyn Write) -> Result<u8, Stop> {
    let mut rows = gather(args)?;
    rows.sort_by_key(|row| (row.time_ms(), row.seq()));
    if rows.is_empty() {
        writeln!(out, "no record goes by `{}`", plain(&args.id))?;
        return Ok(1);
    }
    if args.json {
        for row in &rows {
            writeln!(out, "{}", row.raw)?;
        }
        return Ok(0);
    }
    // A trace or an approval may run through several requests.
    let mut requests: Vec<&str> = Vec::new();
    for row in &rows {
        if !requests.contains(&row.request_id()) {
            requests.push(row.request_id());
        }
    }
    for (index, request) in requests.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let own: Vec<&Row> = rows.iter().filter(|row| row.request_id() == *request).collect();
        heading(&own, out)?;
        let start = own.first().map_or(0, |row| row.at("/start_time").and_then(Value::as_i64).unwrap_or(row.time_ms()));
        for row in own {
            entry(row, start, out)?;
        }
    }
    Ok(0)
}

/// Every record that goes by the id; for a reference, every record of that record's request.
fn gather(args: &Show) -> Result<Vec<Row>, Stop> {
    let dir = args.place.find()?.dir;
    let mut rows = Vec::new();
    if args.id.parse::<AuditRef>().is_err() {
        each(&dir, |row| {
            if row.goes_by(&args.id) {
                rows.push(row);
            }
        })?;
        return Ok(rows);
    }
    each(&dir, |row| {
        if row.reference() == args.id {
            rows.push(row);
        }
    })?;
    let Some(request) = rows.first().map(|row| row.request_id().to_owned()).filter(|id| !id.is_empty()) else {
        return Ok(rows);
    };
    rows.clear();
    each(&dir, |row| {
        if row.request_id() == request {
            rows.push(row);
        }
    })?;
    Ok(rows)
}

/// What all records of a request have in common, as the one that knows most tells it.
fn heading(rows: &[&Row], out: &mut dyn Write) -> Result<(), Stop> {
    let first = |pointer: &str| {
        rows.iter().map(|row| row.text(pointer)).find(|text| !text.is_empty()).map(plain).unwrap_or_default()
    };
    let mut line = |label: &str, text: String| -> Result<(), Stop> {
        if !text.is_empty() {
            writeln!(out, "{label:<13}{}", print::wrapped(&text, 13))?;
        }
        Ok(())
    };
    line("request", first("/api/request/uid"))?;
    line("trace", first("/trace/uid"))?;
    let user = first("/actor/user/uid");
    let who = match (user.as_str(), first("/actor/user/org/uid").as_str()) {
        ("", _) => first("/actor/app_name"),
        (user, "") => user.to_owned(),
        (user, tenant) => format!("{user} in {tenant}"),
    };
    line("who", who)?;
    line("client", first("/actor/app_uid"))?;
    line("signed in by", first("/unmapped/loopgate/auth_method"))?;
    line("from", first("/src_endpoint/ip"))?;
    line("workflow", first("/unmapped/loopgate/workflow"))?;
    let tool = first("/unmapped/loopgate/tool");
    let via = first("/unmapped/loopgate/via");
    line("called", if via.is_empty() { tool } else { format!("{tool} through {via}") })?;
    line("route", first("/unmapped/loopgate/route"))?;
    let arguments = rows.iter().find_map(|row| row.at("/api/request/data/arguments"));
    line("arguments", arguments.map(|arguments| plain(&arguments.to_string())).unwrap_or_default())?;
    line("approval", first("/unmapped/loopgate/approval_id"))?;
    line("key", first("/unmapped/loopgate/idempotency_key"))?;
    line("execution", first("/unmapped/loopgate/execution_id"))?;
    writeln!(out)?;
    Ok(())
}

fn entry(row: &Row, start_ms: i64, out: &mut dyn Write) -> Result<(), Stop> {
    let after = row.time_ms().saturating_sub(start_ms);
    let (stage, result) = (plain(row.stage()), plain(&row.result()));
    let result = if result.is_empty() { String::new() } else { format!("  {result}") };
    let what = format!("{}{stage}{result}{}", print::STRONG, print::PLAIN);
    writeln!(out, "{}  +{after} ms  {what}  ({})", time(row.time_ms()), plain(row.reference()))?;
    let mut detail = |label: &str, text: &str| -> Result<(), Stop> {
        if !text.is_empty() {
            writeln!(out, "    {label:<9}{}", print::wrapped(&plain(text), 13))?;
        }
        Ok(())
    };
    for decision in row.decisions() {
        let text = |name: &str| decision.get(name).and_then(Value::as_str).unwrap_or_default();
        let bundle: String = text("bundle_digest").chars().take(12).collect();
        detail(
            "decision",
            &format!("{} {} ({}, policy {bundle}, {})", text("outcome"), text("id"), text("phase"), text("engine")),
        )?;
        if row.code().is_empty() {
            reasons(decision, &mut detail)?;
        }
    }
    if let Some(refusal) = row.at("/unmapped/loopgate/refusal") {
        reasons(refusal, &mut detail)?;
        detail("detail", refusal.get("detail").and_then(Value::as_str).unwrap_or_default())?;
    }
    if let Some(bytes) = row.at("/unmapped/loopgate/execution/bytes").and_then(Value::as_u64) {
        let replayed = row.at("/unmapped/loopgate/execution/replayed").and_then(Value::as_bool).unwrap_or_default();
        detail("answer", &format!("{bytes} bytes{}", if replayed { ", an earlier answer given again" } else { "" }))?;
    }
    let ids: Vec<&str> = row
        .at("/resources")
        .and_then(Value::as_array)
        .map(|ids| ids.iter().filter_map(|id| id.get("uid").and_then(Value::as_str)).collect())
        .unwrap_or_default();
    detail("records", &ids.join(", "))?;
    if let Some(dropped) = row.at("/unmapped/loopgate/dropped") {
        detail("dropped", &dropped.to_string())?;
    }
    if let Some(data) = row.at("/unmapped/loopgate/data") {
        detail("data", &data.to_string())?;
    }
    if let Some(steps) = row.at("/unmapped/loopgate/steps_us").and_then(Value::as_object) {
        let mut steps: Vec<(&String, &Value)> = steps.iter().collect();
        steps.sort_by_key(|(step, _)| STEPS.iter().position(|known| known == step).unwrap_or(STEPS.len()));
        let steps: Vec<String> = steps.iter().map(|(step, us)| format!("{step} {us} us")).collect();
        detail("took", &steps.join(", "))?;
    }
    Ok(())
}

fn reasons(of: &Value, detail: &mut impl FnMut(&str, &str) -> Result<(), Stop>) -> Result<(), Stop> {
    for reason in of.get("reasons").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| reason.get(name).and_then(Value::as_str).unwrap_or_default();
        detail("because", &format!("{}: {}", text("code"), text("message")))?;
    }
    Ok(())
}
