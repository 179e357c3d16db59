//! Which rule needs which.
//!
//! Promises: recursion, direct or mutual, is found, and so is a chain of rules longer than the
//! engines' stack is sure to carry; both are reported with the names on the way. regorus compiles
//! either without a word and ends the process when it runs them. Called by `pdp::lint`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use regorus::unstable::Module;
use regorus::unstable::Ref;
use regorus::unstable::Span;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Chain;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Scope;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::head_of;

/// Rules that may need one another in a row. Engines ended at about 520 on a 2 MiB stack; people
/// write less than ten.
const DEPTH_MAX: usize = 48;

/// Where the rules of a bundle are, and what they refer to.
#[derive(Debug)]
pub(super) struct Index {
    rules: BTreeMap<String, Facts>,
    packages: BTreeSet<String>,
}

#[derive(Debug)]
struct Facts {
    span: Span,
    needs: BTreeSet<String>,
}

/// What a reference under `data` means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The value of one rule, or part of it.
    Rule(String),
    /// A whole package or several: every rule below this path.
    Package(String),
    /// Data from the data files, or nothing.
    Data,
}

/// Names of a module's package.
pub(super) fn package_of(module: &Module) -> Vec<String> {
    let Some(chain) = ast::chain(&module.package.refr) else { return Vec::new() };
    std::iter::once(chain.root.clone()).chain(chain.names().into_iter().map(str::to_owned)).collect()
}

/// A module's view: what its names mean.
pub(in crate::domain::pdp) struct View {
    pub(in crate::domain::pdp) package: String,
    aliases: BTreeMap<String, Vec<String>>,
}

impl View {
    pub(in crate::domain::pdp) fn new(module: &Module) -> Self {
        let package = std::iter::once("data".to_owned()).chain(package_of(module)).collect::<Vec<_>>().join(".");
        let mut aliases = BTreeMap::new();
        for import in &module.imports {
            let Some(chain) = ast::chain(&import.refr) else { continue };
            let path: Vec<String> =
                std::iter::once(chain.root.clone()).chain(chain.names().into_iter().map(str::to_owned)).collect();
            let name = import.r#as.as_ref().map(|span| span.text().to_owned()).or_else(|| path.last().cloned());
            if let Some(name) = name.filter(|_| chain.root != "rego" && chain.root != "future") {
                aliases.insert(name, path);
            }
        }
        Self { package, aliases }
    }

    /// Whether the module imports something under this name; `input` and `data` count.
    pub(super) fn imports(&self, name: &str) -> bool {
        name == "input" || name == "data" || self.aliases.contains_key(name)
    }

    /// What the module imports, by the name that it has there.
    pub(in crate::domain::pdp) fn aliases(&self) -> &BTreeMap<String, Vec<String>> {
        &self.aliases
    }

    /// The reference as an absolute path: `data` or `input` first. A name that is neither local nor
    /// imported is a rule of the same package, if it is anything.
    pub(in crate::domain::pdp) fn absolute(&self, chain: &Chain<'_>, scope: &Scope) -> Option<Vec<String>> {
        if scope.has(&chain.root) {
            return None;
        }
        let names = chain.names().into_iter().map(str::to_owned);
        if chain.root == "data" || chain.root == "input" {
            return Some(std::iter::once(chain.root.clone()).chain(names).collect());
        }
        let base = match self.aliases.get(&chain.root) {
            Some(path) => path.clone(),
            None => self.package.split('.').map(str::to_owned).chain([chain.root.clone()]).collect(),
        };
        Some(base.into_iter().chain(names).collect())
    }
}

impl Index {
    pub(super) fn new(modules: &[Ref<Module>]) -> Self {
        let mut index = Self { rules: BTreeMap::new(), packages: BTreeSet::new() };
        for module in modules {
            let view = View::new(module);
            for rule in &module.policy {
                if let Some(path) = path_of(&view, head_of(rule)) {
                    let facts = Facts { span: rule.span().clone(), needs: BTreeSet::new() };
                    index.rules.entry(path).or_insert(facts);
                }
            }
            index.packages.insert(view.package);
        }
        for module in modules {
            let view = View::new(module);
            for rule in &module.policy {
                let Some(path) = path_of(&view, head_of(rule)) else { continue };
                let mut needs = BTreeSet::new();
                ast::walk(rule, &mut |node, scope| {
                    if let Node::Ref(chain) | Node::Call(chain, _) = node {
                        needs.extend(index.rules_of(&view, &chain, scope));
                    }
                });
                if let Some(facts) = index.rules.get_mut(&path) {
                    facts.needs.extend(needs);
                }
            }
        }
        index
    }

    pub(super) fn has_rule(&self, path: &str) -> bool {
        self.rules.contains_key(path)
    }

