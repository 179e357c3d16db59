//! What lies between the gateways and everything they depend on: delay, loss, and moments to die at.
//!
//! Promises: what was handed over happens outside the process that asked for it, so it may happen
//! after that process has died; every hand-over is a moment at which a process can die or freeze;
//! chance decides what goes wrong, the weather how often. Time is virtual and never waits.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::dice::Dice;

/// Where every world's clock begins.
pub(crate) const BEGINNING_MS: i64 = 1_790_000_000_000;

/// How often what goes wrong: in so many of a thousand hand-overs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weather {
    /// The ledger did nothing and says so.
    pub(crate) ledger_before: u64,
    /// The ledger did it, and its answer is lost.
    pub(crate) ledger_after: u64,
    /// The ledger says that it failed, and does it later.
    pub(crate) ledger_late: u64,
    /// The journal wrote nothing and says so.
    pub(crate) journal_before: u64,
    /// The journal wrote it, and says that it does not know.
    pub(crate) journal_after: u64,
    /// No connection; no byte left.
    pub(crate) unreachable: u64,
    /// Bytes left and never arrived.
    pub(crate) swallowed: u64,
    /// A 5xx before anything was done.
    pub(crate) error_before: u64,
    /// A 5xx after it was done.
    pub(crate) error_after: u64,
    /// It was done and the connection broke.
    pub(crate) answer_lost: u64,
    /// A no that would be a yes another time.
    pub(crate) busy: u64,
    /// It arrives, but so late that nobody waits any more.
    pub(crate) late: u64,
    /// Any hand-over takes long.
    pub(crate) slow: u64,
}

impl Weather {
    /// Nothing goes wrong.
    pub(crate) const CALM: Self = Self {
        ledger_before: 0,
        ledger_after: 0,
        ledger_late: 0,
        journal_before: 0,
        journal_after: 0,
        unreachable: 0,
        swallowed: 0,
        error_before: 0,
        error_after: 0,
        answer_lost: 0,
        busy: 0,
        late: 0,
        slow: 0,
    };

    /// A few things go wrong, often.
    pub(crate) fn stormy(dice: &Dice) -> Self {
        let mut weather = Self::CALM;
        for _ in 0..dice.within(1..4) {
            let often = dice.within(50..700);
            let what = match dice.within(0..16) {
                0 => &mut weather.ledger_before,
                1 => &mut weather.ledger_after,
                2 => &mut weather.ledger_late,
                3 => &mut weather.journal_before,
                4 => &mut weather.journal_after,
                5 => &mut weather.unreachable,
                6 | 7 => &mut weather.swallowed,
                8 => &mut weather.error_before,
                9 => &mut weather.error_after,
                10 | 11 => &mut weather.answer_lost,
                12 => &mut weather.busy,
                13 | 14 => &mut weather.late,
                _ => &mut weather.slow,
            };
            *what = often;
        }
        weather
    }
}

/// Whose answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shore {
    Ledger,
    Journal,
}

/// How a hand-over ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    NotDone,
    DoneUnheard,
    DoneLater,
}

/// One world's surroundings.
pub(crate) struct Sea {
    pub(crate) dice: Dice,
    began: Instant,
    weather: Mutex<Weather>,
    ticks: AtomicU64,
    outside: Mutex<JoinSet<()>>,
    tale: Option<Mutex<Vec<String>>>,
}

impl Sea {
    pub(crate) fn new(dice: Dice, told: bool) -> Arc<Self> {
        Arc::new(Self {
            dice,
            began: Instant::now(),
            weather: Mutex::new(Weather::CALM),
            ticks: AtomicU64::new(0),
            outside: Mutex::default(),
            tale: told.then(Mutex::default),
        })
    }

