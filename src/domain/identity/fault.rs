//! Every way a credential is refused.
//!
//! Promises: each cause has one label, for the counter, the log and the audit record; the caller
//! learns only `unauthenticated` or `token_expired`. Never carries any part of a token but the
//! key id and issuer it named, cut to a length that a log can bear.
//! Made by `identity::token` and `adapters::keys`; `pep` turns it into a challenge.

use crate::domain::refusal::{Challenge, Code};

/// Why a credential was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthFault {
    /// No `Authorization` header.
    #[error("no credential was sent")]
    Absent,
    /// More than one `Authorization` header.
    #[error("more than one `Authorization` header was sent")]
    Ambiguous,
    /// `Authorization` is not of scheme `Bearer`.
    #[error("the `Authorization` scheme is not `Bearer`")]
    Scheme,
    /// Longer than the cap of its issuer, or than any issuer allows.
    #[error("the token is longer than {max} bytes")]
    TooLarge {
        /// The cap.
        max: usize,
    },
    /// Not a compact JWS of three base64url parts holding two JSON objects.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `alg` is `none` in any spelling, or missing.
    #[error("the token is not signed: `alg` is none or missing")]
    AlgNone,
    /// `alg` is not one that this issuer may use, or not the one of the key named.
    #[error("the token's `alg` is not allowed here")]
    AlgNotAllowed,
    /// `typ` names another kind of token.
    #[error("the token is of another kind than is wanted here")]
    Typ,
    /// `crit` asks for something that is not understood.
    #[error("the token has critical header members")]
    Crit,
    /// The header brings or points to its own key.
    #[error("the token's header names a key source of its own")]
    KeyInHeader,
    /// `iss` is none of the configured issuers.
    #[error("the token's issuer is not configured")]
    UnknownIssuer,
    /// The issuer has no key of that id.
    #[error("issuer `{issuer}` has no key of the id that the token names")]
    UnknownKid {
        /// The issuer's name in the configuration.
        issuer: String,
    },
    /// The signature does not verify.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Lives longer than this issuer's tokens may.
    #[error("the token lives longer than its issuer's tokens may")]
    TooLongLived,
    /// `aud` does not name this gateway.
    #[error("the token is meant for another audience")]
    WrongAudience,
    /// A claim that must be there is not.
    #[error("the token lacks claim `{0}`")]
    MissingClaim(&'static str),
    /// A claim has the wrong type or an impossible value.
    #[error("claim `{0}` has the wrong type or an impossible value")]
    BadClaim(&'static str),
    /// The issuer may not speak for a tenant that the token carries.
    #[error("issuer `{issuer}` may not vouch for a tenant that the token carries")]
    TenantNotAllowed {
        /// The issuer's name in the configuration.
        issuer: String,
    },
    /// A bearer token, and a person named by headers over a certificate that may name people.
    #[error("two identities were sent: a bearer token, and headers over a certificate that may name people")]
    TwoIdentities,
    /// The token is good only over a client certificate that the connection does not have.
    #[error("the token must come over another client certificate than it came over")]
    OtherCertificate,
    /// The issuer says that the token is not active.
    #[error("issuer `{issuer}` says that the token is not active")]
    Inactive {
        /// The issuer's name in the configuration.
        issuer: String,
    },
    /// The issuer cannot be asked whether the token is active. Not the caller's fault.
    #[error("issuer `{issuer}` cannot be asked about the token")]
    CannotAsk {
        /// The issuer's name in the configuration.
        issuer: String,
    },
    /// The issuer's keys were never read, or are older than they may be. Not the caller's fault.
    #[error("the keys of issuer `{issuer}` are not available")]
    KeysUnavailable {
        /// The issuer's name in the configuration.
        issuer: String,
    },
}

impl AuthFault {
    /// Every label that [`AuthFault::cause`] gives, for the metric's label set.
    pub const CAUSES: &'static [&'static str] = &[
        "absent",
        "ambiguous",
        "scheme",
        "too_large",
        "malformed",
        "alg_none",
        "alg_not_allowed",
        "typ",
        "crit",
        "key_in_header",
        "unknown_issuer",
        "unknown_kid",
        "bad_signature",
        "expired",
        "not_yet_valid",
        "too_long_lived",
        "wrong_audience",
        "missing_claim",
        "bad_claim",
        "tenant_not_allowed",
        "two_identities",
        "other_certificate",
        "inactive",
        "cannot_ask",
        "keys_unavailable",
    ];

    /// The label of the counter of refused credentials and of the audit record.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Ambiguous => "ambiguous",
            Self::Scheme => "scheme",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
            Self::AlgNone => "alg_none",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::Typ => "typ",
            Self::Crit => "crit",
            Self::KeyInHeader => "key_in_header",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnknownKid { .. } => "unknown_kid",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::TooLongLived => "too_long_lived",
            Self::WrongAudience => "wrong_audience",
            Self::MissingClaim(_) => "missing_claim",
            Self::BadClaim(_) => "bad_claim",
            Self::TenantNotAllowed { .. } => "tenant_not_allowed",
            Self::TwoIdentities => "two_identities",
            Self::OtherCertificate => "other_certificate",
            Self::Inactive { .. } => "inactive",
            Self::CannotAsk { .. } => "cannot_ask",
            Self::KeysUnavailable { .. } => "keys_unavailable",
        }
    }

    /// What the caller is told: [`Code::TokenExpired`] or [`Code::Unauthenticated`], nothing finer.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Expired => Code::TokenExpired,
            _ => Code::Unauthenticated,
        }
    }

    /// Whether the gateway, not the credential, is at fault: HTTP 503 rather than 401.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::KeysUnavailable { .. } | Self::CannotAsk { .. })
    }

    /// The OAuth challenge that answers it, asking for `scopes`.
    #[must_use]
    pub fn challenge(&self, scopes: Vec<String>) -> Challenge {
        Challenge { code: self.code(), presented: !matches!(self, Self::Absent), scopes, cause: self.cause() }
    }
}
