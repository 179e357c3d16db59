//! Walking a parsed policy: every reference and call of a rule, with what is local where.
//!
//! Promises: each reference is reported once, as a whole chain (`data.tenants[input.x].name`), with
//! its static parts named; a name counts as local only where the rule declares it. Only looks.
//! Called by `pdp::lint` and its children. The types of regorus' syntax tree are marked unstable
//! there; the version is pinned, and this room is the one place that matches on their shapes.

pub(super) mod dissect;

use std::collections::BTreeSet;

use regorus::unstable::AssignOp;
use regorus::unstable::BoolOp;
use regorus::unstable::Expr;
use regorus::unstable::Literal;
use regorus::unstable::Query;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use regorus::unstable::RuleHead;
use regorus::unstable::Span;

/// One step of a reference after its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// `.name` or `["name"]`.
    Name(String),
    /// `[0]`.
    Number,
    /// `[anything else]`; with the variable's name if it is one.
    Dynamic(Option<String>),
}

/// A whole reference.
#[derive(Debug, Clone)]
pub(super) struct Chain<'a> {
    pub(super) root: String,
    pub(super) parts: Vec<Part>,
    pub(super) span: &'a Span,
}

impl Chain<'_> {
    /// Names from the root's first step to the first step that is not a name.
    pub(super) fn names(&self) -> Vec<&str> {
        self.parts
            .iter()
            .map_while(|part| match part {
                Part::Name(name) => Some(name.as_str()),
                Part::Number | Part::Dynamic(_) => None,
            })
            .collect()
    }

    /// The chain as `a.b.c`, when every step is a name.
    pub(super) fn dotted(&self) -> Option<String> {
        let names = self.names();
        (names.len() == self.parts.len())
            .then(|| std::iter::once(self.root.as_str()).chain(names).collect::<Vec<_>>().join("."))
    }
}

/// Something found on the walk.
pub(super) enum Node<'a> {
    /// A reference that is not called.
    Ref(Chain<'a>),
    /// A call, with its arguments.
    Call(Chain<'a>, &'a [Ref<Expr>]),
    /// `left == right`, `left != right`, `left = right` or `left in right`.
    Compare(&'a Expr, &'a Expr),
    /// A `with` modifier.
    With(&'a Span),
}

/// Names that are local at the place of a node.
#[derive(Debug, Default)]
pub(super) struct Scope {
    frames: Vec<BTreeSet<String>>,
}

impl Scope {
    /// Whether the rule itself declares `name` here.
    pub(super) fn has(&self, name: &str) -> bool {
        name.starts_with('_') || self.frames.iter().any(|frame| frame.contains(name))
    }
}

/// Walks a whole rule, head and bodies.
pub(super) fn walk(rule: &Rule, visit: &mut dyn FnMut(Node<'_>, &Scope)) {
    let mut walker = Walker { scope: Scope::default(), visit };
    match rule {
        Rule::Default { args, value, .. } => {
            walker.within(args.iter().flat_map(|arg| names_in(arg)).collect(), |w| w.expr(value));
        }
        Rule::Spec { head, bodies, .. } => {
            let (refr, args, key, assign) = match head {
                RuleHead::Compr { refr, assign, .. } => (refr, [].as_slice(), None, assign.as_ref()),
                RuleHead::Set { refr, key, .. } => (refr, [].as_slice(), key.as_ref(), None),
                RuleHead::Func { refr, args, assign, .. } => (refr, args.as_slice(), None, assign.as_ref()),
            };
            let args: BTreeSet<String> = args.iter().flat_map(|arg| names_in(arg)).collect();
            let head_exprs = |w: &mut Walker<'_>| {
                w.indexes(refr);
                for expr in key.into_iter().chain(assign.map(|assign| &assign.value)) {
                    w.expr(expr);
                }
            };
            walker.within(args, |w| {
                if bodies.is_empty() {
                    head_exprs(w);
                }
                for body in bodies {
                    w.within(declared(&body.query), |w| {
                        head_exprs(w);
                        if let Some(assign) = &body.assign {
                            w.expr(&assign.value);
                        }
                        w.query(&body.query);
                    });
                }
            });
        }
    }
}

/// The chain that `expr` is, if it is one.
pub(super) fn chain(expr: &Expr) -> Option<Chain<'_>> {
    let mut parts = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::RefDot { refr, field, .. } => {
                parts.push(Part::Name(text_of(&field.1)));
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                parts.push(match index.as_ref() {
                    Expr::String { value, .. } | Expr::RawString { value, .. } => Part::Name(text_of(value)),
                    Expr::Number { .. } => Part::Number,
                    Expr::Var { value, .. } => Part::Dynamic(Some(text_of(value))),
                    _ => Part::Dynamic(None),
                });
                at = refr;
            }
            Expr::Var { value, .. } => {
                parts.reverse();
                return Some(Chain { root: text_of(value), parts, span: expr.span() });
            }
            _ => return None,
        }
    }
}

