//! Rules that know one person or one program by name.
//!
//! Promises: a comparison of `input.caller.user` or `input.caller.client` with what is written in the
//! rule is reported. Such a rule outlives the person, is no table that a security team reads, and
//! means somebody else at another issuer. Keeps a bundle from nothing. Called by `pdp::lint`.

use regorus::unstable::Expr;
use regorus::unstable::Module;
use regorus::unstable::Ref;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Comparison;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Scope;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::graph::View;

/// Every such comparison.
pub(super) fn check(modules: &[Ref<Module>]) -> Vec<BundleFault> {
    let mut warnings = Vec::new();
    for module in modules {
        let view = View::new(module);
        for rule in &module.policy {
            ast::walk(rule, &mut |node, scope| {
                let Node::Compare(how, left, right) = node else { return };
                if how == Comparison::Order {
                    return;
                }
                let name = match (ast::constant(left), ast::constant(right)) {
                    (true, false) => one(&view, right, scope),
                    (false, true) => one(&view, left, scope),
                    _ => None,
                };
                warnings.extend(name.map(|name| {
                    fault_at(
                        left.span(),
                        Code::NamedCaller,
                        format!("`{name}` is compared with what is written in the rule"),
                        "ask for a role, or for a row of a table in `data/`; a name is good for one issuer only",
                    )
                }));
            });
        }
    }
    warnings
}

fn one(view: &View, expr: &Expr, scope: &Scope) -> Option<String> {
    let path = view.absolute(&ast::chain(expr)?, scope)?.join(".");
    ["input.caller.user", "input.caller.client"].contains(&path.as_str()).then_some(path)
}
