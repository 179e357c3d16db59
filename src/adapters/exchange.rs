//! Tokens for backends, given by a token service for the gateway's own word (RFC 8693).
//!
//! Promises: a token is asked for once at a time and kept for its caller, organisation, roles and
//! backend alone, never beyond its end; the client's token is not among the inputs; a service that
//! does not answer is left alone for a while, and meanwhile nothing is sent to its backends. Never
//! logs a token, never stores one. Called by `pep` through its port.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::Expiry;
use moka::future::Cache;
use serde_json::Map;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use crate::adapters::fetch;
use crate::adapters::fetch::FetchFault;
use crate::adapters::fetch::Way;
use crate::adapters::fetch::client::Client;
use crate::adapters::fetch::pause::Pause;
use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::pep::ports::CredentialFault;
use crate::pep::ports::Credentials;
use crate::pep::ports::Subject;

/// `grant_type` of RFC 8693.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const TYPE_ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Longest wait for an answer. A claimed write must begin within ten seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a place among the questions under way.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions under way at once.
const QUESTIONS_MAX: usize = 32;
/// Callers whose tokens are kept, for each backend.
const KEPT_MAX: u64 = 10_000;
/// Longest answer, and longest token in it.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// A token that ends sooner is not used for another call: one call may take that long to be sent.
const MARGIN_S: i64 = 30;
/// How long a token lives whose service does not say.
const LIFETIME_S: i64 = 60;
/// Longest time for which a token is kept, whatever its service says: callers lose roles.
const KEPT_S_MAX: i64 = 900;

/// One backend and the token service before it.
#[derive(Debug, Clone)]
pub struct Service {
    /// The backend's name.
    pub backend: String,
    /// The token endpoint.
    pub url: String,
    /// How it is reached.
    pub way: Way,
    /// Who the gateway is there.
    pub client: Client,
    /// The `audience` asked for.
    pub audience: String,
    /// The `scope` asked for; empty for none.
    pub scope: String,
}

/// Why the services cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeFault {
    /// Nobody should be asked there.
    #[error("backend `{backend}`: `propagation.url` {words}")]
    Url {
        /// The backend.
        backend: String,
        /// What is wrong and what to do.
        words: &'static str,
    },
    /// It cannot be asked.
    #[error("backend `{backend}`: {fault}")]
    Client {
        /// The backend.
        backend: String,
        /// Why not.
        fault: FetchFault,
    },
}

/// The token services, by backend.
#[derive(Debug)]
pub struct Exchange {
    services: BTreeMap<String, Held>,
}

struct Held {
    service: Service,
    http: reqwest::Client,
    pause: Pause,
    places: Semaphore,
    given: Cache<Caller, Given>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.service)
    }
}

/// Whom a token is for. INVARIANT: everything that the gateway's word says of them is here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Caller {
    issuer: String,
    user: String,
    tenant: String,
    roles: Vec<String>,
}

/// A token and the time until which it is used, in seconds since the Unix epoch.
#[derive(Clone)]
struct Given {
    token: Arc<str>,
    until_s: i64,
    fresh_for: Duration,
}

struct UntilStale;

impl Expiry<Caller, Given> for UntilStale {
    fn expire_after_create(&self, _: &Caller, given: &Given, _: std::time::Instant) -> Option<Duration> {
        Some(given.fresh_for)
    }
}

impl Exchange {
    /// The services of these backends.
    pub fn new(services: Vec<Service>) -> Result<Self, ExchangeFault> {
        let mut held = BTreeMap::new();
        for service in services {
            if let Some(words) = service.way.fault(&service.url) {
                return Err(ExchangeFault::Url { backend: service.backend, words });
            }
            let http = fetch::client(&service.way, ANSWER_TIMEOUT);
            let http = http.map_err(|fault| ExchangeFault::Client { backend: service.backend.clone(), fault })?;
            let given = Cache::builder().max_capacity(KEPT_MAX).expire_after(UntilStale).build();
            let (pause, places) = (Pause::default(), Semaphore::new(QUESTIONS_MAX));
            held.insert(service.backend.clone(), Held { service, http, pause, places, given });
        }
        Ok(Self { services: held })
    }
}

#[async_trait]
impl Credentials for Exchange {
    async fn token(&self, backend: &str, subject: &Subject, now_s: i64) -> Result<String, CredentialFault> {
        let nobody = || CredentialFault::Unavailable(format!("no token service is set for `{backend}`"));
        let held = self.services.get(backend).ok_or_else(nobody)?;
        let caller = Caller {
            issuer: subject.issuer.clone(),
            user: subject.user.clone(),
            tenant: subject.tenant.clone(),
            roles: subject.roles.clone(),
        };
        let given = held.given.try_get_with_by_ref(&caller, held.ask(subject, now_s)).await;
        let given = match given {
            // Kept for longer than it is good: the clocks have moved.
            Ok(given) if now_s >= given.until_s && !given.fresh_for.is_zero() => {
                held.given.invalidate(&caller).await;
                held.ask(subject, now_s).await?
            }
            Ok(given) => given,
            Err(fault) => return Err((*fault).clone()),
        };
        Ok(given.token.as_ref().to_owned())
    }
}

