//! Types and values that never go together.
//!
//! Promises: a comparison that is the same for every input, a loop over what has no items and a
//! built-in given what it does not take are refused; so is a value that a field never has. Only
//! what can never be right is told. Called by `pdp::lint::types`.

use regorus::unstable::ArithOp;
use regorus::unstable::Expr;
use regorus::unstable::Ref;
use regorus::unstable::Span;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Chain;
use crate::domain::pdp::ast::Comparison;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::Findings;
use crate::domain::pdp::lint::builtins;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::graph::Target;
use crate::domain::pdp::lint::nearest;
use crate::domain::pdp::lint::types::Place;
use crate::domain::pdp::lint::types::Types;
use crate::domain::pdp::lint::types::kinds::Kinds;
use crate::domain::pdp::lint::types::shape::Shape;

/// Letters of an expression that a message quotes.
const WORDS_MAX: usize = 60;

/// Checks what one node puts together.
pub(super) fn check<'a>(types: &Types<'a>, place: &Place<'a>, node: &Node<'a>, found: &mut Findings) {
    let clash = Clash { types, place };
    match node {
        Node::Compare(Comparison::In, value, list) => clash.member(value, list, &mut found.faults),
        Node::Compare(how, left, right) => found.faults.extend(clash.compared(*how, left, right)),
        Node::Arith(op, left, right) => found.faults.extend(clash.arithmetic(op, left, right)),
        Node::Loop(key, value, list) => clash.looped(*key, *value, list, &mut found.faults),
        Node::Call(chain, arguments) => found.faults.extend(clash.called(chain, arguments)),
        Node::Ref(_) | Node::Value(_) | Node::Element(_) | Node::Query(_) | Node::With(_) => {}
    }
}

struct Clash<'t, 'a> {
    types: &'t Types<'a>,
    place: &'t Place<'a>,
}

