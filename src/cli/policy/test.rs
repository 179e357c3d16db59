//! `loopgate policy test`: OPA-like tests and case tables, what they cover, and what they cost.
//!
//! Promises: prints what failed, with the condition that did and what it saw, and with `-v`
//! everything; a case counts as passed only if the path that serves and the interpreter both give
//! what it expects; no test at all is a failure, and so is too little coverage. Called by `cli::policy`.

mod bench;
mod cover;
mod outcome;
mod page;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use regex::Regex;

use crate::adapters::reload::bundle;
use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::compile;
use crate::cli::policy::print_faults;
use crate::cli::policy::test::outcome::Done;
use crate::cli::policy::test::outcome::Result as Came;
use crate::cli::policy::test::outcome::Tally;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::cases;
use crate::domain::pdp::cases::Case;
use crate::domain::pdp::cases::Table;
use crate::domain::pdp::coverage::Coverage;
use crate::domain::pdp::engine::Pdp;
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
    /// Print the results as JSON, in the shape of `opa test --format=json`.
    #[arg(long)]
    json: bool,
    /// How long one test may take, such as 5s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    #[command(flatten)]
    cover: Cover,
    #[command(flatten)]
    bench: Bench,
}

/// What is covered.
#[derive(Debug, Args)]
#[command(next_help_heading = "Coverage")]
struct Cover {
    /// Say which lines of the policies were evaluated; with --json in the shape of OPA.
    #[arg(short, long)]
    coverage: bool,
    /// Write the coverage line by line, as a page of its own.
    #[arg(long, value_name = "FILE")]
    coverage_html: Option<PathBuf>,
    /// Fail if less than this is covered, in percent.
    #[arg(short, long, value_name = "PERCENT", value_parser = percent)]
    threshold: Option<f64>,
}

/// What it costs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cost")]
struct Bench {
    /// Measure every test and case instead; use a release build.
    #[arg(long, conflicts_with_all = ["coverage", "coverage_html", "threshold"])]
    bench: bool,
    /// How often each is run to be measured.
    #[arg(long, value_name = "N", default_value = "1000", requires = "bench")]
    count: std::num::NonZeroU32,
}

fn time(text: &str) -> Result<Duration, String> {
    let time: Option<jiff::SignedDuration> = text.parse().ok();
    let time = time.and_then(|time| Duration::try_from(time).ok()).filter(|time| !time.is_zero());
    time.ok_or_else(|| "say a time with its unit, such as 5s or 200ms".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| (0.0..=100.0).contains(number)).ok_or_else(|| "say a number from 0 to 100".to_owned())
}

/// What is run.
struct Work {
    pdp: Pdp,
    suite: Suite,
    tools: BTreeMap<String, ToolFacts>,
    tables: Vec<(String, Table)>,
    only: Option<Regex>,
    coverage: Option<Coverage>,
}

pub(super) fn run(test: &Test, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let mut work = load(test, out)?;
    if test.bench.bench {
        return bench::run(&work, test.bench.count.get(), test.json, out);
    }
    let mut tally = Tally::new(test.verbose, test.json, &test.place.dir);
    for one in work.suite.tests().iter().filter(|one| wanted(work.only.as_ref(), &one.name)) {
        let begun = Instant::now();
        let verdict = work.suite.run(one, work.coverage.as_mut());
        let took = begun.elapsed();
        let came = match verdict {
            Verdict::Pass => Came::Pass(String::new()),
            Verdict::Skipped => Came::Skipped,
            Verdict::Fail => Came::Fail(Vec::new(), work.suite.why(one)),
            Verdict::Error(cause) => Came::Error(cause, work.suite.why(one)),
        };
        let (package, name) = one.name.rsplit_once('.').unwrap_or(("", &one.name));
        let place = (one.path.clone(), one.line, one.column);
        tally.add(&Done { package: package.to_owned(), name: name.to_owned(), place, took, came }, out)?;
    }
    let tables = std::mem::take(&mut work.tables);
    for (path, table) in &tables {
        for case in &table.cases {
            if !wanted(work.only.as_ref(), &case.name) {
                continue;
            }
            let begun = Instant::now();
            let came = work.case(table, case);
            let done = Done {
                package: path.clone(),
                name: case.name.clone(),
                place: (path.clone(), 0, 0),
                took: begun.elapsed(),
                came,
            };
            tally.add(&done, out)?;
        }
    }
    let ended = tally.end(test.cover.coverage, out);
    match &work.coverage {
        // WHY: what failed covers what it should not, but is worth looking at all the same.
        Some(coverage) => ended.and(covered(test, coverage, out)?),
        None => ended,
    }
}

