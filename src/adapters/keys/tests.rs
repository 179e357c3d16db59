//! Rotation, outage and memory, against a real HTTP server and real files.

mod approvals;
mod asked;
mod secure;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::future::join_all;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::source::Reader;
use super::*;
use crate::adapters::fetch::FETCH_TIMEOUT;
use crate::domain::identity::AuthMethod;
use crate::domain::identity::forge::{ED, NOW, RSA, SECRET, Smith, claims, claims_but, ed_smith, jwks, settings};
use crate::domain::identity::issuer::Alg;
use crate::pep::ports::Keys as _;

/// An issuer's web server that does what the test says.
struct Idp {
    url: String,
    says: Arc<Says>,
    _tasks: JoinSet<()>,
}

struct Says {
    answer: Mutex<(StatusCode, Vec<u8>)>,
    fetches: AtomicUsize,
    elsewhere: AtomicUsize,
    /// Signalled when a fetch arrives.
    arrived: Notify,
    /// A fetch is answered when it gets a permit.
    gate: Semaphore,
}

impl Idp {
    async fn start(body: Vec<u8>) -> Self {
        let says = Arc::new(Says {
            answer: Mutex::new((StatusCode::OK, body)),
            fetches: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
            arrived: Notify::new(),
            gate: Semaphore::new(1_000),
        });
        let (keys, elsewhere) = (Arc::clone(&says), Arc::clone(&says));
        let serve = move || {
            let says = Arc::clone(&keys);
            async move {
                says.fetches.fetch_add(1, Ordering::SeqCst);
                says.arrived.notify_one();
                says.gate.acquire().await.unwrap().forget();
                let (status, body) = says.answer.lock().unwrap().clone();
                (status, [(LOCATION, "/elsewhere")], body).into_response()
            }
        };
        let other = move || {
            let says = Arc::clone(&elsewhere);
            async move {
                says.elsewhere.fetch_add(1, Ordering::SeqCst);
                jwks(&[&ED])
            }
        };
        let app = Router::new().route("/jwks", get(serve)).route("/elsewhere", get(other));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let router = app.into_make_service();
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, says, _tasks: tasks }
    }

    fn answers(&self, status: StatusCode, body: Vec<u8>) {
        *self.says.answer.lock().unwrap() = (status, body);
    }

    fn fetches(&self) -> usize {
        self.says.fetches.load(Ordering::SeqCst)
    }

    /// An issuer whose keys are here and whom unknown keys may ask at any time.
    fn issuer(&self) -> IssuerConfig {
        let mut config = IssuerConfig::new(settings(), KeySource::Url(self.url.clone()));
        config.patience = Duration::ZERO;
        config
    }
}

/// Keys with their keeper running.
struct Kept {
    keys: Arc<Keys>,
    stop: watch::Sender<bool>,
    keeper: JoinSet<()>,
}

async fn kept(config: IssuerConfig) -> Kept {
    let keys = Arc::new(Keys::new(vec![config]).unwrap());
    keys.load().await;
    let (stop, stopped) = watch::channel(false);
    let mut keeper = JoinSet::new();
    let kept = Arc::clone(&keys);
    keeper.spawn(async move { kept.run(stopped).await });
    // The keeper says that it is there before any test asks it for something.
    while keys.issuers.iter().any(HeldIssuer::is_unkept) {
        tokio::task::yield_now().await;
    }
    Kept { keys, stop, keeper }
}

impl Kept {
    async fn cause(&self, token: &str) -> Result<String, &'static str> {
        self.keys.principal(token, NOW).await.map(|ada| ada.user.clone()).map_err(|fault| fault.cause())
    }

    fn fault(&self) -> Option<String> {
        self.keys.health().remove(0).fault
    }
}

fn ed2() -> Smith {
    ed_smith("ed-2", 2)
}

