//! What the values of a bundle's rules may look like.
//!
//! Promises: a shape is told from the schema of the input, from that of the data (or the data), and
//! from the rules; it holds every value that can be there, so that what it rules out can never be.
//! Whatever is not followed may be anything: what `with` replaces, what a name stands for that no
//! statement declares, and what takes too many steps. Never evaluates. Called by `pdp::lint`.

pub(in crate::domain::pdp) mod kinds;
mod clash;
mod fields;
mod layouts;
mod shape;

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use regorus::unstable::ArithOp;
use regorus::unstable::BinOp;
use regorus::unstable::Expr;
use regorus::unstable::Module;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use serde_json::Value;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Binding;
use crate::domain::pdp::ast::Chain;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Part;
use crate::domain::pdp::ast::Scope;
use crate::domain::pdp::lint::Findings;
use crate::domain::pdp::lint::Ground;
use crate::domain::pdp::lint::builtins;
use crate::domain::pdp::lint::graph::Index;
use crate::domain::pdp::lint::graph::Target;
use crate::domain::pdp::lint::graph::View;
use crate::domain::pdp::lint::head_of;
use crate::domain::pdp::lint::types::kinds::Kinds;
use crate::domain::pdp::lint::types::shape::Missing;
use crate::domain::pdp::lint::types::shape::Origin;
use crate::domain::pdp::lint::types::shape::Shape;

/// Steps that one question may take. People's rules take tens.
const STEPS_MAX: u32 = 4_000;

/// Questions within questions; each takes some stack.
const DEPTH_MAX: u32 = 100;

/// Checks every statement of every rule.
pub(super) fn check(modules: &[Ref<Module>], index: &Index, ground: &Ground<'_>) -> Findings {
    let types = Types::new(modules, index, ground);
    let mut found = Findings::default();
    for rule in types.rules.values().flatten() {
        ast::walk(rule.rule, &mut |node, scope| {
            types.steps.set(0);
            let place = Place { rule: rule.clone(), scope: scope.clone() };
            if let Node::Ref(chain) | Node::Call(chain, _) = &node {
                found.faults.extend(fields::check(&types, &place, chain));
            }
            if let Node::Query(query) = &node {
                found.warnings.extend(layouts::check(&types, &place, query));
            }
            clash::check(&types, &place, &node, &mut found);
        });
    }
    found
}

/// One definition of a rule, and what names mean in its file.
#[derive(Clone)]
struct Definition<'a> {
    path: Rc<str>,
    view: Rc<View>,
    rule: &'a Rule,
}

/// Where an expression stands.
struct Place<'a> {
    rule: Definition<'a>,
    scope: Scope<'a>,
}

impl<'a> Place<'a> {
    fn with(&self, scope: Scope<'a>) -> Self {
        Self { rule: self.rule.clone(), scope }
    }
}

/// A step that leads nowhere.
struct Lost {
    so_far: String,
    step: Part,
    at: Shape,
    missing: Missing,
}

/// A call of a function of the bundle: where, and with what.
type Site<'a> = (Place<'a>, &'a [Ref<Expr>]);

/// A rule, or the argument of a function at a place.
type Asked = (Rc<str>, Option<usize>);

struct Types<'a> {
    index: &'a Index,
    input: Shape,
    data: Shape,
    tables: &'a Value,
    rules: BTreeMap<Rc<str>, Vec<Definition<'a>>>,
    /// Who calls a function, and with what.
    sites: BTreeMap<String, Vec<Site<'a>>>,
    /// What was asked before: of a rule, or of a function's argument. Nothing while it is being found.
    known: RefCell<BTreeMap<Asked, Option<Shape>>>,
    /// Whether `with` gives rules other values than those written.
    replaced: bool,
    steps: Cell<u32>,
    depth: Cell<u32>,
}

impl<'a> Types<'a> {
    fn new(modules: &'a [Ref<Module>], index: &'a Index, ground: &Ground<'a>) -> Self {
        let input =
            ground.input.as_ref().map_or_else(Shape::any, |schema| Shape::of_schema(schema, schema, Origin::Input));
        let data = match &ground.schema {
            Some(schema) => Shape::of_schema(schema, schema, Origin::Data),
            None => Shape::of_data(ground.data),
        };
        let mut types = Self {
            index,
            input,
            data,
            tables: ground.data,
            rules: BTreeMap::new(),
            sites: BTreeMap::new(),
            known: RefCell::default(),
            replaced: false,
            steps: Cell::default(),
            depth: Cell::default(),
        };
        for module in modules {
            let view = Rc::new(View::new(module));
            for rule in &module.policy {
                let Some(head) = head_of(rule) else { continue };
                let names = std::iter::once(head.root.as_str()).chain(head.names());
                let path = std::iter::once(view.package.as_str()).chain(names).collect::<Vec<_>>().join(".");
                let path: Rc<str> = path.into();
                let definition = Definition { path: Rc::clone(&path), view: Rc::clone(&view), rule };
                types.note_calls(&definition);
                types.rules.entry(path).or_default().push(definition);
            }
        }
        types
    }

