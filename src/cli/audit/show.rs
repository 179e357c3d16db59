//! `loopgate audit show`: one action from its first record to its last, for people.
//!
//! Promises: any id of an action leads to all of it: asked, voted on, carried out, found out about
//! later, answered again, in the order in which it happened, whoever did each. Never judges.

use std::io::Write;

use serde_json::Value;

use super::row::{Entry, plain, plain_json, story, time};
use super::{Show, Stop};
use crate::cli::print;
use crate::domain::audit::story::actions;

/// The steps of the sentence, in its order.
const STEPS: [&str; 6] = ["receive", "authenticate", "resolve_tenant", "decide", "forward", "inspect"];

pub(super) fn run(args: &Show, out: &mut dyn Write) -> Result<u8, Stop> {
    let told = story(&args.place.find()?.dir, &args.id)?;
    if told.is_empty() {
        writeln!(out, "no record goes by `{}`", plain(&args.id))?;
        return Ok(1);
    }
    if args.json {
        for entry in &told {
            writeln!(out, "{}", plain_json(&entry.line))?;
        }
        return Ok(0);
    }
    // A trace may hold several actions.
    for (index, action) in actions(told).iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        tell(action, out)?;
    }
    Ok(0)
}

/// One action, request by request as they came.
fn tell(action: &[Entry], out: &mut dyn Write) -> Result<(), Stop> {
    let Some(first) = action.first() else { return Ok(()) };
    let several = action.iter().any(|entry| entry.request_id() != first.request_id());
    heading(action, several, out)?;
    let start = first.at("/start_time").and_then(Value::as_i64).unwrap_or(first.time_ms());
    let mut request = None;
    let mut readers: Vec<(&str, usize)> = Vec::new();
    for one in action {
        if several && is_look(one) {
            match readers.iter_mut().find(|(user, _)| *user == one.user()) {
                Some((_, times)) => *times += 1,
                None => readers.push((one.user(), 1)),
            }
            continue;
        }
        looked_at(&mut readers, out)?;
        if several && request != Some(one.request_id()) {
            writeln!(out, "{}", arrival(one))?;
            request = Some(one.request_id());
        }
        entry(one, start, out)?;
    }
    looked_at(&mut readers, out)
}

/// Whether somebody only looked how it stands. WHY: those who wait look often, and it changes nothing.
fn is_look(entry: &Entry) -> bool {
    let shown = ["approvals.show", "writes.show"].contains(&entry.method());
    entry.stage() == "outcome" && (shown || entry.tool() == "loopiq_get_action")
}

/// Who looked since the last step, in one line.
fn looked_at(readers: &mut Vec<(&str, usize)>, out: &mut dyn Write) -> Result<(), Stop> {
    let words: Vec<String> =
        readers.drain(..).map(|(user, times)| format!("{} ({})", plain(user), print::count(times, "time"))).collect();
    if !words.is_empty() {
        writeln!(out, "- read by {}", print::wrapped(&words.join(", "), 10))?;
    }
    Ok(())
}

/// Who comes with which request, where an action takes several.
fn arrival(entry: &Entry) -> String {
    let text = |pointer: &str| plain(entry.text(pointer));
    let who = match (text("/actor/user/uid"), text("/src_endpoint/ip")) {
        (user, _) if user.is_empty() => text("/actor/app_name"),
        (user, from) if from.is_empty() => user,
        (user, from) => format!("{user} from {from}"),
    };
    match plain(entry.request_id()) {
        request if request.is_empty() => format!("- {who}"),
        request => format!("- {who}, {}, request {request}", plain(entry.method())),
    }
}

