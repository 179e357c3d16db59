//! `loopgate policy`: check a bundle, run its tests, ask it one question.
//!
//! Promises: `check` says everything that would keep a bundle from being loaded, with its place and
//! what to do; `test` has OPA's habits and runs the case tables on both engines; nothing here but
//! `activate` and `rollback` changes a running gateway. Called by `cli`.

mod activate;
mod archive;
mod check;
mod diff;
mod eval;
mod fault;
mod replay;
mod explain;
mod question;
mod rollback;
mod status;
mod test;

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;

use super::print;
use super::remote::Stop;
use crate::adapters::reload::bundle;
use crate::domain::catalog::Catalog;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::cases;
use crate::domain::pdp::engine::Pdp;

/// Check, test and ask policies.
#[derive(Debug, Args)]
pub struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lint, compile and try a bundle, as the gateway does before it loads one.
    Check(check::Check),
    /// Run a bundle's `*_test.rego` files and its case tables.
    Test(test::Test),
    /// Ask a bundle for one decision.
    Eval(eval::Eval),
    /// Say what a candidate would have decided of the calls that were recorded.
    Replay(Box<replay::Replay>),
    /// Say what differs between two bundles.
    Diff(diff::Diff),
    /// Say why a decision is what it is, and what would change it.
    Explain(explain::Explain),
    /// Say which policy is in force at a running gateway, what waits and what was before.
    Status(status::Status),
    /// Put the policy that waits in force, with its replay report.
    Activate(Box<activate::Activate>),
    /// Take a canary back, or go back to the policy that was in force before.
    Rollback(rollback::Rollback),
    /// Build, sign and verify bundles in OPA's format.
    Bundle(archive::Bundles),
    /// Try the bundle on standard input. The gateway starts this.
    #[command(hide = true)]
    CheckChild,
}

/// Where the bundle is, and the tools that it decides about.
#[derive(Debug, Args)]
struct Place {
    /// Folder of the bundle: `.rego` files, and `data/*.yaml`; or an archive in OPA's format.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Catalog whose tools the bundle decides about [default: DIR/cases/tools.yaml].
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFault {
    /// The bundle, its catalog or its cases are wrong; every fault has been printed.
    #[error("{}; nothing was loaded", print::count(*.0, "fault"))]
    Faults(usize),
    /// A file cannot be used.
    #[error("`{path}`: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// Tests or cases failed; each has been printed.
    #[error("{0} of {1} failed")]
    Failed(usize, usize),
    /// The answer is no; what was found has been printed.
    #[error("{0}")]
    No(String),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A running gateway says no, or does not answer.
    #[error("{}", print::plain(&.0.to_string()))]
    Remote(#[from] Stop),
    /// Nothing can be written, or no child can be started.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl PolicyFault {
    /// The exit code: 1 when the answer is no, 2 when the question is wrong, 3 when it cannot be asked.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Faults(_) | Self::Failed(..) | Self::No(_) => 1,
            Self::File { .. } | Self::Usage(_) => 2,
            Self::Remote(stop) => stop.code(),
            Self::Io(cause) if cause.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Io(_) => 3,
        }
    }
}

/// Runs `loopgate policy`. `exe` is this program, for the child that tries bundles.
pub fn run(policy: &Policy, exe: &Path, out: &mut dyn Write) -> Result<(), PolicyFault> {
    match &policy.command {
        Command::Check(check) => check::run(check, exe, out),
        Command::Test(test) => test::run(test, out),
        Command::Eval(eval) => eval::run(eval, out),
        Command::Replay(replay) => replay::run(replay, exe, out),
        Command::Diff(diff) => diff::run(diff, out),
        Command::Explain(explain) => explain::run(explain, out),
        Command::Status(status) => status::run(status, out),
        Command::Activate(activate) => activate::run(activate, out),
        Command::Rollback(rollback) => rollback::run(rollback, out),
        Command::Bundle(bundles) => archive::run(bundles, exe, out),
        Command::CheckChild => Ok(bundle::serve_child(&mut io::stdin().lock(), out)?),
    }
}

fn print_faults<T>(faults: &[BundleFault], out: &mut dyn Write) -> Result<T, PolicyFault> {
    for fault in faults {
        writeln!(out, "{fault}")?;
    }
    Err(PolicyFault::Faults(faults.len()))
}

/// Reads and compiles without a child: for the commands that people run on their own bundle.
fn compile(place: &Place, out: &mut dyn Write) -> Result<(Bundle, Pdp, BTreeMap<String, ToolFacts>), PolicyFault> {
    let tools = tools(place)?;
    let compiled = bundle::read(&place.dir).and_then(|bundle| Pdp::compile(&bundle, &tools).map(|pdp| (bundle, pdp)));
    match compiled {
        Ok((bundle, pdp)) => Ok((bundle, pdp, tools)),
        Err(faults) => print_faults(&faults, out),
    }
}

fn tools(place: &Place) -> Result<BTreeMap<String, ToolFacts>, PolicyFault> {
    if let Err(cause) = std::fs::metadata(&place.dir) {
        // WHY: not a fault of a bundle, for there is none.
        return Err(PolicyFault::File { path: place.dir.display().to_string(), message: cause.to_string() });
    }
    if let Some(path) = &place.catalog {
        let text = text_of(path)?;
        let catalog = Catalog::from_yaml(&text).map_err(|faults| PolicyFault::File {
            path: path.display().to_string(),
            message: faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        })?;
        return Ok(ToolFacts::of(&catalog));
    }
    let path = place.dir.join("cases").join("tools.yaml");
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let name = path.display().to_string();
    cases::read_tools(&name, &text_of(&path)?).map_err(|fault| PolicyFault::File { path: name, message: fault.message })
}

fn text_of(path: &Path) -> Result<String, PolicyFault> {
    std::fs::read_to_string(path)
        .map_err(|cause| PolicyFault::File { path: path.display().to_string(), message: cause.to_string() })
}
