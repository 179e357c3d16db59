//! One run: processes, clients and approvers in a storm that ends, and what is left afterwards.
//!
//! Promises: everything follows from the seed; the storm ends, everything is healthy then, and the
//! run goes on until every client knows or has given up.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loopgate::domain::approval::Ballot;
use loopgate::domain::approval::Ground;
use loopgate::domain::approval::Person;
use loopgate::domain::approval::State as TicketState;
use loopgate::domain::approval::Ticket;
use loopgate::domain::approval::Verdict;
use loopgate::domain::idempotency::Opinion;
use loopgate::domain::idempotency::State;
use loopgate::pep::ports::Approvals;
use loopgate::pep::ports::Ledger;
use loopgate::pep::ports::TicketFilter;
use loopgate::pep::ports::WriteFilter;
use loopgate::pep::reconcile::Patience;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::client;
use crate::client::Deed;
use crate::client::Told;
use crate::dice::Dice;
use crate::flaw::Flaw;
use crate::ledger::SimLedger;
use crate::ledger::Store;
use crate::loopiq::LoopIq;
use crate::loopiq::REFUSED_TITLE;
use crate::process::Birth;
use crate::process::ISSUER;
use crate::process::Process;
use crate::process::Surroundings;
use crate::rules::TOOLS;
use crate::sea::Gate;
use crate::sea::Sea;
use crate::sea::Weather;

/// How far clocks are set wrong, in milliseconds.
const JUMP_MS: i64 = 600_000;
/// How long after the storm people look for themselves; by then no lease lasts that a clock made longer.
const BY_HAND_AFTER: Duration = Duration::from_mins(13);
/// The longest that a run may take after its storm, in virtual time.
const AFTERWARDS: Duration = Duration::from_hours(3);

/// What a world is made of, where it is not as it should be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    pub(crate) flaw: Option<Flaw>,
    /// Every first process dies at this step, and nothing else goes wrong.
    pub(crate) dies_at: Option<u64>,
    /// Everything that happens is noted.
    pub(crate) tale: bool,
    /// The storm is always this.
    pub(crate) weather: Option<Weather>,
    /// Tasks stand still early, and for so long.
    pub(crate) stands: Option<Duration>,
    /// Only this tool is used.
    pub(crate) tool: Option<&'static str>,
}

/// A place where a gateway runs.
struct Slot {
    name: String,
    clock: Arc<AtomicI64>,
    epochs: AtomicU64,
    current: Mutex<Option<Arc<Process>>>,
}

/// A world under way.
pub(crate) struct World {
    pub(crate) sea: Arc<Sea>,
    pub(crate) around: Surroundings,
    pub(crate) deeds: Vec<Arc<Deed>>,
    pub(crate) told: Mutex<Vec<Told>>,
    pub(crate) deaths: AtomicU64,
    pub(crate) freezes: AtomicU64,
    slots: Vec<Slot>,
    calm: AtomicBool,
    revision: AtomicU64,
    jump_ms: i64,
}

impl World {
    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// A running gateway, if the one that was tried is.
    pub(crate) fn any_process(&self, dice: &Dice) -> Option<Arc<Process>> {
        dice.pick(&self.slots).current.lock().unwrap().clone()
    }

    /// The ledger as somebody outside the gateways uses it.
    fn ledger_of(&self, owner: &str) -> SimLedger {
        SimLedger {
            sea: Arc::clone(&self.sea),
            gate: Gate::new(u64::MAX, (u64::MAX, Duration::ZERO), Arc::default()),
            store: Arc::clone(&self.around.store),
            owner: owner.to_owned(),
        }
    }

    fn processes(&self) -> Vec<Arc<Process>> {
        self.slots.iter().filter_map(|slot| slot.current.lock().unwrap().clone()).collect()
    }
}

/// Runs a world to its end.
pub(crate) fn run(seed: u64, setup: Setup) -> Arc<World> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(live(seed, setup))
}

async fn live(seed: u64, setup: Setup) -> Arc<World> {
    let dice = Dice::new(seed);
    let world = Arc::new(make(&dice, setup));
    let mut keepers = JoinSet::new();
    for number in 0..world.slots.len() {
        keepers.spawn(keep(Arc::clone(&world), number, dice.fork(), setup));
    }
    keepers.spawn(approve(Arc::clone(&world), dice.fork()));
    keepers.spawn(settle_by_hand(Arc::clone(&world)));
    let mut clients = JoinSet::new();
    for deed in &world.deeds {
        for _ in 0..copies(&dice) {
            clients.spawn(client::pursue(Arc::clone(&world), Arc::clone(deed), dice.fork()));
        }
    }
    if setup.dies_at.is_none() {
        storm(&world, &dice.fork(), setup.weather).await;
    }
    world.sea.note(|| "the storm is over".to_owned());
    world.sea.turns(Weather::CALM);
    for process in world.processes() {
        process.gate.freeze(false);
    }
    world.calm.store(true, Ordering::Relaxed);
    let all_done = async { while clients.join_next().await.is_some() {} };
    timeout(AFTERWARDS, all_done).await.expect("every client comes to an end");
    // What was handed over late still happens, and what was found out is written down.
    sleep(Duration::from_mins(2)).await;
    keepers.shutdown().await;
    for process in world.processes() {
        process.bury().await;
    }
    world
}

