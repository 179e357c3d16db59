//! `loopgate audit`: verify, query and show what the journal holds.
//!
//! Promises: reads files and public keys, nothing else; streams, so that a journal of any size can
//! be read; text from records and names of files are printed without anything that a terminal obeys
//! or that hides or reorders what is read. Never writes to a journal and needs no running gateway.
//! Called by `main`.

mod query;
mod row;
mod show;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::print;
use crate::config;

/// `loopgate audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What to do with a journal.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check that no record was changed, removed or added
    #[command(after_help = VERIFY_HELP)]
    Verify(Verify),
    /// List records
    Query(Query),
    /// Tell one action from its first record to its last
    Show(Show),
}

/// Exit code of `audit verify` for wrong usage; the ordinary one means that records are missing.
pub const VERIFY_USAGE: u8 = 64;

const VERIFY_HELP: &str = "\
Exit codes:
   0  fine
   1  altered: a record is not as it was written, or stands where it was not written,
      such as behind the end that a clean stop has signed
   2  missing: a record that was written is not there
   3  bad signature: a checkpoint is by none of the keys given, or does not fit its signature
   4  unsigned: records at the end of an epoch (one run of a gateway), over more than
      --unsigned-seconds, that none of its own checkpoints covers; a later one cannot vouch for them
  64  wrong usage, or a file that cannot be read

Whoever can write to the directory can cut records off its end together with their checkpoints,
and so make a clean stop look like a crash, behind which a few seconds of records may be unsigned.
Only a checkpoint kept elsewhere shows that: give it with --checkpoint.";

/// Where the journal is.
#[derive(Debug, Default, clap::Args)]
pub struct Place {
    /// Directory of the journal, or of one writer of it
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Settings file that says where the journal is, instead of DIR
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `loopgate audit verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    place: Place,
    /// Public key that signs checkpoints: PEM, C2SP verifier key or base64; several may be given; with --config the gateway's own is known
    #[arg(long = "pub", value_name = "KEY_FILE")]
    pub keys: Vec<PathBuf>,
    /// Checkpoint that was kept elsewhere; several may be given
    #[arg(long = "checkpoint", value_name = "FILE")]
    pub checkpoints: Vec<PathBuf>,
    /// How many seconds the records at the end of an epoch may span that none of its checkpoints covers
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub unsigned_seconds: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `loopgate audit query`.
#[derive(Debug, Default, clap::Args)]
pub struct Query {
    #[command(flatten)]
    place: Place,
    /// Only this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this user
    #[arg(long)]
    pub user: Option<String>,
    /// Only this tool
    #[arg(long)]
    pub tool: Option<String>,
    /// Only this stage: received, denied, intent, outcome, recovered, heartbeat, or approval, write, policy, config with all that is under them
    #[arg(long, value_parser = stage)]
    pub stage: Option<String>,
    /// Only refusals with this code
    #[arg(long)]
    pub code: Option<String>,
    /// Only this request
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Only records of this moment or later, such as 2026-11-20 or 2026-11-20T18:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only records before this moment
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// The latest this many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Print the records themselves, one per line
    #[arg(long)]
    pub json: bool,
}

/// `loopgate audit show`.
#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub struct Show {
    #[command(flatten)]
    place: Place,
    /// Audit reference, or the id of a request, trace, decision, approval, execution, idempotency key, or of a record that was made
    pub id: String,
    /// Print the records themselves, one per line
    #[arg(long)]
    pub json: bool,
}

/// A stage, or the beginning of several; a mistyped one would find nothing and say so as if it were true.
fn stage(text: &str) -> Result<String, String> {
    const FIRST: [&str; 10] =
        ["received", "denied", "intent", "outcome", "recovered", "heartbeat", "approval", "write", "policy", "config"];
    let first = text.split('.').next().unwrap_or_default();
    if FIRST.contains(&first) { Ok(text.to_owned()) } else { Err(format!("stages are {}", FIRST.join(", "))) }
}

/// Why a command could not do its work; the exit code differs between commands.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The question makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("{path}: {error}")]
    File { path: String, error: io::Error },
    /// The answer cannot be printed.
    #[error("cannot print: {0}")]
    Out(#[from] io::Error),
}

impl Stop {
    fn file(path: &std::path::Path, error: io::Error) -> Self {
        Self::File { path: row::plain(&path.display().to_string()), error }
    }
}

/// What a [`Place`] comes to.
struct Found {
    dir: PathBuf,
    /// Where a gateway with these settings keeps the key that verifies its checkpoints.
    key: Option<PathBuf>,
}

impl Place {
    fn find(&self) -> Result<Found, Stop> {
        match (&self.dir, &self.config) {
            (Some(dir), None) => Ok(Found { dir: dir.clone(), key: None }),
            (dir, Some(file)) => {
                let settings = config::load(file).map_err(|faults| {
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    Stop::Usage(format!("{}: {}", file.display(), faults.join("; ")))
                })?;
                let key = Some(settings.keys_dir.join("audit.pub"));
                Ok(Found { dir: dir.clone().unwrap_or(settings.audit.dir), key })
            }
            (None, None) => Err(Stop::Usage("say which journal: a directory, or --config FILE".to_owned())),
        }
    }
}

/// Runs the command.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    let Args { command } = args;
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    let code = run_to(&command, &mut out, &mut anstream::stderr().lock());
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(VERIFY_USAGE),
        _ => ExitCode::from(code),
    }
}

/// Runs the command and gives its exit code.
fn run_to(command: &Command, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let (outcome, failed) = match command {
        Command::Verify(args) => (verify::run(args, out), VERIFY_USAGE),
        Command::Query(args) => (query::run(args, out), 2),
        Command::Show(args) => (show::run(args, out), 2),
    };
    match outcome {
        Ok(code) => code,
        // Whoever reads the output has seen enough.
        Err(Stop::Out(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(stop) => {
            drop(writeln!(err, "{}error:{} {stop}", print::BAD, print::PLAIN));
            failed
        }
    }
}

#[cfg(test)]
mod tests;