#[tokio::test]
async fn a_rotated_key_is_found_at_once_and_the_old_one_is_good_no_more() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let kept = kept(idp.issuer()).await;
    assert_eq!(kept.cause(&ED.token(&claims())).await, Ok("ada".to_owned()));
    idp.answers(StatusCode::OK, jwks(&[&ed2()]));
    assert_eq!(kept.cause(&ED.token(&claims())).await, Ok("ada".to_owned()), "nobody has asked yet");
    assert_eq!(kept.cause(&ed2().token(&claims())).await, Ok("ada".to_owned()));
    assert_eq!(kept.keys.health()[0].kids, ["ed-2"]);
    assert!(kept.keys.verified.get(&ED.token(&claims())).is_some(), "the old token is still in memory");
    assert_eq!(kept.cause(&ED.token(&claims())).await, Err("unknown_kid"), "and does not help its bearer");
}

#[tokio::test]
async fn a_key_replaced_under_its_old_id_voids_the_tokens_it_had_signed() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let kept = kept(idp.issuer()).await;
    assert!(kept.cause(&ED.token(&claims())).await.is_ok());
    idp.answers(StatusCode::OK, jwks(&[&ed_smith("ed-1", 9)]));
    kept.keys.load().await;
    assert_eq!(kept.cause(&ED.token(&claims())).await, Err("bad_signature"));
}

#[tokio::test]
async fn keys_that_did_not_change_leave_verified_tokens_alone() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let kept = kept(idp.issuer()).await;
    let first = kept.keys.principal(&ED.token(&claims()), NOW).await.unwrap();
    kept.keys.load().await;
    let second = kept.keys.principal(&ED.token(&claims()), NOW).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "the same principal, from memory");
}

#[tokio::test]
async fn made_up_key_ids_do_not_turn_the_gateway_against_its_issuer() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let mut config = idp.issuer();
    config.patience = PATIENCE;
    let kept = kept(config).await;
    for place in 0..20 {
        let stranger = ed_smith("ed-x", place);
        assert_eq!(kept.cause(&stranger.token(&claims())).await, Err("unknown_kid"));
    }
    assert_eq!(idp.fetches(), 1, "the first reading, and none for any of them");
}

#[tokio::test]
async fn many_callers_with_an_unknown_key_share_one_fetch() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let kept = kept(idp.issuer()).await;
    idp.answers(StatusCode::OK, jwks(&[&ED, &ed2()]));
    let tokens: Vec<String> = (0..50).map(|jti| ed2().token(&claims_but("jti", json!(jti)))).collect();
    let found = join_all(tokens.iter().map(|token| kept.cause(token))).await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    assert_eq!(idp.fetches(), 2);
}

#[tokio::test]
async fn a_caller_joins_a_reading_that_is_under_way() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let kept = kept(idp.issuer()).await;
    idp.says.arrived.notified().await; // of the first reading
    idp.says.gate.forget_permits(usize::MAX);
    idp.answers(StatusCode::OK, jwks(&[&ed2()]));
    let keys = Arc::clone(&kept.keys);
    let mut scheduled = JoinSet::new();
    scheduled.spawn(async move { keys.load().await });
    idp.says.arrived.notified().await;
    let token = ed2().token(&claims());
    // The caller asks first; only then is the reading that was under way answered, and no other would be.
    let (found, ()) = tokio::join!(kept.cause(&token), async { idp.says.gate.add_permits(1) });
    assert_eq!(found, Ok("ada".to_owned()));
    // A fetch that the caller had caused would reach the server before this one.
    idp.says.gate.add_permits(10);
    kept.keys.load().await;
    assert_eq!(idp.fetches(), 3, "the first, the one under way, and this one");
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_nothing() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let kept = kept(idp.issuer()).await;
    idp.answers(StatusCode::OK, jwks(&[&ed2()]));
    idp.says.arrived.notified().await; // of the first reading
    idp.says.gate.forget_permits(usize::MAX);
    let token = ed2().token(&claims());
    tokio::select! {
        found = kept.cause(&token) => panic!("an answer before the keys: {found:?}"),
        () = idp.says.arrived.notified() => {}
    }
    let mut readings = kept.keys.issuers[0].readings();
    idp.says.gate.add_permits(1);
    readings.changed().await.unwrap();
    assert_eq!(kept.keys.check(&token, NOW, Instant::now()).unwrap().over(None).unwrap().user, "ada");
    assert_eq!(idp.fetches(), 2);
}

