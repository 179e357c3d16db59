//! The door over real sockets, with clients that do not behave.

mod secured;

use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::domain::identity::ClientCertificate;
use crate::domain::mcp::{Head, RequestId};
use crate::pep::arrival::{Answer, Arrival, Progress};

/// A gate whose behaviour is in the path.
struct Scripted {
    seen: mpsc::UnboundedSender<String>,
    turned: mpsc::UnboundedSender<(Turned, Option<SocketAddr>)>,
    release: Arc<Notify>,
}

#[async_trait]
impl Gate for Scripted {
    async fn admits(&self, head: &Head, _certificate: Option<&ClientCertificate>) -> bool {
        head.path != "/stranger"
    }

    async fn turned_away(&self, cause: Turned, peer: Option<SocketAddr>) {
        self.turned.send((cause, peer)).unwrap();
    }

    async fn handle(&self, arrival: Arrival, progress: Progress) -> Answer {
        let path = arrival.head.path.clone();
        let tell = |what: &str| self.seen.send(format!("{path} {what}")).unwrap();
        if path == "/who" {
            let certificate = arrival.certificate.as_deref().map(|shown| (&shown.sha256, &shown.names));
            let hosts: Vec<_> = arrival.head.all("host").collect();
            let peer = arrival.peer.map(|peer| peer.ip());
            let who = serde_json::json!({"certificate": certificate, "hosts": hosts, "peer": peer});
            return Answer::json(200, who.to_string().into_bytes());
        }
        let body = match &arrival.body {
            Ok(body) => body.clone(),
            Err(fault) => {
                tell(&format!("{fault:?}"));
                return Answer::fault(None, &fault.fault());
            }
        };
        tell("begins");
        match path.as_str() {
            "/until-gone" => arrival.cancel.raised().await,
            "/held" => self.release.notified().await,
            "/panic" => panic!("as asked"),
            "/steps" => {
                progress.enable(RequestId::Text("t".into()));
                for step in 1..=3 {
                    progress.send(step, 3, "step");
                }
            }
            "/slow-steps" => {
                progress.enable(RequestId::Number(1));
                progress.send(1, 2, "step");
                self.release.notified().await;
            }
            "/flood" => {
                progress.enable(RequestId::Number(1));
                for step in 1..100_000 {
                    progress.send(step, 100_000, &"x".repeat(1000));
                    tokio::task::yield_now().await;
                }
            }
            "/big" => return Answer::json(200, vec![b'x'; 3_000_000]),
            "/bad-header" => return Answer::json(200, b"{}".to_vec()).with("x-a", "a\r\nX-Evil: 1").with("x-b", "b"),
            _ => {}
        }
        tell("ends");
        Answer::json(200, body.to_vec())
    }
}

struct Stage {
    addr: SocketAddr,
    seen: mpsc::UnboundedReceiver<String>,
    turned: mpsc::UnboundedReceiver<(Turned, Option<SocketAddr>)>,
    release: Arc<Notify>,
    shutdown: watch::Sender<bool>,
    running: JoinSet<Closed>,
}

async fn stage_with(limits: DoorLimits) -> Stage {
    stage_at(limits, None, None).await
}

async fn stage_at(limits: DoorLimits, tls: Option<Arc<tls::Server>>, socket: Option<PathBuf>) -> Stage {
    let rules =
        DoorRules { loopback: true, allowed_origins: vec!["https://app.example".into()], ..DoorRules::default() };
    let addr = SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    let door = Door::open(Listen { addr, tls, socket, rules, limits }).await.unwrap();
    let addr = door.addr();
    let (tell, seen) = mpsc::unbounded_channel();
    let (tell_turned, turned) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let (shutdown, closing) = watch::channel(false);
    let mut running = JoinSet::new();
    running.spawn(
        door.run(Arc::new(Scripted { seen: tell, turned: tell_turned, release: Arc::clone(&release) }), closing),
    );
    Stage { addr, seen, turned, release, shutdown, running }
}

async fn stage() -> Stage {
    stage_with(DoorLimits::default()).await
}

