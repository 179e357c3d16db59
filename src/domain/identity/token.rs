//! A bearer token becomes a [`Principal`], or the reason why not.
//!
//! Promises: nothing in a token is believed before its signature is verified, but for the names
//! of issuer and key that choose what to verify it with; only a configured issuer's own algorithm
//! and key count; every standard claim is checked; a claim of the wrong type is refused, never
//! converted. Never reads a clock, fetches a key or remembers a token.
//! Called by `adapters::keys`; [`credentials`] by `pep`; its parts by the rooms of other kinds of token.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::domain::identity::binding;
use crate::domain::identity::binding::Admitted;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::{Alg, IssuerSettings};
use crate::domain::identity::keyset::{Check, KeySet, is_kid};
use crate::domain::identity::{Principal, is_tenant_id, strict};

/// Longest user, role, team, permission, scope or client name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// An issuer with the keys it has at the moment.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// How its tokens are checked and read.
    pub settings: Arc<IssuerSettings>,
    /// Its keys; `None` while there are none that may be trusted.
    pub keys: Option<Arc<KeySet>>,
}

/// The bearer token among the values of every `Authorization` header of a request.
///
/// Tokens are taken from nowhere else: not from the query string, not from a body, not from a cookie.
pub fn credentials<'a>(authorization: &[&'a str]) -> Result<&'a str, AuthFault> {
    let value = match authorization {
        [] => return Err(AuthFault::Absent),
        [value] => *value,
        [_, _, ..] => return Err(AuthFault::Ambiguous),
    };
    let (scheme, token) = value.split_once(' ').ok_or(AuthFault::Scheme)?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(AuthFault::Scheme);
    }
    let token = token.trim_start_matches(' ');
    if token.is_empty() { Err(AuthFault::Malformed("no token follows `Bearer`")) } else { Ok(token) }
}

/// Checks a bearer token against every configured issuer at time `now` (seconds since the epoch).
///
/// What it gives is not yet anybody: see [`Admitted::over`].
pub fn admit(bearer: &str, issuers: &[Issuer], now: i64) -> Result<Admitted, AuthFault> {
    let (issuer, claims) = verified(bearer, issuers, now)?;
    admitted(&issuer.settings, &claims)
}

/// The same where no client certificate can have come with the token.
pub fn authenticate(bearer: &str, issuers: &[Issuer], now: i64) -> Result<Principal, AuthFault> {
    let admitted = admit(bearer, issuers, now)?;
    Ok((*admitted.over(None)?).clone())
}

/// Checked claims as a principal, with what the token is bound to.
pub(super) fn admitted(settings: &Arc<IssuerSettings>, claims: &Map<String, Value>) -> Result<Admitted, AuthFault> {
    let principal = principal(settings, claims)?;
    Ok(Admitted::new(principal, binding::of_claims(claims)?, Arc::clone(settings)))
}

/// The issuer of a token and its claims, all of them checked but for the fields of a principal.
pub(super) fn verified<'i>(
    bearer: &str,
    issuers: &'i [Issuer],
    now: i64,
) -> Result<(&'i Issuer, Map<String, Value>), AuthFault> {
    let (issuer, claims) = signed(bearer, issuers, Kind::AsConfigured)?;
    check_audience(&claims, &issuer.settings)?;
    check_times(&claims, &issuer.settings, now)?;
    Ok((issuer, claims))
}

/// What kind of token is wanted; a token of another kind is refused however well it is signed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// What the issuer's settings say, which is an access token unless they name another `typ`.
    AsConfigured,
    /// Exactly this `typ`, byte for byte.
    Typ(&'static str),
}

