//! The gate before a backend: who may send now, who waits, who is turned away.
//!
//! Promises: no more exchanges under way than the [`Limit`] says; a fifth of it is kept from plain
//! reads, so that writes, previews and approvals get through a flood of them; the queue is bounded
//! and nobody waits in it for longer than asked; whoever is turned away has sent nothing; a caller
//! who goes away leaves no place taken. Called by [`super::carry`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::limit::Limit;

/// Whether plain reads must leave a share for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A read that nothing hangs on.
    Read,
    /// A write, its preview, or a question about one.
    Write,
}

impl Class {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What the gate is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Exchanges that may always be under way.
    pub min: u16,
    /// Exchanges that may be under way at most.
    pub max: u16,
    /// Calls that may wait.
    pub queue: usize,
    /// How long one may wait.
    pub wait: Duration,
}

/// Numbers for people.
#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) limit: IntGauge,
    pub(super) under_way: IntGauge,
    pub(super) waiting: IntGauge,
}

/// One backend's gate.
#[derive(Debug)]
pub(super) struct Gate {
    rules: Concurrency,
    gauges: Gauges,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    reads: usize,
    writes: usize,
    waiting_reads: VecDeque<Waiter>,
    waiting_writes: VecDeque<Waiter>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    since: Instant,
    call: oneshot::Sender<()>,
}

/// There was no room, and sending had not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TurnedAway;

impl Gate {
    pub(super) fn new(rules: Concurrency, gauges: Gauges) -> Arc<Self> {
        let limit = Limit::new(rules.min, rules.max);
        let state = State {
            limit,
            reads: 0,
            writes: 0,
            waiting_reads: VecDeque::new(),
            waiting_writes: VecDeque::new(),
            next: 0,
        };
        let gate = Self { rules, gauges, state: Mutex::new(state) };
        gate.tell(&gate.state());
        Arc::new(gate)
    }

    /// A place, at once or after `wait` at most.
    pub(super) async fn enter(self: &Arc<Self>, class: Class, wait: Duration) -> Result<Place, TurnedAway> {
        let mut waiting = {
            let mut state = self.state();
            if state.line(class).is_empty() && state.has_room(class) {
                state.take(class);
                self.tell(&state);
                return Ok(self.place(class));
            }
            if state.is_full(class, self.rules.queue) || wait.is_zero() {
                return Err(TurnedAway);
            }
            let (call, called) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.line(class).push_back(Waiter { number, since: Instant::now(), call });
            self.tell(&state);
            Waiting { gate: self, class, number, called, went_in: false }
        };
        let called = tokio::time::timeout(wait, &mut waiting.called).await;
        if !matches!(called, Ok(Ok(()))) {
            return Err(TurnedAway);
        }
        waiting.went_in = true;
        Ok(self.place(class))
    }

    /// How long whoever is turned away had better wait.
    pub(super) fn hint(&self) -> Duration {
        self.rules.wait.max(Duration::from_millis(100))
    }

    /// How long one may wait.
    pub(super) fn patience(&self) -> Duration {
        self.rules.wait
    }

    fn place(self: &Arc<Self>, class: Class) -> Place {
        Place { gate: Arc::clone(self), class, since: Instant::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, class: Class) {
        let mut state = self.state();
        match class {
            Class::Read => state.reads = state.reads.saturating_sub(1),
            Class::Write => state.writes = state.writes.saturating_sub(1),
        }
        state.call_in(self.rules.wait);
        self.tell(&state);
    }

    fn tell(&self, state: &State) {
        let number = |many: usize| i64::try_from(many).unwrap_or(i64::MAX);
        self.gauges.limit.set(number(state.limit.whole()));
        self.gauges.under_way.set(number(state.reads + state.writes));
        self.gauges.waiting.set(number(state.waiting_reads.len() + state.waiting_writes.len()));
    }
}

impl State {
    fn line(&mut self, class: Class) -> &mut VecDeque<Waiter> {
        match class {
            Class::Read => &mut self.waiting_reads,
            Class::Write => &mut self.waiting_writes,
        }
    }

    fn has_room(&self, class: Class) -> bool {
        let limit = self.limit.whole();
        let all = self.reads + self.writes < limit;
        match class {
            Class::Write => all,
            // WHY `min`: a limit of one is shared by all.
            Class::Read => all && self.reads < limit - (limit.div_ceil(5)).min(limit - 1),
        }
    }

    /// Reads fill four fifths of the queue at most.
    fn is_full(&self, class: Class, queue: usize) -> bool {
        let waiting = self.waiting_reads.len() + self.waiting_writes.len();
        match class {
            Class::Write => waiting >= queue,
            Class::Read => waiting >= queue || self.waiting_reads.len() >= queue - queue.div_ceil(5).min(queue),
        }
    }

    fn take(&mut self, class: Class) {
        match class {
            Class::Read => self.reads += 1,
            Class::Write => self.writes += 1,
        }
    }