fn copies(dice: &Dice) -> u64 {
    match dice.within(0..30) {
        0 => dice.within(3..33),
        1..14 => dice.within(2..4),
        _ => 1,
    }
}

fn make(dice: &Dice, setup: Setup) -> World {
    let sea = Sea::new(dice.fork(), setup.tale);
    let clocks: Vec<_> = (0..=dice.within(0..2)).map(|_| Arc::new(AtomicI64::new(0))).collect();
    // Alone, a gateway has its ledger inside, with its own clock; shared, the ledger has one of its own.
    let of_ledger = if clocks.len() == 1 { Arc::clone(&clocks[0]) } else { Arc::new(AtomicI64::new(0)) };
    let store = Store::new(&sea, of_ledger, setup.flaw);
    let loopiq = LoopIq::new(&sea, setup.flaw);
    let resend_ms = if dice.permille(300) { 60_000 } else { 3_600_000 };
    let deeds =
        (0..usize::try_from(dice.within(1..5)).unwrap()).map(|number| Arc::new(deed(dice, number, setup))).collect();
    World {
        around: Surroundings {
            sea: Arc::clone(&sea),
            store,
            disks: Arc::default(),
            loopiq,
            patience: Patience {
                resend_ms,
                settle: Duration::from_secs(if setup.flaw == Some(Flaw::Hasty) { 0 } else { 30 }),
            },
            flaw: setup.flaw,
        },
        sea,
        deeds,
        told: Mutex::default(),
        deaths: AtomicU64::new(0),
        freezes: AtomicU64::new(0),
        slots: clocks
            .into_iter()
            .enumerate()
            .map(|(number, clock)| Slot {
                name: format!("gateway-{number}"),
                clock,
                epochs: AtomicU64::new(0),
                current: Mutex::default(),
            })
            .collect(),
        calm: AtomicBool::new(false),
        revision: AtomicU64::new(0),
        jump_ms: *dice.pick(&[-JUMP_MS, JUMP_MS]),
    }
}

fn deed(dice: &Dice, number: usize, setup: Setup) -> Deed {
    let tool = match setup.tool {
        Some(name) => crate::rules::tool(name),
        None => *dice.pick(&TOOLS),
    };
    Deed {
        number,
        tool,
        user: dice.pick::<&str>(&["ada", "ben"]),
        record: format!("r{}", dice.within(0..3)),
        title: if dice.permille(80) { REFUSED_TITLE.to_owned() } else { format!("deed {number}") },
        key: format!("key-{number}"),
        approval: Mutex::default(),
        asks: Mutex::default(),
    }
}

/// Keeps a gateway running in its place: whenever one dies, another is born.
async fn keep(world: Arc<World>, number: usize, dice: Dice, setup: Setup) {
    let slot = &world.slots[number];
    loop {
        let epoch = slot.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        let by_chance = if dice.permille(400) { dice.within(1..120) } else { u64::MAX };
        let of_setup = setup.dies_at.map(|at| if epoch == 1 { at } else { u64::MAX });
        let birth = Birth {
            name: slot.name.clone(),
            epoch,
            revision: usize::try_from(world.revision.load(Ordering::Relaxed)).unwrap(),
            dies_at: of_setup.unwrap_or(if world.is_calm() { u64::MAX } else { by_chance }),
            stands: if world.is_calm() || setup.dies_at.is_some() {
                (u64::MAX, Duration::ZERO)
            } else {
                stands(&dice, setup)
            },
            clock: Arc::clone(&slot.clock),
        };
        world.sea.note(|| format!("{birth:?}"));
        let process = Process::start(&world.around, &birth);
        *slot.current.lock().unwrap() = Some(Arc::clone(&process));
        process.gate.died().await;
        world.sea.note(|| format!("{} {epoch} dies", slot.name));
        *slot.current.lock().unwrap() = None;
        process.bury().await;
        world.deaths.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(dice.within(10..3_000))).await;
    }
}

/// At which step of a process one of its tasks stands still, and for how long.
fn stands(dice: &Dice, setup: Setup) -> (u64, Duration) {
    if let Some(for_long) = setup.stands {
        return (dice.within(1..30), for_long);
    }
    let step = if dice.permille(600) { dice.within(1..80) } else { u64::MAX };
    (step, Duration::from_millis(dice.within(500..120_000)))
}

