//! An approval that LoopIQ itself issued: a signed token becomes a [`SignedApproval`], or the reason why not.
//!
//! Promises: good for one ledger, which it names alone; for one action, by digest; for minutes. Only
//! the configured issuers of approvals are believed, and only tokens of the one `typ`: an access
//! token is no approval and an approval lets nobody in. The requester's own vote is left out, and a
//! person votes once. Never says whether it was used before, nor whether its time has passed: one
//! that was used in time still names what it was used for, so its ticket tells both.
//! Called by `adapters::keys`; becomes a ticket in `domain::approval`.

use serde_json::{Map, Value, json};

use crate::domain::canonical;
use crate::domain::canonical::NotCanonical;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::is_tenant_id;
use crate::domain::identity::issuer::{APPROVAL_TYP, IssuerSettings};
use crate::domain::identity::token;
use crate::domain::identity::token::{Issuer, Kind};

/// Longest approval id, its prefix with it: it travels in headers.
const ID_BYTES_MAX: usize = 255;
/// Most votes in one approval.
const VOTES_MAX: usize = 64;

/// An approval of a configured issuer, its signature, form, start and ledger checked; its end is its ticket's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedApproval {
    /// What the ledger knows it by: `ext_<issuer's name>.<jti>`, which no approval of our own is called.
    pub id: String,
    /// Who issued it: `iss`.
    pub issuer: String,
    /// For which organisation.
    pub tenant: String,
    /// Who may use it.
    pub requester: String,
    /// The issuer that must vouch for them; any, when the approval names none.
    pub requester_issuer: Option<String>,
    /// What was approved: see [`action_digest`].
    pub action_digest: String,
    /// Who agreed, each once, never the requester, at least one.
    pub votes: Vec<SignedVote>,
    /// When it was issued: milliseconds since the Unix epoch.
    pub issued_ms: i64,
    /// Until when it is good.
    pub expires_ms: i64,
}

/// One person who agreed, as the issuer tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedVote {
    /// The issuer that vouches for them.
    pub issuer: String,
    /// Who.
    pub user: String,
    /// Their organisation roles then.
    pub roles: Vec<String>,
    /// The teams they were in then.
    pub teams: Vec<String>,
}

/// SHA-256 (hex) over the RFC 8785 form of what is to be done: the claim `psh`.
///
/// `arguments` are those of the tool, without `dryRun`, `approvalId` and `idempotencyKey`.
pub fn action_digest(
    tenant: &str,
    user: &str,
    tool: &str,
    arguments: &Map<String, Value>,
) -> Result<String, NotCanonical> {
    canonical::digest_value(&json!({"v": 1, "tenant": tenant, "user": user, "tool": tool, "arguments": arguments}))
}

/// Checks an approval that is to be used in `ledger` at time `now` (seconds since the epoch).
///
/// One whose time has passed is given too. WHY: whoever lost the answer asks again with the same
/// token, perhaps too late to use it and never too late to hear what came of it. It cannot be used:
/// its ticket ends with it ([`SignedApproval::expires_ms`]).
pub fn verify(token: &str, issuers: &[Issuer], ledger: &str, now: i64) -> Result<SignedApproval, AuthFault> {
    if issuers.is_empty() {
        return Err(AuthFault::UnknownIssuer);
    }
    let (issuer, claims) = token::signed(token, issuers, Kind::Typ(APPROVAL_TYP))?;
    check_ledger(&claims, ledger)?;
    match token::check_times(&claims, &issuer.settings, now) {
        Ok(()) | Err(AuthFault::Expired) => {}
        Err(fault) => return Err(fault),
    }
    approval(&issuer.settings, &claims)
}

/// The audience is one ledger. WHY no list: each ledger of a list would let it be used once.
fn check_ledger(claims: &Map<String, Value>, ledger: &str) -> Result<(), AuthFault> {
    match claims.get("aud") {
        None => Err(AuthFault::MissingClaim("aud")),
        Some(Value::String(aud)) if !ledger.is_empty() && aud == ledger => Ok(()),
        Some(Value::String(_)) => Err(AuthFault::WrongAudience),
        Some(_) => Err(AuthFault::BadClaim("aud")),
    }
}

