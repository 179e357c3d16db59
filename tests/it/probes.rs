//! Requests that two readers could read in two ways: none reaches a decision or a backend, each closes its connection.
//!
//! The table began as 72 probes that were sent to pingora's own proxy, of which 36 went through.

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::RELEASE;
use crate::harness::World;

/// What is sent: a read that is allowed, in a form that is not.
struct Probe<'a> {
    what: &'a str,
    bytes: Vec<u8>,
    /// The status of the one answer.
    status: u16,
}

/// Builds requests around one good body and one good credential.
struct Forge {
    host: String,
    bearer: String,
    body: String,
}

impl Forge {
    fn new(world: &World) -> Self {
        let host = world.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        let arguments = serde_json::json!({ "release": RELEASE });
        let params = serde_json::json!({"name": "loopiq_get_release_certification", "arguments": arguments});
        let message = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        Self { host, bearer: format!("Bearer {}", world.token("ada")), body: message.to_string() }
    }

    /// Everything in its usual place: request line, the headers that every probe has, others, body.
    fn request(&self, line: &str, headers: &str, body: &str) -> Vec<u8> {
        let (host, bearer) = (&self.host, &self.bearer);
        let common = format!(
            "Host: {host}\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        );
        format!("{line}\r\n{common}{headers}\r\n{body}").into_bytes()
    }

    fn with(&self, headers: &str) -> Vec<u8> {
        self.request("POST /mcp HTTP/1.1", &format!("{headers}Content-Length: {}\r\n", self.body.len()), &self.body)
    }

    /// The length in the probe's own words.
    fn length(&self, headers: &str) -> Vec<u8> {
        let headers = headers.replace("{n}", &self.body.len().to_string());
        self.request("POST /mcp HTTP/1.1", &headers, &self.body)
    }

    fn line(&self, line: &str) -> Vec<u8> {
        self.request(line, &format!("Content-Length: {}\r\n", self.body.len()), &self.body)
    }

    /// A body in chunks: `{n}` is its length in hex, `{b}` itself.
    fn chunks(&self, headers: &str, chunks: &str) -> Vec<u8> {
        let chunks = chunks.replace("{n}", &format!("{:x}", self.body.len())).replace("{b}", &self.body);
        self.request("POST /mcp HTTP/1.1", headers, &chunks)
    }

    /// The same with another `Host`.
    fn host(&self, hosts: &str) -> Vec<u8> {
        let text = String::from_utf8(self.with("")).unwrap();
        text.replace(&format!("Host: {}\r\n", self.host), hosts).into_bytes()
    }
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const WHOLE: &str = "{n}\r\n{b}\r\n0\r\n\r\n";

/// Lengths and codings that exclude, repeat or disguise each other.
fn lengths(forge: &Forge) -> Vec<Probe<'static>> {
    let probe = |what, bytes| Probe { what, bytes, status: 400 };
    let both = |headers: &str| forge.chunks(&headers.replace("{n}", &forge.body.len().to_string()), WHOLE);
    vec![
        probe("CL, TE", both("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n")),
        probe("TE, CL", both("Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n")),
        probe("TE, CL of 0", both("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n")),
        probe("CL twice, equal", forge.length("Content-Length: {n}\r\nContent-Length: {n}\r\n")),
        probe("CL twice, other case", forge.length("Content-Length: {n}\r\ncontent-length: {n}\r\n")),
        probe("CL twice, differing", forge.length("Content-Length: {n}\r\nContent-Length: 1\r\n")),
        probe("CL as a list", forge.length("Content-Length: {n}, {n}\r\n")),
        probe("CL with plus", forge.length("Content-Length: +{n}\r\n")),
        probe("CL with minus", forge.length("Content-Length: -{n}\r\n")),
        probe("CL in hex", forge.length("Content-Length: 0x5\r\n")),
        probe("CL with a fraction", forge.length("Content-Length: {n}.0\r\n")),
        probe("CL with a space inside", forge.length("Content-Length: 1 2\r\n")),
        probe("CL empty", forge.length("Content-Length:\r\n")),
        probe("CL that overflows", forge.length("Content-Length: 18446744073709551617\r\n")),
        probe("CL with an underscore", forge.length("Content_Length: {n}\r\n")),
        probe("CL behind a space", forge.length("Content-Length : {n}\r\n")),
        probe("CL behind a bare CR", forge.length("X: a\rContent-Length: {n}\r\n")),
        probe("CL behind a bare LF", forge.length("X: a\nContent-Length: {n}\r\n")),
        probe("CL folded", forge.length("Content-Length:\r\n {n}\r\n")),
        probe("TE twice", forge.chunks("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", WHOLE)),
        probe("TE as a list", forge.chunks("Transfer-Encoding: chunked, chunked\r\n", WHOLE)),
        probe("TE identity, chunked", forge.chunks("Transfer-Encoding: identity, chunked\r\n", WHOLE)),
        probe("TE gzip, chunked", forge.chunks("Transfer-Encoding: gzip, chunked\r\n", WHOLE)),
        probe("TE chunked, identity", forge.chunks("Transfer-Encoding: chunked, identity\r\n", WHOLE)),
        probe("TE identity", forge.chunks("Transfer-Encoding: identity\r\n", WHOLE)),
        probe("TE xchunked", forge.chunks("Transfer-Encoding: xchunked\r\n", WHOLE)),
        probe("TE with a vertical tab", forge.chunks("Transfer-Encoding: \u{b}chunked\r\n", WHOLE)),
        probe("TE quoted", forge.chunks("Transfer-Encoding: \"chunked\"\r\n", WHOLE)),
        probe("TE with an underscore", forge.chunks("Transfer_Encoding: chunked\r\n", WHOLE)),
        probe("TE behind a space", forge.chunks("Transfer-Encoding : chunked\r\n", WHOLE)),
        probe("TE folded", forge.chunks("Transfer-Encoding:\r\n chunked\r\n", WHOLE)),
        probe("TE in HTTP/1.0", {
            let text = String::from_utf8(forge.chunks(CHUNKED, WHOLE)).unwrap();
            text.replace("HTTP/1.1", "HTTP/1.0").into_bytes()
        }),
    ]
}

/// Chunks that readers frame in different ways.
fn chunks(forge: &Forge) -> Vec<Probe<'static>> {
    let probe = |what, chunks: &str| Probe { what, bytes: forge.chunks(CHUNKED, chunks), status: 400 };
    vec![
        probe("chunk extension", "{n};a=b\r\n{b}\r\n0\r\n\r\n"),
        probe("chunk extension with a bare LF", "{n};a\nb\r\n{b}\r\n0\r\n\r\n"),
        probe("a long chunk extension", &format!("{{n}};{}\r\n{{b}}\r\n0\r\n\r\n", "x".repeat(20_000))),
        probe("a space after the size", "{n} \r\n{b}\r\n0\r\n\r\n"),
        probe("a space before the size", " {n}\r\n{b}\r\n0\r\n\r\n"),
        probe("a size in other words", "0x{n}\r\n{b}\r\n0\r\n\r\n"),
        probe("a size with zeros before it", "00{n}\r\n{b}\r\n0\r\n\r\n"),
        probe("a size that overflows", "ffffffffffffffff1\r\n{b}\r\n0\r\n\r\n"),
        probe("a size and a bare LF", "{n}\n{b}\r\n0\r\n\r\n"),
        probe("data and a bare LF", "{n}\r\n{b}\n0\r\n\r\n"),
        probe("data longer than its size", "1\r\n{b}\r\n0\r\n\r\n"),
        probe("trailers", "{n}\r\n{b}\r\n0\r\nX-LoopIQ-Tenant: org_nordbank\r\n\r\n"),
        probe("an end in two digits", "{n}\r\n{b}\r\n00\r\n\r\n"),
        probe("an end with an extension", "{n}\r\n{b}\r\n0;x\r\n\r\n"),
    ]
}

