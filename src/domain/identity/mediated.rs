//! A session that LoopIQ's backend mediates: its certificate vouches, headers name the person.
//!
//! Promises: the headers mean somebody only over a certificate that an issuer lists for this; user
//! and tenant stand there exactly once; a bearer token beside them is refused, for nobody could say
//! which of the two counts. Never reads the headers of any other connection.
//! Called by `adapters::keys`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::identity::binding;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::shown::Shown;
use crate::domain::identity::token;
use crate::domain::identity::{Principal, is_tenant_id};

/// Seconds for which one request's headers name somebody; the next request names them anew.
const LIFETIME_S: i64 = 60;
/// Most roles, and most roles in teams.
const NAMES_MAX: usize = 64;

/// Who the request is for, when it is mediated; `None` when it is not, and a bearer token must say.
pub fn principal(shown: &Shown<'_>, issuers: &[Arc<IssuerSettings>], now: i64) -> Result<Option<Principal>, AuthFault> {
    let Some(certificate) = shown.certificate else { return Ok(None) };
    let vouching = issuers.iter().find_map(|settings| {
        let name = binding::is_listed(certificate, &settings.certificates)?;
        Some((settings, name))
    });
    let Some((settings, name)) = vouching else { return Ok(None) };
    if shown.user.is_empty() {
        return Ok(None);
    }
    if !shown.authorization.is_empty() {
        return Err(AuthFault::TwoIdentities);
    }
    let user = token::user(Some(&Value::from(one(&shown.user, "X-LoopIQ-User")?)), "X-LoopIQ-User")?;
    let tenant = one(&shown.tenant, "X-LoopIQ-Tenant")?;
    if !is_tenant_id(tenant) {
        return Err(AuthFault::BadClaim("X-LoopIQ-Tenant"));
    }
    if !settings.tenants_allowed.is_empty() && !settings.tenants_allowed.iter().any(|allowed| allowed == tenant) {
        return Err(AuthFault::TenantNotAllowed { issuer: settings.name.clone() });
    }
    Ok(Some(Principal {
        user,
        issuer: settings.issuer.clone(),
        method: settings.kind,
        client: Some(name.to_owned()),
        tenants: vec![tenant.to_owned()],
        active_tenant: None,
        roles: names(&shown.roles, "X-LoopIQ-Roles")?,
        teams: teams(&shown.teams)?,
        permissions: Vec::new(),
        scopes: Vec::new(),
        expires_at: now.saturating_add(LIFETIME_S),
    }))
}

fn one<'a>(values: &[&'a str], header: &'static str) -> Result<&'a str, AuthFault> {
    match values {
        [] => Err(AuthFault::MissingClaim(header)),
        // WHY: the door writes U+FFFD for bytes that are no UTF-8, and two names must not become one.
        [value] if value.contains(char::REPLACEMENT_CHARACTER) => Err(AuthFault::BadClaim(header)),
        [value] => Ok(value.trim_matches([' ', '\t'])),
        [_, _, ..] => Err(AuthFault::BadClaim(header)),
    }
}

