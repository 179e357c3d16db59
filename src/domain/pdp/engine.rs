//! The engine: a compiled bundle that answers.
//!
//! Promises: a [`Pdp`] exists only for a bundle that passed the lint, compiled, and denied what
//! must be denied; the compiled machine runs only rules that it is known to run right, the
//! interpreter runs the rest; every evaluation has its own machine, an instruction budget and a
//! timer, and a panic inside it is a deny. Same input, same ruling. Never calls out.
//! Called by `adapters::reload`, `pep` and the policy commands.

mod strict;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::Program;
use regorus::rvm::RegoVM;
use regorus::rvm::vm::VmError;
use regorus::utils::limits::ExecutionTimerConfig;
use serde_json::Value;

use crate::domain::catalog::Effect;
use crate::domain::pdp::ENTRY_POINT;
use crate::domain::pdp::Input;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::pdp::Reads;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::code::Code;
use crate::domain::pdp::lint;
use crate::domain::pdp::probe;
use crate::domain::pdp::ruling::Broken;
use crate::domain::pdp::ruling::Decider;
use crate::domain::pdp::ruling::Engine;
use crate::domain::pdp::ruling::Fault;
use crate::domain::pdp::ruling::Ruling;

/// Instructions that one decision may take. A call takes some hundreds, a list of 200 tools about
/// five thousand, so this is a bound on mistakes and not on rules.
const INSTRUCTIONS_MAX: usize = 200_000;

/// Backstop in time. Loose, because a busy machine stops a thread for 50 ms now and then; it is the
/// only bound that the interpreter has.
pub(super) const TIMER: ExecutionTimerConfig =
    ExecutionTimerConfig { limit: Duration::from_secs(1), check_interval: NonZeroU32::new(64).unwrap() };

/// How the interpreter says that rules contradict each other.
const CONFLICTS: [&str; 3] = ["rule conflicts with", "not produce multiple outputs", "produced multiple outputs"];

/// A bundle that is ready to decide. Cheap to clone and to share between threads.
#[derive(Clone)]
pub struct Pdp {
    compiled: Arc<Compiled>,
}

struct Compiled {
    /// Rules and data, analysed; cloned per evaluation, which shares both.
    interpreter: regorus::Engine,
    /// The same rules for the virtual machine, when it can be trusted with them.
    program: Option<Arc<Program>>,
    /// Whether everything that fails in that program is heard.
    strict: bool,
    data: regorus::Value,
    bundle_digest: Arc<str>,
    data_digest: Arc<str>,
    notes: Vec<BundleFault>,
    warnings: Vec<BundleFault>,
    reads: Reads,
}

impl std::fmt::Debug for Pdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pdp")
            .field("engine", &self.engine())
            .field("bundle_digest", &self.compiled.bundle_digest)
            .field("data_digest", &self.compiled.data_digest)
            .finish_non_exhaustive()
    }
}

impl Pdp {
    /// Lints, compiles and tries a bundle. `tools` are the tools it will decide about.
    ///
    /// Some bundles that pass the lint can still stall or exhaust the process that compiles them;
    /// `adapters::reload::bundle` tries every bundle in a child process first.
    pub fn compile(bundle: &Bundle, tools: &BTreeMap<String, ToolFacts>) -> Result<Self, Vec<BundleFault>> {
        let mut pdp = Self::load(bundle)?;
        let warnings = probe::check(&pdp, bundle, tools)?;
        if let Some(compiled) = Arc::get_mut(&mut pdp.compiled) {
            compiled.warnings.extend(warnings);
        }
        Ok(pdp)
    }

    /// Lints and compiles a bundle that has decided before, to make its decisions again.
    ///
    /// Not tried anew: it may rest on tools that are gone by now, and what it decided, it decided.
    pub fn recorded(bundle: &Bundle) -> Result<Self, Vec<BundleFault>> {
        Self::load(bundle)
    }