/// Request lines and heads.
fn heads(forge: &Forge) -> Vec<Probe<'static>> {
    let probe = |what, bytes| Probe { what, bytes, status: 400 };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let bare = |bytes: Vec<u8>| text(bytes).replace("\r\n", "\n").into_bytes();
    vec![
        probe("bare LF everywhere", bare(forge.with(""))),
        probe("bare LF in one line", text(forge.with("X: y\r\n")).replace("y\r\n", "y\n").into_bytes()),
        probe("two spaces in the request line", forge.line("POST  /mcp HTTP/1.1")),
        probe("a space at its end", forge.line("POST /mcp HTTP/1.1 ")),
        probe("a tab in it", forge.line("POST\t/mcp HTTP/1.1")),
        probe("a space in the target", forge.line("POST /m cp HTTP/1.1")),
        probe("UTF-8 in the target", forge.line("POST /mcp\u{e9} HTTP/1.1")),
        probe("UTF-8 in the query", forge.line("POST /mcp?\u{e9} HTTP/1.1")),
        probe("a fragment", forge.line("POST /mcp#a HTTP/1.1")),
        probe("a lower-case method", forge.line("post /mcp HTTP/1.1")),
        probe("HTTP/1.2", forge.line("POST /mcp HTTP/1.2")),
        probe("HTTP/2.0", forge.line("POST /mcp HTTP/2.0")),
        probe("no version", forge.line("POST /mcp")),
        probe("dots", forge.line("POST /a/../mcp HTTP/1.1")),
        probe("two pairs of dots", forge.line("POST /a/../../mcp HTTP/1.1")),
        probe("one dot", forge.line("POST /./mcp HTTP/1.1")),
        probe("escaped dots", forge.line("POST /a/%2e%2e/mcp HTTP/1.1")),
        probe("an escaped slash", forge.line("POST /%2fmcp HTTP/1.1")),
        probe("an escaped line end", forge.line("POST /mcp%0d%0aX:y HTTP/1.1")),
        probe("an escaped NUL", forge.line("POST /mcp%00 HTTP/1.1")),
        probe("two slashes", forge.line("POST //mcp HTTP/1.1")),
        probe("a backslash", forge.line("POST /a\\..\\mcp HTTP/1.1")),
        probe("path parameters", forge.line("POST /mcp;a=b HTTP/1.1")),
        probe("an absolute target elsewhere", forge.line("POST http://evil.invalid/mcp HTTP/1.1")),
        probe("an absolute target with userinfo", forge.line(&format!("POST http://a@{}/mcp HTTP/1.1", forge.host))),
        probe("CONNECT", forge.line(&format!("CONNECT {} HTTP/1.1", forge.host))),
        probe("a GET with a body", forge.line("GET /mcp HTTP/1.1")),
        probe("a HEAD with a body", forge.line("HEAD /mcp HTTP/1.1")),
        probe("a header without a colon", forge.with("X\r\n")),
        probe("a header without a name", forge.with(": y\r\n")),
        probe("a name with a space", forge.with("X y: z\r\n")),
        probe("a folded header", forge.with("X: y\r\n z\r\n")),
        probe("NUL in a value", forge.with("X: \0\r\n")),
        probe("a control character in a value", forge.with("X: a\u{1}b\r\n")),
        probe("a second request in a value", forge.with("X: a\rPOST /mcp HTTP/1.1\r\n")),
    ]
}

