//! A rule taken apart: its bodies, their conditions, and what each condition looks at.
//!
//! Promises: every text is the author's own, as it stands in the file; what stands inside a
//! comprehension or an `every` is told apart from what the body itself can see. Only looks, and
//! never evaluates. Called by `pdp::explain`, which puts the pieces together again, fewer at a time.

mod names;
mod source;

use std::collections::BTreeSet;

use regorus::unstable::AssignOp;
use regorus::unstable::Expr;
use regorus::unstable::Literal;
use regorus::unstable::LiteralStmt;
use regorus::unstable::Query;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use regorus::unstable::RuleHead;
use regorus::unstable::Span;

use crate::domain::pdp::ast::chain;
use crate::domain::pdp::ast::constant;
use crate::domain::pdp::ast::dissect::names::Names;
use crate::domain::pdp::ast::dissect::source::source;
use crate::domain::pdp::ast::dissect::source::written;
use crate::domain::pdp::ast::names_in;
use crate::domain::pdp::ast::text_of;

/// Where something stands in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::domain::pdp) struct Place {
    pub(in crate::domain::pdp) path: String,
    pub(in crate::domain::pdp) line: u32,
    pub(in crate::domain::pdp) column: u32,
}

/// What a rule makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::domain::pdp) enum Kind {
    /// One value.
    Value,
    /// A member of a set: `contains`.
    Set,
    /// The value of a function.
    Function,
    /// What holds when nothing else does.
    Default,
}

/// One rule as it is written; several of one name are one rule to Rego.
#[derive(Debug, Clone)]
pub(in crate::domain::pdp) struct Definition {
    pub(in crate::domain::pdp) name: Vec<String>,
    pub(in crate::domain::pdp) kind: Kind,
    /// Arguments of a function, as written.
    pub(in crate::domain::pdp) args: Vec<String>,
    /// Names that the arguments bind.
    pub(in crate::domain::pdp) arg_names: BTreeSet<String>,
    /// One, or more with `else`.
    pub(in crate::domain::pdp) bodies: Vec<Body>,
    pub(in crate::domain::pdp) place: Place,
}

/// Conditions, and what comes of them.
#[derive(Debug, Clone, Default)]
pub(in crate::domain::pdp) struct Body {
    pub(in crate::domain::pdp) conditions: Vec<Condition>,
    /// What the rule gives; `true` when nothing is written.
    pub(in crate::domain::pdp) result: Option<Look>,
    /// Members of the result, when it is written out as an object.
    pub(in crate::domain::pdp) members: Vec<(String, Vec<Look>)>,
    /// What the result looks at.
    pub(in crate::domain::pdp) looks: Vec<Look>,
}

/// One statement of a body.
#[derive(Debug, Clone)]
pub(in crate::domain::pdp) struct Condition {
    /// As written, `with` and all.
    pub(in crate::domain::pdp) text: String,
    pub(in crate::domain::pdp) place: Place,
    /// The `with` modifiers, as written.
    pub(in crate::domain::pdp) with: String,
    pub(in crate::domain::pdp) shape: Shape,
    /// Names that it declares.
    pub(in crate::domain::pdp) declares: BTreeSet<String>,
    /// Names that it mentions, whatever they mean.
    pub(in crate::domain::pdp) mentions: BTreeSet<String>,
    /// Names that it mentions within comprehensions and `every`: theirs alone, unless the body has
    /// them too.
    pub(in crate::domain::pdp) inner: BTreeSet<String>,
    /// The names of both sides of `=`, one of which must have its values before.
    pub(in crate::domain::pdp) sides: Option<[BTreeSet<String>; 2]>,
    /// Names that it could give a value although they are declared elsewhere, or nowhere.
    pub(in crate::domain::pdp) may_bind: BTreeSet<String>,
    /// What it looks at, outermost first.
    pub(in crate::domain::pdp) looks: Vec<Look>,
}

