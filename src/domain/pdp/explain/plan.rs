//! Which rules a decision rests on, and in which order each body can be tried piece by piece.
//!
//! Promises: follows references wherever they lead, whatever the rules are called; an order in which
//! every name has its value before it is used, the author's own wherever that is one. Never
//! evaluates. Called by `pdp::explain` and its children.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use regorus::unstable::Module;
use regorus::unstable::Ref;
use regorus::unstable::Rule;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::dissect;
use crate::domain::pdp::ast::dissect::Body;
use crate::domain::pdp::ast::dissect::Condition;
use crate::domain::pdp::ast::dissect::Definition;
use crate::domain::pdp::ast::dissect::Index;
use crate::domain::pdp::ast::dissect::Look;
use crate::domain::pdp::ast::dissect::Shape;
use crate::domain::pdp::lint::graph::View;

/// Rules that are taken apart for one explanation; a bundle of people's has a hundred.
const DEFINITIONS_MAX: usize = 600;

/// What a reference is to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A rule or function, by path; how many steps of the reference its name takes.
    Rule(String, usize),
    /// `input` or `data`, or something in them; what the root of the reference stands for.
    Document(Vec<String>),
    /// A name of the body itself.
    Local,
    /// A function of Rego, or nothing known.
    Other,
}

/// A rule as written, with the order to try it in.
#[derive(Debug)]
pub(super) struct Planned {
    /// Path under `data`.
    pub(super) rule: String,
    /// Which module it stands in.
    pub(super) module: usize,
    pub(super) definition: Definition,
    /// One for each body of the definition.
    pub(super) bodies: Vec<Order>,
}

/// The order in which a body's conditions are tried.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Conditions, by number; those that only declare names are left out.
    pub(super) conditions: Vec<usize>,
    /// Names that have a value before each of them, and after the last.
    pub(super) bound: Vec<BTreeSet<String>>,
    /// Every name of the body.
    pub(super) locals: BTreeSet<String>,
}

/// Everything that an entry rests on.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nearest to the entry first.
    pub(super) definitions: Vec<Planned>,
    by_rule: BTreeMap<String, Vec<usize>>,
    modules: Vec<Names>,
    /// Whether more rules are reached than are taken apart.
    pub(super) cut: bool,
}

/// A rule before it is planned.
struct Written {
    module: usize,
    definition: Definition,
    needs: Vec<Vec<String>>,
}

/// What names mean in a module.
#[derive(Debug)]
struct Names {
    package: String,
    imports: BTreeMap<String, Vec<String>>,
    rules: BTreeSet<String>,
}

impl Plan {
    /// Follows the references of `entry` through `modules`.
    pub(super) fn new(modules: &[Ref<Module>], entry: &str) -> Self {
        let mut plan = Self::default();
        let mut written: BTreeMap<String, Vec<Written>> = BTreeMap::new();
        let mut roots: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (number, module) in modules.iter().enumerate() {
            let view = View::new(module);
            for rule in &module.policy {
                let Some(definition) = dissect::definition(rule) else { continue };
                roots.entry(view.package.clone()).or_default().extend(definition.name.first().cloned());
                let path = format!("{}.{}", view.package, definition.name.join("."));
                written.entry(path).or_default().push(Written {
                    module: number,
                    definition,
                    needs: needs(&view, rule),
                });
            }
        }
        for module in modules {
            let view = View::new(module);
            let rules = roots.get(&view.package).cloned().unwrap_or_default();
            plan.modules.push(Names { imports: view.aliases().clone(), package: view.package, rules });
        }
        let known: BTreeSet<String> = written.keys().cloned().collect();
        let mut waiting = VecDeque::from([entry.to_owned()]);
        let mut met = BTreeSet::from([entry.to_owned()]);
        while let Some(path) = waiting.pop_front() {
            for one in written.remove(&path).unwrap_or_default() {
                if plan.definitions.len() >= DEFINITIONS_MAX {
                    plan.cut = true;
                    return plan;
                }
                let needed = one.needs.iter().filter_map(|need| longest(&known, need));
                waiting.extend(needed.filter(|rule| met.insert(rule.clone())));
                plan.add(path.clone(), one);
            }
        }
        plan
    }

    fn add(&mut self, rule: String, one: Written) {
        let Written { module, definition, .. } = one;
        let bodies = definition.bodies.iter().map(|body| self.order(module, &definition, body)).collect();
        self.by_rule.entry(rule.clone()).or_default().push(self.definitions.len());
        self.definitions.push(Planned { rule, module, definition, bodies });
    }