    fn note_calls(&mut self, definition: &Definition<'a>) {
        ast::walk(definition.rule, &mut |node, scope| match node {
            Node::With(_) => self.replaced = true,
            Node::Call(chain, arguments) => {
                let target = definition.view.absolute(&chain, scope).map(|path| self.index.target(&path));
                if let Some(Target::Rule(path)) = target {
                    let place = Place { rule: definition.clone(), scope: scope.clone() };
                    self.sites.entry(path).or_default().push((place, arguments));
                }
            }
            _ => {}
        });
    }

    /// What `expr` may be.
    fn of(&self, place: &Place<'a>, expr: &'a Expr) -> Shape {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > STEPS_MAX || self.depth.get() > DEPTH_MAX {
            return Shape::any();
        }
        self.depth.set(self.depth.get() + 1);
        let shape = self.of_expr(place, expr);
        self.depth.set(self.depth.get() - 1);
        shape
    }

    fn of_expr(&self, place: &Place<'a>, expr: &'a Expr) -> Shape {
        let within = |query, term: &'a Ref<Expr>| self.of(&place.with(place.scope.inside(query)), term);
        match expr {
            Expr::String { .. } | Expr::RawString { .. } => Shape::of(Kinds::STRING),
            Expr::Number { .. } | Expr::UnaryExpr { .. } => Shape::of(Kinds::NUMBER),
            Expr::Bool { .. } | Expr::BoolExpr { .. } | Expr::Membership { .. } => Shape::of(Kinds::BOOL),
            Expr::Null { .. } => Shape::of(Kinds::NULL),
            Expr::Array { items, .. } => self.of_items(place, Kinds::ARRAY, items),
            Expr::Set { items, .. } => self.of_items(place, Kinds::SET, items),
            Expr::Object { fields, .. } => {
                let mut named = BTreeMap::new();
                let mut rest: Option<(Kinds, Shape)> = None;
                for (_, key, value) in fields {
                    let shape = self.of(place, value);
                    if let Some(name) = ast::text(key) {
                        named.insert(name, shape);
                        continue;
                    }
                    let keys = self.of(place, key).kinds;
                    rest = Some(rest.map_or((keys, shape.clone()), |(all, one)| (all.or(keys), one.or(&shape))));
                }
                Shape::object(named, rest)
            }
            Expr::ArrayCompr { term, query, .. } => Shape::list(Kinds::ARRAY, within(query, term)),
            Expr::SetCompr { term, query, .. } => Shape::list(Kinds::SET, within(query, term)),
            Expr::ObjectCompr { key, value, query, .. } => {
                let keys = within(query, key).kinds;
                Shape::object(BTreeMap::new(), Some((keys, within(query, value))))
            }
            Expr::BinExpr { op: BinOp::Union | BinOp::Intersection, .. } => Shape::of(Kinds::SET),
            Expr::ArithExpr { op, lhs, .. } => match op {
                ArithOp::Sub => {
                    let left = self.of(place, lhs).kinds.and(Kinds::NUMBER.or(Kinds::SET));
                    if left == Kinds::NONE { Shape::any() } else { Shape::of(left) }
                }
                ArithOp::Add | ArithOp::Mul | ArithOp::Div | ArithOp::Mod => Shape::of(Kinds::NUMBER),
            },
            Expr::Call { fcn, params, .. } => {
                ast::chain(fcn).map_or_else(Shape::any, |chain| self.of_call(place, &chain, params))
            }
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => ast::chain(expr)
                .map_or_else(Shape::any, |chain| self.followed(place, &chain).unwrap_or_else(|_| Shape::any())),
            Expr::AssignExpr { .. } => Shape::any(),
        }
    }

    fn of_items(&self, place: &Place<'a>, kind: Kinds, items: &'a [Ref<Expr>]) -> Shape {
        let each = items.iter().map(|item| self.of(place, item)).reduce(|a, b| a.or(&b));
        each.map_or_else(|| Shape::of(kind), |each| Shape::list(kind, each))
    }

    fn of_call(&self, place: &Place<'a>, chain: &Chain<'a>, params: &'a [Ref<Expr>]) -> Shape {
        let target = place.rule.view.absolute(chain, &place.scope).map(|path| self.index.target(&path));
        if let Some(Target::Rule(path)) = target {
            return self.of_rule(&path);
        }
        let name = chain.dotted().unwrap_or_default();
        match (name.as_str(), params) {
            ("object.get", _) => Shape::any(),
            ("sort" | "array.reverse" | "array.slice", [list, ..]) => {
                let items = self.of(place, list).each().unwrap_or_else(|_| Shape::any());
                Shape::list(Kinds::ARRAY, items)
            }
            ("split" | "regex.split", _) => Shape::list(Kinds::ARRAY, Shape::of(Kinds::STRING)),
            _ => builtins::signature(&name).map_or_else(Shape::any, |signature| Shape::of(signature.gives)),
        }
    }

