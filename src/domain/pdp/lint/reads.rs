//! Which parts of the input the rules may look at.
//!
//! Promises: a part that no path here covers changes no decision, whatever stands in it; where it
//! cannot be told what a rule reads, it counts as read. A rule that only names a part of the input
//! (`arguments := input.arguments`) reads what its users read through it. Only looks.
//! Called by `pdp::engine`; asked by `domain::replay` about values that a record lacks.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use regorus::unstable::Expr;
use regorus::unstable::Module;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use regorus::unstable::RuleHead;

use crate::domain::pdp::ENTRY_POINT;
use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Chain;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Part;
use crate::domain::pdp::ast::Scope;
use crate::domain::pdp::lint::graph::View;
use crate::domain::pdp::lint::head_of;

/// Names that one reference is followed through; people write one or two.
const FOLLOWED_MAX: usize = 256;

/// One step below `input`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A member, or the place of an item in digits.
    Name(String),
    /// Any member or item.
    Any,
}

/// The parts of the input that rules may look at, each with all that is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    paths: BTreeSet<Vec<Step>>,
}

impl Reads {
    /// What the rules of these modules read.
    pub(in crate::domain::pdp) fn of(modules: &[Ref<Module>]) -> Self {
        let names = Names::of(modules);
        let mut reads = Self::default();
        for module in modules {
            let view = View::new(module);
            for rule in &module.policy {
                let head = head_of(rule).and_then(|head| head.dotted()).map(|head| format!("{}.{head}", view.package));
                let is_name = head.is_some_and(|head| names.0.contains_key(&head));
                let values: Vec<_> =
                    values_of(rule).into_iter().filter(|value| is_name && names.names_input(&view, value)).collect();
                ast::walk(rule, &mut |node, scope| {
                    let (Node::Ref(chain) | Node::Call(chain, _)) = node else { return };
                    // What a rule is a name for is read by whoever uses the name.
                    let is_value =
                        |value: &&Expr| value.span().start == chain.span.start && value.span().end == chain.span.end;
                    if !values.iter().any(is_value) {
                        reads.paths.extend(names.resolve(&view, &chain, scope));
                    }
                });
            }
        }
        reads
    }

    /// Whether a rule may look at what stands at this path, at a part of it, or at what it is part of.
    #[must_use]
    pub fn may_read(&self, path: &[Step]) -> bool {
        let fits = |pair: (&Step, &Step)| matches!(pair, (Step::Any, _) | (_, Step::Any)) || pair.0 == pair.1;
        self.paths.iter().any(|read| read.iter().zip(path).all(fits))
    }

    /// The paths, each without those below it.
    pub fn paths(&self) -> impl Iterator<Item = &[Step]> {
        self.paths.iter().map(Vec::as_slice)
    }
}

/// Rules that are names for parts of the input, by absolute path: `data.pkg.rule` and what it names.
struct Names(BTreeMap<String, BTreeSet<Vec<Root>>>);

/// A step of an absolute path, root included.
type Root = Step;

impl Names {
    fn of(modules: &[Ref<Module>]) -> Self {
        let mut names = Self(BTreeMap::new());
        // WHY: a name for a name is known only once the first one is, so this goes on until nothing is
        // new. It ends: each value of a rule adds one path at most.
        loop {
            let before = names.0.values().map(BTreeSet::len).sum::<usize>();
            for module in modules {
                let view = View::new(module);
                for rule in &module.policy {
                    let Some(head) = head_of(rule).and_then(|head| head.dotted()) else { continue };
                    let head = format!("{}.{head}", view.package);
                    for value in values_of(rule) {
                        let path = absolute_of(&view, value).filter(|path| !is_answer(&head) && names.is_input(path));
                        if let Some(path) = path {
                            names.0.entry(head.clone()).or_default().insert(path);
                        }
                    }
                }
            }
            if names.0.values().map(BTreeSet::len).sum::<usize>() == before {
                break;
            }
        }
        names
    }

    /// Whether an absolute path is one under `input`, by itself or through names.
    fn is_input(&self, path: &[Root]) -> bool {
        path.first() == Some(&Step::Name("input".to_owned())) || self.behind(path).next().is_some()
    }

    fn names_input(&self, view: &View, value: &Expr) -> bool {
        absolute_of(view, value).is_some_and(|path| self.is_input(&path))
    }