    /// The definitions of a rule, by number.
    pub(super) fn of(&self, rule: &str) -> &[usize] {
        self.by_rule.get(rule).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn get(&self, number: usize) -> Option<&Planned> {
        self.definitions.get(number)
    }

    /// What a look of a body is at.
    pub(super) fn target(&self, planned: &Planned, order: &Order, look: &Look) -> Target {
        let Some(Index::Name(root)) = look.steps.first().map(|step| &step.part) else { return Target::Other };
        if order.locals.contains(root) {
            return Target::Local;
        }
        let Some(names) = self.modules.get(planned.module) else { return Target::Other };
        let base: Vec<String> = match names.imports.get(root) {
            _ if root == "input" => return Target::Document(vec![root.clone()]),
            _ if root == "data" => vec![root.clone()],
            Some(path) if path.first().is_some_and(|first| first == "input") => return Target::Document(path.clone()),
            Some(path) => path.clone(),
            None => names.package.split('.').map(str::to_owned).chain([root.clone()]).collect(),
        };
        let written = look.steps.iter().skip(1).map_while(|step| match &step.part {
            Index::Name(name) => Some(name.clone()),
            Index::Expr(_) => None,
        });
        let path: Vec<String> = base.iter().cloned().chain(written).collect();
        for length in (base.len().max(2)..=path.len()).rev() {
            let whole = path.get(..length).unwrap_or_default().join(".");
            if self.by_rule.contains_key(&whole) {
                return Target::Rule(whole, length - base.len() + 1);
            }
        }
        if root == "data" || names.imports.contains_key(root) { Target::Document(base) } else { Target::Other }
    }

    /// The first prefix of a reference that is not a whole document or package.
    pub(super) fn first_step(&self, planned: &Planned, order: &Order, look: &Look) -> usize {
        match self.target(planned, order, look) {
            Target::Rule(_, steps) => steps.saturating_sub(1),
            Target::Document(base) => usize::from(base.len() == 1),
            Target::Local | Target::Other => 0,
        }
    }

    fn order(&self, module: usize, definition: &Definition, body: &Body) -> Order {
        let known = |name: &String| {
            definition.arg_names.contains(name)
                || name == "input"
                || name == "data"
                || self
                    .modules
                    .get(module)
                    .is_some_and(|names| names.imports.contains_key(name) || names.rules.contains(name))
        };
        let mut locals: BTreeSet<String> = body.conditions.iter().flat_map(|one| one.declares.clone()).collect();
        let loose = body.conditions.iter().flat_map(|one| one.mentions.iter().chain(&one.may_bind));
        locals.extend(loose.filter(|name| !known(name)).cloned());
        let own = locals.clone();
        // What a condition declares for good has its value from nowhere else.
        let fixed = body.conditions.iter().filter(|one| one.shape != Shape::Declares).flat_map(|one| &one.declares);
        let fixed: BTreeSet<&String> = fixed.collect();
        locals.extend(definition.arg_names.iter().cloned());
        let mut order = Order { locals, ..Order::default() };
        let mut bound = definition.arg_names.clone();
        let tried = |one: &(usize, &Condition)| one.1.shape != Shape::Declares;
        let mut waiting: Vec<(usize, &Condition)> = body.conditions.iter().enumerate().filter(tried).collect();
        order.bound.push(bound.clone());
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|(_, one)| ready(one, &own, &bound, &fixed)).unwrap_or(0);
            let (number, one) = waiting.remove(ready);
            bound.extend(one.declares.iter().chain(binds(one, &fixed)).filter(|name| own.contains(*name)).cloned());
            order.conditions.push(number);
            order.bound.push(bound.clone());
        }
        order
    }
}

/// Names that a condition gives a value without declaring them. Under `not` and `every` it gives none.
fn binds<'c>(one: &'c Condition, fixed: &BTreeSet<&String>) -> impl Iterator<Item = &'c String> {
    let can = !matches!(one.shape, Shape::Not(_) | Shape::Every);
    one.may_bind.iter().filter(move |name| can && !fixed.contains(name))
}

fn ready(one: &Condition, own: &BTreeSet<String>, bound: &BTreeSet<String>, fixed: &BTreeSet<&String>) -> bool {
    let given: BTreeSet<&String> = one.declares.iter().chain(binds(one, fixed)).collect();
    let known = |name: &String| !own.contains(name) || bound.contains(name);
    let sides = one.sides.as_ref().is_none_or(|sides| sides.iter().any(|side| side.iter().all(known)));
    sides && one.mentions.iter().all(|name| known(name) || given.contains(name)) && one.inner.iter().all(known)
}

/// Where a rule's references lead: absolute paths, `data` first.
fn needs(view: &View, rule: &Rule) -> Vec<Vec<String>> {
    let mut needs = Vec::new();
    ast::walk(rule, &mut |node, scope| {
        if let Node::Ref(chain) | Node::Call(chain, _) = node {
            needs.extend(view.absolute(&chain, scope));
        }
    });
    needs
}

/// The rule that a path leads to or into.
fn longest(known: &BTreeSet<String>, path: &[String]) -> Option<String> {
    (2..=path.len())
        .rev()
        .map(|length| path.get(..length).unwrap_or_default().join("."))
        .find(|path| known.contains(path))
}
