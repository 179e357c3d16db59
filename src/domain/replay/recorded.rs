//! Decisions as journals have them.
//!
//! Promises: every decision that a line names is found, with or without its input; an input is
//! taken only if it is the one that its digest was made of; what was dropped from it is named.
//! Records written before `visible` was recorded are read too. Never judges a policy.
//! Called by whoever replays, with lines in the order of their journal.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::audit;
use crate::domain::audit::redaction::{self, DROPPED, Secrets};
use crate::domain::pdp::ruling::{Fault, Ruling};
use crate::domain::pdp::{Input, Obligation, Outcome, Phase, Step};
use crate::domain::refusal::Reason;
use crate::domain::replay::Skip;

/// The form of inputs that is read here.
const INPUT_SCHEMA: u64 = 1;

/// Which decision it is, in the names that people look for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Decision id.
    pub decision: String,
    /// The gateway's id of the request.
    pub request: String,
    /// The record that has it: `<writer>/<epoch>/<seq>`.
    pub record: String,
    /// When the request arrived: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The organisation.
    pub tenant: String,
    /// The user.
    pub user: String,
    /// Organisation roles of the user.
    pub roles: Vec<String>,
    /// What was decided; none where the record does not say.
    pub phase: Option<Phase>,
    /// The tool; empty for a list of several.
    pub tool: String,
}

/// A decision with everything that is needed to make it again.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Which it is.
    pub about: About,
    /// What the policy saw.
    pub input: Input,
    /// SHA-256 (hex) of the policy files that decided.
    pub bundle_digest: String,
    /// SHA-256 (hex) of the data that they read.
    pub data_digest: String,
    /// What the input lacks.
    pub dropped: Vec<Dropped>,
    pub(super) outcome: Outcome,
    pub(super) reasons: Vec<Reason>,
    pub(super) obligations: Vec<Obligation>,
    /// None in records that were written before it was recorded.
    pub(super) visible: Option<Vec<String>>,
    pub(super) fault: Option<String>,
}

/// A value that was not written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Where it stood, as the record names it.
    pub pointer: String,
    /// The same below `input`.
    pub path: Vec<Step>,
}

/// A decision that a line names.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// With its input.
    Whole(Box<Recorded>),
    /// Without: an earlier record has it, or none.
    Named {
        /// Which it is.
        about: About,
        /// Whether the record says that it was too large for the input.
        reduced: bool,
    },
    /// With an input that cannot be used.
    Unfit {
        /// Which it is.
        about: About,
        /// Why.
        skip: Skip,
        /// What was found, in particular.
        why: String,
    },
}

/// What a line says that matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Its reference.
    pub reference: String,
    /// When its action began: the same in every record of one action.
    pub began_ms: i64,
    /// The decisions that it names.
    pub found: Vec<Found>,
}

#[derive(Deserialize)]
struct Shell<'a> {
    time: i64,
    #[serde(default)]
    start_time: Option<i64>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    actor: Actor<'a>,
    #[serde(borrow)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    correlation_uid: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Actor<'a> {
    #[serde(borrow, default)]
    user: User<'a>,
}

#[derive(Default, Deserialize)]
struct User<'a> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    org: Org<'a>,
}

#[derive(Default, Deserialize)]
struct Org<'a> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Unmapped<'a> {
    #[serde(borrow)]
    loopgate: Own<'a>,
}

#[derive(Deserialize)]
struct Own<'a> {
    #[serde(borrow, default)]
    tool: Cow<'a, str>,
    #[serde(borrow, default)]
    decisions: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    dropped: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// The members that are needed to name a decision.
#[derive(Deserialize)]
struct Name<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    phase: Option<Phase>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

/// The members that are needed to compare one.
#[derive(Deserialize)]
struct Decision {
    outcome: Outcome,
    reasons: Vec<Reason>,
    obligations: Vec<Obligation>,
    #[serde(default)]
    visible: Option<Vec<String>>,
    #[serde(default)]
    fault: Option<String>,
    input_digest: String,
    bundle_digest: String,
    data_digest: String,
}