#[tokio::test]
async fn the_last_good_keys_serve_through_an_outage_and_no_longer_than_allowed() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let kept = kept(idp.issuer()).await;
    let (known, fresh) = (ED.token(&claims()), ED.token(&claims_but("sub", json!("ben"))));
    assert!(kept.cause(&known).await.is_ok());
    idp.answers(StatusCode::INTERNAL_SERVER_ERROR, Vec::new());
    kept.keys.load().await;
    assert!(kept.fault().unwrap().contains("HTTP 500"), "{:?}", kept.fault());
    assert_eq!(kept.cause(&fresh).await, Ok("ben".to_owned()));
    assert_eq!(kept.cause(&ed2().token(&claims())).await, Err("unknown_kid"), "an outage makes no stranger good");

    let too_late = Instant::now() + MAX_STALE + Duration::from_secs(1);
    for token in [&known, &fresh] {
        let fault = kept.keys.check(token, NOW, too_late).unwrap_err();
        assert_eq!((fault.cause(), fault.is_ours()), ("keys_unavailable", true));
    }
    idp.answers(StatusCode::OK, jwks(&[&ED]));
    kept.keys.load().await;
    assert_eq!(kept.fault(), None);
    assert!(kept.cause(&known).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_was_down_at_the_start_is_asked_again() {
    let idp = Idp::start(Vec::new()).await;
    idp.answers(StatusCode::SERVICE_UNAVAILABLE, Vec::new());
    let kept = kept(idp.issuer()).await;
    assert_eq!(kept.cause(&ED.token(&claims())).await, Err("keys_unavailable"));
    let health = kept.keys.health();
    assert_eq!((health[0].kids.len(), health[0].age_s), (0, None));
    idp.answers(StatusCode::OK, jwks(&[&ED]));
    assert_eq!(kept.cause(&ED.token(&claims())).await, Ok("ada".to_owned()));
}

#[tokio::test]
async fn nobody_is_there_and_that_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    drop(listener);
    let keys = Keys::new(vec![IssuerConfig::new(settings(), KeySource::Url(url.clone()))]).unwrap();
    keys.load().await;
    let fault = keys.health().remove(0).fault.unwrap();
    assert!(fault.contains(&url) && fault.to_lowercase().contains("refused"), "{fault}");
}

