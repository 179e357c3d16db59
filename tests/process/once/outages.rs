//! What a write does when its client leaves, and when the ledger's disk is full.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use serde_json::json;

use super::Deed;
use super::Kind;
use super::Site;
use super::client;
use super::client::Heard;
use crate::harness::Gateway;
use crate::harness::loopgate;
use crate::harness::read_certification;
use crate::harness::until;

/// Sends a call and gives the connection on which its answer would come.
fn asks_and_waits_for_nothing(site: &Site, gateway: &Gateway, deed: &Deed) -> TcpStream {
    let arguments = deed.kind.arguments(&deed.title);
    let params = json!({"name": deed.kind.tool(), "arguments": arguments, "_meta": deed.meta()});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n",
        gateway.address(),
        site.client.ada,
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    stream
}

#[test]
fn a_write_whose_client_leaves_is_carried_to_its_end_and_the_retry_gets_its_result() {
    let site = Site::new();
    let gateway = Gateway::serve(&site.home);
    let mut told = Vec::new();
    for kind in Kind::BOTH {
        let deed = site.approved(&gateway, Deed::new(kind, &format!("left-{kind:?}")));
        let held = json!({"method": "POST", "path": kind.path(), "exact": true, "dry_run": false, "kind": "delay",
            "ms": 700});
        site.sandbox.fault(&held);
        let connection = asks_and_waits_for_nothing(&site, &gateway, &deed);
        until("the write is under way", || (site.sandbox.arrived(kind.path()) == 1).then_some(()));
        drop(connection);
        until("the write is known", || (site.states().get(deed.known_as())? == "executed").then_some(()));
        let Heard::Done(retry) = deed.ask(&site.client, &gateway.mcp) else { panic!("the retry has no result") };
        assert_eq!(client::audit(&retry)["replayed"], true, "{retry:#}");
        assert_eq!(site.sandbox.arrived(kind.path()), 1, "it was sent once");
        told.push((deed, retry));
    }
    site.check(&gateway, &told);
    gateway.process.stop();
}

/// Bytes of any file beyond which the gateway cannot write while its disk is "full". The journal's
/// segments stay below it, so that only the ledger is hit.
const ROOM: u64 = 128 << 10;
/// Enough writes for a ledger larger than that.
const WRITES: usize = 120;
/// What fits into the room that the ledger still has is far less than this.
const WRITES_MAX: usize = 500;

fn room(gateway: &Gateway, current: Option<u64>) {
    let process = Pid::from_raw(gateway.process.id().try_into().unwrap());
    rustix::process::prlimit(process, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
}

/// A gateway to which a file that may not grow is an error, as a full disk is, and not its end.
fn serve(site: &Site) -> Gateway {
    let gateway = loopgate(&["serve", "--config", &site.home.config()]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(gateway.get_program()).args(gateway.get_args());
    Gateway::started(shell)
}

#[test]
fn with_the_ledgers_disk_full_writes_are_refused_and_reads_go_on_until_there_is_room_again() {
    let site = Site::new();
    site.home.settings(|text| text.replace("audit: {dir: audit}", "audit: {dir: audit, segment: 64KiB}"));
    let write = |gateway: &Gateway, key: String| {
        let deed = Deed::new(Kind::Item, &key);
        let heard = deed.ask(&site.client, &gateway.mcp);
        (deed, heard)
    };
    let mut told = Vec::new();
    let gateway = serve(&site);
    for n in 0..WRITES {
        let (deed, heard) = write(&gateway, format!("before-{n}"));
        let Heard::Done(result) = heard else { panic!("{heard:?}") };
        told.push((deed, result));
    }
    gateway.process.stop();
    let bytes = std::fs::metadata(site.home.path("ledger.db")).unwrap().len();
    assert!(bytes > 2 * ROOM, "the ledger has {bytes} bytes");

    let gateway = serve(&site);
    room(&gateway, Some(ROOM));
    let mut refused = Vec::new();
    for n in 0..WRITES_MAX {
        let (deed, heard) = write(&gateway, format!("full-{n}"));
        match heard {
            Heard::Done(result) => told.push((deed, result)),
            Heard::No(result) => panic!("refused for good: {result:#}"),
            Heard::Again(why) => refused.push((deed, why)),
        }
        if refused.len() == 5 {
            break;
        }
    }
    let (_, last) = refused.last().expect("the disk never was full");
    assert!(last.contains("ledger_unavailable") && last.contains("next"), "{last}");
    let read = read_certification(&gateway.mcp, &site.client.ada).unwrap();
    assert_eq!(read["isError"], false, "reads go on: {read:#}");

    room(&gateway, None);
    for (deed, _) in refused {
        let result = site.client.until_known(|| deed.ask(&site.client, &gateway.mcp));
        told.push((deed, result));
    }
    site.check(&gateway, &told);
    gateway.process.stop();
    site.home.verify().exits(0);
}
