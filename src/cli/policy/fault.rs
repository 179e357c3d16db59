//! How a fault of a bundle is shown to people.
//!
//! Promises: the place first, as editors and CI read it (`path:line:col: message`), then the line with
//! a caret under the place, then what to do; text of the bundle cannot hide, reorder or command
//! anything on the terminal. Called by `cli::policy::check`.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;

use serde::Serialize;

use crate::cli::print;
use crate::domain::pdp::bundle::BundleFault;

/// Characters of a source line that are shown before and after the place.
const BEFORE_MAX: usize = 60;
const AFTER_MAX: usize = 60;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// It keeps the bundle from being loaded, or from being worth it.
    Error,
    /// Its author should look again.
    Warning,
    /// It sends the bundle to the slower engine.
    Note,
}

/// A fault and how bad it is, as `--json` writes it.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    #[serde(flatten)]
    pub(super) fault: BundleFault,
    pub(super) severity: Severity,
}

impl Finding {
    /// The faults of one list.
    pub(super) fn all(faults: &[BundleFault], severity: Severity) -> impl Iterator<Item = Self> {
        faults.iter().map(move |fault| Self { fault: fault.clone(), severity })
    }

    /// Writes it for people. `texts` are the files of the bundle.
    pub(super) fn show(&self, texts: &BTreeMap<String, String>, out: &mut dyn Write) -> io::Result<()> {
        let fault = &self.fault;
        let place = match (fault.path.is_empty(), fault.line) {
            (true, _) => String::new(),
            (false, 0) => format!("{}: ", print::plain(&fault.path)),
            (false, line) => format!("{}:{line}:{}: ", print::plain(&fault.path), fault.column),
        };
        let (kind, colour) = match self.severity {
            Severity::Error => ("", print::BAD),
            Severity::Warning => ("warning: ", print::STRONG),
            Severity::Note => ("note: ", print::STRONG),
        };
        let (strong, plain) = (print::STRONG, print::PLAIN);
        writeln!(out, "{strong}{place}{plain}{kind}{}", print::plain(&fault.message))?;
        let number = fault.line.to_string();
        let margin = " ".repeat(number.len());
        if let Some((line, before, width)) = texts.get(&fault.path).and_then(|text| pointed(text, fault)) {
            writeln!(out, "{number} | {line}")?;
            writeln!(out, "{margin} | {}{colour}{}{plain}", " ".repeat(before), "^".repeat(width))?;
        }
        if fault.remedy.is_empty() {
            return Ok(());
        }
        writeln!(out, "{margin} {strong}={plain} {}", print::plain(&fault.remedy))
    }
}

/// The line of a fault, what stands before the place, and how wide the word at the place is; all in
/// columns of a terminal.
fn pointed(text: &str, fault: &BundleFault) -> Option<(String, usize, usize)> {
    let line = text.lines().nth(usize::try_from(fault.line.checked_sub(1)?).ok()?)?;
    let at = usize::try_from(fault.column.checked_sub(1)?).ok()?;
    let shown = |text: String| print::plain(&text.replace('\t', "    "));
    let skipped = at.saturating_sub(BEFORE_MAX);
    let start = if skipped > 0 { "…" } else { "" };
    let before = format!("{start}{}", shown(line.chars().take(at).skip(skipped).collect()));
    let rest: String = line.chars().skip(at).take(AFTER_MAX).collect();
    let end = if line.chars().count() > at + AFTER_MAX { "…" } else { "" };
    let word = word(&rest);
    let after = shown(rest.chars().skip(word.chars().count()).collect());
    let word = shown(word);
    let width = word.chars().count().max(1);
    Some((format!("{before}{word}{after}{end}"), before.chars().count(), width))
}

/// The word, reference or text at the beginning.
fn word(rest: &str) -> String {
    match rest.chars().next() {
        Some(quote @ ('"' | '`')) => {
            let inside = rest.chars().skip(1).take_while(|c| *c != quote).count();
            rest.chars().take(inside + 2).collect()
        }
        _ => rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.')).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, column: u32) -> Vec<String> {
        let fault = BundleFault::new("a.rego", "wrong", "mend it").at(1, column);
        let texts = BTreeMap::from([("a.rego".to_owned(), text.to_owned())]);
        let mut out = Vec::new();
        Finding { fault, severity: Severity::Error }.show(&texts, &mut out).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_caret_stands_under_the_word_whatever_stands_before_it() {
        let lines = shown("\t\"é\" == ïnput.y + 1", 9);
        assert_eq!(lines[0], "a.rego:1:9: wrong");
        assert_eq!(lines[1], "1 |     \"é\" == ïnput.y + 1");
        assert_eq!(lines[2], "  |            ^^^^^^^");
        assert_eq!(lines[3], "  = mend it");
    }

    #[test]
    fn text_that_hides_or_reorders_is_shown_for_what_it_is() {
        let lines = shown("x := \"\u{202e}\" == y", 13);
        assert!(!lines[1].contains('\u{202e}') && lines[1].contains("202e"), "{lines:#?}");
        assert_eq!(lines[2].find('^'), lines[1].find('y'), "{lines:#?}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let lines = shown(&format!("{}here{}", "a ".repeat(300), " b".repeat(300)), 601);
        assert!(lines[1].chars().count() < 140, "{lines:#?}");
        let at = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().skip(at).take(4).collect::<String>(), "here", "{lines:#?}");
    }

    #[test]
    fn a_place_that_is_not_in_the_file_shows_no_line() {
        assert_eq!(shown("", 7).len(), 2);
    }
}