/// The issuer of a token and its claims, the signature checked. Audience and times are the caller's to check.
pub(super) fn signed<'i>(
    bearer: &str,
    issuers: &'i [Issuer],
    kind: Kind,
) -> Result<(&'i Issuer, Map<String, Value>), AuthFault> {
    let max = issuers.iter().map(|issuer| issuer.settings.token_bytes_max).max().unwrap_or(0);
    if bearer.len() > max {
        return Err(AuthFault::TooLarge { max });
    }
    let token = Unverified::parse(bearer)?;
    let iss = token.claims.get("iss").ok_or(AuthFault::MissingClaim("iss"))?;
    let iss = iss.as_str().ok_or(AuthFault::BadClaim("iss"))?;
    let issuer = issuers.iter().find(|issuer| issuer.settings.issuer == iss).ok_or(AuthFault::UnknownIssuer)?;
    let settings = &*issuer.settings;
    if bearer.len() > settings.token_bytes_max {
        return Err(AuthFault::TooLarge { max: settings.token_bytes_max });
    }
    match kind {
        Kind::AsConfigured => check_typ(&token, settings)?,
        Kind::Typ(typ) if token.typ.as_deref() == Some(typ) => {}
        Kind::Typ(_) => return Err(AuthFault::Typ),
    }
    if !settings.algs.contains(&token.alg) {
        return Err(AuthFault::AlgNotAllowed);
    }
    let keys = issuer.keys.as_ref().ok_or_else(|| AuthFault::KeysUnavailable { issuer: settings.name.clone() })?;
    match keys.verify(token.kid.as_deref(), token.alg, token.message, token.signature) {
        Check::Good => {}
        Check::Bad => return Err(AuthFault::BadSignature),
        Check::NoSuchKey => return Err(AuthFault::UnknownKid { issuer: settings.name.clone() }),
        Check::OtherAlg => return Err(AuthFault::AlgNotAllowed),
    }
    Ok((issuer, token.claims))
}

/// A token taken apart. INVARIANT: leaves this file only after its signature was verified.
struct Unverified<'a> {
    alg: Alg,
    kid: Option<String>,
    typ: Option<String>,
    claims: Map<String, Value>,
    message: &'a str,
    signature: &'a str,
}

impl<'a> Unverified<'a> {
    fn parse(bearer: &'a str) -> Result<Self, AuthFault> {
        let mut parts = bearer.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AuthFault::Malformed("not three parts"));
        };
        let message = bearer
            .strip_suffix(signature)
            .and_then(|rest| rest.strip_suffix('.'))
            .ok_or(AuthFault::Malformed("not three parts"))?;
        let header = strict::decode(header)
            .and_then(|bytes| strict::object(&bytes, bearer.len()))
            .ok_or(AuthFault::Malformed("the header is not base64url of a JSON object"))?;
        let (alg, kid, typ) = read_header(&header)?;
        if signature.is_empty() || strict::decode(signature).is_none() {
            return Err(AuthFault::Malformed("the signature is not base64url"));
        }
        let claims = strict::decode(payload)
            .and_then(|bytes| strict::object(&bytes, bearer.len()))
            .ok_or(AuthFault::Malformed("the claims are not base64url of a JSON object"))?;
        Ok(Self { alg, kid, typ, claims, message, signature })
    }
}

fn read_header(header: &Map<String, Value>) -> Result<(Alg, Option<String>, Option<String>), AuthFault> {
    let text = |member: &str| match header.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(AuthFault::Malformed("a header member that must be text is not")),
    };
    let alg = text("alg")?.ok_or(AuthFault::AlgNone)?;
    if alg.eq_ignore_ascii_case("none") {
        return Err(AuthFault::AlgNone);
    }
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(AuthFault::Crit);
    }
    if ["jku", "jwk", "x5u", "x5c"].iter().any(|member| header.contains_key(*member)) {
        return Err(AuthFault::KeyInHeader);
    }
    if ["enc", "zip", "cty"].iter().any(|member| header.contains_key(*member)) {
        return Err(AuthFault::Malformed("encrypted, compressed and nested tokens are not accepted"));
    }
    let kid = text("kid")?;
    if kid.as_deref().is_some_and(|kid| !is_kid(kid)) {
        return Err(AuthFault::Malformed("`kid` is empty, too long or not printable"));
    }
    Ok((Alg::named(&alg).ok_or(AuthFault::AlgNotAllowed)?, kid, text("typ")?))
}

