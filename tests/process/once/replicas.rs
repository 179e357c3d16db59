//! Two replicas on one PostgreSQL: twins of a call, a dead replica, a database that goes away.

use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use super::Deed;
use super::Kind;
use super::Site;
use super::client;
use super::client::Heard;
use super::number;
use crate::harness::AT_ONCE;
use crate::harness::Gateway;
use crate::harness::read_certification;
use crate::harness::until;
use crate::postgres::Cluster;

/// Calls that both replicas get at once; `LOOPGATE_TWIN_CALLS` asks for more.
const CALLS: u64 = 100;
const CALLERS: u64 = 4;
const EXECUTIONS: usize = 32;

#[test]
fn the_same_call_to_both_replicas_at_once_has_one_effect_and_one_answer() {
    let site = Site::twins(&Arc::new(Cluster::start()));
    let [one, other] = site.replicas();
    let calls = number("LOOPGATE_TWIN_CALLS").unwrap_or(CALLS);
    let told = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (site, one, other, told) = (&site, &one, &other, &told);
            scope.spawn(move || {
                for call in (caller..calls).step_by(usize::try_from(CALLERS).unwrap()) {
                    let deed = Deed::new(Kind::Item, &format!("twin-{call}"));
                    let asks = |gateway: &Gateway| site.client.until_known(|| deed.ask(&site.client, &gateway.mcp));
                    let (first, second) = thread::scope(|twins| {
                        let second = twins.spawn(|| asks(other));
                        (asks(one), second.join().unwrap())
                    });
                    assert_eq!(client::content(&first), client::content(&second), "{deed:?}");
                    told.lock().unwrap().push((deed, first));
                }
            });
        }
    });
    site.check(&other, &told.into_inner().unwrap());
}

#[test]
fn thirty_two_executions_of_one_approval_over_two_replicas_have_one_effect() {
    let site = Site::twins(&Arc::new(Cluster::start()));
    let [one, other] = site.replicas();
    // An approval asked for without a key may be used under any, once.
    let asked = site.approved(&one, Deed { key: None, ..Deed::new(Kind::Package, "one-of-many") });
    let deeds: Vec<_> = (0..EXECUTIONS).map(|n| Deed { key: Some(format!("k-{n}")), ..asked.clone() }).collect();
    let heard: Vec<_> = thread::scope(|scope| {
        let start = |(n, deed): (usize, &Deed)| {
            let (deed, gateway, site) = (deed.clone(), [&one, &other][n % 2], &site);
            scope.spawn(move || (site.client.until_definite(|| deed.ask(&site.client, &gateway.mcp)), deed))
        };
        let running: Vec<_> = deeds.iter().enumerate().map(start).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut told = Vec::new();
    for (heard, deed) in heard {
        match heard {
            Ok(result) => told.push((deed, result)),
            Err(no) => assert_eq!(client::code(&no), "approval_spent", "{no:#}"),
        }
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    site.check(&other, &told);
}

/// Twins that come late find a world that the first has changed; they get its answer all the same.
#[test]
fn thirty_two_tries_of_one_execution_over_two_replicas_get_one_answer() {
    let cluster = Arc::new(Cluster::start());
    let site = Site::twins(&cluster);
    let [one, other] = site.replicas();
    let mut told = Vec::new();
    for kind in [Kind::Package, Kind::Decision] {
        let deed = site.approved(&one, Deed::new(kind, &format!("one-{kind:?}")));
        let heard: Vec<_> = thread::scope(|scope| {
            let start = |n: usize| {
                let (deed, gateway, site) = (&deed, [&one, &other][n % 2], &site);
                scope.spawn(move || site.client.until_known(|| deed.ask(&site.client, &gateway.mcp)))
            };
            let running: Vec<_> = (0..EXECUTIONS).map(start).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let contents: Vec<_> = heard.iter().map(client::content).collect();
        assert!(contents.iter().all(|content| *content == contents[0]), "{contents:#?}");
        told.push((deed, heard[0].clone()));
    }
    site.check(&other, &told);
}

/// What the dead replica had taken is taken over once its lease has run out; the clients only change the door.
#[test]
fn when_one_replica_is_killed_midway_the_other_carries_its_writes_to_their_end() {
    let site = Site::twins(&Arc::new(Cluster::start())).in_time(5);
    let [mut one, other] = site.replicas();
    let mut told = Vec::new();
    for (when, done) in [("before", 0), ("after", 2)] {
        let deeds = Kind::BOTH.map(|kind| site.approved(&one, Deed::new(kind, &format!("{when}-{kind:?}"))));
        let before = Kind::BOTH.map(|kind| site.sandbox.arrived(kind.path()));
        for kind in Kind::BOTH {
            site.holds(kind, when, 1);
        }
        thread::scope(|scope| {
            let asking = deeds.each_ref().map(|deed| scope.spawn(|| deed.ask(&site.client, &one.mcp)));
            until("LoopIQ has both", || {
                let arrived = Kind::BOTH.map(|kind| site.sandbox.arrived(kind.path()));
                let effects = site.sandbox.effects()["executions"] == told.len() + done;
                (arrived == before.map(|count| count + 1) && effects).then_some(())
            });
            one.process.signal(Signal::KILL);
            for one in asking {
                drop(one.join().unwrap());
            }
        });
        assert_eq!(one.process.ended(AT_ONCE), -9);
        for deed in deeds {
            let first: Value = site.client.until_known(|| deed.ask(&site.client, &other.mcp));
            told.push((deed, first));
        }
        one = Gateway::serve(&site.home);
    }
    site.check(&one, &told);
}

#[test]
fn while_the_database_is_away_writes_are_refused_and_reads_go_on_until_it_is_back() {
    let cluster = Arc::new(Cluster::start());
    let site = Site::twins(&cluster);
    let [one, other] = site.replicas();
    let mut told = Vec::new();
    let write = |gateway: &Gateway, key: &str| {
        let deed = Deed::new(Kind::Item, key);
        let result = site.client.until_known(|| deed.ask(&site.client, &gateway.mcp));
        (deed, result)
    };
    told.push(write(&one, "before"));
    for (ending, key) in [(Cluster::stop as fn(&Cluster), "stopped"), (Cluster::kill, "killed")] {
        ending(&cluster);
        for gateway in [&one, &other] {
            let refused = Deed::new(Kind::Item, key).ask(&site.client, &gateway.mcp);
            assert!(matches!(&refused, Heard::Again(why) if why.contains("ledger_unavailable")), "{refused:?}");
            let read = read_certification(&gateway.mcp, &site.client.ada).unwrap();
            assert_eq!(read["isError"], false, "{read:#}");
        }
        assert_eq!(site.sandbox.effects()["executions"], told.len());
        cluster.start_again();
        told.push(write(&one, key));
        told.push(write(&other, &format!("after-it-was-{key}")));
    }
    site.check(&other, &told);
}