impl<'a> Clash<'_, 'a> {
    fn of(&self, expr: &'a Expr) -> Shape {
        self.types.of(self.place, expr)
    }

    fn compared(&self, how: Comparison, left: &'a Expr, right: &'a Expr) -> Option<BundleFault> {
        let (one, other) = (self.of(left), self.of(right));
        if !one.kinds.meets(other.kinds) {
            let never = match how {
                Comparison::NotEqual => "so they always differ",
                Comparison::Order => "so the one is always the smaller",
                Comparison::Equal | Comparison::In => "so they are never equal",
            };
            let (first, second) = (described(left, &one), described(right, &other));
            let remedy = listed(left, &one, right, &other).or_else(|| listed(right, &other, left, &one));
            let remedy = remedy.unwrap_or_else(|| "compare values of the same type".to_owned());
            return Some(clash(left.span(), format!("{first} and {second}, {never}"), remedy));
        }
        if how == Comparison::Order {
            return None;
        }
        impossible(&one, right, left).or_else(|| impossible(&other, left, right))
    }

    fn member(&self, value: &'a Expr, list: &'a Expr, faults: &mut Vec<BundleFault>) {
        let (one, other) = (self.of(value), self.of(list));
        let Ok(each) = other.each() else {
            let message = format!("{}, and `in` looks into an array, a set or an object", described(list, &other));
            return faults.push(clash(list.span(), message, "compare with `==`, or put it in a set: `{…}`"));
        };
        if let Expr::Array { items, .. } | Expr::Set { items, .. } = list {
            return faults.extend(items.iter().filter_map(|item| self.compared(Comparison::Equal, value, item)));
        }
        if !one.kinds.meets(each.kinds) {
            let message = format!("{}, and in `{}` is {}", described(value, &one), quoted(list), each.kinds.words());
            return faults.push(clash(value.span(), message, "look for a value of the same type"));
        }
        faults.extend(impossible(&each, value, list));
    }

    fn arithmetic(&self, op: &ArithOp, left: &'a Expr, right: &'a Expr) -> Option<BundleFault> {
        let takes = match op {
            ArithOp::Sub => Kinds::NUMBER.or(Kinds::SET),
            ArithOp::Add | ArithOp::Mul | ArithOp::Div | ArithOp::Mod => Kinds::NUMBER,
        };
        [left, right].into_iter().find_map(|side| {
            let shape = self.of(side);
            let remedy = if shape.kinds == Kinds::STRING {
                "put text together with `concat` or `sprintf`; make a number of it with `to_number`"
            } else {
                "count with numbers only"
            };
            let message = || format!("{}, and this takes {}", described(side, &shape), takes.words());
            (!shape.kinds.meets(takes)).then(|| clash(side.span(), message(), remedy))
        })
    }

    fn looped(&self, key: Option<&'a Expr>, value: Option<&'a Expr>, list: &'a Expr, faults: &mut Vec<BundleFault>) {
        let shape = self.of(list);
        let Ok(each) = shape.each() else {
            let message = format!("{}, and has nothing to go over", described(list, &shape));
            return faults.push(clash(list.span(), message, "go over an array, a set or an object"));
        };
        for (pattern, found) in key.map(|key| (key, shape.keys())).into_iter().chain(value.map(|value| (value, each))) {
            let wanted = self.of(pattern);
            if ast::constant(pattern) && !wanted.kinds.meets(found.kinds) {
                let message =
                    format!("{}, and in `{}` is {}", described(pattern, &wanted), quoted(list), found.kinds.words());
                faults.push(clash(pattern.span(), message, "look for a value of the same type"));
            }
        }
    }

    fn called(&self, chain: &Chain<'a>, arguments: &'a [Ref<Expr>]) -> Option<BundleFault> {
        let own = self.place.rule.view.absolute(chain, &self.place.scope);
        if own.is_some_and(|path| matches!(self.types.index.target(&path), Target::Rule(_))) {
            return None;
        }
        let name = chain.dotted()?;
        let signature = builtins::signature(&name)?;
        arguments.iter().zip(signature.takes).find_map(|(argument, takes)| {
            let shape = self.of(argument);
            let message = || format!("{}, and `{name}` takes {} there", described(argument, &shape), takes.words());
            let remedy = if shape.kinds == Kinds::ARRAY && takes.meets(Kinds::STRING) {
                format!("ask it of each: `some item in {}; {name}(…)`", quoted(argument))
            } else {
                format!("give it {}", takes.words())
            };
            (!shape.kinds.meets(takes)).then(|| clash(argument.span(), message(), remedy))
        })
    }
}

fn clash(span: &Span, message: String, remedy: impl Into<String>) -> BundleFault {
    fault_at(span, Code::TypeClash, message, remedy)
}

/// `"x" in list`, for who compares a list with one of its items.
fn listed(list: &Expr, shape: &Shape, item: &Expr, other: &Shape) -> Option<String> {
    let is_list = shape.kinds.and(Kinds::ARRAY.or(Kinds::SET)) == shape.kinds;
    let items = shape.each().ok().filter(|each| is_list && each.kinds.meets(other.kinds))?;
    (!items.is_any() || ast::constant(item)).then(|| format!("write `{} in {}`", quoted(item), quoted(list)))
}

/// A text that is written out where a field never has it.
fn impossible(shape: &Shape, text: &Expr, field: &Expr) -> Option<BundleFault> {
    let values = shape.values.as_ref()?;
    let given = ast::text(text)?;
    (!values.contains(&given)).then(|| {
        let all = values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", ");
        let remedy = match nearest(&given, values.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "compare with one of them".to_owned(),
        };
        let message = format!("`{}` is never \"{given}\"; it is one of {all}", quoted(field));
        fault_at(text.span(), Code::ImpossibleValue, message, remedy)
    })
}

fn described(expr: &Expr, shape: &Shape) -> String {
    format!("`{}` is {}", quoted(expr), shape.kinds.words())
}

/// An expression as it is written, on one line.
fn quoted(expr: &Expr) -> String {
    let words = ast::written(expr).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut letters = words.chars();
    let kept: String = letters.by_ref().take(WORDS_MAX).collect();
    if letters.next().is_some() { format!("{kept}…") } else { kept }
}