/// What all records of an action have in common, as the first that knows tells it.
fn heading(action: &[Entry], several: bool, out: &mut dyn Write) -> Result<(), Stop> {
    let first = |pointer: &str| {
        action.iter().map(|entry| entry.text(pointer)).find(|text| !text.is_empty()).map(plain).unwrap_or_default()
    };
    let mut line = |label: &str, text: String| -> Result<(), Stop> {
        if !text.is_empty() {
            writeln!(out, "{label:<13}{}", print::folded_within(&text, 13, print::WIDTH))?;
        }
        Ok(())
    };
    if !several {
        line("request", first("/api/request/uid"))?;
    }
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
    if !several {
        line("from", first("/src_endpoint/ip"))?;
    }
    line("workflow", first("/unmapped/loopgate/workflow"))?;
    let tool = first("/unmapped/loopgate/tool");
    let via = action.iter().find(|entry| !entry.tool().is_empty()).map(|entry| plain(entry.own("via")));
    let via = via.unwrap_or_default();
    line("called", if via.is_empty() { tool } else { format!("{tool} through {via}") })?;
    line("route", first("/unmapped/loopgate/route"))?;
    let arguments = action.iter().find_map(|entry| entry.at("/api/request/data/arguments"));
    line("arguments", arguments.map(|arguments| plain(&arguments.to_string())).unwrap_or_default())?;
    line("approval", first("/unmapped/loopgate/approval_id"))?;
    line("key", first("/unmapped/loopgate/idempotency_key"))?;
    line("execution", first("/unmapped/loopgate/execution_id"))?;
    writeln!(out)?;
    Ok(())
}

fn entry(entry: &Entry, start_ms: i64, out: &mut dyn Write) -> Result<(), Stop> {
    let after = entry.time_ms().saturating_sub(start_ms);
    let (stage, result) = (plain(entry.stage()), plain(&entry.result()));
    let result = if result.is_empty() { String::new() } else { format!("  {result}") };
    let tried = if entry.at("/unmapped/loopgate/dry_run").is_some() { " (dry run)" } else { "" };
    let what = format!("{}{stage}{tried}{result}{}", print::STRONG, print::PLAIN);
    writeln!(out, "{}  +{}  {what}  ({})", time(entry.time_ms()), passed(after), plain(entry.reference()))?;
    let mut detail = |label: &str, text: &str| -> Result<(), Stop> {
        if !text.is_empty() {
            writeln!(out, "    {label:<9}{}", print::folded_within(&plain(text), 13, print::WIDTH))?;
        }
        Ok(())
    };
    if entry.is_at("approval") || entry.is_at("write") {
        detail("what", entry.text("/message"))?;
    }
    for decision in entry.decisions() {
        let text = |name: &str| decision.get(name).and_then(Value::as_str).unwrap_or_default();
        let bundle: String = text("bundle_digest").chars().take(12).collect();
        detail(
            "decision",
            &format!("{} {} ({}, policy {bundle}, {})", text("outcome"), text("id"), text("phase"), text("engine")),
        )?;
        if entry.code().is_empty() {
            reasons(decision, &mut detail)?;
        }
    }
    if let Some(refusal) = entry.at("/unmapped/loopgate/refusal") {
        reasons(refusal, &mut detail)?;
        detail("detail", refusal.get("detail").and_then(Value::as_str).unwrap_or_default())?;
    }
    if let Some(bytes) = entry.at("/unmapped/loopgate/execution/bytes").and_then(Value::as_u64) {
        let replayed = entry.at("/unmapped/loopgate/execution/replayed").and_then(Value::as_bool).unwrap_or_default();
        detail("answer", &format!("{bytes} bytes{}", if replayed { ", an earlier answer given again" } else { "" }))?;
    }
    detail("records", &entry.record_ids().collect::<Vec<_>>().join(", "))?;
    if let Some(dropped) = entry.at("/unmapped/loopgate/dropped") {
        detail("dropped", &dropped.to_string())?;
    }
    for (name, value) in entry.at("/unmapped/loopgate/data").and_then(Value::as_object).into_iter().flatten() {
        detail("data", &format!("{name} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))?;
    }
    if let Some(steps) = entry.at("/unmapped/loopgate/steps_us").and_then(Value::as_object) {
        let mut steps: Vec<(&String, &Value)> = steps.iter().collect();
        steps.sort_by_key(|(step, _)| STEPS.iter().position(|known| known == step).unwrap_or(STEPS.len()));
        let steps: Vec<String> = steps.iter().map(|(step, us)| format!("{step} {us} us")).collect();
        detail("took", &steps.join(", "))?;
    }
    Ok(())
}

/// Milliseconds as people say them; between a question and its approval hours may pass.
fn passed(ms: i64) -> String {
    match ms {
        ..10_000 => format!("{ms} ms"),
        10_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

fn reasons(of: &Value, detail: &mut impl FnMut(&str, &str) -> Result<(), Stop>) -> Result<(), Stop> {
    for reason in of.get("reasons").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| reason.get(name).and_then(Value::as_str).unwrap_or_default();
        detail("because", &format!("{}: {}", text("code"), text("message")))?;
    }
    Ok(())
}
