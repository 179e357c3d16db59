//! What a condition looked at, and what was there.
//!
//! Promises: a reference is named by the place in `input` or `data` that it leads to, up to the
//! first step that leads nowhere. Called by `explain::why`.

use regorus::Value;

use crate::domain::pdp::ast::dissect::Condition;
use crate::domain::pdp::ast::dissect::Kind;
use crate::domain::pdp::ast::dissect::Look;
use crate::domain::pdp::ast::dissect::Shape;
use crate::domain::pdp::explain::State;
use crate::domain::pdp::explain::Tried;
use crate::domain::pdp::explain::Valued;
use crate::domain::pdp::explain::plan::Target;
use crate::domain::pdp::explain::show;
use crate::domain::pdp::explain::show::Step;
use crate::domain::pdp::explain::trial::Row;
use crate::domain::pdp::explain::trial::Seen;
use crate::domain::pdp::explain::why::Case;
use crate::domain::pdp::explain::why::DEPTH_MAX;
use crate::domain::pdp::explain::why::Teller;

/// Places in the data that are noted.
const WANTED_MAX: usize = 16;

impl Teller<'_> {
    /// `some k, v in xs` where one of the two is the member asked for: whether it is in there.
    pub(super) fn sought(&mut self, case: Case<'_>, condition: &Condition, row: &Row, tried: &mut Tried) -> bool {
        let Shape::Some { key, value, collection } = &condition.shape else { return false };
        let (Some(local), Some(member)) = (result_name(case), &case.asked.member) else { return false };
        let found = condition.looks.iter().zip(&row.seen).find(|(look, _)| look.text == *collection);
        let Some((look, seen)) = found else { return false };
        let Some(within) = seen.values.last().and_then(|values| values.first()) else { return false };
        let name = self.valued(case, look, seen).what;
        let told = if key.as_deref() == Some(local) {
            self.want(case, look, seen, Some(member));
            let there = within.as_object().ok().and_then(|members| members.get(member));
            let value = there.map_or_else(|| "undefined".to_owned(), show::text);
            Valued { what: format!("{name}{}", show::member(member)), value }
        } else if value.as_deref() == Some(local) {
            Valued { what: name, value: show::text(within) }
        } else {
            return false;
        };
        tried.push(told);
        true
    }

    /// What the looks of a condition saw.
    pub(super) fn values(&mut self, case: Case<'_>, condition: &Condition, seen: &[Seen], tried: &mut Tried) {
        for (look, seen) in condition.looks.iter().zip(seen) {
            let whole = seen.values.last().map(Vec::as_slice).unwrap_or_default();
            // What has no value yet is given one here; what is large was shown where it got its value.
            let said = is_plain_local(case, look) && whole.first().is_none_or(is_large);
            if look.constant || said {
                continue;
            }
            let valued = self.valued(case, look, seen);
            if tried.state == State::Failed && ["undefined", "false"].contains(&valued.value.as_str()) {
                self.want(case, look, seen, None);
            }
            tried.push(valued);
        }
    }

    /// Notes a place in the data where nothing was found.
    pub(super) fn want(&mut self, case: Case<'_>, look: &Look, seen: &Seen, member: Option<&Value>) {
        let Some(path) = self.document(case, look, seen, DEPTH_MAX) else { return };
        let names: Option<Vec<String>> = path
            .iter()
            .map(|step| match step {
                Step::Value(value) => Some(value),
                Step::Unknown(_) => None,
            })
            .chain(member.map(Some))
            .map(|value| value?.as_string().ok().map(ToString::to_string))
            .collect();
        if let Some((root, names)) = names.as_ref().and_then(|names| names.split_first())
            && root == "data"
            && self.wanted.len() < WANTED_MAX
        {
            self.wanted.insert(names.to_vec());
        }
    }

    pub(super) fn valued(&mut self, case: Case<'_>, look: &Look, seen: &Seen) -> Valued {
        let whole = seen.values.last().map(Vec::as_slice).unwrap_or_default();
        let document = self.document(case, look, seen, DEPTH_MAX);
        let named = |steps: usize| match &document {
            Some(path) => show::path(path.get(..(path.len() + steps).saturating_sub(look.steps.len())).unwrap_or(path)),
            None => show::name(look, seen, steps),
        };
        match whole {
            [one] => Valued { what: named(look.steps.len()), value: show::text(one) },
            [] => {
                let first = self.plan.first_step(case.planned, case.order, look);
                let is_reference = look.args.is_none() && !look.steps.is_empty();
                let prefixes = seen.values.iter().enumerate().skip(first).filter(|_| is_reference);
                let steps =
                    prefixes.clone().find(|(_, values)| values.is_empty()).map_or(look.steps.len(), |(at, _)| at + 1);
                Valued { what: named(steps), value: "undefined".to_owned() }
            }
            many => {
                let all = show::text(&Value::from(many.to_vec()));
                Valued { what: named(look.steps.len()), value: format!("one of {all}") }
            }
        }
    }

    /// Where in `input` or `data` a reference leads, through rules that are but other names for places.
    pub(super) fn document(&mut self, case: Case<'_>, look: &Look, seen: &Seen, depth: usize) -> Option<Vec<Step>> {
        if look.args.is_some() || look.steps.is_empty() || depth == 0 {
            return None;
        }
        let steps = show::indexed(look, seen);
        match self.plan.target(case.planned, case.order, look) {
            Target::Document(base) => {
                let base = base.iter().map(|name| Step::Value(Value::from(name.as_str())));
                Some(base.chain(steps.into_iter().skip(1)).collect())
            }
            Target::Rule(rule, taken) => {
                let [number] = *self.plan.of(&rule) else { return None };
                let planned = self.plan.get(number)?;
                let ([order], [body]) = (planned.bodies.as_slice(), planned.definition.bodies.as_slice()) else {
                    return None;
                };
                let result = body
                    .result
                    .as_ref()
                    .filter(|_| planned.definition.kind == Kind::Value && order.conditions.is_empty())?;
                let of_rule = Case { planned, at: (number, 0), order, asked: case.asked, depth: case.depth };
                let rows = self.trial.seen(planned, (number, 0), 0, None).ok()?;
                let (look, seen) =
                    body.looks.iter().zip(&rows.first()?.seen).find(|(look, _)| look.text == result.text)?;
                let base = self.document(of_rule, look, seen, depth - 1)?;
                Some(base.into_iter().chain(steps.into_iter().skip(taken)).collect())
            }
            Target::Local | Target::Other => None,
        }
    }
}

/// The name whose value the rule gives, when what it gives is but a name.
pub(super) fn result_name(case: Case<'_>) -> Option<&str> {
    let look = case.planned.definition.bodies.get(case.at.1)?.result.as_ref()?;
    is_plain_local(case, look).then_some(look.text.as_str())
}

fn is_plain_local(case: Case<'_>, look: &Look) -> bool {
    look.args.is_none() && look.steps.len() == 1 && case.order.locals.contains(&look.text)
}

fn is_large(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Array(_) | Value::Set(_))
}
