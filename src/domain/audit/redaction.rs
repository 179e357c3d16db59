//! What may be written: sensitive fields and anything that looks like a credential are dropped.
//!
//! Promises: a dropped value leaves [`DROPPED`] in its place and its JSON pointer in a list, and
//! nothing else: no digest of it, since an unkeyed digest of a short secret is the secret.
//! Never lets through a credential that it was told of, wherever it stands.
//! Called by the record when it becomes bytes, so that no field can go around it.

use serde_json::Value;

/// HTTP authentication schemes, whose parameter is a credential.
const SCHEMES: &[&str] = &["bearer", "basic", "dpop"];

/// What stands where a value was dropped.
pub const DROPPED: &str = "$dropped";

/// Shorter credentials are not looked for: they would match by chance.
const SECRET_BYTES_MIN: usize = 8;

/// Members whose values are credentials whatever tool they are sent to; compared without case, `-` and `_`.
const CREDENTIAL_NAMES: &[&str] = &[
    "accesstoken",
    "apikey",
    "approvaltoken",
    "assertion",
    "authorization",
    "authtoken",
    "bearertoken",
    "clientassertion",
    "clientsecret",
    "cookie",
    "credential",
    "credentials",
    "idtoken",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "proxyauthorization",
    "refreshtoken",
    "secret",
    "sessiontoken",
    "setcookie",
    "token",
    "xapikey",
];

/// The credentials that came with one request, so that their text can be found wherever it turns up.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Secrets {
    /// The credentials to look for; what is too short to be one is left out.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        Self::default().and(secrets)
    }

    /// These and more.
    #[must_use]
    pub fn and(self, more: impl IntoIterator<Item = String>) -> Self {
        let mut kept: Vec<String> = self
            .0
            .into_iter()
            .chain(more)
            .map(|secret| secret.trim().to_owned())
            .filter(|secret| secret.len() >= SECRET_BYTES_MIN)
            .collect();
        // The longest first, so that one secret inside another leaves no remainder.
        kept.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(kept)
    }
}

/// Places that are named; more are dropped just the same, and only counted.
const PLACES_MAX: usize = 64;
/// Characters of a member's name that a place repeats.
const NAME_CHARS_MAX: usize = 64;

/// Notes a place, unless enough are noted already.
///
/// WHY: a caller chooses names and their number; without bounds one call of a megabyte made a
/// record of many gigabytes.
fn note(dropped: &mut Vec<String>, at: &str) {
    match dropped.len() {
        noted if noted < PLACES_MAX => dropped.push(at.to_owned()),
        PLACES_MAX => dropped.push("and more".to_owned()),
        _ => {}
    }
}

/// Replaces every value that a pointer names (`*` stands for any member or item) and returns where they stood.
pub fn drop_fields(value: &mut Value, at: &str, pointers: &[String]) -> Vec<String> {
    let mut dropped = Vec::new();
    for pointer in pointers {
        let steps: Vec<String> = pointer.split('/').skip(1).map(unescape).collect();
        drop_at(value, &steps, at, &mut dropped);
    }
    dropped
}

