//! Which rows differ between two sets of policy data.
//!
//! Promises: every difference is named by its whole path, as a rule would write it, with what stood
//! there and what stands there; lists are compared whole, since their order may matter. Never
//! decides. Called by `policy diff`.

use serde::Serialize;
use serde_json::Value;

/// A place where two sets of data differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `tenants.org_nordbank.tools.loopiq_x`.
    pub path: String,
    /// What stood there; none when nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What stands there now; none when nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Every place where `new` differs from `old`, by path.
#[must_use]
pub fn between(old: &Value, new: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    compare("", old, new, &mut rows);
    rows
}

fn compare(path: &str, old: &Value, new: &Value, rows: &mut Vec<Row>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = below(path, name);
                match (old.get(name), new.get(name)) {
                    (Some(old), Some(new)) => compare(&path, old, new, rows),
                    (before, after) => rows.push(Row { path, before: before.cloned(), after: after.cloned() }),
                }
            }
        }
        (old, new) if old == new => {}
        (old, new) => {
            rows.push(Row { path: path.to_owned(), before: Some(old.clone()), after: Some(new.clone()) });
        }
    }
}

/// The path of a member, with quotes where a rule would need them.
fn below(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match (path, plain) {
        ("", _) => name.to_owned(),
        (_, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{}]", Value::from(name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_difference_is_named_by_its_path_and_nothing_else_is() {
        let old = json!({"tenants": {"org_a": {"tools": {"x": true, "y": true}, "list": [1, 2]}}, "same": {"a": [1]}});
        let new =
            json!({"tenants": {"org_a": {"tools": {"x": false, "z.z": true}, "list": [2, 1]}}, "same": {"a": [1]}});
        let rows: Vec<String> =
            between(&old, &new).into_iter().map(|row| format!("{}: {:?}", row.path, (row.before, row.after))).collect();
        assert_eq!(
            rows,
            [
                "tenants.org_a.list: (Some(Array [Number(1), Number(2)]), Some(Array [Number(2), Number(1)]))",
                "tenants.org_a.tools.x: (Some(Bool(true)), Some(Bool(false)))",
                "tenants.org_a.tools.y: (Some(Bool(true)), None)",
                "tenants.org_a.tools[\"z.z\"]: (None, Some(Bool(true)))",
            ]
        );
        assert!(between(&old, &old).is_empty());
    }

    #[test]
    fn null_is_not_the_same_as_nothing() {
        assert_eq!(between(&json!({"a": null}), &json!({})).len(), 1);
    }
}
