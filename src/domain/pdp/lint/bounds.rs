//! Functions whose answer may be far larger than what they are given.
//!
//! Promises: a call that could fill the memory or take minutes inside one function is refused unless
//! what sets its size is written in the rule. Instructions and time are counted between functions and
//! not inside them, and the self-test does not reach every call. Called by `pdp::lint::calls`.

use regorus::unstable::Expr;
use regorus::unstable::Ref;
use regorus::unstable::Span;

use crate::domain::pdp::ast;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;

/// Numbers that a range may have. A policy counts tasks and days.
const RANGE_MAX: u64 = 10_000;

/// Width and precision that a format may ask for.
const WIDTH_MAX: u32 = 100;

/// Bits that a number may be shifted by; numbers have no bound of their own.
const SHIFT_MAX: i64 = 64;

/// What is wrong with a call of the built-in `name`, if its answer has no bound.
pub(super) fn check(name: &str, span: &Span, arguments: &[Ref<Expr>]) -> Option<BundleFault> {
    let fault = |message: String, remedy: &str| Some(fault_at(span, Code::UnboundedBuiltin, message, remedy));
    let written = |at: usize| arguments.get(at).is_some_and(|expr| ast::constant(expr));
    match name {
        "numbers.range" | "numbers.range_step" => match (whole(arguments, 0), whole(arguments, 1)) {
            (Some(from), Some(to)) if from.abs_diff(to) < RANGE_MAX => None,
            (Some(_), Some(_)) => fault(
                format!("`{name}` would make more than {RANGE_MAX} numbers"),
                "compare with `>=` and `<=` instead of listing numbers",
            ),
            _ => fault(
                format!("the bounds of `{name}` are not written out, so that it may fill the memory"),
                "write both bounds as numbers, or go over what there is with `some n, item in list`",
            ),
        },
        "sprintf" => format(arguments).and_then(|message| {
            let remedy = "write the format where it is used, as in `sprintf(\"%s of %d\", [name, count])`";
            fault(message, remedy)
        }),
        "bits.lsh" if !whole(arguments, 1).is_some_and(|by| (0..=SHIFT_MAX).contains(&by)) => fault(
            format!("`bits.lsh` shifts by what is not written out or is more than {SHIFT_MAX} bits"),
            "write a small number to shift by",
        ),
        "net.cidr_expand" => fault(
            "`net.cidr_expand` lists every address of a network, which may fill the memory".to_owned(),
            "ask `net.cidr_contains(network, address)`",
        ),
        "concat" if !written(0) => fault(
            "the delimiter of `concat` is not written out, so that the text may grow without bound".to_owned(),
            "write the delimiter as text",
        ),
        "replace" | "regex.replace" if !written(0) && !written(2) => fault(
            format!("neither text nor replacement of `{name}` is written out, so that the text may grow without bound"),
            "write one of the two as text",
        ),
        "strings.replace_n" if !written(0) && !written(1) => fault(
            "neither text nor replacements of `strings.replace_n` are written out, so that the text may grow without \
             bound"
                .to_owned(),
            "write one of the two out",
        ),
        "json.marshal_with_options" if !written(1) => fault(
            "the options of `json.marshal_with_options` are not written out, so that the text may grow without bound"
                .to_owned(),
            "write the options out, or use `json.marshal`",
        ),
        _ => None,
    }
}

/// A whole number as it is written, with its sign.
fn whole(arguments: &[Ref<Expr>], at: usize) -> Option<i64> {
    let (number, negative) = match arguments.get(at)?.as_ref() {
        Expr::UnaryExpr { expr, .. } => (expr.as_ref(), true),
        expr => (expr, false),
    };
    let Expr::Number { value, .. } = number else { return None };
    let value = value.as_i64().ok()?;
    if negative { value.checked_neg() } else { Some(value) }
}

/// What is wrong with the format of `sprintf`.
fn format(arguments: &[Ref<Expr>]) -> Option<String> {
    let (Expr::String { value, .. } | Expr::RawString { value, .. }) = arguments.first()?.as_ref() else {
        return Some("the format of `sprintf` is not written out, so that it may ask for any width".to_owned());
    };
    let text = value.as_string().ok()?;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' || chars.next_if_eq(&'%').is_some() {
            continue;
        }
        let mut width = Some(0_u32);
        while let Some(c) = chars.next_if(|c| *c == '.' || c.is_numeric()) {
            width = match (c, c.to_digit(10)) {
                ('.', _) => width,
                (_, digit) => width.zip(digit).and_then(|(width, digit)| width.checked_mul(10)?.checked_add(digit)),
            };
        }
        if width.is_none_or(|width| width > WIDTH_MAX) {
            return Some(format!("a format of `sprintf` asks for a width of more than {WIDTH_MAX}"));
        }
    }
    None
}
