//! One issuer of opaque tokens: the server that is asked what they mean (RFC 7662).
//!
//! Promises: a token is asked about once at a time, and what was said is remembered under its hash
//! for as long as the settings and the token's own end allow, a no for seconds; no more questions
//! are under way than the server can be expected to bear; a server that does not answer is left
//! alone for a while, and meanwhile nobody gets in. Never stores a token and never logs one.
//! Called by `adapters::keys`.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use moka::Expiry;
use moka::future::Cache;
use reqwest::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use crate::adapters::fetch;
use crate::adapters::fetch::FetchFault;
use crate::adapters::fetch::Way;
use crate::adapters::fetch::client::Client;
use crate::adapters::fetch::pause::Pause;
use crate::domain::identity::KeyHealth;
use crate::domain::identity::binding::Admitted;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::issuer::IssuerSettings;
use crate::domain::identity::opaque;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a place among the questions under way.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions under way at once. WHY: strangers with made-up tokens cause them.
const QUESTIONS_MAX: usize = 32;
/// Tokens that are remembered, good and bad.
const KNOWN_MAX: u64 = 20_000;
/// Longest time for which a no is remembered: whoever has just been given a token must not wait.
const NO_KEPT: Duration = Duration::from_secs(10);
/// No server has given this token to anybody; asking about it shows whether the server answers.
const PROBE: &str = "loopgate-probe";

/// Where an issuer is asked about its tokens.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// The endpoint.
    pub url: String,
    /// Who the gateway is there.
    pub client: Client,
    /// Longest time for which an answer is remembered.
    pub keep: Duration,
}

/// An issuer that is asked.
pub(super) struct AskedIssuer {
    pub(super) settings: Arc<IssuerSettings>,
    ask: Introspection,
    http: reqwest::Client,
    pause: Pause,
    places: Semaphore,
    known: Cache<[u8; 32], Known>,
}

/// What was said about a token.
#[derive(Clone)]
struct Known {
    outcome: Result<Admitted, AuthFault>,
    fresh_for: Duration,
}

/// Forgets what was said when it may have changed.
struct UntilStale;

impl Expiry<[u8; 32], Known> for UntilStale {
    fn expire_after_create(&self, _: &[u8; 32], known: &Known, _: std::time::Instant) -> Option<Duration> {
        Some(known.fresh_for)
    }
}

impl AskedIssuer {
    pub(super) fn new(settings: Arc<IssuerSettings>, ask: Introspection, way: &Way) -> Result<Self, FetchFault> {
        let http = fetch::client(way, ANSWER_TIMEOUT)?;
        let known = Cache::builder().max_capacity(KNOWN_MAX).expire_after(UntilStale).build();
        Ok(Self { settings, ask, http, pause: Pause::default(), places: Semaphore::new(QUESTIONS_MAX), known })
    }

    /// Whether a token of this form may be one of this issuer's.
    pub(super) fn may_have_issued(&self, bearer: &str, prefixed: bool) -> bool {
        let prefix = self.settings.token_prefix.as_str();
        if prefixed { !prefix.is_empty() && bearer.starts_with(prefix) } else { prefix.is_empty() }
    }

    /// What the issuer says of a token, now or a short while ago.
    pub(super) async fn admit(&self, bearer: &str, now_s: i64) -> Result<Admitted, AuthFault> {
        if bearer.len() > self.settings.token_bytes_max {
            return Err(AuthFault::TooLarge { max: self.settings.token_bytes_max });
        }
        let mut name = [0; 32];
        name.copy_from_slice(digest::digest(&digest::SHA256, bearer.as_bytes()).as_ref());
        let found = self.known.try_get_with(name, self.question(bearer, now_s)).await;
        match found {
            // INVARIANT: what is remembered never outlives the token, whatever the clocks did meanwhile.
            Ok(Known { outcome: Ok(admitted), .. }) if now_s >= admitted.expires_at() => {
                self.known.invalidate(&name).await;
                self.question(bearer, now_s).await?.outcome
            }
            Ok(known) => known.outcome,
            Err(fault) => Err((*fault).clone()),
        }
    }

    /// Whether the server answers.
    pub(super) async fn probe(&self, now_s: i64) {
        // What came of it is in the health; that the token is unknown is no news.
        let _refused = self.question(PROBE, now_s).await;
    }

    pub(super) fn health(&self) -> KeyHealth {
        KeyHealth {
            issuer: self.settings.name.clone(),
            kids: vec!["introspection".to_owned()],
            age_s: None,
            fault: self.pause.fault(),
        }
    }

    async fn question(&self, bearer: &str, now_s: i64) -> Result<Known, AuthFault> {
        let nobody = || AuthFault::CannotAsk { issuer: self.settings.name.clone() };
        if self.pause.blocks().is_some() {
            return Err(nobody());
        }
        let Ok(Ok(_place)) = timeout(PLACE_TIMEOUT, self.places.acquire()).await else { return Err(nobody()) };
        let answer = match self.send(bearer, now_s).await {
            Ok(answer) => answer,
            Err(why) => {
                self.unanswered(bearer, &why, now_s).await;
                return Err(nobody());
            }
        };
        let outcome = opaque::admit(&answer, &self.settings, now_s);
        if outcome.as_ref().is_err_and(AuthFault::is_ours) {
            self.unanswered(bearer, "the answer is no JSON object", now_s).await;
            return Err(nobody());
        }
        self.pause.answered();
        let fresh_for = match &outcome {
            Ok(admitted) => {
                let left = u64::try_from(admitted.expires_at().saturating_sub(now_s)).unwrap_or(0);
                self.ask.keep.min(Duration::from_secs(left))
            }
            Err(_) => self.ask.keep.min(NO_KEPT),
        };
        Ok(Known { outcome, fresh_for })
    }

    /// No answer about this token. WHY the second question: strangers choose what they show, and one
    /// whose token trips the server, or a filter before it, must not keep everybody else out.
    async fn unanswered(&self, bearer: &str, why: &str, now_s: i64) {
        if bearer != PROBE && self.answers(now_s).await {
            self.pause.answered();
        } else {
            self.silent(why);
        }
    }

    /// Whether the server answers as it should about a token that means nothing.
    async fn answers(&self, now_s: i64) -> bool {
        let answer = self.send(PROBE, now_s).await;
        let read = answer.map(|answer| opaque::admit(&answer, &self.settings, now_s));
        read.is_ok_and(|outcome| !outcome.as_ref().is_err_and(AuthFault::is_ours))
    }

    fn silent(&self, why: &str) {
        let name = &self.settings.name;
        if self.pause.fault().is_none() {
            warn!(issuer.name = %name, "issuer `{name}` cannot be asked about tokens: {why}");
        }
        self.pause.failed(format!("cannot be asked about tokens: {why}; check `introspection` and that it is up"));
    }

    async fn send(&self, bearer: &str, now_s: i64) -> Result<Vec<u8>, String> {
        let form = [("token", bearer), ("token_type_hint", "access_token")];
        let request = self.ask.client.post(&self.http, &self.ask.url, &form, now_s);
        let answer = request.send().await.map_err(|error| fetch::innermost(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answered HTTP {}", answer.status().as_u16()));
        }
        fetch::body(answer, opaque::ANSWER_BYTES_MAX).await.map_err(|fault| fault.to_string())
    }
}