    pub(crate) fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    pub(crate) fn turns(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// True time.
    pub(crate) fn now_ms(&self) -> i64 {
        BEGINNING_MS + i64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// The next place in the one order of everything that happened.
    pub(crate) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    /// Something that happened, for whoever reads the run of one seed.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if let Some(tale) = &self.tale {
            let at = format!(
                "{:>10.3}s  {}",
                f64::from(u32::try_from(self.now_ms() - BEGINNING_MS).unwrap()) / 1000.0,
                what()
            );
            tale.lock().unwrap().push(at);
        }
    }

    /// The run as it was noted.
    pub(crate) fn tale(&self) -> String {
        self.tale.as_ref().map(|tale| tale.lock().unwrap().join("\n")).unwrap_or_default()
    }

    /// Something that goes on whoever dies meanwhile.
    pub(crate) fn outside(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut outside = self.outside.lock().unwrap();
        while outside.try_join_next().is_some() {}
        outside.spawn(work);
    }

    /// How long a hand-over takes one way.
    pub(crate) fn way(&self) -> Duration {
        let ms =
            if self.dice.permille(self.weather().slow) { self.dice.within(50..3_000) } else { self.dice.within(0..4) };
        Duration::from_millis(ms)
    }

    fn fate(&self, shore: Shore) -> Fate {
        let weather = self.weather();
        let (before, after, late) = match shore {
            Shore::Ledger => (weather.ledger_before, weather.ledger_after, weather.ledger_late),
            Shore::Journal => (weather.journal_before, weather.journal_after, 0),
        };
        let drawn = self.dice.within(0..1000);
        if drawn < before {
            Fate::NotDone
        } else if drawn < before + after {
            Fate::DoneUnheard
        } else if drawn < before + after + late {
            Fate::DoneLater
        } else {
            Fate::Fine
        }
    }

    /// Hands something over and waits for the answer; none when nothing is heard of it.
    pub(crate) async fn hand_over<T: Send + 'static>(
        &self,
        gate: &Gate,
        shore: Shore,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        gate.pass().await;
        let (fate, there, back) = (self.fate(shore), self.way(), self.way());
        let later = Duration::from_millis(if fate == Fate::DoneLater { self.dice.within(1_000..20_000) } else { 0 });
        let (tell, told) = oneshot::channel();
        self.outside(async move {
            sleep(there).await;
            if fate == Fate::DoneLater {
                // Whoever asked hears of a fault now and goes on.
                drop(tell);
                sleep(later).await;
                act();
                return;
            }
            let done = (fate != Fate::NotDone).then(act);
            sleep(back).await;
            if fate == Fate::Fine {
                drop(tell.send(done));
            }
        });
        let heard = told.await.ok().flatten();
        gate.pass().await;
        heard
    }
}

/// One process: it passes here at every hand-over, and here it dies or freezes.
#[derive(Debug)]
pub(crate) struct Gate {
    steps: AtomicU64,
    dies_at: u64,
    stands: (u64, Duration),
    frozen: AtomicBool,
    dead: AtomicBool,
    // WHY not `watch`: it wakes those who wait in an order of its own, and every run would differ.
    changed: Notify,
    /// How far its clock is from true time, in milliseconds.
    clock: Arc<AtomicI64>,
}

impl Gate {
    /// A process that dies at its so-manieth step, and one of whose tasks stands still for a while at
    /// another; `u64::MAX` for one that does not.
    pub(crate) fn new(dies_at: u64, stands: (u64, Duration), clock: Arc<AtomicI64>) -> Arc<Self> {
        Arc::new(Self {
            steps: AtomicU64::new(0),
            dies_at,
            stands,
            frozen: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            changed: Notify::new(),
            clock,
        })
    }

    /// A step; does not return once the process is dead.
    pub(crate) async fn pass(&self) {
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        if step == self.dies_at {
            self.die();
        }
        if step == self.stands.0 {
            sleep(self.stands.1).await;
        }
        while self.frozen.load(Ordering::Relaxed) {
            self.changed.notified().await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) async fn died(&self) {
        while !self.is_dead() {
            self.changed.notified().await;
        }
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn off_ms(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }
}
