//! Keys of the configured issuers, and the tokens that they have vouched for.
//!
//! Promises: a token is verified once and remembered until it expires or its issuer's keys change,
//! whichever comes first; keys are read again on a schedule and when a token names an unknown one,
//! never more often than a stranger may cause; the last good keys serve through an outage until
//! they are too old, and then nobody gets in. Issuers of approvals are kept apart from those of
//! callers: neither is ever asked about the other's tokens. A token is shown to nobody but the issuer
//! of opaque tokens that may have issued it; a signed one of another issuer never. Never logs one.
//! Called by `pep`; `run` belongs to `app`.

pub mod asked;
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

use crate::adapters::fetch::FetchFault;
use crate::adapters::fetch::Way;
use crate::adapters::keys::asked::AskedIssuer;
use crate::adapters::keys::issuer::HeldIssuer;
use crate::adapters::keys::source::KeySource;
use crate::domain::identity::approval_token;
use crate::domain::identity::approval_token::SignedApproval;
use crate::domain::identity::binding::Admitted;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::keyset::KeySet;
use crate::domain::identity::mediated;
use crate::domain::identity::opaque;
use crate::domain::identity::opaque::Form;
use crate::domain::identity::shown::Shown;
use crate::domain::identity::token::Issuer;
use crate::domain::identity::token::admit;
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
    /// How the place of its keys, or the server that is asked, is reached.
    pub way: Way,
}

impl IssuerConfig {
    /// An issuer with the default schedule.
    #[must_use]
    pub fn new(settings: IssuerSettings, source: KeySource) -> Self {
        let patience = match source {
            KeySource::Url(_) => PATIENCE,
            // Reading a file costs next to nothing.
            KeySource::File(_)
            | KeySource::Secret(_)
            | KeySource::Inline(_)
            | KeySource::Asked(_)
            | KeySource::Certificates => Duration::from_secs(1),
        };
        Self { settings, source, refresh: REFRESH, max_stale: MAX_STALE, patience, way: Way::default() }
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
    #[error("issuer `{issuer}`: {fault}")]
    Client {
        /// The issuer's name in the configuration.
        issuer: String,
        /// Why not.
        fault: FetchFault,
    },
}

/// The configured issuers, their keys, and the tokens verified with them.
pub struct Keys {
    issuers: Vec<HeldIssuer>,
    /// Those whose approvals count.
    approvers: Vec<HeldIssuer>,
    /// Those that are asked about each token.
    asked: Vec<AskedIssuer>,
    /// Those whose certificates vouch for whom headers name.
    mediators: Vec<Arc<IssuerSettings>>,
    verified: Cache<String, Verified>,
}

/// A token that was verified, with the keys that verified it.
#[derive(Clone)]
struct Verified {
    admitted: Admitted,
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
        let mut keys =
            Self { issuers: Vec::new(), approvers: Vec::new(), asked: Vec::new(), mediators: Vec::new(), verified };
        for config in configs {
            let settings = Arc::new(config.settings.clone());
            match &config.source {
                KeySource::Certificates => keys.mediators.push(settings),
                KeySource::Asked(server) => {
                    let held = AskedIssuer::new(settings, (**server).clone(), &config.way);
                    let of = |fault| KeysFault::Client { issuer: config.settings.name.clone(), fault };
                    keys.asked.push(held.map_err(of)?);
                }
                KeySource::File(_) | KeySource::Url(_) | KeySource::Secret(_) | KeySource::Inline(_) => {
                    keys.issuers.push(held(config)?);
                }
            }
        }
        Ok(keys)
    }

    /// The same with issuers of approvals, whose settings are [`IssuerSettings::of_approvals`].
    pub fn with_approvers(self, configs: Vec<IssuerConfig>) -> Result<Self, KeysFault> {
        check_all(&configs)?;
        Ok(Self { approvers: configs.into_iter().map(held).collect::<Result<_, _>>()?, ..self })
    }

    fn all(&self) -> impl Iterator<Item = &HeldIssuer> {
        self.issuers.iter().chain(&self.approvers)
    }

    /// Reads every issuer's keys once. One that cannot be read is in [`Keys::health`] and refuses its tokens.
    pub async fn load(&self) {
        join_all(self.all().map(HeldIssuer::refresh)).await;
    }

    /// Asks whoever is to be asked about tokens whether they answer; [`Keys::health`] says which do not.
    pub async fn probe(&self, now_s: i64) {
        join_all(self.asked.iter().map(|issuer| issuer.probe(now_s))).await;
    }