/// Everything that goes wrong, and when.
async fn storm(world: &Arc<World>, dice: &Dice, always: Option<Weather>) {
    let stormy = || always.unwrap_or_else(|| Weather::stormy(dice));
    world.sea.turns(stormy());
    for _ in 0..dice.within(2..20) {
        sleep(Duration::from_millis(dice.within(10..6_000))).await;
        let slot = dice.pick(&world.slots);
        let process = slot.current.lock().unwrap().clone();
        let blow = dice.within(0..12);
        world.sea.note(|| format!("blow {blow} at {}, in {:?}", slot.name, world.sea.weather()));
        match blow {
            0..4 => world.sea.turns(stormy()),
            4 if always.is_none() => world.sea.turns(Weather { ledger_before: 1000, ..Weather::CALM }),
            5 if always.is_none() => world.sea.turns(Weather { journal_before: 1000, ..Weather::CALM }),
            6 if always.is_none() => world.sea.turns(Weather::CALM),
            7 => process.iter().for_each(|process| process.gate.die()),
            8 => process.iter().for_each(|process| freeze(world, process, dice)),
            9 => jump(world, &slot.clock),
            10 => jump(world, &world.around.store.clock),
            _ => {
                world.around.loopiq.touch(&format!("r{}", dice.within(0..3)));
                world.revision.fetch_add(u64::from(dice.permille(300)), Ordering::Relaxed);
            }
        }
    }
    sleep(Duration::from_millis(dice.within(10..10_000))).await;
}

/// A process stands still, perhaps until others have taken over what it held, and then goes on.
fn freeze(world: &Arc<World>, process: &Arc<Process>, dice: &Dice) {
    world.freezes.fetch_add(1, Ordering::Relaxed);
    let (process, for_ms) = (Arc::clone(process), dice.within(100..200_000));
    process.gate.freeze(true);
    let sea = Arc::clone(&world.sea);
    world.sea.note(|| format!("frozen for {for_ms} ms"));
    world.sea.outside(async move {
        sleep(Duration::from_millis(for_ms)).await;
        sea.note(|| "thawed".to_owned());
        process.gate.freeze(false);
    });
}

/// A clock is set wrong, or right again.
fn jump(world: &World, clock: &AtomicI64) {
    let off_ms = if clock.load(Ordering::Relaxed) == 0 { world.jump_ms } else { 0 };
    clock.store(off_ms, Ordering::Relaxed);
}

/// People who answer what they are asked.
async fn approve(world: Arc<World>, dice: Dice) {
    let ledger = world.ledger_of("people");
    loop {
        sleep(Duration::from_millis(dice.within(500..8_000))).await;
        let all = TicketFilter { limit: 100, ..TicketFilter::default() };
        for ticket in ledger.tickets(&all).await.unwrap_or_default() {
            let whim = if world.is_calm() { 1000 } else { dice.within(0..1000) };
            match ticket.state {
                TicketState::Pending => drop(ledger.vote(&ticket.id, &ballot(&ticket, &dice, whim > 30)).await),
                TicketState::Approved if whim < 20 => {
                    let by = Person { issuer: ISSUER.to_owned(), user: "tess".to_owned() };
                    drop(ledger.take_back(&ticket.id, &by, Ground::Revoked, "a whim").await);
                }
                _ => {}
            }
        }
    }
}

/// People who look in LoopIQ, long after the storm, and say what became of what nobody else could find out.
async fn settle_by_hand(world: Arc<World>) {
    let ledger = world.ledger_of("people");
    while !world.is_calm() {
        sleep(Duration::from_secs(1)).await;
    }
    sleep(BY_HAND_AFTER).await;
    loop {
        let unknown = WriteFilter { state: Some(State::Unknown), limit: 100, ..WriteFilter::default() };
        for write in ledger.writes(&unknown).await.unwrap_or_default() {
            let id = &write.plan.execution_id;
            let happened = world.around.loopiq.books.lock().unwrap().effects.iter().any(|effect| effect.key == *id);
            for user in ["otto", "tess"] {
                let opinion = Opinion {
                    issuer: ISSUER.to_owned(),
                    user: user.to_owned(),
                    happened,
                    evidence: "looked in LoopIQ".to_owned(),
                    record_ids: Vec::new(),
                    at_ms: 0,
                };
                drop(ledger.resolve(id, &opinion).await);
            }
        }
        sleep(Duration::from_mins(1)).await;
    }
}

fn ballot(ticket: &Ticket, dice: &Dice, agrees: bool) -> Ballot {
    Ballot {
        voter: Person {
            issuer: ISSUER.to_owned(),
            user: (*dice.pick(&["otto", "tess", "uma", "ada", "ben"])).to_owned(),
        },
        roles: vec!["approver".to_owned()],
        teams: Vec::new(),
        verdict: if agrees { Verdict::Approve } else { Verdict::Reject },
        reason: String::new(),
        digest: ticket.digest.clone(),
        at_ms: 0,
    }
}
