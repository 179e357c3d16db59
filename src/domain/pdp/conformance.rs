//! Any rules, any entry point, through the path that serves.
//!
//! Promises: what is asked here goes through the same scan, parser, lint, compiler and machines as a bundle
//! of the gateway does; only what such rules cannot have is left out: the schema of the input and the
//! self-test. Decides nothing. Called by `tests/opa.rs`, which asks OPA's own cases.

use serde_json::Value;

use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::engine::machine::Machine;
use crate::domain::pdp::lint;
use crate::domain::pdp::ruling::Broken;
use crate::domain::pdp::ruling::Engine;
use crate::domain::pdp::ruling::Fault;

/// Instructions that one answer may take; cases loop more than decisions do.
const INSTRUCTIONS_MAX: usize = 2_000_000;

/// What came of a question.
#[derive(Debug)]
pub struct Answer {
    /// The engine that the gateway would have answer.
    pub engine: Engine,
    /// What the virtual machine gives, unless it must not be asked.
    pub machine: Option<Result<Option<Value>, String>>,
    /// What the interpreter gives; nothing stands for undefined.
    pub interpreter: Result<Option<Value>, String>,
    /// What keeps such rules from the gateway although they can be run: they do what nobody means to.
    pub doubts: Vec<BundleFault>,
}

/// Asks `entry`; or says why such rules are never run.
pub fn ask(
    files: &[(String, String)],
    data: &Value,
    input: Option<&Value>,
    entry: &str,
) -> Result<Answer, Vec<BundleFault>> {
    lint::dangers(files)?;
    let mut engine = regorus::Engine::new();
    lint::parse(&mut engine, files)?;
    let ground = lint::Ground { entry, input: None, data, schema: None };
    let lint::Findings { faults, notes, .. } = lint::rules(engine.get_modules(), &ground);
    let (doubts, faults): (Vec<_>, Vec<_>) = faults.into_iter().partition(|fault| doubtful(fault.code));
    if !faults.is_empty() {
        return Err(faults);
    }
    let machine = Machine::compile(engine, data, entry, notes)?;
    let value = || input.map_or(regorus::Value::Undefined, |input| regorus::Value::from(input.clone()));
    let given = |answer: Result<Value, Broken>| match answer {
        Ok(value) => Ok(Some(value)),
        Err(broken) if broken.fault == Fault::Undefined => Ok(None),
        Err(broken) => Err(broken.detail),
    };
    let on_machine = machine.engine() == Engine::Rvm;
    Ok(Answer {
        engine: machine.engine(),
        machine: on_machine.then(|| given(machine.run(value(), INSTRUCTIONS_MAX))),
        interpreter: given(machine.interpret(value())),
        doubts,
    })
}

/// Whether rules with such a fault have an answer all the same.
fn doubtful(code: Code) -> bool {
    matches!(
        code,
        Code::UnreachableRule
            | Code::UnreachableElse
            | Code::NeverHolds
            | Code::TypeClash
            | Code::ImpossibleValue
            | Code::UnknownField
            | Code::UnknownDataField
            | Code::UnknownInputField
            | Code::UnknownTable
    )
}
