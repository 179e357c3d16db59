//! What is checked in a bundle before any engine runs it.
//!
//! Promises: text that would exhaust the parser's stack is refused before it is parsed; recursion,
//! chains that are too deep, unknown, misused and impure functions are refused before anything is
//! evaluated; every form of rule that the virtual machine answers wrongly without saying so is
//! noted, so that the interpreter runs it. Never evaluates. Called by `pdp::engine` and `pdp::suite`.

mod bodies;
mod bounds;
pub(super) mod builtins;
mod calls;
mod callers;
mod forms;
pub(super) mod graph;
mod names;
mod packages;
mod parse;
mod reach;
pub(super) mod reads;
mod scan;
pub(super) mod types;

use std::collections::BTreeSet;

use regorus::unstable::Module;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use regorus::unstable::RuleHead;
use regorus::unstable::Span;
use serde_json::Value;

use crate::domain::pdp::ENTRY_POINT;
use crate::domain::pdp::Input;
use crate::domain::pdp::ast;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;

/// What the lint found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Each keeps the bundle from being loaded.
    pub(super) faults: Vec<BundleFault>,
    /// Each sends the bundle to the interpreter.
    pub(super) notes: Vec<BundleFault>,
    /// Each is worth a second look by its author, and keeps the bundle from nothing.
    pub(super) warnings: Vec<BundleFault>,
}

impl Findings {
    fn add(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.notes.extend(other.notes);
        self.warnings.extend(other.warnings);
    }

    /// By place, each once: one step may be met on several ways.
    fn sort(&mut self) {
        for list in [&mut self.faults, &mut self.notes, &mut self.warnings] {
            list.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
            let mut met = BTreeSet::new();
            list.retain(|fault| met.insert((fault.path.clone(), fault.line, fault.column, fault.message.clone())));
        }
    }
}

/// Refuses text that could exhaust the stack of whoever parses or runs it.
pub(super) fn dangers(files: &[(String, String)]) -> Result<(), Vec<BundleFault>> {
    let faults: Vec<_> = files.iter().filter_map(|(path, text)| scan::check(path, text).err()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Parses every file into `engine`, and reports the errors of each.
pub(super) fn parse(engine: &mut regorus::Engine, files: &[(String, String)]) -> Result<(), Vec<BundleFault>> {
    parse::files(engine, files)
}

/// Every name and text in a file of rules.
pub(super) fn words(path: &str, text: &str) -> BTreeSet<String> {
    scan::words(path, text)
}

/// Reads regorus' words into a fault.
pub(super) fn fault_of(words: &str) -> BundleFault {
    parse::fault_of(words)
}

/// What rules stand on.
pub(super) struct Ground<'a> {
    /// The rule that is asked.
    pub(super) entry: &'a str,
    /// Schema of the input; nothing when it may be anything.
    pub(super) input: Option<Value>,
    /// What rules find under `data`.
    pub(super) data: &'a Value,
    /// Schema of the data, if the bundle has one.
    pub(super) schema: Option<Value>,
}

impl<'a> Ground<'a> {
    /// What the gateway asks the rules of a bundle.
    pub(super) fn of(bundle: &'a Bundle) -> Self {
        let input = Some(schemars::schema_for!(Input).to_value());
        let schema = bundle.schema().and_then(|text| serde_json::from_str(text).ok());
        Self { entry: ENTRY_POINT, input, data: bundle.data(), schema }
    }
}

/// Checks parsed policies.
pub(super) fn rules(modules: &[Ref<Module>], ground: &Ground<'_>) -> Findings {
    let mut found = Findings { faults: tests_safe(modules), warnings: callers::check(modules), ..Findings::default() };
    let sound = found.faults.is_empty();
    let index = graph::Index::new(modules);
    let entry = ground.entry;
    if !index.has_rule(entry) {
        let remedy = "write `decision := {…}` in `package loopiq.gateway`; it is the one entry point";
        let fault = BundleFault::new("", format!("the bundle has no rule `{entry}`"), remedy);
        found.faults.push(fault.coded(Code::NoEntryPoint));
    }
    found.faults.extend(packages::in_data(modules, ground.data));
    found.faults.extend(names::check(modules, ground.data));
    found.faults.extend(bodies::check(modules));
    // WHY: shapes are followed from rule to rule, which ends only when no rule needs itself.
    if sound || !found.faults.iter().any(|fault| matches!(fault.code, Code::Recursion | Code::TooDeep)) {
        found.add(types::check(modules, &index, ground));
    }
    found.add(reach::check(&index, entry));
    found.notes.extend(forms::check(modules, &index));
    found.sort();
    found
}

/// Checks what could end the process that runs these policies, tests among them.
pub(super) fn tests_safe(modules: &[Ref<Module>]) -> Vec<BundleFault> {
    let index = graph::Index::new(modules);
    let mut faults = graph::check(&index);
    faults.extend(calls::check(modules, &index));
    faults.extend(packages::check(modules, &index));
    faults
}

/// The name that was meant by `name`, if one is near.
fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = (name.chars().count() / 3).clamp(1, 3);
    let near = names.map(|other| (strsim::osa_distance(name, other), other));
    near.filter(|(far, other)| *far <= most && *other != name).min().map(|(_, other)| other)
}

fn fault_at(span: &Span, code: Code, message: impl Into<String>, remedy: impl Into<String>) -> BundleFault {
    // WHY: the lexer counts bytes, a tab as four, and from the last part of an expression; people and
    // their editors count characters from its first. A string's span lies within its quotes.
    let before = span.source.get_contents().get(..usize::try_from(span.start).unwrap_or(0)).unwrap_or_default();
    let before = before.strip_suffix(['"', '`']).unwrap_or(before);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    BundleFault::new(span.source.get_path(), message, remedy).at(number(line), number(column)).coded(code)
}

/// A module's package as `data.a.b`.
pub(super) fn package(module: &Module) -> String {
    graph::View::new(module).package
}

/// The reference at the head of a rule.
pub(super) fn head_of(rule: &Rule) -> Option<ast::Chain<'_>> {
    let refr = match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    };
    ast::chain(refr)
}

#[cfg(test)]
mod tests;
