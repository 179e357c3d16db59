//! Bodies of rules that can never hold.
//!
//! Promises: a statement that is false for every input, and two statements that want one reference to
//! have two values, are refused, and so is an `else` behind a body that always holds. A no that can
//! never be said is worse than none, because people rely on it. Called by `pdp::lint`.

use std::collections::BTreeMap;

use regorus::unstable::AssignOp;
use regorus::unstable::BoolOp;
use regorus::unstable::Expr;
use regorus::unstable::Literal;
use regorus::unstable::Module;
use regorus::unstable::Query;
use regorus::unstable::Ref;
use regorus::unstable::Rule;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Part;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;

/// Checks every body.
pub(super) fn check(modules: &[Ref<Module>]) -> Vec<BundleFault> {
    let mut faults = Vec::new();
    for rule in modules.iter().flat_map(|module| &module.policy) {
        ast::walk(rule, &mut |node, _scope| {
            if let Node::Query(query) = node {
                faults.extend(constant(query));
                faults.extend(contradiction(query));
            }
        });
        faults.extend(idle_else(rule));
    }
    faults
}

/// The first statement that is the same, and no, for every input.
fn constant(query: &Query) -> Option<BundleFault> {
    query.stmts.iter().find_map(|stmt| {
        let (expr, negated) = match &stmt.literal {
            Literal::Expr { expr, .. } => (expr, false),
            Literal::NotExpr { expr, .. } => (expr, true),
            _ => return None,
        };
        (settled(expr)? == negated).then(|| {
            let message = format!("`{}{}` never holds", if negated { "not " } else { "" }, ast::written(expr));
            fault_at(expr.span(), Code::NeverHolds, message, "take the statement or the whole rule away")
        })
    })
}

/// Whether an expression holds, when it says so itself.
fn settled(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::Bool { span, .. } => Some(span.text() == "true"),
        Expr::BoolExpr { op, lhs, rhs, .. } if scalar(lhs) && scalar(rhs) => {
            let same = ast::written(lhs) == ast::written(rhs);
            // Numbers have several forms, and text has two.
            let alike = std::mem::discriminant(lhs.as_ref()) == std::mem::discriminant(rhs.as_ref());
            let known =
                same || (alike && !matches!(lhs.as_ref(), Expr::Number { .. })) || whole(lhs).zip(whole(rhs)).is_some();
            match op {
                BoolOp::Eq => known.then_some(same),
                BoolOp::Ne => known.then_some(!same),
                BoolOp::Lt | BoolOp::Le | BoolOp::Ge | BoolOp::Gt => None,
            }
        }
        _ => None,
    }
}

fn scalar(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. }
    )
}

/// A whole number in its one plain form.
fn whole(expr: &Expr) -> Option<u64> {
    let Expr::Number { span, .. } = expr else { return None };
    span.text().parse().ok().filter(|number: &u64| number.to_string() == span.text())
}

/// Two statements of one body that want the same reference to have two values.
fn contradiction(query: &Query) -> Option<BundleFault> {
    let mut wanted: BTreeMap<String, &Expr> = BTreeMap::new();
    query.stmts.iter().filter(|stmt| stmt.with_mods.is_empty()).find_map(|stmt| {
        let Literal::Expr { expr, .. } = &stmt.literal else { return None };
        let (Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } | Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. }) =
            expr.as_ref()
        else {
            return None;
        };
        let (reference, value) = match (scalar(lhs), scalar(rhs)) {
            (false, true) => (lhs, rhs),
            (true, false) => (rhs, lhs),
            _ => return None,
        };
        let name = one(reference)?;
        let Some(before) = wanted.get(&name) else {
            wanted.insert(name, value);
            return None;
        };
        (differ(before, value)).then(|| {
            let (first, second) = (ast::written(before), ast::written(value));
            let message = format!("`{name}` cannot be {first} and {second} at once, so this body never holds");
            let remedy = format!("write two rules, or `{name} in {{{first}, {second}}}`");
            fault_at(expr.span(), Code::NeverHolds, message, remedy)
        })
    })
}

/// A reference that has one value in a body, by the text that stands for it.
fn one(expr: &Expr) -> Option<String> {
    let chain = ast::chain(expr)?;
    // A wildcard, or a name that nothing declares, is every key in turn.
    let fixed = chain.parts.iter().all(|part| matches!(part, Part::Name(_) | Part::Number));
    (fixed && !chain.root.starts_with('_')).then(|| ast::written(expr))
}

fn differ(one: &Expr, other: &Expr) -> bool {
    let equal = [one, other].map(ast::written);
    let [first, second] = &equal;
    if first == second {
        return false;
    }
    let both = |kind: fn(&Expr) -> bool| kind(one) && kind(other);
    let numbers = both(|expr| matches!(expr, Expr::Number { .. }));
    let texts = both(|expr| ast::text(expr).is_some());
    match (numbers, texts) {
        (true, _) => whole(one).zip(whole(other)).is_some_and(|(one, other)| one != other),
        (_, true) => ast::text(one) != ast::text(other),
        // Values of two types, or two booleans.
        (false, false) => true,
    }
}

/// An `else` behind a body that always holds.
fn idle_else(rule: &Rule) -> Option<BundleFault> {
    let Rule::Spec { bodies, .. } = rule else { return None };
    let pairs = bodies.iter().zip(bodies.iter().skip(1));
    pairs
        .filter(|(before, body)| body.is_else && always(&before.query))
        .map(|(_, body)| {
            let message = "this `else` is never tried, because what stands before it always holds";
            fault_at(&body.span, Code::UnreachableElse, message, "put the condition before it, or take it away")
        })
        .next()
}

fn always(query: &Query) -> bool {
    query.stmts.iter().all(|stmt| match &stmt.literal {
        Literal::Expr { expr, .. } => settled(expr) == Some(true),
        _ => false,
    })
}
