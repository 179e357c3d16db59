//! Which tables a policy reads.
//!
//! Promises: a path under `data` whose first name is neither a data file nor a package is refused,
//! with the names that there are. A misspelt table is undefined for ever, and undefined under `not`
//! is an allow. What stands inside a table is not looked at: rows come and go. Called by `pdp::lint`.

use std::collections::BTreeSet;

use regorus::unstable::Module;
use regorus::unstable::Ref;
use regorus::unstable::Span;
use serde_json::Value;

use crate::domain::pdp::ast;
use crate::domain::pdp::ast::Node;
use crate::domain::pdp::ast::Scope;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint::fault_at;
use crate::domain::pdp::lint::graph;
use crate::domain::pdp::lint::graph::View;
use crate::domain::pdp::lint::nearest;

/// Checks every import and every reference.
pub(super) fn check(modules: &[Ref<Module>], data: &Value) -> Vec<BundleFault> {
    let tables = data.as_object().into_iter().flat_map(|tables| tables.keys().cloned());
    let packages = modules.iter().filter_map(|module| graph::package_of(module).into_iter().next());
    let known: BTreeSet<String> = tables.chain(packages).collect();
    let mut faults = Vec::new();
    for module in modules {
        let view = View::new(module);
        for import in &module.imports {
            let path = ast::chain(&import.refr).and_then(|chain| view.absolute(&chain, &Scope::default()));
            faults.extend(path.and_then(|path| unknown(&known, &path, &import.span)));
        }
        for rule in &module.policy {
            ast::walk(rule, &mut |node, scope| {
                let (Node::Ref(chain) | Node::Call(chain, _)) = node else { return };
                let path = view.absolute(&chain, scope);
                faults.extend(path.and_then(|path| unknown(&known, &path, chain.span)));
            });
        }
    }
    faults
}

fn unknown(known: &BTreeSet<String>, path: &[String], span: &Span) -> Option<BundleFault> {
    let [root, first, ..] = path else { return None };
    (root == "data" && !known.contains(first)).then(|| {
        let names = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        fault_at(
            span,
            Code::UnknownTable,
            format!("there is no `data.{first}`; `data` has {names}"),
            match nearest(first, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `data.{meant}`? If not, add `data/{first}.yaml`"),
                None => format!("correct the name, or add `data/{first}.yaml`"),
            },
        )
    })
}
