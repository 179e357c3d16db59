//! What a value may look like, as far as schemas, data and rules tell.
//!
//! Promises: a shape holds every value that can be there, and often more; so what it rules out can
//! never be. Reads shapes from JSON Schema and from data. Called by `pdp::lint::types`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::Value;

use crate::domain::pdp::lint::types::kinds::Kinds;

/// Shapes within shapes that are looked at; what is deeper may be anything.
const DEPTH_MAX: usize = 12;

/// Where a shape comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The schema of the input.
    Input,
    /// The schema of the data, or the data.
    Data,
    /// Rules.
    Rules,
}

/// What a value may look like.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) kinds: Kinds,
    pub(super) origin: Origin,
    /// The only strings that it may be.
    pub(super) values: Option<Rc<BTreeSet<String>>>,
    members: Option<Rc<Members>>,
    items: Option<Rc<Shape>>,
}

#[derive(Debug)]
struct Members {
    named: BTreeMap<String, Shape>,
    /// What members of other names look like; nothing when there are none.
    rest: Option<Shape>,
    /// Whether others may come of which nothing is known.
    open: bool,
    /// What their names are: text, but for objects that rules make.
    keys: Kinds,
}

/// Why a step leads nowhere.
#[derive(Debug)]
pub(super) enum Missing {
    /// The members that there are.
    Among(Vec<String>),
    /// It has items, not members.
    List,
    /// It has neither.
    Scalar,
}

impl Shape {
    pub(super) fn of(kinds: Kinds) -> Self {
        Self { kinds, origin: Origin::Rules, values: None, members: None, items: None }
    }

    pub(super) fn any() -> Self {
        Self::of(Kinds::ANY)
    }

    /// An array or a set of such items.
    pub(super) fn list(kind: Kinds, items: Self) -> Self {
        Self { items: Some(Rc::new(items)), ..Self::of(kind) }
    }

    /// An object of these members, and of others whose names and shapes are those of `rest`.
    pub(super) fn object(named: BTreeMap<String, Self>, rest: Option<(Kinds, Self)>) -> Self {
        let keys = rest.as_ref().map_or(Kinds::NONE, |(keys, _)| *keys);
        let keys = if named.is_empty() { keys } else { keys.or(Kinds::STRING) };
        let members = Members { named, rest: rest.map(|(_, rest)| rest), open: false, keys };
        Self { members: Some(Rc::new(members)), ..Self::of(Kinds::OBJECT) }
    }

    /// Whether it says nothing.
    pub(super) fn is_any(&self) -> bool {
        self.kinds == Kinds::ANY
    }

    /// The member of that name.
    pub(super) fn member(&self, name: &str) -> Result<Self, Missing> {
        if self.kinds.meets(Kinds::OBJECT) {
            let Some(members) = &self.members else { return Ok(Self::any()) };
            let found = members.named.get(name).or(members.rest.as_ref()).cloned();
            let unknown = members.open || self.kinds.meets(Kinds::SET);
            return match found {
                Some(found) => Ok(found),
                None if unknown => Ok(Self::any()),
                None => Err(Missing::Among(members.named.keys().cloned().collect())),
            };
        }
        match (self.kinds.meets(Kinds::SET), self.kinds.meets(Kinds::ARRAY)) {
            (true, _) => Ok(Self::any()),
            (false, true) => Err(Missing::List),
            (false, false) => Err(Missing::Scalar),
        }
    }

    /// What stands at an index that is not known, or comes up in a loop.
    pub(super) fn each(&self) -> Result<Self, Missing> {
        if !self.kinds.meets(Kinds::COLLECTION) {
            return Err(Missing::Scalar);
        }
        let mut found: Option<Self> = None;
        if self.kinds.meets(Kinds::OBJECT) {
            let Some(members) = &self.members else { return Ok(Self::any()) };
            for member in members.named.values().chain(&members.rest) {
                found = Some(found.map_or_else(|| member.clone(), |found| found.or(member)));
            }
        }
        if self.kinds.meets(Kinds::ARRAY.or(Kinds::SET)) {
            let Some(items) = &self.items else { return Ok(Self::any()) };
            found = Some(found.map_or_else(|| items.as_ref().clone(), |found| found.or(items)));
        }
        // What has no members yet may get some.
        Ok(found.unwrap_or_else(Self::any))
    }

