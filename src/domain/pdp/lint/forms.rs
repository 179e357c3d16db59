//! Forms of rule that the virtual machine of regorus 0.14.1 answers wrongly without saying so.
//!
//! Promises: a bundle without a note gets the interpreter's answers from the virtual machine. The
//! first five forms are those behind every wrong value in OPA's conformance cases (the first of
//! them fails open: `default f(x) := true` is ignored, and `not f(x)` then allows). The sixth are
//! rules that could have two values: OPA and the interpreter report a conflict, the virtual machine
//! is undefined, which `not` turns into an allow. When unsure, note it. Called by `pdp::lint`.

use std::collections::BTreeMap;

use regorus::unstable::Literal;
use regorus::unstable::Module;
use regorus::unstable::Query;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use regorus::unstable::RuleAssign;
use regorus::unstable::RuleHead;
use regorus::unstable::Span;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Part;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::graph::Index;
use crate::domain::pdp::lint::graph::View;
use crate::domain::pdp::lint::head_of;

/// Every place that needs the interpreter.
pub(super) fn check(modules: &[Ref<Module>], index: &Index) -> Vec<BundleFault> {
    let mut notes = Vec::new();
    let mut values: BTreeMap<String, Values> = BTreeMap::new();
    for module in modules {
        let view = View::new(module);
        for rule in &module.policy {
            notes.extend(head(rule));
            notes.extend(references(rule, &view));
            if let Some(name) = head_of(rule).and_then(|head| head.dotted()) {
                values.entry(format!("{}.{name}", view.package)).or_default().take(rule, &view, index);
            }
        }
    }
    notes.extend(values.into_values().filter_map(Values::verdict));
    notes
}

fn note(span: &Span, what: &str, instead: &str) -> BundleFault {
    fault_at(span, Code::NeedsInterpreter, format!("the interpreter decides because of {what}"), instead)
}

/// Forms 1 to 3: what stands before `if`.
fn head(rule: &Rule) -> Option<BundleFault> {
    if let Rule::Default { span, args, value, .. } = rule {
        if !args.is_empty() {
            return Some(note(span, "a default function", "make it a rule, or let callers use `not`"));
        }
        if !ast::constant(value) {
            return Some(note(span, "a default that is not a constant", "default to a constant"));
        }
    }
    let steps = head_of(rule).map_or(usize::MAX, |head| head.parts.len());
    let keyless = matches!(rule, Rule::Spec { head: RuleHead::Set { key: None, .. }, .. });
    (steps > 0 || keyless)
        .then(|| note(rule.span(), "a rule name with steps", "use one plain name, and sets of objects with `contains`"))
}

/// Form 5, and `with`: what a rule refers to.
fn references(rule: &Rule, view: &View) -> Vec<BundleFault> {
    let mut notes = Vec::new();
    ast::walk(rule, &mut |node, scope| {
        let chain = match node {
            Node::Ref(chain) | Node::Call(chain, _) => chain,
            Node::With(span) => return notes.push(note(span, "`with`", "keep `with` to the tests")),
            _ => return,
        };
        let path = view.absolute(&chain, scope);
        let of_input = path.is_some_and(|path| path.first().is_some_and(|root| root == "input"));
        if !of_input && chain.parts.contains(&Part::Number) {
            notes.push(note(
                chain.span,
                "a number as index",
                "key the data by name, or take the array apart with `[a, b] := …`",
            ));
        }
    });
    notes
}

/// Form 6: the values that one complete rule or function may have.
#[derive(Default)]
struct Values {
    /// One per definition: its constant as written, or nothing when it is computed.
    given: Vec<Option<String>>,
    /// The same for every `else`; they cannot contradict their own definition, but another one.
    otherwise: Vec<Option<String>>,
    iterates: bool,
    at: Option<Span>,
}

impl Values {
    fn take(&mut self, rule: &Rule, view: &View, index: &Index) {
        let Rule::Spec { span, head, bodies } = rule else { return };
        let assign = match head {
            RuleHead::Set { .. } => return,
            RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => assign.as_ref(),
        };
        self.at.get_or_insert_with(|| span.clone());
        let first = value_of(assign);
        let later = bodies.iter().skip(1);
        self.given.push(first.clone());
        for body in later.clone() {
            let value = body.assign.as_ref().map_or_else(|| first.clone(), |assign| value_of(Some(assign)));
            if body.is_else { self.otherwise.push(value) } else { self.given.push(value) }
        }
        let computed =
            first.is_none() || later.filter_map(|body| body.assign.as_ref()).any(|a| value_of(Some(a)).is_none());
        self.iterates |= computed && (bodies.iter().any(|body| many(&body.query)) || free_index(rule, view, index));
    }

    fn verdict(self) -> Option<BundleFault> {
        let at = self.at?;
        let first = self.given.first()?;
        let mut others = self.given.iter().skip(1).chain(&self.otherwise);
        if self.given.len() > 1 && (first.is_none() || others.any(|other| other != first)) {
            let what = "a rule with several definitions, which could give several values";
            return Some(note(&at, what, "chain them with `else`, or make it a set with `contains`"));
        }
        self.iterates.then(|| {
            note(
                &at,
                "a value that is looked up in a loop, which could give several values",
                "make it a set with `contains`",
            )
        })
    }
}

fn value_of(assign: Option<&RuleAssign>) -> Option<String> {
    match assign {
        None => Some("true".to_owned()),
        Some(assign) => ast::constant(&assign.value).then(|| assign.value.span().text().to_owned()),
    }
}

fn many(query: &Query) -> bool {
    query.stmts.iter().any(|stmt| matches!(stmt.literal, Literal::SomeVars { .. } | Literal::SomeIn { .. }))
}

/// An index that is a variable which nothing has bound runs over all keys.
fn free_index(rule: &Rule, view: &View, index: &Index) -> bool {
    let mut found = false;
    ast::walk(rule, &mut |node, scope| {
        let (Node::Ref(chain) | Node::Call(chain, _)) = node else { return };
        for part in &chain.parts {
            if let Part::Dynamic(Some(name)) = part {
                let rule_of_package = index.has_rule(&format!("{}.{name}", view.package));
                found |= name.starts_with('_') || !(scope.has(name) || rule_of_package || view.imports(name));
            }
        }
    });
    found
}
