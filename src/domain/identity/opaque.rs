//! Opaque tokens: which they are, and what an issuer's answer about one means (RFC 7662).
//!
//! Promises: a token of the form of a JWT is never taken for an opaque one; `active` counts only as
//! the boolean `true`; what the answer says is checked as the claims of a JWT are, audience and end
//! among it. Never asks anybody. Called by `adapters::keys`.

use std::sync::Arc;

use serde_json::Value;

use crate::domain::identity::binding::Admitted;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::{strict, token};

/// Longest answer about a token, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a bearer token looks like. Nothing of it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A signed JWT, with the `iss` that it names, if it names one.
    Jwt(Option<String>),
    /// Anything else that may stand behind `Bearer`.
    Opaque,
}

/// What a bearer token looks like, or that it is none.
pub fn form(bearer: &str, bytes_max: usize) -> Result<Form, AuthFault> {
    if bearer.len() > bytes_max {
        return Err(AuthFault::TooLarge { max: bytes_max });
    }
    // RFC 6750 section 2.1, `b64token`.
    let bare = bearer.trim_end_matches('=');
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if bare.is_empty() || !bare.bytes().all(word) {
        return Err(AuthFault::Malformed("not a bearer token"));
    }
    let parts: Vec<&str> = bearer.split('.').collect();
    let [header, payload, _] = parts.as_slice() else { return Ok(Form::Opaque) };
    let members = |part: &str| strict::decode(part).and_then(|bytes| strict::object(&bytes, bytes_max));
    // WHY not stricter: what half looks like a JWT is somebody's JWT, and is shown to nobody else.
    if strict::decode(header).is_none_or(|bytes| bytes.first() != Some(&b'{')) {
        return Ok(Form::Opaque);
    }
    let iss = members(payload).and_then(|claims| claims.get("iss").and_then(Value::as_str).map(str::to_owned));
    Ok(Form::Jwt(iss))
}

/// What an issuer's answer about a token says at time `now` (seconds since the epoch).
pub fn admit(answer: &[u8], settings: &Arc<IssuerSettings>, now: i64) -> Result<Admitted, AuthFault> {
    let mut claims = strict::object(answer, ANSWER_BYTES_MAX)
        .ok_or_else(|| AuthFault::CannotAsk { issuer: settings.name.clone() })?;
    match claims.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(AuthFault::Inactive { issuer: settings.name.clone() }),
        Some(_) => return Err(AuthFault::BadClaim("active")),
        None => return Err(AuthFault::MissingClaim("active")),
    }
    // `null` is how some servers say that they have nothing to say.
    claims.retain(|_, value| !value.is_null());
    match claims.get("iss") {
        None => {}
        Some(Value::String(iss)) if *iss == settings.issuer => {}
        Some(Value::String(_)) => return Err(AuthFault::UnknownIssuer),
        Some(_) => return Err(AuthFault::BadClaim("iss")),
    }
    match claims.get("token_type") {
        None => {}
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("Bearer") => {}
        Some(_) => return Err(AuthFault::Typ),
    }
    token::check_use(&claims)?;
    token::check_audience(&claims, settings)?;
    token::check_times(&claims, settings, now)?;
    token::admitted(settings, &claims)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::identity::forge::{ED, ISS, NOW, claims, settings};

    fn answer() -> Value {
        let mut answer = claims();
        answer["active"] = json!(true);
        answer["token_type"] = json!("Bearer");
        answer
    }

    fn cause(member: &str, value: Value) -> &'static str {
        let mut answer = answer();
        answer[member] = value;
        let refused = admit(answer.to_string().as_bytes(), &Arc::new(settings()), NOW);
        refused.map(|admitted| admitted.over(None)).map_or_else(|fault| fault.cause(), |_| "in")
    }

    #[test]
    fn an_active_token_is_read_as_a_jwt_is() {
        let ada = admit(answer().to_string().as_bytes(), &Arc::new(settings()), NOW).unwrap().over(None).unwrap();
        assert_eq!((ada.user.as_str(), ada.issuer.as_str()), ("ada", ISS));
        assert_eq!(ada.scopes, ["tools:read", "tools:write"]);
        assert_eq!(cause("iss", Value::Null), "in", "its own server need not say who it is");
        assert_eq!(cause("token_type", Value::Null), "in");
    }

    #[test]
    fn only_the_boolean_true_is_active() {
        assert_eq!(cause("active", json!(false)), "inactive");
        assert_eq!(cause("active", json!("true")), "bad_claim");
        assert_eq!(cause("active", json!(1)), "bad_claim");
        assert_eq!(cause("active", Value::Null), "bad_claim");
        for odd in ["", "[]", "true", "{\"active\":true,\"active\":true}", "<html>"] {
            let fault = admit(odd.as_bytes(), &Arc::new(settings()), NOW).unwrap_err();
            assert!(fault.is_ours(), "{odd}: no answer is no yes and no no");
        }
        assert_eq!(admit(b"{}", &Arc::new(settings()), NOW).unwrap_err().cause(), "missing_claim");
    }

    #[test]
    fn an_answer_is_checked_as_claims_are() {
        assert_eq!(cause("iss", json!("https://evil.example")), "unknown_issuer");
        assert_eq!(cause("iss", json!(7)), "bad_claim");
        assert_eq!(cause("aud", json!("https://other.example")), "wrong_audience");
        assert_eq!(cause("aud", Value::Null), "missing_claim");
        assert_eq!(cause("exp", json!(NOW - 3600)), "expired");
        assert_eq!(cause("exp", Value::Null), "missing_claim");
        assert_eq!(cause("nbf", json!(NOW + 3600)), "not_yet_valid");
        assert_eq!(cause("token_type", json!("refresh_token")), "typ");
        for other in ["refresh", "refresh_token", "id", "id_token", "Access ", ""] {
            assert_eq!(cause("token_use", json!(other)), "typ", "{other}");
        }
        assert_eq!(cause("token_use", json!(["access"])), "typ");
        assert_eq!(cause("token_use", json!("access_token")), "in");
        assert_eq!(cause("sub", Value::Null), "missing_claim");
        assert_eq!(cause("tenants", json!(7)), "bad_claim");
        assert_eq!(cause("cnf", json!({"jkt": "x"})), "bad_claim");
    }

    #[test]
    fn what_looks_like_a_jwt_is_never_opaque() {
        let form = |bearer: &str| form(bearer, 8192);
        assert_eq!(form(&ED.token(&claims())), Ok(Form::Jwt(Some(ISS.to_owned()))));
        assert_eq!(form(&ED.token(&json!({"iss": 7}))), Ok(Form::Jwt(None)));
        let header = strict::encode("{\"alg\":\"none\"}");
        assert_eq!(form(&format!("{header}.x.")), Ok(Form::Jwt(None)));
        for opaque in ["2YotnFZFEjr1zCsicMWpAA", "a.b", "a.b.c", "a.b.c.d.e", "ghp_x/y+z==", "..."] {
            assert_eq!(form(opaque), Ok(Form::Opaque), "{opaque}");
        }
        for odd in ["", "==", "a b", "a\u{e9}", "a\"b", "a=b"] {
            assert_eq!(form(odd).unwrap_err().cause(), "malformed", "{odd}");
        }
        assert_eq!(super::form("aaaa", 3).unwrap_err(), AuthFault::TooLarge { max: 3 });
    }
}
