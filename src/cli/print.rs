//! The one place that writes to standard output and standard error for commands.
//!
//! Promises: a closed pipe ends a listing quietly; colours reach terminals only, and not those
//! whose owner set `NO_COLOR`; text from outside has nothing left that hides, reorders or is obeyed,
//! once it went through [`plain`] or [`plain_json`]. Never logs. Called by the commands.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::Value;

use crate::domain::catalog::text::is_hidden;

/// What went well.
pub const GOOD: &str = "\u{1b}[32m";
/// What did not.
pub const BAD: &str = "\u{1b}[1;31m";
/// What stands out: headings.
pub const STRONG: &str = "\u{1b}[1m";
/// Back to the terminal's own.
pub const PLAIN: &str = "\u{1b}[0m";

/// Columns that text is laid out for; most terminals have at least these.
pub const WIDTH: usize = 100;
/// Columns of what people must be able to judge on any terminal.
pub const NARROW: usize = 80;

/// A line for people or programs on standard output.
pub fn line(text: &str) {
    // A reader that has gone away wants no more.
    let _gone = writeln!(anstream::stdout().lock(), "{text}");
}

/// A line for people on standard error.
pub fn error(text: &str) {
    // Nobody is left to tell.
    let _gone = writeln!(anstream::stderr().lock(), "{text}");
}

/// Why a command could not do its work, as the parser of the command line says it.
pub fn failed(text: &str) {
    error(&format!("{BAD}error:{PLAIN} {text}"));
}

/// A number of things: `1 fault`, `2 faults`.
#[must_use]
pub fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Text in lines of at most [`WIDTH`] columns, all but the first indented; words stay whole.
#[must_use]
pub fn wrapped(text: &str, indent: usize) -> String {
    let room = WIDTH.saturating_sub(indent).max(20);
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// Text in lines of at most [`NARROW`] columns; a word that is longer than a line is cut over several.
#[must_use]
pub fn folded(text: &str, indent: usize) -> String {
    folded_within(text, indent, NARROW)
}

/// The same in lines of at most `width` columns.
#[must_use]
pub fn folded_within(text: &str, indent: usize, width: usize) -> String {
    let room = width - indent.min(width / 2);
    let mut lines: Vec<String> = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push(String::new());
            used = 0;
        } else if used > 0 || lines.last().is_some_and(|line| !line.is_empty()) {
            lines.last_mut().into_iter().for_each(|line| line.push(' '));
            used += 1;
        }
        for c in word.chars() {
            if used == room {
                lines.push(String::new());
                used = 0;
            }
            lines.last_mut().into_iter().for_each(|line| line.push(c));
            used += 1;
        }
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

/// JSON over several lines, none of which it can leave; what is short stays on one.
#[must_use]
pub fn block(value: &Value) -> String {
    let mut lines = Vec::new();
    laid_out(value, 2, "", "", &mut lines);
    lines.join("\n")
}

fn laid_out(value: &Value, indent: usize, name: &str, end: &str, lines: &mut Vec<String>) {
    let pad = " ".repeat(indent);
    let whole = format!("{name}{}", plain_json(&value.to_string()));
    let inner: Vec<(String, &Value)> = match value {
        _ if indent + whole.chars().count() < NARROW => Vec::new(),
        Value::Object(members) => {
            let named = |name: &String| format!("{}: ", plain_json(&Value::from(name.as_str()).to_string()));
            members.iter().map(|(name, value)| (named(name), value)).collect()
        }
        Value::Array(items) => items.iter().map(|item| (String::new(), item)).collect(),
        _ => Vec::new(),
    };
    if inner.is_empty() {
        lines.push(format!("{pad}{}", folded(&format!("{whole}{end}"), indent + 4)));
        return;
    }
    let (open, close) = if value.is_object() { ('{', '}') } else { ('[', ']') };
    lines.push(format!("{pad}{}", folded(&format!("{name}{open}"), indent + 4)));
    let last = inner.len() - 1;
    for (at, (name, item)) in inner.into_iter().enumerate() {
        laid_out(item, indent + 2, &name, if at == last { "" } else { "," }, lines);
    }
    lines.push(format!("{pad}{close}{end}"));
}

/// Text for a terminal: one line, nothing that hides, reorders or is obeyed.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// JSON for a terminal: the same value, with everything hidden in it escaped.
#[must_use]
pub fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Valid JSON has these between its members only; within a string they are escaped already.
            '\t' | '\r' | '\n' => plain.push(' '),
            c if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // WHY: writing to a `String` cannot fail.
                    let _infallible = write!(plain, "\\u{unit:04x}");
                }
            }
            c => plain.push(c),
        }
    }
    plain
}

/// Milliseconds since the Unix epoch as RFC 3339.
#[must_use]
pub fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_keeps_to_the_width_and_under_its_first_line() {
        let text = wrapped(&"policy ".repeat(40), 12);
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with(&" ".repeat(12))), "{text}");
        assert_eq!(wrapped("short", 12), "short");
        let long = "x".repeat(300);
        assert_eq!(wrapped(&long, 12), long, "a word is not cut");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!((count(1, "fault"), count(2, "fault")), ("1 fault".to_owned(), "2 faults".to_owned()));
    }
}
