//! `loopgate policy replay`: what a candidate would have decided of the calls that were recorded.
//!
//! Promises: a journal that does not verify gives no report, unless it is asked for and the report
//! says so; every decision is first made again under its own policy; what was not replayed is told
//! with its reason; text from records is shown with nothing hidden in it. Nothing is changed but the
//! files that are named. Exit codes: 0 replayed, 1 not proven or nothing replayed, 2 wrong usage, 3
//! not reachable. Called by `cli::policy`.

mod page;
mod recorded;
mod run;
mod sign;
mod source;
mod when;
pub(super) mod words;

use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::adapters::reload::bundle;
use crate::app;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::print_faults;
use crate::cli::print;
use crate::domain::pdp::engine::Pdp;
use crate::domain::replay::report::Made;
use crate::domain::replay::report::Report;
use crate::domain::replay::report::Window;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Bundle to try: a folder or an archive
    #[arg(long, value_name = "BUNDLE")]
    candidate: PathBuf,
    #[command(flatten)]
    source: source::Source,
    /// Only requests that arrived at this moment or later: 2026-11-20, 2026-11-20T18:00:00Z or -24h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Only requests that arrived before this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Only this organisation; nothing can be activated with such a report
    #[arg(long)]
    tenant: Option<String>,
    /// Only decisions about this tool, lists left out; nothing can be activated with such a report
    #[arg(long)]
    tool: Option<String>,
    /// Threads that decide [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroU8>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write the report as a page of its own
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every change, a line of JSON each
    #[arg(long, value_name = "FILE")]
    changes: Option<PathBuf>,
    /// Sign the report; `policy activate` takes it
    #[arg(long, requires = "out")]
    sign: bool,
    /// Where the signed report goes
    #[arg(long, value_name = "FILE", requires = "sign")]
    out: Option<PathBuf>,
    /// Ed25519 key that signs it, PKCS#8 PEM [default: report.pem among the gateway's own keys]
    #[arg(long, value_name = "FILE", requires = "sign")]
    key: Option<PathBuf>,
}

pub(super) fn run(args: &Replay, exe: &Path, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let window = window(args)?;
    let source = args.source.open(&args.candidate)?;
    // Before the work, so that a key that cannot be had does not cost it.
    let key = args.sign.then(|| sign::key(args.key.as_deref(), source.keys_dir.as_deref())).transpose()?;
    let mut list = args.changes.as_deref().map(create).transpose()?;
    let candidate = candidate(args, &source, exe, out)?;
    let threads = args.threads.map_or_else(cores, |threads| usize::from(threads.get()));
    let begun = Instant::now();
    let work = run::Work { source: &source, candidate: &candidate, window: &window, threads };
    let replayed = run::replay(&work, &mut |lines| {
        list.as_mut().map_or(Ok(()), |(path, file)| file.write_all(lines).map_err(|cause| unwritable(path, &cause)))
    })?;
    if let Some((path, file)) = &mut list {
        file.flush().map_err(|cause| unwritable(path, &cause))?;
    }
    let mut report = Report::of(replayed.tally, run::digests(&candidate), window, source.keys.is_some(), replayed.list);
    report.made = Made {
        at_ms: app::now_s() * 1000,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        threads: threads as u64,
    };
    if let Some(path) = &args.html {
        write(path, &page::page(&report, &shown(&args.candidate)))?;
    }
    if let (Some(key), Some(path)) = (&key, &args.out) {
        write(path, &(sign::sealed(&report, key)? + "\n"))?;
    }
    if args.json {
        let text = serde_json::to_string(&report).map_err(std::io::Error::from)?;
        writeln!(out, "{}", print::plain_json(&text))?;
    } else {
        words::tell(&report, &shown(&args.candidate), out)?;
    }
    verdict(&report)
}

/// Whether the report is worth anything.
fn verdict(report: &Report) -> Result<(), PolicyFault> {
    let decisions = &report.replay.decisions;
    if decisions.recorded == 0 {
        return Err(PolicyFault::No("no decision was recorded in that time; see --from and --to".to_owned()));
    }
    if decisions.replayed == 0 {
        return Err(PolicyFault::No("nothing could be replayed; the reasons stand above".to_owned()));
    }
    if !report.proven() {
        return Err(PolicyFault::No(
            "not proven: recorded decisions came out otherwise under their own policy".to_owned(),
        ));
    }
    Ok(())
}

fn window(args: &Replay) -> Result<Window, PolicyFault> {
    let now_ms = app::now_s() * 1000;
    let at = |name: &str, text: &Option<String>| {
        let read = text.as_deref().map(|text| when::moment(text, now_ms)).transpose();
        read.map_err(|words| PolicyFault::Usage(format!("--{name}: {words}")))
    };
    let window = Window {
        from_ms: at("from", &args.from)?,
        to_ms: at("to", &args.to)?,
        tenant: args.tenant.clone(),
        tool: args.tool.clone(),
    };
    match (window.from_ms, window.to_ms) {
        (Some(from), Some(to)) if from >= to => Err(PolicyFault::Usage("--from must be before --to".to_owned())),
        _ => Ok(window),
    }
}

/// The bundle to try, checked as the gateway would.
fn candidate(args: &Replay, source: &source::Opened, exe: &Path, out: &mut dyn Write) -> Result<Pdp, PolicyFault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checked = runtime.block_on(bundle::load_checked(exe, &args.candidate, &source.tools));
    match checked.and_then(|bundle| Pdp::compile(&bundle, &source.tools)) {
        Ok(pdp) => Ok(pdp),
        Err(faults) => print_faults(&faults, out),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn create(path: &Path) -> Result<(PathBuf, BufWriter<File>), PolicyFault> {
    let file = File::create(path).map_err(|cause| unwritable(path, &cause))?;
    Ok((path.to_owned(), BufWriter::new(file)))
}

fn write(path: &Path, text: &str) -> Result<(), PolicyFault> {
    std::fs::write(path, text).map_err(|cause| unwritable(path, &cause))
}

fn unwritable(path: &Path, cause: &std::io::Error) -> PolicyFault {
    PolicyFault::File { path: path.display().to_string(), message: format!("cannot be written: {cause}") }
}

fn shown(path: &Path) -> String {
    print::plain(&path.display().to_string())
}

/// The digests as answers and records name a policy.
fn revision(digests: &crate::domain::replay::report::Digests) -> String {
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    format!("{}-{}", short(&digests.bundle), short(&digests.data))
}
