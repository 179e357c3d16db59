//! The rules of a bundle by name and place, so that two bundles can be compared.
//!
//! Promises: each rule is there once, with its text but for layout and whole-line comments; a rule
//! with several bodies stands there as often as it is written. Never compiles and never evaluates.
//! Called by `policy diff`.

use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::lint;

/// One rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleText {
    /// `data.loopiq.gateway.tenant_offers`.
    pub name: String,
    /// File, relative to the bundle's root.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Its words, one space between them.
    pub text: String,
}

/// The rules of a bundle's policies, tests left out, in the order of files and lines.
pub fn rules(bundle: &Bundle) -> Result<Vec<RuleText>, Vec<BundleFault>> {
    lint::dangers(bundle.files())?;
    let mut engine = regorus::Engine::new();
    lint::parse(&mut engine, bundle.files())?;
    let mut rules = Vec::new();
    for module in engine.get_modules() {
        let package = lint::package(module);
        for rule in &module.policy {
            let Some(head) = lint::head_of(rule) else { continue };
            let names = std::iter::once(head.root.as_str()).chain(head.names());
            let span = rule.span();
            rules.push(RuleText {
                name: std::iter::once(package.as_str()).chain(names).collect::<Vec<_>>().join("."),
                path: span.source.get_path().clone(),
                line: span.line,
                text: words(span.text()),
            });
        }
    }
    rules.sort_by(|one, other| (&one.path, one.line).cmp(&(&other.path, other.line)));
    Ok(rules)
}

fn words(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_found_by_name_with_its_place_and_layout_changes_nothing() {
        let of = |text: &str| {
            let file = ("a/g.rego".to_owned(), format!("package a.g\n\n{text}\n").into_bytes());
            rules(&Bundle::from_files(vec![file]).unwrap()).unwrap()
        };
        let one = of("default ok := false\n\nok if {\n\tinput.x == 1\n}\n\nf(x) := y if y := x + 1");
        let names: Vec<_> = one.iter().map(|rule| (rule.name.as_str(), rule.line)).collect();
        assert_eq!(names, [("data.a.g.ok", 3), ("data.a.g.ok", 5), ("data.a.g.f", 9)]);
        assert_eq!(one[0].path, "a/g.rego");
        let other = of("default ok := false\n\nok if {\n\t# why\n\n\tinput.x   == 1\n}\n\nf(x) := y if y := x + 1");
        assert_eq!(one[1].text, other[1].text);
        assert_ne!(one[1].text, of("ok if {\n\tinput.x == 2\n}")[0].text);
    }
}
