//! `loopgate policy test`: OPA-like tests and case tables.
//!
//! Promises: prints what failed, and with `-v` everything; a case counts as passed only if both
//! engines give what it expects; no test at all is a failure. Called by `cli::policy`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use clap::Args;
use regex::Regex;

use crate::adapters::reload::bundle;
use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::compile;
use crate::cli::policy::print_faults;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::cases;
use crate::domain::pdp::cases::Case;
use crate::domain::pdp::cases::Table;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::ruling::Engine;
use crate::domain::pdp::suite::Suite;
use crate::domain::pdp::suite::Verdict;

#[derive(Debug, Args)]
pub(super) struct Test {
    #[command(flatten)]
    place: Place,
    /// Print every test, with its time, and every case, with its instructions.
    #[arg(short, long)]
    verbose: bool,
    /// Run only tests and cases whose name matches.
    #[arg(short, long, value_name = "REGEX")]
    run: Option<String>,
}

/// What has been run so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

pub(super) fn run(test: &Test, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let only = match &test.run {
        Some(pattern) => Some(Regex::new(pattern).map_err(|cause| PolicyFault::Usage(format!("--run: {cause}")))?),
        None => None,
    };
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.is_match(name));
    let (bundle, pdp, tools) = compile(&test.place, out)?;
    let suite = match Suite::load(&bundle) {
        Ok(suite) => suite,
        Err(faults) => return print_faults(&faults, out),
    };
    let mut tally = Tally::default();
    for one in suite.tests().iter().filter(|one| wanted(&one.name)) {
        let begun = Instant::now();
        let verdict = suite.run(one);
        let took = begun.elapsed();
        let (count, words) = match verdict {
            Verdict::Pass => (&mut tally.passed, "PASS".to_owned()),
            Verdict::Skipped => (&mut tally.skipped, "SKIPPED".to_owned()),
            Verdict::Fail => (&mut tally.failed, "FAIL".to_owned()),
            Verdict::Error(cause) => (&mut tally.failed, format!("ERROR\n  {cause}")),
        };
        *count += 1;
        if test.verbose || words.starts_with("FAIL") || words.starts_with("ERROR") {
            writeln!(out, "{}: {words} ({took:.1?}, {}:{})", one.name, one.path, one.line)?;
        }
    }
    for (path, table) in tables(&test.place, out)? {
        for case in table.cases.iter().filter(|case| wanted(&case.name)) {
            run_case(test.verbose, (&path, &table, case), (&pdp, &tools), &mut tally, out)?;
        }
    }
    summary(&tally, out)
}

fn run_case(
    verbose: bool,
    (path, table, case): (&str, &Table, &Case),
    (pdp, tools): (&Pdp, &BTreeMap<String, ToolFacts>),
    tally: &mut Tally,
    out: &mut dyn Write,
) -> Result<(), PolicyFault> {
    let mut wrong = Vec::new();
    for engine in [pdp.engine(), Engine::Interpreter] {
        if let Err(cause) = table.run(case, pdp, engine, tools) {
            wrong.push(format!("\n  {}: {cause}", engine.as_str()));
        }
    }
    if wrong.is_empty() {
        tally.passed += 1;
        if verbose {
            let count = table.input(case, tools).ok().and_then(|input| pdp.instructions(&input));
            let count = count.map_or_else(|| "interpreted".to_owned(), |count| format!("{count} instructions"));
            writeln!(out, "{path}: {}: PASS ({count})", case.name)?;
        }
    } else {
        tally.failed += 1;
        writeln!(out, "{path}: {}: FAIL{}", case.name, wrong.concat())?;
    }
    Ok(())
}

fn tables(place: &Place, out: &mut dyn Write) -> Result<Vec<(String, Table)>, PolicyFault> {
    let files = match bundle::files(&place.dir) {
        Ok(files) => files,
        Err(faults) => return print_faults(&faults, out),
    };
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for (path, bytes) in files {
        let name = path.strip_prefix("cases/").and_then(|name| name.strip_suffix(".yaml"));
        if name.is_some_and(|name| name != "tools") {
            match cases::read(&path, &String::from_utf8_lossy(&bytes)) {
                Ok(table) => found.push((path, table)),
                Err(fault) => faults.push(fault),
            }
        }
    }
    if faults.is_empty() { Ok(found) } else { print_faults(&faults, out) }
}

fn summary(tally: &Tally, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let total = tally.passed + tally.failed;
    if tally.passed > 0 {
        writeln!(out, "PASS: {}/{total}", tally.passed)?;
    }
    if tally.failed > 0 {
        writeln!(out, "FAIL: {}/{total}", tally.failed)?;
    }
    if tally.skipped > 0 {
        writeln!(out, "SKIPPED: {}", tally.skipped)?;
    }
    match (tally.failed, total) {
        (0, 0) => Err(PolicyFault::Usage("no test was run: none is there, or none matches --run".to_owned())),
        (0, _) => Ok(()),
        (failed, total) => Err(PolicyFault::Failed(failed, total)),
    }
}