/// What kind of statement it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::domain::pdp) enum Shape {
    /// `some x`.
    Declares,
    /// `some k, v in xs`: the names of key and value, if they are names; the collection.
    Some { key: Option<String>, value: Option<String>, collection: String },
    /// `x := …`.
    Assigns,
    /// `x in xs`: both sides.
    Member { value: String, collection: String },
    /// `not …`; with both sides if it is `not x in xs`.
    Not(Option<(String, String)>),
    /// `every k, v in xs {…}`.
    Every,
    /// Anything else.
    Holds,
}

/// Something that a condition looks at.
#[derive(Debug, Clone, Default)]
pub(in crate::domain::pdp) struct Look {
    pub(in crate::domain::pdp) text: String,
    /// Names in it, whatever they mean.
    pub(in crate::domain::pdp) names: BTreeSet<String>,
    /// The steps of a reference, root first; of the function when it is a call; else empty.
    pub(in crate::domain::pdp) steps: Vec<Step>,
    /// The arguments of a call, as written.
    pub(in crate::domain::pdp) args: Option<Vec<String>>,
    /// Whether it is written out, so that its value says nothing new.
    pub(in crate::domain::pdp) constant: bool,
    /// What it is called, when its text is not the author's.
    pub(in crate::domain::pdp) label: Option<&'static str>,
}

/// One step of a reference.
#[derive(Debug, Clone)]
pub(in crate::domain::pdp) struct Step {
    /// The reference up to here, as written.
    pub(in crate::domain::pdp) text: String,
    /// A name, or else an expression.
    pub(in crate::domain::pdp) part: Index,
}

/// What follows a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::domain::pdp) enum Index {
    /// `.name` or `["name"]`.
    Name(String),
    /// An expression, as written.
    Expr(String),
}

impl Definition {
    /// Lines on which something of it begins.
    pub(in crate::domain::pdp) fn lines(&self) -> BTreeSet<u32> {
        let conditions = self.bodies.iter().flat_map(|body| &body.conditions).map(|one| one.place.line);
        conditions.chain([self.place.line]).collect()
    }
}

/// Takes a rule apart; nothing when its head is no plain name.
pub(in crate::domain::pdp) fn definition(rule: &Rule) -> Option<Definition> {
    match rule {
        Rule::Default { span, refr, args, value, .. } => {
            let body = Body { result: Some(whole(value)), ..Body::default() };
            let names = args.iter().flat_map(|arg| names_in(arg)).collect();
            let args = args.iter().map(|arg| source(arg)).collect();
            let name = head_names(refr)?;
            Some(Definition {
                name,
                kind: Kind::Default,
                args,
                arg_names: names,
                bodies: vec![body],
                place: place(span),
            })
        }
        Rule::Spec { span, head, bodies } => {
            let (refr, args, result, kind) = match head {
                RuleHead::Compr { refr, assign, .. } => {
                    (refr, [].as_slice(), assign.as_ref().map(|a| &a.value), Kind::Value)
                }
                RuleHead::Set { refr, key, .. } => (refr, [].as_slice(), key.as_ref(), Kind::Set),
                RuleHead::Func { refr, args, assign, .. } => {
                    (refr, args.as_slice(), assign.as_ref().map(|a| &a.value), Kind::Function)
                }
            };
            let taken = if bodies.is_empty() {
                vec![body(&[], result)]
            } else {
                let of = |(at, one): (usize, &regorus::unstable::RuleBody)| {
                    let own = one.assign.as_ref().map(|assign| &assign.value);
                    body(&one.query.stmts, if at == 0 || kind == Kind::Set { own.or(result) } else { own })
                };
                bodies.iter().enumerate().map(of).collect()
            };
            Some(Definition {
                name: head_names(refr)?,
                kind,
                arg_names: args.iter().flat_map(|arg| names_in(arg)).collect(),
                args: args.iter().map(|arg| source(arg)).collect(),
                bodies: taken,
                place: place(span),
            })
        }
    }
}

