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
