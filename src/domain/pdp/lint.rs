//! What is checked in a bundle before any engine runs it.
//!
//! Promises: text that would exhaust the parser's stack is refused before it is parsed; recursion,
//! chains that are too deep, unknown, misused and impure functions are refused before anything is
//! evaluated; every form of rule that the virtual machine answers wrongly without saying so is
//! noted, so that the interpreter runs it. Never evaluates. Called by `pdp::engine` and `pdp::suite`.

mod bounds;
mod calls;
mod callers;
mod forms;
pub(super) mod graph;
mod inputs;
mod names;
mod packages;
pub(super) mod reads;
mod scan;

use regorus::unstable::Module;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use regorus::unstable::RuleHead;
use regorus::unstable::Span;
use serde_json::Value;

use crate::domain::pdp::ENTRY_POINT;
use crate::domain::pdp::ast;
use crate::domain::pdp::bundle::BundleFault;

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

/// Refuses text that could exhaust the stack of whoever parses or runs it.
pub(super) fn dangers(files: &[(String, String)]) -> Result<(), Vec<BundleFault>> {
    let faults: Vec<_> = files.iter().filter_map(|(path, text)| scan::check(path, text).err()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Parses every file into `engine`, and reports the first error of each.
pub(super) fn parse(engine: &mut regorus::Engine, files: &[(String, String)]) -> Result<(), Vec<BundleFault>> {
    let faults: Vec<_> = files
        .iter()
        .filter_map(|(path, text)| engine.add_policy(path.clone(), text.clone()).err())
        .map(|cause| fault_of(&cause.to_string()))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Checks parsed policies. `data` is what they will find under `data`.
pub(super) fn rules(modules: &[Ref<Module>], data: &Value) -> Findings {
    let mut found = Findings { faults: tests_safe(modules), warnings: callers::check(modules), ..Findings::default() };
    let index = graph::Index::new(modules);
    if !index.has_rule(ENTRY_POINT) {
        found.faults.push(BundleFault::new(
            "",
            format!("the bundle has no rule `{ENTRY_POINT}`"),
            "write `decision := {…}` in `package loopiq.gateway`; it is the one entry point",
        ));
    }
    for module in modules {
        let package = graph::package_of(module);
        if let Some(first) = package.first().filter(|first| data.get(first.as_str()).is_some()) {
            found.faults.push(fault_at(
                &module.package.span,
                format!("the package lies inside the data `data.{first}`"),
                "give the package or the data file another name",
            ));
        }
    }
    found.faults.extend(inputs::check(modules));
    found.faults.extend(names::check(modules, data));
    found.notes.extend(forms::check(modules, &index));
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

/// Reads regorus' words: `--> file:line:col`, the source line, a caret, `error: …`.
pub(super) fn fault_of(words: &str) -> BundleFault {
    let message = words.lines().rev().find_map(|line| line.split_once("error: ")).map_or(words, |(_, message)| message);
    let fault = |path: &str| BundleFault::new(path, message.trim(), "correct the rule there");
    let Some(place) = words.lines().find_map(|line| line.trim().strip_prefix("--> ")) else { return fault("") };
    let mut parts = place.rsplitn(3, ':');
    let (column, line, path) = (parts.next(), parts.next(), parts.next());
    match (line.and_then(|line| line.parse().ok()), column.and_then(|column| column.parse().ok())) {
        (Some(line), Some(column)) => fault(path.unwrap_or("")).at(line, column),
        _ => fault(place),
    }
}

fn fault_at(span: &Span, message: impl Into<String>, remedy: impl Into<String>) -> BundleFault {
    BundleFault::new(span.source.get_path(), message, remedy).at(span.line, span.col)
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
