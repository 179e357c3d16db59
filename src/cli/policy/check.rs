//! `loopgate policy check`: everything that would keep a bundle from being loaded, and more.
//!
//! Promises: tries the bundle in a child process, as the gateway does before it loads one; says
//! every fault with its place and what to do. Changes nothing. Called by `cli::policy`.

use std::io::Write;
use std::path::Path;

use clap::Args;

use crate::adapters::reload::bundle;
use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::print_faults;
use crate::cli::policy::tools;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::ruling::Engine;

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(check: &Check, exe: &Path, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let tools = tools(&check.place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checked = runtime.block_on(bundle::load_checked(exe, &check.place.dir, &tools));
    // The child has tried it, so compiling it here can end nothing.
    let (bundle, pdp) = match checked.and_then(|bundle| Pdp::compile(&bundle, &tools).map(|pdp| (bundle, pdp))) {
        Ok(both) => both,
        Err(faults) => return print_faults(&faults, out),
    };
    writeln!(out, "ok: {} policy files, {} test files", bundle.files().len(), bundle.tests().len())?;
    writeln!(out, "bundle {}", bundle.digest())?;
    writeln!(out, "data   {}", bundle.data_digest())?;
    match pdp.engine() {
        Engine::Rvm => writeln!(out, "engine rvm: compiled")?,
        Engine::Interpreter => {
            writeln!(out, "engine interpreter: four to six times slower than compiled rules, because of")?;
            for note in pdp.notes() {
                writeln!(out, "  {note}")?;
            }
        }
    }
    for warning in pdp.warnings() {
        writeln!(out, "warning: {warning}")?;
    }
    match tools.len() {
        0 => writeln!(out, "tried without tools: name a catalog with --catalog to try list and call of each")?,
        count => writeln!(out, "tried with {count} tools")?,
    }
    Ok(())
}