/// Headers that say who asks whom, and what else may happen to them on the way.
fn names(forge: &Forge) -> Vec<Probe<'static>> {
    let (host, bearer) = (&forge.host, &forge.bearer);
    let probe = |what, status, bytes| Probe { what, bytes, status };
    vec![
        probe("no Host", 400, forge.host("")),
        probe("an empty Host", 400, forge.host("Host:\r\n")),
        probe("two Hosts", 400, forge.host(&format!("Host: {host}\r\nHost: {host}\r\n"))),
        probe("two Hosts, differing", 400, forge.host(&format!("Host: {host}\r\nHost: evil.invalid\r\n"))),
        probe("a Host with a path", 400, forge.host(&format!("Host: {host}/evil\r\n"))),
        probe("a Host with userinfo", 400, forge.host(&format!("Host: evil@{host}\r\n"))),
        probe("a Host with a comma", 400, forge.host(&format!("Host: {host},evil.invalid\r\n"))),
        probe("a Host with a space", 400, forge.host(&format!("Host: {host} evil.invalid\r\n"))),
        probe("an escaped Host", 400, forge.host("Host: localhost%2eevil.invalid\r\n")),
        probe("a foreign Host", 403, forge.host("Host: evil.invalid\r\n")),
        probe("a Host that begins as ours", 403, forge.host("Host: localhost.evil.invalid\r\n")),
        probe("a Host with a trailing dot", 403, forge.host("Host: localhost.\r\n")),
        probe("a Host without its port's number", 403, forge.host("Host: localhost:\r\n")),
        probe("a Host with two ports", 403, forge.host("Host: localhost:80:90\r\n")),
        probe("an IPv6 Host with a tail", 403, forge.host("Host: [::1]evil.invalid\r\n")),
        probe("an IPv4 address in IPv6", 403, forge.host("Host: [::ffff:127.0.0.1]\r\n")),
        probe("a foreign Origin", 403, forge.with("Origin: https://evil.invalid\r\n")),
        probe("an Origin that begins as ours", 403, forge.with("Origin: http://localhost.evil.invalid\r\n")),
        probe("an Origin with userinfo", 403, forge.with("Origin: http://localhost@evil.invalid\r\n")),
        probe("an Origin with userinfo and a port", 403, forge.with("Origin: http://localhost:80@evil.invalid\r\n")),
        probe("an Origin with a trailing dot", 403, forge.with("Origin: http://localhost.\r\n")),
        probe("an Origin of nobody", 403, forge.with("Origin: null\r\n")),
        probe(
            "two Origins, one foreign",
            403,
            forge.with("Origin: http://localhost\r\nOrigin: http://evil.invalid\r\n"),
        ),
        probe("two credentials", 400, forge.with(&format!("Authorization: {bearer}\r\n"))),
        probe("two credentials, other case", 400, forge.with("AUTHORIZATION: Bearer x\r\n")),
        probe("a credential in disguise", 400, forge.with("Author-ization: Bearer x\r\n")),
        probe("hop by hop: the tenant", 400, forge.with("Connection: X-LoopIQ-Tenant\r\n")),
        probe("hop by hop: the credential", 400, forge.with("Connection: close, Authorization\r\n")),
        probe("hop by hop: the length", 400, forge.with("Connection: content-length\r\n")),
        probe("a method in a header", 400, forge.with("X-HTTP-Method-Override: DELETE\r\n")),
        probe("a method in another header", 400, forge.with("X-HTTP-Method: PUT\r\n")),
        probe("an expectation", 417, forge.with("Expect: 200-ok\r\n")),
        probe("too many headers", 431, forge.with(&"X: y\r\n".repeat(300))),
        probe("too long a header", 431, forge.with(&format!("X: {}\r\n", "y".repeat(100_000)))),
        probe("a header of 2 MB", 431, forge.with(&format!("X: {}\r\n", "y".repeat(2_000_000)))),
    ]
}