    /// Keeps the keys fresh until told to stop. Without it nothing is ever read again.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        join_all(self.all().map(|issuer| issuer.keep(shutdown.clone()))).await;
    }

    /// What is known of each issuer's keys.
    #[must_use]
    pub fn health(&self) -> Vec<KeyHealth> {
        let held = self.issuers.iter().map(|issuer| issuer.health(Instant::now()));
        let mediated = self.mediators.iter().map(|settings| KeyHealth {
            issuer: settings.name.clone(),
            kids: vec!["certificates".to_owned()],
            age_s: None,
            fault: None,
        });
        held.chain(self.asked.iter().map(AskedIssuer::health)).chain(mediated).collect()
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

    fn check(&self, bearer: &str, now_s: i64, at: Instant) -> Result<Admitted, AuthFault> {
        if let Some(known) = self.verified.get(bearer) {
            if self.holds(&known, now_s, at) {
                return Ok(known.admitted);
            }
            self.verified.invalidate(bearer);
        }
        // Concurrent calls with one token wait for one verification; refusals are not remembered.
        let found = self.verified.try_get_with_by_ref(bearer, || self.verify(bearer, now_s, at));
        match found {
            Ok(known) if self.holds(&known, now_s, at) => Ok(known.admitted),
            // WHY: within the leeway after `exp`, or keys swapped meanwhile: good or not, but never from memory.
            Ok(_) => self.verify(bearer, now_s, at).map(|token| token.admitted),
            Err(fault) => Err((*fault).clone()),
        }
    }

    /// INVARIANT: a remembered token serves only before its `exp` and with the keys that verified it.
    fn holds(&self, token: &Verified, now_s: i64, at: Instant) -> bool {
        let current = self.issuers.get(token.issuer).and_then(|issuer| issuer.trusted(at));
        now_s < token.admitted.expires_at() && current.is_some_and(|keys| Arc::ptr_eq(&keys, &token.keys))
    }

    fn verify(&self, bearer: &str, now_s: i64, at: Instant) -> Result<Verified, AuthFault> {
        let issuers: Vec<Issuer> = self.issuers.iter().map(|issuer| issuer.at(at)).collect();
        let admitted = admit(bearer, &issuers, now_s)?;
        let place = issuers.iter().position(|issuer| issuer.settings.issuer == admitted.issuer());
        let Some((place, keys)) = place.and_then(|place| Some((place, issuers.get(place)?.keys.clone()?))) else {
            return Err(AuthFault::UnknownIssuer);
        };
        let left = u64::try_from(admitted.expires_at().saturating_sub(now_s)).unwrap_or(0);
        Ok(Verified { admitted, issuer: place, keys, fresh_for: Duration::from_secs(left) })
    }
}

impl Keys {
    /// What a bearer token is, whoever issued it; not yet whether it came over the right connection.
    async fn admit(&self, bearer: &str, now_s: i64) -> Result<Admitted, AuthFault> {
        if self.asked.is_empty() {
            return self.signed(bearer, now_s).await;
        }
        let longest = |max: usize, settings: &IssuerSettings| max.max(settings.token_bytes_max);
        let held = self.issuers.iter().map(HeldIssuer::settings).fold(0, longest);
        let max = self.asked.iter().map(|issuer| &*issuer.settings).fold(held, longest);
        match opaque::form(bearer, max)? {
            Form::Opaque => self.ask(bearer, now_s).await,
            // WHY by the name alone: to be asked about a token that names another issuer is to be shown it.
            Form::Jwt(iss) => match self.asked.iter().find(|issuer| iss.as_ref() == Some(&issuer.settings.issuer)) {
                Some(issuer) => issuer.admit(bearer, now_s).await,
                None => self.signed(bearer, now_s).await,
            },
        }
    }

    /// A token that names a key nobody has seen yet waits for one reading of its issuer's keys.
    async fn signed(&self, bearer: &str, now_s: i64) -> Result<Admitted, AuthFault> {
        match self.check(bearer, now_s, Instant::now()) {
            Err(fault) if read_again(&self.issuers, &fault).await => self.check(bearer, now_s, Instant::now()),
            found => found,
        }
    }

    /// Asks those who may have issued an opaque token, one after another, until one knows it.
    async fn ask(&self, bearer: &str, now_s: i64) -> Result<Admitted, AuthFault> {
        let prefixed = self.asked.iter().any(|issuer| issuer.may_have_issued(bearer, true));
        let mut refused = None;
        for issuer in self.asked.iter().filter(|issuer| issuer.may_have_issued(bearer, prefixed)) {
            match issuer.admit(bearer, now_s).await {
                Ok(admitted) => return Ok(admitted),
                // WHY this first: whoever cannot be asked might have known it, so nobody can say no.
                Err(fault) if fault.is_ours() => refused = Some(fault),
                Err(fault) => {
                    if refused.as_ref().is_none_or(|before| matches!(before, AuthFault::Inactive { .. })) {
                        refused = Some(fault);
                    }
                }
            }
        }
        Err(refused.unwrap_or(AuthFault::Malformed("no issuer has tokens of this form")))
    }
}

#[async_trait]
impl ports::Keys for Keys {
    async fn principal(&self, bearer: &str, now_s: i64) -> Result<Arc<Principal>, AuthFault> {
        self.admit(bearer, now_s).await?.over(None)
    }

    async fn identify(&self, shown: &Shown<'_>, now_s: i64) -> Result<Arc<Principal>, AuthFault> {
        let certificate = shown.certificate.filter(|certificate| certificate.is_good(now_s));
        let shown = &Shown { certificate, ..shown.clone() };
        if let Some(mediated) = mediated::principal(shown, &self.mediators, now_s)? {
            return Ok(Arc::new(mediated));
        }
        self.admit(shown.bearer()?, now_s).await?.over(shown.certificate)
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

fn held(config: IssuerConfig) -> Result<HeldIssuer, KeysFault> {
    let name = config.settings.name.clone();
    HeldIssuer::new(config).map_err(|fault| KeysFault::Client { issuer: name, fault })
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
    match config.source.fault(&config.settings, &config.way) {
        Some(words) => fault("keys", words),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