/// Names of a head up to its first step that is none.
fn head_names(refr: &Expr) -> Option<Vec<String>> {
    let chain = chain(refr)?;
    let names = chain.names().into_iter().map(str::to_owned);
    Some(std::iter::once(chain.root.clone()).chain(names).collect())
}

fn place(span: &Span) -> Place {
    Place { path: span.source.get_path().clone(), line: span.line, column: span.col }
}

fn body(stmts: &[LiteralStmt], result: Option<&Ref<Expr>>) -> Body {
    let mut out = Body { conditions: stmts.iter().map(condition).collect(), ..Body::default() };
    if let Some(result) = result {
        looks_of(result, &mut out.looks);
        if let Expr::Object { fields, .. } = result.as_ref() {
            for (_, key, value) in fields {
                if let Expr::String { value: name, .. } = key.as_ref() {
                    let mut looks = Vec::new();
                    looks_of(value, &mut looks);
                    out.members.push((text_of(name), looks));
                }
            }
        }
        out.result = Some(whole(result));
    }
    out
}

fn condition(stmt: &LiteralStmt) -> Condition {
    let mut names = Names::default();
    let mut looks = Vec::new();
    let (shape, declares) = match &stmt.literal {
        Literal::SomeVars { vars, .. } => {
            (Shape::Declares, vars.iter().map(|span| span.text().to_owned()).collect::<BTreeSet<_>>())
        }
        Literal::SomeIn { key, value, collection, .. } => {
            names.expr(collection);
            looks.push(whole(collection));
            looks_of(collection, &mut looks);
            let pattern = |expr: &Ref<Expr>| match expr.as_ref() {
                Expr::Var { value, .. } => Some(text_of(value)),
                _ => None,
            };
            let shape = Shape::Some {
                key: key.as_ref().and_then(pattern),
                value: pattern(value),
                collection: source(collection),
            };
            (shape, key.iter().chain([value]).flat_map(|pattern| names_in(pattern)).collect())
        }
        Literal::Every { domain, query, key, value, .. } => {
            names.expr(domain);
            names.every(key.as_ref(), value, query);
            looks.push(Look {
                text: falling_short(key.as_ref(), value, domain, query),
                label: Some("it does not hold for"),
                names: names.mentioned.union(&names.inner).cloned().collect(),
                ..Look::default()
            });
            looks_of(domain, &mut looks);
            (Shape::Every, BTreeSet::new())
        }
        Literal::Expr { expr, .. } => {
            names.binding(expr);
            looks_of(expr, &mut looks);
            match expr.as_ref() {
                Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } => {
                    (Shape::Assigns, names_in(lhs).into_iter().collect())
                }
                expr => (
                    member(expr).map_or(Shape::Holds, |(value, collection)| Shape::Member { value, collection }),
                    BTreeSet::new(),
                ),
            }
        }
        Literal::NotExpr { expr, .. } => {
            names.expr(expr);
            looks_of(expr, &mut looks);
            (Shape::Not(member(expr)), BTreeSet::new())
        }
    };
    for with in &stmt.with_mods {
        names.expr(&with.r#as);
    }
    let with = stmt.with_mods.iter().map(|one| format!("with {} as {}", source(&one.refr), source(&one.r#as)));
    let mut seen = BTreeSet::new();
    looks.retain(|look| seen.insert(look.text.clone()));
    Condition {
        text: written(&stmt.span),
        place: place(&stmt.span),
        with: with.collect::<Vec<_>>().join(" "),
        shape,
        declares: declares.into_iter().filter(|name| name != "_").collect(),
        mentions: names.mentioned,
        inner: names.inner,
        sides: names.sides,
        may_bind: names.bindable.into_iter().filter(|name| name != "_").collect(),
        looks,
    }
}

fn member(expr: &Expr) -> Option<(String, String)> {
    let Expr::Membership { key: None, value, collection, .. } = expr else { return None };
    Some((source(value), source(collection)))
}

/// The members of an `every` for which its body does not hold.
fn falling_short(key: Option<&Span>, value: &Span, domain: &Expr, query: &Query) -> String {
    let name = if value.text() == "_" { "true" } else { value.text() };
    let key = key.map(|key| format!("{}, ", key.text())).unwrap_or_default();
    let body = query.stmts.iter().map(|stmt| written(&stmt.span)).collect::<Vec<_>>().join("\n");
    format!("[{name} | some {key}{} in {}\ncount([true | {body}\n]) == 0\n]", value.text(), source(domain))
}

fn whole(expr: &Expr) -> Look {
    let mut names = Names::default();
    names.expr(expr);
    let steps = match expr {
        Expr::Call { fcn, .. } => steps(fcn),
        expr => steps(expr),
    };
    let args = match expr {
        Expr::Call { params, .. } => Some(params.iter().map(|param| source(param)).collect()),
        _ => None,
    };
    Look {
        text: source(expr),
        names: names.mentioned.into_iter().chain(names.inner).collect(),
        steps,
        args,
        constant: constant(expr),
        label: None,
    }
}

/// The steps of a reference, root first; none when it is no reference.
fn steps(expr: &Expr) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = expr;
    loop {
        let text = source(at);
        let part = match at {
            Expr::RefDot { refr, field, .. } => {
                let part = Index::Name(text_of(&field.1));
                at = refr;
                part
            }
            Expr::RefBrack { refr, index, .. } => {
                let part = match index.as_ref() {
                    Expr::String { value, .. } | Expr::RawString { value, .. } => Index::Name(text_of(value)),
                    index => Index::Expr(source(index)),
                };
                at = refr;
                part
            }
            Expr::Var { value, .. } => {
                steps.push(Step { text, part: Index::Name(text_of(value)) });
                steps.reverse();
                return steps;
            }
            _ => return Vec::new(),
        };
        steps.push(Step { text, part });
    }
}

/// Everything in `expr` whose value says something, outermost first. Does not go into
/// comprehensions, which see names that the body does not.
fn looks_of(expr: &Expr, out: &mut Vec<Look>) {
    match expr {
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => {}
        Expr::Var { .. } | Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {
            out.push(whole(expr));
        }
        Expr::RefDot { .. } | Expr::RefBrack { .. } => {
            out.push(whole(expr));
            inside_reference(expr, out);
        }
        Expr::Call { params, .. } => {
            out.push(whole(expr));
            for param in params {
                looks_of(param, out);
            }
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| looks_of(item, out)),
        Expr::Object { fields, .. } => {
            for (_, key, value) in fields {
                looks_of(key, out);
                looks_of(value, out);
            }
        }
        Expr::UnaryExpr { expr, .. } => looks_of(expr, out),
        Expr::AssignExpr { op: AssignOp::ColEq, rhs, .. } => looks_of(rhs, out),
        Expr::AssignExpr { lhs, rhs, .. } | Expr::BoolExpr { lhs, rhs, .. } => {
            for side in [lhs, rhs] {
                if matches!(side.as_ref(), Expr::BinExpr { .. } | Expr::ArithExpr { .. }) {
                    out.push(whole(side));
                }
                looks_of(side, out);
            }
        }
        Expr::BinExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
            looks_of(lhs, out);
            looks_of(rhs, out);
        }
        Expr::Membership { key, value, collection, .. } => {
            out.push(whole(value));
            out.push(whole(collection));
            for expr in key.iter().chain([value, collection]) {
                looks_of(expr, out);
            }
        }
    }
}

/// Indexes that are more than a name, and what a reference into something else starts from.
fn inside_reference(expr: &Expr, out: &mut Vec<Look>) {
    match expr {
        Expr::RefDot { refr, .. } => inside_reference(refr, out),
        Expr::RefBrack { refr, index, .. } => {
            inside_reference(refr, out);
            if !constant(index) && !matches!(index.as_ref(), Expr::Var { .. }) {
                looks_of(index, out);
            }
        }
        Expr::Var { .. } => {}
        other => looks_of(other, out),
    }
}