/// Reads a line; the cause when it is no record of ours.
pub fn read(line: &[u8]) -> Result<Read, String> {
    let shell: Shell<'_> = serde_json::from_slice(line).map_err(|cause| cause.to_string())?;
    let own = shell.unmapped.loopgate;
    let reduced = own
        .data
        .is_some_and(|data| serde_json::from_str::<Value>(data.get()).is_ok_and(|data| data.get("reduced").is_some()));
    let about = About {
        request: shell.metadata.correlation_uid.unwrap_or_default().into_owned(),
        record: shell.metadata.uid.clone().into_owned(),
        at_ms: shell.start_time.unwrap_or(shell.time),
        tenant: shell.actor.user.org.uid.into_owned(),
        user: shell.actor.user.uid.into_owned(),
        tool: own.tool.into_owned(),
        ..About::default()
    };
    let mut found = Vec::with_capacity(own.decisions.len());
    for (index, raw) in own.decisions.iter().enumerate() {
        let name: Name<'_> = serde_json::from_str(raw.get()).map_err(|cause| cause.to_string())?;
        let about = About { decision: name.id.into_owned(), phase: name.phase, ..about.clone() };
        found.push(match name.input {
            None => Found::Named { about, reduced },
            Some(input) => whole(about, raw.get(), input.get(), dropped_of(&own.dropped, index)),
        });
    }
    Ok(Read { reference: about.record, began_ms: about.at_ms, found })
}

/// A decision with its input, if that can be used.
fn whole(mut about: About, decision: &str, input: &str, listed: Option<Vec<Dropped>>) -> Found {
    let unfit = |about, skip, why: String| Found::Unfit { about, skip, why };
    let decision: Decision = match serde_json::from_str(decision) {
        Ok(decision) => decision,
        Err(cause) => return unfit(about, Skip::InputUnreadable, cause.to_string()),
    };
    let input: Value = match serde_json::from_str(input) {
        Ok(input) => input,
        Err(cause) => return unfit(about, Skip::InputUnreadable, cause.to_string()),
    };
    if audit::input_digest(&input) != decision.input_digest {
        let why = format!("the digest was recorded as {}", decision.input_digest);
        return unfit(about, Skip::InputAltered, why);
    }
    let schema = input.get("schema").and_then(Value::as_u64);
    if schema != Some(INPUT_SCHEMA) {
        let schema = schema.map_or_else(|| "none".to_owned(), |schema| schema.to_string());
        return unfit(about, Skip::InputUnreadable, format!("`schema` is {schema}, and {INPUT_SCHEMA} is read"));
    }
    let dropped = listed.unwrap_or_else(|| looked_for(&input));
    let input: Input = match serde_json::from_value(input) {
        Ok(input) => input,
        // What was dropped may have been a list, and what stands for it is a text.
        Err(_) if !dropped.is_empty() => {
            let all: Vec<&str> = dropped.iter().map(|one| one.pointer.as_str()).collect();
            return unfit(about, Skip::FieldDropped, all.join(", "));
        }
        Err(cause) => return unfit(about, Skip::InputUnreadable, cause.to_string()),
    };
    about.tenant.clone_from(&input.caller.tenant);
    about.user.clone_from(&input.caller.user);
    about.roles.clone_from(&input.caller.roles);
    about.tool = tool_of(&input);
    Found::Whole(Box::new(Recorded {
        about,
        input,
        bundle_digest: decision.bundle_digest,
        data_digest: decision.data_digest,
        dropped,
        outcome: decision.outcome,
        reasons: decision.reasons,
        obligations: decision.obligations,
        visible: decision.visible,
        fault: decision.fault,
    }))
}

/// The one tool that an input is about.
fn tool_of(input: &Input) -> String {
    let one = input.tools.as_ref().filter(|tools| tools.len() == 1).and_then(|tools| tools.keys().next());
    input.tool.as_ref().map(|tool| &tool.name).or(one).cloned().unwrap_or_default()
}