/// Whether `expr` is written out, without names or calls.
pub(super) fn constant(expr: &Expr) -> bool {
    match expr {
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => {
            true
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().all(|item| constant(item)),
        Expr::Object { fields, .. } => fields.iter().all(|(_, key, value)| constant(key) && constant(value)),
        _ => false,
    }
}

fn text_of(value: &regorus::Value) -> String {
    value.as_string().map(ToString::to_string).unwrap_or_default()
}

/// Variables of a pattern, such as `[a, {"b": c}]`.
fn names_in(pattern: &Expr) -> Vec<String> {
    match pattern {
        Expr::Var { value, .. } => vec![text_of(value)],
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().flat_map(|item| names_in(item)).collect(),
        Expr::Object { fields, .. } => fields.iter().flat_map(|(_, _, value)| names_in(value)).collect(),
        _ => Vec::new(),
    }
}

/// Names that a query declares for itself.
fn declared(query: &Query) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for stmt in &query.stmts {
        match &stmt.literal {
            Literal::SomeVars { vars, .. } => names.extend(vars.iter().map(|span| span.text().to_owned())),
            Literal::SomeIn { key, value, .. } => {
                names.extend(key.iter().chain([value]).flat_map(|pattern| names_in(pattern)));
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref() {
                    names.extend(names_in(lhs));
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }
    names
}

struct Walker<'v> {
    scope: Scope,
    visit: &'v mut dyn FnMut(Node<'_>, &Scope),
}

impl Walker<'_> {
    fn within(&mut self, names: BTreeSet<String>, work: impl FnOnce(&mut Self)) {
        self.scope.frames.push(names);
        work(self);
        self.scope.frames.pop();
    }

    fn meet(&mut self, node: Node<'_>) {
        (self.visit)(node, &self.scope);
    }

    fn query(&mut self, query: &Query) {
        self.within(declared(query), |w| {
            for stmt in &query.stmts {
                w.literal(&stmt.literal);
                for with in &stmt.with_mods {
                    w.meet(Node::With(&with.span));
                    w.expr(&with.refr);
                    w.expr(&with.r#as);
                }
            }
        });
    }

    fn literal(&mut self, literal: &Literal) {
        match literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                for expr in key.iter().chain([value, collection]) {
                    self.expr(expr);
                }
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(expr),
            Literal::Every { key, value, domain, query, .. } => {
                self.expr(domain);
                let names = key.iter().chain([value]).map(|span| span.text().to_owned()).collect();
                self.within(names, |w| w.query(query));
            }
        }
    }

    /// Expressions inside the brackets of a reference.
    fn indexes(&mut self, expr: &Expr) {
        match expr {
            Expr::RefBrack { refr, index, .. } => {
                self.indexes(refr);
                self.expr(index);
            }
            Expr::RefDot { refr, .. } => self.indexes(refr),
            Expr::Var { .. } => {}
            _ => self.expr(expr),
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                if let Some(chain) = chain(expr) {
                    self.meet(Node::Ref(chain));
                }
                self.indexes(expr);
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                for item in items {
                    self.expr(item);
                }
            }
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expr(key);
                    self.expr(value);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.within(declared(query), |w| {
                    w.expr(term);
                    w.query(query);
                });
            }
            Expr::ObjectCompr { key, value, query, .. } => self.within(declared(query), |w| {
                w.expr(key);
                w.expr(value);
                w.query(query);
            }),
            Expr::Call { fcn, params, .. } => {
                if let Some(chain) = chain(fcn) {
                    self.meet(Node::Call(chain, params));
                }
                for param in params {
                    self.expr(param);
                }
            }
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BoolExpr { op: BoolOp::Eq | BoolOp::Ne, lhs, rhs, .. }
            | Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                self.meet(Node::Compare(lhs, rhs));
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                self.meet(Node::Compare(value, collection));
                for expr in key.iter().chain([value, collection]) {
                    self.expr(expr);
                }
            }
        }
    }
}
