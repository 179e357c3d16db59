//! The rules that a condition came out so for.
//!
//! Promises: blames only rules whose value made the difference: those without one when the
//! condition wanted one, those with one when it wanted none. Called by `explain::why`.

use regorus::Value;

use crate::domain::pdp::ast::dissect::Condition;
use crate::domain::pdp::ast::dissect::Kind;
use crate::domain::pdp::ast::dissect::Shape;
use crate::domain::pdp::explain::State;
use crate::domain::pdp::explain::Told;
use crate::domain::pdp::explain::pieces::next_looks;
use crate::domain::pdp::explain::plan::Target;
use crate::domain::pdp::explain::trial::Row;
use crate::domain::pdp::explain::trial::Seen;
use crate::domain::pdp::explain::why::Asked;
use crate::domain::pdp::explain::why::Case;
use crate::domain::pdp::explain::why::DEPTH_MAX;
use crate::domain::pdp::explain::why::Teller;

impl Teller<'_> {
    pub(super) fn because_held(
        &mut self,
        case: Case<'_>,
        condition: &Condition,
        seen: &[Seen],
        row: &Row,
    ) -> Vec<Told> {
        match &condition.shape {
            Shape::Not(member) => {
                if let Some((value, collection)) = member {
                    return self.member(case, condition, seen, (value, collection), false);
                }
                self.targets(case, condition, seen, false)
            }
            Shape::Some { value: Some(value), collection, .. } => {
                let Some(look) = condition.looks.iter().find(|look| look.text == *collection) else {
                    return Vec::new();
                };
                let Target::Rule(rule, _) = self.plan.target(case.planned, case.order, look) else { return Vec::new() };
                let of_set = self
                    .plan
                    .of(&rule)
                    .iter()
                    .any(|one| self.plan.get(*one).is_some_and(|one| one.definition.kind == Kind::Set));
                match row.locals.get(value).filter(|_| of_set) {
                    Some(member) => {
                        let asked = Asked { rule, member: Some(member.clone()), ..Asked::default() };
                        self.why(&asked, true, case.depth + 1)
                    }
                    None => Vec::new(),
                }
            }
            _ if self.everything => self.targets(case, condition, seen, true),
            _ => Vec::new(),
        }
    }

    pub(super) fn because_failed(&mut self, case: Case<'_>, condition: &Condition, seen: &[Seen]) -> Vec<Told> {
        match &condition.shape {
            Shape::Not(Some((value, collection))) => self.member(case, condition, seen, (value, collection), true),
            Shape::Not(None) => self.targets(case, condition, seen, true),
            Shape::Member { value, collection } => self.member(case, condition, seen, (value, collection), false),
            _ => self.targets(case, condition, seen, false),
        }
    }

    /// The rules in which a function failed, so that a condition that looks at them failed with it.
    pub(super) fn because_error(&mut self, case: Case<'_>, at: usize) -> Vec<Told> {
        let row = self.seen(case, at, |_| true).into_iter().next();
        let Some(body) = case.planned.definition.bodies.get(case.at.1) else { return Vec::new() };
        let mut all = Vec::new();
        for (at, look) in next_looks(body, case.order, at).iter().enumerate() {
            let Target::Rule(rule, _) = self.plan.target(case.planned, case.order, look) else { continue };
            let args = match &look.args {
                None => None,
                Some(args) => {
                    let seen = row.as_ref().and_then(|row| row.seen.get(at)).map(|seen| seen.values.as_slice());
                    let given = seen.unwrap_or_default().iter().take(args.len()).map(|values| values.first().cloned());
                    Some(given.map(|value| value.unwrap_or(Value::Undefined)).collect())
                }
            };
            let told = self.why(&Asked { rule, args, member: None }, false, case.depth + 1);
            let broken = |told: &Told| told.conditions.iter().any(|tried| tried.state == State::Error);
            all.extend(told.into_iter().filter(broken));
        }
        all
    }

    /// Why a value is, or is not, in a set that rules fill.
    fn member(
        &mut self,
        case: Case<'_>,
        condition: &Condition,
        seen: &[Seen],
        sides: (&str, &str),
        held: bool,
    ) -> Vec<Told> {
        let of = |text: &str| condition.looks.iter().zip(seen).find(|(look, _)| look.text == text);
        let (Some((_, value)), Some((set, _))) = (of(sides.0), of(sides.1)) else { return Vec::new() };
        let Target::Rule(rule, _) = self.plan.target(case.planned, case.order, set) else { return Vec::new() };
        let Some(member) = value.values.last().and_then(|values| values.first()) else { return Vec::new() };
        self.why(&Asked { rule, member: Some(member.clone()), ..Asked::default() }, held, case.depth + 1)
    }

    /// The rules that a condition looks at and that are to blame: those without a value when it
    /// wanted one, those with one when it wanted none.
    fn targets(&mut self, case: Case<'_>, condition: &Condition, seen: &[Seen], held: bool) -> Vec<Told> {
        let mut all = Vec::new();
        for (look, seen) in condition.looks.iter().zip(seen) {
            let Target::Rule(rule, _) = self.plan.target(case.planned, case.order, look) else { continue };
            // What is but another name for a place is told by that place.
            if self.document(case, look, seen, DEPTH_MAX).is_some() {
                continue;
            }
            // A rule is not to blame for what its value does not have in it.
            let root = if look.args.is_some() {
                None
            } else {
                seen.values.get(self.plan.first_step(case.planned, case.order, look))
            };
            let value = root.or(seen.values.last()).and_then(|values| values.first());
            if empty(value) == held {
                continue;
            }
            let args = look.args.as_ref().map(|args| {
                let first = |at: usize| seen.values.get(at).and_then(|values| values.first()).cloned();
                (0..args.len()).map(|at| first(at).unwrap_or(Value::Undefined)).collect::<Vec<_>>()
            });
            if args.as_ref().is_some_and(|args| args.contains(&Value::Undefined)) {
                continue;
            }
            all.extend(self.why(&Asked { rule, args, member: None }, held, case.depth + 1));
        }
        all
    }
}

/// Whether there is nothing that a condition could hold with.
fn empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Undefined | Value::Bool(false)) => true,
        Some(Value::Set(items)) => items.is_empty(),
        Some(_) => false,
    }
}
