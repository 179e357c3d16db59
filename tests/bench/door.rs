//! What 10,000 idle connections and 200 slow ones do to a normal caller, and what an idle one costs.
//!
//! Starts the program with a stand-in LoopIQ, and measures one caller's reads in rounds that alternate
//! between a quiet door and a crowded one, so that a noisy machine is noisy for both. The crowd is kept
//! by a child of this bench, for a process has only so many open files. `cargo bench --bench door`;
//! `IDLE`, `SLOW`, `ROUNDS` and `CALLS` (per round) say how many.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that cannot go on has failed, and its output is what it is for"
)]

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

/// Set in the child that keeps the crowd.
const CROWD: &str = "LOOPGATE_BENCH_CROWD";
/// What the slow ones send of a request, a byte at a time.
const DRIP: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Slow: ";

/// A program that ends with its bench.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // Gone already, or gone now.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn main() {
    if let Some(address) = setting(CROWD) {
        return crowd(&address);
    }
    let (idle, slow) = (number("IDLE", 10_000), number("SLOW", 200));
    let (rounds, calls) = (number("ROUNDS", 5), number("CALLS", 2000));
    let dir = tempfile::tempdir().unwrap();
    let (gateway, ready) = demo(dir.path());
    let address = ready["mcp"].as_str().unwrap().trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let user = ready["users"].as_array().unwrap().iter().find(|user| user["user"] == "ada").unwrap();
    let request = read(&address, user["token"].as_str().unwrap());
    drop(measure(&address, &request, calls));

    let (mut quiet, mut crowded, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let calm = measure(&address, &request, calls);
        let before = resident(gateway.0.id());
        let company = gather(&address, idle, slow);
        let after = resident(gateway.0.id());
        let busy = measure(&address, &request, calls);
        let held = dismiss(company);
        let cost = after.saturating_sub(before) / idle.max(1);
        println!(
            "round {round}: quiet p50 {} p99 {}   crowded p50 {} p99 {}   {held} idle held to the end, {cost} bytes more for each",
            us(at(&calm, 50)),
            us(at(&calm, 99)),
            us(at(&busy, 50)),
            us(at(&busy, 99)),
        );
        // WHY: the first crowd pays for memory that is kept for the next.
        costs.push(cost);
        quiet.extend(calm);
        crowded.extend(busy);
    }
    quiet.sort();
    crowded.sort();
    let ratio = at(&crowded, 99).div_duration_f64(at(&quiet, 99));
    println!("{} idle and {slow} slow connections, {} calls of each kind", idle, quiet.len());
    println!("quiet    p50 {}  p99 {}", us(at(&quiet, 50)), us(at(&quiet, 99)));
    println!("crowded  p50 {}  p99 {}", us(at(&crowded, 50)), us(at(&crowded, 99)));
    println!("p99 crowded : quiet = {ratio:.2}");
    println!("memory per connection: {} bytes", costs.iter().max().unwrap());
}

/// `loopgate demo` on free ports, and what it says of itself.
fn demo(dir: &std::path::Path) -> (Kept, Value) {
    let free = "127.0.0.1:0";
    let mut child = Command::new(env!("CARGO_BIN_EXE_loopgate"))
        .args(["demo", "--json", "--mcp", free, "--admin", free, "--backend", free, "--keep"])
        .arg(dir.join("demo"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Kept(child), serde_json::from_str(&line).unwrap())
}

/// One read that policy allows, as bytes.
fn read(address: &str, token: &str) -> Vec<u8> {
    let params = json!({"name": "loopiq_get_tenant_context", "arguments": {}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// How long each of so many calls took on one connection, sorted.
fn measure(address: &str, request: &[u8], calls: usize) -> Vec<Duration> {
    let mut caller = TcpStream::connect(address).unwrap();
    caller.set_nodelay(true).unwrap();
    call(&mut caller, request);
    let mut took: Vec<Duration> = (0..calls)
        .map(|_| {
            let started = Instant::now();
            call(&mut caller, request);
            started.elapsed()
        })
        .collect();
    took.sort();
    took
}

fn call(caller: &mut TcpStream, request: &[u8]) {
    caller.write_all(request).unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        let got = caller.read(&mut piece).unwrap();
        assert!(got > 0, "the door closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..got]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("HTTP/1.1 200") && !body.contains("isError\":true"), "{text}");
        let head = head.to_ascii_lowercase();
        let length: usize = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        if body.len() >= length {
            return;
        }
    }
}

/// A child of this bench that keeps the crowd until it is dismissed.
fn gather(address: &str, idle: usize, slow: usize) -> (Kept, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CROWD, address)
        .env("IDLE", idle.to_string())
        .env("SLOW", slow.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut words, mut line) = (BufReader::new(child.stdout.take().unwrap()), String::new());
    words.read_line(&mut line).unwrap();
    assert_eq!(line, "gathered\n", "the crowd could not connect; are enough open files allowed?");
    (Kept(child), words)
}

/// Ends the crowd, and says how many idle connections the door still held.
fn dismiss((mut child, mut words): (Kept, BufReader<ChildStdout>)) -> usize {
    drop(child.0.stdin.take());
    let mut line = String::new();
    words.read_line(&mut line).unwrap();
    line.trim().parse().unwrap()
}

/// The crowd: idle connections that were used once and rest, and slow ones that drip for ever.
fn crowd(address: &str) {
    let (idle, slow) = (number("IDLE", 0), number("SLOW", 0));
    let connect = || TcpStream::connect(address).unwrap_or_else(|fault| panic!("{fault}"));
    // Each has asked once, so that what a used connection keeps is counted.
    let ask = format!("GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut resting: Vec<TcpStream> = Vec::with_capacity(idle);
    for _ in 0..idle {
        let mut one = connect();
        one.write_all(ask.as_bytes()).unwrap();
        resting.push(one);
    }
    for one in &mut resting {
        assert!(one.read(&mut [0; 4096]).unwrap() > 0);
        one.set_nonblocking(true).unwrap();
    }
    let mut dripping: Vec<(TcpStream, usize)> = (0..slow).map(|_| (connect(), 0)).collect();
    println!("gathered");
    let dismissed = std::thread::spawn(|| std::io::stdin().read(&mut [0]));
    while !dismissed.is_finished() {
        for (one, sent) in &mut dripping {
            let byte = DRIP.get(*sent).copied().unwrap_or(b'x');
            *sent += 1;
            // Cut off as too slow: another comes in its place, as slow ones do.
            if one.write_all(&[byte]).is_err() {
                (*one, *sent) = (connect(), 0);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let held = |one: &mut TcpStream| one.read(&mut [0]).is_err_and(|fault| fault.kind() == ErrorKind::WouldBlock);
    println!("{}", resting.iter_mut().filter_map(|one| held(one).then_some(())).count());
}

/// Bytes of memory that a process holds.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn us(took: Duration) -> String {
    format!("{} µs", took.as_micros())
}

#[expect(clippy::disallowed_methods, reason = "a bench has no settings file")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str, or: usize) -> usize {
    setting(name).map_or(or, |text| text.parse().unwrap())
}