impl Stage {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads until the door closes it.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        client.write_all(bytes).await.unwrap();
        read_to_end(&mut client).await
    }

    fn saw(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    fn turned(&mut self) -> Vec<Turned> {
        std::iter::from_fn(|| self.turned.try_recv().ok()).map(|(cause, _)| cause).collect()
    }

    async fn expect(&mut self, what: &str) {
        assert_eq!(self.seen.recv().await.unwrap(), what);
    }
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn read_to_end(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Reads one answer with a content length and leaves the connection open.
async fn read_one(client: &mut TcpStream) -> (String, String) {
    let head = read_until(client, "\r\n\r\n").await;
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(client.read_u8().await.unwrap()));
    }
    text
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn a_connection_carries_request_after_request() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    for body in ["one", "", "three"] {
        client.write_all(post("/mcp", body).as_bytes()).await.unwrap();
        let (head, echoed) = read_one(&mut client).await;
        assert_eq!((status(&head), echoed.as_str()), ("200", body), "{head}");
        assert!(head.to_ascii_lowercase().contains("connection: keep-alive"), "{head}");
        assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    }
    client
        .write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
        .await
        .unwrap();
    assert!(read_to_end(&mut client).await.ends_with("\r\n\r\nx"));
    assert!(stage.send(b"POST /mcp HTTP/1.0\r\nContent-Length: 1\r\n\r\nx").await.ends_with("\r\n\r\nx"));
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let mut stage = stage().await;
    let mut client = stage.connect().await;
    let all = [post("/mcp", "first"), post("/b", "second"), post("/mcp", "third")].concat();
    client.write_all(all.as_bytes()).await.unwrap();
    for body in ["first", "second", "third"] {
        assert_eq!(read_one(&mut client).await.1, body);
    }
    // The next request arrives while the first is under way, byte by byte around the idle probe.
    client.write_all(post("/held", "held").as_bytes()).await.unwrap();
    while stage.seen.recv().await.unwrap() != "/held begins" {}
    client.write_all(post("/mcp", "after").as_bytes()).await.unwrap();
    stage.release.notify_one();
    assert_eq!(read_one(&mut client).await.1, "held");
    assert_eq!(read_one(&mut client).await.1, "after");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off_with_408() {
    let mut stage = stage_with(DoorLimits { read_within: Duration::from_millis(60), ..DoorLimits::default() }).await;
    assert_eq!(status(&stage.send(b"POST /mcp HTTP/1.1\r\nHost: local").await), "408");
    assert_eq!(stage.saw(), [""; 0]);
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off_with_408() {
    let mut stage = stage_with(DoorLimits { read_within: Duration::from_millis(60), ..DoorLimits::default() }).await;
    let mut client = stage.connect().await;
    client.write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n").await.unwrap();
    let (mut reading, mut writing) = client.split();
    let drip = async {
        while writing.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        read = reading.read_exact(&mut answer) => { read.unwrap(); }
        () = drip => panic!("closed without an answer"),
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_eq!(stage.saw(), ["/mcp Timeout"]);
}

#[tokio::test]
async fn a_connection_at_rest_is_closed_without_a_word() {
    let stage = stage_with(DoorLimits { keep_alive: Duration::from_secs(1), ..DoorLimits::default() }).await;
    let mut client = stage.connect().await;
    assert_eq!(read_to_end(&mut client).await, "");
    let mut client = stage.connect().await;
    client.write_all(post("/mcp", "x").as_bytes()).await.unwrap();
    assert!(read_to_end(&mut client).await.ends_with("\r\n\r\nx"));
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let mut stage = stage().await;
    for head in [
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1, 1\r\n\r\nx",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\nx",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent_Length: 1\r\n\r\nx",
        "POST /mcp HTTP/1.1\nHost: localhost\nContent-Length: 1\n\nx",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: authorization\r\nContent-Length: 0\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\n X: folded\r\n\r\n",
        "post /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
    ] {
        let answer = stage.send([head, &post("/mcp", "smuggled")].concat().as_bytes()).await;
        assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), ("400", 1), "{head:?} {answer}");
    }
    assert_eq!(stage.saw(), [""; 0], "nothing of it reached the gate");
}

#[tokio::test]
async fn bytes_that_are_not_http_get_an_answer() {
    let mut stage = stage().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"{}\r\n\r\n",
    ] {
        let answer = stage.send(bytes).await;
        assert_eq!(status(&answer), "400", "{answer}");
        assert!(answer.contains("\"jsonrpc\":\"2.0\""), "{answer}");
    }
    assert_eq!(stage.saw(), [""; 0]);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_with_431() {
    let stage = stage_with(DoorLimits { head_bytes_max: 4096, ..DoorLimits::default() }).await;
    for fill in [4096, 400_000] {
        let head = format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(fill));
        let mut client = stage.connect().await;
        // The door may close while the client still writes; the answer must arrive all the same.
        let _cut = client.write_all(head.as_bytes()).await;
        assert_eq!(status(&read_to_end(&mut client).await), "431", "{fill}");
    }
    let endless = "X: y\r\n".repeat(200);
    assert_eq!(
        status(&stage.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{endless}\r\n").as_bytes()).await),
        "431"
    );
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_with_413_even_while_it_is_still_coming() {
    let mut stage = stage_with(DoorLimits { body_bytes_max: 1000, ..DoorLimits::default() }).await;
    let body = "x".repeat(3_000_000);
    let mut client = stage.connect().await;
    let sent = client.write_all(post("/mcp", &body).as_bytes()).await;
    assert!(sent.is_ok(), "the client was reset while it was sending");
    assert_eq!(status(&read_to_end(&mut client).await), "413");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1001, "x".repeat(1001));
    let answer = stage
        .send(format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").as_bytes())
        .await;
    assert_eq!(status(&answer), "413");
    assert_eq!(stage.saw(), ["/mcp TooLarge(1000)", "/mcp TooLarge(1000)"]);
    assert!(
        stage
            .send(post("/mcp", &"y".repeat(1000)).replace("Host", "Connection: close\r\nHost").as_bytes())
            .await
            .ends_with("yyy")
    );
}

#[tokio::test]
async fn a_strangers_long_body_is_not_waited_for_and_not_read() {
    let mut stage = stage_with(DoorLimits { read_within: Duration::from_mins(10), ..DoorLimits::default() }).await;
    let head = "POST /stranger HTTP/1.1\r\nHost: localhost\r\n";
    let chunk = format!("{:x}\r\n{}", (16 << 10) + 1, "x".repeat((16 << 10) + 1));
    for rest in [
        "Content-Length: 1000000\r\n\r\n".to_owned(),
        "Content-Length: 16385\r\n\r\n".to_owned(),
        "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n".to_owned(),
        format!("Transfer-Encoding: chunked\r\n\r\n{chunk}"),
    ] {
        // Nothing more is ever sent, and the answer comes all the same; then the connection is closed.
        let answer = stage.send(format!("{head}{rest}").as_bytes()).await;
        assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), ("400", 1), "{answer}");
        assert_eq!(stage.saw(), ["/stranger Unread"]);
    }
    let short = "y".repeat(16 << 10);
    let mut client = stage.connect().await;
    client.write_all(post("/stranger", &short).as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut client).await.1, short, "what most messages need is read of anyone");
}