/// Shows the coverage; the answer within says whether it is enough.
fn covered(test: &Test, coverage: &Coverage, out: &mut dyn Write) -> Result<Result<(), PolicyFault>, PolicyFault> {
    if let Some(path) = &test.cover.coverage_html {
        std::fs::write(path, page::page(coverage)).map_err(|cause| PolicyFault::File {
            path: path.display().to_string(),
            message: format!("cannot be written: {cause}"),
        })?;
    }
    if test.cover.coverage && test.json {
        writeln!(out, "{:#}", coverage.report())?;
    } else if !test.json {
        cover::print(coverage, test.cover.coverage, out)?;
    }
    let got = coverage.percent();
    Ok(match test.cover.threshold {
        Some(wanted) if got < wanted => {
            Err(PolicyFault::No(format!("coverage is {got:.2} %, and {wanted:.2} % is asked for")))
        }
        Some(_) | None => Ok(()),
    })
}

fn load(test: &Test, out: &mut dyn Write) -> Result<Work, PolicyFault> {
    let only = match &test.run {
        Some(pattern) => Some(Regex::new(pattern).map_err(|cause| PolicyFault::Usage(format!("--run: {cause}")))?),
        None => None,
    };
    let (bundle, pdp, tools) = compile(&test.place, out)?;
    let mut suite = match Suite::load(&bundle) {
        Ok(suite) => suite,
        Err(faults) => return print_faults(&faults, out),
    };
    if let Some(most) = test.timeout {
        suite.limit(most);
    }
    let covers = test.cover.coverage || test.cover.coverage_html.is_some() || test.cover.threshold.is_some();
    let coverage = covers.then(|| suite.coverage());
    Ok(Work { pdp, suite, tools, tables: tables(&test.place, out)?, only, coverage })
}

fn wanted(only: Option<&Regex>, name: &str) -> bool {
    only.is_none_or(|only| only.is_match(name))
}

impl Work {
    /// Runs a case on the path that serves, and on the interpreter alone.
    fn case(&mut self, table: &Table, case: &Case) -> Came {
        let input = match table.input(case, &self.tools) {
            Ok(input) => input,
            Err(words) => return Came::Fail(vec![words], Vec::new()),
        };
        if let Some(coverage) = &mut self.coverage {
            self.suite.cover(&input, coverage);
        }
        let served = self.pdp.decide(&input);
        let interpreted = self.pdp.decide_on(crate::domain::pdp::ruling::Engine::Interpreter, &input);
        let (mut wrong, other) = (case.differences(&served), case.differences(&interpreted));
        if other != wrong {
            wrong.extend(other.into_iter().map(|words| format!("interpreter: {words}")));
        }
        if !wrong.is_empty() {
            return Came::Fail(wrong, Vec::new());
        }
        let count = self.pdp.instructions(&input);
        Came::Pass(count.map_or_else(|| "interpreted".to_owned(), |count| format!("{count} instructions")))
    }
}

fn tables(place: &Place, out: &mut dyn Write) -> Result<Vec<(String, Table)>, PolicyFault> {
    let files = match bundle::files(&place.dir) {
        Ok(files) => files,
        Err(faults) => return print_faults(&faults, out),
    };
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for (path, bytes) in files.into_iter().filter(|(path, _)| cases::is_table(path)) {
        match cases::read(&path, &String::from_utf8_lossy(&bytes)) {
            Ok(table) => found.push((path, table)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(found) } else { print_faults(&faults, out) }
}
