//! A rule tried with its first conditions only, one more each time.
//!
//! Promises: the very interpreter that decides evaluates the author's own text, in the author's own
//! package; what it says about a rule is what the rule does. A rule that cannot be taken apart is
//! left whole. Bounded: every evaluation has the engine's timer, their number is counted, and a few
//! that run into the timer end the trial. Never decides anything. Called by `pdp::explain`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use regorus::Value;
use regorus::unstable::Module;
use regorus::unstable::Ref;

use crate::domain::pdp::ast::dissect::Body;
use crate::domain::pdp::ast::dissect::Condition;
use crate::domain::pdp::ast::dissect::Index;
use crate::domain::pdp::ast::dissect::Kind;
use crate::domain::pdp::ast::dissect::Look;
use crate::domain::pdp::ast::dissect::Shape;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::engine;
use crate::domain::pdp::explain::plan::Order;
use crate::domain::pdp::explain::plan::Plan;
use crate::domain::pdp::explain::plan::Planned;
use crate::domain::pdp::lint;

/// Evaluations for one explanation.
const EVALUATIONS_MAX: usize = 4_000;
/// Evaluations that may run into the timer before no more are made.
const TIMEOUTS_MAX: usize = 3;
/// Bodies that may turn out not to be taken apart.
const BROKEN_MAX: usize = 40;
/// Ways of looking in one condition.
const LOOKS_MAX: usize = 12;
/// Columns of a line; the author's line with what is put before it.
const COLUMNS: u32 = 8_192;

/// Names that no author uses.
const OWN: &str = "loopgate_explain";

/// Why something cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The engine failed on it; in its words.
    Failed(String),
    /// It took too long, or there have been too many before it.
    Spent,
    /// The body cannot be taken apart.
    Whole,
}

/// One way in which the first conditions of a body hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) locals: BTreeMap<String, Value>,
    /// What the rule gives, when everything held.
    pub(super) result: Option<Value>,
    /// What each look of what comes next sees; empty when that was not asked for.
    pub(super) seen: Vec<Seen>,
}

/// What a look sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Values of the prefixes of a reference, or of the arguments of a call; the last is the whole.
    /// Several when a name in it has no value yet.
    pub(super) values: Vec<Vec<Value>>,
    /// Values of its computed indexes, in order.
    pub(super) indexes: Vec<Value>,
}

/// An engine that holds every body in pieces.
pub(super) struct Trial {
    base: regorus::Engine,
    engine: regorus::Engine,
    input: Value,
    broken: BTreeSet<(usize, usize)>,
    left: usize,
    timeouts: usize,
}

/// Part of the text that is added: which lines are of which body.
struct Added {
    path: String,
    text: String,
    owners: Vec<(u32, (usize, usize))>,
}

impl Trial {
    /// Puts the pieces of every planned body beside the policies that `engine` has parsed.
    pub(super) fn new(engine: &regorus::Engine, plan: &Plan, modules: &[Ref<Module>]) -> Result<Self, BundleFault> {
        let mut broken = BTreeSet::new();
        loop {
            let added = added(plan, modules, &broken);
            let mut base = engine.clone();
            let parsed = added.iter().try_for_each(|one| {
                base.set_policy_length_config(columns());
                base.add_policy(one.path.clone(), one.text.clone()).map(drop)
            });
            let prepared =
                engine::guarded(|| parsed.and_then(|()| base.eval_rule(format!("data.{OWN}.ready")).map(drop)));
            let cause = match prepared {
                Ok(Ok(())) => {
                    base.set_execution_timer_config(engine::TIMER);
                    let engine = base.clone();
                    let input = Value::Undefined;
                    return Ok(Self { base, engine, input, broken, left: EVALUATIONS_MAX, timeouts: 0 });
                }
                Ok(Err(cause)) => lint::fault_of(&cause.to_string()),
                Err(panic) => BundleFault::new("", panic, ""),
            };
            let owner = added
                .iter()
                .find(|one| one.path == cause.path)
                .and_then(|one| one.owners.iter().rev().find(|(line, _)| *line <= cause.line).map(|(_, owner)| *owner));
            match owner {
                Some(owner) if broken.len() < BROKEN_MAX && broken.insert(owner) => {}
                _ => return Err(cause),
            }
        }
    }

    /// What is asked from now on.
    pub(super) fn ask(&mut self, input: Value) {
        self.input = input;
        self.left = EVALUATIONS_MAX;
        self.timeouts = 0;
    }

