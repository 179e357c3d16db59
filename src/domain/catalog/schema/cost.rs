//! What judging by a schema can cost, known before anything is judged by it.
//!
//! Promises: a schema of few words whose references multiply (each level refers to the next twice) is
//! found out here, not when a call waits for its verdict; so is one that refers to itself. Never
//! judges a value. Called by [`super`].

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Subschemas and values, each counted as often as something refers to it.
const COST_MAX: usize = 100_000;
/// How deep references may lead.
const DEPTH_MAX: usize = 256;

/// What is known of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// Whether it refers to itself.
    pub(super) recursive: bool,
}

/// Walks through a schema as its references lead; the message says why it cannot be used.
pub(super) fn of(schema: &Value) -> Result<Cost, String> {
    let mut walk =
        Walk { root: schema, anchors: HashMap::new(), known: HashMap::new(), open: Vec::new(), loops: false };
    walk.anchor(schema);
    walk.cost(schema).map(|_| Cost { recursive: walk.loops })
}

struct Walk<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    known: HashMap<*const Value, usize>,
    open: Vec<*const Value>,
    loops: bool,
}

impl<'a> Walk<'a> {
    fn anchor(&mut self, value: &'a Value) {
        if let Value::Object(members) = value {
            for name in ["$anchor", "$dynamicAnchor"] {
                if let Some(anchor) = members.get(name).and_then(Value::as_str) {
                    self.anchors.insert(anchor, value);
                }
            }
        }
        children(value).for_each(|child| self.anchor(child));
    }

    fn cost(&mut self, value: &'a Value) -> Result<usize, String> {
        let key = std::ptr::from_ref(value);
        if let Some(cost) = self.known.get(&key) {
            return Ok(*cost);
        }
        if self.open.contains(&key) {
            self.loops = true;
            return Ok(1);
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("its references lead deeper than {DEPTH_MAX}"));
        }
        self.open.push(key);
        let mut cost = 1_usize;
        for child in children(value).chain(self.targets(value)?) {
            cost = cost.saturating_add(self.cost(child)?);
            if cost > COST_MAX {
                return Err(format!("with its references followed it is larger than {COST_MAX} nodes"));
            }
        }
        self.open.pop();
        self.known.insert(key, cost);
        Ok(cost)
    }

    /// Where the references of a schema lead.
    fn targets(&self, value: &'a Value) -> Result<Vec<&'a Value>, String> {
        let references = ["$ref", "$dynamicRef"].into_iter().filter_map(|name| value.get(name)?.as_str());
        let followed = |text: &str| {
            let fragment = percent_decode_str(text.strip_prefix('#')?).decode_utf8().ok()?;
            let by_name = || self.anchors.get(&*fragment).copied();
            self.root.pointer(&fragment).or_else(by_name)
        };
        references.map(|text| followed(text).ok_or_else(|| "a reference of it leads nowhere".to_owned())).collect()
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Object(members) => Box::new(members.values()),
        Value::Array(items) => Box::new(items.iter()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Box::new(std::iter::empty()),
    }
}

/// How deep a value is.
pub(super) fn depth(value: &Value) -> usize {
    1 + children(value).map(depth).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_count_with_what_they_lead_to() {
        let tree = json!({"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}});
        assert_eq!(of(&tree), Ok(Cost { recursive: true }));
        let named = json!({"$ref": "#/$defs/A%3Cb%3E", "$defs": {"A<b>": {"$ref": "#c"}, "c": {"$anchor": "c"}}});
        assert_eq!(of(&named), Ok(Cost { recursive: false }));
        assert!(of(&json!({"$ref": "#/$defs/none"})).is_err());
    }
}
