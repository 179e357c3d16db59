//! A bundle's own tests: `test_*` rules in `*_test.rego` files.
//!
//! Promises: OPA's habits: a test passes when it is defined and not false, `todo_test_*` is
//! skipped; the interpreter runs them, because tests use `with`; one test cannot disturb another,
//! and one that panics or never ends has failed. Called by the policy commands.

use regorus::unstable::Rule;

use crate::domain::pdp::ast;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::engine;
use crate::domain::pdp::lint;

/// The tests of one bundle, ready to run.
pub struct Suite {
    engine: regorus::Engine,
    tests: Vec<Test>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// `data.<package>.test_<name>`.
    pub name: String,
    /// File.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// `todo_test_…`: written down, not yet meant to pass.
    pub todo: bool,
}

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Defined and not false.
    Pass,
    /// Undefined or false.
    Fail,
    /// The engine gave up; why.
    Error(String),
    /// To do.
    Skipped,
}

impl Suite {
    /// Parses a bundle with its tests.
    pub fn load(bundle: &Bundle) -> Result<Self, Vec<BundleFault>> {
        let files: Vec<_> = bundle.files().iter().chain(bundle.tests()).cloned().collect();
        lint::dangers(&files)?;
        let mut engine = regorus::Engine::new();
        lint::parse(&mut engine, &files)?;
        let faults = lint::tests_safe(engine.get_modules());
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut tests: Vec<Test> = engine
            .get_modules()
            .iter()
            .filter(|module| module.package.span.source.get_path().ends_with("_test.rego"))
            .flat_map(|module| {
                let package = lint::package(module);
                module.policy.iter().filter_map(move |rule| test_of(rule, &package))
            })
            .collect();
        tests.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
        // Bodies of one name are one test.
        tests.dedup_by(|a, b| a.name == b.name);
        let data = regorus::Value::from(bundle.data().clone());
        engine.add_data(data).map_err(|cause| vec![lint::fault_of(&cause.to_string())])?;
        engine.set_execution_timer_config(engine::TIMER);
        Ok(Self { engine, tests })
    }

    /// Every test, by file and line.
    #[must_use]
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// Runs one.
    #[must_use]
    pub fn run(&self, test: &Test) -> Verdict {
        if test.todo {
            return Verdict::Skipped;
        }
        let answer = engine::guarded(|| {
            let mut engine = self.engine.clone();
            engine.set_input(regorus::Value::new_object());
            engine.eval_rule(test.name.clone())
        });
        match answer {
            Err(panic) => Verdict::Error(panic),
            Ok(Err(cause)) => Verdict::Error(lint::fault_of(&cause.to_string()).to_string()),
            Ok(Ok(regorus::Value::Undefined | regorus::Value::Bool(false))) => Verdict::Fail,
            Ok(Ok(_)) => Verdict::Pass,
        }
    }
}

fn test_of(rule: &Rule, package: &str) -> Option<Test> {
    let Rule::Spec { span, .. } = rule else { return None };
    let head: ast::Chain<'_> = lint::head_of(rule)?;
    let name = head.dotted()?;
    let todo = name.starts_with("todo_test_");
    (todo || name.starts_with("test_")).then(|| Test {
        name: format!("{package}.{name}"),
        path: span.source.get_path().clone(),
        line: span.line,
        todo,
    })
}
