//! Browsers: which pages may call, and what they may read.
//!
//! Promises: only listed origins are named, never `*` beside a credential; metadata that everyone
//! may read is open to every page. Never lets a request through by itself: `pep` checks the origin
//! of each one again. Called by `adapters::door`. Follows the Fetch standard.

use crate::domain::mcp::Head;
use crate::domain::mcp::receive::{DoorRules, receive_head};
use crate::pep::arrival::Answer;

/// Where OAuth metadata and keys are published.
const OPEN_TO_ALL: &str = "/.well-known/";
/// What a page may send besides the simple headers.
const SENT: [&str; 15] = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "traceparent",
    "tracestate",
    "x-loopiq-approval-token",
    "x-loopiq-tenant",
    "x-loopiq-workflow",
    "x-request-id",
];
/// What a page may read.
const SHOWN: &str = "www-authenticate, x-request-id, retry-after";

/// The answer to `OPTIONS`: 204 to a page that may call, a refusal to anyone else.
pub(super) fn preflight(head: &Head, rules: &DoorRules) -> Answer {
    let open = head.path.starts_with(OPEN_TO_ALL);
    if !open && let Err(fault) = receive_head(&Head { method: "POST".to_owned(), ..head.clone() }, rules) {
        return Answer::fault(None, &fault);
    }
    if head.get("origin").is_none() {
        return Answer::empty(405).with("allow", if open { "GET" } else { "POST" });
    }
    let asked = head.all("access-control-request-headers").flat_map(|names| names.split(','));
    let granted: Vec<String> =
        asked.map(|name| name.trim().to_ascii_lowercase()).filter(|name| may_send(name)).collect();
    let answer = Answer::empty(204)
        .with("access-control-allow-methods", if open { "GET" } else { "POST" })
        .with("access-control-max-age", "600");
    if granted.is_empty() { answer } else { answer.with("access-control-allow-headers", granted.join(", ")) }
}

/// Headers that let the calling page read the answer.
pub(super) fn headers(head: &Head, rules: &DoorRules) -> Vec<(&'static str, String)> {
    if head.path.starts_with(OPEN_TO_ALL) {
        return vec![("access-control-allow-origin", "*".to_owned())];
    }
    match head.get("origin") {
        Some(origin) if rules.allows_origin(origin) => vec![
            ("access-control-allow-origin", origin.to_owned()),
            ("access-control-expose-headers", SHOWN.to_owned()),
            ("vary", "Origin".to_owned()),
        ],
        _ => Vec::new(),
    }
}

fn may_send(name: &str) -> bool {
    let param = name
        .strip_prefix("mcp-param-")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
    param || SENT.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str, headers: &[(&str, &str)]) -> Head {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head { method: "OPTIONS".into(), path: path.into(), headers }
    }

    fn rules() -> DoorRules {
        DoorRules { allowed_origins: vec!["https://app.example".into()], ..DoorRules::default() }
    }

    fn value<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_page_that_may_call_is_told_what_it_may_send() {
        let asked = "content-type, Mcp-Method,mcp-param-tenant, x-evil, mcp-param-a b";
        let answer = preflight(
            &head(
                "/mcp",
                &[("host", "a"), ("origin", "https://app.example"), ("access-control-request-headers", asked)],
            ),
            &rules(),
        );
        assert_eq!(answer.status, 204);
        assert_eq!(value(&answer, "access-control-allow-headers"), Some("content-type, mcp-method, mcp-param-tenant"));
    }

    #[test]
    fn a_page_that_may_not_call_gets_403_and_no_permission() {
        let foreign = head("/mcp", &[("host", "a"), ("origin", "https://evil.example")]);
        assert_eq!(preflight(&foreign, &rules()).status, 403);
        assert_eq!(headers(&foreign, &rules()), []);
        assert_eq!(preflight(&head("/mcp", &[("host", "a")]), &rules()).status, 405);
        let rebound = head("/mcp", &[("host", "evil.example"), ("origin", "http://localhost")]);
        assert_eq!(preflight(&rebound, &DoorRules { loopback: true, ..rules() }).status, 403);
    }

    #[test]
    fn metadata_is_open_to_every_page() {
        let metadata =
            head("/.well-known/oauth-protected-resource", &[("host", "a"), ("origin", "https://any.example")]);
        assert_eq!(preflight(&metadata, &rules()).status, 204);
        assert_eq!(headers(&metadata, &rules()), [("access-control-allow-origin", "*".to_owned())]);
    }
}
