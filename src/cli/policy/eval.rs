//! `loopgate policy eval`: one decision, in words or as JSON.
//!
//! Promises: the answer is the gateway's own, obligations combined and outcome derived, not the
//! raw value of a rule; an input with a member that policies never get is refused. Called by
//! `cli::policy`.

use std::io::Write;

use clap::Args;
use serde_json::json;

use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::compile;
use crate::cli::policy::question::Question;
use crate::cli::policy::tools;
use crate::cli::print::plain;
use crate::cli::print::plain_json;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::ruling::Ruling;

#[derive(Debug, Args)]
pub(super) struct Eval {
    #[command(flatten)]
    place: Place,
    /// Print the decision as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    question: Question,
}

pub(super) fn run(eval: &Eval, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let asked = eval.question.read(&eval.place.dir, &tools(&eval.place)?)?;
    let (_, pdp, _) = compile(&eval.place, out)?;
    let ruling = pdp.decide(&asked.input);
    let outcome = match ruling.outcome() {
        Outcome::Allow => "allow",
        Outcome::Pending => "pending",
        Outcome::Deny => "deny",
    };
    let notes = asked.notes(ruling.bundle_digest(), ruling.data_digest(), outcome);
    if eval.json {
        let answer = json!({
            "outcome": ruling.outcome(),
            "reasons": ruling.reasons(),
            "obligations": ruling.obligations(),
            "visible": ruling.visible(),
            "fault": ruling.fault(),
            "detail": ruling.detail(),
            "engine": ruling.engine(),
            "instructions": pdp.instructions(&asked.input),
            "bundleDigest": ruling.bundle_digest(),
            "dataDigest": ruling.data_digest(),
            "notes": notes,
        });
        writeln!(out, "{}", plain_json_lines(&format!("{answer:#}")))?;
    } else {
        in_words(&ruling, &notes, out)?;
    }
    Ok(())
}

/// JSON over several lines, with nothing in it that a terminal obeys.
fn plain_json_lines(json: &str) -> String {
    json.lines().map(plain_json).collect::<Vec<_>>().join("\n")
}

fn in_words(ruling: &Ruling, notes: &[String], out: &mut dyn Write) -> Result<(), PolicyFault> {
    let outcome = match ruling.outcome() {
        Outcome::Allow => "allow",
        Outcome::Pending => "pending: people must agree",
        Outcome::Deny => "deny",
    };
    writeln!(out, "{outcome}")?;
    for note in notes {
        writeln!(out, "  note: {}", plain(note))?;
    }
    if let Some(fault) = ruling.fault() {
        writeln!(out, "  no decision ({}): {}", fault.as_str(), plain(ruling.detail()))?;
    }
    for reason in ruling.reasons() {
        writeln!(out, "  {}: {}", reason.code, plain(&reason.message))?;
        writeln!(out, "    next: {}", plain(&reason.next))?;
    }
    for obligation in ruling.obligations() {
        let text = serde_json::to_string(obligation).unwrap_or_default();
        writeln!(out, "  obligation {}", plain_json(&text))?;
    }
    for name in ruling.visible() {
        writeln!(out, "  sees {}", plain(name))?;
    }
    Ok(())
}
