//! What came of a case, measured by what OPA answers.

use loopgate::domain::pdp::bundle::BundleFault;
use loopgate::domain::pdp::bundle::code::Code;
use loopgate::domain::pdp::conformance;
use loopgate::domain::pdp::conformance::Answer;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::case::Case;

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The gateway gives what OPA gives, or refuses what OPA refuses.
    Passed,
    /// A failing function is no decision here, and undefined there.
    Stricter,
    /// Refused by a rule of the house, with a code.
    House,
    /// Refused because the engine does not have it, with a code.
    Unsupported,
    /// A query that a gateway never asks: of several statements, or with what is no JSON as input.
    NotAsked,
    /// The interpreter gives something else than OPA. Known of the engine, and told.
    Interpreter,
    /// The virtual machine gives something else than OPA, and nothing sent the rules to the interpreter.
    Machine,
    /// A built-in that is not run got through the lint, or was not refused by its name.
    Unnamed,
    /// The process ended.
    Died,
}

impl Outcome {
    pub(crate) const ALL: [Self; 9] = [
        Self::Passed,
        Self::Stricter,
        Self::House,
        Self::Unsupported,
        Self::NotAsked,
        Self::Interpreter,
        Self::Machine,
        Self::Unnamed,
        Self::Died,
    ];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Stricter => "stricter",
            Self::House => "house rule",
            Self::Unsupported => "unsupported",
            Self::NotAsked => "not asked",
            Self::Interpreter => "interpreter!",
            Self::Machine => "machine!",
            Self::Unnamed => "unnamed!",
            Self::Died => "died!",
        }
    }

    /// Whether it must never be.
    pub(crate) fn is_bad(self) -> bool {
        matches!(self, Self::Interpreter | Self::Machine | Self::Unnamed | Self::Died)
    }
}

/// What came of one case.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
    /// Codes that it was refused with.
    pub(crate) codes: Vec<String>,
    /// Built-ins that it was refused for.
    pub(crate) builtins: Vec<String>,
    /// Codes of faults that a bundle is refused for, and that can be run.
    pub(crate) doubts: Vec<String>,
    /// The same, in words.
    pub(crate) doubted: String,
    /// Whether the virtual machine answers.
    pub(crate) compiled: bool,
}

impl Verdict {
    pub(crate) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        let (none, detail) = (Vec::new, detail.into());
        let doubted = String::new();
        Self { outcome, detail, codes: none(), builtins: none(), doubts: none(), doubted, compiled: false }
    }
}

/// The package of a query that is no rule.
const WRAPPED: &str = "data.loopgate_case.answer";

/// Asks one case and compares.
pub(crate) fn of(case: &Case) -> Verdict {
    let Some(question) = case.question() else { return Verdict::new(Outcome::NotAsked, case.query.clone()) };
    let input = match case.input_term.as_deref().map(serde_json::from_str::<Value>) {
        None => case.input.clone(),
        Some(Ok(term)) => Some(term),
        Some(Err(_)) => None,
    };
    let mut files: Vec<(String, String)> =
        case.modules.iter().enumerate().map(|(n, text)| (format!("module-{n}.rego"), text.clone())).collect();
    let empty = Value::Object(Map::new());
    let data = case.data.as_ref().filter(|data| data.is_object()).unwrap_or(&empty);
    let mut answer = conformance::ask(&files, data, input.as_ref(), &question.expression);
    let no_rule = |faults: &Vec<BundleFault>| faults.iter().any(|fault| fault.code == Code::NoEntryPoint);
    if answer.as_ref().err().is_some_and(no_rule) {
        let text = format!("package loopgate_case\n\nanswer := {}\n", question.expression);
        files.push(("query.rego".to_owned(), text));
        answer = conformance::ask(&files, data, input.as_ref(), WRAPPED);
    }
    match answer {
        Err(faults) => refused(case, &faults),
        Ok(_) if input.is_none() && case.input_term.is_some() => {
            Verdict::new(Outcome::NotAsked, "the input is no JSON")
        }
        Ok(answer) => answered(case, question.variable.as_deref(), &answer),
    }
}

fn refused(case: &Case, faults: &[BundleFault]) -> Verdict {
    let code = |code: Code| faults.iter().any(|fault| fault.code == code);
    let outcome = if wants_error(case) {
        Outcome::Passed
    } else if code(Code::UnknownFunction) {
        // OPA runs it, so that it is a built-in of OPA that no table has.
        Outcome::Unnamed
    } else if [Code::UnsupportedBuiltin, Code::UnsupportedSyntax, Code::ParseError, Code::CompileError]
        .into_iter()
        .any(code)
    {
        Outcome::Unsupported
    } else {
        Outcome::House
    };
    let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let mut verdict = Verdict::new(outcome, words.join("\n"));
    verdict.codes = codes(faults);
    let unsupported =
        faults.iter().filter(|fault| matches!(fault.code, Code::UnsupportedBuiltin | Code::ImpureBuiltin));
    verdict.builtins = unsupported.filter_map(|fault| fault.message.split('`').nth(1).map(str::to_owned)).collect();
    verdict.builtins.dedup();
    verdict
}

fn codes(faults: &[BundleFault]) -> Vec<String> {
    let mut codes: Vec<String> = faults.iter().map(|fault| fault.code.to_string()).collect();
    codes.sort();
    codes.dedup();
    codes
}

fn answered(case: &Case, variable: Option<&str>, answer: &Answer) -> Verdict {
    let given = answer.machine.as_ref().unwrap_or(&answer.interpreter);
    let (right, detail) = compare(case, variable, given);
    let outcome = match (right, given) {
        (true, _) => Outcome::Passed,
        (false, Err(words)) if words.contains("could not find function") => Outcome::Unnamed,
        (false, Err(_)) => Outcome::Stricter,
        (false, Ok(_)) if answer.machine.is_some() => Outcome::Machine,
        (false, Ok(_)) => Outcome::Interpreter,
    };
    let doubted = answer.doubts.iter().map(|doubt| format!("{}: {doubt}", doubt.code)).collect::<Vec<_>>().join("\n");
    Verdict {
        doubts: codes(&answer.doubts),
        doubted,
        compiled: answer.machine.is_some(),
        ..Verdict::new(outcome, detail)
    }
}

fn wants_error(case: &Case) -> bool {
    case.want_error.is_some() || case.want_error_code.is_some()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(sorted).collect();
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), sorted(member))).collect(),
        _ => value.clone(),
    }
}

fn compare(case: &Case, variable: Option<&str>, given: &Result<Option<Value>, String>) -> (bool, String) {
    let shown = match given {
        Ok(Some(value)) => value.to_string(),
        Ok(None) => "undefined".to_owned(),
        Err(words) => format!("an error: {words}"),
    };
    if wants_error(case) {
        return (given.is_err(), format!("gave {shown}; OPA gives an error"));
    }
    let wanted = case.want_result.as_ref().and_then(|results| results.first());
    let right = match (given, wanted) {
        (Ok(None), None) => true,
        // A query without a name asks whether it holds.
        (Ok(Some(value)), None) => variable.is_none() && *value == Value::Bool(false),
        (Ok(Some(value)), Some(wanted)) => variable.is_none_or(|name| {
            let ordered = |value: &Value| if case.sort_bindings { sorted(value) } else { value.clone() };
            wanted.get(name).map(ordered) == Some(ordered(value))
        }),
        (Ok(None), Some(_)) | (Err(_), _) => false,
    };
    let wanted = wanted.map_or_else(|| "undefined".to_owned(), ToString::to_string);
    (right, format!("gave {shown}; OPA gives {wanted}"))
}