    /// Lints and compiles without the self-test.
    pub(super) fn load(bundle: &Bundle) -> Result<Self, Vec<BundleFault>> {
        lint::dangers(bundle.files())?;
        let mut engine = regorus::Engine::new();
        lint::parse(&mut engine, bundle.files())?;
        let lint::Findings { faults, mut notes, warnings } =
            lint::rules(engine.get_modules(), &lint::Ground::of(bundle));
        if !faults.is_empty() {
            return Err(faults);
        }
        let reads = Reads::of(engine.get_modules());
        let data = regorus::Value::from(bundle.data().clone());
        engine.add_data(data.clone()).map_err(|cause| vec![lint::fault_of(&cause.to_string())])?;
        engine.set_execution_timer_config(TIMER);
        let compiled = guarded(|| engine.compile_with_entrypoint(&regorus::Rc::from(ENTRY_POINT)))
            .and_then(|result| result.map_err(|cause| cause.to_string()))
            .map_err(|cause| vec![lint::fault_of(&cause).coded(Code::CompileError)])?;
        let (mut program, mut strict) = (None, false);
        if notes.is_empty() {
            match guarded(|| Compiler::compile_from_policy(&compiled, &[ENTRY_POINT]))
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
        Ok(Self {
            compiled: Arc::new(Compiled {
                interpreter: engine,
                program,
                strict,
                data,
                bundle_digest: bundle.digest().into(),
                data_digest: bundle.data_digest().into(),
                notes,
                warnings,
                reads,
            }),
        })
    }

    /// The engine that decides.
    #[must_use]
    pub fn engine(&self) -> Engine {
        if self.compiled.program.is_some() { Engine::Rvm } else { Engine::Interpreter }
    }

    /// Why the interpreter decides, with places; empty when the virtual machine does.
    #[must_use]
    pub fn notes(&self) -> &[BundleFault] {
        &self.compiled.notes
    }

    /// What the author should look at again, with places; it keeps the bundle from nothing.
    #[must_use]
    pub fn warnings(&self) -> &[BundleFault] {
        &self.compiled.warnings
    }

    /// Which parts of the input its rules may look at.
    #[must_use]
    pub fn reads(&self) -> &Reads {
        &self.compiled.reads
    }

    /// SHA-256 (hex) over the policy files.
    #[must_use]
    pub fn bundle_digest(&self) -> &str {
        &self.compiled.bundle_digest
    }

    /// SHA-256 (hex) over the data.
    #[must_use]
    pub fn data_digest(&self) -> &str {
        &self.compiled.data_digest
    }

    /// Decides.
    ///
    /// What changes something is decided on both engines, and goes on only if they agree; the
    /// interpreter takes a tenth of a millisecond, which a durable write does not notice and a read
    /// would. So is everything else under a program in which a failing function could go unheard: a
    /// rule that fails instead of saying no must not open anything to anybody.
    #[must_use]
    pub fn decide(&self, input: &Input) -> Ruling {
        let ruling = self.decide_on(self.engine(), input);
        let changes = input.tool.as_ref().is_some_and(|tool| tool.effect != Effect::Read);
        let goes_on = match input.phase {
            Phase::Call => ruling.outcome() != Outcome::Deny && (changes || !self.compiled.strict),
            Phase::Response => ruling.outcome() != Outcome::Deny && !self.compiled.strict,
            Phase::List => !self.compiled.strict,
        };
        if ruling.engine() == Engine::Rvm && goes_on {
            ruling.confirmed_by(self.decide_on(Engine::Interpreter, input))
        } else {
            ruling
        }
    }

    /// Decides on a given engine, for comparing the two. Falls to the interpreter when there is no
    /// program for the virtual machine.
    #[must_use]
    pub fn decide_on(&self, engine: Engine, input: &Input) -> Ruling {
        let (engine, answer) = match (engine, &self.compiled.program) {
            (Engine::Rvm, Some(program)) => (Engine::Rvm, self.run(program, input, INSTRUCTIONS_MAX)),
            (Engine::Rvm, None) | (Engine::Interpreter, _) => (Engine::Interpreter, self.interpret(input)),
        };
        let decider = Decider {
            engine,
            bundle_digest: Arc::clone(&self.compiled.bundle_digest),
            data_digest: Arc::clone(&self.compiled.data_digest),
        };
        Ruling::read(answer, input, decider)
    }

    /// How many instructions the virtual machine takes for this input, found by trying; for authors,
    /// not for the data path.
    #[must_use]
    pub fn instructions(&self, input: &Input) -> Option<usize> {
        let program = self.compiled.program.as_ref()?;
        let enough =
            |limit: usize| !matches!(self.run(program, input, limit), Err(broken) if broken.fault == Fault::Budget);
        if !enough(INSTRUCTIONS_MAX) {
            return None;
        }
        let (mut low, mut high) = (0, INSTRUCTIONS_MAX);
        while low < high {
            let middle = usize::midpoint(low, high);
            if enough(middle) { high = middle } else { low = middle + 1 }
        }
        Some(high)
    }

    fn run(&self, program: &Arc<Program>, input: &Input, instructions_max: usize) -> Result<Value, Broken> {
        let input = value_of(input)?;
        let answer = guarded(|| {
            let mut vm = RegoVM::new();
            vm.load_program(Arc::clone(program));
            vm.set_data(self.compiled.data.clone())?;
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
            Ok(Ok(value)) => json_of(&value),
        }
    }

    fn interpret(&self, input: &Input) -> Result<Value, Broken> {
        let input = value_of(input)?;
        let answer = guarded(|| {
            let mut engine = self.compiled.interpreter.clone();
            engine.set_strict_builtin_errors(true);
            engine.set_execution_timer_config(TIMER);
            engine.set_input(input);
            engine.eval_rule(ENTRY_POINT.to_owned())
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
            Ok(Ok(value)) => json_of(&value),
        }
    }
}

fn kind_of(cause: &VmError) -> Fault {
    match cause {
        VmError::InstructionLimitExceeded { .. } | VmError::TimeLimitExceeded { .. } => Fault::Budget,
        _ => Fault::Error,
    }
}

/// Runs `work` and turns a panic into words: built-ins are known to panic on odd arguments.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let words =
            panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format!("the policy engine panicked: {}", words.unwrap_or("without words"))
    })
}

fn value_of(input: &Input) -> Result<regorus::Value, Broken> {
    let json = serde_json::to_value(input).map_err(|cause| Broken::new(Fault::Error, cause.to_string()))?;
    Ok(regorus::Value::from(json))
}

fn json_of(value: &regorus::Value) -> Result<Value, Broken> {
    if *value == regorus::Value::Undefined {
        return Err(Broken::new(Fault::Undefined, format!("`{ENTRY_POINT}` is undefined for this input")));
    }
    if has_undefined(value) {
        return Err(Broken::new(Fault::Shape, "the decision has an undefined member"));
    }
    serde_json::to_value(value).map_err(|cause| Broken::new(Fault::Shape, cause.to_string()))
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

#[cfg(test)]
mod tests;
