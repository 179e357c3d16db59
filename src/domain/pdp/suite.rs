//! A bundle's own tests: `test_*` rules in `*_test.rego` files.
//!
//! Promises: OPA's habits: a test passes when it is defined and not false, `todo_test_*` is
//! skipped; the interpreter runs them, because tests use `with`; one test cannot disturb another,
//! and one that panics or never ends has failed; a test that fails is told condition by condition.
//! Never reads a clock. Called by the policy commands.

use std::time::Duration;

use regorus::unstable::Rule;

use crate::domain::pdp::ENTRY_POINT;
use crate::domain::pdp::Input;
use crate::domain::pdp::ast;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::coverage::Coverage;
use crate::domain::pdp::engine;
use crate::domain::pdp::explain::Explainer;
use crate::domain::pdp::explain::Told;
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
    /// Column, from 1.
    pub column: u32,
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
        // Analyses everything once, and not once in every copy; what is wrong shows in the tests.
        let _analysed = engine::guarded(|| engine.eval_query("true".to_owned(), false).is_ok());
        Ok(Self { engine, tests })
    }

    /// How long one test may take.
    pub fn limit(&mut self, most: Duration) {
        self.engine
            .set_execution_timer_config(regorus::utils::limits::ExecutionTimerConfig { limit: most, ..engine::TIMER });
    }

    /// A coverage of nothing yet.
    #[must_use]
    pub fn coverage(&mut self) -> Coverage {
        Coverage::new(self.engine.get_modules())
    }

    /// Why a test failed: its rule with its conditions. Nothing when it cannot be taken apart.
    #[must_use]
    pub fn why(&self, test: &Test) -> Vec<Told> {
        let told = Explainer::of(&mut self.engine.clone(), &test.name);
        told.map(|mut explainer| explainer.rule(regorus::Value::new_object())).unwrap_or_default()
    }

    /// Evaluates the decision for an input, as it would be decided, for what it covers.
    pub fn cover(&self, input: &Input, coverage: &mut Coverage) {
        let input = serde_json::to_value(input).map_or(regorus::Value::Undefined, regorus::Value::from);
        let _decided_elsewhere = self.eval(ENTRY_POINT, input, Some(coverage));
    }

    /// Every test, by file and line.
    #[must_use]
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// Runs one, and notes what it covers if that is asked.
    #[must_use]
    pub fn run(&self, test: &Test, coverage: Option<&mut Coverage>) -> Verdict {
        if test.todo {
            return Verdict::Skipped;
        }
        match self.eval(&test.name, regorus::Value::new_object(), coverage) {
            Err(cause) => Verdict::Error(cause),
            Ok(regorus::Value::Undefined | regorus::Value::Bool(false)) => Verdict::Fail,
            Ok(_) => Verdict::Pass,
        }
    }

    fn eval(
        &self,
        rule: &str,
        input: regorus::Value,
        coverage: Option<&mut Coverage>,
    ) -> Result<regorus::Value, String> {
        let covering = coverage.is_some();
        let (answer, report) = engine::guarded(|| {
            let mut engine = self.engine.clone();
            engine.set_enable_coverage(covering);
            engine.set_input(input);
            let answer = engine.eval_rule(rule.to_owned());
            (answer, if covering { engine.get_coverage_report().ok() } else { None })
        })?;
        if let (Some(coverage), Some(report)) = (coverage, report) {
            coverage.add(&report);
        }
        answer.map_err(|cause| lint::fault_of(&cause.to_string()).to_string())
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
        column: span.col,
        todo,
    })
}
