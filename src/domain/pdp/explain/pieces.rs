//! The text of every body in pieces: its first conditions only, one more each time.
//!
//! Promises: the author's own words in the author's own package and imports, under names that no
//! author uses; what is only looked at stands in lists of its own, so that what is undefined there
//! ends nothing. Never parses and never evaluates. Called by `explain::trial`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use regorus::unstable::Module;
use regorus::unstable::Ref;

use crate::domain::pdp::ast::dissect::Body;
use crate::domain::pdp::ast::dissect::Condition;
use crate::domain::pdp::ast::dissect::Index;
use crate::domain::pdp::ast::dissect::Kind;
use crate::domain::pdp::ast::dissect::Look;
use crate::domain::pdp::ast::dissect::Shape;
use crate::domain::pdp::ast::dissect::Step;
use crate::domain::pdp::explain::plan::Order;
use crate::domain::pdp::explain::plan::Plan;
use crate::domain::pdp::explain::plan::Planned;

/// Ways of looking in one condition.
pub(super) const LOOKS_MAX: usize = 12;

/// Names that no author uses.
pub(super) const OWN: &str = "loopgate_explain";

/// No values.
const NOTHING: &str = "[]";

/// Part of the text that is added: which lines are of which body.
pub(super) struct Added {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) owners: Vec<(u32, (usize, usize))>,
}

/// The pieces of every body, a module of its own for each module they come from.
pub(super) fn added(plan: &Plan, modules: &[Ref<Module>], broken: &BTreeSet<(usize, usize)>) -> Vec<Added> {
    let ready =
        Added { path: format!("{OWN}.rego"), text: format!("package {OWN}\nready := true\n"), owners: Vec::new() };
    let mut added = vec![ready];
    for (at, module) in modules.iter().enumerate() {
        let mut text = format!("{}\n", module.package.span.text());
        for import in &module.imports {
            let _infallible = writeln!(text, "{}", import.span.text());
        }
        let mut owners = Vec::new();
        let of_module = plan.definitions.iter().enumerate().filter(|(_, planned)| planned.module == at);
        for (number, planned) in of_module.filter(|(_, planned)| planned.definition.kind != Kind::Default) {
            if planned.definition.kind == Kind::Function {
                let definition = &planned.definition;
                call(&format!("{OWN}_f_{number}"), &definition.name.join("."), definition.args.len(), &mut text);
            }
            for (which, (body, order)) in planned.definition.bodies.iter().zip(&planned.bodies).enumerate() {
                if !broken.contains(&(number, which)) {
                    let line = u32::try_from(text.lines().count() + 1).unwrap_or(u32::MAX);
                    owners.push((line, (number, which)));
                    let writer = Writer { plan, planned, body, order };
                    writer.write(&format!("{number}_{which}"), &mut text);
                }
            }
        }
        if !owners.is_empty() {
            added.push(Added { path: format!("{OWN}_{at}.rego"), text, owners });
        }
    }
    added
}

/// Writes one body in pieces.
struct Writer<'a> {
    plan: &'a Plan,
    planned: &'a Planned,
    body: &'a Body,
    order: &'a Order,
}

