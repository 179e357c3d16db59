//! `loopgate writes list | show | resolve`: what was sent, and what became of it.
//!
//! Promises: whoever settles an unknown write says how they know; nothing counts before a second
//! person says the same. Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 not reachable.
//! Never sends a write. Called by `cli`.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;
use serde_json::json;

use super::print;
use super::print::plain;
use super::remote::Place;
use super::remote::Stop;
use super::remote::json_out;
use super::remote::more;

/// List and read writes, and settle unknown ones.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the writes that you may see
    List(List),
    /// Show one write and what became of it
    Show {
        #[command(flatten)]
        place: Place,
        /// Execution id, or idempotency key
        id: String,
    },
    /// Say what became of an unknown write; counts once a second person says the same
    Resolve(Resolve),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    place: Place,
    /// Only in this state: reserved, sent, executed, failed or unknown
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only under this idempotency key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Go on where an earlier page ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Resolve {
    #[command(flatten)]
    place: Place,
    /// Execution id, or idempotency key
    id: String,
    /// What became of it
    #[arg(long, value_enum)]
    outcome: Outcome,
    /// Where you looked and what you found
    #[arg(long, value_name = "TEXT")]
    evidence: String,
    /// Record that it made or changed; several may be given
    #[arg(long = "record-id", value_name = "ID")]
    record_ids: Vec<String>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Outcome {
    /// It happened
    Executed,
    /// It did not happen
    Failed,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    let mut out = anstream::stdout();
    let done = match args.command {
        Command::List(args) => list(&args, &mut out).await,
        Command::Show { place, id } => show(&place, &id, &mut out).await,
        Command::Resolve(args) => resolve(&args, &mut out).await,
    };
    match done {
        Ok(()) => ExitCode::from(super::DONE),
        Err(stop) => stop.told(),
    }
}

async fn list(args: &List, out: &mut impl Write) -> Result<(), Stop> {
    let mut query = vec![("limit", args.limit.to_string())];
    for (name, value) in [("state", &args.state), ("key", &args.key), ("cursor", &args.cursor)] {
        query.extend(value.clone().map(|value| (name, value)));
    }
    let page = args.place.reach()?.get(&["writes"], &query).await?;
    if args.place.json {
        return json_out(&page, out);
    }
    let items = page.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        writeln!(out, "no write that you may see fits")?;
    }
    for item in items {
        let text = |name: &str| plain(item.get(name).and_then(Value::as_str).unwrap_or_default());
        writeln!(out, "{}{}{}  {}", print::STRONG, text("executionId"), print::PLAIN, text("state"))?;
        let words = format!("{} for {} at {}", text("tool"), text("requester"), text("createdAt"));
        writeln!(out, "    {}", print::wrapped(&words, 4))?;
    }
    more(&page, out)
}

async fn show(place: &Place, id: &str, out: &mut impl Write) -> Result<(), Stop> {
    let write = place.reach()?.get(&["writes", id], &[]).await?;
    told(place, &write, out)
}

async fn resolve(args: &Resolve, out: &mut impl Write) -> Result<(), Stop> {
    let outcome = match args.outcome {
        Outcome::Executed => "executed",
        Outcome::Failed => "failed",
    };
    let body = json!({"outcome": outcome, "evidence": args.evidence, "recordIds": args.record_ids});
    let write = args.place.reach()?.post(&["writes", &args.id, "resolve"], &body).await?;
    told(&args.place, &write, out)
}

fn told(place: &Place, write: &Value, out: &mut impl Write) -> Result<(), Stop> {
    if place.json {
        return json_out(write, out);
    }
    out.write_all(card(write).as_bytes())?;
    Ok(())
}

/// A write for people.
fn card(write: &Value) -> String {
    let text = |pointer: &str| plain(write.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    let list = |pointer: &str| write.pointer(pointer).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut card = String::new();
    let mut line = |label: &str, value: String| {
        if !value.is_empty() {
            // WHY: writing to a `String` cannot fail.
            let _infallible = writeln!(card, "{label:<12}{}", print::wrapped(&value, 12));
        }
    };
    line("write", text("/executionId"));
    line("state", standing(write));
    line("called", text("/tool"));
    line("by", format!("{} in {}", text("/requester"), text("/tenant")));
    line("request", format!("{} {}", text("/request/method"), text("/request/path")));
    line("key", text("/idempotencyKey"));
    line("approval", text("/approvalId"));
    line("trace", text("/traceId"));
    line("created", text("/createdAt"));
    line("sent", text("/sentAt"));
    line("changed", text("/changedAt"));
    line("records", list("/recordIds").iter().filter_map(Value::as_str).map(plain).collect::<Vec<_>>().join(", "));
    for opinion in list("/opinions") {
        let text = |pointer: &str| plain(opinion.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
        line("opinion", format!("{} says {}: {}", text("/by/user"), text("/outcome"), text("/evidence")));
    }
    let _infallible = writeln!(card, "arguments\n{}", print::block(write.get("arguments").unwrap_or(&Value::Null)));
    card
}

/// Where a write stands, and what is left to do.
fn standing(write: &Value) -> String {
    let text = |pointer: &str| plain(write.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    let opinions = write.get("opinions").and_then(Value::as_array).map_or(0, Vec::len);
    let note = if text("/note").is_empty() { String::new() } else { format!(": {}", text("/note")) };
    match (text("/state").as_str(), opinions) {
        ("unknown", 1..) => format!("unknown{note}; a second person must say the same"),
        (state @ ("executed" | "failed"), _) if !text("/answer/knownBy").is_empty() => {
            format!("{state}, known by {}", text("/answer/knownBy"))
        }
        (state, _) => format!("{state}{note}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_told_with_what_people_said_of_it_and_what_is_left_to_do() {
        let write = json!({
            "executionId": "x-1", "state": "unknown", "note": "no answer came", "tool": "loopiq_create_work_item",
            "requester": "ada", "tenant": "org_gcn", "request": {"method": "POST", "path": "/api/v1/work-items"},
            "arguments": {"title": "a\u{202e}b"}, "recordIds": [], "answer": null,
            "opinions": [{"by": {"user": "tess"}, "outcome": "executed", "evidence": "WI-9 is there\n\u{1b}[2J"}],
        });
        let card = card(&write);
        assert!(card.contains("unknown: no answer came; a second person must say the same"), "{card}");
        assert!(card.contains("tess says executed: WI-9 is there"), "{card}");
        assert!(!card.contains(|c: char| c != '\n' && crate::domain::catalog::text::is_hidden(c)), "{card:?}");
        let settled = json!({"state": "executed", "answer": {"status": 201, "knownBy": "lookup"}, "opinions": []});
        assert_eq!(standing(&settled), "executed, known by lookup");
    }
}