#[tokio::test]
async fn a_broken_key_set_changes_nothing_but_the_health() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let kept = kept(idp.issuer()).await;
    let mut weak = RSA.jwk.clone();
    weak["e"] = json!("Aw");
    let secret = json!({"kty": "oct", "kid": "s", "k": "AAAA"});
    for (what, body) in [
        ("empty", Vec::new()),
        ("a login page", b"<html>log in</html>".to_vec()),
        ("no keys", json!({"keys": []}).to_string().into_bytes()),
        ("a weak key", json!({"keys": [ED.jwk, weak]}).to_string().into_bytes()),
        ("a secret", json!({"keys": [ED.jwk, secret]}).to_string().into_bytes()),
        ("a key twice", jwks(&[&ED, &ED])),
        ("endless", vec![b' '; 300 * 1024]),
    ] {
        idp.answers(StatusCode::OK, body);
        kept.keys.load().await;
        assert!(kept.fault().is_some(), "{what}");
        assert_eq!(kept.keys.health()[0].kids, ["ed-1"], "{what}");
        assert!(kept.cause(&ED.token(&claims())).await.is_ok(), "{what}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let idp = Idp::start(Vec::new()).await;
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
        idp.answers(status, Vec::new());
        let keys = Keys::new(vec![idp.issuer()]).unwrap();
        keys.load().await;
        assert!(keys.health()[0].fault.as_ref().unwrap().contains("redirects are not followed"));
    }
    assert_eq!(idp.says.elsewhere.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_given_up() {
    let idp = Idp::start(jwks(&[&ED])).await;
    idp.says.gate.forget_permits(usize::MAX);
    let reader = Reader::new(&Way::default(), Duration::from_millis(20)).unwrap();
    let fault = reader.read(&KeySource::Url(idp.url.clone()), &[Alg::EdDsa]).await.unwrap_err();
    assert!(fault.to_string().contains("no whole answer in time"), "{fault}");
}

#[tokio::test]
async fn a_key_file_is_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, jwks(&[&ED])).unwrap();
    let mut config = IssuerConfig::new(settings(), KeySource::File(path.clone()));
    config.patience = Duration::ZERO;
    let kept = kept(config).await;
    assert!(kept.cause(&ED.token(&claims())).await.is_ok());
    std::fs::write(&path, jwks(&[&ED, &ed2()])).unwrap();
    assert!(kept.cause(&ed2().token(&claims())).await.is_ok());
    std::fs::remove_file(&path).unwrap();
    kept.keys.load().await;
    assert!(kept.fault().unwrap().contains("jwks.json"));
    assert!(kept.cause(&ed2().token(&claims())).await.is_ok(), "the last good keys stay");
    std::fs::write(&path, vec![b' '; 300 * 1024]).unwrap();
    kept.keys.load().await;
    assert!(kept.fault().unwrap().contains("longer than"));
}

#[tokio::test]
async fn memory_never_outlives_a_token() {
    let keys = keys_at_hand();
    let token = ED.token(&claims());
    let (exp, at) = (NOW + 600, Instant::now());
    let first = keys.check(&token, NOW, at).unwrap().over(None).unwrap();
    assert!(
        Arc::ptr_eq(&first, &keys.check(&token, exp - 1, at).unwrap().over(None).unwrap()),
        "from memory until the last second"
    );
    let late = keys.check(&token, exp, at).unwrap().over(None).unwrap();
    assert!(!Arc::ptr_eq(&first, &late), "within the leeway it is verified anew");
    assert_eq!(keys.check(&token, exp + 60, at).unwrap_err().cause(), "expired");
    assert_eq!(keys.check(&token, exp + 60, at).unwrap_err().cause(), "expired", "and stays so");
}

#[tokio::test]
async fn refusals_are_not_remembered_and_a_token_is_remembered_byte_for_byte() {
    let keys = keys_at_hand();
    let good = ED.token(&claims());
    assert!(keys.check(&good, NOW - 3_600, Instant::now()).is_err(), "not valid yet");
    assert!(keys.verified.get(&good).is_none());
    assert!(keys.check(&good, NOW, Instant::now()).is_ok(), "and good later");
    for other in [format!("{good} "), format!("{good}="), good.to_lowercase(), good.replace('.', "..")] {
        assert!(keys.check(&other, NOW, Instant::now()).is_err());
        assert!(keys.verified.get(&other).is_none());
    }
}

#[tokio::test]
async fn a_loopiq_secret_serves_without_a_keeper_and_never_grows_stale() {
    let mut loopiq = settings();
    loopiq.kind = AuthMethod::Loopiq;
    loopiq.algs = vec![Alg::Hs256];
    let config = IssuerConfig::new(loopiq, KeySource::Secret(SECRET.to_vec()));
    assert!(!format!("{config:?}").contains("97, 32"), "the secret is not shown");
    let kept = Keys::new(vec![config]).unwrap();
    kept.load().await;
    let (_stop, stopped) = watch::channel(false);
    kept.run(stopped).await; // has nothing to keep, so it ends
    let header = json!({"alg": "HS256", "typ": "JWT"}).to_string();
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let algorithm = jsonwebtoken::Algorithm::HS256;
    let token = crate::domain::identity::forge::sign_with(&key, algorithm, &header, &claims().to_string());
    let in_a_year = Instant::now() + Duration::from_hours(8_760);
    assert_eq!(kept.check(&token, NOW, in_a_year).unwrap().over(None).unwrap().method, AuthMethod::Loopiq);
}

