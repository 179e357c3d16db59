//! Which lines of a bundle's policies were evaluated.
//!
//! Promises: counts lines that hold something to evaluate, of policies and not of tests; a file that
//! nothing reached is there, with every line of its rules not covered. Never evaluates. Filled by
//! `pdp::suite`, shown by `policy test`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use regorus::coverage::Report;
use regorus::unstable::Module;
use regorus::unstable::Ref;
use serde_json::Value;
use serde_json::json;

use crate::domain::pdp::ast::dissect;

/// What was evaluated, file by file.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    files: BTreeMap<String, Lines>,
}

/// The lines of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// The file as it stands.
    pub code: String,
    /// Lines that were evaluated, from 1.
    pub covered: BTreeSet<u32>,
    /// Lines that could have been, and were not.
    pub not_covered: BTreeSet<u32>,
    reached: bool,
}

impl Coverage {
    /// Nothing is covered yet.
    pub(super) fn new(modules: &[Ref<Module>]) -> Self {
        let mut files = BTreeMap::new();
        for module in modules {
            let source = &module.package.span.source;
            if source.get_path().ends_with("_test.rego") {
                continue;
            }
            let rules = module.policy.iter().filter_map(|rule| dissect::definition(rule));
            let not_covered = rules.flat_map(|rule| rule.lines()).collect();
            let lines = Lines { code: source.get_contents().clone(), not_covered, ..Lines::default() };
            files.insert(source.get_path().clone(), lines);
        }
        Self { files }
    }

    /// Adds what one evaluation covered.
    pub(super) fn add(&mut self, report: &Report) {
        for file in &report.files {
            let Some(lines) = self.files.get_mut(&file.path) else { continue };
            if !lines.reached {
                // The engine says more precisely what a line can hold, but only of files that it entered.
                lines.reached = true;
                lines.not_covered.clear();
            }
            lines.covered.extend(&file.covered);
            lines.not_covered.extend(&file.not_covered);
            lines.not_covered.retain(|line| !lines.covered.contains(line));
        }
    }

    /// Every policy file, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Lines)> {
        self.files.iter().map(|(path, lines)| (path.as_str(), lines))
    }

    /// How much of all lines is covered, in percent; all of nothing is 100.
    #[must_use]
    pub fn percent(&self) -> f64 {
        let covered = self.files.values().map(|lines| lines.covered.len()).sum();
        let missing = self.files.values().map(|lines| lines.not_covered.len()).sum();
        percent(covered, missing)
    }

    /// The report in the shape that `opa test --coverage --format=json` gives it.
    #[must_use]
    pub fn report(&self) -> Value {
        let mut files = serde_json::Map::new();
        let (mut covered, mut missing) = (0, 0);
        for (path, lines) in &self.files {
            covered += lines.covered.len();
            missing += lines.not_covered.len();
            files.insert(path.clone(), lines.report());
        }
        json!({
            "files": files,
            "covered_lines": covered,
            "not_covered_lines": missing,
            "coverage": percent(covered, missing),
        })
    }
}

impl Lines {
    /// How much of this file is covered, in percent.
    #[must_use]
    pub fn percent(&self) -> f64 {
        percent(self.covered.len(), self.not_covered.len())
    }

    /// Lines in a row, first and last.
    #[must_use]
    pub fn ranges(lines: &BTreeSet<u32>) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for line in lines.iter().copied() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == line => *last = line,
                _ => ranges.push((line, line)),
            }
        }
        ranges
    }

    fn report(&self) -> Value {
        let ranges = |lines: &BTreeSet<u32>| -> Vec<Value> {
            let rows = |(first, last)| json!({"start": {"row": first}, "end": {"row": last}});
            Self::ranges(lines).into_iter().map(rows).collect()
        };
        let mut report = json!({
            "covered_lines": self.covered.len(),
            "not_covered_lines": self.not_covered.len(),
            "coverage": self.percent(),
        });
        // OPA leaves out what is empty.
        for (name, lines) in [("covered", &self.covered), ("not_covered", &self.not_covered)] {
            if let Some(report) = report.as_object_mut().filter(|_| !lines.is_empty()) {
                report.insert(name.to_owned(), json!(ranges(lines)));
            }
        }
        report
    }
}

#[expect(clippy::cast_precision_loss, reason = "a bundle has fewer lines than a float has digits")]
fn percent(covered: usize, missing: usize) -> f64 {
    if missing == 0 {
        return 100.0;
    }
    // Two digits, and never 100 unless it is: rounded down.
    (covered as f64 / (covered + missing) as f64 * 10_000.0).floor() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_a_row_are_one_range() {
        let lines = BTreeSet::from([1, 2, 3, 7, 9, 10]);
        assert_eq!(Lines::ranges(&lines), [(1, 3), (7, 7), (9, 10)]);
        assert_eq!(Lines::ranges(&BTreeSet::new()), []);
    }

    #[test]
    fn what_is_not_whole_is_never_called_a_hundred_percent() {
        assert!(percent(1_000_000, 1) < 100.0);
        assert!((percent(0, 0) - 100.0).abs() < f64::EPSILON && percent(0, 5).abs() < f64::EPSILON);
        assert!((percent(2, 1) - 66.66).abs() < 1e-9);
    }
}
