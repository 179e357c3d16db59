//! Roots: the parts of `data` that an archive fills.
//!
//! Promises: ours name exactly the packages and the data of the bundle; a package or a value outside
//! the roots of an archive is refused, as are roots that overlap. Reads no further into a policy file
//! than its package line. Called by `pdp::archive`.

use regorus::Source;
use regorus::unstable::Lexer;
use regorus::unstable::TokenKind;
use serde_json::Value;

use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::Code;
use crate::domain::pdp::archive::MANIFEST;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;

/// Roots told in one fault.
const SHOWN_MAX: usize = 8;

/// The roots of a bundle, each once, none within another.
pub(super) fn of(bundle: &Bundle) -> Result<Vec<String>, ArchiveFault> {
    let mut all: Vec<Vec<String>> = Vec::new();
    for (path, text) in bundle.files() {
        all.push(package(path, text)?);
    }
    all.extend(bundle.data().as_object().into_iter().flatten().map(|(name, _)| vec![name.clone()]));
    // Sorted, a root stands before all that lie within it.
    all.sort();
    let mut roots: Vec<Vec<String>> = Vec::new();
    for path in all {
        if !roots.last().is_some_and(|last| path.starts_with(last)) {
            roots.push(path);
        }
    }
    Ok(roots.into_iter().map(|path| path.join("/")).collect())
}

/// Refuses what lies outside `roots`; without roots everything is inside.
pub(super) fn check(roots: Option<&[String]>, bundle: &Bundle) -> Result<(), Vec<ArchiveFault>> {
    let Some(roots) = roots else { return Ok(()) };
    let split: Vec<Vec<&str>> = roots
        .iter()
        .map(|root| root.trim_matches('/'))
        .map(|root| if root.is_empty() { Vec::new() } else { root.split('/').collect() })
        .collect();
    if let Some((one, other)) = overlapping(&split) {
        let message = format!("the roots `{}` and `{}` overlap", one.join("/"), other.join("/"));
        return Err(vec![ArchiveFault::new(Code::OutsideRoots, MANIFEST, message, "keep the wider of the two")]);
    }
    let mut faults = Vec::new();
    let outside = |file: &str, what: String| {
        let shown: Vec<&str> = roots.iter().map(String::as_str).take(SHOWN_MAX).collect();
        let message = format!("{what} lies outside the roots of the manifest ({})", shown.join(", "));
        ArchiveFault::new(Code::OutsideRoots, file, message, "add its root to the manifest, or move it")
    };
    for (path, text) in bundle.files().iter().chain(bundle.tests()) {
        match package(path, text) {
            Err(fault) => faults.push(fault),
            Ok(package) if within(&split, &package) => {}
            Ok(package) => faults.push(outside(path, format!("package `{}`", package.join(".")))),
        }
    }
    if let Some(stray) = stray(&split, bundle.data(), &mut Vec::new()) {
        faults.push(outside("", format!("`data.{}`", stray.join("."))));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn overlapping<'a>(roots: &'a [Vec<&'a str>]) -> Option<(&'a [&'a str], &'a [&'a str])> {
    roots.iter().enumerate().find_map(|(place, one)| {
        let other = roots.iter().skip(place + 1).find(|other| one.starts_with(other) || other.starts_with(one))?;
        Some((one.as_slice(), other.as_slice()))
    })
}

fn within(roots: &[Vec<&str>], path: &[String]) -> bool {
    roots.iter().any(|root| root.len() <= path.len() && root.iter().zip(path).all(|(a, b)| a == b))
}

/// A place with data that lies in no root. Objects on the way to a root are none.
fn stray(roots: &[Vec<&str>], value: &Value, at: &mut Vec<String>) -> Option<Vec<String>> {
    if within(roots, at) {
        return None;
    }
    let on_the_way = roots.iter().any(|root| at.len() <= root.len() && at.iter().zip(root).all(|(a, b)| a == b));
    let Value::Object(members) = value else { return Some(at.clone()) };
    // INVARIANT: empty data fills nothing, so no root need cover it.
    if !on_the_way && !at.is_empty() {
        return Some(at.clone());
    }
    members.iter().find_map(|(name, member)| {
        at.push(name.clone());
        let found = stray(roots, member, at);
        at.pop();
        found
    })
}

/// The package of a policy file: `package a.b["c"]` is `[a, b, c]`.
///
/// By the engine's own lexer, so that both read the same. No parser has seen the file yet.
fn package(path: &str, text: &str) -> Result<Vec<String>, ArchiveFault> {
    let unread = || {
        let remedy = "begin the file with `package`, as in `package loopiq.gateway`";
        ArchiveFault::from(BundleFault::new(path, "its package cannot be read", remedy))
    };
    let source = Source::from_contents(path.to_owned(), text.to_owned()).map_err(|_| unread())?;
    let mut lexer = Lexer::new(&source);
    let mut next = || lexer.next_token().map(|token| (token.0, token.1)).map_err(|_| unread());
    let (kind, span) = next()?;
    if kind != TokenKind::Ident || span.text() != "package" {
        return Err(unread());
    }
    let mut line = span.line;
    let mut names = Vec::new();
    loop {
        let (kind, span) = next()?;
        match (kind, span.text()) {
            (TokenKind::Ident, name) if names.is_empty() => names.push(name.to_owned()),
            (TokenKind::Symbol, ".") if span.line == line => match next()? {
                (TokenKind::Ident, name) => names.push(name.text().to_owned()),
                _ => return Err(unread()),
            },
            (TokenKind::Symbol, "[") if span.line == line => match (next()?, next()?.1.text()) {
                ((TokenKind::String | TokenKind::RawString, name), "]") => {
                    names.push(name.text().trim_matches(['"', '`']).to_owned());
                }
                _ => return Err(unread()),
            },
            _ if names.is_empty() => return Err(unread()),
            _ => return Ok(names),
        }
        line = span.line;
    }
}
