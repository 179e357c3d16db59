//! JSON pointers with `*`: where in a document something stands.
//!
//! Promises: RFC 6901, and a token `*` stands for every element of an array and every member of
//! an object; finding tells apart "nothing is there because the list is empty" from "a record is
//! there and lacks the member", because the second must not pass for the first. Never fails on a
//! document. Called by the catalog (arguments) and by `domain::inspect` (answers).

use std::fmt;

use serde_json::Value;

/// A parsed pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Member(String),
    Every,
}

/// Not a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a JSON pointer: {what}")]
pub struct PointerFault {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub what: &'static str,
}

/// What a pointer points at in one document.
#[derive(Debug, Default)]
pub struct Found<'v> {
    /// Every value there, in document order.
    pub values: Vec<&'v Value>,
    /// Whether something stands where a record with the last member was expected, without it.
    pub lacking: bool,
    /// Whether the way ends in an empty list or `null`, so that nothing was to be expected.
    pub vacant: bool,
}

impl Pointer {
    /// Reads `/a/*/b`; the empty text is the whole document.
    pub fn parse(text: &str) -> Result<Self, PointerFault> {
        let fault = |what| PointerFault { text: text.to_owned(), what };
        if text.is_empty() {
            return Ok(Self { text: String::new(), tokens: Vec::new() });
        }
        let Some(rest) = text.strip_prefix('/') else { return Err(fault("it must start with `/`")) };
        let tokens = rest.split('/').map(token).collect::<Option<Vec<_>>>();
        let tokens = tokens.ok_or_else(|| fault("`~` must be written `~0`, and `/` in a name `~1`"))?;
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// The member that the pointer ends in; none when it ends in `*` or is empty.
    #[must_use]
    pub fn last_member(&self) -> Option<&str> {
        match self.tokens.last() {
            Some(Token::Member(name)) => Some(name),
            Some(Token::Every) | None => None,
        }
    }

    /// Looks the pointer up.
    #[must_use]
    pub fn find<'v>(&self, document: &'v Value) -> Found<'v> {
        let mut found = Found::default();
        walk(&self.tokens, document, &mut found);
        found
    }

    /// Puts `with` wherever the pointer points; tells how many places that were.
    pub fn replace(&self, document: &mut Value, with: &Value) -> usize {
        put(&self.tokens, document, with)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One name, escaped for a pointer.
#[must_use]
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn token(text: &str) -> Option<Token> {
    if text == "*" {
        return Some(Token::Every);
    }
    let proper = text.split('~').skip(1).all(|rest| rest.starts_with('0') || rest.starts_with('1'));
    proper.then(|| Token::Member(text.replace("~1", "/").replace("~0", "~")))
}

/// An array index as RFC 6901 writes it: no sign, no leading zero.
fn index(name: &str) -> Option<usize> {
    let canonical = name == "0" || (!name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
    canonical.then(|| name.parse().ok()).flatten()
}

fn walk<'v>(tokens: &[Token], value: &'v Value, found: &mut Found<'v>) {
    let Some((first, rest)) = tokens.split_first() else {
        found.values.push(value);
        return;
    };
    match (first, value) {
        (_, Value::Null) => found.vacant = true,
        (Token::Every, Value::Array(items)) => {
            found.vacant |= items.is_empty();
            for item in items {
                walk(rest, item, found);
            }
        }
        (Token::Every, Value::Object(members)) => {
            found.vacant |= members.is_empty();
            for member in members.values() {
                walk(rest, member, found);
            }
        }
        (Token::Member(name), Value::Object(members)) => match members.get(name) {
            Some(member) => walk(rest, member, found),
            None => found.lacking |= rest.is_empty(),
        },
        (Token::Member(name), Value::Array(items)) => match index(name).and_then(|at| items.get(at)) {
            Some(item) => walk(rest, item, found),
            None => found.lacking |= rest.is_empty(),
        },
        (_, Value::Bool(_) | Value::Number(_) | Value::String(_)) => found.lacking |= rest.is_empty(),
    }
}

fn put(tokens: &[Token], value: &mut Value, with: &Value) -> usize {
    let Some((first, rest)) = tokens.split_first() else {
        value.clone_from(with);
        return 1;
    };
    match (first, value) {
        (Token::Every, Value::Array(items)) => items.iter_mut().map(|item| put(rest, item, with)).sum(),
        (Token::Every, Value::Object(members)) => members.values_mut().map(|member| put(rest, member, with)).sum(),
        (Token::Member(name), Value::Object(members)) => {
            members.get_mut(name).map_or(0, |member| put(rest, member, with))
        }
        (Token::Member(name), Value::Array(items)) => {
            index(name).and_then(|at| items.get_mut(at)).map_or(0, |item| put(rest, item, with))
        }
        (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn texts(pointer: &str, document: &Value) -> (Vec<Value>, bool, bool) {
        let found = Pointer::parse(pointer).unwrap().find(document);
        (found.values.into_iter().cloned().collect(), found.lacking, found.vacant)
    }

    #[test]
    fn a_pointer_finds_what_rfc_6901_says_it_does() {
        let document = json!({"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "m~n": 8, " ": 7, "01": 9});
        for (pointer, value) in [
            ("", document.clone()),
            ("/foo", json!(["bar", "baz"])),
            ("/foo/0", json!("bar")),
            ("/", json!(0)),
            ("/a~1b", json!(1)),
            ("/c%d", json!(2)),
            ("/m~0n", json!(8)),
            ("/ ", json!(7)),
            ("/01", json!(9)),
        ] {
            assert_eq!(texts(pointer, &document).0, [value], "{pointer}");
        }
        for pointer in ["/foo/00", "/foo/+1", "/foo/-", "/foo/2", "/nothing/x", "/foo/99999999999999999999999"] {
            assert!(texts(pointer, &document).0.is_empty(), "{pointer}");
        }
        for bad in ["foo", "a/b", "/~", "/~2", "/a~", "#/foo"] {
            assert!(Pointer::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_list_is_not_a_record_that_lacks_its_member() {
        let at = "/items/*/tenant";
        assert_eq!(texts(at, &json!({"items": []})), (vec![], false, true));
        assert_eq!(texts(at, &json!({"items": null})), (vec![], false, true));
        assert_eq!(texts(at, &json!({"items": [{"tenant": "a"}, {}]})), (vec![json!("a")], true, false));
        assert_eq!(texts(at, &json!({"items": ["a"]})), (vec![], true, false));
        assert_eq!(texts(at, &json!({"items": {"x": {"tenant": "a"}}})), (vec![json!("a")], false, false));
        assert_eq!(texts(at, &json!({"rows": []})), (vec![], false, false));
        assert_eq!(texts("/tenant", &json!([1])), (vec![], true, false));
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[ab~/*]{0,3}".prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ab~/*]{0,2}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Every place in a document, as a pointer.
    fn places(value: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_owned());
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    places(item, &format!("{at}/{index}"), out);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    places(member, &format!("{at}/{}", escape(name)), out);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn a_pointer_without_a_star_agrees_with_serde_json(document in document()) {
            let mut all = Vec::new();
            places(&document, "", &mut all);
            for place in all.iter().filter(|place| !place.split('/').any(|token| token == "*")) {
                let pointer = Pointer::parse(place).unwrap();
                prop_assert_eq!(pointer.find(&document).values, vec![document.pointer(place).unwrap()]);
            }
        }

        #[test]
        fn what_is_replaced_is_what_was_found(document in document(), pointer in "(/(\\*|a|b|0|1|~0|~1)){1,4}") {
            let pointer = Pointer::parse(&pointer).unwrap();
            let found = pointer.find(&document).values.len();
            let mut changed = document.clone();
            prop_assert_eq!(pointer.replace(&mut changed, &Value::from("mark")), found);
            prop_assert!(pointer.find(&changed).values.iter().all(|value| *value == "mark"));
            prop_assert_eq!(found == 0, changed == document);
        }
    }
}
