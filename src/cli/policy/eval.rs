//! `loopgate policy eval`: one decision, in words or as JSON.
//!
//! Promises: the answer is the gateway's own, obligations combined and outcome derived, not the
//! raw value of a rule; an input with a member that policies never get is refused. Called by
//! `cli::policy`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::compile;
use crate::cli::policy::text_of;
use crate::domain::pdp::Input;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::ruling::Ruling;

#[derive(Debug, Args)]
pub(super) struct Eval {
    #[command(flatten)]
    place: Place,
    /// What to decide, as `policies/schema/input.json` describes it.
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// Print the decision as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(eval: &Eval, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let text = text_of(&eval.input)?;
    let input: Input = serde_json::from_str(&text).map_err(|cause| PolicyFault::File {
        path: eval.input.display().to_string(),
        message: format!("not an input: {cause}; see `policies/schema/input.json`"),
    })?;
    let (_, pdp, _) = compile(&eval.place, out)?;
    let ruling = pdp.decide(&input);
    if eval.json {
        let answer = json!({
            "outcome": ruling.outcome(),
            "reasons": ruling.reasons(),
            "obligations": ruling.obligations(),
            "visible": ruling.visible(),
            "fault": ruling.fault(),
            "detail": ruling.detail(),
            "engine": ruling.engine(),
            "instructions": pdp.instructions(&input),
            "bundleDigest": ruling.bundle_digest(),
            "dataDigest": ruling.data_digest(),
        });
        writeln!(out, "{answer:#}")?;
    } else {
        in_words(&ruling, out)?;
    }
    Ok(())
}

fn in_words(ruling: &Ruling, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let outcome = match ruling.outcome() {
        Outcome::Allow => "allow",
        Outcome::Pending => "pending: people must agree",
        Outcome::Deny => "deny",
    };
    writeln!(out, "{outcome}")?;
    if let Some(fault) = ruling.fault() {
        writeln!(out, "  no decision ({}): {}", fault.as_str(), ruling.detail())?;
    }
    for reason in ruling.reasons() {
        writeln!(out, "  {}: {}", reason.code, reason.message)?;
        writeln!(out, "    next: {}", reason.next)?;
    }
    for obligation in ruling.obligations() {
        let text = serde_json::to_string(obligation).unwrap_or_default();
        writeln!(out, "  obligation {text}")?;
    }
    for name in ruling.visible() {
        writeln!(out, "  sees {name}")?;
    }
    Ok(())
}