    /// What the keys of a loop look like.
    pub(super) fn keys(&self) -> Self {
        match (self.kinds.and(Kinds::COLLECTION), &self.members, &self.items) {
            (Kinds::ARRAY, ..) => Self::of(Kinds::NUMBER),
            (Kinds::OBJECT, Some(members), _) if members.keys != Kinds::NONE => Self::of(members.keys),
            (Kinds::SET, _, Some(items)) => items.as_ref().clone(),
            _ => Self::any(),
        }
    }

    /// What is either.
    pub(super) fn or(&self, other: &Self) -> Self {
        self.joined(other, DEPTH_MAX)
    }

    fn joined(&self, other: &Self, depth: usize) -> Self {
        if depth == 0 || self.is_any() || other.is_any() {
            return Self::any();
        }
        let only = |kind: Kinds| match (self.kinds.meets(kind), other.kinds.meets(kind)) {
            (true, false) => Some(self),
            (false, true) => Some(other),
            _ => None,
        };
        let values = match only(Kinds::STRING) {
            Some(one) => one.values.clone(),
            None => {
                self.values.as_ref().zip(other.values.as_ref()).map(|(a, b)| Rc::new(a.union(b).cloned().collect()))
            }
        };
        let members = match only(Kinds::OBJECT) {
            Some(one) => one.members.clone(),
            None => self
                .members
                .as_ref()
                .zip(other.members.as_ref())
                .map(|(a, b)| if Rc::ptr_eq(a, b) { Rc::clone(a) } else { Rc::new(a.joined(b, depth - 1)) }),
        };
        let items = match only(Kinds::ARRAY.or(Kinds::SET)) {
            Some(one) => one.items.clone(),
            None => self
                .items
                .as_ref()
                .zip(other.items.as_ref())
                .map(|(a, b)| if Rc::ptr_eq(a, b) { Rc::clone(a) } else { Rc::new(a.joined(b, depth - 1)) }),
        };
        let origin = if self.origin == other.origin { self.origin } else { Origin::Rules };
        Self { kinds: self.kinds.or(other.kinds), origin, values, members, items }
    }

    /// What a JSON Schema lets through.
    pub(super) fn of_schema(root: &Value, at: &Value, origin: Origin) -> Self {
        from_schema(root, at, origin, DEPTH_MAX)
    }

    /// What is there now, and may be there tomorrow under other names.
    pub(super) fn of_data(value: &Value) -> Self {
        let join = |found: Option<Self>, next: Self| Some(found.map_or_else(|| next.clone(), |found| found.or(&next)));
        let shape = match value {
            Value::Null => Self::of(Kinds::NULL),
            Value::Bool(_) => Self::of(Kinds::BOOL),
            Value::Number(_) => Self::of(Kinds::NUMBER),
            Value::String(_) => Self::of(Kinds::STRING),
            Value::Array(items) => {
                let items = items.iter().map(Self::of_data).fold(None, join);
                Self { items: items.map(Rc::new), ..Self::of(Kinds::ARRAY) }
            }
            Value::Object(members) => {
                let named = members.iter().map(|(name, member)| (name.clone(), Self::of_data(member))).collect();
                let members = Members { named, rest: None, open: true, keys: Kinds::STRING };
                Self { members: Some(Rc::new(members)), ..Self::of(Kinds::OBJECT) }
            }
        };
        Self { origin: Origin::Data, ..shape }
    }
}

