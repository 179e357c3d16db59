//! Which functions a policy calls.
//!
//! Promises: a call of a function that does not exist, takes another number of arguments, or would
//! make the same input give two answers is refused before anything runs, and so is one whose answer
//! has no bound. regorus says none of it until the call is reached. Called by `pdp::lint`.

use std::collections::BTreeMap;

use regorus::unstable::Expr;
use regorus::unstable::Module;
use regorus::unstable::Ref;
use regorus::unstable::Rule;
use regorus::unstable::RuleHead;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Chain;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Scope;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::bounds;
use crate::domain::pdp::lint::builtins;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::graph::Index;
use crate::domain::pdp::lint::graph::Target;
use crate::domain::pdp::lint::graph::View;
use crate::domain::pdp::lint::head_of;
use crate::domain::pdp::lint::nearest;

/// Checks every call of every rule.
pub(super) fn check(modules: &[Ref<Module>], index: &Index) -> Vec<BundleFault> {
    let arity = arities(modules);
    let mut faults = Vec::new();
    for module in modules {
        let view = View::new(module);
        for rule in &module.policy {
            ast::walk(rule, &mut |node, scope| {
                if let Node::Call(chain, arguments) = node {
                    faults.extend(check_call(&view, index, &arity, (&chain, arguments), scope));
                }
            });
        }
    }
    faults
}

fn check_call(
    view: &View,
    index: &Index,
    arity: &BTreeMap<String, usize>,
    (chain, arguments): (&Chain<'_>, &[Ref<Expr>]),
    scope: &Scope,
) -> Option<BundleFault> {
    let given = arguments.len();
    let name = chain.dotted().unwrap_or_else(|| chain.root.clone());
    let tested = chain.span.source.get_path().ends_with("_test.rego");
    let own = view.absolute(chain, scope).map(|path| index.target(&path));
    if let Some(Target::Rule(path)) = own {
        let Some(takes) = arity.get(&path) else {
            let message = format!("`{name}` is a rule, not a function");
            return Some(fault_at(chain.span, Code::NotAFunction, message, "refer to it without `(…)`"));
        };
        return wrong_count(chain, &name, given, *takes);
    }
    if name == "print" {
        let words = "`print` writes what callers sent to the gateway's own output";
        let fault = fault_at(chain.span, Code::ImpureBuiltin, words, "use it in `*_test.rego` files only");
        return (!tested).then_some(fault);
    }
    match builtins::signature(&name) {
        Some(signature) => wrong_count(chain, &name, given, signature.takes.len())
            .or_else(|| bounds::check(&name, chain.span, arguments).filter(|_| !tested)),
        None => Some(missing(chain, &name, arity)),
    }
}

/// A function that is not run: because it is impure, because it is one of OPA's that the gateway
/// does not have, or because there is none.
fn missing(chain: &Chain<'_>, name: &str, arity: &BTreeMap<String, usize>) -> BundleFault {
    if let Some(instead) = builtins::impure(name) {
        let message = format!("`{name}` is not allowed: the same input must always give the same decision");
        return fault_at(chain.span, Code::ImpureBuiltin, message, instead);
    }
    if let Some((why, instead)) = builtins::unsupported(name) {
        let message = format!("`{name}` is an OPA built-in that the gateway does not run: {why}");
        return fault_at(chain.span, Code::UnsupportedBuiltin, message, instead);
    }
    let own = arity.keys().filter_map(|path| path.rsplit('.').next());
    let meant = nearest(name, builtins::SIGNATURES.iter().map(|(name, _)| *name).chain(own));
    let remedy =
        meant.map_or_else(|| "check its name and its package".to_owned(), |meant| format!("did you mean `{meant}`?"));
    fault_at(chain.span, Code::UnknownFunction, format!("there is no function `{name}`"), remedy)
}

/// One more argument than asked receives the result: `f(x, y)` for `y = f(x)`.
fn wrong_count(chain: &Chain<'_>, name: &str, given: usize, takes: usize) -> Option<BundleFault> {
    (given != takes && given != takes + 1).then(|| {
        let arguments = if takes == 1 { "1 argument".to_owned() } else { format!("{takes} arguments") };
        let message = format!("`{name}` takes {arguments} and gets {given}");
        fault_at(chain.span, Code::Arity, message, "give it what it takes")
    })
}

fn arities(modules: &[Ref<Module>]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for module in modules {
        let package = View::new(module).package;
        for rule in &module.policy {
            let takes = match rule.as_ref() {
                Rule::Spec { head: RuleHead::Func { args, .. }, .. } => args.len(),
                Rule::Default { args, .. } if !args.is_empty() => args.len(),
                Rule::Spec { .. } | Rule::Default { .. } => continue,
            };
            if let Some(name) = head_of(rule).and_then(|head| head.dotted()) {
                found.insert(format!("{package}.{name}"), takes);
            }
        }
    }
    found
}
