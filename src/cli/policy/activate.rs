//! `loopgate policy activate`: the policy that waits goes live, for everybody or for some callers.
//!
//! Promises: nobody activates what they were not shown: the report is printed and asked about, and
//! its digest is what is approved; in a pipe `--yes` says that it was read before. Whether it may go
//! live is the gateway's to say. Called by `cli::policy`.

use std::io;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use super::PolicyFault;
use super::replay::words;
use super::status;
use super::text_of;
use crate::cli::remote::Place;
use crate::cli::remote::Stop;
use crate::domain::replay::envelope;
use crate::domain::replay::report::Report;

#[derive(Debug, Args)]
pub(super) struct Activate {
    #[command(flatten)]
    place: Place,
    /// Revision to put in force [default: the one that waits]
    #[arg(value_name = "REVISION")]
    revision: Option<String>,
    /// Signed replay report, as `policy replay --sign --out FILE` writes it
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Let it decide about this share of all callers first, such as 10%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<u8>,
    /// And about all callers of these organisations
    #[arg(long, value_name = "ORG,...", value_delimiter = ',')]
    canary_tenants: Vec<String>,
    /// Put the canary that runs in force for everybody
    #[arg(long, conflicts_with_all = ["revision", "report", "canary", "canary_tenants"])]
    promote: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: &Activate, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let report = args.report.as_deref().map(read).transpose()?;
    let remote = args.place.reach()?;
    let standing = status::wait(remote.get(&["policy"], &[]))?;
    let revision = revision(args, &standing)?;
    if !args.yes {
        if args.place.json || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            let words = "nobody can be asked here: read the report first, then say --yes";
            return Err(PolicyFault::Usage(words.to_owned()));
        }
        show(args, &standing, &revision, report.as_ref().map(|(_, report)| report), out)?;
        if !says_yes(out)? {
            return Err(Stop::no("not_activated", "you did not say yes", "nothing was changed").into());
        }
    }
    let body = body(args, &revision, report.as_ref());
    let after = status::wait(remote.post(&["policy", "activate"], &body))?;
    status::tell(&after, args.place.json, out)
}

/// The report as it is sent, and as it is shown.
fn read(path: &Path) -> Result<(Value, Report), PolicyFault> {
    let broken = |message: String| PolicyFault::File { path: path.display().to_string(), message };
    let text = text_of(path)?;
    let report = envelope::peek(&text).map_err(|fault| broken(fault.to_string()))?;
    let envelope = serde_json::from_str(&text).map_err(|cause| broken(cause.to_string()))?;
    Ok((envelope, report))
}

/// The revision that is meant.
fn revision(args: &Activate, standing: &Value) -> Result<String, Stop> {
    if let Some(revision) = &args.revision {
        return Ok(revision.clone());
    }
    let (part, code, message) = if args.promote {
        ("canary", "policy_no_canary", "no canary runs")
    } else {
        ("waiting", "policy_nothing_waits", "no policy waits to be activated")
    };
    let named = standing.pointer(&format!("/{part}/revision")).and_then(Value::as_str);
    named.map(str::to_owned).ok_or_else(|| Stop::no(code, message, "see `loopgate policy status`"))
}

fn show(
    args: &Activate,
    standing: &Value,
    revision: &str,
    report: Option<&Report>,
    out: &mut dyn Write,
) -> Result<(), PolicyFault> {
    match report {
        Some(report) => words::tell(report, "", out)?,
        None if args.promote => status::tell(standing, false, out)?,
        None => writeln!(out, "no replay report shows what this policy changes")?,
    }
    let live = standing.pointer("/live/revision").and_then(Value::as_str).unwrap_or("nothing");
    writeln!(out, "\nin force   {}", crate::cli::print::plain(live))?;
    let whom = match share(args) {
        Some(_) if args.canary_tenants.is_empty() => format!("{} % of all callers", args.canary.unwrap_or_default()),
        Some(_) => {
            let percent = args.canary.map(|percent| format!("{percent} % of all callers and "));
            format!("{}all of {}", percent.unwrap_or_default(), args.canary_tenants.join(", "))
        }
        None => "everybody".to_owned(),
    };
    write!(out, "put {} in force for {whom}? [y/N] ", crate::cli::print::plain(revision))?;
    Ok(())
}

fn share(args: &Activate) -> Option<Value> {
    let share = json!({"percent": args.canary.unwrap_or_default(), "tenants": args.canary_tenants});
    (args.canary.is_some() || !args.canary_tenants.is_empty()).then_some(share)
}

fn body(args: &Activate, revision: &str, report: Option<&(Value, Report)>) -> Value {
    let mut body = json!({"revision": revision, "reason": args.reason});
    if let Some(members) = body.as_object_mut() {
        let report =
            report.map(|(envelope, report)| [("report", envelope.clone()), ("digest", report.digest().into())]);
        members.extend(report.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)));
        members.extend(share(args).map(|share| ("canary".to_owned(), share)));
    }
    body
}

fn says_yes(out: &mut dyn Write) -> Result<bool, PolicyFault> {
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.trim_end_matches('%').trim().parse::<u8>().ok();
    number.filter(|percent| (1..=100).contains(percent)).ok_or_else(|| "say a share from 1% to 100%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_whole_percentage_of_somebody() {
        assert_eq!((percent("10%"), percent("100"), percent("1 %")), (Ok(10), Ok(100), Ok(1)));
        for bad in ["0", "0%", "101%", "-1", "1.5%", "ten", "", "%"] {
            percent(bad).unwrap_err();
        }
    }
}
