//! Keys of the configured issuers, and the tokens that they have vouched for.
//!
//! Promises: a token is verified once and remembered until it expires or its issuer's keys change,
//! whichever comes first; keys are read again on a schedule and when a token names an unknown one,
//! never more often than a stranger may cause; the last good keys serve through an outage until
//! they are too old, and then nobody gets in. Issuers of approvals are kept apart from those of
//! callers: neither is ever asked about the other's tokens. Never sends a token anywhere, never logs one.
//! Called by `pep`; `run` belongs to `app`.

pub mod dev;
mod issuer;
pub mod source;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use moka::Expiry;
use moka::sync::Cache;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::adapters::keys::issuer::HeldIssuer;
use crate::adapters::keys::source::FETCH_TIMEOUT;
use crate::adapters::keys::source::KeySource;
use crate::adapters::keys::source::Reader;
use crate::domain::identity::approval_token;
use crate::domain::identity::approval_token::SignedApproval;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::keyset::KeySet;
use crate::domain::identity::token::Issuer;
use crate::domain::identity::token::authenticate;
use crate::domain::identity::{KeyHealth, Principal};
use crate::pep::ports;

/// Time between two readings of an issuer's keys, unless told otherwise.
pub const REFRESH: Duration = Duration::from_mins(5);
/// Age at which keys that cannot be read again are no longer trusted, unless told otherwise.
pub const MAX_STALE: Duration = Duration::from_hours(1);
/// Shortest time between two fetches that unknown keys may cause, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Memory for verified tokens: some 30 000 of common size.
const VERIFIED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What a remembered token costs besides its own bytes, roughly.
const VERIFIED_OVERHEAD_BYTES: usize = 512;

/// One issuer and where its keys come from.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// How its tokens are checked and read.
    pub settings: IssuerSettings,
    /// Where its keys come from.
    pub source: KeySource,
    /// Time between two readings.
    pub refresh: Duration,
    /// Age at which keys that cannot be read again are no longer trusted.
    pub max_stale: Duration,
    /// Shortest time between the end of one reading and the next that an unknown key may cause.
    /// Turning it down lets strangers with made-up tokens make the gateway fetch more often.
    pub patience: Duration,
    /// Whether the keys may be fetched over plain HTTP from a host that is not this machine.
    pub plain_http: bool,
}

impl IssuerConfig {
    /// An issuer with the default schedule.
    #[must_use]
    pub fn new(settings: IssuerSettings, source: KeySource) -> Self {
        let patience = match source {
            KeySource::Url(_) => PATIENCE,
            // Reading a file costs next to nothing.
            KeySource::File(_) | KeySource::Secret(_) | KeySource::Inline(_) => Duration::from_secs(1),
        };
        Self { settings, source, refresh: REFRESH, max_stale: MAX_STALE, patience, plain_http: false }
    }
}

/// Why the issuers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum KeysFault {
    /// Settings that would let the wrong tokens in.
    #[error("issuer `{issuer}`: `{field}` {words}")]
    Settings {
        /// The issuer's name in the configuration.
        issuer: String,
        /// The setting.
        field: &'static str,
        /// What is wrong and what to do.
        words: String,
    },
    /// Two issuers that cannot be told apart.
    #[error("issuers `{0}` and `{1}` have the same name or the same `iss`; make them one or correct one")]
    Twice(String, String),
    /// The HTTP client cannot be made.
    #[error("the client that fetches keys cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// The configured issuers, their keys, and the tokens verified with them.
pub struct Keys {
    issuers: Vec<HeldIssuer>,
    /// Those whose approvals count.
    approvers: Vec<HeldIssuer>,
    reader: Reader,
    verified: Cache<String, Verified>,
}

/// A token that was verified, with the keys that verified it.
#[derive(Clone)]
struct Verified {
    principal: Arc<Principal>,
    issuer: usize,
    keys: Arc<KeySet>,
    fresh_for: Duration,
}

/// Drops a remembered token when it expires.
struct UntilExpiry;

impl Expiry<String, Verified> for UntilExpiry {
    fn expire_after_create(&self, _: &String, token: &Verified, _: std::time::Instant) -> Option<Duration> {
        Some(token.fresh_for)
    }
}

impl Keys {
    /// The issuers configured; reads nothing yet, see [`Keys::load`] and [`Keys::run`].
    pub fn new(configs: Vec<IssuerConfig>) -> Result<Self, KeysFault> {
        check_all(&configs)?;
        let verified = Cache::builder()
            .max_capacity(VERIFIED_BYTES_MAX)
            .weigher(|token: &String, _: &Verified| {
                u32::try_from(token.len().saturating_add(VERIFIED_OVERHEAD_BYTES)).unwrap_or(u32::MAX)
            })
            .expire_after(UntilExpiry)
            .build();
        Ok(Self {
            issuers: configs.into_iter().map(HeldIssuer::new).collect(),
            approvers: Vec::new(),
            reader: Reader::new(FETCH_TIMEOUT)?,
            verified,
        })
    }

    /// The same with issuers of approvals, whose settings are [`IssuerSettings::of_approvals`].
    pub fn with_approvers(self, configs: Vec<IssuerConfig>) -> Result<Self, KeysFault> {
        check_all(&configs)?;
        Ok(Self { approvers: configs.into_iter().map(HeldIssuer::new).collect(), ..self })
    }

    fn all(&self) -> impl Iterator<Item = &HeldIssuer> {
        self.issuers.iter().chain(&self.approvers)
    }