    /// The value of a whole rule.
    pub(super) fn value(&mut self, rule: &str) -> Result<Value, Trouble> {
        let input = self.input.clone();
        self.eval(rule.to_owned(), input, true)
    }

    /// Every way in which the first `count` conditions of a body hold. One more than there are
    /// stands for the result, which may be undefined as conditions may.
    pub(super) fn rows(
        &mut self,
        planned: &Planned,
        at: (usize, usize),
        count: usize,
        args: Option<&[Value]>,
    ) -> Result<Vec<Row>, Trouble> {
        self.pieces(planned, at, count, args, "l")
    }

    /// The same, with what the next condition sees, or the result.
    pub(super) fn seen(
        &mut self,
        planned: &Planned,
        at: (usize, usize),
        count: usize,
        args: Option<&[Value]>,
    ) -> Result<Vec<Row>, Trouble> {
        self.pieces(planned, at, count, args, "s")
    }

    fn pieces(
        &mut self,
        planned: &Planned,
        (number, body): (usize, usize),
        count: usize,
        args: Option<&[Value]>,
        what: &str,
    ) -> Result<Vec<Row>, Trouble> {
        if self.broken.contains(&(number, body)) {
            return Err(Trouble::Whole);
        }
        let order = planned.bodies.get(body).ok_or(Trouble::Whole)?;
        let name = format!("{OWN}_{what}_{number}_{body}_{count}");
        let package = planned.rule.strip_suffix(&planned.definition.name.join(".")).unwrap_or_default();
        let (rule, input) = match args {
            None => (format!("{package}{name}"), self.input.clone()),
            Some(args) => {
                let members = [("args", Value::from(args.to_vec())), ("input", self.input.clone())];
                let asked: BTreeMap<_, _> =
                    members.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
                (format!("{package}{name}_call"), Value::from(asked))
            }
        };
        // What is only looked at may fail without the condition failing, so it is undefined then.
        let answer = self.eval(rule, input, what == "l")?;
        let rows: Vec<&Value> = answer.as_array().map(|rows| rows.iter().collect()).unwrap_or_default();
        let (Some(bound), Some(body)) =
            (order.bound.get(count.min(order.conditions.len())), planned.definition.bodies.get(body))
        else {
            return Err(Trouble::Whole);
        };
        let looks = if what == "s" { next_looks(body, order, count) } else { &[] };
        Ok(rows.into_iter().filter_map(|row| row_of(row, bound, looks)).collect())
    }

    fn eval(&mut self, rule: String, input: Value, strict: bool) -> Result<Value, Trouble> {
        if self.left == 0 || self.timeouts >= TIMEOUTS_MAX {
            return Err(Trouble::Spent);
        }
        self.left -= 1;
        let engine = &mut self.engine;
        let answer = engine::guarded(|| {
            engine.set_strict_builtin_errors(strict);
            engine.set_input(input);
            engine.eval_rule(rule)
        });
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(cause)) if cause.downcast_ref::<regorus::LimitError>().is_some() => {
                self.timeouts += 1;
                Err(Trouble::Spent)
            }
            Ok(Err(cause)) => Err(Trouble::Failed(lint::fault_of(&cause.to_string()).message)),
            Err(panic) => {
                // What panicked may be in pieces.
                self.engine = self.base.clone();
                Err(Trouble::Failed(panic))
            }
        }
    }
}

fn columns() -> regorus::PolicyLengthConfig {
    let mut config = regorus::PolicyLengthConfig::default();
    config.max_col = std::num::NonZeroU32::new(COLUMNS).unwrap_or(config.max_col);
    config
}

/// What the condition after the first `count` looks at, or the result.
pub(super) fn next_looks<'a>(body: &'a Body, order: &Order, count: usize) -> &'a [Look] {
    match order.conditions.get(count) {
        Some(at) => body.conditions.get(*at).map(|one| one.looks.as_slice()).unwrap_or_default(),
        None => &body.looks,
    }
}

