//! The text of a piece of Rego, as its author wrote it.
//!
//! Promises: the whole of it, although the parser's spans leave out quotes and the beginnings of
//! objects. Only looks. Called by `pdp::ast::dissect`.

use regorus::unstable::Expr;
use regorus::unstable::Span;

/// What stands at a span. WHY: the span of a string leaves out its quotes, and so does that of
/// everything that begins or ends with one.
pub(super) fn written(span: &Span) -> String {
    let quote = |byte: Option<&u8>| byte.is_some_and(|byte| [b'"', b'`'].contains(byte));
    let (all, mut start, mut end) = (span.source.contents(), place_in(span.start), place_in(span.end));
    if start > 0 && quote(all.as_bytes().get(start - 1)) {
        start -= 1;
    }
    if quote(all.as_bytes().get(end)) {
        end += 1;
    }
    all.get(start..end).unwrap_or_default().to_owned()
}

/// The text of an expression, which its span does not always cover.
pub(super) fn source(expr: &Expr) -> String {
    match expr {
        Expr::Set { items, .. } if items.is_empty() => "set()".to_owned(),
        Expr::Object { span, fields, .. } => match fields.as_slice() {
            // WHY: the span of an object begins at its last member.
            [(first, _, _), _, ..] => {
                let (all, end) = (span.source.contents(), place_in(span.end));
                let start = opening(all, place_in(first.start)).unwrap_or_default();
                all.get(start..end).unwrap_or_default().to_owned()
            }
            _ => written(span),
        },
        expr => written(expr.span()),
    }
}

/// Where the brace stands before the first member of an object: only blanks and comments lie between.
fn opening(all: &str, member: usize) -> Option<usize> {
    let mut before = all.get(..member)?.trim_end_matches(['"', '`']).trim_end();
    loop {
        if let Some(rest) = before.strip_suffix('{') {
            return Some(rest.len());
        }
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        let comments = before.get(line..)?.match_indices('#').map(|(at, _)| line + at);
        let cut = comments.filter_map(|at| before.get(..at)).map(str::trim_end);
        let candidates: Vec<&str> = cut.collect();
        before = candidates.iter().find(|cut| cut.ends_with('{')).or(candidates.first())?;
    }
}

fn place_in(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