/// What a record says was dropped from the input of one of its decisions; none when it does not name all.
fn dropped_of(listed: &[Cow<'_, str>], index: usize) -> Option<Vec<Dropped>> {
    if listed.iter().any(|pointer| !pointer.starts_with('/')) {
        return None;
    }
    let prefix = format!("/decisions/{index}/input/");
    let own = listed.iter().filter_map(|pointer| Some((pointer, pointer.strip_prefix(&prefix)?)));
    Some(own.map(|(pointer, below)| dropped_at(pointer.as_ref(), below)).collect())
}

fn dropped_at(pointer: &str, below: &str) -> Dropped {
    let step = |step: &str| named(&step.replace("~1", "/").replace("~0", "~"));
    Dropped { pointer: pointer.to_owned(), path: below.split('/').map(step).collect() }
}

/// A step as a record names it; any, where the name was cut or dropped itself.
fn named(step: &str) -> Step {
    if step.ends_with('…') || step.contains(DROPPED) { Step::Any } else { Step::Name(step.to_owned()) }
}

/// Every place of an input where something was dropped, by looking.
fn looked_for(input: &Value) -> Vec<Dropped> {
    fn walk(value: &Value, at: &mut Vec<Step>, found: &mut Vec<Dropped>) {
        match value {
            Value::String(text) if text.contains(DROPPED) => {
                let names = at.iter().map(|step| match step {
                    Step::Name(name) => name.as_str(),
                    Step::Any => "*",
                });
                let pointer = names.fold(String::new(), |all, name| all + "/" + name);
                found.push(Dropped { pointer, path: at.clone() });
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    at.push(Step::Name(index.to_string()));
                    walk(item, at, found);
                    at.pop();
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    at.push(named(name));
                    walk(member, at, found);
                    at.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(input, &mut Vec::new(), &mut found);
    found
}

impl Recorded {
    /// Whether the record says which tools could be seen.
    #[must_use]
    pub fn says_what_is_seen(&self) -> bool {
        self.visible.is_some()
    }

    /// Whether it was no decision because it took too long.
    pub(super) fn timed_out(&self) -> bool {
        self.reasons.iter().any(|reason| reason.code == Fault::Budget.as_str())
    }

    /// How the same policy decides otherwise now; none when it does not.
    pub(super) fn differs_from(&self, now: &Ruling) -> Option<String> {
        let mut differs = Vec::new();
        if now.outcome() != self.outcome {
            differs.push(format!("outcome {:?}, recorded {:?}", now.outcome(), self.outcome).to_lowercase());
        }
        if now.reasons() != self.reasons && scrubbed(now.reasons()) != scrubbed(&self.reasons) {
            differs.push(format!("reasons {}, recorded {}", codes(now.reasons()), codes(&self.reasons)));
        }
        if now.obligations() != self.obligations && scrubbed(now.obligations()) != scrubbed(&self.obligations) {
            differs.push("obligations".to_owned());
        }
        if let Some(visible) = self.visible.as_ref().filter(|visible| visible.as_slice() != now.visible()) {
            differs.push(format!("{} tools seen, recorded {}", now.visible().len(), visible.len()));
        }
        let fault = now.fault().map(Fault::as_str);
        if self.says_what_is_seen() && fault != self.fault.as_deref() {
            let named = |fault: Option<&str>| fault.unwrap_or("none").to_owned();
            differs.push(format!("fault {}, recorded {}", named(fault), named(self.fault.as_deref())));
        }
        (!differs.is_empty()).then(|| differs.join("; "))
    }
}

fn codes(reasons: &[Reason]) -> String {
    let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
    format!("[{}]", codes.join(", "))
}

/// The value as a record has it: what looks like a credential is dropped there.
fn scrubbed(value: &(impl Serialize + ?Sized)) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    redaction::scrub(&mut value, "", &Secrets::default());
    value
}