    /// What an absolute path under `data` means.
    pub(super) fn target(&self, path: &[String]) -> Target {
        for length in (2..=path.len()).rev() {
            let prefix = path.get(..length).unwrap_or_default().join(".");
            if self.rules.contains_key(&prefix) {
                return Target::Rule(prefix);
            }
        }
        let whole = path.join(".");
        let below = format!("{whole}.");
        let covers = self.packages.iter().chain(self.rules.keys()).any(|other| other.starts_with(&below));
        if covers || self.packages.contains(&whole) { Target::Package(whole) } else { Target::Data }
    }

    /// Rules that `entry` needs, itself among them.
    pub(super) fn reached(&self, entry: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<&str> = self.rules.get_key_value(entry).map(|(path, _)| path.as_str()).into_iter().collect();
        while let Some(path) = ahead.pop() {
            if reached.insert(path) {
                ahead.extend(self.rules.get(path).into_iter().flat_map(|facts| facts.needs.iter().map(String::as_str)));
            }
        }
        reached
    }

    /// Rules outside `reached` that no rule at all needs, with their places. What such rules need is
    /// not worth a word of its own.
    pub(super) fn never_needed(&self, reached: &BTreeSet<&str>) -> Vec<(&str, &Span)> {
        let needed: BTreeSet<&str> =
            self.rules.values().flat_map(|facts| facts.needs.iter().map(String::as_str)).collect();
        let idle =
            self.rules.iter().filter(|(path, _)| !reached.contains(path.as_str()) && !needed.contains(path.as_str()));
        idle.map(|(path, facts)| (path.as_str(), &facts.span)).collect()
    }

    fn rules_of(&self, view: &View, chain: &Chain<'_>, scope: &Scope) -> Vec<String> {
        let Some(path) = view.absolute(chain, scope).filter(|path| path.first().is_some_and(|root| root == "data"))
        else {
            return Vec::new();
        };
        match self.target(&path) {
            Target::Rule(rule) => vec![rule],
            Target::Package(package) => {
                let below = format!("{package}.");
                self.rules.keys().filter(|rule| rule.starts_with(&below)).cloned().collect()
            }
            Target::Data => Vec::new(),
        }
    }
}

fn path_of(view: &View, head: Option<Chain<'_>>) -> Option<String> {
    let head = head?;
    let names = std::iter::once(head.root.as_str()).chain(head.names());
    Some(std::iter::once(view.package.as_str()).chain(names).collect::<Vec<_>>().join("."))
}

/// Finds recursion and chains that are too deep. No recursion of its own: rules may be many.
pub(super) fn check(index: &Index) -> Vec<BundleFault> {
    let mut waiting: BTreeMap<&str, usize> =
        index.rules.iter().map(|(path, facts)| (path.as_str(), facts.needs.len())).collect();
    let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, facts) in &index.rules {
        for need in &facts.needs {
            needed_by.entry(need).or_default().push(path);
        }
    }
    let mut depth: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ready: Vec<&str> = waiting.iter().filter(|(_, needs)| **needs == 0).map(|(path, _)| *path).collect();
    while let Some(path) = ready.pop() {
        waiting.remove(path);
        let below = depth.get(path).copied().unwrap_or(1);
        for user in needed_by.get(path).map(Vec::as_slice).unwrap_or_default() {
            let deepest = depth.entry(user).or_insert(1);
            *deepest = (*deepest).max(below + 1);
            if let Some(needs) = waiting.get_mut(user) {
                *needs -= 1;
                if *needs == 0 {
                    ready.push(user);
                }
            }
        }
    }
    let mut faults = Vec::new();
    if !waiting.is_empty() {
        faults.push(recursion(index, &waiting));
    }
    let deepest = depth.iter().filter(|(_, depth)| **depth > DEPTH_MAX).min_by_key(|(_, depth)| **depth);
    if let Some((facts, depth)) = deepest.and_then(|(path, depth)| Some((index.rules.get(*path)?, depth))) {
        faults.push(fault_at(
            &facts.span,
            Code::TooDeep,
            format!("this rule needs a chain of {depth} rules, and {DEPTH_MAX} are allowed"),
            "shorten the chain: rules that need many things can need them side by side",
        ));
    }
    faults
}

/// Names one circle. Whoever waits for ever needs somebody who waits for ever, so following such
/// needs comes round to a rule that was met before.
fn recursion(index: &Index, waiting: &BTreeMap<&str, usize>) -> BundleFault {
    let mut way: Vec<&str> = Vec::new();
    let mut at = waiting.keys().next().copied().unwrap_or_default();
    while !way.contains(&at) {
        way.push(at);
        let next =
            index.rules.get(at).and_then(|facts| facts.needs.iter().find(|need| waiting.contains_key(need.as_str())));
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    let circle: Vec<&str> = way.iter().copied().skip_while(|path| *path != at).chain([at]).collect();
    let message = format!("rules need each other in a circle: {}", circle.join(" -> "));
    let remedy = "break the circle; Rego has no recursion";
    match index.rules.get(at) {
        Some(facts) => fault_at(&facts.span, Code::Recursion, message, remedy),
        None => BundleFault::new("", message, remedy).coded(Code::Recursion),
    }
}