fn row_of(row: &Value, bound: &BTreeSet<String>, looks: &[Look]) -> Option<Row> {
    let row = row.as_array().ok()?;
    let names = row.first()?.as_array().ok()?;
    let locals = bound.iter().cloned().zip(names.iter().cloned()).collect();
    if looks.is_empty() {
        return Some(Row { locals, result: row.get(1).cloned(), seen: Vec::new() });
    }
    let mut seen = Vec::new();
    let mut given = row.get(1).and_then(|seen| seen.as_array().ok()).into_iter().flat_map(|seen| seen.iter());
    let many = |value: &Value| -> Vec<Value> {
        value.as_array().map(|items| items.iter().cloned().collect()).unwrap_or_default()
    };
    for look in looks.iter().take(LOOKS_MAX) {
        let (values, indexes) = sizes(look);
        let values = given.by_ref().take(values).map(many).collect();
        let indexes = given.by_ref().take(indexes).map(|one| many(one).pop().unwrap_or(Value::Undefined)).collect();
        seen.push(Seen { values, indexes });
    }
    Some(Row { locals, result: None, seen })
}

/// How many values and indexes are looked at for one look.
fn sizes(look: &Look) -> (usize, usize) {
    match (&look.args, look.steps.len()) {
        (Some(args), _) => (args.len() + 1, 0),
        (None, 0) => (1, 0),
        (None, steps) => (steps, indexes(look).count()),
    }
}

fn indexes(look: &Look) -> impl Iterator<Item = &String> {
    look.steps.iter().filter_map(|step| match &step.part {
        Index::Expr(text) => Some(text),
        Index::Name(_) => None,
    })
}

/// The pieces of every body, a module of its own for each module they come from.
fn added(plan: &Plan, modules: &[Ref<Module>], broken: &BTreeSet<(usize, usize)>) -> Vec<Added> {
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

    fn piece(&self, name: &str, count: usize, row: &str, text: &mut String) {
        let of_function = self.planned.definition.kind == Kind::Function;
        let args = self.planned.definition.args.join(", ");
        let head = if of_function { format!("{name}({args})") } else { name.to_owned() };
        let _infallible = writeln!(text, "{head} := [{row} |\ntrue");
        let done: Vec<&Condition> =
            self.order.conditions.iter().take(count).filter_map(|at| self.body.conditions.get(*at)).collect();
        for bare in self.bare(&done) {
            let _infallible = writeln!(text, "some {bare}");
        }
        for condition in done {
            let _infallible = writeln!(text, "{}", condition.text);
        }
        let _infallible = writeln!(text, "]");
        if of_function {
            let given: Vec<String> =
                (0..self.planned.definition.args.len()).map(|at| format!("{OWN}_a[{at}]")).collect();
            let given = given.join(", ");
            let _infallible = writeln!(
                text,
                "{name}_call := {OWN}_r if {{\n{OWN}_a := input.args\n{OWN}_r := {name}({given}) with input as input.input\n}}"
            );
        }
    }

    /// Names that the author declares on their own and that these conditions mention.
    fn bare(&self, done: &[&Condition]) -> BTreeSet<String> {
        let of_some = self.body.conditions.iter().filter(|one| one.shape == Shape::Declares);
        let declared: BTreeSet<&String> = of_some.flat_map(|one| &one.declares).collect();
        let mentioned = done.iter().flat_map(|one| one.mentions.iter().chain(&one.may_bind));
        mentioned.filter(|name| declared.contains(name)).cloned().collect()
    }

    /// What the next condition looks at, each as a list of its values.
    fn looks(&self, count: usize) -> String {
        let next = self.order.conditions.get(count).and_then(|at| self.body.conditions.get(*at));
        let with = next.map(|next| next.with.as_str()).unwrap_or_default();
        let mut pieces = Vec::new();
        for look in next_looks(self.body, self.order, count).iter().take(LOOKS_MAX) {
            let open: Vec<String> = look
                .names
                .iter()
                .filter(|name| self.order.locals.contains(*name))
                .filter(|name| !self.order.bound.get(count).is_some_and(|bound| bound.contains(*name)))
                .cloned()
                .collect();
            let some = if open.is_empty() { String::new() } else { format!("some {}\n", open.join(", ")) };
            let see = |text: &str| format!("[{OWN}_v | {some}{OWN}_v := {text} {with}\n]");
            if let Some(args) = &look.args {
                pieces.extend(args.iter().map(|arg| see(arg)));
            } else {
                let first = self.plan.first_step(self.planned, self.order, look);
                let prefixes = look.steps.iter().enumerate().rev().skip(1).rev();
                pieces.extend(prefixes.map(|(at, step)| if at < first { "[]".to_owned() } else { see(&step.text) }));
            }
            pieces.push(see(&look.text));
            if look.args.is_none() {
                pieces.extend(indexes(look).map(|index| see(index)));
            }
        }
        pieces.join(",\n")
    }
}
