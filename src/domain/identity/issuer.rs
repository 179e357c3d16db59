//! What one issuer's tokens must look like.
//!
//! Promises: settings that [`IssuerSettings::faults`] finds nothing in cannot let an unsigned,
//! unaimed or symmetric-by-accident token through. Never holds keys: see `identity::keyset`.
//! Filled by `config`, read by `identity::token`.

use crate::domain::identity::{AuthMethod, binding, is_tenant_id};

/// A signature algorithm that tokens may use. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 bits and more.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256; only for tokens that LoopIQ itself issues.
    Hs256,
}

impl Alg {
    /// Every algorithm.
    pub const ALL: &'static [Self] = &[Self::Rs256, Self::Es256, Self::EdDsa, Self::Hs256];

    /// The algorithm of that exact JOSE name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|alg| alg.as_str() == name)
    }

    /// Its JOSE name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }
}

/// Which claim fills which field. A name that begins with `/` is a JSON pointer into the claims;
/// any other is the claim of exactly that name, so `https://loopiq.example/tenants` works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMap {
    /// Who the user is; a string, required.
    pub user: String,
    /// Organisations; an array of strings, or one string.
    pub tenants: String,
    /// The active organisation; a string.
    pub active_tenant: String,
    /// Organisation roles; an array of strings.
    pub roles: String,
    /// Team roles; an object of team to array of roles.
    pub teams: String,
    /// Direct permissions; an array of strings.
    pub permissions: String,
    /// Scopes; a space-separated string or an array of strings.
    pub scopes: String,
    /// The OAuth client; a string.
    pub client: String,
}

impl Default for ClaimMap {
    fn default() -> Self {
        Self {
            user: "sub".to_owned(),
            tenants: "tenants".to_owned(),
            active_tenant: "active_tenant".to_owned(),
            roles: "roles".to_owned(),
            teams: "teams".to_owned(),
            permissions: "permissions".to_owned(),
            scopes: "scope".to_owned(),
            client: "client_id".to_owned(),
        }
    }
}

/// How tokens of one issuer are checked and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Its name in the configuration, in logs and in health; not secret.
    pub name: String,
    /// `iss`, compared byte for byte.
    pub issuer: String,
    /// `aud` must name one of these, byte for byte.
    pub audiences: Vec<String>,
    /// What kind of credential its tokens are; becomes `input.caller.method`.
    pub kind: AuthMethod,
    /// Algorithms its tokens may use.
    pub algs: Vec<Alg>,
    /// Seconds that clocks may differ. Turning it up lets expired tokens live longer.
    pub leeway_s: i64,
    /// Which claim fills which field.
    pub claims: ClaimMap,
    /// The `typ` its tokens must have. `None` accepts no `typ`, `JWT` and `at+jwt`.
    pub require_typ: Option<String>,
    /// Longest `exp - iat` in seconds; when set, `iat` is required.
    pub lifetime_max_s: Option<i64>,
    /// Longest token in bytes.
    pub token_bytes_max: usize,
    /// Tenants this issuer may vouch for, such as those of a service account; empty means any.
    pub tenants_allowed: Vec<String>,
    /// Whether a credential must name exactly one tenant.
    pub one_tenant: bool,
    /// Client certificates by name (`dns:…`, `uri:…`, `sha256:…`): its tokens must come over one of
    /// these. Empty: over any connection.
    pub certificates: Vec<String>,
    /// What its opaque tokens begin with; empty means that they cannot be told by their beginning.
    pub token_prefix: String,
}

/// Seconds that clocks may differ, unless told otherwise.
pub const LEEWAY_S: i64 = 60;
/// Longest token unless told otherwise: larger ones do not fit the header limits of common proxies.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// `typ` of the assertion by which LoopIQ vouches for the user of a Helix session.
pub const SESSION_TYP: &str = "loopiq-session+jwt";
/// Longest life of such an assertion: the session may end at any time, and nobody tells the gateway.
pub const SESSION_LIFETIME_MAX_S: i64 = 5 * 60;

/// `typ` of an approval, byte for byte.
pub const APPROVAL_TYP: &str = "approval+jwt";
/// Longest life of an approval: nobody can take one back that no ledger has seen yet.
pub const APPROVAL_LIFETIME_MAX_S: i64 = 15 * 60;

