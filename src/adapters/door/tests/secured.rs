//! TLS, HTTP/2 and the Unix socket, with real clients of each and some that do not behave.

use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use http::{Method, Request, Version};
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::adapters::tls::forge::{Authority, Identity};
use crate::adapters::tls::{Clients, Files};
use crate::metrics::Metrics;
use crate::pep::ports::Clock;

const GOOD: (i32, i32) = (2020, 2035);

struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 16] {
        [0; 16]
    }
}

/// A stage behind TLS.
struct Secured {
    stage: Stage,
    ours: Authority,
    dir: tempfile::TempDir,
    tls: Arc<tls::Server>,
}

async fn secured_with(limits: DoorLimits, required: Option<bool>) -> Secured {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    ours.server(&["localhost"], GOOD).save(dir.path());
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &ours.pem).unwrap();
    let files = Files {
        certificate: dir.path().join("certificate.pem"),
        key: dir.path().join("key.pem"),
        clients: required.map(|required| Clients { ca, required }),
    };
    let clock = Arc::new(Hands(AtomicI64::new(1_795_219_200_000)));
    let protocols = [tls::H2, tls::HTTP11];
    let tls = Arc::new(tls::Server::open("listen.tls", files, &protocols, clock, Arc::new(Metrics::new())).unwrap());
    let stage = stage_at(limits, Some(Arc::clone(&tls)), None).await;
    Secured { stage, ours, dir, tls }
}

async fn secured() -> Secured {
    secured_with(DoorLimits::default(), None).await
}

impl Secured {
    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.stage.addr.port())
    }

    /// A client as people have it.
    fn client(&self, identity: Option<&Identity>) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.ours.pem.as_bytes()).unwrap();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
        let builder = builder.resolve("localhost", self.stage.addr);
        match identity {
            Some(one) => {
                let pem = format!("{}{}", one.certificate, one.key);
                builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
            }
            None => builder,
        }
        .build()
        .unwrap()
    }

    async fn tls(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = pem::parse(&self.ours.pem).unwrap();
        roots.add(pem.contents().to_vec().into()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(ServerName::try_from("localhost").unwrap(), self.stage.connect().await).await.unwrap()
    }

    /// A client of HTTP/2 that does as it is told.
    async fn http2(&self, tasks: &mut JoinSet<()>) -> SendRequest<Bytes> {
        let (client, connection) = handshake(self.tls(tls::H2).await).await.unwrap();
        tasks.spawn(async { drop(connection.await) });
        client.ready().await.unwrap()
    }
}

fn ask(path: &str) -> http::request::Builder {
    Request::builder().method(Method::POST).uri(format!("https://localhost{path}")).version(Version::HTTP_2)
}

/// The status, or why there is none.
async fn told(client: &SendRequest<Bytes>, request: http::request::Builder, body: &[&str]) -> Result<u16, h2::Error> {
    let mut client = client.clone().ready().await?;
    let (answer, mut sender) = client.send_request(request.body(()).unwrap(), body.is_empty())?;
    for (at, piece) in body.iter().enumerate() {
        // Who is refused early is reset, and the answer says why.
        let _cut = sender.send_data(Bytes::copy_from_slice(piece.as_bytes()), at + 1 == body.len());
    }
    Ok(answer.await?.status().as_u16())
}