impl Held {
    async fn ask(&self, subject: &Subject, now_s: i64) -> Result<Given, CredentialFault> {
        if let Some(why) = self.pause.blocks() {
            return Err(CredentialFault::Unavailable(why));
        }
        let Ok(Ok(_place)) = timeout(PLACE_TIMEOUT, self.places.acquire()).await else {
            return Err(CredentialFault::Unavailable("too many questions are under way".to_owned()));
        };
        let heard = self.send(subject, now_s).await;
        let of_caller = heard.as_ref().is_ok_and(|(status, _)| is_of_caller(*status));
        let answered = heard.and_then(|(status, body)| read(status, &body, now_s));
        match &answered {
            Ok(_) | Err(CredentialFault::Refused(_)) => self.pause.answered(),
            // WHY: it answers; a caller for whom it has no good answer must not close the way for others.
            Err(CredentialFault::Unavailable(_)) if of_caller => self.pause.answered(),
            Err(CredentialFault::Unavailable(why)) => {
                if self.pause.fault().is_none() {
                    warn!("the token service of backend `{}` gives no token: {why}", self.service.backend);
                }
                self.pause.failed(why);
            }
        }
        answered
    }

    async fn send(&self, subject: &Subject, now_s: i64) -> Result<(u16, Vec<u8>), CredentialFault> {
        let service = &self.service;
        let mut form = vec![
            ("grant_type", GRANT),
            ("subject_token", subject.assertion.as_str()),
            ("subject_token_type", TYPE_JWT),
            ("requested_token_type", TYPE_ACCESS),
            ("audience", service.audience.as_str()),
        ];
        if !service.scope.is_empty() {
            form.push(("scope", &service.scope));
        }
        let silent = |why: String| CredentialFault::Unavailable(why);
        let request = service.client.post(&self.http, &service.url, &form, now_s);
        let answer = request.send().await.map_err(|error| silent(fetch::innermost(&error)))?;
        let status = answer.status().as_u16();
        let body = fetch::body(answer, ANSWER_BYTES_MAX).await.map_err(|fault| silent(fault.to_string()))?;
        Ok((status, body))
    }
}

/// What a token service's answer gives.
fn read(status: u16, body: &[u8], now_s: i64) -> Result<Given, CredentialFault> {
    let odd = |what: &str| CredentialFault::Unavailable(format!("it answered HTTP {status}, {what}"));
    let limits = Limits { bytes_max: ANSWER_BYTES_MAX, depth_max: 16, ..Limits::default() };
    let Ok(Value::Object(members)) = canonical::parse(body, &limits) else { return Err(odd("not a JSON object")) };
    let text = |member: &str| members.get(member).and_then(Value::as_str);
    if status != 200 {
        // Only these say something of the caller; any other says that the gateway itself is not heard.
        let of_caller = ["invalid_request", "invalid_grant", "invalid_target", "invalid_scope", "access_denied"];
        return match text("error").and_then(|code| of_caller.into_iter().find(|known| *known == code)) {
            Some(code) if (400..500).contains(&status) && status != 401 => {
                Err(CredentialFault::Refused(code.to_owned()))
            }
            _ => Err(odd("which is no token")),
        };
    }
    if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("Bearer")) {
        return Err(odd("with a token that is no bearer token"));
    }
    if members.contains_key("issued_token_type") && !text("issued_token_type").is_some_and(is_wanted) {
        return Err(odd("with a token of another kind"));
    }
    let token = text("access_token").filter(|token| is_token(token)).ok_or_else(|| odd("without a token"))?;
    let lifetime_s = lifetime(&members).ok_or_else(|| odd("with a lifetime that is none"))?;
    let usable_s = lifetime_s.saturating_sub(MARGIN_S).min(KEPT_S_MAX);
    Ok(Given {
        token: token.into(),
        until_s: now_s.saturating_add(usable_s),
        fresh_for: Duration::from_secs(u64::try_from(usable_s).unwrap_or(0)),
    })
}

/// Whether a status says that the question was no good, rather than the service or the gateway's proof.
fn is_of_caller(status: u16) -> bool {
    (400..500).contains(&status) && ![401, 408, 429].contains(&status)
}

fn is_wanted(kind: &str) -> bool {
    kind == TYPE_ACCESS || kind == TYPE_JWT
}

/// `b64token` of RFC 6750, which is what may stand in a header.
fn is_token(token: &str) -> bool {
    let bare = token.trim_end_matches('=');
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    token.len() <= TOKEN_BYTES_MAX && !bare.is_empty() && bare.bytes().all(word)
}

fn lifetime(members: &Map<String, Value>) -> Option<i64> {
    match members.get("expires_in") {
        None | Some(Value::Null) => Some(LIFETIME_S),
        Some(seconds) => seconds.as_i64().filter(|seconds| *seconds > 0),
    }
}

#[cfg(test)]
mod tests;
