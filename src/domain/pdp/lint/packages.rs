//! References to whole packages.
//!
//! Promises: a policy or test that reads or imports a package instead of a rule is refused. Neither
//! engine of regorus 0.14.1 gets them right: the virtual machine puts `"<undefined>"` into the
//! object, and the interpreter evaluates the package file by file, so that a set which several files
//! fill is read when the first has filled it. A deny set that is read too early is an allow.
//! Called by `pdp::lint`.

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
use crate::domain::pdp::lint::graph::Index;
use crate::domain::pdp::lint::graph::Target;
use crate::domain::pdp::lint::graph::View;

/// Checks every import and every reference.
pub(super) fn check(modules: &[Ref<Module>], index: &Index) -> Vec<BundleFault> {
    let mut faults = Vec::new();
    for module in modules {
        let view = View::new(module);
        for import in &module.imports {
            let path = ast::chain(&import.refr).and_then(|chain| view.absolute(&chain, &Scope::default()));
            faults.extend(path.and_then(|path| whole(index, &path, &import.span)));
        }
        for rule in &module.policy {
            ast::walk(rule, &mut |node, scope| {
                let (Node::Ref(chain) | Node::Call(chain, _)) = node else { return };
                let path = view.absolute(&chain, scope);
                faults.extend(path.and_then(|path| whole(index, &path, chain.span)));
            });
        }
    }
    faults
}

/// Packages that stand where the data has a table.
pub(super) fn in_data(modules: &[Ref<Module>], data: &Value) -> Vec<BundleFault> {
    let inside = |module: &Ref<Module>| {
        let first = graph::package_of(module).into_iter().next().filter(|first| data.get(first).is_some())?;
        let message = format!("the package lies inside the data `data.{first}`");
        let remedy = "give the package or the data file another name";
        Some(fault_at(&module.package.span, Code::PackageInData, message, remedy))
    };
    modules.iter().filter_map(inside).collect()
}

fn whole(index: &Index, path: &[String], span: &Span) -> Option<BundleFault> {
    let of_data = path.first().is_some_and(|root| root == "data");
    let covers = path.len() == 1 || matches!(index.target(path), Target::Package(_));
    (of_data && covers).then(|| {
        let name = path.join(".");
        let remedy = "name the rule, as in `import data.loopiq.gateway.decision`";
        fault_at(
            span,
            Code::WholePackage,
            format!("`{name}` is a whole package, which the engines read too early"),
            remedy,
        )
    })
}
