//! A rule tried with its first conditions only, one more each time.
//!
//! Promises: the very interpreter that decides evaluates the author's own text, in the author's own
//! package; what it says about a rule is what the rule does. A rule that cannot be taken apart is
//! left whole. Bounded: every evaluation has the engine's timer, their number is counted, and a few
//! that run into the timer end the trial. Never decides anything. Called by `pdp::explain`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use regorus::Value;
use regorus::unstable::Module;
use regorus::unstable::Ref;

use crate::domain::pdp::ast::dissect::Look;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::engine;
use crate::domain::pdp::explain::pieces::LOOKS_MAX;
use crate::domain::pdp::explain::pieces::OWN;
use crate::domain::pdp::explain::pieces::added;
use crate::domain::pdp::explain::pieces::next_looks;
use crate::domain::pdp::explain::pieces::sizes;
use crate::domain::pdp::explain::plan::Plan;
use crate::domain::pdp::explain::plan::Planned;
use crate::domain::pdp::lint;

/// Evaluations for one explanation.
const EVALUATIONS_MAX: usize = 4_000;
/// Evaluations that may run into the timer before no more are made.
const TIMEOUTS_MAX: usize = 3;
/// Bodies that may turn out not to be taken apart.
const BROKEN_MAX: usize = 40;
/// Columns of a line; the author's line with what is put before it.
const COLUMNS: u32 = 8_192;

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
            Some(args) => (format!("{package}{name}_call"), self.with_args(args)),
        };
        // What is only looked at may fail without the condition failing, so it is undefined then.
        let answer = self.eval(rule, input, what == "l")?;
        let rows: Vec<&Value> = match &answer {
            Value::Array(rows) => rows.iter().collect(),
            Value::Set(rows) => rows.iter().collect(),
            _ => Vec::new(),
        };
        let (Some(bound), Some(body)) =
            (order.bound.get(count.min(order.conditions.len())), planned.definition.bodies.get(body))
        else {
            return Err(Trouble::Whole);
        };
        let looks = if what == "s" { next_looks(body, order, count) } else { &[] };
        Ok(rows.into_iter().filter_map(|row| row_of(row, bound, looks)).collect())
    }

    /// What a function gives for these arguments; undefined when nothing.
    pub(super) fn call(&mut self, planned: &Planned, number: usize, args: &[Value]) -> Result<Value, Trouble> {
        let package = planned.rule.strip_suffix(&planned.definition.name.join(".")).unwrap_or_default();
        let input = self.with_args(args);
        self.eval(format!("{package}{OWN}_f_{number}_call"), input, true)
    }

    /// The input of a rule that calls a function: its arguments, and what it shall see as input.
    fn with_args(&self, args: &[Value]) -> Value {
        let members = [("args", Value::from(args.to_vec())), ("input", self.input.clone())];
        let asked: BTreeMap<_, _> = members.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
        Value::from(asked)
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