#[tokio::test]
async fn long_bodies_share_one_space_and_short_ones_need_none() {
    let limits = DoorLimits { bodies_bytes_max: 1 << 20, ..DoorLimits::default() };
    let mut stage = stage_with(limits).await;
    let (mut first, mut second) = (stage.connect().await, stage.connect().await);
    first.write_all(post("/held", &"1".repeat(1 << 20)).as_bytes()).await.unwrap();
    stage.expect("/held begins").await;
    second.write_all(post("/second", &"2".repeat(20_000)).as_bytes()).await.unwrap();
    let mut short = stage.connect().await;
    short.write_all(post("/short", "3").as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut short).await.1, "3");
    stage.release.notify_one();
    assert_eq!(read_one(&mut first).await.1.len(), 1 << 20);
    assert_eq!(read_one(&mut second).await.1.len(), 20_000);
    assert_eq!(stage.saw(), ["/short begins", "/short ends", "/held ends", "/second begins", "/second ends"]);
}

#[tokio::test]
async fn a_long_body_without_a_place_is_told_so_when_its_time_is_out() {
    let limits = DoorLimits { bodies_bytes_max: 1 << 20, read_within: Duration::from_secs(1), ..DoorLimits::default() };
    let mut stage = stage_with(limits).await;
    let mut first = stage.connect().await;
    first.write_all(post("/held", &"1".repeat(1 << 20)).as_bytes()).await.unwrap();
    stage.expect("/held begins").await;
    assert_eq!(status(&stage.send(post("/second", &"2".repeat(20_000)).as_bytes()).await), "408");
    stage.expect("/second Timeout").await;
    stage.release.notify_one();
    assert_eq!(read_one(&mut first).await.1.len(), 1 << 20);
}