#[tokio::test]
async fn the_keeper_stops_when_told_and_lets_go_of_those_who_wait() {
    let idp = Idp::start(jwks(&[&ED])).await;
    let mut kept = kept(idp.issuer()).await;
    idp.says.arrived.notified().await;
    idp.says.gate.forget_permits(usize::MAX);
    let token = ed2().token(&claims());
    let keys = Arc::clone(&kept.keys);
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { keys.principal(&token, NOW).await });
    idp.says.arrived.notified().await;
    kept.stop.send(true).unwrap();
    assert!(waiting.join_next().await.unwrap().unwrap().is_err());
    kept.keeper.join_next().await.unwrap().unwrap();
}

#[test]
fn issuers_that_cannot_be_told_apart_or_trusted_are_refused() {
    let at_hand = || KeySource::Inline(KeySet::from_jwks(&jwks(&[&ED]), &[Alg::EdDsa]).unwrap());
    let fault = |configs: Vec<IssuerConfig>| match Keys::new(configs) {
        Ok(_) => String::new(),
        Err(fault) => fault.to_string(),
    };
    let good = || IssuerConfig::new(settings(), at_hand());
    assert_eq!(fault(vec![good()]), "");
    assert!(fault(vec![good(), good()]).contains("same `iss`"));
    let mut unaimed = good();
    unaimed.settings.audiences.clear();
    assert!(fault(vec![unaimed]).contains("`audiences`"));
    let mut hasty = good();
    hasty.max_stale = Duration::from_secs(1);
    assert!(fault(vec![hasty]).contains("`max_stale`"));
    for (source, words) in [
        (KeySource::Url("http://idp.example/jwks".to_owned()), "use https"),
        (KeySource::Url("http://127.0.0.1.evil.example/jwks".to_owned()), "use https"),
        (KeySource::Url("http://localhost.evil.example/jwks".to_owned()), "use https"),
        (KeySource::Url("ftp://idp.example/jwks".to_owned()), "https://"),
        (KeySource::Url("file:///etc/passwd".to_owned()), "https://"),
        (KeySource::Url("idp.example/jwks".to_owned()), "not a URL"),
        (KeySource::Url("https://user:pass@idp.example/jwks".to_owned()), "credentials"),
        (KeySource::Secret(SECRET.to_vec()), "HS256"),
    ] {
        assert!(fault(vec![IssuerConfig::new(settings(), source.clone())]).contains(words), "{source:?}");
    }
    for url in ["https://idp.example/jwks", "http://localhost:1/jwks", "http://127.0.0.1:1/jwks", "http://[::1]:1/jwks"]
    {
        assert_eq!(fault(vec![IssuerConfig::new(settings(), KeySource::Url(url.to_owned()))]), "", "{url}");
    }
    let mut plain = IssuerConfig::new(settings(), KeySource::Url("http://idp.internal/jwks".to_owned()));
    plain.way.plain_http = true;
    assert_eq!(fault(vec![plain]), "");
}

/// Two libraries bring two TLS providers; whichever comes first, the other must not panic.
#[test]
fn fetching_keys_and_forwarding_calls_share_a_process() {
    let before = Reader::new(&Way::default(), FETCH_TIMEOUT);
    let _forwarding = pingora::connectors::TransportConnector::new(None);
    let after = Reader::new(&Way::default(), FETCH_TIMEOUT);
    assert!(before.is_ok() && after.is_ok());
}

fn keys_at_hand() -> Keys {
    let set = KeySet::from_jwks(&jwks(&[&ED]), &[Alg::EdDsa]).unwrap();
    let keys = Keys::new(vec![IssuerConfig::new(settings(), KeySource::Inline(set.clone()))]).unwrap();
    keys.issuers[0].hold(set, Instant::now());
    keys
}
