//! Walking a parsed policy: every reference and call of a rule, with what is local where.
//!
//! Promises: each reference is reported once, as a whole chain (`data.tenants[input.x].name`), with
//! its static parts named; a name counts as local only where the rule declares it. Only looks.
//! Called by `pdp::lint` and its children. The types of regorus' syntax tree are marked unstable
//! there; the version is pinned, and this room is the one place that matches on their shapes.

pub(super) mod dissect;

use std::collections::BTreeMap;
use std::rc::Rc;

use regorus::unstable::ArithOp;
use regorus::unstable::AssignOp;
use regorus::unstable::BoolOp;
use regorus::unstable::Expr;
use regorus::unstable::Literal;
use regorus::unstable::Query;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use regorus::unstable::RuleAssign;
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

impl Part {
    /// The step as people write it, without what is looked up.
    pub(super) fn written(&self) -> String {
        match self {
            Self::Name(name) => format!(".{name}"),
            Self::Number | Self::Dynamic(_) => "[…]".to_owned(),
        }
    }
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
    /// Two values that are compared.
    Compare(Comparison, &'a Expr, &'a Expr),
    /// `left + right` and its kind.
    Arith(&'a ArithOp, &'a Expr, &'a Expr),
    /// `some key, value in collection`; of `every`, the collection alone.
    Loop(Option<&'a Expr>, Option<&'a Expr>, &'a Expr),
    /// What one definition of a complete rule or function gives; nothing stands for `true`.
    Value(Option<&'a Expr>),
    /// What one definition of a set puts into it.
    Element(&'a Expr),
    /// The statements of one body, comprehension or `every`; met before what is in them.
    Query(&'a Query),
    /// A `with` modifier.
    With(&'a Span),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `==` or `=`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `<` and its kind.
    Order,
    /// `in`.
    In,
}

/// What a local name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Binding<'a> {
    /// Something that the walk does not follow.
    Free,
    /// `name := value`.
    Value(&'a Expr),
    /// `some name, _ in collection`.
    Key(&'a Expr),
    /// `some name in collection`, or `every`.
    Item(&'a Expr),
    /// The argument at this place.
    Argument(usize),
}

type Frame<'a> = BTreeMap<String, Binding<'a>>;

/// Names that are local at the place of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope<'a> {
    frames: Vec<Rc<Frame<'a>>>,
}

impl<'a> Scope<'a> {
    /// Whether the rule itself declares `name` here. `_` is nobody's name; `_own` may be a rule's.
    pub(super) fn has(&self, name: &str) -> bool {
        name == "_" || self.frames.iter().any(|frame| frame.contains_key(name))
    }

    /// What `name` stands for, and what is local where that is written.
    pub(super) fn binding(&self, name: &str) -> Option<(Binding<'a>, Self)> {
        let at = self.frames.iter().rposition(|frame| frame.contains_key(name))?;
        let found = *self.frames.get(at)?.get(name)?;
        Some((found, Self { frames: self.frames.get(..=at)?.to_vec() }))
    }

    /// This scope and what a query inside it declares.
    pub(super) fn inside(&self, query: &'a Query) -> Self {
        let mut inner = self.clone();
        inner.frames.push(Rc::new(declared(query)));
        inner
    }
}

/// Walks a whole rule, head and bodies.
pub(super) fn walk<'a>(rule: &'a Rule, visit: &mut dyn FnMut(Node<'a>, &Scope<'a>)) {
    let mut walker = Walker { scope: Scope::default(), visit };
    match rule {
        Rule::Default { args, value, .. } => walker.within(arguments(args), |w| {
            w.patterns(args);
            w.meet(Node::Value(Some(value)));
            w.expr(value);
        }),
        Rule::Spec { head, bodies, .. } => {
            let (refr, args, key, assign) = match head {
                RuleHead::Compr { refr, assign, .. } => (refr, [].as_slice(), None, assign.as_ref()),
                RuleHead::Set { refr, key, .. } => (refr, [].as_slice(), key.as_ref(), None),
                RuleHead::Func { refr, args, assign, .. } => (refr, args.as_slice(), None, assign.as_ref()),
            };
            let head_exprs = |w: &mut Walker<'a, '_>, given: Option<&'a RuleAssign>| {
                match key {
                    Some(key) => w.meet(Node::Element(key)),
                    None => w.meet(Node::Value(given.map(|assign| assign.value.as_ref()))),
                }
                w.indexes(refr);
                for expr in key.into_iter().chain(assign.map(|assign| &assign.value)) {
                    w.expr(expr);
                }
            };
            walker.within(arguments(args), |w| {
                w.patterns(args);
                if bodies.is_empty() {
                    head_exprs(w, assign);
                }
                for body in bodies {
                    w.within(declared(&body.query), |w| {
                        let given = if body.is_else { body.assign.as_ref() } else { body.assign.as_ref().or(assign) };
                        head_exprs(w, given);
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

fn arguments(args: &[Ref<Expr>]) -> Frame<'_> {
    let mut frame = Frame::new();
    for (at, arg) in args.iter().enumerate() {
        bind(&mut frame, arg, Binding::Argument(at));
    }
    frame
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

/// The text that `expr` is, if it is written out.
pub(super) fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => Some(text_of(value)),
        _ => None,
    }
}

/// `expr` as it stands in its file; brackets around it are lost.
pub(super) fn written(expr: &Expr) -> String {
    match expr {
        Expr::String { span, .. } => format!("\"{}\"", span.text()),
        Expr::RawString { span, .. } => format!("`{}`", span.text()),
        _ => expr.span().text().to_owned(),
    }
}

fn text_of(value: &regorus::Value) -> String {
    value.as_string().map(ToString::to_string).unwrap_or_default()
}

/// Variables of a pattern, such as `[a, {"b": c}]`. Only a pattern that is one name stands for the
/// whole of what it is matched with.
fn bind<'a>(frame: &mut Frame<'a>, pattern: &Expr, whole: Binding<'a>) {
    match pattern {
        Expr::Var { value, .. } => {
            let name = text_of(value);
            let known = if frame.contains_key(&name) { Binding::Free } else { whole };
            frame.insert(name, known);
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            for item in items {
                bind(frame, item, Binding::Free);
            }
        }
        Expr::Object { fields, .. } => {
            for (_, _, value) in fields {
                bind(frame, value, Binding::Free);
            }
        }
        _ => {}
    }
}

/// Variables of a pattern, such as `[a, {"b": c}]`.
fn names_in(pattern: &Expr) -> Vec<String> {
    let mut frame = Frame::new();
    bind(&mut frame, pattern, Binding::Free);
    frame.into_keys().collect()
}

/// Names that a query declares for itself.
fn declared(query: &Query) -> Frame<'_> {
    let mut frame = Frame::new();
    for stmt in &query.stmts {
        match &stmt.literal {
            Literal::SomeVars { vars, .. } => {
                frame.extend(vars.iter().map(|span| (span.text().to_owned(), Binding::Free)));
            }
            Literal::SomeIn { key, value, collection, .. } => {
                if let Some(key) = key {
                    bind(&mut frame, key, Binding::Key(collection));
                }
                bind(&mut frame, value, Binding::Item(collection));
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, rhs, .. } = expr.as_ref() {
                    bind(&mut frame, lhs, Binding::Value(rhs));
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }
    frame
}

struct Walker<'a, 'v> {
    scope: Scope<'a>,
    visit: &'v mut dyn FnMut(Node<'a>, &Scope<'a>),
}

impl<'a> Walker<'a, '_> {
    fn within(&mut self, names: Frame<'a>, work: impl FnOnce(&mut Self)) {
        self.scope.frames.push(Rc::new(names));
        work(self);
        self.scope.frames.pop();
    }

    fn meet(&mut self, node: Node<'a>) {
        (self.visit)(node, &self.scope);
    }

    /// Arguments of a function: `f(input.x) := …` holds only for what stands in the input.
    fn patterns(&mut self, args: &'a [Ref<Expr>]) {
        for arg in args {
            self.expr(arg);
        }
    }

    fn query(&mut self, query: &'a Query) {
        self.within(declared(query), |w| {
            w.meet(Node::Query(query));
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

    fn literal(&mut self, literal: &'a Literal) {
        match literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                self.meet(Node::Loop(key.as_deref(), Some(value), collection));
                for expr in key.iter().chain([value, collection]) {
                    self.expr(expr);
                }
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(expr),
            Literal::Every { key, value, domain, query, .. } => {
                self.meet(Node::Loop(None, None, domain));
                self.expr(domain);
                let mut frame = Frame::new();
                if let Some(key) = key {
                    frame.insert(key.text().to_owned(), Binding::Key(domain));
                }
                frame.insert(value.text().to_owned(), Binding::Item(domain));
                self.within(frame, |w| w.query(query));
            }
        }
    }

    /// Expressions inside the brackets of a reference.
    fn indexes(&mut self, expr: &'a Expr) {
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

    fn expr(&mut self, expr: &'a Expr) {
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
            Expr::BoolExpr { op, lhs, rhs, .. } => {
                let how = match op {
                    BoolOp::Eq => Comparison::Equal,
                    BoolOp::Ne => Comparison::NotEqual,
                    BoolOp::Lt | BoolOp::Le | BoolOp::Ge | BoolOp::Gt => Comparison::Order,
                };
                self.both(Node::Compare(how, lhs, rhs), lhs, rhs);
            }
            Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                self.both(Node::Compare(Comparison::Equal, lhs, rhs), lhs, rhs);
            }
            Expr::ArithExpr { op, lhs, rhs, .. } => self.both(Node::Arith(op, lhs, rhs), lhs, rhs),
            Expr::BinExpr { lhs, rhs, .. } | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                self.meet(Node::Compare(Comparison::In, value, collection));
                for expr in key.iter().chain([value, collection]) {
                    self.expr(expr);
                }
            }
        }
    }

    fn both(&mut self, node: Node<'a>, left: &'a Expr, right: &'a Expr) {
        self.meet(node);
        self.expr(left);
        self.expr(right);
    }
}
