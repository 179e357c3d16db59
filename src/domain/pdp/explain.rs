//! Why a bundle decided what it decided, and what would have to be different.
//!
//! Promises: what is told was evaluated by the interpreter that decides, on the author's own text;
//! rules are followed wherever references lead, whatever they are called; a change that is named was
//! tried and does what is said of it; the work is bounded, and what is left out is said. Never
//! changes what is decided. Called by the policy commands, and by `pdp::suite` for tests that fail.

pub mod changes;
mod pieces;
mod plan;
mod show;
mod trial;
mod why;

use serde::Serialize;

use regorus::Value;

use crate::domain::pdp::ENTRY_POINT;
use crate::domain::pdp::Input;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::ast::dissect::Body;
use crate::domain::pdp::ast::dissect::Condition;
use crate::domain::pdp::ast::dissect::Kind;
use crate::domain::pdp::ast::dissect::Look;
use crate::domain::pdp::ast::dissect::Shape;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::engine::Pdp;
use crate::domain::pdp::explain::changes::Change;
use crate::domain::pdp::explain::plan::Order;
use crate::domain::pdp::explain::plan::Plan;
use crate::domain::pdp::explain::plan::Planned;
use crate::domain::pdp::explain::plan::Target;
use crate::domain::pdp::explain::trial::Trial;
use crate::domain::pdp::explain::why::Asked;
use crate::domain::pdp::explain::why::Teller;
use crate::domain::pdp::lint;
use crate::domain::pdp::ruling::Ruling;
use crate::domain::refusal::Reason;

/// How a condition came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It holds.
    Held,
    /// It does not; the first that does not.
    Failed,
    /// Another failed before it.
    #[default]
    NotReached,
    /// A function in it failed.
    Error,
}

/// Something that a condition looked at, and what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Valued {
    /// A reference with its indexes, or an expression.
    pub what: String,
    /// The value as Rego writes it, cut when it is long; `undefined` when there is none.
    pub value: String,
}

/// A condition that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tried {
    /// As written, on one line.
    pub text: String,
    /// Line in the rule's file, from 1.
    pub line: u32,
    /// How it came out.
    pub state: State,
    /// What it looked at.
    pub values: Vec<Valued>,
    /// In how many more ways it was tried, whose values are not shown.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
    /// Why a function in it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The rules that it came out so for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Told>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Tried {
    fn new(condition: &Condition, state: State) -> Self {
        Self { text: show::one_line(&condition.text), line: condition.place.line, state, ..Self::default() }
    }

    fn push(&mut self, valued: Valued) {
        if !self.values.contains(&valued) {
            self.values.push(valued);
        }
    }
}

/// What is in question about a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Of {
    /// Its value.
    #[default]
    Rule,
    /// Whether it puts anything into its set.
    Set,
    /// Whether it puts one member into its set.
    Member,
}

/// A rule that was tried, as it is written in one place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Told {
    /// Its name.
    pub rule: String,
    /// The file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// The member of a set that is in question, or the arguments of a function.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// What was in question about it.
    #[serde(skip)]
    pub of: Of,
    /// Whether it holds.
    pub held: bool,
    /// What it gives, when that is not `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gave: Option<String>,
    /// Its conditions, in the order they were tried.
    pub conditions: Vec<Tried>,
    /// Whether it was told before, and is not told again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Anything else to know.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A reason, and the rule that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Given {
    /// Its code.
    pub code: String,
    /// The caller's words.
    pub message: String,
    /// What the caller can do.
    pub next: String,
    /// The rule that gave it; nothing when none can be named.
    pub because: Option<Told>,
}

/// What would have to be different.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Changes {
    /// Each of these alone makes it allowed.
    pub allow: Vec<Vec<Change>>,
    /// Each of these alone makes it wait for people.
    pub pending: Vec<Vec<Change>>,
    /// How many were tried.
    pub tried: usize,
}

/// A decision explained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What the gateway does.
    pub outcome: Outcome,
    /// Why not.
    pub reasons: Vec<Given>,
    /// When it is allowed: the rules that could have said no, and where each stopped. When no reason
    /// can be named: what the decision rests on.
    pub rules: Vec<Told>,
    /// What would have to be different, unless it is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
    /// What could not be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A bundle taken apart.
pub struct Explainer {
    plan: Plan,
    trial: Trial,
    entry: String,
}

impl Explainer {
    /// Takes apart everything that decisions rest on.
    pub fn load(bundle: &Bundle) -> Result<Self, BundleFault> {
        let (mut engine, cause) = (regorus::Engine::new(), "the policies have faults; see `loopgate policy check`");
        let refused = |_faults| BundleFault::new("", cause, "correct them first");
        lint::dangers(bundle.files()).map_err(refused)?;
        lint::parse(&mut engine, bundle.files()).map_err(refused)?;
        if !lint::tests_safe(engine.get_modules()).is_empty() {
            return Err(refused(Vec::new()));
        }
        let data = Value::from(bundle.data().clone());
        engine.add_data(data).map_err(|cause| lint::fault_of(&cause.to_string()))?;
        Self::of(&mut engine, ENTRY_POINT)
    }

    /// The same for any rule of an engine that has parsed safe policies and has its data.
    pub(super) fn of(engine: &mut regorus::Engine, entry: &str) -> Result<Self, BundleFault> {
        let modules = engine.get_modules().clone();
        let plan = Plan::new(&modules, entry);
        let trial = Trial::new(engine, &plan, &modules)?;
        Ok(Self { plan, trial, entry: entry.to_owned() })
    }

    /// Why a rule holds or does not, for some input.
    pub(super) fn rule(&mut self, input: Value) -> Vec<Told> {
        self.trial.ask(input);
        let asked = Asked { rule: self.entry.clone(), ..Asked::default() };
        Teller::new(&self.plan, &mut self.trial, false).why(&asked, false, 0)
    }

