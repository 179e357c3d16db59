//! `loopgate policy check`: everything that would keep a bundle from being loaded, and more.
//!
//! Promises: tries the bundle in a child process, as the gateway does before it loads one, and its
//! tests as `policy test` reads them; says every fault with its place and what to do. Refuses a policy
//! that hides every tool, which the gateway would load: closing everything must always be
//! possible, but is seldom what an edit is for. Changes nothing. Called by `cli::policy`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use clap::Args;

use crate::adapters::reload::bundle;
use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::fault::Finding;
use crate::cli::policy::fault::Severity;
use crate::cli::policy::tools;
use crate::cli::print;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::ruling::Engine;
use crate::domain::pdp::suite::Suite;

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    place: Place,
    /// Refuse what is only worth a second look, too.
    #[arg(long)]
    strict: bool,
    /// One JSON array of everything found.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(check: &Check, exe: &Path, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let tools = tools(&check.place)?;
    let files = bundle::files(&check.place.dir).map_err(|faults| unreadable(&check.place.dir, &faults))?;
    let texts: BTreeMap<String, String> =
        files.iter().map(|(path, bytes)| (path.clone(), String::from_utf8_lossy(bytes).into_owned())).collect();
    let tried = bundle::read(&check.place.dir).and_then(|bundle| try_out(exe, bundle, &tools));
    let mut findings: Vec<Finding> = match &tried {
        Ok((bundle, pdp)) => found(pdp, &test_faults(bundle)),
        Err(faults) => Finding::all(faults, Severity::Error).collect(),
    };
    for finding in &mut findings {
        let warning = finding.severity == Severity::Warning;
        if warning && (check.strict || finding.fault.code == Code::HidesEverything) {
            finding.severity = Severity::Error;
        }
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if check.json {
        let lines = findings.iter().map(|finding| serde_json::to_string(finding).map(|text| print::plain_json(&text)));
        let lines = lines.collect::<Result<Vec<_>, _>>().map_err(std::io::Error::from)?;
        writeln!(out, "[{}]", lines.join(",\n "))?;
    } else {
        if let (Ok((bundle, pdp)), 0) = (&tried, errors) {
            summary(bundle, pdp, out)?;
        }
        for finding in &findings {
            finding.show(&texts, out)?;
        }
        if errors == 0 {
            tried_with(&tools, out)?;
        }
    }
    if errors == 0 { Ok(()) } else { Err(PolicyFault::Faults(errors)) }
}

fn unreadable(dir: &Path, faults: &[BundleFault]) -> PolicyFault {
    let message = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    PolicyFault::File { path: dir.display().to_string(), message }
}

/// The child has tried it, so compiling it here can end nothing.
fn try_out(exe: &Path, bundle: Bundle, tools: &BTreeMap<String, ToolFacts>) -> Result<(Bundle, Pdp), Vec<BundleFault>> {
    let failed = |cause: std::io::Error| {
        vec![BundleFault::new("", format!("no child can be waited for: {cause}"), "try again").coded(Code::CheckFailed)]
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(bundle::check_in_child(exe, &bundle, tools))?;
    let pdp = Pdp::compile(&bundle, tools)?;
    Ok((bundle, pdp))
}

/// What is wrong with the tests alone: the policies have passed.
fn test_faults(bundle: &Bundle) -> Vec<BundleFault> {
    Suite::load(bundle).err().unwrap_or_default()
}

fn found(pdp: &Pdp, of_tests: &[BundleFault]) -> Vec<Finding> {
    let warnings = Finding::all(pdp.warnings(), Severity::Warning);
    let notes = Finding::all(pdp.notes(), Severity::Note);
    Finding::all(of_tests, Severity::Error).chain(warnings).chain(notes).collect()
}

fn summary(bundle: &Bundle, pdp: &Pdp, out: &mut dyn Write) -> std::io::Result<()> {
    let (good, plain) = (print::GOOD, print::PLAIN);
    let (policies, tests) = (bundle.files().len(), bundle.tests().len());
    writeln!(out, "{good}ok:{plain} {}, {}", print::count(policies, "policy file"), print::count(tests, "test file"))?;
    writeln!(out, "bundle {}", bundle.digest())?;
    writeln!(out, "data   {}", bundle.data_digest())?;
    match pdp.engine() {
        Engine::Rvm => writeln!(out, "engine rvm: compiled"),
        Engine::Interpreter => {
            writeln!(
                out,
                "engine interpreter: four to six times slower than compiled rules, because of the notes below"
            )
        }
    }
}

fn tried_with(tools: &BTreeMap<String, ToolFacts>, out: &mut dyn Write) -> std::io::Result<()> {
    match tools.len() {
        0 => writeln!(out, "tried without tools: name a catalog with --catalog to try list and call of each"),
        count => writeln!(out, "tried with {}", print::count(count, "tool")),
    }
}