/// Refuses tokens made for another purpose: id tokens, refresh tokens, approvals, assertions.
fn check_typ(token: &Unverified<'_>, settings: &IssuerSettings) -> Result<(), AuthFault> {
    let typ = token.typ.as_deref().map(bare_typ);
    let fits = match (typ, settings.require_typ.as_deref().map(bare_typ)) {
        (Some(typ), Some(required)) => typ.eq_ignore_ascii_case(required),
        (None, Some(_)) => false,
        (Some(typ), None) => ["JWT", "at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known)),
        (None, None) => true,
    };
    if fits { check_use(&token.claims) } else { Err(AuthFault::Typ) }
}

/// Refuses claims that say themselves that they are not those of an access token.
///
/// WHY: issuers that give every token the same `typ` tell them apart in the claims: `OpenID Connect` by
/// hashes that only id tokens carry, Cognito and Hydra by `token_use`, Keycloak by a claim `typ`.
pub(super) fn check_use(claims: &Map<String, Value>) -> Result<(), AuthFault> {
    let claim_is = |claim: &str, values: &[&str]| {
        claims.get(claim).and_then(Value::as_str).is_some_and(|v| values.iter().any(|x| v.eq_ignore_ascii_case(x)))
    };
    let other_use = ["at_hash", "c_hash", "s_hash"].iter().any(|claim| claims.contains_key(*claim))
        || claims.contains_key("token_use") && !claim_is("token_use", &["access", "access_token"])
        || claim_is("typ", &["ID", "Refresh", "Offline", "Logout"]);
    if other_use { Err(AuthFault::Typ) } else { Ok(()) }
}

/// A media type without `application/`, as RFC 7515 section 4.1.9 allows it to be written.
fn bare_typ(typ: &str) -> &str {
    match typ.split_once('/') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("application") => rest,
        _ => typ,
    }
}

pub(super) fn check_audience(claims: &Map<String, Value>, settings: &IssuerSettings) -> Result<(), AuthFault> {
    let ours = |aud: &str| settings.audiences.iter().any(|audience| audience == aud);
    let meant = match claims.get("aud") {
        None => return Err(AuthFault::MissingClaim("aud")),
        Some(Value::String(aud)) => ours(aud),
        Some(Value::Array(auds)) => {
            let auds: Option<Vec<&str>> = auds.iter().map(Value::as_str).collect();
            auds.ok_or(AuthFault::BadClaim("aud"))?.into_iter().any(ours)
        }
        Some(_) => return Err(AuthFault::BadClaim("aud")),
    };
    if meant { Ok(()) } else { Err(AuthFault::WrongAudience) }
}

/// Whether the token lives now, within the leeway, and no longer than its issuer's tokens may.
pub(super) fn check_times(claims: &Map<String, Value>, settings: &IssuerSettings, now: i64) -> Result<(), AuthFault> {
    let exp = seconds(claims, "exp")?.ok_or(AuthFault::MissingClaim("exp"))?;
    let (nbf, iat) = (seconds(claims, "nbf")?, seconds(claims, "iat")?);
    if let Some(max) = settings.lifetime_max_s {
        let iat = iat.ok_or(AuthFault::MissingClaim("iat"))?;
        if exp.saturating_sub(iat) > max {
            return Err(AuthFault::TooLongLived);
        }
    }
    if now >= exp.saturating_add(settings.leeway_s) {
        return Err(AuthFault::Expired);
    }
    let soonest = now.saturating_add(settings.leeway_s);
    if nbf.is_some_and(|nbf| nbf > soonest) || iat.is_some_and(|iat| iat > soonest) {
        return Err(AuthFault::NotYetValid);
    }
    Ok(())
}