impl Members {
    fn joined(&self, other: &Self, depth: usize) -> Self {
        let join = |a: Option<&Shape>, b: Option<&Shape>| match (a, b) {
            (Some(a), Some(b)) => Some(a.joined(b, depth)),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        };
        let all: BTreeSet<&String> = self.named.keys().chain(other.named.keys()).collect();
        let named = all.into_iter().filter_map(|name| {
            let a = self.named.get(name).or(self.rest.as_ref());
            let b = other.named.get(name).or(other.rest.as_ref());
            // What one side does not name, but may have, may be anything.
            let unknown = (a.is_none() && self.open) || (b.is_none() && other.open);
            let shape = if unknown { Some(Shape::any()) } else { join(a, b) };
            shape.map(|shape| (name.clone(), shape))
        });
        Self {
            named: named.collect(),
            rest: join(self.rest.as_ref(), other.rest.as_ref()),
            open: self.open || other.open,
            keys: self.keys.or(other.keys),
        }
    }
}

fn from_schema(root: &Value, at: &Value, origin: Origin, depth: usize) -> Shape {
    let (Some(here), Some(depth)) = (at.as_object(), depth.checked_sub(1)) else { return Shape::any() };
    let shaped = |shape: Shape| Shape { origin, ..shape };
    if let Some(pointer) = here.get("$ref").and_then(Value::as_str) {
        let target = pointer.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or_else(Shape::any, |target| from_schema(root, target, origin, depth));
    }
    if let Some(values) = constants(here) {
        return shaped(of_constants(&values));
    }
    let kinds = match here.get("type") {
        Some(Value::String(name)) => Kinds::of_schema(name),
        Some(Value::Array(names)) => {
            let each = names.iter().map(|name| name.as_str().and_then(Kinds::of_schema));
            each.reduce(|a, b| Some(a?.or(b?))).flatten()
        }
        _ => None,
    };
    let Some(kinds) = kinds else {
        let choices = here.get("oneOf").or_else(|| here.get("anyOf")).and_then(Value::as_array);
        let each = choices.into_iter().flatten().map(|choice| from_schema(root, choice, origin, depth));
        return each.reduce(|a, b| a.or(&b)).unwrap_or_else(Shape::any);
    };
    let items = here.get("items").filter(|_| !here.contains_key("prefixItems"));
    shaped(Shape {
        members: kinds.meets(Kinds::OBJECT).then(|| members(root, at, origin, depth)).flatten().map(Rc::new),
        items: items.map(|items| Rc::new(from_schema(root, items, origin, depth))),
        ..Shape::of(kinds)
    })
}

/// Nothing when anything may be there.
fn members(root: &Value, at: &Value, origin: Origin, depth: usize) -> Option<Members> {
    let named = at.get("properties").and_then(Value::as_object);
    if at.get("patternProperties").is_some() {
        return None;
    }
    let rest = match at.get("additionalProperties") {
        Some(Value::Bool(false)) => None,
        Some(inner @ Value::Object(_)) => Some(from_schema(root, inner, origin, depth)),
        _ => Some(Shape::any()),
    };
    let named = named.into_iter().flatten();
    let named = named.map(|(name, inner)| (name.clone(), from_schema(root, inner, origin, depth))).collect();
    Some(Members { named, rest, open: false, keys: Kinds::STRING })
}

fn constants(here: &serde_json::Map<String, Value>) -> Option<Vec<Value>> {
    let listed = here.get("enum").and_then(Value::as_array).cloned();
    listed.or_else(|| here.get("const").map(|value| vec![value.clone()]))
}

fn of_constants(values: &[Value]) -> Shape {
    let shapes = values.iter().map(|value| match value {
        Value::String(text) => {
            let values = BTreeSet::from([text.clone()]);
            Shape { values: Some(Rc::new(values)), ..Shape::of(Kinds::STRING) }
        }
        Value::Null => Shape::of(Kinds::NULL),
        Value::Bool(_) => Shape::of(Kinds::BOOL),
        Value::Number(_) => Shape::of(Kinds::NUMBER),
        Value::Array(_) | Value::Object(_) => Shape::any(),
    });
    shapes.reduce(|a, b| a.or(&b)).unwrap_or_else(Shape::any)
}
