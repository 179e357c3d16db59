//! `kill -9` at every durable step of a write, each held open from outside until the gateway is dead.

use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use super::Deed;
use super::Kind;
use super::Site;
use crate::harness::AT_ONCE;
use crate::harness::Gateway;
use crate::harness::until;

/// Where in a write the gateway is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Its intent is in the journal; the ledger is busy and has not taken it.
    Intended,
    /// The ledger has taken it; no byte has left.
    Claimed,
    /// LoopIQ has the request and has not begun.
    Sent,
    /// LoopIQ has carried it out and has not answered.
    Committed,
    /// The outcome is in the ledger.
    Settled,
    /// It was killed before, and finds out what became of the write.
    Reconciled,
}

/// What keeps a gateway at its moment, for as long as it lives.
#[derive(Default)]
struct Hold {
    /// A write lock on the ledger's file.
    _locked: Option<rusqlite::Connection>,
    /// A LoopIQ to which nobody can connect, because others stand before its door.
    deaf: Option<SocketAddr>,
    _door: Option<TcpListener>,
    _waiting: Vec<TcpStream>,
}

impl Moment {
    /// Before the gateway starts: another LoopIQ, if it needs one that cannot be reached.
    fn prepare(self, site: &Site) -> Hold {
        if self != Self::Claimed {
            return Hold::default();
        }
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&door, 0).unwrap();
        let address = door.local_addr().unwrap();
        let wait = Duration::from_millis(200);
        // As many as it takes until one more would have to wait.
        let waiting = std::iter::from_fn(|| TcpStream::connect_timeout(&address, wait).ok()).collect();
        let deaf = format!("http://{address}\n    connect: 30s");
        site.home.settings(|text| text.replace(&site.sandbox.url, &deaf));
        Hold { deaf: Some(address), _door: Some(door), _waiting: waiting, ..Hold::default() }
    }

    /// With the approval given: what stops the write where it is to be killed.
    fn arrange(self, site: &Site, kind: Kind, held: Hold) -> Hold {
        match self {
            Self::Intended => {
                let ledger = rusqlite::Connection::open(site.home.path("ledger.db")).unwrap();
                ledger.execute_batch("BEGIN IMMEDIATE").unwrap();
                return Hold { _locked: Some(ledger), ..held };
            }
            Self::Sent => site.holds(kind, "before", 1),
            Self::Committed => site.holds(kind, "after", 1),
            Self::Reconciled => site.holds(kind, "before", 2),
            Self::Claimed | Self::Settled => {}
        }
        held
    }

    /// Waits for the moment.
    fn reached(self, site: &Site, deed: &Deed) {
        let state = |wanted: &str| site.states().get(deed.known_as()).is_some_and(|state| state == wanted);
        until(&format!("{self:?} of {deed:?}"), || {
            let here = match self {
                Self::Intended => intended(site, deed.known_as()),
                Self::Claimed => state("sent"),
                Self::Sent | Self::Reconciled => site.sandbox.arrived(deed.kind.path()) == 1,
                Self::Committed => site.sandbox.effects()["executions"] == 1,
                Self::Settled => state("executed"),
            };
            here.then_some(())
        });
    }
}

impl Moment {
    /// It was killed then, and not earlier or later: what LoopIQ and the ledger have of the write.
    fn was(self, site: &Site, deed: &Deed) {
        let (arrived, effects) = (site.sandbox.arrived(deed.kind.path()), &site.sandbox.effects()["executions"]);
        let state = site.states().remove(deed.known_as());
        let (in_ledger, at_loopiq, done) = match self {
            Self::Intended => (None, 0, 0),
            Self::Claimed => (Some("sent"), 0, 0),
            Self::Sent | Self::Reconciled => (Some("sent"), 1, 0),
            Self::Committed => (Some("sent"), 1, 1),
            Self::Settled => (Some("executed"), 1, 1),
        };
        assert_eq!((state.as_deref(), arrived, effects), (in_ledger, at_loopiq, &json!(done)), "{self:?} of {deed:?}");
    }
}

/// Whether the intent of the write under this key is in the journal.
fn intended(site: &Site, key: &str) -> bool {
    let key = format!("\"{key}\"");
    let all = crate::harness::files(std::path::Path::new(&site.home.path("audit")));
    let text: String = all.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    text.lines().any(|line| line.contains("\"stage\":\"intent\"") && line.contains(&key))
}

fn kill(gateway: Gateway) {
    gateway.process.signal(Signal::KILL);
    is_dead(gateway);
}

fn is_dead(mut gateway: Gateway) {
    assert_eq!(gateway.process.ended(AT_ONCE), -9);
}

/// One write, killed at one moment, asked for again by its client until it is known.
fn survives(moment: Moment, kind: Kind) {
    let site = Site::new();
    let held = moment.prepare(&site);
    let gateway = Gateway::serve(&site.home);
    let deed = site.approved(&gateway, Deed::new(kind, &format!("{moment:?}-{kind:?}")));
    let held = moment.arrange(&site, kind, held);
    thread::scope(|scope| {
        let asking = scope.spawn(|| deed.ask(&site.client, &gateway.mcp));
        moment.reached(&site, &deed);
        gateway.process.signal(Signal::KILL);
        drop(asking.join().unwrap());
    });
    is_dead(gateway);
    if let Some(address) = held.deaf {
        site.home.settings(|text| text.replace(&format!("http://{address}"), &site.sandbox.url));
    }
    drop(held);
    moment.was(&site, &deed);
    if moment == Moment::Reconciled {
        let gateway = Gateway::serve(&site.home);
        until("the write is sent again by itself", || (site.sandbox.arrived(kind.path()) == 2).then_some(()));
        kill(gateway);
    }
    let gateway = Gateway::serve(&site.home);
    let first: Value = site.client.until_known(|| deed.ask(&site.client, &gateway.mcp));
    site.check(&gateway, &[(deed, first)]);
    gateway.process.stop();
    site.home.verify().exits(0);
}

fn both_survive(moment: Moment) {
    for kind in Kind::BOTH {
        survives(moment, kind);
    }
}

#[test]
fn killed_between_intent_and_ledger_a_write_happens_once() {
    both_survive(Moment::Intended);
}

/// An approved write is previewed over the same connection a moment before, so that it never waits to connect.
#[test]
fn killed_with_the_write_taken_and_no_byte_sent_it_happens_once() {
    survives(Moment::Claimed, Kind::Item);
}

#[test]
fn killed_while_loopiq_is_about_to_begin_a_write_happens_once() {
    both_survive(Moment::Sent);
}

#[test]
fn killed_after_loopiq_has_committed_a_write_has_happened_once_and_its_answer_is_found() {
    both_survive(Moment::Committed);
}

#[test]
fn killed_with_the_outcome_in_the_ledger_the_retry_gets_it() {
    both_survive(Moment::Settled);
}

#[test]
fn killed_again_while_it_finds_out_what_became_of_a_write_it_happens_once() {
    both_survive(Moment::Reconciled);
}
