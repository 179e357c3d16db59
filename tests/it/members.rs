//! A backend of several members: who is asked, who is left out, and whom the gateway believes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::harness::Setup;
use crate::harness::World;
use crate::harness::eventually;
use crate::rig::Act;
use crate::rig::Rig;
use crate::rig::Seen;

/// A world with these lines of settings for its backend, of which the first is the rest of its `url`.
async fn world(backend: String) -> World {
    World::with(Setup { backend: Some(backend), ..Setup::default() }).await
}

async fn two(settings: &str) -> (World, Rig, Rig) {
    let (one, other) = (Rig::new(|_| Act::Pass).await, Rig::new(|_| Act::Pass).await);
    let world = world(format!("{}\n    urls: [\"{}\"]\n    {settings}", one.url(), other.url())).await;
    one.behind(&world.backend);
    other.behind(&world.backend);
    (world, one, other)
}

/// A port on which nobody listens.
async fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_take_turns_or_keep_their_organisations() {
    let (world, one, other) = two("connect: 2s").await;
    for _ in 0..6 {
        world.read("ada").send().await.done();
    }
    assert_eq!((one.seen().len(), other.seen().len()), (3, 3));
    let (world, one, other) = two("balance: tenant").await;
    for _ in 0..6 {
        world.read("ada").send().await.done();
    }
    let mut shares = [one.seen().len(), other.seen().len()];
    shares.sort_unstable();
    assert_eq!(shares, [0, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_goes_to_another_member_and_a_write_that_may_have_left_does_not() {
    let (world, one, other) = two("breaker: {failures: 1000}").await;
    one.then(|_| Act::Reset);
    for _ in 0..2 {
        world.read("ada").send().await.done();
    }
    assert_eq!((one.seen().len(), other.seen().len()), (1, 2));
    one.then(|_| Act::Say(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()));
    for _ in 0..2 {
        world.read("ada").send().await.done();
    }
    let again = "loopgate_backend_retries_total{backend=\"loopiq\",why=\"failed\"}";
    let before = world.metric(again).await;
    // Of two writes in turn one meets the member that does it and says nothing; the other would do as well.
    one.then(|seen| if seen.is_write() { Act::PassThenReset } else { Act::Pass });
    let mut codes = Vec::new();
    for title in ["Sent-once-a", "Sent-once-b"] {
        codes.push(world.write("ada", title).send().await.code().to_owned());
        assert_eq!(world.work_items(title).await.len(), 1, "{title}: exactly one effect");
    }
    codes.sort_unstable();
    assert_eq!(codes, ["execution_unknown", "ok"]);
    assert_eq!(world.metric(again).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_which_nothing_left_goes_to_another_member() {
    let rig = Rig::new(|_| Act::Pass).await;
    let away = nobody().await;
    let world = world(format!("{away}\n    urls: [\"{}\"]\n    breaker: {{failures: 1000}}", rig.url())).await;
    rig.behind(&world.backend);
    for nth in 0..4 {
        world.write("ada", &format!("Elsewhere-{nth}-x")).send().await.done();
        assert_eq!(world.work_items(&format!("Elsewhere-{nth}-x")).await.len(), 1);
    }
    let again = world.metric("loopgate_backend_retries_total{backend=\"loopiq\",why=\"unsent\"}").await;
    assert_eq!(again, Some(2.0), "every second one met nobody first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_fail_are_tried_again_within_a_budget() {
    let (world, one, other) = two("breaker: {failures: 1000}").await;
    one.then(|_| Act::Reset);
    other.then(|_| Act::Reset);
    for _ in 0..40 {
        world.read("ada").send().await.is_refused("backend_failed");
    }
    let denied = world.metric("loopgate_backend_retries_total{backend=\"loopiq\",why=\"denied\"}").await;
    assert!(denied.is_some_and(|denied| denied > 0.0), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_fails_its_checks_is_left_out_unless_all_do() {
    let (world, one, other) = two("health: {path: /well, every: 100ms, unhealthy: 1, healthy: 1}").await;
    let well = |_: &_| Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
    let sick = |_: &_| Act::Say(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec());
    let by = move |is_well: bool| {
        move |seen: &Seen| match (seen.path.as_str(), is_well) {
            ("/well", true) => well(seen),
            ("/well", false) => sick(seen),
            _ => Act::Pass,
        }
    };
    let unhealthy = |wanted: f64| {
        let world = &world;
        eventually("health is known", move || async move {
            let found = world.metric("loopgate_backend_members{backend=\"loopiq\",state=\"unhealthy\"}").await;
            (found == Some(wanted)).then_some(())
        })
    };
    one.then(by(false));
    other.then(by(true));
    unhealthy(1.0).await;
    let calls = |rig: &Rig| rig.seen().iter().filter(|seen| seen.path != "/well").count();
    for _ in 0..4 {
        world.read("ada").send().await.done();
    }
    assert_eq!((calls(&one), calls(&other)), (0, 4));
    let seen = one.seen();
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("authorization")), "a check shows no credential");
    let ready = world.readiness().await;
    assert!(
        ready["ready"] == true
            && ready["findings"].to_string().contains("fails its health checks (/well answered 500)"),
        "{ready}"
    );

    other.then(by(false));
    unhealthy(2.0).await;
    for _ in 0..4 {
        world.read("ada").send().await.done();
    }
    assert_eq!((calls(&one), calls(&other)), (2, 6), "all are tried when none is well");
    assert_eq!(world.readiness().await["ready"], true);
    one.then(by(true));
    unhealthy(1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_taken_off_the_list_finishes_what_it_has_and_gets_nothing_new() {
    let let_go = Arc::new(Semaphore::new(0));
    let (old, new) = (Rig::new(|_| Act::Pass).await, Rig::new(|_| Act::Pass).await);
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), format!("# members\n{}\n", old.url())).unwrap();
    let world = world(format!("\"\"\n    members_file: {}", list.path().display())).await;
    old.behind(&world.backend);
    new.behind(&world.backend);
    // One connection idle, one in use.
    world.read("ada").send().await.done();
    let until = Arc::clone(&let_go);
    old.then(move |seen| if seen.is_write() { Act::Held(Arc::clone(&until)) } else { Act::Pass });
    let write = world.write("ada", "On-its-way");
    let mut under_way = JoinSet::new();
    under_way.spawn(async move { write.send().await });
    eventually("a write is under way", || async { old.seen().iter().any(Seen::is_write).then_some(()) }).await;
    world.read("ada").send().await.done();
    assert_eq!(old.open(), 2);

    fs::write(list.path(), format!("{}\n", new.url())).unwrap();
    eventually("the idle connection is closed", || async { (old.open() == 1).then_some(()) }).await;
    let before = old.seen().len();
    for _ in 0..3 {
        world.read("ada").send().await.done();
    }
    assert_eq!((old.seen().len(), new.seen().len()), (before, 3));
    let_go.add_permits(1);
    under_way.join_next().await.unwrap().unwrap().done();
    eventually("the last connection is closed", || async { (old.open() == 0).then_some(()) }).await;
    // A list that cannot be read leaves the members that there were.
    fs::write(list.path(), "nonsense\n").unwrap();
    eventually("it is told", || async {
        world.readiness().await["findings"].to_string().contains("`nonsense` is not a URL").then_some(())
    })
    .await;
    world.read("ada").send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_this_machine_is_not_followed_unless_the_settings_say_so() {
    let rig = Rig::new(|_| Act::Pass).await;
    let port = rig.addr.unwrap().port();
    // Names to the gateway, and to the resolver other ways to write 127.0.0.1.
    for name in ["127.1", "0x7f000001", "2130706433"] {
        let world = world(format!("http://{name}:{port}")).await;
        for call in [world.read("ada"), world.write("ada", "Not-followed")] {
            let answer = call.send().await;
            answer.is_refused("backend_unavailable");
            assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
        }
        let ready = world.readiness().await["findings"].to_string();
        assert!(ready.contains("is private") && ready.contains("allow_private"), "{ready}");
    }
    assert!(rig.seen().is_empty());
    let world = world(format!("http://127.1:{port}\n    allow_private: true")).await;
    rig.behind(&world.backend);
    world.read("ada").send().await.done();
    // `localhost` is no secret.
    let rig = Rig::new(|_| Act::Pass).await;
    let world = self::world(format!("http://localhost:{}", rig.addr.unwrap().port())).await;
    rig.behind(&world.backend);
    world.read("ada").send().await.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_is_a_backend_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loopiq.sock");
    let rig = Rig::on_socket(&path, |_| Act::Pass);
    let world = world(format!("unix:{}\n    host: loopiq.internal", path.display())).await;
    rig.behind(&world.backend);
    world.read("ada").send().await.done();
    world.write("ada", "Through-a-socket").send().await.done();
    let seen = rig.seen();
    assert!(seen.iter().all(|seen| seen.headers["host"] == "loopiq.internal"), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.connection == 0), "one connection is enough");
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, as PEM.
fn issue(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// A server that shows this and, with `clients`, wants theirs.
fn acceptor((certificate, key): &(String, String), clients: Option<&Authority>, alpn: &[&str]) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn tls(dir: &Path, more: &str) -> String {
    format!("\n    tls: {{ca: {}/ca.pem, {more}}}\n    breaker: {{failures: 1000}}", dir.display())
}

fn https(rig: &Rig) -> String {
    format!("https://{}", rig.addr.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_is_believed_by_its_authority_and_its_name_and_nothing_is_sent_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    fs::write(dir.path().join("ca.pem"), ours.pem()).unwrap();
    for (what, shown, more, good) in [
        ("ours", issue(&ours, "127.0.0.1"), "", true),
        ("ours by another name", issue(&ours, "loopiq.internal"), "name: loopiq.internal", true),
        ("another name", issue(&ours, "loopiq.internal"), "", false),
        ("another authority", issue(&theirs, "127.0.0.1"), "", false),
    ] {
        let rig = Rig::with_tls(acceptor(&shown, None, &[]), |_| Act::Pass).await;
        let world = world(format!("{}{}", https(&rig), tls(dir.path(), more))).await;
        rig.behind(&world.backend);
        let (read, write) = (world.read("ada").send().await, world.write("ada", "Believed").send().await);
        let wanted = if good { "ok" } else { "backend_unavailable" };
        assert_eq!((read.code(), write.code()), (wanted, wanted), "{what}: {}", read.text);
        assert_eq!(rig.seen().is_empty(), !good, "{what}");
    }
    // The system's roots do not know our authority.
    let rig = Rig::with_tls(acceptor(&issue(&ours, "127.0.0.1"), None, &[]), |_| Act::Pass).await;
    world(https(&rig)).await.read("ada").send().await.is_refused("backend_unavailable");
    // Nor does anybody speak to a backend whose authority cannot be read.
    fs::write(dir.path().join("ca.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let world = world(format!("{}{}", https(&rig), tls(dir.path(), ""))).await;
    world.read("ada").send().await.is_refused("backend_unavailable");
    assert!(world.readiness().await["findings"].to_string().contains("ca.pem"));
    assert!(rig.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_certificates_are_used_for_what_follows_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, first, second) = (authority(), authority(), authority());
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let show = |by: &Authority| {
        let (certificate, key) = issue(by, "gateway");
        put("key.pem", &key);
        put("own.pem", &certificate);
    };
    put("ca.pem", &ours.pem());
    show(&first);
    let own = format!("certificate: {0}/own.pem, key: {0}/key.pem", dir.path().display());
    let shown = issue(&ours, "127.0.0.1");
    let rig = Rig::with_tls(acceptor(&shown, Some(&first), &[]), |_| Act::Pass).await;
    let strict = Rig::with_tls(acceptor(&shown, Some(&second), &[]), |_| Act::Pass).await;
    let list = dir.path().join("members");
    fs::write(&list, https(&rig)).unwrap();
    let world = world(format!("\"\"\n    members_file: {}{}", list.display(), tls(dir.path(), &own))).await;
    rig.behind(&world.backend);
    strict.behind(&world.backend);
    world.read("ada").send().await.done();
    // A key that does not belong to the certificate: what was good stays in use.
    put("key.pem", &issue(&second, "gateway").1);
    eventually("it is told", || async {
        world.readiness().await["findings"].to_string().contains("does not belong").then_some(())
    })
    .await;
    world.read("ada").send().await.done();
    // Another authority's certificate is shown to whoever wants that one.
    show(&second);
    eventually("connections of before are closed", || async { (rig.open() == 0).then_some(()) }).await;
    fs::write(&list, https(&strict)).unwrap();
    eventually("the new certificate is shown", || async {
        (world.read("ada").send().await.code() == "ok").then_some(())
    })
    .await;
    assert_eq!(strict.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_http_2_says_was_refused_was_not_processed() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    fs::write(dir.path().join("ca.pem"), ours.pem()).unwrap();
    let tls_server = acceptor(&issue(&ours, "127.0.0.1"), None, &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let reasons = Arc::new(std::sync::Mutex::new(vec![h2::Reason::CANCEL, h2::Reason::REFUSED_STREAM]));
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, reasons) = (tls_server.clone(), Arc::clone(&reasons));
            connections.spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut answers = JoinSet::new();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let reasons = Arc::clone(&reasons);
                    answers.spawn(async move {
                        let post = request.method() == "POST";
                        // WHY: a reset that overtakes the body fails the body's sending, which proves nothing.
                        let mut body = request.into_body();
                        while body.data().await.is_some() {}
                        let reason = if post { reasons.lock().unwrap().pop() } else { None };
                        if let Some(reason) = reason {
                            return respond.send_reset(reason);
                        }
                        let head = http::Response::builder().status(409).header("content-type", "application/json");
                        let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                        body.send_data(r#"{"error": {"code": "by_http_2"}}"#.into(), true).unwrap();
                    });
                }
            });
        }
    });
    let world = world(format!("https://{addr}{}\n    http2: auto", tls(dir.path(), ""))).await;
    let read = world.read("ada").send().await;
    assert!(read.text.contains("by_http_2"), "{}", read.text);
    let refused = world.write("ada", "Refused").send().await;
    refused.is_refused("backend_unavailable");
    assert_eq!(world.record(refused.audit())["unmapped"]["loopgate"]["execution"]["outcome"], "not_sent");
    // Any other reset proves nothing.
    world.write("ada", "Cancelled").send().await.is_refused("execution_unknown");
    server.abort_all();
    assert_eq!(json!(world.work_items("Refused").await), json!([]));
}
