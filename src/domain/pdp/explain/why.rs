//! Why a rule holds, or why it does not: condition after condition, with values.
//!
//! Promises: the first condition that does not hold is the one that is named; what it rests on is
//! told below it, every rule once; bounded in depth and in the number of rules told. Never guesses:
//! everything told was evaluated. Called by `pdp::explain`.

mod because;
mod values;

use std::collections::BTreeSet;

use regorus::Value;

use crate::domain::pdp::ast::dissect::Condition;
use crate::domain::pdp::ast::dissect::Kind;
use crate::domain::pdp::explain::Of;
use crate::domain::pdp::explain::State;
use crate::domain::pdp::explain::Told;
use crate::domain::pdp::explain::Tried;
use crate::domain::pdp::explain::Valued;
use crate::domain::pdp::explain::plan::Order;
use crate::domain::pdp::explain::plan::Plan;
use crate::domain::pdp::explain::plan::Planned;
use crate::domain::pdp::explain::show;
use crate::domain::pdp::explain::trial::Row;
use crate::domain::pdp::explain::trial::Trial;
use crate::domain::pdp::explain::trial::Trouble;
use crate::domain::pdp::explain::why::values::result_name;

/// Rules told below one another.
const DEPTH_MAX: usize = 8;
/// Rules told in all.
const TOLD_MAX: usize = 240;
/// Ways to fail that are shown of one condition.
const ROWS_MAX: usize = 3;
/// Results that are shown of a rule that gave others than the one asked for.
const OTHERS_MAX: usize = 12;

/// What is asked about a rule.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) rule: String,
    /// Of a function.
    pub(super) args: Option<Vec<Value>>,
    /// Of a set: the member in question.
    pub(super) member: Option<Value>,
}

/// Tells about one input.
pub(super) struct Teller<'a> {
    pub(super) plan: &'a Plan,
    pub(super) trial: &'a mut Trial,
    told: BTreeSet<String>,
    /// Places in the data, as names under `data`, where a condition that failed found nothing.
    pub(super) wanted: BTreeSet<Vec<String>>,
    left: usize,
    everything: bool,
}

/// One body under question.
#[derive(Clone, Copy)]
struct Case<'a> {
    planned: &'a Planned,
    at: (usize, usize),
    order: &'a Order,
    asked: &'a Asked,
    depth: usize,
}

impl<'a> Teller<'a> {
    /// With `everything`, what holds is told as thoroughly as what does not.
    pub(super) fn new(plan: &'a Plan, trial: &'a mut Trial, everything: bool) -> Self {
        Self { plan, trial, told: BTreeSet::new(), wanted: BTreeSet::new(), left: TOLD_MAX, everything }
    }

    /// Every definition of a rule; only those that hold when `held`.
    pub(super) fn why(&mut self, asked: &Asked, held: bool, depth: usize) -> Vec<Told> {
        if depth >= DEPTH_MAX || self.left == 0 {
            return Vec::new();
        }
        let about = about(asked);
        let name = asked.rule.rsplit('.').next().unwrap_or_default().to_owned();
        if !self.told.insert(format!("{} {about} {held}", asked.rule)) {
            return vec![Told { rule: name, about, of: of(asked, false), again: true, held, ..Told::default() }];
        }
        let mut all = Vec::new();
        for number in self.plan.of(&asked.rule).to_vec() {
            let Some(planned) = self.plan.get(number) else { continue };
            if planned.definition.kind == Kind::Default || self.left == 0 {
                continue;
            }
            let holds = !held || self.holds(planned, number, asked);
            if holds {
                self.left -= 1;
                all.push(self.tell(planned, number, asked, depth));
            }
        }
        let sure =
            all.iter().all(|told| told.note.is_empty() && told.conditions.iter().all(|one| one.state != State::Error));
        match self.holds_whole(asked) {
            Some(truth) if sure && truth != all.iter().any(|told| told.held) => {
                let note = "this rule cannot be told condition by condition".to_owned();
                vec![Told { rule: name, about, of: of(asked, false), held: truth, note, ..Told::default() }]
            }
            _ => all,
        }
    }

