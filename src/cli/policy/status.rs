//! `loopgate policy status`: which policy decides at a running gateway, what waits, what was before.
//!
//! Promises: says what the gateway says, with what to do next. Never changes anything.
//! Called by `cli::policy`; what it prints is also what `activate` and `rollback` end with.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::PolicyFault;
use crate::app;
use crate::cli::print;
use crate::cli::remote::Place;
use crate::cli::remote::Stop;
use crate::cli::remote::json_out;

/// Terms of the history that are shown.
const BEFORE: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(status: &Status, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let remote = status.place.reach()?;
    let standing = wait(remote.get(&["policy"], &[]))?;
    tell(&standing, status.place.json, out)
}

/// Waits for the gateway.
pub(super) fn wait<T>(answer: impl Future<Output = Result<T, Stop>>) -> Result<T, PolicyFault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(answer)?)
}

/// How policy stands.
pub(super) fn tell(standing: &Value, json: bool, out: &mut dyn Write) -> Result<(), PolicyFault> {
    if json {
        return Ok(json_out(standing, out)?);
    }
    for line in lines(standing, app::now_s()) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn lines(standing: &Value, now_s: i64) -> Vec<String> {
    let (strong, plain) = (print::STRONG, print::PLAIN);
    let mut lines = Vec::new();
    let mut say = |name: &str, words: String| lines.push(format!("{name:<9} {words}"));
    match part(standing, "live") {
        Some(live) => {
            say("in force", format!("{strong}{}{plain}  {}", text(live, "revision"), since(live, now_s)));
            say("", how(live));
        }
        None => say("in force", "nothing; see /readyz".to_owned()),
    }
    let gated = text(standing, "activation") == "gated";
    if let Some(waiting) = part(standing, "waiting") {
        let origin = text(waiting, "origin");
        say(
            "waits",
            format!("{strong}{}{plain}  {}, from the {origin}", text(waiting, "revision"), since(waiting, now_s)),
        );
    } else {
        let rule =
            if gated { "a change waits for a replay report and a person" } else { "a change is in force at once" };
        say("waits", format!("nothing; {rule}"));
    }
    if let Some(canary) = part(standing, "canary") {
        say("canary", format!("{strong}{}{plain}  {}", text(canary, "revision"), since(canary, now_s)));
        say("", format!("decides about {}; {}", share(canary), by(canary)));
        say("", counts(canary));
    }
    if let Some(shadow) = part(standing, "shadow") {
        say("shadow", format!("{}  {}", text(shadow, "revision"), classes(shadow)));
    }
    for held in list(standing, "held") {
        let revision = print::plain(held.as_str().unwrap_or_default());
        say("held", format!("{revision}  was taken back; does not come back before the files change"));
    }
    for fault in list(standing, "faults") {
        let words = print::plain(fault.as_str().unwrap_or_default());
        say("refused", print::wrapped(&words, 10));
    }
    let history = list(standing, "history");
    for (at, past) in history.iter().take(BEFORE).enumerate() {
        let name = if at == 0 { "before" } else { "" };
        let ended = if text(past, "ended") == "rolled_back" { ", then taken back" } else { "" };
        say(name, format!("{}  until {}{ended}", text(past, "revision"), moment(past, "until")));
        say("", how(past));
    }
    if history.len() > BEFORE {
        say("", format!("and {} more", history.len() - BEFORE));
    }
    if part(standing, "waiting").is_some() && gated {
        lines.push(String::new());
        lines.push("next: loopgate policy replay --config FILE --candidate DIR --sign --out report.json".to_owned());
        lines.push("      loopgate policy activate --report report.json --reason '...'".to_owned());
    }
    lines
}

fn how(term: &Value) -> String {
    match text(term, "how").as_str() {
        "first" => "the first policy of this gateway".to_owned(),
        "automatic" => "by a change of the files".to_owned(),
        "promoted" => format!("a canary before; {}", by(term)),
        "rolled_back" => format!("gone back to; {}", by(term)),
        _ => by(term),
    }
}

/// Who, why, and on which report.
fn by(one: &Value) -> String {
    let mut words = format!("by {}", text(one, "by"));
    let (reason, report) = (text(one, "reason"), text(one, "report"));
    if !reason.is_empty() {
        words = format!("{words}: {reason}");
    }
    if !report.is_empty() {
        words = format!("{words} (report {})", report.chars().take(16).collect::<String>());
    }
    print::wrapped(&words, 10)
}

/// `10 % of all callers and org_gcn`.
fn share(canary: &Value) -> String {
    let percent = canary.get("percent").and_then(Value::as_u64).filter(|percent| *percent > 0);
    let percent = percent.map(|percent| format!("{percent} % of all callers"));
    let tenants = list(canary, "tenants").iter().filter_map(Value::as_str).map(print::plain);
    percent.into_iter().chain(tenants).collect::<Vec<_>>().join(" and ")
}

fn counts(canary: &Value) -> String {
    let count = |name: &str| canary.pointer(&format!("/counts/{name}")).and_then(Value::as_u64).unwrap_or_default();
    format!(
        "{} of {} calls denied, {} by the live policy, {} by one of them only; {} of {} decisions failed",
        count("denied"),
        count("calls"),
        count("liveDenied"),
        count("differ"),
        count("faults"),
        count("decisions"),
    )
}

/// `12002 same, 3 newly denied`.
fn classes(shadow: &Value) -> String {
    let counts = shadow.get("counts").and_then(Value::as_object).into_iter().flatten();
    let some = counts.filter_map(|(class, count)| Some((class, count.as_u64().filter(|count| *count > 0)?)));
    let words: Vec<String> =
        some.map(|(class, count)| format!("{count} {}", print::plain(&class.replace('_', " ")))).collect();
    if words.is_empty() { "asked about nothing yet".to_owned() } else { words.join(", ") }
}

fn since(one: &Value, now_s: i64) -> String {
    let since = moment(one, "since");
    let age = text(one, "since").parse::<jiff::Timestamp>().map(|at| now_s - at.as_second());
    match age {
        Ok(age) if age >= 0 => format!("since {since} ({})", span(age)),
        _ => format!("since {since}"),
    }
}

/// A moment to the second: people look for a day and an hour.
fn moment(one: &Value, name: &str) -> String {
    let text = text(one, name);
    text.parse::<jiff::Timestamp>().map_or(text, |at| format!("{at:.0}"))
}

fn span(s: i64) -> String {
    match s {
        0..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min", s / 60),
        7_200..=172_799 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

fn part<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.get(name).filter(|part| part.is_object())
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value, name: &str) -> String {
    print::plain(value.get(name).and_then(Value::as_str).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_wrote_hides_nothing_and_a_share_is_told_in_words() {
        let standing = json!({
            "activation": "gated",
            "live": {"revision": "aaa-bbb", "since": "1970-01-01T00:00:00Z", "how": "person", "by": "tess",
                     "reason": "see\u{202e} below\n", "report": "0".repeat(64)},
            "waiting": {"revision": "ccc-ddd", "since": "1970-01-01T00:01:00Z", "origin": "folder"},
            "canary": {"revision": "eee-fff", "since": "1970-01-01T00:02:00Z", "percent": 10, "tenants": ["org_gcn"],
                       "by": "tess", "reason": "", "report": null,
                       "counts": {"decisions": 9, "faults": 1, "calls": 4, "denied": 2, "liveDenied": 0, "differ": 2}},
            "shadow": {"revision": "ccc-ddd", "counts": {"same": 7, "newly_denied": 2, "visible": 0}},
            "held": ["ggg-hhh"],
            "history": [{"revision": "zzz-yyy", "until": "1970-01-01T00:00:00Z", "how": "first", "ended": "rolled_back"}],
            "faults": [],
        });
        let text = lines(&standing, 3_600).join("\n");
        for words in [
            "aaa-bbb",
            "(60 min)",
            "by tess: see\\u{202e} below\\u{a} (report 0000000000000000)",
            "ccc-ddd",
            "from the folder",
            "decides about 10 % of all callers and org_gcn; by tess",
            "2 of 4 calls denied, 0 by the live policy, 2 by one of them only; 1 of 9 decisions failed",
            "7 same",
            "2 newly denied",
            "ggg-hhh  was taken back",
            "zzz-yyy  until 1970-01-01T00:00:00Z, then taken back",
            "next: loopgate policy replay",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(!text.contains("visible") && !text.contains('\u{202e}'));
        assert!(lines(&json!({}), 0).join("\n").contains("nothing; see /readyz"));
    }
}