fn approval(settings: &IssuerSettings, claims: &Map<String, Value>) -> Result<SignedApproval, AuthFault> {
    let required = |claim: &'static str| claims.get(claim).ok_or(AuthFault::MissingClaim(claim));
    let time = |claim: &'static str| token::seconds(claims, claim)?.ok_or(AuthFault::MissingClaim(claim));
    time("nbf")?;
    let (issued, expires) = (time("iat")?, time("exp")?);
    if expires < issued {
        return Err(AuthFault::BadClaim("exp"));
    }
    let tenant = required("tid")?.as_str().filter(|tenant| is_tenant_id(tenant)).ok_or(AuthFault::BadClaim("tid"))?;
    if !settings.tenants_allowed.is_empty() && !settings.tenants_allowed.iter().any(|allowed| allowed == tenant) {
        return Err(AuthFault::TenantNotAllowed { issuer: settings.name.clone() });
    }
    let requester = token::user(claims.get("sub"), "sub")?;
    Ok(SignedApproval {
        id: id(&settings.name, required("jti")?)?,
        issuer: settings.issuer.clone(),
        tenant: tenant.to_owned(),
        requester_issuer: token::text(claims.get("req_iss"), "req_iss")?,
        action_digest: sha256(required("psh")?)?,
        votes: votes(required("votes")?, &settings.issuer, &requester)?,
        requester,
        issued_ms: issued.saturating_mul(1000),
        expires_ms: expires.saturating_mul(1000),
    })
}

/// WHY a full stop between: no issuer's name has one, so two issuers' approvals never share an id.
fn id(issuer: &str, jti: &Value) -> Result<String, AuthFault> {
    let bad = AuthFault::BadClaim("jti");
    let visible = |jti: &&str| !jti.is_empty() && jti.bytes().all(|byte| (0x21..=0x7E).contains(&byte));
    let id = format!("ext_{issuer}.{}", jti.as_str().filter(visible).ok_or(bad.clone())?);
    if id.len() <= ID_BYTES_MAX { Ok(id) } else { Err(bad) }
}

fn sha256(value: &Value) -> Result<String, AuthFault> {
    let is_hex = |text: &&str| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    value.as_str().filter(is_hex).map(str::to_owned).ok_or(AuthFault::BadClaim("psh"))
}

/// The votes of others than the requester.
fn votes(value: &Value, issuer: &str, requester: &str) -> Result<Vec<SignedVote>, AuthFault> {
    let bad = || AuthFault::BadClaim("votes");
    let items = value.as_array().filter(|items| items.len() <= VOTES_MAX).ok_or_else(bad)?;
    let mut votes: Vec<SignedVote> = Vec::with_capacity(items.len());
    for item in items {
        let vote = vote(item.as_object().ok_or_else(bad)?, issuer)?;
        // WHY by user alone, here and below: two issuers may name one person, and a person votes once.
        if votes.iter().any(|cast| cast.user == vote.user) {
            return Err(bad());
        }
        votes.push(vote);
    }
    votes.retain(|vote| vote.user != requester);
    if votes.is_empty() { Err(bad()) } else { Ok(votes) }
}

fn vote(members: &Map<String, Value>, issuer: &str) -> Result<SignedVote, AuthFault> {
    // WHY: a member that is not understood might say that the vote is a no.
    if members.keys().any(|name| !["user", "issuer", "roles", "teams"].contains(&name.as_str())) {
        return Err(AuthFault::BadClaim("votes"));
    }
    let named = token::text(members.get("issuer"), "votes")?;
    Ok(SignedVote {
        issuer: named.unwrap_or_else(|| issuer.to_owned()),
        user: token::user(members.get("user"), "votes")?,
        roles: token::names(members.get("roles"), "votes")?,
        teams: token::names(members.get("teams"), "votes")?,
    })
}

#[cfg(test)]
mod tests;
