//! `loopgate policy diff`: what differs between two bundles, in rules, in data and in decisions.
//!
//! Promises: rules are compared by name and words, so that layout and comments are no difference;
//! every row of data that differs is named by its path; every case of both bundles' tables is
//! decided under both, the way that serves. A difference is an answer, not a fault. Called by
//! `cli::policy`.

mod decided;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::decided::Flips;
use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::compile;
use crate::cli::policy::print_faults;
use crate::cli::print;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::outline;
use crate::domain::pdp::outline::RuleText;
use crate::domain::replay::rows;
use crate::domain::replay::rows::Row;

/// Characters of a value that one line shows.
const VALUE_MAX: usize = 60;

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The bundle as it was: a folder or an archive
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The bundle as it is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Catalog whose tools the cases call [default: each bundle's own cases/tools.yaml, or the other's]
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A rule that only one bundle has, or that the two write differently.
#[derive(Debug, Serialize)]
struct RuleChange {
    how: &'static str,
    rule: String,
    /// `file:line` in the new bundle, or in the old one if the rule is gone.
    at: String,
}

#[derive(Debug, Serialize)]
struct Difference {
    rules: Vec<RuleChange>,
    /// Files that differ in layout or comments only.
    layout: Vec<String>,
    data: Vec<Row>,
    cases: Flips,
}

pub(super) fn run(diff: &Diff, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let place = |dir: &PathBuf| Place { dir: dir.clone(), catalog: diff.catalog.clone() };
    let (old, new) = (compile(&place(&diff.old), out)?, compile(&place(&diff.new), out)?);
    let (old_rules, new_rules) = (outlined(&old.0, out)?, outlined(&new.0, out)?);
    let rules = between(&old_rules, &new_rules);
    let tables = [decided::tables(&diff.old, out)?, decided::tables(&diff.new, out)?];
    // An archive has no tools of its own.
    let of = |own, other| if BTreeMap::is_empty(own) { other } else { own };
    let difference = Difference {
        layout: layout(&old.0, &new.0, &rules),
        rules,
        data: rows::between(old.0.data(), new.0.data()),
        cases: decided::flips(&tables, (&old.1, of(&old.2, &new.2)), (&new.1, of(&new.2, &old.2))),
    };
    if diff.json {
        let text = serde_json::to_string(&difference).map_err(std::io::Error::from)?;
        writeln!(out, "{}", print::plain_json(&text))?;
        return Ok(());
    }
    tell(&difference, out)
}

fn outlined(bundle: &Bundle, out: &mut dyn Write) -> Result<Vec<RuleText>, PolicyFault> {
    outline::rules(bundle).or_else(|faults| print_faults(&faults, out))
}

/// Rules by name: those of one bundle only, and those whose words differ.
fn between(old: &[RuleText], new: &[RuleText]) -> Vec<RuleChange> {
    let by_name = |rules: &[RuleText]| {
        let mut names: BTreeMap<String, Vec<RuleText>> = BTreeMap::new();
        for rule in rules {
            names.entry(rule.name.clone()).or_default().push(rule.clone());
        }
        names
    };
    let (old, new) = (by_name(old), by_name(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let none = Vec::new();
        let (before, after) = (old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none));
        let (gone, come) = (without(before, after), without(after, before));
        let how = match (before.is_empty(), after.is_empty()) {
            (true, _) => "added",
            (_, true) => "removed",
            _ => "changed",
        };
        let shown = if come.is_empty() { &gone } else { &come };
        changes.extend(shown.iter().map(|rule| RuleChange {
            how,
            rule: name.clone(),
            at: format!("{}:{}", rule.path, rule.line),
        }));
    }
    changes
}

/// The rules that have no equal among `others`, each of which equals one.
fn without(rules: &[RuleText], others: &[RuleText]) -> Vec<RuleText> {
    let mut left: Vec<&str> = others.iter().map(|rule| rule.text.as_str()).collect();
    let mut found = Vec::new();
    for rule in rules {
        match left.iter().position(|text| *text == rule.text) {
            Some(at) => {
                left.swap_remove(at);
            }
            None => found.push(rule.clone()),
        }
    }
    found
}

/// Files whose text differs though none of their rules does.
fn layout(old: &Bundle, new: &Bundle, rules: &[RuleChange]) -> Vec<String> {
    let texts: BTreeMap<&str, &str> = old.files().iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let touched = |path: &str| rules.iter().any(|change| change.at.starts_with(&format!("{path}:")));
    let differs = |path: &str, text: &str| texts.get(path).is_some_and(|before| *before != text);
    let new = new.files().iter().filter(|(path, text)| differs(path, text) && !touched(path));
    new.map(|(path, _)| path.clone()).collect()
}

fn tell(difference: &Difference, out: &mut dyn Write) -> Result<(), PolicyFault> {
    let (strong, plain) = (print::STRONG, print::PLAIN);
    writeln!(out, "{strong}rules{plain}  {}", some(difference.rules.len(), "rule"))?;
    for change in &difference.rules {
        writeln!(out, "  {:<8} {}  {}", change.how, print::plain(&change.rule), print::plain(&change.at))?;
    }
    for path in &difference.layout {
        writeln!(out, "  {:<8} {}  layout or comments only", "same", print::plain(path))?;
    }
    writeln!(out, "{strong}data{plain}   {}", some(difference.data.len(), "row"))?;
    for row in &difference.data {
        let turn = match (&row.before, &row.after) {
            (None, Some(after)) => format!("added {}", short(after)),
            (Some(before), None) => format!("removed, was {}", short(before)),
            (before, after) => {
                let words = |value: &Option<serde_json::Value>| value.as_ref().map(short).unwrap_or_default();
                format!("{} → {}", words(before), words(after))
            }
        };
        writeln!(out, "  {}: {turn}", print::plain(&row.path))?;
    }
    let cases = &difference.cases;
    let of = format!("of {} are decided otherwise", print::count(cases.decided, "case"));
    writeln!(out, "{strong}cases{plain}  {} {of}", cases.flips.len())?;
    for flip in &cases.flips {
        writeln!(out, "  {}: {}  {}", print::plain(&flip.table), print::plain(&flip.case), flip.class.words())?;
        for words in &flip.words {
            writeln!(out, "      {}", print::wrapped(words, 6))?;
        }
    }
    for (case, why) in &cases.undecided {
        writeln!(out, "  {}: not decided: {}", print::plain(case), print::plain(why))?;
    }
    Ok(())
}

fn some(count: usize, what: &str) -> String {
    match count {
        0 => "the same".to_owned(),
        1 => format!("1 {what} differs"),
        many => format!("{many} {what}s differ"),
    }
}

fn short(value: &serde_json::Value) -> String {
    let text = print::plain_json(&value.to_string());
    if text.chars().count() <= VALUE_MAX {
        return text;
    }
    text.chars().take(VALUE_MAX - 1).chain(['…']).collect()
}
