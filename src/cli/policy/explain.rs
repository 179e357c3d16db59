//! `loopgate policy explain`: why a decision is what it is, and what would change it.
//!
//! Promises: says which rule gave each reason, with its place, its conditions and their values; and
//! which single changes, each tried, would make it allowed. Text from inputs and data is printed
//! with nothing in it that a terminal obeys. Called by `cli::policy`.

mod words;

use std::io::Write;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::compile;
use crate::cli::policy::print_faults;
use crate::cli::policy::question;
use crate::cli::policy::question::Question;
use crate::cli::policy::tools;
use crate::cli::print::plain_json;
use crate::domain::pdp::Input;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::explain::Explainer;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    #[command(flatten)]
    place: Place,
    /// Tell what holds as thoroughly as what does not.
    #[arg(short, long)]
    verbose: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    question: Question,
}

const EXAMPLES: &str = "\
Examples:
  loopgate policy explain policies --case \"ben makes a work item that nobody owns\"
  loopgate policy explain policies --decision ID --journal data/audit
  loopgate policy explain policies --tool loopiq_search_evidence \\
      --tenant org_gcn --user vic --role viewer";

pub(super) fn run(explain: &Explain, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let asked = explain.question.read(&explain.place.dir, &tools(&explain.place)?)?.about_call();
    let (bundle, pdp, _) = compile(&explain.place, out)?;
    let mut explainer = match Explainer::load(&bundle) {
        Ok(explainer) => explainer,
        Err(fault) => return print_faults(&[fault], out),
    };
    let mut told = explainer.explain(&pdp, &bundle, &asked.input, explain.verbose);
    let outcome = serde_json::to_value(told.outcome).unwrap_or_default();
    let outcome = outcome.as_str().unwrap_or_default();
    told.notes.extend(asked.notes(pdp.bundle_digest(), pdp.data_digest(), outcome));
    let list = (asked.input.phase == Phase::List).then(|| unseen(&pdp, &asked.input));
    if explain.json {
        let mut answer = serde_json::to_value(&told).unwrap_or_default();
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("bundleDigest".to_owned(), json!(pdp.bundle_digest()));
            answer.insert("dataDigest".to_owned(), json!(pdp.data_digest()));
            answer.insert("input".to_owned(), serde_json::to_value(&asked.input).unwrap_or_default());
            if let Some(list) = list {
                answer.insert("tools".to_owned(), list.into_iter().map(|tool| tool.json()).collect());
            }
        }
        writeln!(out, "{}", plain_json(&answer.to_string()))?;
        return Ok(());
    }
    writeln!(out, "{}", question::in_words(&asked.input))?;
    words::explanation(&told, (list.is_some(), explain.verbose), out)?;
    if let Some(list) = list {
        words::tools(&list, out)?;
        writeln!(out, "\nto see why one of them is not seen, ask with --tool")?;
    }
    Ok(())
}

/// What a list makes of one tool, with the reasons that a call of it would get.
pub(super) struct Seen {
    tool: String,
    seen: bool,
    outcome: Outcome,
    reasons: Vec<String>,
}

impl Seen {
    fn json(&self) -> Value {
        json!({"tool": self.tool, "seen": self.seen, "call": self.outcome, "reasons": self.reasons})
    }
}

fn unseen(pdp: &Pdp, input: &Input) -> Vec<Seen> {
    let list = pdp.decide(input);
    let of = |tool: &ToolFacts| {
        let call = Input { phase: Phase::Call, tool: Some(tool.clone()), tools: None, ..input.clone() };
        let ruling = pdp.decide(&call);
        Seen {
            tool: tool.name.clone(),
            seen: list.sees(&tool.name),
            outcome: ruling.outcome(),
            reasons: ruling.reasons().iter().map(|reason| reason.code.clone()).collect(),
        }
    };
    input.tools.iter().flatten().map(|(_, tool)| of(tool)).collect()
}
