//! Rules compiled for one entry point, and the one way to ask them.
//!
//! Promises: the compiled machine runs only rules that it is known to run right, the interpreter
//! runs the rest; every evaluation has its own machine, an instruction budget and a timer; a panic inside
//! it is an error like any other. Knows nothing of what is decided. Called by `pdp::engine` and
//! `pdp::conformance`.

use std::sync::Arc;

use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::Program;
use regorus::rvm::RegoVM;
use regorus::rvm::vm::VmError;
use serde_json::Value;

use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::engine::TIMER;
use crate::domain::pdp::engine::guarded;
use crate::domain::pdp::engine::strict;
use crate::domain::pdp::lint;
use crate::domain::pdp::ruling::Broken;
use crate::domain::pdp::ruling::Engine;
use crate::domain::pdp::ruling::Fault;

/// How the interpreter says that rules contradict each other.
const CONFLICTS: [&str; 3] = ["rule conflicts with", "not produce multiple outputs", "produced multiple outputs"];

/// Rules and data, compiled.
pub(in crate::domain::pdp) struct Machine {
    entry: String,
    /// Rules and data, analysed; cloned per evaluation, which shares both.
    interpreter: regorus::Engine,
    /// The same rules for the virtual machine, when it can be trusted with them.
    program: Option<Arc<Program>>,
    /// Whether everything that fails in that program is heard.
    strict: bool,
    data: regorus::Value,
    notes: Vec<BundleFault>,
}

impl Machine {
    /// Compiles what `engine` has parsed and the lint has passed. `notes` send it to the interpreter.
    pub(in crate::domain::pdp) fn compile(
        mut engine: regorus::Engine,
        data: &Value,
        entry: &str,
        mut notes: Vec<BundleFault>,
    ) -> Result<Self, Vec<BundleFault>> {
        let data = regorus::Value::from(data.clone());
        engine.add_data(data.clone()).map_err(|cause| vec![lint::fault_of(&cause.to_string())])?;
        engine.set_execution_timer_config(TIMER);
        let compiled = guarded(|| engine.compile_with_entrypoint(&regorus::Rc::from(entry)))
            .and_then(|result| result.map_err(|cause| cause.to_string()))
            .map_err(|cause| vec![lint::fault_of(&cause).coded(Code::CompileError)])?;
        let (mut program, mut strict) = (None, false);
        if notes.is_empty() {
            match guarded(|| Compiler::compile_from_policy(&compiled, &[entry]))
                .and_then(|result| result.map_err(|cause| cause.to_string()))
            {
                Ok(made) => {
                    let heard = strict::program(Program::clone(&made));
                    strict = heard.is_some();
                    program = Some(heard.map_or(made, Arc::new));
                }
                // Unknown functions and variables were refused by the lint, so what is left is a
                // form that only the interpreter runs.
                Err(cause) => notes.push(lint::fault_of(&cause).coded(Code::NeedsInterpreter)),
            }
        }
        Ok(Self { entry: entry.to_owned(), interpreter: engine, program, strict, data, notes })
    }

    /// The engine that answers.
    pub(in crate::domain::pdp) fn engine(&self) -> Engine {
        if self.program.is_some() { Engine::Rvm } else { Engine::Interpreter }
    }

    /// Why the interpreter answers; empty when the virtual machine does.
    pub(in crate::domain::pdp) fn notes(&self) -> &[BundleFault] {
        &self.notes
    }

    /// Whether everything that fails is heard on the virtual machine too.
    pub(in crate::domain::pdp) fn is_strict(&self) -> bool {
        self.strict
    }

    /// Asks the virtual machine; the interpreter when there is no program for it.
    pub(in crate::domain::pdp) fn run(&self, input: regorus::Value, instructions_max: usize) -> Result<Value, Broken> {
        let Some(program) = &self.program else { return self.interpret(input) };
        let answer = guarded(|| {
            let mut vm = RegoVM::new();
            vm.load_program(Arc::clone(program));
            vm.set_data(self.data.clone())?;
            // Functions then report what they do not understand; `strict` makes the report heard.
            vm.set_strict_builtin_errors(true);
            vm.set_max_instructions(instructions_max);
            vm.set_execution_timer_config(Some(TIMER));
            vm.set_input(input);
            vm.execute_entry_point_by_index(0)
        });
        match answer {
            Err(panic) => Err(Broken::new(Fault::Error, panic)),
            Ok(Err(cause)) => {
                let detail = strict::failed(&cause).unwrap_or_else(|| cause.to_string());
                Err(Broken::new(kind_of(&cause), detail))
            }
            Ok(Ok(value)) => self.json_of(&value),
        }
    }

    /// Asks the interpreter.
    pub(in crate::domain::pdp) fn interpret(&self, input: regorus::Value) -> Result<Value, Broken> {
        let answer = guarded(|| {
            let mut engine = self.interpreter.clone();
            engine.set_strict_builtin_errors(true);
            engine.set_execution_timer_config(TIMER);
            engine.set_input(input);
            engine.eval_rule(self.entry.clone())
        });
        match answer {
            Err(panic) => Err(Broken::new(Fault::Error, panic)),
            Ok(Err(cause)) => {
                let text = cause.to_string();
                let fault = if cause.downcast_ref::<regorus::LimitError>().is_some() {
                    Fault::Budget
                } else if CONFLICTS.iter().any(|words| text.contains(words)) {
                    Fault::Conflict
                } else {
                    Fault::Error
                };
                Err(Broken::new(fault, text))
            }
            Ok(Ok(value)) => self.json_of(&value),
        }
    }

    fn json_of(&self, value: &regorus::Value) -> Result<Value, Broken> {
        if *value == regorus::Value::Undefined {
            return Err(Broken::new(Fault::Undefined, format!("`{}` is undefined for this input", self.entry)));
        }
        if has_undefined(value) {
            return Err(Broken::new(Fault::Shape, "the decision has an undefined member"));
        }
        serde_json::to_value(value).map_err(|cause| Broken::new(Fault::Shape, cause.to_string()))
    }
}

fn kind_of(cause: &VmError) -> Fault {
    match cause {
        VmError::InstructionLimitExceeded { .. } | VmError::TimeLimitExceeded { .. } => Fault::Budget,
        _ => Fault::Error,
    }
}

/// Undefined is a value inside regorus and would be written as the string `"<undefined>"`.
fn has_undefined(value: &regorus::Value) -> bool {
    match value {
        regorus::Value::Undefined => true,
        regorus::Value::Array(items) => items.iter().any(has_undefined),
        regorus::Value::Set(items) => items.iter().any(has_undefined),
        regorus::Value::Object(members) => {
            members.iter().any(|(key, member)| has_undefined(key) || has_undefined(member))
        }
        regorus::Value::Null | regorus::Value::Bool(_) | regorus::Value::Number(_) | regorus::Value::String(_) => false,
    }
}