#[tokio::test]
async fn a_chunked_body_is_read_whole_and_nothing_after_it_is_believed() {
    let mut stage = stage().await;
    let chunked = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=\n\r\nde\r\n0\r\n\r\n";
    let answer = stage.send([chunked, &post("/mcp", "smuggled")].concat().as_bytes()).await;
    assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), ("400", 1), "{answer}");
    let good =
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert!(stage.send(good.as_bytes()).await.ends_with("\r\n\r\nabcde"));
    let broken = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc";
    assert_eq!(status(&stage.send(broken.as_bytes()).await), "400");
    assert_eq!(stage.saw(), ["/mcp begins", "/mcp ends"], "the good one alone reached the gate");
    assert_eq!(stage.turned(), [Turned::Malformed, Turned::Malformed]);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    client
        .write_all(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(status(&read_until(&mut client, "\r\n\r\n").await), "100");
    client.write_all(b"ok").await.unwrap();
    assert_eq!(read_one(&mut client).await.1, "ok");
    let too_long = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n";
    assert_eq!(status(&stage.send(too_long).await), "413", "nobody is asked to send what will be refused");
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing_that_runs() {
    let mut stage = stage().await;
    let mut client = stage.connect().await;
    client.write_all(post("/until-gone", "x").as_bytes()).await.unwrap();
    stage.expect("/until-gone begins").await;
    drop(client);
    stage.expect("/until-gone ends").await;
}

#[tokio::test]
async fn a_client_that_only_stops_sending_still_gets_its_answer() {
    let mut stage = stage().await;
    let mut client = stage.connect().await;
    client.write_all(post("/held", "kept").as_bytes()).await.unwrap();
    stage.expect("/held begins").await;
    client.shutdown().await.unwrap();
    stage.release.notify_one();
    assert!(read_to_end(&mut client).await.ends_with("\r\n\r\nkept"));
}

fn streaming(path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\nOrigin: https://app.example\r\nContent-Length: 4\r\n\r\n\"hi\""
    )
}

#[tokio::test]
async fn progress_turns_the_answer_into_a_stream_in_order() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    for _again in 0..2 {
        client.write_all(streaming("/steps").as_bytes()).await.unwrap();
        let head = read_until(&mut client, "\r\n\r\n").await.to_ascii_lowercase();
        for header in [
            "content-type: text/event-stream",
            "x-accel-buffering: no",
            "cache-control: no-cache, no-transform",
            "access-control-allow-origin: https://app.example",
        ] {
            assert!(head.contains(header), "{head}");
        }
        let body = read_until(&mut client, "\r\n0\r\n\r\n").await;
        let events: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(events.len(), 4, "{body}");
        for (step, event) in events.iter().take(3).enumerate() {
            let message: serde_json::Value = serde_json::from_str(event).unwrap();
            assert_eq!(message["params"]["progress"], step + 1);
        }
        assert_eq!(events[3], "\"hi\"");
    }
}

#[tokio::test]
async fn a_client_that_cannot_read_a_stream_gets_one_answer() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    client.write_all(post("/steps", "{}").as_bytes()).await.unwrap();
    let (head, body) = read_one(&mut client).await;
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    assert_eq!(body, "{}");
}

#[tokio::test]
async fn a_stream_that_waits_shows_signs_of_life() {
    let mut stage = stage_with(DoorLimits { heartbeat: Duration::from_millis(5), ..DoorLimits::default() }).await;
    let mut client = stage.connect().await;
    client.write_all(streaming("/slow-steps").as_bytes()).await.unwrap();
    stage.expect("/slow-steps begins").await;
    let beats = read_until(&mut client, "\n:\n\n\r\n3\r\n:\n\n\r\n").await;
    assert!(beats.contains("notifications/progress"), "{beats}");
    stage.release.notify_one();
    assert!(read_until(&mut client, "\r\n0\r\n\r\n").await.contains("data: \"hi\""));
}

#[tokio::test]
async fn a_client_that_does_not_read_never_holds_the_call_up() {
    let limits = DoorLimits { write_within: Duration::from_millis(50), ..DoorLimits::default() };
    let mut stage = stage_with(limits).await;
    let mut client = stage.connect().await;
    client.write_all(streaming("/flood").as_bytes()).await.unwrap();
    stage.expect("/flood begins").await;
    stage.expect("/flood ends").await;
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    client.write_all(post("/big", "").as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut client).await.1.len(), 3_000_000);
}

