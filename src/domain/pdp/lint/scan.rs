//! Looks at tokens before the parser does.
//!
//! Promises: a file that passes cannot exhaust the stack of parser, analyser or engine by its
//! shape: brackets, chains of operators and rows of signs are bounded. Uses regorus' own lexer, so
//! that both agree on what is a string or a comment. Called by `pdp::lint`.

use std::collections::BTreeSet;

use regorus::Source;
use regorus::unstable::Lexer;
use regorus::unstable::Span;
use regorus::unstable::TokenKind;

use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::fault_of;

/// Brackets within brackets. The parser allows 32 parentheses and, unasked, any number of the rest.
const BRACKETS_MAX: usize = 32;

/// Operators and `.` steps in one expression; each is one level of the syntax tree.
const CHAIN_MAX: usize = 128;

/// Minus signs in a row.
const SIGNS_MAX: usize = 4;

/// Checks one file.
pub(super) fn check(path: &str, text: &str) -> Result<(), BundleFault> {
    let source = Source::from_contents(path.to_owned(), text.to_owned())
        .map_err(|cause| BundleFault::new(path, cause.to_string(), "split the file by concern").coded(Code::TooDeep))?;
    let mut lexer = Lexer::new(&source);
    let mut shape = Shape { chains: vec![0], signs: 0, operand: false };
    loop {
        let token = lexer.next_token().map_err(|cause| fault_of(&cause.to_string()))?;
        if token.0 == TokenKind::Eof {
            return Ok(());
        }
        shape.take(&token.0, &token.1)?;
    }
}

/// Every name and text in a file, up to where it is no Rego.
pub(super) fn words(path: &str, text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(source) = Source::from_contents(path.to_owned(), text.to_owned()) else { return found };
    let mut lexer = Lexer::new(&source);
    while let Ok(token) = lexer.next_token() {
        match token.0 {
            TokenKind::Eof => break,
            TokenKind::Ident | TokenKind::String | TokenKind::RawString => {
                found.insert(token.1.text().to_owned());
            }
            _ => {}
        }
    }
    found
}

struct Shape {
    /// Length of the running chain, one per open bracket.
    chains: Vec<usize>,
    signs: usize,
    /// Whether the last token could end an operand, so that another operand starts anew.
    operand: bool,
}

impl Shape {
    fn take(&mut self, kind: &TokenKind, span: &Span) -> Result<(), BundleFault> {
        let word = span.text();
        let symbol = *kind == TokenKind::Symbol;
        self.signs = if symbol && word == "-" { self.signs + 1 } else { 0 };
        if self.signs > SIGNS_MAX {
            return Err(fault_at(span, Code::TooDeep, "too many minus signs in a row", "write the number as it is"));
        }
        let after_operand = std::mem::replace(&mut self.operand, false);
        match word {
            "(" | "[" | "{" if symbol => {
                // A bracket right after an operand is a call, an index or a body: one more step.
                self.step(usize::from(after_operand), span)?;
                self.chains.push(0);
                if self.chains.len() > BRACKETS_MAX + 1 {
                    return Err(fault_at(
                        span,
                        Code::TooDeep,
                        format!("brackets are nested deeper than {BRACKETS_MAX}"),
                        "give the inner parts names of their own, as rules",
                    ));
                }
            }
            ")" | "]" | "}" if symbol => {
                if self.chains.len() > 1 {
                    self.chains.pop();
                }
                self.operand = true;
            }
            "," | ";" if symbol => self.restart(),
            _ if symbol || word == "in" => self.step(1, span)?,
            _ => {
                if after_operand {
                    self.restart();
                }
                self.operand = true;
            }
        }
        Ok(())
    }

    fn restart(&mut self) {
        if let Some(chain) = self.chains.last_mut() {
            *chain = 0;
        }
    }

    fn step(&mut self, by: usize, span: &Span) -> Result<(), BundleFault> {
        let Some(chain) = self.chains.last_mut() else { return Ok(()) };
        *chain += by;
        if *chain > CHAIN_MAX {
            return Err(fault_at(
                span,
                Code::TooDeep,
                format!("one expression has more than {CHAIN_MAX} operators"),
                "split it into rules, or keep the values in a data file",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_exhaust_a_stack_are_refused_before_parsing() {
        let lines = |item: &str, n: usize| format!("{item}\n").repeat(n);
        let table = [
            ("arrays", format!("package a\nx := {}{}", lines("[", 9_000), lines("]", 9_000))),
            ("objects", format!("package a\nx := {}1{}", lines("{\"a\":", 9_000), lines("}", 9_000))),
            ("parentheses", format!("package a\nx := {}1{}", lines("(", 9_000), lines(")", 9_000))),
            ("comprehensions", format!("package a\nx := {}1{}", lines("[1 |", 9_000), lines("]", 9_000))),
            ("signs", format!("package a\nx := {}1", lines("-", 9_000))),
            ("sums", format!("package a\nx := 1{}", lines(" +\n1", 9_000))),
            ("unions", format!("package a\nx := {{1}}{}", lines(" |\n{1}", 9_000))),
            ("members", format!("package a\nx if 1{}", lines(" in\n[1]", 9_000))),
            ("steps", format!("package a\nx := input{}", ".a".repeat(400))),
            ("indexes", format!("package a\nx := input{}", "[0]".repeat(300))),
            ("comparisons", format!("package a\nx := 1{}", lines(" ==\n1", 9_000))),
            ("unbalanced", format!("package a\nx := {}", lines("[", 9_000))),
        ];
        for (name, text) in table {
            assert!(check("a.rego", &text).is_err(), "{name} passed");
        }
    }

    #[test]
    fn long_but_flat_files_pass() {
        let rule = |n: u32| format!("r{n} := input.a.b[\"c\"] if {{ input.x == {n}; not input.y + 1 > 2 }}\n");
        let text: String = std::iter::once("package a\n".to_owned()).chain((0..2_000).map(rule)).collect();
        check("a.rego", &text).unwrap();
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let text = format!("package a\n# {0}\nx := \"{0}\"\ny := `{0}`", "[".repeat(100));
        check("a.rego", &text).unwrap();
    }
}
