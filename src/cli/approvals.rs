//! `loopgate approvals list | show | approve | reject | revoke`: what approvers and requesters do.
//!
//! Promises: nobody approves what they were not shown: a vote carries the digest of the approval as
//! it was printed, or the one that was seen earlier; in a pipe one of the two is said out loud. What
//! others wrote is printed with everything hidden in it made visible. Exit codes: 0 done, 1 the
//! answer is no, 2 wrong usage, 3 not reachable. Never decides. Called by `cli`.

mod card;

use std::io;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;
use serde_json::json;

use super::print;
use super::remote::Place;
use super::remote::Remote;
use super::remote::Stop;
use super::remote::json_out;
use super::remote::more;

/// Fewest characters of a digest that name it.
const DIGEST_CHARS_MIN: usize = 16;

/// List, read and decide approvals.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the approvals that you may see
    List(List),
    /// Show one approval, with everything that it covers
    Show {
        #[command(flatten)]
        place: Place,
        /// Id of the approval
        id: String,
    },
    /// Agree to exactly what the approval shows
    Approve(Vote),
    /// Say no; one is enough
    Reject(Vote),
    /// Take an approval back before it is used
    Revoke {
        #[command(flatten)]
        place: Place,
        /// Id of the approval
        id: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    place: Place,
    /// Only in this state: pending, approved, rejected (so are cancelled, revoked and expired), executed or failed
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those that this user asked for
    #[arg(long, value_name = "USER")]
    requester: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Go on where an earlier page ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Vote {
    #[command(flatten)]
    place: Place,
    /// Id of the approval
    id: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Digest of what you saw, or its first 16 characters or more
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    let mut out = anstream::stdout();
    let done = match args.command {
        Command::List(args) => list(&args, &mut out).await,
        Command::Show { place, id } => show(&place, &id, &mut out).await,
        Command::Approve(vote) => decide(&vote, "approve", &mut out).await,
        Command::Reject(vote) => decide(&vote, "reject", &mut out).await,
        Command::Revoke { place, id, reason } => revoke(&place, &id, &reason, &mut out).await,
    };
    match done {
        Ok(()) => ExitCode::from(super::DONE),
        Err(stop) => stop.told(),
    }
}

async fn list(args: &List, out: &mut impl Write) -> Result<(), Stop> {
    let mut query = vec![("limit", args.limit.to_string())];
    for (name, value) in [("state", &args.state), ("requester", &args.requester), ("cursor", &args.cursor)] {
        query.extend(value.clone().map(|value| (name, value)));
    }
    let page = args.place.reach()?.get(&["approvals"], &query).await?;
    if args.place.json {
        return json_out(&page, out);
    }
    let items = page.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        writeln!(out, "no approval that you may see fits")?;
    }
    for item in items {
        writeln!(out, "{}", card::line(item))?;
    }
    more(&page, out)
}

async fn show(place: &Place, id: &str, out: &mut impl Write) -> Result<(), Stop> {
    let approval = place.reach()?.get(&["approvals", id], &[]).await?;
    if place.json {
        return json_out(&approval, out);
    }
    write!(out, "{}", card::card(&approval, crate::app::now_s()))?;
    Ok(())
}

async fn decide(vote: &Vote, verb: &str, out: &mut impl Write) -> Result<(), Stop> {
    let remote = vote.place.reach()?;
    let approval = remote.get(&["approvals", &vote.id], &[]).await?;
    let digest = text(&approval, "digest");
    if let Some(seen) = &vote.digest {
        compare(seen, &digest)?;
    }
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let certain = vote.yes || vote.digest.is_some() || verb == "reject";
    if !certain && !terminal {
        let words = "say what you saw: --digest with what `loopgate approvals show` prints, or --yes without looking";
        return Err(Stop::Usage(words.to_owned()));
    }
    if !certain {
        write!(out, "{}\n{verb} exactly this? [y/N] ", card::card(&approval, crate::app::now_s()))?;
        out.flush()?;
        if !says_yes()? {
            return Err(Stop::no("not_decided", "you did not say yes", "nothing was changed"));
        }
    } else if !vote.place.json {
        writeln!(out, "{}\ndigest {digest}", print::plain(&text(&approval, "summary")))?;
    }
    let body = json!({"digest": digest, "reason": vote.reason});
    let after = remote.post(&["approvals", &vote.id, verb], &body).await?;
    told(&vote.place, &after, out)
}

async fn revoke(place: &Place, id: &str, reason: &str, out: &mut impl Write) -> Result<(), Stop> {
    let remote: Remote = place.reach()?;
    let after = remote.post(&["approvals", id, "revoke"], &json!({ "reason": reason })).await?;
    told(place, &after, out)
}

/// What was seen is what would be voted on.
fn compare(seen: &str, digest: &str) -> Result<(), Stop> {
    let seen = seen.to_ascii_lowercase();
    if seen.len() < DIGEST_CHARS_MIN || !seen.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Stop::Usage(format!("--digest takes at least {DIGEST_CHARS_MIN} hex digits of the digest")));
    }
    if digest.starts_with(&seen) {
        return Ok(());
    }
    let message = "this approval is not the one that you saw: its digest is another";
    Err(Stop::no("approval_mismatch", message, "read it again with `loopgate approvals show`; nothing was changed"))
}

fn says_yes() -> Result<bool, Stop> {
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// How it stands now.
fn told(place: &Place, after: &Value, out: &mut impl Write) -> Result<(), Stop> {
    if place.json {
        return json_out(after, out);
    }
    writeln!(out, "{}", card::standing(after, crate::app::now_s()))?;
    Ok(())
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_was_seen_earlier_is_compared_before_anything_is_sent() {
        let digest = "0123456789abcdef".repeat(4);
        for good in ["0123456789abcdef", "0123456789abcdef0123", &digest, "0123456789ABCDEF"] {
            assert!(compare(good, &digest).is_ok(), "{good}");
        }
        for other in ["0123456789abcde0", &"f".repeat(64)] {
            assert!(matches!(compare(other, &digest), Err(Stop::No { .. })), "{other}");
        }
        for bad in ["", "0123456789abcde", "not a digest at all", &format!("{digest}0")] {
            assert!(compare(bad, &digest).is_err(), "{bad}");
        }
    }
}
