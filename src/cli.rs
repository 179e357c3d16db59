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
pub mod audit;
pub mod token;
pub mod sandbox;
pub mod print;

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
  loopgate demo                                   everything in one process, with users and data to try
  loopgate serve --config config/gateway.yaml     the gateway

Exit codes: 0 done, 1 the answer is no, 2 wrong usage or settings, 3 could not reach what it needs.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Sandbox and gateway in one process, with users and data to try
    Demo(demo::Args),
    /// The gateway
    Serve(serve::Args),
    /// Load everything and serve nothing; every fault at once
    Check(check::Args),
    /// Reach issuer, backend and journal; one line each
    Doctor(doctor::Args),
    /// Import, lint and show tools and routes
    Catalog(catalog::Args),
    /// Check, test and try policies
    Policy(policy::Policy),
    /// Verify and read the journal
    Audit(audit::Args),
    /// Mint tokens of a development issuer
    Token(token::Token),
    /// The stand-in LoopIQ backend alone
    Sandbox(sandbox::Args),
}

/// Parses the arguments and runs one command.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Serve(args) => block_on(serve::run(args)),
        Command::Check(args) => block_on(check::run(args)),
        Command::Doctor(args) => block_on(doctor::run(args)),
        Command::Catalog(args) => block_on(catalog::run(args)),
        Command::Policy(args) => rego(&args),
        Command::Audit(args) => audit::run(args),
        Command::Token(args) => mint(&args),
        Command::Sandbox(args) => block_on(sandbox::run(args)),
    }
}

/// `token` writes what it has to say itself.
fn mint(args: &token::Token) -> ExitCode {
    match token::run(args, crate::app::now_s(), &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::from(DONE),
        Err(fault) => {
            print::error(&format!("loopgate token: {fault}"));
            ExitCode::from(USAGE)
        }
    }
}

/// `policy` writes what it has to say itself, and knows which exit code a fault means.
fn rego(args: &policy::Policy) -> ExitCode {
    let exe = crate::app::checker();
    match policy::run(args, &exe, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::from(DONE),
        Err(fault) => {
            print::error(&format!("loopgate policy: {fault}"));
            ExitCode::from(fault.exit_code())
        }
    }
}

/// Runs a command that waits. Threads: one per core.
fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(cause) => {
            print::error(&format!("the runtime cannot start: {cause}"));
            ExitCode::from(UNREACHABLE)
        }
    }
}
