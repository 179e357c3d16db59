//! What the gateway says about how to get in: RFC 9728 metadata and RFC 6750 challenges.
//!
//! Promises: the words of a challenge are constant per code, so that they tell a forger nothing;
//! no value breaks out of its quotes. Never names the cause of a refusal.
//! Called by `pep` and `adapters::door`.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::domain::refusal::{Challenge, Code};

/// Where the RFC 9728 document of a host stands.
pub const DOCUMENT_PATH: &str = "/.well-known/oauth-protected-resource";

/// The URL of the RFC 9728 document of `resource`: the path goes behind the well-known one (section 3.1).
#[must_use]
pub fn document_url(resource: &str) -> String {
    let origin_ends = resource.find("://").map_or(0, |at| at + 3);
    match resource.get(origin_ends..).and_then(|rest| rest.find('/')) {
        Some(at) => {
            let (origin, path) = resource.split_at(origin_ends + at);
            format!("{origin}{DOCUMENT_PATH}{path}")
        }
        None => format!("{resource}{DOCUMENT_PATH}"),
    }
}

/// The RFC 9728 document: which authorization servers issue tokens for `resource`.
///
/// `resource` is the URL that clients dial, without fragment or trailing slash.
#[must_use]
pub fn protected_resource(resource: &str, issuers: &[String], scopes: &[String], name: &str) -> Value {
    let mut document = json!({
        "resource": resource,
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
        "resource_name": name,
    });
    if !scopes.is_empty()
        && let Some(members) = document.as_object_mut()
    {
        members.insert("scopes_supported".to_owned(), json!(scopes));
    }
    document
}

/// The value of `WWW-Authenticate` that answers a challenge (RFC 6750 section 3, RFC 9728 section 5.1).
#[must_use]
pub fn www_authenticate(challenge: &Challenge, resource_metadata: &str) -> String {
    let mut value = "Bearer ".to_owned();
    if challenge.presented {
        let (error, description) = words(challenge.code);
        parameter(&mut value, "error", error);
        parameter(&mut value, "error_description", description);
    }
    let scopes: Vec<&str> = challenge.scopes.iter().map(String::as_str).filter(|scope| is_scope(scope)).collect();
    if !scopes.is_empty() {
        parameter(&mut value, "scope", &scopes.join(" "));
    }
    parameter(&mut value, "resource_metadata", resource_metadata);
    value
}

const fn words(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::TokenExpired => ("invalid_token", "the token has expired"),
        Code::InsufficientScope => ("insufficient_scope", "the token lacks a scope"),
        _ => ("invalid_token", "the token is not valid here"),
    }
}

/// Whether it is one scope: `scope-token` of RFC 6749 section 3.3.
#[must_use]
pub fn is_scope(scope: &str) -> bool {
    !scope.is_empty() && scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

/// Appends `name="value"`; what cannot stand in a quoted string is left out.
fn parameter(header: &mut String, name: &str, value: &str) {
    let separator = if header.ends_with(' ') { "" } else { ", " };
    let safe: String = value.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
    // Writing to a `String` cannot fail.
    write!(header, "{separator}{name}=\"{safe}\"").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "https://gw.example/.well-known/oauth-protected-resource/mcp";

    fn challenge(code: Code, presented: bool, scopes: &[&str]) -> String {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        www_authenticate(&Challenge { code, presented, scopes, cause: "test" }, METADATA)
    }

    #[test]
    fn a_caller_without_credentials_is_told_where_to_go_and_of_no_error() {
        assert_eq!(challenge(Code::Unauthenticated, false, &[]), format!("Bearer resource_metadata=\"{METADATA}\""));
        assert_eq!(
            challenge(Code::Unauthenticated, false, &["tools:read"]),
            format!("Bearer scope=\"tools:read\", resource_metadata=\"{METADATA}\"")
        );
    }

    #[test]
    fn the_document_stands_before_the_path_of_what_it_describes() {
        assert_eq!(document_url("https://gw.example/mcp"), METADATA);
        assert_eq!(document_url("https://gw.example"), "https://gw.example/.well-known/oauth-protected-resource");
    }

    #[test]
    fn each_code_has_constant_words() {
        assert_eq!(
            challenge(Code::Unauthenticated, true, &[]),
            format!(
                "Bearer error=\"invalid_token\", error_description=\"the token is not valid here\", resource_metadata=\"{METADATA}\""
            )
        );
        assert_eq!(
            challenge(Code::TokenExpired, true, &[]),
            format!(
                "Bearer error=\"invalid_token\", error_description=\"the token has expired\", resource_metadata=\"{METADATA}\""
            )
        );
        assert_eq!(
            challenge(Code::InsufficientScope, true, &["tools:read", "orders:refund"]),
            format!(
                "Bearer error=\"insufficient_scope\", error_description=\"the token lacks a scope\", scope=\"tools:read orders:refund\", resource_metadata=\"{METADATA}\""
            )
        );
    }

    #[test]
    fn nothing_breaks_out_of_its_quotes() {
        let value = challenge(Code::InsufficientScope, true, &["a\"b", "c\\d", "e f", "é", "", "g\r\nX: y", "fine"]);
        assert!(value.contains("scope=\"fine\""), "{value}");
        let odd = Challenge { code: Code::Unauthenticated, presented: false, scopes: vec![], cause: "test" };
        assert_eq!(
            www_authenticate(&odd, "https://x/\"\r\nSet-Cookie: a=b\\"),
            "Bearer resource_metadata=\"https://x/Set-Cookie: a=b\""
        );
    }

    #[test]
    fn the_metadata_document_names_its_authorization_servers() {
        let document = protected_resource("https://gw.example/mcp", &["https://as.example".to_owned()], &[], "Gateway");
        assert_eq!(document["resource"], "https://gw.example/mcp");
        assert_eq!(document["authorization_servers"], json!(["https://as.example"]));
        assert_eq!(document["bearer_methods_supported"], json!(["header"]));
        assert!(document.get("scopes_supported").is_none());
    }
}
