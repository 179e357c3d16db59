//! Data that is searched where it could be looked up.
//!
//! Promises: a loop over a list of the data that keeps the one item whose field is equal to something
//! is pointed out: it takes longer with every row, and an object by that field would not. Keeps a
//! bundle from nothing. Called by `pdp::lint::types`.

use regorus::unstable::AssignOp;
use regorus::unstable::BoolOp;
use regorus::unstable::Expr;
use regorus::unstable::Literal;
use regorus::unstable::Query;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Part;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::types::Place;
use crate::domain::pdp::lint::types::Types;
use crate::domain::pdp::lint::types::kinds::Kinds;
use crate::domain::pdp::lint::types::shape::Origin;

/// Checks the loops of one body.
pub(super) fn check<'a>(types: &Types<'a>, place: &Place<'a>, query: &'a Query) -> Vec<BundleFault> {
    let loops = query.stmts.iter().filter_map(|stmt| match &stmt.literal {
        Literal::SomeIn { value, collection, .. } => Some((value, collection)),
        _ => None,
    });
    let searched = loops.filter_map(|(value, collection)| {
        let Expr::Var { span, .. } = value.as_ref() else { return None };
        let item = span.text();
        let shape = types.of(place, collection);
        let field =
            (shape.origin == Origin::Data && shape.kinds == Kinds::ARRAY).then(|| wanted(query, item)).flatten()?;
        let list = ast::written(collection);
        Some(fault_at(
            collection.span(),
            Code::SlowLayout,
            format!("`{list}` is searched for one `{field}`, which takes longer with every row"),
            format!("make it an object by `{field}`, and look it up: `{list}[…]`"),
        ))
    });
    searched.collect()
}

/// The field of `item` that a statement wants to be equal to what does not come from the item.
fn wanted(query: &Query, item: &str) -> Option<String> {
    query.stmts.iter().find_map(|stmt| {
        let Literal::Expr { expr, .. } = &stmt.literal else { return None };
        let (Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } | Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. }) =
            expr.as_ref()
        else {
            return None;
        };
        [(lhs, rhs), (rhs, lhs)].into_iter().find_map(|(one, other)| {
            let chain = ast::chain(one).filter(|chain| chain.root == item)?;
            let [Part::Name(field)] = chain.parts.as_slice() else { return None };
            // A constant is the same for every call: the list may be one of kinds, not of rows.
            let looked_up = ast::chain(other).is_some_and(|chain| chain.root != item);
            looked_up.then(|| field.clone())
        })
    })
}
