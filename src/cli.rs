//! What people type: one file per command.
//!
//! Exit codes: 0 done, 1 the answer is no, 2 wrong usage or settings, 3 could not reach what it
//! needs. Listings take `--json`. Called by `main`; every command is a thin caller of the rooms above.

pub mod demo;
pub mod serve;
pub mod check;
pub mod doctor;
pub mod catalog;
pub mod policy;
pub mod approvals;
pub mod writes;
pub mod audit;
pub mod token;
pub mod keys;
pub mod sandbox;
pub mod print;
pub mod remote;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

/// Done.
pub const DONE: u8 = 0;
/// The answer is no.
pub const NO: u8 = 1;
/// Wrong usage or settings.
pub const USAGE: u8 = 2;
/// Could not reach what it needs.
pub const UNREACHABLE: u8 = 3;

/// A policy-as-code gateway in front of the LoopIQ APIs.
///
/// AI clients speak MCP to it. Every tool call is authenticated, placed in a tenant, decided by
/// Rego policies, forwarded to a LoopIQ route with ids injected, inspected, recorded and answered.
#[derive(Debug, Parser)]
#[command(name = "loopgate", version, max_term_width = 100, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Start here:
  loopgate demo                                everything in one process, to try it out
  loopgate serve --config config/gateway.yaml  the gateway, with settings that explain themselves

Exit codes: 0 done, 1 the answer is no, 2 wrong usage or settings, 3 could not reach what it needs.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run sandbox and gateway in one process, with users and data to try
    Demo(demo::Args),
    /// Run the gateway
    Serve(serve::Args),
    /// Load everything and serve nothing; every fault at once
    Check(check::Args),
    /// Reach issuers, backends, journal, ledger and shared counters; one line each
    Doctor(doctor::Args),
    /// Import, lint and show tools and routes
    Catalog(catalog::Args),
    /// Check, test and ask policies
    Policy(policy::Policy),
    /// List, read and decide approvals
    Approvals(approvals::Args),
    /// List and read writes, and settle unknown ones
    Writes(writes::Args),
    /// Verify and read the journal
    Audit(audit::Args),
    /// Make a development issuer and mint its tokens
    Token(token::Token),
    /// List and replace the keys that sign assertions for backends
    Keys(keys::Args),
    /// Run the stand-in LoopIQ backend alone
    Sandbox(sandbox::Args),
}

/// Parses the arguments and runs one command.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return misused(&usage),
    };
    match cli.command {
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Serve(args) => block_on(serve::run(args)),
        Command::Check(args) => block_on(check::run(args)),
        Command::Doctor(args) => block_on(doctor::run(args)),
        Command::Catalog(args) => block_on(catalog::run(args)),
        Command::Policy(args) => rego(&args),
        Command::Approvals(args) => block_on(approvals::run(args)),
        Command::Writes(args) => block_on(writes::run(args)),
        Command::Audit(args) => audit::run(args),
        Command::Token(args) => mint(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Sandbox(args) => block_on(sandbox::run(args)),
    }
}

/// Help and version are answers; anything else is wrong usage.
fn misused(usage: &clap::Error) -> ExitCode {
    // Nobody is left to tell.
    let _gone = usage.print();
    let verifies = || std::env::args_os().skip(1).take(2).eq(["audit", "verify"]);
    if !usage.use_stderr() {
        ExitCode::from(DONE)
    } else if verifies() {
        // WHY: there 2 says that records are missing.
        ExitCode::from(audit::VERIFY_USAGE)
    } else {
        ExitCode::from(USAGE)
    }
}

/// `token` writes what it has to say itself.
fn mint(args: &token::Token) -> ExitCode {
    match token::run(args, crate::app::now_s(), &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::from(DONE),
        Err(fault) => {
            print::failed(&fault.to_string());
            ExitCode::from(USAGE)
        }
    }
}

/// `policy` writes what it has to say itself, and knows which exit code a fault means.
fn rego(args: &policy::Policy) -> ExitCode {
    let exe = crate::app::checker();
    match policy::run(args, &exe, &mut anstream::stdout().lock()) {
        Ok(()) => ExitCode::from(DONE),
        // Whoever reads the output has seen enough.
        Err(policy::PolicyFault::Io(cause)) if cause.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(DONE),
        Err(fault) => {
            let code = fault.exit_code();
            // Whoever reads the output has seen enough.
            if code != DONE {
                print::failed(&fault.to_string());
            }
            ExitCode::from(code)
        }
    }
}

/// Runs a command that waits. Threads: one per core.
fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // WHY: what still runs beside, such as a candidate in shadow, must not keep the process from ending.
            runtime.shutdown_background();
            code
        }
        Err(cause) => {
            print::failed(&format!("the runtime cannot start: {cause}"));
            ExitCode::from(UNREACHABLE)
        }
    }
}