    /// Explains what `pdp`, which must have been compiled from the same bundle, decides about `input`.
    pub fn explain(&mut self, pdp: &Pdp, bundle: &Bundle, input: &Input, everything: bool) -> Explanation {
        let ruling = pdp.decide(input);
        self.trial.ask(serde_json::to_value(input).map_or(Value::Undefined, Value::from));
        let decision = self.trial.value(ENTRY_POINT).unwrap_or(Value::Undefined);
        let mut told = Explanation {
            outcome: ruling.outcome(),
            reasons: Vec::new(),
            rules: Vec::new(),
            changes: None,
            notes: Vec::new(),
        };
        if self.plan.cut {
            told.notes.push("the bundle has more rules than are taken apart; some are not told".to_owned());
        }
        let sets = self.sets();
        let mut teller = Teller::new(&self.plan, &mut self.trial, everything);
        told.reasons = given(&mut teller, &ruling, &decision, &sets);
        let asked = |rule: &String| Asked { rule: rule.clone(), ..Asked::default() };
        if ruling.outcome() == Outcome::Allow {
            told.rules = sets.iter().rev().flat_map(|rule| teller.why(&asked(rule), false, 0)).collect();
        }
        let wanted = std::mem::take(&mut teller.wanted);
        if ruling.outcome() != Outcome::Allow && ruling.fault().is_none() {
            told.changes = Some(changes::find(pdp, bundle, input, &ruling, &wanted));
        }
        if ruling.outcome() != Outcome::Allow && told.reasons.iter().all(|given| given.because.is_none()) {
            told.rules = self.rest(everything);
        }
        told
    }

    /// The sets that reasons come from, nearest to the decision first: those that the decision's
    /// member `reasons` looks at, and those that fill them.
    fn sets(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (planned, order, body) in self.bodies(&self.entry) {
            let of_reasons = body.members.iter().filter(|(name, _)| name == "reasons").flat_map(|(_, looks)| looks);
            let looks: Vec<_> =
                if body.members.is_empty() { body.looks.iter().collect() } else { of_reasons.collect() };
            found.extend(looks.into_iter().filter_map(|look| self.set_of(planned, order, look)));
        }
        let mut at = 0;
        while let Some(rule) = found.get(at).cloned() {
            for (planned, order, body) in self.bodies(&rule) {
                let looks = body
                    .conditions
                    .iter()
                    .filter(|one| matches!(one.shape, Shape::Some { .. }))
                    .filter_map(|one| one.looks.first());
                let more =
                    looks.filter_map(|look| self.set_of(planned, order, look)).filter(|more| !found.contains(more));
                // A set of names is no source of reasons, but a set whose members are taken apart may be.
                found.extend(more.collect::<Vec<_>>());
            }
            at += 1;
        }
        found.dedup();
        found
    }

    fn set_of(&self, planned: &Planned, order: &Order, look: &Look) -> Option<String> {
        let Target::Rule(rule, _) = self.plan.target(planned, order, look) else { return None };
        let is_set = |number: &usize| self.plan.get(*number).is_some_and(|one| one.definition.kind == Kind::Set);
        self.plan.of(&rule).iter().any(is_set).then_some(rule)
    }

    fn bodies(&self, rule: &str) -> impl Iterator<Item = (&Planned, &Order, &Body)> {
        let all = self.plan.of(rule).iter().filter_map(|number| self.plan.get(*number));
        all.flat_map(|planned| {
            planned.bodies.iter().zip(&planned.definition.bodies).map(move |(order, body)| (planned, order, body))
        })
    }

    /// What the decision rests on, when no reason names a rule.
    fn rest(&mut self, everything: bool) -> Vec<Told> {
        let asked = Asked { rule: self.entry.clone(), ..Asked::default() };
        let mut targets = Vec::new();
        for (planned, order, body) in self.bodies(&self.entry) {
            for look in body.looks.iter().filter(|look| look.args.is_none()) {
                if let Target::Rule(rule, _) = self.plan.target(planned, order, look) {
                    targets.push(Asked { rule, ..Asked::default() });
                }
            }
        }
        let mut teller = Teller::new(&self.plan, &mut self.trial, everything);
        let mut told = teller.why(&asked, false, 0);
        if told.iter().any(|one| one.held) {
            told.extend(targets.iter().flat_map(|target| teller.why(target, false, 1)));
        }
        told
    }
}

/// Each reason with the rule that gave it.
fn given(teller: &mut Teller<'_>, ruling: &Ruling, decision: &Value, sets: &[String]) -> Vec<Given> {
    let raw: Vec<Value> = match decision.as_object().ok().and_then(|members| members.get(&Value::from("reasons"))) {
        Some(Value::Set(items)) => items.iter().cloned().collect(),
        Some(Value::Array(items)) => items.iter().cloned().collect(),
        _ => Vec::new(),
    };
    let of = |reason: &Reason| {
        raw.iter().find(|value| {
            let member = |name: &str| value.as_object().ok().and_then(|members| members.get(&Value::from(name)));
            let is = |name: &str, text: &str| member(name).is_some_and(|value| *value == Value::from(text));
            is("code", &reason.code) && is("message", &reason.message)
        })
    };
    let mut all = Vec::new();
    for reason in ruling.reasons() {
        let because = of(reason).and_then(|value| sets.iter().find_map(|set| teller.giver(set, value)));
        all.push(Given {
            code: reason.code.clone(),
            message: reason.message.clone(),
            next: reason.next.clone(),
            because,
        });
    }
    all
}

#[cfg(test)]
mod tests;