impl IssuerSettings {
    /// Settings with the defaults: asymmetric algorithms, 60 s leeway, 8 KiB.
    #[must_use]
    pub fn new(name: impl Into<String>, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            kind: AuthMethod::Oauth,
            algs: vec![Alg::Rs256, Alg::Es256, Alg::EdDsa],
            leeway_s: LEEWAY_S,
            claims: ClaimMap::default(),
            require_typ: None,
            lifetime_max_s: None,
            token_bytes_max: TOKEN_BYTES_MAX,
            tenants_allowed: Vec::new(),
            one_tenant: false,
            certificates: Vec::new(),
            token_prefix: String::new(),
        }
    }

    /// The same for callers of this kind, which may be held to more.
    #[must_use]
    pub fn of_kind(self, kind: AuthMethod) -> Self {
        match kind {
            AuthMethod::Helix => Self {
                kind,
                require_typ: Some(SESSION_TYP.to_owned()),
                lifetime_max_s: Some(SESSION_LIFETIME_MAX_S),
                one_tenant: true,
                ..self
            },
            AuthMethod::Oauth | AuthMethod::Loopiq | AuthMethod::ServiceAccount => Self { kind, ..self },
        }
    }

    /// Settings of an issuer of approvals: nothing else of its is accepted, and its tokens live for minutes.
    #[must_use]
    pub fn of_approvals(name: impl Into<String>, issuer: impl Into<String>) -> Self {
        Self {
            kind: AuthMethod::Loopiq,
            audiences: Vec::new(),
            require_typ: Some(APPROVAL_TYP.to_owned()),
            lifetime_max_s: Some(APPROVAL_LIFETIME_MAX_S),
            ..Self::new(name, issuer, "")
        }
    }

    /// What is wrong with these settings, as (field, what and remedy); all of it at once.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |bad: bool, field: &'static str, words: &str| {
            if bad {
                faults.push((field, words.to_owned()));
            }
        };
        fault(self.name.is_empty(), "name", "is empty; name the issuer");
        fault(self.issuer.is_empty(), "issuer", "is empty; give the exact `iss` of its tokens");
        // WHY: an approval names its ledger, and that has its name from the ledger, not from the settings.
        let aimed_elsewhere = self.require_typ.as_deref() == Some(APPROVAL_TYP);
        fault(
            !aimed_elsewhere && (self.audiences.is_empty() || self.audiences.iter().any(String::is_empty)),
            "audiences",
            "names no audience; give the gateway's own resource URL, else tokens made for others would do",
        );
        fault(self.algs.is_empty(), "algs", "is empty; name at least one of RS256, ES256, EdDSA");
        fault(
            self.algs.contains(&Alg::Hs256) && self.kind != AuthMethod::Loopiq,
            "algs",
            "HS256 is only for issuers of kind `loopiq`; use RS256, ES256 or EdDSA",
        );
        fault(
            self.algs.contains(&Alg::Hs256) && self.algs.len() > 1,
            "algs",
            "HS256 cannot stand beside other algorithms; make it an issuer of its own",
        );
        fault(!(0..=300).contains(&self.leeway_s), "leeway", "must lie between 0 s and 300 s");
        fault(self.lifetime_max_s.is_some_and(|s| s <= 0), "lifetime_max", "must be more than 0 s");
        fault(
            !(256..=64 * 1024).contains(&self.token_bytes_max),
            "token_bytes_max",
            "must lie between 256 B and 64 KiB",
        );
        fault(
            self.tenants_allowed.iter().any(|tenant| !is_tenant_id(tenant)),
            "tenants_allowed",
            "holds something that is not a tenant id",
        );
        fault(
            self.kind == AuthMethod::ServiceAccount && self.tenants_allowed.is_empty(),
            "tenants",
            "is empty; list the tenants that service accounts of this issuer may work for",
        );
        fault(
            self.certificates.iter().any(|name| !binding::is_name(name)),
            "certificates",
            "holds something that names no certificate; write dns:NAME, uri:URI or sha256:HEX",
        );
        faults
    }
}
