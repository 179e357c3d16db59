//! The names in a piece of Rego.
//!
//! Promises: tells names that an expression mentions from those it declares for itself, and those
//! that it could give a value. Only looks. Called by `pdp::ast::dissect`.

use std::collections::BTreeSet;

use regorus::unstable::AssignOp;
use regorus::unstable::Expr;
use regorus::unstable::Literal;
use regorus::unstable::Query;
use regorus::unstable::Ref;
use regorus::unstable::Span;

use crate::domain::pdp::ast::declared;
use crate::domain::pdp::ast::names_in;
use crate::domain::pdp::ast::text_of;

/// Names of an expression, but those that it declares for itself.
#[derive(Default)]
pub(super) struct Names {
    pub(super) mentioned: BTreeSet<String>,
    pub(super) bindable: BTreeSet<String>,
    /// Mentioned in comprehensions and in `every`; theirs alone unless the body knows them too.
    pub(super) inner: BTreeSet<String>,
    /// The names of both sides of `=`, when that is the whole of it.
    pub(super) sides: Option<[BTreeSet<String>; 2]>,
    hidden: Vec<BTreeSet<String>>,
}

impl Names {
    fn name(&mut self, name: String) {
        if name == "_" || self.hidden.iter().any(|frame| frame.contains(&name)) {
            return;
        }
        let of = if self.hidden.is_empty() { &mut self.mentioned } else { &mut self.inner };
        of.insert(name);
    }

    /// A statement that may give names a value: `x = …` and `xs[x]`.
    pub(super) fn binding(&mut self, expr: &Expr) {
        match expr {
            Expr::AssignExpr { op: AssignOp::ColEq, rhs, .. } => self.expr(rhs),
            Expr::AssignExpr { lhs, rhs, .. } => {
                self.bindable.extend(names_in(lhs).into_iter().chain(names_in(rhs)).filter(|name| name != "_"));
                self.sides = Some([lhs, rhs].map(|side| {
                    let mut names = Self::default();
                    names.expr(side);
                    names.mentioned.into_iter().filter(|name| !names.bindable.contains(name)).collect()
                }));
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Call { params, .. } => {
                // Rego lets a call give its value to one more argument.
                self.bindable.extend(params.last().into_iter().flat_map(|last| names_in(last)));
                self.expr(expr);
            }
            expr => self.expr(expr),
        }
    }

    fn within(&mut self, names: BTreeSet<String>, work: impl FnOnce(&mut Self)) {
        self.hidden.push(names);
        work(self);
        self.hidden.pop();
    }

    pub(super) fn every(&mut self, key: Option<&Span>, value: &Span, query: &Query) {
        let names = key.into_iter().chain([value]).map(|span| span.text().to_owned()).collect();
        self.within(names, |names| names.query(query, &[]));
    }

    fn query(&mut self, query: &Query, heads: &[&Ref<Expr>]) {
        self.within(declared(query).into_keys().collect(), |names| {
            for head in heads {
                names.expr(head);
            }
            for stmt in &query.stmts {
                match &stmt.literal {
                    Literal::SomeVars { .. } => {}
                    Literal::SomeIn { collection, .. } => names.expr(collection),
                    Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => names.expr(expr),
                    Literal::Every { key, value, domain, query, .. } => {
                        names.expr(domain);
                        names.every(key.as_ref(), value, query);
                    }
                }
                stmt.with_mods.iter().for_each(|with| names.expr(&with.r#as));
            }
        });
    }

    pub(super) fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { value, .. } => self.name(text_of(value)),
            Expr::RefDot { refr, .. } => self.expr(refr),
            Expr::RefBrack { refr, index, .. } => {
                self.expr(refr);
                if let Expr::Var { value, .. } = index.as_ref()
                    && self.hidden.is_empty()
                {
                    self.bindable.extend(Some(text_of(value)).filter(|name| name != "_"));
                }
                self.expr(index);
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| self.expr(item)),
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
                self.expr(key);
                self.expr(value);
            }),
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => self.query(query, &[term]),
            Expr::ObjectCompr { key, value, query, .. } => self.query(query, &[key, value]),
            // The function's name is no value.
            Expr::Call { params, .. } => params.iter().for_each(|param| self.expr(param)),
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                key.iter().chain([value, collection]).for_each(|expr| self.expr(expr));
            }
        }
    }
}
