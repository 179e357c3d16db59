//! Coverage on a terminal: a line for each file, and the lines that nothing evaluated.
//!
//! Promises: files that lack something stand out with what they lack. Called by `policy test`.

use std::io;
use std::io::Write;

use crate::cli::print::BAD;
use crate::cli::print::GOOD;
use crate::cli::print::PLAIN;
use crate::cli::print::plain;
use crate::cli::print::wrapped;
use crate::domain::pdp::coverage::Coverage;
use crate::domain::pdp::coverage::Lines;

/// The whole, and with `files` each file of it.
pub(super) fn print(coverage: &Coverage, files: bool, out: &mut dyn Write) -> io::Result<()> {
    let width = coverage.files().map(|(path, _)| path.chars().count()).max().unwrap_or_default().max(8);
    for (path, lines) in coverage.files().filter(|_| files) {
        let missing: Vec<String> = Lines::ranges(&lines.not_covered)
            .into_iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect();
        let missing = if missing.is_empty() {
            String::new()
        } else {
            format!("  not covered: {}", wrapped(&missing.join(", "), width + 23))
        };
        row(path, width, lines.percent(), &missing, out)?;
    }
    row("coverage", width, coverage.percent(), "", out)
}

fn row(name: &str, width: usize, percent: f64, rest: &str, out: &mut dyn Write) -> io::Result<()> {
    let colour = if percent < 100.0 { BAD } else { GOOD };
    writeln!(out, "{:width$} {colour}{percent:6.2} %{PLAIN}{rest}", plain(name))
}
