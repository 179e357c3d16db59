//! Which client certificate a credential is good over.
//!
//! Promises: a token that says it is bound to a certificate (RFC 8705, `cnf`) is good over that one
//! alone; a token of an issuer that lists certificates is good over those alone; a proof of
//! possession that is not understood is refused, never passed over. Never verifies a certificate:
//! the door has. Called by `identity::token`, `identity::opaque`, `identity::mediated` and `adapters::keys`.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::{ClientCertificate, Principal, strict};

/// A credential that was checked, but for the connection that it came over.
#[derive(Debug, Clone)]
pub struct Admitted {
    principal: Arc<Principal>,
    bound_to: Option<String>,
    settings: Arc<IssuerSettings>,
}

impl Admitted {
    pub(super) fn new(principal: Principal, bound_to: Option<String>, settings: Arc<IssuerSettings>) -> Self {
        Self { principal: Arc::new(principal), bound_to, settings }
    }

    /// When the credential stops being good: seconds since the Unix epoch.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        self.principal.expires_at
    }

    /// The issuer that vouches: its `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.principal.issuer
    }

    /// Who it is, when it came over a connection that it is good over.
    pub fn over(&self, certificate: Option<&ClientCertificate>) -> Result<Arc<Principal>, AuthFault> {
        let listed = &self.settings.certificates;
        let expected = listed.is_empty() || certificate.is_some_and(|shown| is_listed(shown, listed).is_some());
        let bound =
            self.bound_to.as_ref().is_none_or(|digest| certificate.is_some_and(|shown| shown.sha256 == *digest));
        if expected && bound { Ok(Arc::clone(&self.principal)) } else { Err(AuthFault::OtherCertificate) }
    }
}

/// The name among `names` that a certificate goes by, if it goes by any.
pub(super) fn is_listed<'n>(certificate: &ClientCertificate, names: &'n [String]) -> Option<&'n str> {
    let goes_by = |name: &&String| match name.split_once(':') {
        Some(("sha256", digest)) => certificate.sha256.eq_ignore_ascii_case(digest),
        // WHY: host names are compared without case (RFC 4343), addresses of other kinds byte for byte.
        Some(("dns", _)) => certificate.names.iter().any(|known| known.eq_ignore_ascii_case(name)),
        Some(("uri", _)) => certificate.names.contains(name),
        _ => false,
    };
    names.iter().find(goes_by).map(String::as_str)
}

/// Whether a certificate can be named so: `dns:NAME`, `uri:URI` or `sha256:` and 64 hexadecimal digits.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let visible = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    match name.split_once(':') {
        Some(("dns", host)) => visible(host) && !host.contains('*'),
        Some(("uri", uri)) => visible(uri),
        Some(("sha256", digest)) => digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => false,
    }
}

/// SHA-256 (hex) of the certificate that claims bind a token to, if they bind it to one.
pub(super) fn of_claims(claims: &Map<String, Value>) -> Result<Option<String>, AuthFault> {
    let Some(confirmation) = claims.get("cnf") else { return Ok(None) };
    // WHY: a token bound to a key (DPoP and the like) is no bearer token; taken for one, a thief could use it.
    let members = confirmation.as_object().filter(|members| members.len() == 1).ok_or(AuthFault::BadClaim("cnf"))?;
    let digest = members.get("x5t#S256").and_then(Value::as_str).and_then(strict::decode);
    let digest = digest.filter(|digest| digest.len() == 32).ok_or(AuthFault::BadClaim("cnf"))?;
    let mut hex = String::with_capacity(64);
    for byte in digest {
        // Writing to a `String` cannot fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
    }
    Ok(Some(hex))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::identity::forge::{ED, NOW, claims_but, issuer, settings};
    use crate::domain::identity::token::{admit, authenticate};

    fn certificate(digest: &str, names: &[&str]) -> ClientCertificate {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        ClientCertificate { sha256: digest.repeat(32), names, until_s: i64::MAX }
    }

    fn bound(cnf: Value) -> String {
        ED.token(&claims_but("cnf", cnf))
    }

    #[test]
    fn a_bound_token_is_good_over_its_own_certificate_alone() {
        let token = bound(json!({"x5t#S256": strict::encode([0xAB; 32])}));
        let issuers = [issuer(settings())];
        let admitted = admit(&token, &issuers, NOW).unwrap();
        assert_eq!(admitted.over(Some(&certificate("ab", &[]))).unwrap().user, "ada");
        for other in [None, Some(&certificate("ac", &["dns:ab"]))] {
            assert_eq!(admitted.over(other).unwrap_err(), AuthFault::OtherCertificate);
        }
        assert_eq!(authenticate(&token, &issuers, NOW).unwrap_err(), AuthFault::OtherCertificate);
    }

    #[test]
    fn a_proof_of_possession_that_is_not_understood_is_refused() {
        let digest = strict::encode([0xAB; 32]);
        for cnf in [
            json!({"jkt": digest}),
            json!({"x5t#S256": digest, "jkt": digest}),
            json!({"x5t#S256": "short"}),
            json!({"x5t#S256": 7}),
            json!({}),
            json!("x5t#S256"),
        ] {
            let refused = admit(&bound(cnf.clone()), &[issuer(settings())], NOW).unwrap_err();
            assert_eq!(refused, AuthFault::BadClaim("cnf"), "{cnf}");
        }
    }

    #[test]
    fn tokens_of_an_issuer_that_lists_certificates_come_over_one_of_them() {
        let mut listed = settings();
        listed.certificates = vec!["dns:helix.internal".to_owned(), format!("sha256:{}", "CD".repeat(32))];
        assert!(listed.faults().is_empty());
        let admitted = admit(&ED.token(&claims_but("x", json!(1))), &[issuer(listed)], NOW).unwrap();
        for good in [certificate("00", &["uri:x", "dns:Helix.Internal"]), certificate("cd", &[])] {
            assert_eq!(admitted.over(Some(&good)).unwrap().user, "ada");
        }
        for other in [certificate("00", &["dns:helix.internal.evil", "uri:dns:helix.internal"]), certificate("ce", &[])]
        {
            assert_eq!(admitted.over(Some(&other)).unwrap_err(), AuthFault::OtherCertificate);
        }
        assert_eq!(admitted.over(None).unwrap_err(), AuthFault::OtherCertificate);
    }

    #[test]
    fn what_names_no_certificate_is_refused_in_settings() {
        for name in ["helix.internal", "dns:", "dns:*.internal", "cn:helix", "sha256:ab", "uri:a b", ""] {
            let mut odd = settings();
            odd.certificates = vec![name.to_owned()];
            assert_eq!(odd.faults()[0].0, "certificates", "{name}");
        }
    }
}