    /// Reads every issuer's keys once. One that cannot be read is in [`Keys::health`] and refuses its tokens.
    pub async fn load(&self) {
        join_all(self.all().map(|issuer| issuer.refresh(&self.reader))).await;
    }

    /// Keeps the keys fresh until told to stop. Without it nothing is ever read again.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        join_all(self.all().map(|issuer| issuer.keep(&self.reader, shutdown.clone()))).await;
    }

    /// What is known of each issuer's keys.
    #[must_use]
    pub fn health(&self) -> Vec<KeyHealth> {
        self.issuers.iter().map(|issuer| issuer.health(Instant::now())).collect()
    }

    /// The same of the issuers of approvals.
    #[must_use]
    pub fn approvers_health(&self) -> Vec<KeyHealth> {
        self.approvers.iter().map(|issuer| issuer.health(Instant::now())).collect()
    }

    fn check_approval(&self, token: &str, ledger: &str, now_s: i64) -> Result<SignedApproval, AuthFault> {
        let at = Instant::now();
        let issuers: Vec<Issuer> = self.approvers.iter().map(|issuer| issuer.at(at)).collect();
        approval_token::verify(token, &issuers, ledger, now_s)
    }

    fn check(&self, bearer: &str, now_s: i64, at: Instant) -> Result<Arc<Principal>, AuthFault> {
        if let Some(known) = self.verified.get(bearer) {
            if self.holds(&known, now_s, at) {
                return Ok(known.principal);
            }
            self.verified.invalidate(bearer);
        }
        // Concurrent calls with one token wait for one verification; refusals are not remembered.
        let found = self.verified.try_get_with_by_ref(bearer, || self.verify(bearer, now_s, at));
        match found {
            Ok(known) if self.holds(&known, now_s, at) => Ok(known.principal),
            // WHY: within the leeway after `exp`, or keys swapped meanwhile: good or not, but never from memory.
            Ok(_) => self.verify(bearer, now_s, at).map(|token| token.principal),
            Err(fault) => Err((*fault).clone()),
        }
    }

    /// INVARIANT: a remembered token serves only before its `exp` and with the keys that verified it.
    fn holds(&self, token: &Verified, now_s: i64, at: Instant) -> bool {
        let current = self.issuers.get(token.issuer).and_then(|issuer| issuer.trusted(at));
        now_s < token.principal.expires_at && current.is_some_and(|keys| Arc::ptr_eq(&keys, &token.keys))
    }

    fn verify(&self, bearer: &str, now_s: i64, at: Instant) -> Result<Verified, AuthFault> {
        let issuers: Vec<Issuer> = self.issuers.iter().map(|issuer| issuer.at(at)).collect();
        let principal = authenticate(bearer, &issuers, now_s)?;
        let place = issuers.iter().position(|issuer| issuer.settings.issuer == principal.issuer);
        let Some((place, keys)) = place.and_then(|place| Some((place, issuers.get(place)?.keys.clone()?))) else {
            return Err(AuthFault::UnknownIssuer);
        };
        let left = u64::try_from(principal.expires_at.saturating_sub(now_s)).unwrap_or(0);
        Ok(Verified { principal: Arc::new(principal), issuer: place, keys, fresh_for: Duration::from_secs(left) })
    }
}

#[async_trait]
impl ports::Keys for Keys {
    /// A token that names a key nobody has seen yet waits for one reading of its issuer's keys.
    async fn principal(&self, bearer: &str, now_s: i64) -> Result<Arc<Principal>, AuthFault> {
        match self.check(bearer, now_s, Instant::now()) {
            Err(fault) if read_again(&self.issuers, &fault).await => self.check(bearer, now_s, Instant::now()),
            found => found,
        }
    }

    /// Checked anew each time: an approval is shown once or twice in its life.
    async fn approval(&self, token: &str, ledger: &str, now_s: i64) -> Result<SignedApproval, AuthFault> {
        match self.check_approval(token, ledger, now_s) {
            Err(fault) if read_again(&self.approvers, &fault).await => self.check_approval(token, ledger, now_s),
            found => found,
        }
    }
}

/// Reads an issuer's keys again where that may change a refusal; says whether to try once more.
async fn read_again(issuers: &[HeldIssuer], fault: &AuthFault) -> bool {
    let (AuthFault::UnknownKid { issuer: name } | AuthFault::KeysUnavailable { issuer: name }) = fault else {
        return false;
    };
    if let Some(issuer) = issuers.iter().find(|issuer| issuer.name() == name) {
        issuer.read_again().await;
    }
    true
}

/// Every one sound, and no two that could be taken for one another.
fn check_all(configs: &[IssuerConfig]) -> Result<(), KeysFault> {
    for (place, config) in configs.iter().enumerate() {
        check(config)?;
        let twin = configs.iter().take(place).find(|other| {
            other.settings.issuer == config.settings.issuer || other.settings.name == config.settings.name
        });
        if let Some(twin) = twin {
            return Err(KeysFault::Twice(twin.settings.name.clone(), config.settings.name.clone()));
        }
    }
    Ok(())
}

fn check(config: &IssuerConfig) -> Result<(), KeysFault> {
    let fault = |field, words: &str| {
        Err(KeysFault::Settings { issuer: config.settings.name.clone(), field, words: words.to_owned() })
    };
    if let Some((field, words)) = config.settings.faults().first() {
        return fault(field, words);
    }
    if config.refresh.is_zero() {
        return fault("refresh", "must be more than 0 s");
    }
    if config.max_stale < config.refresh {
        return fault("max_stale", "must not be shorter than `refresh`");
    }
    match config.source.fault(&config.settings, config.plain_http) {
        Some(words) => fault("keys", words),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
