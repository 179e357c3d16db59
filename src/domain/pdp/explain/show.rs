//! Values in words: as Rego writes them, and cut where they get long.
//!
//! Promises: looks at no more of a value than it shows, so that a value of many megabytes costs
//! nothing. Never decides what to show. Called by `pdp::explain` and its children.

use regorus::Value;

use crate::domain::pdp::ast::dissect::Index;
use crate::domain::pdp::ast::dissect::Look;
use crate::domain::pdp::explain::trial::Seen;

/// Characters of one value.
pub(super) const VALUE_CHARS_MAX: usize = 240;
/// Characters of a name that is an expression.
const NAME_CHARS_MAX: usize = 80;

/// A value as Rego writes it, cut where it gets longer than is read.
pub(super) fn text(value: &Value) -> String {
    let mut out = Text { out: String::new(), left: VALUE_CHARS_MAX };
    out.value(value);
    if out.left == 0 {
        out.out.push('…');
    }
    out.out
}

/// An expression on one line.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&words, NAME_CHARS_MAX)
}

/// The first characters of a text.
fn cut(text: &str, most: usize) -> String {
    let mut letters = text.chars();
    let kept: String = letters.by_ref().take(most).collect();
    if letters.next().is_some() { format!("{kept}…") } else { kept }
}

/// What a look is called: a reference with the values of its indexes, or the expression.
pub(super) fn name(look: &Look, seen: &Seen, steps: usize) -> String {
    if let Some(label) = look.label {
        return label.to_owned();
    }
    if look.args.is_some() || look.steps.is_empty() {
        return one_line(&look.text);
    }
    path(&indexed(look, seen).into_iter().take(steps).collect::<Vec<_>>())
}

/// The steps of a reference with the values of its indexes; those that have none as they are written.
pub(super) fn indexed(look: &Look, seen: &Seen) -> Vec<Step> {
    let mut indexes = seen.indexes.iter();
    let step = |part: &Index| match part {
        Index::Name(name) => Step::Value(Value::from(name.as_str())),
        Index::Expr(text) => match indexes.next() {
            Some(Value::Undefined) | None => Step::Unknown(one_line(text)),
            Some(value) => Step::Value(value.clone()),
        },
    };
    look.steps.iter().map(|step| &step.part).map(step).collect()
}

/// One step of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A value.
    Value(Value),
    /// An expression that has none.
    Unknown(String),
}

/// A reference as Rego writes it.
pub(super) fn path(steps: &[Step]) -> String {
    let mut out = String::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Value(Value::String(name)) if at == 0 => out.push_str(name),
            Step::Value(value) => out.push_str(&member(value)),
            Step::Unknown(text) => out.extend(["[", text, "]"]),
        }
    }
    out
}

/// One step into a document.
pub(super) fn member(value: &Value) -> String {
    match value {
        Value::String(name) if is_name(name) => format!(".{name}"),
        value => format!("[{}]", text(value)),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= NAME_CHARS_MAX
}

/// Writes until there is no room left.
struct Text {
    out: String,
    left: usize,
}

impl Text {
    fn put(&mut self, text: &str) {
        for c in text.chars() {
            if self.left == 0 {
                return;
            }
            self.out.push(c);
            self.left -= 1;
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Undefined => self.put("undefined"),
            Value::Null => self.put("null"),
            Value::Bool(on) => self.put(if *on { "true" } else { "false" }),
            Value::Number(_) => {
                let number = value.to_string();
                self.put(&number);
            }
            Value::String(text) => {
                let shown: String = text.chars().take(self.left).collect();
                self.put(&serde_json::Value::from(shown).to_string());
                if text.len() > self.left && text.chars().nth(VALUE_CHARS_MAX).is_some() {
                    self.left = 0;
                }
            }
            Value::Array(items) => self.items("[", items.iter(), "]"),
            Value::Set(items) if items.is_empty() => self.put("set()"),
            Value::Set(items) => self.items("{", items.iter(), "}"),
            Value::Object(members) => {
                self.put("{");
                for (at, (key, value)) in members.iter().enumerate() {
                    if self.left == 0 {
                        return;
                    }
                    self.put(if at > 0 { ", " } else { "" });
                    self.value(key);
                    self.put(": ");
                    self.value(value);
                }
                self.put("}");
            }
        }
    }

    fn items<'v>(&mut self, open: &str, items: impl Iterator<Item = &'v Value>, close: &str) {
        self.put(open);
        for (at, item) in items.enumerate() {
            if self.left == 0 {
                return;
            }
            self.put(if at > 0 { ", " } else { "" });
            self.value(item);
        }
        self.put(close);
    }
}