    /// Gives free places to those who wait, writes first.
    fn call_in(&mut self, wait: Duration) {
        for class in [Class::Write, Class::Read] {
            while self.has_room(class) {
                let Some(next) = next(self.line(class), wait) else { break };
                // One who has gone is passed over.
                if next.call.send(()).is_ok() {
                    self.take(class);
                }
            }
        }
    }
}

/// First come, first served, while the line is short; the newest first once its head has waited for half
/// of what is allowed. WHY: then the oldest would be given up by their callers as soon as they were
/// served, and everybody would be late; the newest still have all their time.
fn next(line: &mut VecDeque<Waiter>, wait: Duration) -> Option<Waiter> {
    let is_late = line.front().is_some_and(|first| first.since.elapsed() > wait / 2);
    if is_late { line.pop_back() } else { line.pop_front() }
}

/// One who stands in line; whatever becomes of it, its place in line goes with it.
struct Waiting<'a> {
    gate: &'a Arc<Gate>,
    class: Class,
    number: u64,
    called: oneshot::Receiver<()>,
    went_in: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.went_in {
            return;
        }
        self.called.close();
        if self.called.try_recv().is_ok() {
            // Called in at the very moment of going away: the place is free again.
            self.gate.leave(self.class);
            return;
        }
        let mut state = self.gate.state();
        let number = self.number;
        state.line(self.class).retain(|waiter| waiter.number != number);
        self.gate.tell(&state);
    }
}

/// A place for one exchange; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    class: Class,
    since: Instant,
}

impl Place {
    /// The backend answered, in its own time.
    pub(super) fn answered(&self) {
        let mut state = self.gate.state();
        let under_way = state.reads + state.writes;
        state.limit.answered(self.since.elapsed(), under_way);
    }

    /// The backend did not answer, or said that it is too much.
    pub(super) fn lost(&self) {
        self.gate.state().limit.lost(Instant::now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.leave(self.class);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(max: u16, queue: usize) -> Arc<Gate> {
        let gauge = |name: &str| IntGauge::new(name, name).unwrap();
        let gauges = Gauges { limit: gauge("a"), under_way: gauge("b"), waiting: gauge("c") };
        Gate::new(Concurrency { min: max, max, queue, wait: Duration::from_secs(1) }, gauges)
    }

    async fn enter(gate: &Arc<Gate>, class: Class) -> Result<Place, TurnedAway> {
        gate.enter(class, Duration::from_secs(1)).await
    }

    async fn fill(gate: &Arc<Gate>, class: Class) -> Vec<Place> {
        let mut places = Vec::new();
        while let Ok(place) = gate.enter(class, Duration::ZERO).await {
            places.push(place);
        }
        places
    }

    /// Polls a future until it has to wait.
    async fn start<F: Future + Unpin>(future: &mut F) {
        tokio::select! {
            biased;
            _ = future => panic!("there was no room"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reads_leave_room_for_writes_and_writes_take_all_there_is() {
        let gate = gate(10, 8);
        let reads = fill(&gate, Class::Read).await;
        assert_eq!(reads.len(), 8);
        let writes = fill(&gate, Class::Write).await;
        assert_eq!(writes.len(), 2);
        drop(reads);
        assert_eq!(fill(&gate, Class::Write).await.len(), 8);
        assert_eq!(gate.gauges.under_way.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_place_is_enough_for_reads_too() {
        let gate = gate(1, 8);
        assert_eq!(fill(&gate, Class::Read).await.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_goes_to_a_write_first_and_then_in_order() {
        let gate = gate(5, 10);
        let mut all = fill(&gate, Class::Write).await;
        let mut reads = [Box::pin(enter(&gate, Class::Read)), Box::pin(enter(&gate, Class::Read))];
        for read in &mut reads {
            start(read).await;
        }
        let mut write = Box::pin(enter(&gate, Class::Write));
        start(&mut write).await;
        all.pop();
        let held = write.await.unwrap();
        let [mut first, mut second] = reads;
        start(&mut first).await;
        all.pop();
        start(&mut second).await;
        let read = first.await.unwrap();
        assert_eq!(gate.gauges.waiting.get(), 1);
        drop((held, read, all));
        second.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_asked_and_the_line_is_bounded() {
        let gate = gate(1, 2);
        let _held = fill(&gate, Class::Write).await;
        let began = Instant::now();
        let mut waiting = [Box::pin(enter(&gate, Class::Write)), Box::pin(enter(&gate, Class::Write))];
        for one in &mut waiting {
            start(one).await;
        }
        assert_eq!(enter(&gate, Class::Write).await.unwrap_err(), TurnedAway);
        assert_eq!(began.elapsed(), Duration::ZERO, "turned away at once");
        for one in waiting {
            assert_eq!(one.await.unwrap_err(), TurnedAway);
        }
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        assert_eq!(gate.gauges.waiting.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_line_stands_the_newest_is_served_first() {
        let gate = gate(1, 8);
        let held = fill(&gate, Class::Write).await;
        let mut old = Box::pin(enter(&gate, Class::Write));
        start(&mut old).await;
        tokio::time::advance(Duration::from_millis(501)).await;
        let mut new = Box::pin(enter(&gate, Class::Write));
        start(&mut new).await;
        drop(held);
        let place = new.await.unwrap();
        start(&mut old).await;
        drop(place);
        old.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_away_takes_no_place_along() {
        let gate = gate(1, 8);
        let held = fill(&gate, Class::Write).await;
        let mut gone = Box::pin(enter(&gate, Class::Write));
        start(&mut gone).await;
        drop(gone);
        assert_eq!(gate.gauges.waiting.get(), 0);
        // Called in, and gone before it noticed.
        let mut called = Box::pin(enter(&gate, Class::Write));
        start(&mut called).await;
        drop(held);
        drop(called);
        assert_eq!(gate.gauges.under_way.get(), 0);
        assert_eq!(fill(&gate, Class::Read).await.len(), 1);
    }
}