fn drop_at(value: &mut Value, steps: &[String], at: &str, dropped: &mut Vec<String>) {
    let Some((step, rest)) = steps.split_first() else {
        if !value.is_null() && value.as_str() != Some(DROPPED) {
            *value = Value::String(DROPPED.to_owned());
            note(dropped, at);
        }
        return;
    };
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut().filter(|(name, _)| step == "*" || *name == step) {
                drop_at(member, rest, &format!("{at}/{}", escape(name)), dropped);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                if step == "*" || *step == index.to_string() {
                    drop_at(item, rest, &format!("{at}/{index}"), dropped);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Removes everything that looks like a credential, or is one of `secrets`, and returns where it stood.
pub fn scrub(value: &mut Value, at: &str, secrets: &Secrets) -> Vec<String> {
    let mut scrubber = Scrubber { at: at.to_owned(), secrets, dropped: Vec::new() };
    scrubber.visit(value);
    scrubber.dropped
}

/// Walks a value; `at` grows and shrinks with the way, so that a clean value costs no allocation per member.
struct Scrubber<'a> {
    at: String,
    secrets: &'a Secrets,
    dropped: Vec<String>,
}

impl Scrubber<'_> {
    fn visit(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(clean) = clean(text, self.secrets) {
                    *text = clean;
                    note(&mut self.dropped, &self.at);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.step(&index.to_string(), |scrubber| scrubber.visit(item));
                }
            }
            Value::Object(members) => {
                let tainted = members.keys().filter(|name| clean(name, self.secrets).is_some());
                for name in tainted.cloned().collect::<Vec<_>>() {
                    members.remove(&name);
                    members.insert(DROPPED.to_owned(), Value::String(DROPPED.to_owned()));
                    note(&mut self.dropped, &format!("{}/{DROPPED}", self.at));
                }
                for (name, member) in members.iter_mut() {
                    self.step(name, |scrubber| scrubber.visit_member(name, member));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn visit_member(&mut self, name: &str, member: &mut Value) {
        if names_a_credential(name) && holds_something(member) {
            *member = Value::String(DROPPED.to_owned());
            note(&mut self.dropped, &self.at);
        } else {
            self.visit(member);
        }
    }

    fn step(&mut self, name: &str, visit: impl FnOnce(&mut Self)) {
        let before = self.at.len();
        self.at.push('/');
        if name.len() > NAME_CHARS_MAX || name.contains(['~', '/']) {
            self.at.push_str(&escape(name));
        } else {
            self.at.push_str(name);
        }
        visit(self);
        self.at.truncate(before);
    }
}

/// Whether a member's value could be a credential at all, and has not been dropped already.
fn holds_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::String(text) => !text.is_empty() && text != DROPPED,
        Value::Number(_) | Value::Array(_) | Value::Object(_) => true,
    }
}

fn names_a_credential(name: &str) -> bool {
    let plain = || name.bytes().filter(|b| !matches!(b, b'-' | b'_')).map(|b| b.to_ascii_lowercase());
    CREDENTIAL_NAMES.iter().any(|known| plain().eq(known.bytes()))
}

/// Whether it is worth a closer look; nearly no text is.
fn is_suspect(text: &str, secrets: &Secrets) -> bool {
    secrets.0.iter().any(|secret| text.contains(secret.as_str()))
        || text.contains("eyJ")
        || text.contains("PRIVATE KEY-----")
        || SCHEMES.iter().any(|scheme| find_scheme(text, scheme).is_some())
}

/// The text without credentials, or nothing when it has none.
fn clean(text: &str, secrets: &Secrets) -> Option<String> {
    if !is_suspect(text, secrets) {
        return None;
    }
    let mut clean = text.to_owned();
    for secret in &secrets.0 {
        if clean.contains(secret.as_str()) {
            clean = clean.replace(secret.as_str(), DROPPED);
        }
    }
    if clean.contains("-----BEGIN") && clean.contains("PRIVATE KEY-----") {
        DROPPED.clone_into(&mut clean);
    }
    clean = without_jwts(&clean);
    for scheme in SCHEMES {
        clean = without_scheme(&clean, scheme);
    }
    (clean != text).then_some(clean)
}

/// Replaces `eyJ….….…`: the compact form of a signed or encrypted JSON object.
fn without_jwts(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.find("eyJ").and_then(|at| rest.split_at_checked(at)) {
        let end = from.find(|c: char| !is_token_char(c) || matches!(c, '+' | '/' | '~' | '=')).unwrap_or(from.len());
        let Some((word, after)) = from.split_at_checked(end) else { break };
        clean.push_str(before);
        clean.push_str(if word.contains('.') && word.len() >= 16 { DROPPED } else { word });
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// Replaces what follows `Bearer `, `Basic ` or `DPoP ` when it is too odd to be a word of a sentence.
fn without_scheme(text: &str, scheme: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = find_scheme(rest, scheme) {
        clean.push_str(before);
        let start = from.find(|c: char| c != ' ' && c != '\t').unwrap_or(from.len());
        let (gap, tail) = from.split_at_checked(start).unwrap_or((from, ""));
        let end = tail.find(|c: char| !is_token_char(c)).unwrap_or(tail.len());
        let (word, after) = tail.split_at_checked(end).unwrap_or((tail, ""));
        clean.push_str(gap);
        clean.push_str(if looks_opaque(word) { DROPPED } else { word });
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// The text up to and with the scheme's name, and what follows it.
fn find_scheme<'a>(text: &'a str, scheme: &str) -> Option<(&'a str, &'a str)> {
    let at = text.as_bytes().windows(scheme.len() + 1).position(|window| {
        let (name, gap) = window.split_at(scheme.len());
        name.eq_ignore_ascii_case(scheme.as_bytes()) && matches!(gap, b" " | b"\t")
    })?;
    text.split_at_checked(at + scheme.len())
}

fn looks_opaque(word: &str) -> bool {
    word.len() >= 12 && word.chars().any(|c| !c.is_ascii_lowercase() && c != '-' && c != '.')
}

/// RFC 6750 `b64token`.
const fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=')
}

/// A step of a JSON pointer; a long name is cut.
fn escape(name: &str) -> String {
    let cut: String = name.chars().take(NAME_CHARS_MAX).collect();
    let more = if cut.len() < name.len() { "…" } else { "" };
    cut.replace('~', "~0").replace('/', "~1") + more
}

fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JWT: &str = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ";

    #[test]
    fn a_sensitive_field_is_dropped_wherever_a_star_reaches_and_its_place_is_named() {
        let mut value =
            json!({"owner": {"email": "a@b"}, "tasks": [{"note": "x"}, {"note": null}, {"other": 1}], "a/b": {"~": 2}});
        let pointers = ["/owner/email", "/tasks/*/note", "/a~1b/~0", "/nowhere/at/all"].map(str::to_owned);
        let dropped = drop_fields(&mut value, "/arguments", &pointers);
        assert_eq!(dropped, ["/arguments/owner/email", "/arguments/tasks/0/note", "/arguments/a~1b/~0"]);
        assert_eq!(
            value,
            json!({"owner": {"email": DROPPED}, "tasks": [{"note": DROPPED}, {"note": null}, {"other": 1}], "a/b": {"~": DROPPED}})
        );
    }

    #[test]
    fn a_credential_is_removed_by_its_shape_by_its_name_and_by_its_text() {
        let secrets = Secrets::new(["opaque-0123456789".to_owned(), "short".to_owned(), String::new()]);
        for text in [
            JWT.to_owned(),
            format!("failed with {JWT}, sorry"),
            format!("Authorization: Bearer {JWT}"),
            "bearer  AbCdEf0123456789".to_owned(),
            "ä Basic dXNlcjpwYXNzd29yZA== ü".to_owned(),
            "see https://h/?t=opaque-0123456789&x=1".to_owned(),
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----".to_owned(),
        ] {
            let mut value = json!({ "note": text });
            assert_eq!(scrub(&mut value, "", &secrets), ["/note"], "{text}");
            let left = value.to_string();
            for secret in ["eyJ", "AbCdEf", "dXNlcjpw", "opaque-0", "MC4CAQAw"] {
                assert!(!left.contains(secret), "{left}");
            }
        }
        let mut value =
            json!({"Api-Key": "k", "client_secret": 12, "password": "", "token": ["t"], JWT: 1, "authorization": null});
        scrub(&mut value, "", &secrets);
        assert_eq!(
            value,
            json!({"Api-Key": DROPPED, "client_secret": DROPPED, "password": "", "token": DROPPED, DROPPED: DROPPED, "authorization": null})
        );
    }

    #[test]
    fn long_names_and_many_of_them_cost_a_bounded_number_of_words() {
        let name = "k".repeat(100_000);
        let mut value = json!({ name: vec![json!({"token": 1}); 400] });
        let dropped = scrub(&mut value, "/arguments", &Secrets::default());
        assert_eq!(dropped.len(), PLACES_MAX + 1);
        assert!(dropped.iter().map(String::len).sum::<usize>() < 16 * 1024);
        assert!(!value.to_string().contains("\"token\":1"), "all of them are dropped, named or not");
        let mut value = json!({"k".repeat(100_000): vec![json!({"note": 1}); 400]});
        let dropped = drop_fields(&mut value, "/arguments", &["/*/*/note".to_owned()]);
        assert!(dropped.len() == PLACES_MAX + 1 && dropped.iter().all(|at| at.len() < 256));
    }

    #[test]
    fn ordinary_words_stay_as_they_were_sent() {
        for text in [
            "bearer instruments, basic controls",
            "Basic authentication is off",
            "a short eyJ word",
            "tokens expire",
            "Bearer",
            "basic ",
        ] {
            let mut value = json!({"note": text, "tokens": 3, "secretary": "x"});
            assert!(scrub(&mut value, "", &Secrets::default()).is_empty(), "{text}");
        }
    }

    #[test]
    fn secrets_never_print() {
        assert_eq!(format!("{:?}", Secrets::new([JWT.to_owned()])), "***");
    }
}
