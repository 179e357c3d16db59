//! The engine: a compiled bundle that answers.
//!
//! Promises: a [`Pdp`] exists only for a bundle that passed the lint, compiled, and denied what
//! must be denied; the compiled machine runs only rules that it is known to run right, the
//! interpreter runs the rest; every evaluation has its own machine, an instruction budget and a
//! timer, and a panic inside it is a deny. Same input, same ruling. Never calls out.
//! Called by `adapters::reload`, `pep` and the policy commands.

pub(super) mod machine;
mod strict;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;

use crate::domain::catalog::Effect;
use crate::domain::pdp::ENTRY_POINT;
use crate::domain::pdp::Input;
use crate::domain::pdp::Outcome;
use crate::domain::pdp::Phase;
use crate::domain::pdp::Reads;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::engine::machine::Machine;
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

/// A bundle that is ready to decide. Cheap to clone and to share between threads.
#[derive(Clone)]
pub struct Pdp {
    compiled: Arc<Compiled>,
}

struct Compiled {
    machine: Machine,
    bundle_digest: Arc<str>,
    data_digest: Arc<str>,
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
        let lint::Findings { faults, notes, warnings } = lint::rules(engine.get_modules(), &lint::Ground::of(bundle));
        if !faults.is_empty() {
            return Err(faults);
        }
        let reads = Reads::of(engine.get_modules());
        let machine = Machine::compile(engine, bundle.data(), ENTRY_POINT, notes)?;
        Ok(Self {
            compiled: Arc::new(Compiled {
                machine,
                bundle_digest: bundle.digest().into(),
                data_digest: bundle.data_digest().into(),
                warnings,
                reads,
            }),
        })
    }

    /// The engine that decides.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.compiled.machine.engine()
    }

    /// Why the interpreter decides, with places; empty when the virtual machine does.
    #[must_use]
    pub fn notes(&self) -> &[BundleFault] {
        self.compiled.machine.notes()
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
        let strict = self.compiled.machine.is_strict();
        let changes = input.tool.as_ref().is_some_and(|tool| tool.effect != Effect::Read);
        let goes_on = match input.phase {
            Phase::Call => ruling.outcome() != Outcome::Deny && (changes || !strict),
            Phase::Response => ruling.outcome() != Outcome::Deny && !strict,
            Phase::List => !strict,
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
        let engine = if engine == self.engine() { engine } else { Engine::Interpreter };
        let answer = value_of(input).and_then(|input| match engine {
            Engine::Rvm => self.compiled.machine.run(input, INSTRUCTIONS_MAX),
            Engine::Interpreter => self.compiled.machine.interpret(input),
        });
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
        let machine = Some(&self.compiled.machine).filter(|machine| machine.engine() == Engine::Rvm)?;
        let input = value_of(input).ok()?;
        let enough =
            |limit: usize| !matches!(machine.run(input.clone(), limit), Err(broken) if broken.fault == Fault::Budget);
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

#[cfg(test)]
mod tests;