/// Sends a probe, and behind it a good request that must not be answered on the same connection.
async fn sent(forge: &Forge, bytes: &[u8]) -> String {
    let mut client = TcpStream::connect(&forge.host).await.unwrap();
    let behind = forge.with("Connection: close\r\n");
    // The gateway may close while the client still writes; the answer arrives all the same.
    let _cut = client.write_all(&[bytes, &behind].concat()).await;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// Records of decisions and of calls that were sent on.
fn decided(journal: &[Value]) -> usize {
    let has = |record: &Value, stage: &str| record["unmapped"]["loopgate"]["stage"] == stage;
    journal.iter().filter(|one| has(one, "outcome") || has(one, "intent")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_in_two_ways_reaches_neither_a_decision_nor_a_backend() {
    let world = World::new().await;
    let forge = Forge::new(&world);
    let tables = [lengths(&forge), chunks(&forge), heads(&forge), names(&forge)];
    let probes: Vec<Probe> = tables.into_iter().flatten().collect();
    assert!(probes.len() > 100, "{} probes", probes.len());
    let mut wrong = Vec::new();
    for Probe { what, bytes, status: expected } in &probes {
        let answer = sent(&forge, bytes).await;
        let (status, answers) = (status(&answer), answer.matches("HTTP/1.1 ").count());
        // What names another server is no doubt about where a request ends, so the next one is answered.
        let next = usize::from(*expected == 403);
        if status != *expected || answers != 1 + next && *expected != 403 || answer.matches("\"result\"").count() > next
        {
            wrong.push(format!("{what}: {status}, {answers} answers"));
        }
    }
    assert!(wrong.is_empty(), "went through:\n{}", wrong.join("\n"));
    let behind = probes.iter().filter(|probe| probe.status == 403).count();
    assert!(world.seen().await.len() <= behind && decided(&world.journal()) <= behind, "the good ones alone");
    for cause in ["malformed", "head_too_long", "expectation", "host"] {
        let counted = world.metric(&format!("loopgate_door_refused_total{{cause=\"{cause}\"}}")).await;
        assert!(counted.is_some_and(|counted| counted >= 1.0), "{cause}: {counted:?}");
    }
    // Each is in the journal: in a record of its own, or in the count of a later one.
    let told = |record: &Value| record["unmapped"]["loopgate"]["data"]["turnedAway"].as_object().cloned();
    let records: Vec<_> = world.journal().iter().filter_map(told).collect();
    assert!((50..=60).contains(&records.len()), "{} records", records.len());
}

/// What looks odd and is clear: answered as any other request, so that the strict rules cost nobody anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_looks_odd_and_is_clear_is_answered() {
    let world = World::new().await;
    let forge = Forge::new(&world);
    let absolute = format!("POST http://{}/mcp HTTP/1.1", forge.host);
    let port = forge.host.rsplit(':').next().unwrap();
    let good: Vec<(&str, Vec<u8>)> = vec![
        ("chunks", forge.chunks(CHUNKED, WHOLE)),
        ("chunks in capitals", forge.chunks("transfer-encoding: Chunked\r\n", WHOLE)),
        ("an absolute target", forge.line(&absolute)),
        ("a query", forge.line("POST /mcp?a=b%20c HTTP/1.1")),
        ("an empty line before", [b"\r\n".as_slice(), &forge.with("")].concat()),
        ("an offer of h2c, as Java makes", forge.with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n")),
        ("an offer of websocket", forge.with("Connection: Upgrade\r\nUpgrade: websocket\r\n")),
        ("bytes above ASCII in a value", forge.with("X: \u{e9}\r\n")),
        ("localhost", forge.host("Host: LocalHost\r\n")),
        ("an address of the loopback net", forge.host("Host: 127.9.9.9\r\n")),
        ("IPv6", forge.host(&format!("Host: [::1]:{port}\r\n"))),
        ("IPv6 in full", forge.host("Host: [0:0:0:0:0:0:0:1]\r\n")),
        ("a page on this machine", forge.with("Origin: http://localhost:5173\r\n")),
        ("a page on this machine, by IPv6", forge.with("Origin: http://[::1]:5173\r\n")),
    ];
    for (what, bytes) in &good {
        let text = String::from_utf8_lossy(bytes).replacen("Accept:", "Connection: close\r\nAccept:", 1).into_bytes();
        let mut client = TcpStream::connect(&forge.host).await.unwrap();
        client.write_all(&text).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(status(&answer) == 200 && answer.contains("\"result\""), "{what}: {answer}");
    }
    // What came behind an offer of another protocol, or behind chunks, is believed by nobody.
    for bytes in [forge.with("Connection: Upgrade\r\nUpgrade: websocket\r\n"), forge.chunks(CHUNKED, WHOLE)] {
        let answer = sent(&forge, &bytes).await;
        assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (200, 1), "{answer}");
    }
    // Pipelined requests are each answered, in turn.
    let (close, three) = ("Connection: close\r\n", forge.with("").repeat(2));
    let mut client = TcpStream::connect(&forge.host).await.unwrap();
    client.write_all(&[three, forge.with(close)].concat()).await.unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_at_the_door_fills_no_journal() {
    let world = World::new().await;
    let forge = Forge::new(&world);
    let bad = b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n";
    for _ in 0..300 {
        let mut client = TcpStream::connect(&forge.host).await.unwrap();
        client.write_all(bad).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(status(&answer), 400);
    }
    assert_eq!(world.metric("loopgate_door_refused_total{cause=\"malformed\"}").await, Some(300.0));
    let turned: Vec<Value> = world
        .journal()
        .into_iter()
        .filter(|one| !one["unmapped"]["loopgate"]["data"]["turnedAway"].is_null())
        .collect();
    assert!((50..200).contains(&turned.len()), "{} records", turned.len());
    assert_eq!(turned[0]["src_endpoint"]["ip"], "127.0.0.1", "{}", turned[0]);
}