/// A time claim: a whole number of seconds, not before 1970.
pub(super) fn seconds(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<i64>, AuthFault> {
    match claims.get(claim) {
        None => Ok(None),
        Some(value) => value.as_i64().filter(|s| *s >= 0).map(Some).ok_or(AuthFault::BadClaim(claim)),
    }
}

fn principal(settings: &IssuerSettings, claims: &Map<String, Value>) -> Result<Principal, AuthFault> {
    let map = &settings.claims;
    let user = user(claim(claims, &map.user), "user")?;
    let tenants = tenants(claim(claims, &map.tenants))?;
    if !settings.tenants_allowed.is_empty() && !tenants.iter().all(|tenant| settings.tenants_allowed.contains(tenant)) {
        return Err(AuthFault::TenantNotAllowed { issuer: settings.name.clone() });
    }
    if settings.one_tenant && tenants.len() != 1 {
        return Err(AuthFault::BadClaim("tenants"));
    }
    let active_tenant = text(claim(claims, &map.active_tenant), "active_tenant")?;
    if active_tenant.as_deref().is_some_and(|tenant| !is_tenant_id(tenant)) {
        return Err(AuthFault::BadClaim("active_tenant"));
    }
    Ok(Principal {
        user,
        issuer: settings.issuer.clone(),
        method: settings.kind,
        client: text(claim(claims, &map.client), "client")?,
        tenants,
        active_tenant,
        roles: names(claim(claims, &map.roles), "roles")?,
        teams: teams(claim(claims, &map.teams))?,
        permissions: names(claim(claims, &map.permissions), "permissions")?,
        scopes: scopes(claim(claims, &map.scopes))?,
        expires_at: seconds(claims, "exp")?.ok_or(AuthFault::MissingClaim("exp"))?,
    })
}

/// The claim that a [`crate::domain::identity::issuer::ClaimMap`] entry names; JSON `null` counts as absent.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = match name.strip_prefix('/') {
        None => claims.get(name),
        Some(pointer) => {
            let mut steps = pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
            let first = steps.next().and_then(|step| claims.get(&step));
            steps.fold(first, |value, step| value.and_then(|value| value.as_object()?.get(&step)))
        }
    };
    found.filter(|value| !value.is_null())
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Characters that show nothing, or reorder what is shown: two users must not look like one.
///
/// The default-ignorable code points of Unicode, its format characters, separators of lines and
/// paragraphs, and what has no meaning of its own (private use, noncharacters).
fn is_unseen(c: char) -> bool {
    matches!(
        u32::from(c),
        0xAD | 0x34F
            | 0x600..=0x605
            | 0x61C
            | 0x6DD
            | 0x70F
            | 0x115F..=0x1160
            | 0x17B4..=0x17B5
            | 0x180B..=0x180F
            | 0x200B..=0x200F
            | 0x2028..=0x202E
            | 0x2060..=0x206F
            | 0x3164
            | 0xE000..=0xF8FF
            | 0xFDD0..=0xFDEF
            | 0xFE00..=0xFE0F
            | 0xFEFF
            | 0xFFA0
            | 0xFFF0..=0xFFFB
            | 0x1BCA0..=0x1BCA3
            | 0x1D173..=0x1D17A
            | 0xE0000..
    )
}

/// A user as an issuer names them; nothing in the name may hide.
pub(super) fn user(value: Option<&Value>, field: &'static str) -> Result<String, AuthFault> {
    let user = text(value, field)?.ok_or(AuthFault::MissingClaim(field))?;
    if user.trim() == user && !user.chars().any(is_unseen) { Ok(user) } else { Err(AuthFault::BadClaim(field)) }
}

/// A name of any kind.
pub(super) fn text(value: Option<&Value>, field: &'static str) -> Result<Option<String>, AuthFault> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) if is_name(text) => Ok(Some(text.clone())),
        Some(_) => Err(AuthFault::BadClaim(field)),
    }
}

/// An array of names, each once, in the token's order.
pub(super) fn names(value: Option<&Value>, field: &'static str) -> Result<Vec<String>, AuthFault> {
    let items = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(AuthFault::BadClaim(field)),
    };
    let mut names = Vec::with_capacity(items.len());
    for item in items {
        let name = item.as_str().filter(|name| is_name(name)).ok_or(AuthFault::BadClaim(field))?;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// An array of tenant ids, or one id. WHY a bare string is safe: the grammar of ids has no separator.
fn tenants(value: Option<&Value>) -> Result<Vec<String>, AuthFault> {
    let tenants = match value {
        Some(Value::String(only)) => vec![only.clone()],
        other => names(other, "tenants")?,
    };
    if tenants.iter().all(|tenant| is_tenant_id(tenant)) { Ok(tenants) } else { Err(AuthFault::BadClaim("tenants")) }
}

fn teams(value: Option<&Value>) -> Result<BTreeMap<String, Vec<String>>, AuthFault> {
    match value {
        None => Ok(BTreeMap::new()),
        Some(Value::Object(teams)) => teams
            .iter()
            .map(|(team, roles)| {
                if is_name(team) {
                    Ok((team.clone(), names(Some(roles), "teams")?))
                } else {
                    Err(AuthFault::BadClaim("teams"))
                }
            })
            .collect(),
        Some(_) => Err(AuthFault::BadClaim("teams")),
    }
}

/// Scopes as RFC 8693 writes them (one string, spaces between), or as an array of strings.
fn scopes(value: Option<&Value>) -> Result<Vec<String>, AuthFault> {
    match value {
        Some(Value::String(text)) => {
            let words: Vec<Value> = text.split(' ').filter(|word| !word.is_empty()).map(Value::from).collect();
            names(Some(&Value::Array(words)), "scopes")
        }
        other => names(other, "scopes"),
    }
}

#[cfg(test)]
mod tests;