impl Writer<'_> {
    fn write(&self, id: &str, text: &mut String) {
        let all = self.order.conditions.len();
        for count in 0..=all {
            let locals = self.locals(count);
            self.piece(&format!("{OWN}_l_{id}_{count}"), count, &format!("[[{locals}]]"), text);
            let looks = self.looks(count);
            if !looks.is_empty() {
                self.piece(&format!("{OWN}_s_{id}_{count}"), count, &format!("[[{locals}],\n[{looks}]]"), text);
            }
        }
        let result = self.body.result.as_ref().map_or("true", |look| look.text.as_str());
        let row = format!("[[{}],\n{result}\n]", self.locals(all));
        self.piece(&format!("{OWN}_l_{id}_{}", all + 1), all, &row, text);
    }

    fn locals(&self, count: usize) -> String {
        self.order.bound.get(count).into_iter().flatten().cloned().collect::<Vec<_>>().join(", ")
    }

    /// A set of rows, in a body of its own as the author's is; a function's in a comprehension.
    fn piece(&self, name: &str, count: usize, row: &str, text: &mut String) {
        let definition = &self.planned.definition;
        let (open, close) = match definition.kind {
            Kind::Function => (format!("{name}({}) := [{row} |", definition.args.join(", ")), "]"),
            Kind::Value | Kind::Set | Kind::Default => (format!("{name} contains {row} if {{"), "}"),
        };
        let _infallible = writeln!(text, "{open}\ntrue");
        let done: Vec<&Condition> =
            self.order.conditions.iter().take(count).filter_map(|at| self.body.conditions.get(*at)).collect();
        for bare in self.bare(&done) {
            let _infallible = writeln!(text, ";some {bare}");
        }
        for condition in done {
            let _infallible = writeln!(text, ";{}", condition.text);
        }
        let _infallible = writeln!(text, "{close}");
        if definition.kind == Kind::Function {
            call(name, name, definition.args.len(), text);
        }
    }

    /// Names that the author declares on their own and that these conditions mention.
    fn bare(&self, done: &[&Condition]) -> BTreeSet<String> {
        let of_some = self.body.conditions.iter().filter(|one| one.shape == Shape::Declares);
        let declared: BTreeSet<&String> = of_some.flat_map(|one| &one.declares).collect();
        let mentioned = done.iter().flat_map(|one| one.mentions.iter().chain(&one.may_bind));
        mentioned.filter(|name| declared.contains(name)).cloned().collect()
    }

    /// Names of a look that have no value before the next condition.
    fn open(&self, look: &Look, count: usize) -> BTreeSet<String> {
        let bound = self.order.bound.get(count);
        let has_none = |name: &&String| !bound.is_some_and(|bound| bound.contains(*name));
        look.names.iter().filter(|name| self.order.locals.contains(*name)).filter(has_none).cloned().collect()
    }

    /// What the next condition looks at, each as a list of its values.
    fn looks(&self, count: usize) -> String {
        let next = self.order.conditions.get(count).and_then(|at| self.body.conditions.get(*at));
        let with = next.map(|next| next.with.as_str()).unwrap_or_default();
        let mut pieces = Vec::new();
        for look in next_looks(self.body, self.order, count).iter().take(LOOKS_MAX) {
            let (values, indexes) = sizes(look);
            let open = self.open(look, count);
            let free: BTreeSet<&String> = indexes_of(&look.steps).filter(|index| open.contains(*index)).collect();
            if free.len() < open.len() || (look.args.is_some() && !open.is_empty()) {
                // WHY: what needs a name that the condition itself gives a value cannot be looked at before.
                pieces.extend(std::iter::repeat_n(NOTHING.to_owned(), values + indexes));
                continue;
            }
            let see = |text: &str, steps: usize| {
                let within = indexes_of(look.steps.get(..steps).unwrap_or_default());
                let some: BTreeSet<String> =
                    within.filter(|index| free.contains(index)).map(|name| format!("some {name}\n")).collect();
                let some: String = some.into_iter().collect();
                format!("[{OWN}_v | {some}{OWN}_v := {text} {with}\n]")
            };
            if let Some(args) = &look.args {
                pieces.extend(args.iter().map(|arg| see(arg, 0)));
            } else {
                let first = self.plan.first_step(self.planned, self.order, look);
                let prefixes = look.steps.iter().enumerate().take(look.steps.len().saturating_sub(1));
                pieces.extend(
                    prefixes.map(|(at, step)| if at < first { NOTHING.to_owned() } else { see(&step.text, at + 1) }),
                );
            }
            pieces.push(see(&look.text, look.steps.len()));
            if look.args.is_none() {
                let index = |index: &String| if free.contains(index) { NOTHING.to_owned() } else { see(index, 0) };
                pieces.extend(indexes_of(&look.steps).map(index));
            }
        }
        pieces.join(",\n")
    }
}

/// A rule that calls a function with arguments from its input.
fn call(name: &str, function: &str, args: usize, text: &mut String) {
    let given: Vec<String> = (0..args).map(|at| format!("{OWN}_a[{at}]")).collect();
    let given = given.join(", ");
    let _infallible = writeln!(
        text,
        "{name}_call := {OWN}_r if {{\n{OWN}_a := input.args\n{OWN}_r := {function}({given}) with input as input.input\n}}"
    );
}

/// What the condition after the first `count` looks at, or the result.
pub(super) fn next_looks<'a>(body: &'a Body, order: &Order, count: usize) -> &'a [Look] {
    match order.conditions.get(count) {
        Some(at) => body.conditions.get(*at).map(|one| one.looks.as_slice()).unwrap_or_default(),
        None => &body.looks,
    }
}

/// How many values and indexes are looked at for one look.
pub(super) fn sizes(look: &Look) -> (usize, usize) {
    match (&look.args, look.steps.len()) {
        (Some(args), _) => (args.len() + 1, 0),
        (None, 0) => (1, 0),
        (None, steps) => (steps, indexes_of(&look.steps).count()),
    }
}

/// The computed indexes of a reference, as written.
fn indexes_of(steps: &[Step]) -> impl Iterator<Item = &String> {
    steps.iter().filter_map(|step| match &step.part {
        Index::Expr(text) => Some(text),
        Index::Name(_) => None,
    })
}
