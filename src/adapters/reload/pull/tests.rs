//! A source against a real little server: what is asked, what is taken, and what is not.

use std::path::Path;
use std::sync::Mutex;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use axum::Router;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::domain::pdp::archive::About;
use crate::domain::pdp::archive::sign::Claims;
use crate::domain::pdp::bundle::Bundle;

/// A server of bundles, as a test sets it up, and what it was asked.
#[derive(Default)]
struct Says {
    answer: Mutex<(u16, Vec<u8>)>,
    etag: Mutex<String>,
    asked: Mutex<Vec<HeaderMap>>,
}

struct Scene {
    says: Arc<Says>,
    pull: Pull,
    memory: Arc<Kept>,
    dir: TempDir,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Kept(Mutex<(Option<Taken>, bool)>);

impl Memory for Kept {
    fn taken(&self) -> Result<Option<Taken>, String> {
        let held = self.0.lock().unwrap();
        if held.1 { Err("`served.json` is damaged".to_owned()) } else { Ok(held.0.clone()) }
    }

    fn remember(&self, taken: &Taken) -> Result<(), String> {
        self.0.lock().unwrap().0 = Some(taken.clone());
        Ok(())
    }
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(dir: &Path, seed: u8) -> PathBuf {
    let der: PublicKeyX509Der<'_> = key(seed).public_key().as_der().unwrap();
    let path = dir.join(format!("{seed}.pub"));
    std::fs::write(&path, pem::encode(&pem::Pem::new("PUBLIC KEY", der.as_ref()))).unwrap();
    path
}

/// A bundle with this serial and content, signed by the key of `seed` for `scope`.
fn archive(serial: u64, content: u32, seed: u8, scope: &str) -> Archive {
    let policy = format!("package loopiq.gateway\n\ndecision := {{\"allow\": false, \"n\": {content}}}\n");
    let files = vec![("loopiq/gateway/decision.rego".to_owned(), policy.into_bytes())];
    let about = About { revision: format!("r{serial}"), serial: Some(serial), built_at: None };
    let mut archive = Archive::of(&Bundle::from_files(files).unwrap(), &about).unwrap();
    let claims = Claims { scope: scope.to_owned(), ..Claims::default() };
    archive.sign(&claims, "EdDSA", |message| Ok::<_, ArchiveFault>(key(seed).sign(message).as_ref().to_vec())).unwrap();
    archive
}

fn bytes(serial: u64, content: u32) -> Vec<u8> {
    archive(serial, content, 1, "prod").pack().unwrap()
}

impl Scene {
    async fn start() -> Self {
        let says = Arc::new(Says::default());
        let serves = Arc::clone(&says);
        let answer = move |headers: HeaderMap| {
            let says = Arc::clone(&serves);
            async move { says.answer(headers) }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/bundle.tar.gz?sig=secret", listener.local_addr().unwrap());
        let app = Router::new().route("/bundle.tar.gz", get(answer.clone())).route("/elsewhere", get(answer));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let dir = tempfile::tempdir().unwrap();
        let pull = Pull {
            url,
            token_file: None,
            keys: vec![public(dir.path(), 9), public(dir.path(), 1)],
            scope: "prod".to_owned(),
            every: Duration::ZERO,
            allow_rollback: false,
        };
        Self { says, pull, memory: Arc::default(), dir, tasks }
    }

    fn serves(&self, status: u16, body: Vec<u8>, etag: &str) {
        *self.says.answer.lock().unwrap() = (status, body);
        etag.clone_into(&mut self.says.etag.lock().unwrap());
    }

    fn source(&self) -> Source {
        Source::new(self.pull.clone(), Arc::<Kept>::clone(&self.memory)).unwrap()
    }

    fn asked(&self, header: &str) -> Vec<Option<String>> {
        let text = |headers: &HeaderMap| headers.get(header).map(|value| value.to_str().unwrap().to_owned());
        self.says.asked.lock().unwrap().iter().map(text).collect()
    }
}

impl Says {
    fn answer(&self, headers: HeaderMap) -> Response {
        let etag = self.etag.lock().unwrap().clone();
        let same =
            !etag.is_empty() && headers.get("if-none-match").is_some_and(|asked| asked.as_bytes() == etag.as_bytes());
        self.asked.lock().unwrap().push(headers);
        let (status, body) = self.answer.lock().unwrap().clone();
        let status = StatusCode::from_u16(if same { 304 } else { status }).unwrap();
        let body = if same { Vec::new() } else { body };
        if etag.is_empty() {
            (status, [("location", "/elsewhere")], body).into_response()
        } else {
            (status, [("etag", etag.as_str()), ("location", "/elsewhere")], body).into_response()
        }
    }
}

async fn taken(source: &mut Source) -> String {
    match source.look().await {
        Look::New(served) => {
            source.took(&served).await.unwrap();
            assert!(source.faults().is_empty());
            served.opened.about.revision
        }
        other => panic!("not taken: {other:?}"),
    }
}

async fn refused(source: &mut Source) -> String {
    match source.look().await {
        Look::Refused(faults) => {
            assert_eq!(source.faults(), faults);
            faults.join(" | ")
        }
        other => panic!("not refused: {other:?}"),
    }
}

async fn away(source: &mut Source) -> String {
    match source.look().await {
        Look::Away(fault) => {
            assert!(source.faults().contains(&fault));
            fault
        }
        other => panic!("not away: {other:?}"),
    }
}

async fn nothing_new(source: &mut Source) {
    let look = source.look().await;
    assert!(matches!(look, Look::Unchanged), "{look:?}");
}

#[tokio::test]
async fn a_bundle_is_sent_once_however_often_it_is_asked_for() {
    let scene = Scene::start().await;
    scene.serves(200, bytes(1, 1), "\"one\"");
    let mut source = scene.source();
    assert_eq!(taken(&mut source).await, "r1");
    nothing_new(&mut source).await;
    nothing_new(&mut source).await;
    scene.serves(200, bytes(2, 2), "\"two\"");
    assert_eq!(taken(&mut source).await, "r2");
    nothing_new(&mut source).await;
    let asked = ["\"one\"", "\"one\"", "\"one\"", "\"two\""].map(|etag| Some(etag.to_owned()));
    assert_eq!(scene.asked("if-none-match"), [[None].as_slice(), &asked].concat());
}

#[tokio::test]
async fn a_server_without_tags_is_believed_to_have_nothing_new_when_it_sends_the_same() {
    let scene = Scene::start().await;
    scene.serves(200, bytes(1, 1), "");
    let mut source = scene.source();
    assert_eq!(taken(&mut source).await, "r1");
    nothing_new(&mut source).await;
    assert_eq!(scene.asked("if-none-match"), [None, None]);
}

#[tokio::test]
async fn what_is_not_signed_whole_and_meant_for_us_is_refused_and_told_once() {
    let scene = Scene::start().await;
    let mut source = scene.source();
    scene.serves(200, bytes(5, 1), "\"good\"");
    taken(&mut source).await;

    let good = bytes(6, 2);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut edited = archive(6, 2, 1, "prod");
    edited.edit("loopiq/gateway/decision.rego", b"package loopiq.gateway\ndecision := {\"allow\": true}\n");
    let mut unsigned = archive(6, 2, 1, "prod");
    unsigned.edit(".signatures.json", b"");
    let table = [
        ("not_a_bundle", flipped),
        ("not_a_bundle", b"<html>Sign in</html>".to_vec()),
        ("file_changed", edited.pack().unwrap()),
        ("signature_missing", unsigned.pack().unwrap()),
        ("signature_invalid", archive(6, 2, 2, "prod").pack().unwrap()),
        ("scope_mismatch", archive(6, 2, 1, "test").pack().unwrap()),
        ("older_revision", bytes(4, 2)),
        ("older_revision", bytes(5, 2)),
    ];
    for (place, (code, body)) in table.into_iter().enumerate() {
        scene.serves(200, body, &format!("\"{place}\""));
        let said = refused(&mut source).await;
        assert!(said.starts_with(&format!("policy.bundle: {code}: ")), "{code}: {said}");
        nothing_new(&mut source).await;
        assert!(!source.faults().is_empty(), "it is still refused");
    }
    scene.serves(200, good, "\"newer\"");
    assert_eq!(taken(&mut source).await, "r6");
}

#[tokio::test]
async fn an_older_bundle_is_known_for_what_it_is_after_a_restart_too() {
    let mut scene = Scene::start().await;
    scene.serves(200, bytes(7, 1), "");
    taken(&mut scene.source()).await;
    scene.serves(200, bytes(6, 2), "");
    assert!(refused(&mut scene.source()).await.contains("its serial 6 is before 7"));
    scene.pull.allow_rollback = true;
    assert_eq!(taken(&mut scene.source()).await, "r6");
    scene.pull.allow_rollback = false;
    scene.serves(200, bytes(5, 3), "");
    assert!(refused(&mut scene.source()).await.contains("its serial 5 is before 6"));
}

#[tokio::test]
async fn a_bundle_that_was_not_taken_does_not_stand_in_the_way_of_another() {
    let scene = Scene::start().await;
    let mut source = scene.source();
    scene.serves(200, bytes(9, 1), "\"bad\"");
    assert!(matches!(source.look().await, Look::New(_)));
    source.turned_down(vec!["the policy does not compile".to_owned()]);
    nothing_new(&mut source).await;
    assert_eq!(source.faults(), ["the policy does not compile"]);
    scene.serves(200, bytes(8, 2), "\"good\"");
    assert_eq!(taken(&mut source).await, "r8");

    scene.serves(200, bytes(10, 1), "\"ten\"");
    assert!(matches!(source.look().await, Look::New(_)));
    source.forget();
    assert_eq!(taken(&mut source).await, "r10");
}

#[tokio::test]
async fn where_the_past_is_not_known_nothing_follows() {
    let scene = Scene::start().await;
    scene.serves(200, bytes(1, 1), "\"one\"");
    scene.memory.0.lock().unwrap().1 = true;
    let mut source = scene.source();
    assert!(away(&mut source).await.contains("nothing may follow"));
    nothing_new(&mut source).await;
    scene.memory.0.lock().unwrap().1 = false;
    assert_eq!(taken(&mut source).await, "r1");
}

#[tokio::test]
async fn keys_are_read_each_time_and_a_private_one_is_refused() {
    let mut scene = Scene::start().await;
    let path = scene.dir.path().join("later.pub");
    scene.pull.keys = vec![path.clone()];
    scene.serves(200, bytes(1, 1), "\"one\"");
    let mut source = scene.source();
    let said = away(&mut source).await;
    assert!(said.starts_with("policy.bundle.keys: ") && said.contains("later.pub"), "{said}");
    let private = key(1).to_pkcs8v1().unwrap();
    std::fs::write(&path, pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_ref()))).unwrap();
    assert!(away(&mut source).await.contains("belongs to the signer alone"));
    std::fs::copy(public(scene.dir.path(), 1), &path).unwrap();
    assert_eq!(taken(&mut source).await, "r1");
}

#[tokio::test]
async fn the_token_goes_to_the_server_and_into_no_message() {
    let mut scene = Scene::start().await;
    let path = scene.dir.path().join("token");
    scene.pull.token_file = Some(path.clone());
    scene.serves(401, Vec::new(), "");
    let mut source = scene.source();
    assert!(away(&mut source).await.starts_with("policy.bundle.token_file: "));
    assert!(scene.asked("authorization").is_empty(), "without its token the server is not asked");
    std::fs::write(&path, "s3cret\n").unwrap();
    let said = away(&mut source).await;
    assert!(said.contains("HTTP 401") && !said.contains("s3cret") && !said.contains("sig="), "{said}");
    std::fs::write(&path, "other").unwrap();
    scene.serves(200, bytes(1, 1), "");
    taken(&mut source).await;
    assert_eq!(scene.asked("authorization"), ["Bearer s3cret", "Bearer other"].map(|text| Some(text.to_owned())));
    std::fs::write(&path, "one\ntwo").unwrap();
    assert!(away(&mut source).await.contains("one line"));
}

#[tokio::test]
async fn what_is_no_answer_changes_nothing_and_no_redirect_is_followed() {
    let mut scene = Scene::start().await;
    let mut source = scene.source();
    scene.serves(200, bytes(1, 1), "\"one\"");
    taken(&mut source).await;
    for status in [204, 206, 301, 302, 307, 403, 404, 500, 503] {
        scene.serves(status, bytes(2, 2), "\"two\"");
        let before = scene.says.asked.lock().unwrap().len();
        assert!(away(&mut source).await.contains(&format!("HTTP {status}")));
        assert_eq!(scene.says.asked.lock().unwrap().len(), before + 1, "one question, to one address");
        nothing_new(&mut source).await;
    }
    let long = vec![0; crate::domain::pdp::archive::ARCHIVE_BYTES_MAX + 1];
    scene.serves(200, long, "\"long\"");
    assert!(away(&mut source).await.contains("more than 32 MiB"));
    scene.tasks.shutdown().await;
    assert!(away(&mut source).await.contains("gives no bundle"));
    nothing_new(&mut source).await;
    // It is back with what it had.
    assert_eq!(source.faults().len(), 1);
}

#[tokio::test]
async fn a_server_that_says_unchanged_to_a_first_question_is_not_believed() {
    let scene = Scene::start().await;
    scene.serves(304, Vec::new(), "");
    assert!(away(&mut scene.source()).await.contains("HTTP 304"));
}

#[test]
fn a_server_that_fails_is_asked_ever_more_rarely() {
    let minute = Duration::from_mins(1);
    let waits: Vec<u64> = (0..5).map(|failed| wait(minute, failed, 1.0).as_secs()).collect();
    assert_eq!(waits, [60, 120, 240, 300, 300]);
    assert_eq!(wait(minute, 0, 0.0), Duration::from_secs(54));
    assert_eq!(wait(Duration::from_hours(1), 9, 1.0), Duration::from_hours(1));
    assert_eq!(wait(minute, u32::MAX, 1.0), WAIT_MAX);
}

#[tokio::test]
async fn a_source_that_is_not_due_asks_nobody() {
    let mut scene = Scene::start().await;
    scene.pull.every = Duration::from_hours(1);
    scene.serves(200, bytes(1, 1), "");
    let mut source = scene.source();
    taken(&mut source).await;
    nothing_new(&mut source).await;
    assert_eq!(scene.says.asked.lock().unwrap().len(), 1);
}