/// The members of a list, each once.
fn names(values: &[&str], header: &'static str) -> Result<Vec<String>, AuthFault> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = Vec::new();
    for name in one(values, header)?.split(',').map(|name| name.trim_matches([' ', '\t'])) {
        if !token::is_name(name) || names.len() == NAMES_MAX {
            return Err(AuthFault::BadClaim(header));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn teams(values: &[&str]) -> Result<BTreeMap<String, Vec<String>>, AuthFault> {
    let mut teams: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in names(values, "X-LoopIQ-Teams")? {
        let named = pair.split_once('=').filter(|(team, role)| token::is_name(team) && token::is_name(role));
        let (team, role) = named.ok_or(AuthFault::BadClaim("X-LoopIQ-Teams"))?;
        teams.entry(team.to_owned()).or_default().push(role.to_owned());
    }
    Ok(teams)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::forge::NOW;
    use crate::domain::identity::{AuthMethod, ClientCertificate};

    fn issuers() -> [Arc<IssuerSettings>; 1] {
        let mut helix = IssuerSettings::new("helix", "https://helix.example", "x").of_kind(AuthMethod::Helix);
        helix.certificates = vec!["dns:helix.internal".to_owned()];
        helix.tenants_allowed = vec!["org_gcn".to_owned(), "org_nordbank".to_owned()];
        [Arc::new(helix)]
    }

    fn of(name: &str) -> ClientCertificate {
        ClientCertificate { sha256: "ab".repeat(32), names: vec![name.to_owned()], until_s: i64::MAX }
    }

    fn shown(certificate: Option<&ClientCertificate>) -> Shown<'_> {
        Shown { user: vec!["ada"], tenant: vec!["org_gcn"], certificate, ..Shown::default() }
    }

    #[test]
    fn a_listed_certificate_vouches_for_whom_the_headers_name() {
        let certificate = of("dns:helix.internal");
        let asked = Shown {
            roles: vec!["release_manager, auditor,auditor"],
            teams: vec!["payments=lead, payments=member, core=member"],
            ..shown(Some(&certificate))
        };
        let ada = principal(&asked, &issuers(), NOW).unwrap().unwrap();
        assert_eq!((ada.user.as_str(), ada.issuer.as_str()), ("ada", "https://helix.example"));
        assert_eq!((ada.method, ada.tenants.as_slice()), (AuthMethod::Helix, ["org_gcn".to_owned()].as_slice()));
        assert_eq!(ada.roles, ["release_manager", "auditor"]);
        assert_eq!(ada.teams["payments"], ["lead", "member"]);
        assert_eq!(ada.client.as_deref(), Some("dns:helix.internal"));
    }

    #[test]
    fn without_a_listed_certificate_headers_name_nobody() {
        let other = of("dns:elsewhere.internal");
        for certificate in [None, Some(&other)] {
            assert_eq!(principal(&shown(certificate), &issuers(), NOW), Ok(None));
            let both = Shown { authorization: vec!["Bearer x"], ..shown(certificate) };
            assert_eq!(principal(&both, &issuers(), NOW), Ok(None), "the bearer says who it is");
        }
    }

    #[test]
    fn a_listed_certificate_with_a_bearer_alone_is_not_mediated() {
        let certificate = of("dns:helix.internal");
        let asked = Shown { user: Vec::new(), authorization: vec!["Bearer x"], ..shown(Some(&certificate)) };
        assert_eq!(principal(&asked, &issuers(), NOW), Ok(None));
    }

    #[test]
    fn two_names_that_are_no_utf_8_are_never_taken_for_one_person() {
        let certificate = of("dns:helix.internal");
        let latin1 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (one, other) = (latin1(b"J\xe9r"), latin1(b"J\xe8r"));
        assert_eq!(one, other, "as the door has them");
        for asked in [
            Shown { user: vec![&one], ..shown(Some(&certificate)) },
            Shown { roles: vec![&one], ..shown(Some(&certificate)) },
            Shown { teams: vec!["core=\u{FFFD}"], ..shown(Some(&certificate)) },
        ] {
            assert_eq!(principal(&asked, &issuers(), NOW).unwrap_err().cause(), "bad_claim");
        }
        let whole = Shown { user: vec!["J\u{e9}r"], ..shown(Some(&certificate)) };
        assert_eq!(principal(&whole, &issuers(), NOW).unwrap().unwrap().user, "J\u{e9}r");
    }

    #[test]
    fn what_is_said_twice_not_at_all_or_badly_is_refused() {
        let certificate = of("dns:helix.internal");
        let good = shown(Some(&certificate));
        let cause = |asked: &Shown<'_>| principal(asked, &issuers(), NOW).unwrap_err().cause();
        assert_eq!(cause(&Shown { authorization: vec!["Bearer x"], ..good.clone() }), "two_identities");
        assert_eq!(cause(&Shown { user: vec!["ada", "ada"], ..good.clone() }), "bad_claim");
        assert_eq!(cause(&Shown { user: vec![""], ..good.clone() }), "bad_claim");
        assert_eq!(cause(&Shown { user: vec!["a\u{200B}da"], ..good.clone() }), "bad_claim");
        assert_eq!(cause(&Shown { tenant: Vec::new(), ..good.clone() }), "missing_claim");
        assert_eq!(cause(&Shown { tenant: vec!["org_gcn", "org_gcn"], ..good.clone() }), "bad_claim");
        assert_eq!(cause(&Shown { tenant: vec!["org_gcn,org_nordbank"], ..good.clone() }), "bad_claim");
        assert_eq!(cause(&Shown { tenant: vec!["org_other"], ..good.clone() }), "tenant_not_allowed");
        assert_eq!(cause(&Shown { roles: vec!["a,,b"], ..good.clone() }), "bad_claim");
        assert_eq!(cause(&Shown { roles: vec!["a", "b"], ..good.clone() }), "bad_claim");
        assert_eq!(cause(&Shown { teams: vec!["payments"], ..good.clone() }), "bad_claim");
        let many = "r1,".repeat(3) + &(0..70).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(cause(&Shown { roles: vec![&many], ..good }), "bad_claim");
    }
}