    /// Whether the rule itself, in one piece, holds. INVARIANT: what is told of its pieces agrees
    /// with this, or is not told.
    fn holds_whole(&mut self, asked: &Asked) -> Option<bool> {
        let numbers = self.plan.of(&asked.rule).to_vec();
        let defaults = |number: &usize| self.plan.get(*number).is_some_and(|one| one.definition.kind == Kind::Default);
        if numbers.iter().any(defaults) {
            return None;
        }
        let first = *numbers.first()?;
        let planned = self.plan.get(first)?;
        let value = match &asked.args {
            Some(args) => self.trial.call(planned, first, args).ok()?,
            None => self.trial.value(&asked.rule).ok()?,
        };
        match (&asked.member, value) {
            (_, Value::Undefined) => Some(false),
            (Some(member), Value::Set(members)) => Some(members.contains(member)),
            (None, Value::Set(members)) if planned.definition.kind == Kind::Set => Some(!members.is_empty()),
            (None, Value::Object(members)) if members.is_empty() => None,
            _ => Some(true),
        }
    }

    fn holds(&mut self, planned: &Planned, number: usize, asked: &Asked) -> bool {
        (0..planned.bodies.len()).any(|body| {
            let Some(order) = planned.bodies.get(body) else { return false };
            let rows = self.trial.rows(planned, (number, body), order.conditions.len() + 1, asked.args.as_deref());
            rows.is_ok_and(|rows| rows.iter().any(|row| gives(row, planned, asked)))
        })
    }

    /// The definition that gives this very member of a set, if one does.
    pub(super) fn giver(&mut self, rule: &str, member: &Value) -> Option<Told> {
        let asked = Asked { rule: rule.to_owned(), member: Some(member.clone()), ..Asked::default() };
        for number in self.plan.of(rule).to_vec() {
            let Some(planned) = self.plan.get(number) else { continue };
            if planned.definition.kind == Kind::Set && self.holds(planned, number, &asked) {
                return Some(self.tell(planned, number, &asked, 0));
            }
        }
        None
    }

    /// One definition, whether it holds or not.
    pub(super) fn tell(&mut self, planned: &Planned, number: usize, asked: &Asked, depth: usize) -> Told {
        let mut told = Told {
            rule: planned.definition.name.join("."),
            path: planned.definition.place.path.clone(),
            line: planned.definition.place.line,
            about: about(asked),
            of: of(asked, planned.definition.kind == Kind::Set),
            ..Told::default()
        };
        for (body, order) in planned.bodies.iter().enumerate() {
            let case = Case { planned, at: (number, body), order, asked, depth };
            if body > 0 {
                "else".clone_into(&mut told.note);
            }
            if self.body(case, &mut told) {
                break;
            }
        }
        told
    }

    /// Tells a body; says whether it holds.
    fn body(&mut self, case: Case<'_>, told: &mut Told) -> bool {
        let all = case.order.conditions.len();
        let mut before: Vec<Row> = Vec::new();
        for count in 1..=all + 1 {
            match self.trial.rows(case.planned, case.at, count, case.asked.args.as_deref()) {
                Ok(rows) => {
                    let result = count > all;
                    let kept: Vec<Row> = rows
                        .iter()
                        .filter(|row| could_give(row, case) && (!result || gives(row, case.planned, case.asked)))
                        .cloned()
                        .collect();
                    if kept.is_empty() {
                        if result && !rows.is_empty() {
                            told.note = format!("gives {}", others(&rows));
                        }
                        self.failed(case, count - 1, &before, told);
                        return false;
                    }
                    before = kept;
                }
                Err(Trouble::Whole) => {
                    "this rule cannot be taken apart".clone_into(&mut told.note);
                    return false;
                }
                Err(Trouble::Spent) => {
                    "trying this rule takes too long".clone_into(&mut told.note);
                    return false;
                }
                Err(Trouble::Failed(words)) => {
                    self.failed(case, count - 1, &before, told);
                    let because = self.because_error(case, count - 1);
                    match told.conditions.iter_mut().find(|one| one.state == State::Failed) {
                        Some(last) => {
                            last.state = State::Error;
                            last.error = because.is_empty().then_some(words);
                            last.because = because;
                        }
                        None => told.note = words,
                    }
                    return false;
                }
            }
        }
        if let Some(row) = before.first() {
            told.held = true;
            told.gave = row.result.as_ref().filter(|gave| **gave != Value::Bool(true)).map(show::text);
            self.held(case, all, row, told);
        }
        true
    }

    /// Tells the first conditions, which hold as in `row`.
    fn held(&mut self, case: Case<'_>, count: usize, row: &Row, told: &mut Told) {
        for at in 0..count {
            let Some(condition) = condition_at(case, at) else { continue };
            let seen = self
                .seen(case, at, |before| before.locals.iter().all(|(name, value)| row.locals.get(name) == Some(value)));
            let seen = seen.into_iter().next();
            let mut tried = Tried::new(condition, State::Held);
            for name in new_names(case, at).filter(|name| row.locals.contains_key(*name)) {
                let value = row.locals.get(name).map(show::text).unwrap_or_default();
                tried.values.push(Valued { what: name.clone(), value });
            }
            let looked = seen.map(|seen| seen.seen).unwrap_or_default();
            if condition.declares.is_empty() {
                self.values(case, condition, &looked, &mut tried);
            }
            tried.because = self.because_held(case, condition, &looked, row);
            told.conditions.push(tried);
        }
    }