#[tokio::test]
async fn tls_speaks_http2_and_http1_and_the_rules_are_the_same() {
    let mut stage = secured().await;
    let client = stage.client(None);
    let answer = client.post(stage.url("/mcp")).body("hello").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    assert_eq!(answer.text().await.unwrap(), "hello");
    let answer = client.post(stage.url("/who")).send().await.unwrap().text().await.unwrap();
    let who: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let host = format!("localhost:{}", stage.stage.addr.port());
    assert_eq!(who, serde_json::json!({"certificate": null, "hosts": [host], "peer": "127.0.0.1"}));
    let long = client.post(stage.url("/mcp")).body(vec![b'x'; 2 << 20]).send().await.unwrap();
    assert_eq!(long.status(), 413);
    let big = client.post(stage.url("/big")).send().await.unwrap();
    assert_eq!(big.bytes().await.unwrap().len(), 3_000_000);

    let mut http1 = stage.tls(tls::HTTP11).await;
    for body in ["one", "two"] {
        http1.write_all(post("/mcp", body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with(&format!("\r\n\r\n{body}")) {
            answer.push(char::from(http1.read_u8().await.unwrap()));
        }
    }
    assert_eq!(stage.stage.turned(), []);
}

#[tokio::test]
async fn progress_reaches_a_client_of_http2_as_a_stream() {
    let stage = secured().await;
    let asked = stage.client(None).post(stage.url("/steps")).header("accept", "text/event-stream").body("\"hi\"");
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    assert_eq!(text.matches("notifications/progress").count(), 3, "{text}");
    assert!(text.ends_with("data: \"hi\"\n\n"), "{text}");
}

#[tokio::test]
async fn what_http2_could_smuggle_reaches_nobody() {
    let mut stage = secured().await;
    let mut tasks = JoinSet::new();
    let client = stage.http2(&mut tasks).await;
    for (what, request, body) in [
        ("Connection", ask("/mcp").header("connection", "close"), &[][..]),
        ("Transfer-Encoding", ask("/mcp").header("transfer-encoding", "chunked"), &["0\r\n\r\n"]),
        ("Upgrade", ask("/mcp").header("upgrade", "websocket"), &[]),
        ("two hosts", ask("/mcp").header("host", "evil.example"), &[]),
        ("two Hosts", ask("/mcp").header("host", "localhost").header("host", "localhost"), &[]),
        ("two credentials", ask("/mcp").header("authorization", "a").header("authorization", "b"), &[]),
        ("a method in disguise", ask("/mcp").header("x-http-method-override", "DELETE"), &[]),
        ("a misspelt length", ask("/mcp").header("content_length", "2"), &["ok"]),
        ("two lengths", ask("/mcp").header("content-length", "2").header("content-length", "3"), &["ok"]),
        ("a length that is none", ask("/mcp").header("content-length", "+2"), &["ok"]),
        ("a path with dots", ask("/a/../mcp"), &[]),
        ("an escaped path", ask("/%6dcp"), &[]),
        ("two slashes", ask("//mcp"), &[]),
        ("userinfo", Request::builder().method("POST").uri("https://a@localhost/mcp"), &[]),
        ("CONNECT", Request::builder().method("CONNECT").uri("localhost:80"), &[]),
    ] {
        let refused = told(&client, request, body).await;
        assert!(matches!(&refused, Err(_) | Ok(400)), "{what}: {refused:?}");
        assert_eq!(stage.stage.saw(), [""; 0], "{what}");
    }
    // A body that is not as long as was said is read by nobody as a whole one.
    for body in [&["o"][..], &["okk"]] {
        let broken = told(&client, ask("/mcp").header("content-length", "2"), body).await;
        assert!(matches!(&broken, Err(_) | Ok(400)), "{broken:?}");
        assert!(stage.stage.saw().iter().all(|seen| seen == "/mcp Broken"));
    }
    assert_eq!(told(&client, ask("/mcp"), &["still here"]).await.unwrap(), 200);
    assert!(stage.stage.turned().contains(&Turned::Malformed));
}

#[tokio::test]
async fn a_head_of_http2_has_a_size() {
    let mut stage = secured_with(DoorLimits { head_bytes_max: 4096, ..DoorLimits::default() }, None).await;
    let mut tasks = JoinSet::new();
    let client = stage.http2(&mut tasks).await;
    assert_eq!(told(&client, ask("/mcp").header("x", "x".repeat(3000)), &[]).await.unwrap(), 200);
    let endless = told(&client, ask("/mcp").header("x", "x".repeat(5000)), &[]).await;
    assert!(matches!(&endless, Err(_) | Ok(431)), "{endless:?}");
    let many = (0..100).fold(ask("/mcp"), |request, _| request.header("x", "y"));
    let many = told(&client, many, &[]).await;
    assert!(matches!(&many, Err(_) | Ok(431)), "{many:?}");
    assert_eq!(stage.stage.saw(), ["/mcp begins", "/mcp ends"]);
}

#[tokio::test]
async fn a_reset_cancels_the_call_and_too_many_end_the_connection() {
    let mut stage = secured().await;
    let mut tasks = JoinSet::new();
    let client = stage.http2(&mut tasks).await;
    let mut resets = 0;
    // The client is cut off long before this many.
    while resets < 1000 {
        let Ok(mut ready) = client.clone().ready().await else { break };
        let Ok((answer, mut sender)) = ready.send_request(ask("/until-gone").body(()).unwrap(), true) else { break };
        // Until the call is under way, so that none is lost before it counts.
        let seen = tokio::select! {
            seen = stage.stage.seen.recv() => seen,
            _ = answer => None,
        };
        if seen.as_deref() != Some("/until-gone begins") {
            break;
        }
        sender.send_reset(h2::Reason::CANCEL);
        resets += 1;
        let ended = tokio::select! {
            ended = stage.stage.seen.recv() => ended,
            Some(_) = tasks.join_next() => break,
        };
        assert_eq!(ended.as_deref(), Some("/until-gone ends"), "a reset cancels");
    }
    assert!((60..1000).contains(&resets), "{resets} resets");
    let (cause, peer) = stage.stage.turned.recv().await.unwrap();
    assert_eq!((cause, peer.map(|peer| peer.ip().is_loopback())), (Turned::Http2, Some(true)));
}

#[tokio::test]
async fn streams_that_find_no_seat_are_told_so_and_resets_make_no_room() {
    let limits = DoorLimits { connections_max: 1, read_within: Duration::from_millis(100), ..DoorLimits::default() };
    let mut stage = secured_with(limits, None).await;
    let mut tasks = JoinSet::new();
    let client = stage.http2(&mut tasks).await;
    let mut first = client.clone().ready().await.unwrap();
    let (_answer, mut sender) = first.send_request(ask("/held").body(()).unwrap(), true).unwrap();
    stage.stage.expect("/held begins").await;
    assert_eq!(told(&client, ask("/mcp"), &[]).await.unwrap(), 503);
    // The call goes on when its stream is reset, and keeps its place.
    sender.send_reset(h2::Reason::CANCEL);
    assert_eq!(told(&client, ask("/mcp"), &[]).await.unwrap(), 503);
    assert_eq!(stage.stage.saw(), [""; 0]);
    stage.stage.release.notify_one();
    stage.stage.expect("/held ends").await;
    assert_eq!(told(&client, ask("/mcp"), &[]).await.unwrap(), 200);
}

#[tokio::test]
async fn calls_that_outlive_their_streams_do_not_make_room_for_ever_more() {
    let mut stage = secured_with(DoorLimits::default(), None).await;
    let mut tasks = JoinSet::new();
    let client = stage.http2(&mut tasks).await;
    for _ in 0..64 {
        let mut ready = client.clone().ready().await.unwrap();
        let (_answer, mut sender) = ready.send_request(ask("/held").body(()).unwrap(), true).unwrap();
        stage.stage.expect("/held begins").await;
        sender.send_reset(h2::Reason::CANCEL);
    }
    assert!(told(&client, ask("/mcp"), &[]).await.is_err(), "no more than two for each stream");
    stage.stage.release.notify_one();
    stage.stage.expect("/held ends").await;
    assert_eq!(told(&client, ask("/mcp"), &[]).await.unwrap(), 200);
}

#[tokio::test]
async fn a_slow_body_of_http2_is_cut_off_and_a_silent_connection_is_closed() {
    let limits = DoorLimits {
        read_within: Duration::from_millis(100),
        keep_alive: Duration::from_millis(300),
        ..DoorLimits::default()
    };
    let mut stage = secured_with(limits, None).await;
    let mut tasks = JoinSet::new();
    let client = stage.http2(&mut tasks).await;
    let mut ready = client.clone().ready().await.unwrap();
    let (answer, mut sender) = ready.send_request(ask("/mcp").body(()).unwrap(), false).unwrap();
    sender.send_data(Bytes::from_static(b"drip"), false).unwrap();
    assert_eq!(answer.await.unwrap().status(), 408);
    stage.stage.expect("/mcp Timeout").await;
    // Nobody asks for anything: the connection's own task ends.
    tasks.join_next().await.unwrap().unwrap();
    // And so does one that never says that it speaks HTTP/2, or never ends its handshake.
    for protocol in [Some(tls::H2), None] {
        match protocol {
            // Cut off without a word, which TLS tells from a goodbye.
            Some(protocol) => drop(stage.tls(protocol).await.read_to_end(&mut Vec::new()).await),
            None => assert_eq!(read_to_end(&mut stage.stage.connect().await).await, ""),
        }
        assert_eq!(stage.stage.turned.recv().await.unwrap().0, Turned::TooSlow, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_verified_before_anybody_hears_of_it() {
    let mut stage = secured_with(DoorLimits::default(), Some(true)).await;
    let foreign = Authority::new("theirs");
    let good = stage.ours.client("helix.internal", "spiffe://loopiq/helix", GOOD);
    for (what, identity) in [
        ("none", None),
        ("expired", Some(stage.ours.client("helix.internal", "spiffe://loopiq/helix", (2020, 2021)))),
        ("not yet good", Some(stage.ours.client("helix.internal", "spiffe://loopiq/helix", (2034, 2035)))),
        ("of another authority", Some(foreign.client("helix.internal", "spiffe://loopiq/helix", GOOD))),
        ("a server's", Some(stage.ours.server(&["helix.internal"], GOOD))),
    ] {
        let sent = stage.client(identity.as_ref()).post(stage.url("/who")).send().await;
        assert!(sent.is_err(), "{what}");
        assert_eq!(stage.stage.turned.recv().await.unwrap().0, Turned::Tls, "{what}");
    }
    let text = stage.client(Some(&good)).post(stage.url("/who")).send().await.unwrap().text().await.unwrap();
    let who: serde_json::Value = serde_json::from_str(&text).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &good.der);
    let hex = digest.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    assert_eq!(who["certificate"], serde_json::json!([hex, ["dns:helix.internal", "uri:spiffe://loopiq/helix"]]));
    // Where a certificate is only asked for, a bad one is still sent away.
    let mut optional = secured_with(DoorLimits::default(), Some(false)).await;
    let text = optional.client(None).post(optional.url("/who")).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("\"certificate\":null"), "{text}");
    let bad = foreign.client("helix.internal", "spiffe://loopiq/helix", GOOD);
    assert!(optional.client(Some(&bad)).post(optional.url("/who")).send().await.is_err());
    assert_eq!(optional.stage.turned.recv().await.unwrap().0, Turned::Tls);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_whoever_connects_next() {
    let stage = secured().await;
    let (_stop, stopped) = watch::channel(false);
    let mut watching = JoinSet::new();
    let tls = Arc::clone(&stage.tls);
    watching.spawn(async move { tls.watch(Duration::from_millis(5), stopped).await });
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let mut open = stage.tls(tls::HTTP11).await;
    let before = shown(&open);
    let next = stage.ours.server(&["localhost"], GOOD);
    next.save(stage.dir.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    while shown(&stage.tls(tls::HTTP11).await) == before {
        assert!(Instant::now() < deadline, "the renewed certificate is never shown");
    }
    assert_eq!(shown(&stage.tls(tls::HTTP11).await), next.der);
    // Connections that are open stay so.
    open.write_all(post("/mcp", "x").replace("Host", "Connection: close\r\nHost").as_bytes()).await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nx"), "{answer}");
}

#[tokio::test]
async fn what_is_no_tls_is_turned_away() {
    let mut stage = secured().await;
    let mut plain = stage.stage.connect().await;
    plain.write_all(post("/mcp", "x").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // An alert, or a reset; never an answer.
    let _reset = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(stage.stage.turned.recv().await.unwrap().0, Turned::Tls);
    assert_eq!(stage.stage.saw(), [""; 0]);
}

#[tokio::test]
async fn closing_says_goodbye_to_http2_and_lets_calls_finish() {
    let mut stage = secured().await;
    let (client, url) = (stage.client(None), stage.url("/held"));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { client.post(url).body("in time").send().await.unwrap().text().await.unwrap() });
    stage.stage.expect("/held begins").await;
    stage.stage.shutdown.send(true).unwrap();
    stage.stage.release.notify_one();
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), "in time");
    let closed = stage.stage.running.join_next().await.unwrap().unwrap();
    assert_eq!(closed, Closed { calls_cut: 0, connections_cut: 0 });
}

#[tokio::test]
async fn a_unix_socket_is_a_door_like_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcp.sock");
    let mut stage = stage_at(DoorLimits::default(), None, Some(path.clone())).await;
    let mut client = UnixStream::connect(&path).await.unwrap();
    for _again in 0..2 {
        client.write_all(post("/who", "").as_bytes()).await.unwrap();
        let end = "\"peer\":null}";
        let mut answer = String::new();
        while !answer.ends_with(end) {
            answer.push(char::from(client.read_u8().await.unwrap()));
        }
        assert!(answer.contains("localhost"), "{answer}");
    }
    client.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\nx").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), "400");
    assert_eq!(stage.turned.recv().await.unwrap(), (Turned::Malformed, None));
    stage.shutdown.send(true).unwrap();
    stage.running.join_next().await.unwrap().unwrap();
    assert!(!path.exists());
}
