//! The digest of a file as OPA signs it.
//!
//! Promises: the digest of data and of a manifest is one over their values, whatever their spacing and
//! the order of their keys; that of any other file is one over its bytes. Numbers are hashed as they
//! are written, as OPA does, so `1.0` and `1` differ. Called by `archive::sign`.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use serde_json::value::RawValue;

use crate::domain::canonical;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::place;

/// The algorithm that we sign with.
pub(super) const SHA_256: &str = "SHA-256";

/// The algorithm of that name, if it is strong enough.
pub(super) fn algorithm(name: &str) -> Option<&'static digest::Algorithm> {
    match name {
        SHA_256 => Some(&digest::SHA256),
        "SHA-384" => Some(&digest::SHA384),
        "SHA-512" => Some(&digest::SHA512),
        _ => None,
    }
}

/// The digest of a file, in lower-case hex.
pub(super) fn of(path: &str, bytes: &[u8], algorithm: &'static digest::Algorithm) -> Result<String, ArchiveFault> {
    use std::fmt::Write as _;

    let sum = match path.rsplit('/').next() {
        Some(name @ ("data.json" | ".manifest" | "data.yaml")) => {
            // Strictly first, so that a key that stands twice cannot mean two things.
            let value = place::parse(path, bytes)?;
            let canonical;
            let text = if name == "data.yaml" {
                canonical = canonical::canonical(&value).unwrap_or_default();
                canonical.as_slice()
            } else {
                bytes
            };
            let mut form = Vec::new();
            let raw: Result<&RawValue, _> = serde_json::from_slice(text);
            // INVARIANT: strict JSON is JSON. Were it not, the empty form would match nobody's digest.
            let _told = raw.and_then(|raw| write(raw, &mut form)).is_err();
            digest::digest(algorithm, &form)
        }
        _ => digest::digest(algorithm, bytes),
    };
    let mut hex = String::new();
    for byte in sum.as_ref() {
        // INVARIANT: writing to a `String` cannot fail, so nothing is lost by ignoring the result.
        let _infallible = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

/// Keys in order of their bytes, no spaces, numbers as written. Depth is bounded by whoever read it first.
fn write(raw: &RawValue, form: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let text = raw.get();
    match text.bytes().next() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            form.push(b'{');
            for (place, (name, member)) in members.into_iter().enumerate() {
                if place > 0 {
                    form.push(b',');
                }
                string(&name, form);
                form.push(b':');
                write(member, form)?;
            }
            form.push(b'}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            form.push(b'[');
            for (place, item) in items.into_iter().enumerate() {
                if place > 0 {
                    form.push(b',');
                }
                write(item, form)?;
            }
            form.push(b']');
        }
        Some(b'"') => string(&serde_json::from_str::<String>(text)?, form),
        _ => form.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

/// As Go writes it: the two separators that end a line in JavaScript are escaped.
fn string(text: &str, form: &mut Vec<u8>) {
    let quoted =
        serde_json::Value::from(text).to_string().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    form.extend_from_slice(quoted.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> String {
        let mut form = Vec::new();
        write(serde_json::from_str(text).unwrap(), &mut form).unwrap();
        String::from_utf8(form).unwrap()
    }

    #[test]
    fn spacing_and_order_are_no_part_of_a_digest_and_the_writing_of_a_number_is() {
        assert_eq!(
            form(" {\"b\" : [1.0, 1e3 ,-0.0], \"a\":{ \"\\u0041\": null}} "),
            r#"{"a":{"A":null},"b":[1.0,1e3,-0.0]}"#
        );
        let sum = |text: &str| of("t/data.json", text.as_bytes(), &digest::SHA256).unwrap();
        assert_eq!(sum("{\"a\":1,\"b\":2}"), sum("{ \"b\": 2, \"a\": 1 }"));
        assert_ne!(sum("{\"a\":1}"), sum("{\"a\":1.0}"));
        assert_ne!(of("a.rego", b"x", &digest::SHA256).unwrap(), of("a.rego", b"x ", &digest::SHA256).unwrap());
        let yaml = of("data.yaml", b"b: 2\na: 1\n", &digest::SHA256).unwrap();
        assert_eq!(yaml, sum("{\"a\":1,\"b\":2}"));
    }

    #[test]
    fn text_is_written_as_go_writes_it() {
        assert_eq!(form(r#""<&>\u2028\u2029\u0001\u007f\/\"é""#), "\"<&>\\u2028\\u2029\\u0001\u{7f}/\\\"é\"");
    }

    #[test]
    fn only_strong_digests_are_known() {
        assert!(["SHA-256", "SHA-384", "SHA-512"].iter().all(|name| algorithm(name).is_some()));
        assert!(["", "MD5", "SHA-1", "SHA-224", "sha-256", "SHA-512-256"].iter().all(|name| algorithm(name).is_none()));
    }
}
