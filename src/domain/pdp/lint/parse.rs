//! Reading Rego, and saying where it is none.
//!
//! Promises: every file is read; one that cannot be is read again rule by rule, so that a slip in one
//! rule does not hide another's; each error has the line and column that editors count; Rego that
//! is newer than the engine is told as such. Called by `pdp::lint`.

use regorus::Engine;
use regorus::Source;
use regorus::unstable::Lexer;
use regorus::unstable::TokenKind;

use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;

/// Rules that are read one by one to find every error of a file.
const PIECES_MAX: usize = 1_000;

/// Words that go on with a rule when they begin a line.
const GOES_ON: [&str; 9] = ["else", "if", "contains", "in", "with", "as", "some", "every", "not"];

/// Words that may stand after a `.` in newer Rego, and before it in no Rego.
const KEYWORDS: [&str; 14] = [
    "as", "contains", "default", "else", "every", "false", "if", "import", "in", "not", "null", "package", "some",
    "true",
];

/// Parses every file into `engine`, and reports the errors of each.
pub(super) fn files(engine: &mut Engine, files: &[(String, String)]) -> Result<(), Vec<BundleFault>> {
    let mut faults = Vec::new();
    for (path, text) in files {
        if let Err(cause) = engine.add_policy(path.clone(), text.clone()) {
            let each = pieces(path, text);
            faults.extend(if each.is_empty() { vec![fault_of(&cause.to_string())] } else { each });
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The error of each rule of a file whose rules begin at the first column.
fn pieces(path: &str, text: &str) -> Vec<BundleFault> {
    let Some(starts) = starts(path, text) else { return Vec::new() };
    let Some((header, _)) = starts.first().and_then(|first| text.split_at_checked(*first)) else { return Vec::new() };
    if starts.len() > PIECES_MAX || parsed(path, header).is_err() {
        return Vec::new();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let errors = starts.iter().zip(ends).filter_map(|(start, end)| {
        let blank = "\n".repeat(text.get(header.len()..*start)?.matches('\n').count());
        parsed(path, &format!("{header}{blank}{}", text.get(*start..end)?.trim_end())).err()
    });
    errors.collect()
}

fn parsed(path: &str, text: &str) -> Result<(), BundleFault> {
    let read = Engine::new().add_policy(path.to_owned(), text.to_owned());
    read.map(drop).map_err(|cause| fault_of(&cause.to_string()))
}

/// Where rules begin; nothing when the file is no row of tokens.
fn starts(path: &str, text: &str) -> Option<Vec<usize>> {
    let source = Source::from_contents(path.to_owned(), text.to_owned()).ok()?;
    let mut lexer = Lexer::new(&source);
    let mut starts = Vec::new();
    loop {
        let token = lexer.next_token().ok()?;
        let word = token.1.text();
        match token.0 {
            TokenKind::Eof => return Some(starts),
            TokenKind::Ident
                if token.1.col == 1 && !GOES_ON.contains(&word) && word != "package" && word != "import" =>
            {
                starts.push(usize::try_from(token.1.start).ok()?);
            }
            _ => {}
        }
    }
}

/// Reads regorus' words: `--> file:line:col`, the source line, a caret, `error: …`.
pub(super) fn fault_of(words: &str) -> BundleFault {
    let message = words.lines().rev().find_map(|line| line.split_once("error: ")).map_or(words, |(_, message)| message);
    let mut lines = words.lines().skip_while(|line| !line.trim().starts_with("--> "));
    let Some(place) = lines.next().and_then(|line| line.trim().strip_prefix("--> ")) else {
        return told("", message.trim(), "", 0);
    };
    let mut parts = place.rsplitn(3, ':');
    let (column, line, path) = (parts.next(), parts.next(), parts.next());
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let (Some(line), Some(column), Some(path)) = (number(line), number(column), path) else {
        return told(place, message.trim(), "", 0);
    };
    let source = lines.nth(1).and_then(|shown| shown.split_once("| ")).map_or("", |(_, source)| source);
    let at = characters(source, column);
    told(path, message.trim(), source, at).at(line, u32::try_from(at + 1).unwrap_or(column))
}

/// The lexer counts bytes, and a tab as four.
fn characters(source: &str, column: u32) -> usize {
    let mut passed = 1;
    source
        .chars()
        .take_while(|c| {
            let here = passed;
            passed += if *c == '\t' { 4 } else { c.len_utf8() };
            here < usize::try_from(column).unwrap_or(0)
        })
        .count()
}

fn told(path: &str, message: &str, source: &str, at: usize) -> BundleFault {
    let before: String = source.chars().take(at).collect();
    let rest: String = source.chars().skip(at).collect();
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let newer = |message: &str, remedy: &str| BundleFault::new(path, message, remedy).coded(Code::UnsupportedSyntax);
    if rest.starts_with("$\"") || rest.starts_with("$`") {
        let message = "text with `{…}` in it is newer than the Rego that the gateway runs";
        return newer(message, "write `sprintf(\"… %s …\", [value])`");
    }
    if before.ends_with('.') && KEYWORDS.contains(&word.as_str()) {
        let message = format!("`.{word}`: a keyword after a dot is newer than the Rego that the gateway runs");
        return newer(&message, &format!("write `[\"{word}\"]`"));
    }
    let remedy = match message {
        _ if message.contains("if") && message.contains("keyword") => {
            "write `if` before the body, as in `allow if { … }`"
        }
        _ if rest.is_empty() => "close what is open: look for a missing `}`, `]`, `)` or quote before this place",
        _ => "correct the rule there",
    };
    BundleFault::new(path, message, remedy).coded(Code::ParseError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<BundleFault> {
        files(&mut Engine::new(), &[("a.rego".to_owned(), text.to_owned())]).err().unwrap_or_default()
    }

    #[test]
    fn a_slip_in_one_rule_hides_no_other() {
        let text =
            "package a\n\nimport data.x\n\none if {\n\t1 ==\n}\n\ntwo := 2\n\nthree := [1\n\nfour if {\n\tx := )\n}\n";
        let places: Vec<_> = faults(text).iter().map(|fault| fault.line).collect();
        assert_eq!(places.len(), 3, "{:#?}", faults(text));
        assert!((5..=7).contains(&places[0]) && places[1] == 11 && places[2] == 14, "{places:?}");
    }

    #[test]
    fn a_place_is_what_editors_count() {
        let found = faults("package a\n\nx if {\n\t\t\"naïve\" == )\n}\n");
        assert_eq!((found[0].line, found[0].column), (4, 14), "{found:#?}");
    }

    #[test]
    fn newer_rego_is_told_as_such() {
        for (text, words) in [("x := $\"{1}\"", "newer"), ("x := input.a if $`{1}` == \"1\"", "newer")] {
            let found = faults(&format!("package a\n\n{text}\n"));
            assert!(found[0].message.contains(words) && found[0].code == Code::UnsupportedSyntax, "{text}: {found:#?}");
        }
    }
}
