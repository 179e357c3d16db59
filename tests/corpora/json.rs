//! `JSONTestSuite`'s parsing files and the vectors of RFC 8785, through the parser and the canonical form that serve.
//!
//! `tests/run corpora` fetches both and runs it: `cargo test --bench corpora -- PARSING VECTORS`, two directories.
//! It fails when a file that every parser must accept is refused by a rule of ours that is not named below, when
//! one that must be refused is accepted, when files are missing, or when a vector has another form.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a run that cannot go on has failed, and what it says is what it is for"
)]

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use loopgate::domain::canonical::Flaw;
use loopgate::domain::canonical::Limits;
use loopgate::domain::canonical::canonical;
use loopgate::domain::canonical::parse;

/// Files by what their first letter says of them: to be accepted, to be refused, free.
const FILES: [(char, usize); 3] = [('y', 95), ('n', 188), ('i', 35)];

/// Whether this is the rule.
type Rule = fn(&Flaw) -> bool;

/// Valid JSON that is refused all the same, and by which rule: two readers could take it for two things.
const STRICTER: [(&str, Rule); 7] = [
    ("y_object_duplicated_key.json", |flaw| matches!(flaw, Flaw::DuplicateKey(_))),
    ("y_object_duplicated_key_and_value.json", |flaw| matches!(flaw, Flaw::DuplicateKey(_))),
    ("y_number.json", |flaw| matches!(flaw, Flaw::UnsafeNumber)),
    ("y_number_real_capital_e.json", |flaw| matches!(flaw, Flaw::UnsafeNumber)),
    ("y_number_real_exponent.json", |flaw| matches!(flaw, Flaw::UnsafeNumber)),
    ("y_number_real_fraction_exponent.json", |flaw| matches!(flaw, Flaw::UnsafeNumber)),
    ("y_object_extreme_numbers.json", |flaw| matches!(flaw, Flaw::UnsafeNumber)),
];

/// The vectors of RFC 8785, and those with numbers that JSON readers do not carry exactly, which are refused.
const VECTORS: [(&str, bool); 6] = [
    ("arrays.json", true),
    ("french.json", true),
    ("structures.json", true),
    ("unicode.json", true),
    ("values.json", false),
    ("weird.json", true),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [parsing, vectors] = arguments.as_slice() else {
        println!("usage: tests/run corpora");
        return ExitCode::from(2);
    };
    let wrong = [suite(Path::new(parsing)), rfc_8785(Path::new(vectors))].concat();
    for line in &wrong {
        println!("{line}");
    }
    let all = FILES.iter().map(|(_, files)| files).sum::<usize>() + VECTORS.len();
    println!("{} passed, {} failed", all.saturating_sub(wrong.len()), wrong.len());
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is wrong with how the files of `JSONTestSuite` are read.
fn suite(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut wrong = Vec::new();
    for (kind, wanted) in FILES {
        let found = names.iter().filter(|name| name.starts_with(kind)).count();
        if found != wanted {
            wrong.push(format!("{found} files of JSONTestSuite begin with `{kind}_`, {wanted} should"));
        }
    }
    let mut free = Vec::new();
    for name in &names {
        let read = parse(&fs::read(dir.join(name)).unwrap(), &Limits::default());
        let stricter = STRICTER.iter().find(|(stricter, _)| stricter == name).map(|(_, by)| by);
        match (name.chars().next(), stricter, read) {
            (Some('y'), None, Ok(_)) | (Some('n' | 'i'), None, Err(_)) => {}
            (Some('y'), Some(by), Err(fault)) if by(&fault.what) => println!("stricter  {name}: {fault}"),
            (Some('i'), None, Ok(_)) => free.push(name.as_str()),
            (_, _, Ok(value)) => wrong.push(format!("{name} is accepted: {value}")),
            (_, _, Err(fault)) => wrong.push(format!("{name} is refused: {fault}")),
        }
    }
    println!("accepted of those that a parser may accept or refuse: {}", free.join(", "));
    wrong
}

/// What is wrong with the canonical forms.
fn rfc_8785(dir: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, carried) in VECTORS {
        let input = fs::read(dir.join("input").join(name)).unwrap();
        let output = fs::read(dir.join("output").join(name)).unwrap();
        match parse(&input, &Limits::default()) {
            Ok(value) if carried => {
                let form = canonical(&value).unwrap();
                if form != output.trim_ascii_end() {
                    wrong.push(format!("{name}: {}", String::from_utf8_lossy(&form)));
                }
            }
            Err(fault) if !carried && fault.what == Flaw::UnsafeNumber => println!("stricter  {name}: {fault}"),
            Ok(_) => wrong.push(format!("{name} is accepted though a number in it is not carried exactly")),
            Err(fault) => wrong.push(format!("{name} is refused: {fault}")),
        }
    }
    wrong
}