#[tokio::test]
async fn an_answers_header_cannot_smuggle_another() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    client.write_all(post("/bad-header", "").as_bytes()).await.unwrap();
    let (head, _) = read_one(&mut client).await;
    let head = head.to_ascii_lowercase();
    assert!(!head.contains("evil") && head.contains("x-b: b"), "{head}");
}

#[tokio::test]
async fn a_call_that_breaks_down_is_answered_and_the_door_stays_open() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    for _again in 0..2 {
        client.write_all(post("/panic", "").as_bytes()).await.unwrap();
        assert_eq!(status(&read_one(&mut client).await.0), "500");
    }
    client.write_all(post("/mcp", "still here").as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut client).await.1, "still here");
}

#[tokio::test]
async fn closing_lets_calls_finish_and_connections_at_rest_go() {
    let mut stage = stage().await;
    let mut resting = stage.connect().await;
    resting.write_all(post("/mcp", "x").as_bytes()).await.unwrap();
    read_one(&mut resting).await;
    let mut silent = stage.connect().await;
    let mut busy = stage.connect().await;
    busy.write_all(post("/held", "in time").as_bytes()).await.unwrap();
    while stage.seen.recv().await.unwrap() != "/held begins" {}
    stage.shutdown.send(true).unwrap();
    assert_eq!(read_to_end(&mut resting).await, "");
    assert_eq!(read_to_end(&mut silent).await, "");
    stage.release.notify_one();
    let answer = read_to_end(&mut busy).await;
    assert!(
        answer.ends_with("\r\n\r\nin time") && answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert_eq!(stage.running.join_next().await.unwrap().unwrap(), Closed { calls_cut: 0, connections_cut: 0 });
    assert!(TcpStream::connect(stage.addr).await.is_err(), "nobody is let in any more");
}

#[tokio::test]
async fn closing_says_what_it_had_to_cut_off() {
    let mut stage = stage_with(DoorLimits { drain_within: Duration::from_millis(20), ..DoorLimits::default() }).await;
    let mut client = stage.connect().await;
    client.write_all(post("/held", "").as_bytes()).await.unwrap();
    stage.expect("/held begins").await;
    stage.shutdown.send(true).unwrap();
    assert_eq!(stage.running.join_next().await.unwrap().unwrap(), Closed { calls_cut: 1, connections_cut: 1 });
}

#[tokio::test]
async fn a_full_house_makes_newcomers_wait() {
    let mut stage = stage_with(DoorLimits { connections_max: 1, ..DoorLimits::default() }).await;
    let mut first = stage.connect().await;
    first.write_all(post("/held", "first").as_bytes()).await.unwrap();
    stage.expect("/held begins").await;
    let mut second = stage.connect().await;
    second.write_all(post("/mcp", "second").as_bytes()).await.unwrap();
    stage.release.notify_one();
    assert_eq!(read_one(&mut first).await.1, "first");
    stage.expect("/held ends").await;
    assert_eq!(stage.saw(), [""; 0], "the second is not heard while the first keeps its seat");
    drop(first);
    assert_eq!(read_one(&mut second).await.1, "second");
}

#[tokio::test]
async fn a_page_asks_before_it_calls() {
    let mut stage = stage().await;
    let ask = |origin: &str| {
        format!(
            "OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {origin}\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"
        )
    };
    let allowed = stage.send(ask("https://app.example").as_bytes()).await.to_ascii_lowercase();
    assert_eq!(status(&allowed), "204");
    assert!(
        allowed.contains("access-control-allow-origin: https://app.example\r\n") && allowed.contains("vary: origin"),
        "{allowed}"
    );
    let refused = stage.send(ask("https://evil.example").as_bytes()).await.to_ascii_lowercase();
    assert_eq!((status(&refused), refused.contains("access-control")), ("403", false), "{refused}");
    assert_eq!(stage.saw(), [""; 0]);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_in_the_error() {
    let stage = stage().await;
    let (rules, limits) = (DoorRules::default(), DoorLimits::default());
    let listen = Listen { addr: stage.addr, tls: None, socket: None, rules, limits };
    let error = Door::open(listen).await.err().unwrap().to_string();
    assert!(error.contains(&stage.addr.to_string()) && error.contains("listen.mcp"), "{error}");
}