    /// Every rule that a path goes through, and what is left of the path behind it: of `it.x` both
    /// `it` and `it.x` may be rules.
    fn behind<'p>(&self, path: &'p [Root]) -> impl Iterator<Item = (&BTreeSet<Vec<Root>>, &'p [Root])> {
        (2..=path.len()).filter_map(|length| {
            let (rule, rest) = path.split_at_checked(length)?;
            let names: Option<Vec<&str>> = rule.iter().map(name_of).collect();
            self.0.get(&names?.join(".")).map(|named| (named, rest))
        })
    }

    /// Whether a path stops, or cannot be told further, above one of these rules.
    fn are_below(&self, path: &[Root]) -> bool {
        let known: Vec<&str> = path.iter().map_while(name_of).collect();
        let above = format!("{}.", known.join("."));
        self.0.keys().any(|rule| rule.starts_with(&above))
    }

    /// The paths below `input` that a reference looks at; none for anything else.
    fn resolve(&self, view: &View, chain: &Chain<'_>, scope: &Scope) -> Vec<Vec<Step>> {
        absolute(view, chain, scope).map_or_else(Vec::new, |path| self.follow(path))
    }

    /// Each path once, however many ways lead to it.
    fn follow(&self, path: Vec<Root>) -> Vec<Vec<Step>> {
        let (mut found, mut met, mut ahead) = (Vec::new(), BTreeSet::new(), vec![path]);
        while let Some(path) = ahead.pop() {
            if !met.insert(path.clone()) {
                continue;
            }
            // A package named as a whole, or by a step that only evaluation knows: everything counts as read.
            if met.len() > FOLLOWED_MAX || self.are_below(&path) {
                return vec![Vec::new()];
            }
            if path.first() == Some(&Step::Name("input".to_owned())) {
                found.push(path.iter().skip(1).cloned().collect());
                continue;
            }
            for (named, rest) in self.behind(&path) {
                ahead.extend(named.iter().map(|start| start.iter().chain(rest).cloned().collect()));
            }
        }
        found
    }
}

/// Whether the gateway itself reads what a rule gives: the entry point, and members that are rules of their own.
fn is_answer(head: &str) -> bool {
    head.strip_prefix(ENTRY_POINT).is_some_and(|member| member.is_empty() || member.starts_with('.'))
}

fn name_of(step: &Step) -> Option<&str> {
    match step {
        Step::Name(name) => Some(name),
        Step::Any => None,
    }
}

/// The values that a rule may have by being a plain reference; those of functions and sets are not names.
fn values_of(rule: &Rule) -> Vec<&Expr> {
    match rule {
        Rule::Spec { head: RuleHead::Compr { assign, .. }, bodies, .. } => {
            let values = assign.iter().chain(bodies.iter().filter_map(|body| body.assign.as_ref()));
            values.map(|assign| assign.value.as_ref()).collect()
        }
        Rule::Spec { .. } | Rule::Default { .. } => Vec::new(),
    }
}

/// A value that is a plain reference; a name that the rule itself declares is none.
fn absolute_of(view: &View, value: &Expr) -> Option<Vec<Root>> {
    let chain = ast::chain(value)?;
    let plain = chain.root == "input" || chain.root == "data" || view.imports(&chain.root) || !chain.parts.is_empty();
    let dotted = chain.dotted().is_some();
    (plain && dotted).then(|| absolute(view, &chain, &Scope::default())).flatten()
}