    /// What a chain leads to; nothing when a step leads nowhere.
    fn followed(&self, place: &Place<'a>, chain: &Chain<'a>) -> Result<Shape, Lost> {
        let (mut so_far, mut at, steps) = self.start(place, chain);
        for step in steps {
            let next = match &step {
                Part::Name(name) => at.member(name),
                Part::Number | Part::Dynamic(_) => at.each(),
            };
            match next {
                Err(missing) => return Err(Lost { so_far, step, at, missing }),
                Ok(next) => at = next,
            }
            so_far = format!("{so_far}{}", step.written());
        }
        Ok(at)
    }

    /// What a chain starts with, by name, and the steps from there. Steps that an import stands for come
    /// before those that are written.
    fn start(&self, place: &Place<'a>, chain: &Chain<'a>) -> (String, Shape, Vec<Part>) {
        let unknown = || (chain.root.clone(), Shape::any(), Vec::new());
        if place.scope.has(&chain.root) {
            return (chain.root.clone(), self.of_local(place, &chain.root), chain.parts.clone());
        }
        let Some(path) = place.rule.view.absolute(chain, &place.scope) else { return unknown() };
        let rest = chain.parts.iter().skip(chain.names().len()).cloned();
        let steps = |from: usize| path.iter().skip(from).cloned().map(Part::Name).chain(rest).collect::<Vec<_>>();
        if path.first().is_some_and(|root| root == "input") {
            return ("input".to_owned(), self.input.clone(), steps(1));
        }
        match self.index.target(&path) {
            Target::Rule(rule) => {
                let length = rule.split('.').count();
                let own = rule.strip_prefix(&place.rule.view.package).and_then(|name| name.strip_prefix('.'));
                (own.unwrap_or(&rule).to_owned(), self.of_rule(&rule), steps(length))
            }
            Target::Data if !self.replaced && path.get(1).is_some_and(|table| self.tables.get(table).is_some()) => {
                ("data".to_owned(), self.data.clone(), steps(1))
            }
            Target::Data | Target::Package(_) => unknown(),
        }
    }

    fn of_local(&self, place: &Place<'a>, name: &str) -> Shape {
        let Some((binding, scope)) = place.scope.binding(name) else { return Shape::any() };
        let there = place.with(scope);
        match binding {
            Binding::Free => Shape::any(),
            Binding::Value(expr) => self.of(&there, expr),
            Binding::Key(expr) => self.of(&there, expr).keys(),
            Binding::Item(expr) => self.of(&there, expr).each().unwrap_or_else(|_| Shape::any()),
            Binding::Argument(at) => self.of_argument(&place.rule.path, at),
        }
    }

    /// What the rule of that path gives: what any of its definitions does.
    fn of_rule(&self, path: &str) -> Shape {
        let Some((path, definitions)) = self.rules.get_key_value(path) else { return Shape::any() };
        self.remembered((Rc::clone(path), None), || {
            let mut found: Vec<Shape> = Vec::new();
            for definition in definitions {
                // An object rule gives what its several definitions make together.
                let plain = head_of(definition.rule).is_some_and(|head| head.parts.is_empty());
                ast::walk(definition.rule, &mut |node, scope| {
                    let place = Place { rule: definition.clone(), scope: scope.clone() };
                    match node {
                        Node::Value(_) | Node::Element(_) if !plain => found.push(Shape::any()),
                        Node::Value(Some(expr)) => found.push(self.of(&place, expr)),
                        Node::Value(None) => found.push(Shape::of(Kinds::BOOL)),
                        Node::Element(expr) => found.push(Shape::list(Kinds::SET, self.of(&place, expr))),
                        _ => {}
                    }
                });
            }
            found
        })
    }

    /// What a function is called with: every call is in the bundle.
    fn of_argument(&self, path: &Rc<str>, at: usize) -> Shape {
        let Some(sites) = self.sites.get(path.as_ref()) else { return Shape::any() };
        self.remembered((Rc::clone(path), Some(at)), || {
            let argument = |(place, arguments): &Site<'a>| {
                arguments.get(at).map_or_else(Shape::any, |argument| self.of(place, argument))
            };
            sites.iter().map(argument).collect()
        })
    }

    fn remembered(&self, key: Asked, find: impl FnOnce() -> Vec<Shape>) -> Shape {
        if self.replaced {
            return Shape::any();
        }
        if let Some(known) = self.known.borrow().get(&key) {
            // What is asked while it is being found may be anything.
            return known.clone().unwrap_or_else(Shape::any);
        }
        self.known.borrow_mut().insert(key.clone(), None);
        // WHY: what is remembered must not depend on how many steps the first question had left.
        let (steps, depth) = (self.steps.replace(0), self.depth.get());
        let shape = find().into_iter().reduce(|a, b| a.or(&b)).unwrap_or_else(Shape::any);
        self.steps.set(steps);
        self.depth.set(depth);
        self.known.borrow_mut().insert(key, Some(shape.clone()));
        shape
    }
}
