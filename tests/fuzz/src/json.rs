//! Strict JSON: what is accepted means one thing, and has one form.
//!
//! - whatever is accepted is what an ordinary reader sees, with every member that was written;
//! - its canonical form is accepted too, has the same canonical form and the same digest;
//! - no number in it is one that a reader would round;
//! - tighter limits accept nothing that is larger than they say.

use loopgate::domain::canonical::{Limits, SAFE_INTEGER_MAX, canonical, digest, digest_value, parse};
use serde_json::Value;

/// Holds of any bytes.
pub fn holds(data: &[u8]) {
    let Ok(value) = parse(data, &Limits::default()) else { return };
    let plain: Value = serde_json::from_slice(data).expect("an ordinary reader takes it too");
    assert_eq!(plain, value, "an ordinary reader sees the same");
    assert_eq!(members(&value), colons(data), "no member was swallowed");
    is_carried_exactly(&value);
    let bytes = canonical(&value).expect("what is accepted has a canonical form");
    let again = parse(&bytes, &Limits::default()).expect("the canonical form is accepted");
    assert_eq!(canonical(&again).expect("it has a form"), bytes, "the canonical form is its own");
    assert_eq!(digest_value(&value).expect("it has a digest"), digest(&bytes), "the digest is of that form");
    let tight = Limits { bytes_max: 200, depth_max: 3, members_max: 5 };
    if parse(data, &tight).is_ok() {
        assert!(data.len() <= 200 && depth(&value) <= 3 && all_members(&value) <= 5, "a limit was passed");
    }
}

/// Members of all objects.
fn members(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        Value::Array(items) => items.iter().map(members).sum(),
        _ => 0,
    }
}

/// Members and elements, all levels together.
fn all_members(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(all_members).sum::<usize>(),
        Value::Array(items) => items.len() + items.iter().map(all_members).sum::<usize>(),
        _ => 0,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// In a valid text, a colon outside a string is a member.
fn colons(text: &[u8]) -> usize {
    let (mut inside, mut escaped, mut found) = (false, false, 0);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => found += 1,
            _ => {}
        }
    }
    found
}

fn is_carried_exactly(value: &Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
            assert!(whole.is_none_or(|whole| whole <= SAFE_INTEGER_MAX), "{number} would be rounded");
            let double = number.as_f64().expect("every number is one that a double can be asked about");
            assert!(double.is_finite() && double.abs() <= 9_007_199_254_740_991.0, "{number} would be rounded");
        }
        Value::Array(items) => items.iter().for_each(is_carried_exactly),
        Value::Object(object) => object.values().for_each(is_carried_exactly),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
