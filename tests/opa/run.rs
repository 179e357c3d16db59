//! OPA's own compliance cases, through the path that serves.
//!
//! `tests/run opa-cases FILE` runs it; FILE is a `.tar.gz` of the JSON files of cases that OPA's test suite
//! exports. They are not kept here. It says how many cases passed, failed and are not supported, by folder,
//! and what is refused, by code. It fails when the virtual machine gives a wrong value that nothing
//! sent to the interpreter, when a built-in that the gateway does not run got through the lint or was not
//! refused by its name, or when a case ends the process.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a run that cannot go on has failed, and what it says is what it is for"
)]

mod case;
mod verdict;
mod worker;

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use case::Case;
use verdict::Outcome;
use verdict::Verdict;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let loud = env::args().any(|argument| argument == "--verbose");
    if env::args().any(|argument| argument == worker::FLAG) {
        worker::serve();
        return ExitCode::SUCCESS;
    }
    let [file] = arguments.as_slice() else {
        println!("usage: tests/run opa-cases FILE   (a .tar.gz of OPA's cases as JSON)");
        return ExitCode::from(2);
    };
    let cases = case::read(file);
    let verdicts = worker::judge(&cases);
    report(&cases, &verdicts, loud)
}

/// Counts of one folder, in the order of [`Outcome::ALL`].
type Row = [usize; Outcome::ALL.len()];

fn report(cases: &[Case], verdicts: &[Verdict], loud: bool) -> ExitCode {
    let mut folders: BTreeMap<&str, Row> = BTreeMap::new();
    let mut all: Row = Row::default();
    let (mut refused, mut named, mut doubted) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (case, verdict) in cases.iter().zip(verdicts) {
        let at = Outcome::ALL.iter().position(|outcome| *outcome == verdict.outcome).unwrap();
        for row in [folders.entry(&case.folder).or_default(), &mut all] {
            *row.get_mut(at).unwrap() += 1;
        }
        for code in &verdict.codes {
            *refused.entry(code.as_str()).or_insert(0) += 1;
        }
        for name in &verdict.builtins {
            *named.entry(name.as_str()).or_insert(0) += 1;
        }
        for doubt in &verdict.doubts {
            *doubted.entry(doubt.as_str()).or_insert(0) += 1;
        }
        if loud && !verdict.doubted.is_empty() {
            println!(
                "{}: {}: refused, and answered\n    {}",
                case.folder,
                case.note,
                verdict.doubted.replace('\n', "\n    ")
            );
        }
        if verdict.outcome.is_bad() || loud && verdict.outcome != Outcome::Passed {
            println!(
                "{}: {}: {}\n    {}",
                case.folder,
                case.note,
                verdict.outcome.words(),
                verdict.detail.replace('\n', "\n    ")
            );
        }
    }
    println!("\n{:<44}{}", "folder", Outcome::ALL.map(|outcome| format!("{:>15}", outcome.words())).concat());
    for (folder, row) in folders.iter().filter(|(_, row)| row.iter().skip(2).any(|count| *count > 0)) {
        println!("{folder:<44}{}", row.map(|count| format!("{count:>15}")).concat());
    }
    println!("{:<44}{}", "every folder", all.map(|count| format!("{count:>15}")).concat());
    table("refused, by code", &refused);
    table("refused built-ins of OPA, by name", &named);
    table("run all the same, although the gateway refuses what cannot be meant, by code", &doubted);
    let engines = verdicts.iter().filter(|verdict| verdict.compiled).count();
    println!("\nanswered on the virtual machine: {engines} of {} cases", cases.len());
    let bad = verdicts.iter().filter(|verdict| verdict.outcome.is_bad()).count();
    println!(
        "stricter: a function that fails is an error here, and undefined in OPA; house rule: refused although the engine \
         could;\nnot asked: queries of several statements, input that is no JSON; with `!`: failed"
    );
    let passed = verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Passed).count();
    println!("{passed} passed, {bad} failed");
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table(title: &str, counts: &BTreeMap<&str, usize>) {
    println!("\n{title}");
    for (name, count) in counts {
        println!("  {count:>5}  {name}");
    }
}
