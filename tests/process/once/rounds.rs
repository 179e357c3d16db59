//! `kill -9` at moments that nobody chose, of one gateway or two replicas, under clients that never give up.
//!
//! `LOOPGATE_KILL_ROUNDS` says how often, `LOOPGATE_KILL_SEED` takes a seed that was printed.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::Deed;
use super::Kind;
use super::Site;
use super::number;
use crate::harness::AT_ONCE;
use crate::harness::Gateway;
use crate::postgres::Cluster;

const CLIENTS: usize = 6;
const ROUNDS: u64 = 15;
/// Longest life of a gateway: long enough for a package to be asked for, approved and made.
const LIFE_MS: u64 = 900;
/// Clients wait through every round.
const PATIENCE: Duration = Duration::from_mins(20);

/// `SplitMix64`: the same moments for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Where the gateways are now, and what was told.
#[derive(Default)]
struct Scene {
    doors: Mutex<Vec<(String, String)>>,
    turns: AtomicUsize,
    told: Mutex<Vec<(Deed, Value)>>,
    over: AtomicBool,
}

impl Scene {
    /// One of the gateways, the next one in turn: MCP and operators' doors.
    fn door(&self) -> (String, String) {
        let doors = self.doors.lock().unwrap();
        doors[self.turns.fetch_add(1, Ordering::Relaxed) % doors.len()].clone()
    }

    fn opens(&self, gateways: &[Gateway]) {
        *self.doors.lock().unwrap() = gateways.iter().map(|one| (one.mcp.clone(), one.admin.clone())).collect();
    }

    /// Writes one thing after the other, each to its end.
    fn writes(&self, site: &Site, who: usize) {
        for turn in 0.. {
            let kind = Kind::BOTH[(who + turn) % 2];
            let mut deed = Deed::new(kind, &format!("c{who}-{turn}"));
            if kind == Kind::Package {
                deed.approval = Some(site.client.asks_for_approval(|| deed.ask(&site.client, &self.door().0)));
                site.client.approves(|| self.door().1, deed.approval.as_deref().unwrap());
            }
            let first = site.client.until_known(|| deed.ask(&site.client, &self.door().0));
            self.told.lock().unwrap().push((deed, first));
            if self.over.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// Kills one gateway after the other, whichever, whenever, and starts it again.
#[expect(clippy::print_stderr, reason = "whoever sees it fail needs the seed")]
fn killed_at_any_moment(mut site: Site, rounds: u64) {
    let seed = number("LOOPGATE_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = number("LOOPGATE_KILL_ROUNDS").unwrap_or(rounds);
    eprintln!("LOOPGATE_KILL_SEED={seed} LOOPGATE_KILL_ROUNDS={rounds}");
    let mut chance = Chance(seed);
    site.client.patience = PATIENCE;
    let (site, scene) = (&site, Scene::default());
    let homes: Vec<_> = site.homes().collect();
    let mut gateways: Vec<_> = homes.iter().map(|home| Gateway::serve(home)).collect();
    thread::scope(|scope| {
        scene.opens(&gateways);
        for who in 0..CLIENTS {
            let scene = &scene;
            scope.spawn(move || scene.writes(site, who));
        }
        for _ in 0..rounds {
            thread::sleep(Duration::from_millis(chance.below(LIFE_MS)));
            let which = usize::try_from(chance.below(gateways.len() as u64)).unwrap();
            gateways[which].process.signal(Signal::KILL);
            assert_eq!(gateways[which].process.ended(AT_ONCE), -9);
            homes[which].verify().exits(0);
            gateways[which] = Gateway::serve(homes[which]);
            scene.opens(&gateways);
        }
        scene.over.store(true, Ordering::SeqCst);
    });
    let told = scene.told.into_inner().unwrap();
    let packages = told.iter().filter(|(deed, _)| deed.kind == Kind::Package).count();
    assert!(told.len() >= CLIENTS && packages > 0 && packages < told.len(), "{packages} of {}", told.len());
    eprintln!("{} writes, {packages} of them approved, in {rounds} rounds", told.len());
    site.check(gateways.last().unwrap(), &told);
    for (gateway, home) in gateways.into_iter().zip(homes) {
        gateway.process.stop();
        home.verify().exits(0);
    }
}

#[test]
fn killed_at_any_moment_no_write_is_lost_or_doubled_and_the_journal_holds() {
    killed_at_any_moment(Site::new().in_time(2), ROUNDS);
}
#[test]
fn killed_at_any_moment_two_replicas_lose_and_double_no_write() {
    killed_at_any_moment(Site::twins(&Arc::new(Cluster::start())).in_time(2), ROUNDS / 2);
}
