//! JSON Schema 2020-12: compiled once, never fetched, told in the user's names.
//!
//! Promises: patterns run in linear time, references stay inside the schema, depth and size are
//! bounded, formats are checked; a fault names the place and what to do, and echoes no value.
//! Called when a catalog is checked and when arguments or answers are validated.

use jsonschema::PatternOptions;
use jsonschema::ValidationError;
use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::argument;
use super::pointer::escape;
use super::text::plain;
use crate::domain::refusal::Reason;

/// Deeper schemas are nobody's and cost time: the deepest in use is at 9.
const DEPTH_MAX: usize = 32;
/// Subschemas, names and values in one schema; the largest in use has some hundreds.
const NODES_MAX: usize = 10_000;
/// Bytes of one compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Characters of a name or a message that are repeated to the caller.
const WORDS_MAX: usize = 300;

/// The only dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Compiles a schema; the message says why it cannot be one.
pub(super) fn compile(schema: &Value) -> Result<Validator, String> {
    guard(schema)?;
    jsonschema::draft202012::meta::validate(schema)
        .map_err(|error| format!("`{}`: {}", error.instance_path(), plain(&error.to_string(), WORDS_MAX)))?;
    jsonschema::draft202012::options()
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
        .build(schema)
        .map_err(|error| plain(&error.to_string(), WORDS_MAX))
}

/// Draft 7 of JSON Schema, in which many MCP servers still write.
const DRAFT_7: &str = "http://json-schema.org/draft-07/schema";

/// Compiles a schema of an upstream server: of 2020-12, or of draft 7 where its root says so.
pub(super) fn compile_offered(schema: &Value) -> Result<Validator, String> {
    let is_draft_7 = |text: &str| text.trim_end_matches('#') == DRAFT_7;
    if !schema.get("$schema").and_then(Value::as_str).is_some_and(is_draft_7) {
        return compile(schema);
    }
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema {
        members.remove("$schema");
    }
    guard(&schema)?;
    jsonschema::draft7::meta::validate(&schema)
        .map_err(|error| format!("`{}`: {}", error.instance_path(), plain(&error.to_string(), WORDS_MAX)))?;
    jsonschema::draft7::options()
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
        .build(&schema)
        .map_err(|error| plain(&error.to_string(), WORDS_MAX))
}

/// What the compiler would not notice: another dialect, references that leave the schema, depth, size.
fn guard(schema: &Value) -> Result<(), String> {
    let mut nodes = 0_usize;
    let mut open = vec![(schema, 1_usize)];
    while let Some((value, depth)) = open.pop() {
        nodes += 1;
        if depth > DEPTH_MAX || nodes > NODES_MAX {
            return Err(format!("it is deeper than {DEPTH_MAX} or larger than {NODES_MAX} nodes"));
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    reference(name, member)?;
                    open.push((member, depth + 1));
                }
            }
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

fn reference(name: &str, member: &Value) -> Result<(), String> {
    let Value::String(target) = member else { return Ok(()) };
    match name {
        "$ref" | "$dynamicRef" if !target.starts_with('#') => {
            Err(format!("`{name}: {}` leaves the schema; nothing is ever fetched", plain(target, WORDS_MAX)))
        }
        "$schema" if target.trim_end_matches('#') != DIALECT => {
            Err(format!("`$schema: {}` is not 2020-12", plain(target, WORDS_MAX)))
        }
        _ => Ok(()),
    }
}

/// Up to `max` faults of `instance`, most of them one sentence each.
pub(super) fn reasons(validator: &Validator, instance: &Value, max: usize) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for error in validator.iter_errors(instance) {
        describe(&error, &mut reasons);
        if reasons.len() >= max {
            break;
        }
    }
    reasons.truncate(max);
    reasons
}

fn describe(error: &ValidationError<'_>, reasons: &mut Vec<Reason>) {
    let at = error.instance_path().as_str();
    let place = if at.is_empty() { "the arguments".to_owned() } else { format!("`{}`", plain(at, WORDS_MAX)) };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = format!("{at}/{}", escape(property.as_str().unwrap_or_default()));
            reasons.push(argument(
                format!("`{}` is required", plain(&name, WORDS_MAX)),
                format!("add `{}`", plain(&name, WORDS_MAX)),
            ));
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                let name = plain(&format!("{at}/{}", escape(name)), WORDS_MAX);
                reasons.push(argument(format!("`{name}` is not known here"), format!("leave `{name}` out")));
            }
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let (what, next) = match choices(context) {
                Some(values) => (format!("{place} is none of {values}"), format!("choose one of {values}")),
                None => (
                    format!("{place} fits none of the {} forms allowed", context.len()),
                    format!("use one of the forms that the schema of {place} names"),
                ),
            };
            reasons.push(argument(what, next));
        }
        ValidationErrorKind::Not { .. } | ValidationErrorKind::FalseSchema => {
            reasons.push(argument(format!("{place} is not allowed"), format!("leave {place} out")));
        }
        _ => {
            let words = error.masked_with(place.as_str()).to_string();
            reasons.push(argument(plain(&words, WORDS_MAX), format!("correct {place}")));
        }
    }
}

/// The values that a choice between constants offers; none if a branch is something else.
fn choices(branches: &[Vec<ValidationError<'_>>]) -> Option<String> {
    let mut values = Vec::new();
    for branch in branches {
        let offered = branch.iter().find_map(|error| match error.kind() {
            ValidationErrorKind::Constant { expected_value } => Some(vec![expected_value.to_string()]),
            ValidationErrorKind::Enum { options } => {
                Some(options.as_array().into_iter().flatten().map(Value::to_string).collect())
            }
            _ => None,
        });
        values.extend(offered?);
    }
    Some(plain(&values.join(", "), WORDS_MAX))
}