    /// Tells the condition that does not hold, and those before it.
    fn failed(&mut self, case: Case<'_>, at: usize, before: &[Row], told: &mut Told) {
        if let Some(row) = before.first() {
            self.held(case, at, row, told);
        }
        let Some(condition) = condition_at(case, at) else { return self.undefined(case, at, told) };
        let mut tried = Tried::new(condition, State::Failed);
        let rows = self.seen(case, at, |row| could_give(row, case));
        for row in rows.iter().take(ROWS_MAX) {
            if !self.sought(case, condition, row, &mut tried) {
                self.values(case, condition, &row.seen, &mut tried);
            }
        }
        if rows.len() > ROWS_MAX {
            tried.more = rows.len() - ROWS_MAX;
        }
        if let Some(row) = rows.first() {
            tried.because = self.because_failed(case, condition, &row.seen);
        }
        told.conditions.push(tried);
        for at in at + 1..case.order.conditions.len() {
            told.conditions.extend(condition_at(case, at).map(|one| Tried::new(one, State::NotReached)));
        }
    }

    /// Tells that every condition held and that what the rule gives is undefined all the same.
    fn undefined(&mut self, case: Case<'_>, at: usize, told: &mut Told) {
        let Some(body) = case.planned.definition.bodies.get(case.at.1) else { return };
        let Some(result) = body.result.as_ref().filter(|_| told.note.is_empty()) else { return };
        let mut tried =
            Tried { text: show::one_line(&result.text), line: told.line, state: State::Failed, ..Tried::default() };
        if let Some(row) = self.seen(case, at, |row| could_give(row, case)).first() {
            for (look, seen) in
                body.looks.iter().zip(&row.seen).filter(|(_, seen)| seen.values.last().is_some_and(Vec::is_empty))
            {
                self.want(case, look, seen, None);
                tried.push(self.valued(case, look, seen));
            }
        }
        told.conditions.push(tried);
    }

    fn seen(&mut self, case: Case<'_>, at: usize, keep: impl Fn(&Row) -> bool) -> Vec<Row> {
        let rows = self.trial.seen(case.planned, case.at, at, case.asked.args.as_deref()).unwrap_or_default();
        let mut kept: Vec<Row> = Vec::new();
        for row in rows.into_iter().filter(|row| keep(row)) {
            if !kept.iter().any(|one| one.seen == row.seen) {
                kept.push(row);
            }
        }
        kept
    }
}

/// Names that the condition gives a value.
fn new_names(case: Case<'_>, at: usize) -> impl Iterator<Item = &String> {
    let bound = |at: usize| case.order.bound.get(at);
    bound(at + 1).into_iter().flatten().filter(move |name| !bound(at).is_some_and(|before| before.contains(*name)))
}

fn condition_at(case: Case<'_>, at: usize) -> Option<&Condition> {
    let number = case.order.conditions.get(at)?;
    case.planned.definition.bodies.get(case.at.1)?.conditions.get(*number)
}

/// Whether a row may still end in the member asked for.
fn could_give(row: &Row, case: Case<'_>) -> bool {
    let Some(member) = &case.asked.member else { return true };
    result_name(case).and_then(|name| row.locals.get(name)).is_none_or(|value| value == member)
}

fn gives(row: &Row, planned: &Planned, asked: &Asked) -> bool {
    match &asked.member {
        Some(member) if planned.definition.kind == Kind::Set => row.result.as_ref() == Some(member),
        _ => row.result.is_some(),
    }
}

fn others(rows: &[Row]) -> String {
    let results: BTreeSet<Value> = rows.iter().filter_map(|row| row.result.clone()).take(OTHERS_MAX).collect();
    show::text(&Value::from(results))
}

fn of(asked: &Asked, set: bool) -> Of {
    match (&asked.member, set) {
        (Some(_), _) => Of::Member,
        (None, true) => Of::Set,
        (None, false) => Of::Rule,
    }
}

fn about(asked: &Asked) -> String {
    match (&asked.args, &asked.member) {
        (Some(args), _) => args.iter().map(show::text).collect::<Vec<_>>().join(", "),
        (None, Some(member)) => show::text(member),
        (None, None) => String::new(),
    }
}