/// The whole path of a reference, imports and packages put in.
fn absolute(view: &View, chain: &Chain<'_>, scope: &Scope) -> Option<Vec<Root>> {
    let names = view.absolute(chain, scope)?;
    // `View` stops at the first step that is no name; the steps from there on are written here.
    let written = chain.parts.iter().skip(chain.names().len()).map(|part| match part {
        Part::Name(name) => Step::Name(name.clone()),
        Part::Number | Part::Dynamic(_) => Step::Any,
    });
    Some(names.into_iter().map(Step::Name).chain(written).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(rules: &str) -> Reads {
        let mut engine = regorus::Engine::new();
        engine.add_policy("g.rego".to_owned(), format!("package loopiq.gateway\n\n{rules}\n")).unwrap();
        Reads::of(engine.get_modules())
    }

    fn path(text: &str) -> Vec<Step> {
        let step = |step: &str| if step == "*" { Step::Any } else { Step::Name(step.to_owned()) };
        text.split('.').map(step).collect()
    }

    /// What is read, and what is not, of rules.
    fn check(rules: &str, read: &[&str], unread: &[&str]) {
        let reads = reads(rules);
        for one in read {
            assert!(reads.may_read(&path(one)), "{one} of {rules}: {reads:?}");
        }
        for one in unread {
            assert!(!reads.may_read(&path(one)), "{one} of {rules}: {reads:?}");
        }
    }

    #[test]
    fn a_path_its_parts_and_what_it_is_part_of_are_read_and_nothing_beside_it() {
        let rules = "allow if input.arguments.owner.email == \"x\"";
        check(
            rules,
            &["arguments", "arguments.owner", "arguments.owner.email", "arguments.owner.email.0"],
            &["arguments.title", "arguments.owner.name", "caller.user"],
        );
    }

    #[test]
    fn a_step_that_only_evaluation_knows_may_be_any() {
        check(
            "allow if input.arguments[input.caller.user].x == 1",
            &["arguments.title", "caller.user"],
            &["caller.roles"],
        );
        check(
            "allow if {\n some i\n input.facts[i].arguments.pin == 1\n}",
            &["facts.3.arguments.pin", "facts.0"],
            &["facts.3.arguments.note"],
        );
        check("allow if input.arguments.x == 1", &["*.x", "arguments.*"], &["caller.*"]);
    }

    #[test]
    fn what_is_handed_over_whole_is_read_whole() {
        check("allow if count(input.arguments) > 1", &["arguments.title.deep"], &["caller.user"]);
        check("allow if f(input)\nf(x) if x.a == 1", &["caller.user", "arguments.title"], &[]);
        check("allow if {\n some fact in input.facts\n fact.ok\n}", &["facts.0.arguments.pin"], &["arguments.pin"]);
        check("x := {\"all\": input.arguments}", &["arguments.title"], &["facts"]);
    }

    #[test]
    fn a_rule_that_is_a_name_reads_what_its_users_read_through_it() {
        let rules = "arguments := input.arguments\n\nstory := arguments.parentStory if arguments.parentStory.ok\n\nallow if story.title == \"x\"";
        check(
            rules,
            &["arguments.parentStory.title", "arguments.parentStory.ok", "arguments"],
            &["arguments.owner", "arguments.parentStory.text"],
        );
        check("arguments := input.arguments\nallow if count(arguments) == 1", &["arguments.owner"], &[]);
        check("allow if data.loopiq.gateway.it.x == 1\nit := input.arguments", &["arguments.x"], &["arguments.y"]);
        check("allow if data.loopiq[input.caller.user].it.x\nit := input.arguments", &["arguments.y"], &[]);
        check("decision := input.arguments", &["arguments.y"], &[]);
        check("import input.caller as who\n\nallow if who.teams[_] == 1", &["caller.teams.payments"], &["caller.user"]);
    }

    #[test]
    fn a_name_is_followed_however_it_is_written_and_however_long_the_way_is() {
        let own = "_args := input.arguments\n\nallow if _args.x == 1";
        check(own, &["arguments.x"], &["arguments.y"]);
        let two = "it := input.caller\n\nit.x := input.arguments.x\n\nallow if it.x == 1";
        check(two, &["arguments.x", "caller.x"], &["arguments.y"]);
        let links = (1..30).map(|n| format!("a{n} := data.loopiq.gateway.a{}\n", n - 1));
        let start =
            ["it := a29.y if a29.z\nit := input.caller\na0 := input.arguments\nallow if it.x == 1\n".to_owned()];
        // Whatever their order is: the last first is the longest way to find out.
        let links: Vec<String> = links.collect();
        check(&start.iter().chain(links.iter().rev()).cloned().collect::<String>(), &["arguments.y.x"], &[]);
        check(&start.iter().chain(&links).cloned().collect::<String>(), &["arguments.y.x"], &[]);
    }

    #[test]
    fn what_the_gateway_takes_from_the_decision_is_read() {
        let members = "decision[name] := given if some name, given in {\"reasons\": []}\n\ndecision.allow := input.arguments.sure";
        check(members, &["arguments.sure"], &["arguments.x"]);
    }

    #[test]
    fn a_function_reads_what_its_own_arguments_are_compared_with() {
        for rules in [
            "allow if f(1)\n\nf(input.arguments.x) := true",
            "allow if f([true, 1])\n\nf([given, input.arguments.x]) := given",
            "allow if f({\"x\": 1})\n\nf({input.arguments.x: given}) := given",
            "allow if f(1)\n\ndefault f(_) := false\n\nit := input.arguments\n\nf(it.x) := true",
        ] {
            check(rules, &["arguments.x"], &["arguments.y"]);
        }
    }

    #[test]
    fn a_local_name_is_not_the_rule_of_that_name() {
        let rules = "it := input.arguments\n\nallow if {\n some it in data.t\n it.x == 1\n}";
        check(rules, &[], &["arguments.x"]);
    }
}
