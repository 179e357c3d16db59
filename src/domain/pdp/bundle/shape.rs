//! The shape of a bundle's data.
//!
//! Promises: a bundle that carries `schema/data.json` is loaded only with data that fits it; a
//! misspelt or missing field is named with its file and place. Policies read what is not there as
//! undefined, so a slip in a table could open as easily as close. Called by `pdp::bundle`.

use std::collections::BTreeMap;

use jsonschema::PatternOptions;
use serde_json::Value;

use crate::domain::pdp::bundle::BundleFault;

/// Where the schema stands in a bundle.
pub(super) const SCHEMA: &str = "schema/data.json";

/// Faults told at once.
const FAULTS_MAX: usize = 20;

/// Characters of one message; jsonschema quotes the value, which may be a whole table.
const WORDS_MAX: usize = 200;

/// Checks `data` against the schema in `text`. `origins` says which file gave which member.
pub(super) fn check(text: &str, data: &Value, origins: &BTreeMap<String, String>) -> Vec<BundleFault> {
    let broken = |message: String| vec![BundleFault::new(SCHEMA, message, "correct the schema, or take it away")];
    let schema: Value = match serde_json::from_str(text) {
        Ok(schema) => schema,
        Err(cause) => return broken(format!("not JSON: {cause}")),
    };
    let validator = jsonschema::draft202012::options()
        .offline()
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
        .build(&schema);
    match validator {
        Err(cause) => broken(format!("not a JSON Schema 2020-12: {}", short(&cause.to_string()))),
        Ok(validator) => validator
            .iter_errors(data)
            .take(FAULTS_MAX)
            .map(|cause| fault(cause.instance_path().as_str(), &cause.to_string(), origins))
            .collect(),
    }
}

fn fault(pointer: &str, words: &str, origins: &BTreeMap<String, String>) -> BundleFault {
    let (name, inside) =
        pointer.trim_start_matches('/').split_once('/').unwrap_or((pointer.trim_start_matches('/'), ""));
    let path = origins.get(name).map_or("data", String::as_str);
    let place = if inside.is_empty() { String::new() } else { format!("`{}`: ", inside.replace('/', ".")) };
    BundleFault::new(path, format!("{place}{}", short(words)), format!("`{SCHEMA}` says what may stand there"))
}

fn short(words: &str) -> String {
    let mut letters = words.chars();
    let kept: String = letters.by_ref().take(WORDS_MAX).collect();
    if letters.next().is_some() { format!("{kept}…") } else { kept }
}
