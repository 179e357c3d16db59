//! What must be true of every run, looked at when it is over.
//!
//! Promises: each broken promise is said in one line that names the key and what is wrong with it.
//!
//! 1. A key has one effect at most.
//! 2. A key means one execution, and its answer is the same every time, byte for byte.
//! 3. Before a write arrives, its intent is in the journal; before its answer goes out, its outcome.
//! 4. What needs people happens under an approval that they gave, used by this write alone, for
//!    exactly this payload.
//! 5. What the journal acknowledged is in it, and every answer's record too.
//! 6. Once everything is healthy, every write's outcome is found out, by people only where LoopIQ can
//!    not be asked.
//! 7. What the ledger and the answers say happened, happened; what they say did not, did not.
//! 8. What could be done is done in the end, and whoever wanted it is told so.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use loopgate::domain::approval::State as TicketState;
use loopgate::domain::approval::Verdict;
use loopgate::domain::audit::record::Stage;
use loopgate::domain::idempotency::Execution;
use loopgate::domain::idempotency::KnownBy;
use loopgate::domain::idempotency::State;

use crate::client::Told;
use crate::journal::Line;
use crate::ledger::Rows;
use crate::loopiq::Books;
use crate::loopiq::Effect;
use crate::rules;
use crate::rules::Honours;
use crate::world::World;

/// What came about in a run, to show that the storm was one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) effects: usize,
    pub(crate) answers: usize,
    pub(crate) ok: usize,
    pub(crate) replayed: usize,
    pub(crate) in_flight: usize,
    pub(crate) unknown: usize,
    pub(crate) drift: usize,
    pub(crate) approved: usize,
    pub(crate) by_resend: usize,
    pub(crate) by_lookup: usize,
    pub(crate) by_people: usize,
    pub(crate) deaths: usize,
    pub(crate) freezes: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.effects += other.effects;
        self.answers += other.answers;
        self.ok += other.ok;
        self.replayed += other.replayed;
        self.in_flight += other.in_flight;
        self.unknown += other.unknown;
        self.drift += other.drift;
        self.approved += other.approved;
        self.by_resend += other.by_resend;
        self.by_lookup += other.by_lookup;
        self.by_people += other.by_people;
        self.deaths += other.deaths;
        self.freezes += other.freezes;
    }
}

/// Everything that is left of a run.
struct Remains<'a> {
    world: &'a World,
    books: &'a Books,
    rows: &'a Rows,
    lines: &'a [Line],
    told: &'a [Told],
    effects: BTreeMap<&'a str, Vec<&'a Effect>>,
    broken: Vec<String>,
}

/// Looks at a run. What it says is empty if every promise was kept.
pub(crate) fn check(world: &World) -> (Vec<String>, Seen) {
    let (books, rows) = (world.around.loopiq.books.lock().unwrap(), world.around.store.rows.lock().unwrap());
    let (lines, told) = (world.around.disks.lines.lock().unwrap(), world.told.lock().unwrap());
    let mut effects: BTreeMap<&str, Vec<&Effect>> = BTreeMap::new();
    for effect in &books.effects {
        effects.entry(&effect.key).or_default().push(effect);
    }
    let mut remains =
        Remains { world, books: &books, rows: &rows, lines: &lines, told: &told, effects, broken: Vec::new() };
    remains.one_effect();
    remains.one_answer();
    remains.recorded();
    remains.approved();
    remains.journal_whole();
    remains.all_known();
    remains.true_words();
    remains.heard_of();
    (remains.broken.clone(), remains.seen())
}

impl Remains<'_> {
    fn say(&mut self, promise: u8, key: &str, what: impl std::fmt::Display) {
        self.broken.push(format!("promise {promise}, {key}: {what}"));
    }

    fn one_effect(&mut self) {
        let twice: Vec<_> = self.effects.iter().filter(|(_, effects)| effects.len() > 1).collect();
        let words: Vec<_> = twice.iter().map(|(key, all)| ((**key).to_owned(), all.len(), all[0].tool)).collect();
        for (key, count, tool) in words {
            self.say(1, &key, format!("{count} effects of {tool}"));
        }
    }

    fn one_answer(&mut self) {
        for deed in &self.world.deeds {
            let name = format!("deed {}", deed.number);
            let ids: BTreeSet<_> = self
                .told
                .iter()
                .filter(|told| told.deed == deed.number)
                .map(|told| told.of_audit("executionId").to_owned())
                .filter(|id| !id.is_empty())
                .collect();
            if ids.len() > 1 {
                self.say(2, &name, format!("{} executions: {ids:?}", ids.len()));
            }
            let answers: Vec<_> = self.told.iter().filter(|told| told.deed == deed.number && told.is_ok()).collect();
            let Some(first) = answers.first() else { continue };
            let other = answers.iter().find(|told| told.text != first.text || told.structured != first.structured);
            if let Some(other) = other {
                self.say(2, &name, format!("`{}` and then `{}`", first.text, other.text));
            }
        }
    }

    fn recorded(&mut self) {
        for told in self.told.iter().filter(|told| told.is_ok()) {
            let key = told.of_audit("executionId");
            let Some(effect) = self.effects.get(key).map(|effects| effects[0].tick) else { continue };
            let arrived = self.books.reached.iter().find(|one| one.key == key).map_or(effect, |one| one.tick);
            if !self.line(|line| line.tick < arrived && line.is(Stage::Intent, key)) {
                self.say(3, key, "arrived before its intent was in the journal");
            }
            let request = told.of_audit("requestId");
            if !self.line(|line| line.tick > effect && line.tick < told.tick && line.is(Stage::Outcome, key)) {
                self.say(3, key, "answered before its outcome was in the journal");
            }
            if !self.line(|line| line.tick < told.tick && line.request_id == request) {
                self.say(3, key, format!("the record of request {request} is missing"));
            }
        }
    }

    fn line(&self, fits: impl Fn(&Line) -> bool) -> bool {
        self.lines.iter().any(fits)
    }

    fn approved(&mut self) {
        let high: Vec<Effect> = self.books.effects.iter().filter(|one| rules::tool(one.tool).high).cloned().collect();
        for effect in high {
            if let Err(why) = self.covered(&effect) {
                self.say(4, &effect.key, format!("{} happened: {why}", effect.tool));
            }
        }
    }

    fn covered(&self, effect: &Effect) -> Result<(), String> {
        let id = effect.approval.as_ref().ok_or("without an approval")?;
        let ticket = self.rows.tickets.get(id).ok_or("under an approval that does not exist")?;
        if ticket.consumed_by.as_ref() != Some(&effect.key) {
            return Err(format!("the approval was used by {:?}", ticket.consumed_by));
        }
        if !matches!(ticket.state, TicketState::Approved | TicketState::Executed) {
            return Err(format!("the approval is {}", ticket.state.as_str()));
        }
        if ticket.subject.digest().unwrap() != ticket.digest {
            return Err("the approval is not what was approved".to_owned());
        }
        let agreed: BTreeSet<_> = ticket
            .ballots
            .iter()
            .filter(|ballot| ballot.verdict == Verdict::Approve && ballot.digest == ticket.digest)
            .map(|ballot| ballot.voter.user.as_str())
            .filter(|user| *user != ticket.subject.requester.user)
            .collect();
        if agreed.len() < 2 {
            return Err(format!("only {agreed:?} agreed"));
        }
        let request = &ticket.subject.request;
        let same = request["body"] == effect.body && request["path"] == effect.path.as_str();
        if same { Ok(()) } else { Err(format!("approved was {request}, done {} {}", effect.path, effect.body)) }
    }

    fn journal_whole(&mut self) {
        let there: BTreeSet<_> = self.lines.iter().map(|line| line.at.to_string()).collect();
        let acknowledged = self.world.around.disks.acknowledged.lock().unwrap();
        let of_answers = self.told.iter().map(|told| told.of_audit("auditRef").to_owned()).filter(|at| !at.is_empty());
        let promised: Vec<_> = acknowledged.iter().map(ToString::to_string).chain(of_answers).collect();
        drop(acknowledged);
        for at in promised.into_iter().filter(|at| !there.contains(at)) {
            self.say(5, &at, "was acknowledged and is not in the journal");
        }
    }

    fn all_known(&mut self) {
        let lost = |write: &&Execution| {
            matches!(write.state, State::Sent | State::Unknown)
                || write.kept.as_ref().is_some_and(|kept| kept.by == KnownBy::People) && self.can_be_known(write)
        };
        let lost: Vec<_> = self.rows.writes.values().filter(lost).cloned().collect();
        for write in lost {
            let note = format!("still {} after {} tries: {}", write.state.as_str(), write.attempts, write.note);
            self.say(6, &write.plan.execution_id, note);
        }
    }

    /// Whether anybody but people can tell what became of a write.
    fn can_be_known(&self, write: &Execution) -> bool {
        match rules::tool(&write.plan.tool).honours {
            Honours::Books | Honours::Both => true,
            // After that time it may not be sent again, and there is nobody to ask.
            // A conflict may be because it happened, and there is nobody to ask either.
            Honours::Key => self.world.around.patience.resend_ms > 3_000_000 && write.plan.request.if_match.is_none(),
            Honours::Nothing => false,
        }
    }

    fn true_words(&mut self) {
        let mut wrong = Vec::new();
        for write in self.rows.writes.values() {
            let (id, times) = (&write.plan.execution_id, self.times(&write.plan.execution_id));
            let expected = match write.state {
                State::Executed => times == 1,
                State::Failed | State::Reserved => times == 0,
                State::Sent | State::Unknown => true,
            };
            if !expected {
                let by = write.kept.as_ref().map(|kept| kept.by);
                wrong.push((id.clone(), format!("{} ({by:?}), and it happened {times} times", write.state.as_str())));
            }
        }
        for told in self.told {
            let (id, times) = (told.of_audit("executionId"), self.times(told.of_audit("executionId")));
            let expected = match told.code.as_str() {
                "ok" => times == 1,
                "backend_rejected" => times == 0,
                _ => true,
            };
            if !expected {
                wrong.push((id.to_owned(), format!("`{}` was answered, and it happened {times} times", told.code)));
            }
        }
        for (id, what) in wrong {
            self.say(7, &id, what);
        }
    }

    fn heard_of(&mut self) {
        let mut unheard = Vec::new();
        for deed in &self.world.deeds {
            let told = || self.told.iter().filter(|told| told.deed == deed.number);
            let id = told().map(|told| told.of_audit("executionId")).find(|id| !id.is_empty()).unwrap_or_default();
            let happened = self.times(id) > 0;
            let refused = self.rows.writes.get(id).is_some_and(|write| write.state == State::Failed);
            let must = happened || (!deed.tool.high && !refused);
            if must && !told().any(Told::is_ok) {
                let last = told().next_back().map(|told| told.code.clone());
                unheard.push((
                    format!("deed {}", deed.number),
                    format!("{} was never told ok, last {last:?}", deed.tool.name),
                ));
            }
        }
        for (deed, what) in unheard {
            self.say(8, &deed, what);
        }
    }

    fn times(&self, key: &str) -> usize {
        self.effects.get(key).map_or(0, Vec::len)
    }

    fn seen(&self) -> Seen {
        let of_code = |codes: &[&str]| self.told.iter().filter(|told| codes.contains(&told.code.as_str())).count();
        let known = |by| {
            let kept = self.rows.writes.values().filter_map(|write| write.kept.as_ref());
            kept.filter(|kept| kept.by == by).count()
        };
        let count = |number: &std::sync::atomic::AtomicU64| {
            usize::try_from(number.load(std::sync::atomic::Ordering::Relaxed)).unwrap()
        };
        Seen {
            effects: self.books.effects.len(),
            answers: self.told.len(),
            ok: of_code(&["ok"]),
            replayed: self.told.iter().filter(|told| told.audit["replayed"] == true).count(),
            in_flight: of_code(&["execution_in_flight"]),
            unknown: of_code(&["execution_unknown"]),
            drift: of_code(&["preview_drift", "approval_mismatch"]),
            approved: self.rows.tickets.values().filter(|ticket| ticket.consumed_by.is_some()).count(),
            by_resend: known(KnownBy::Resend),
            by_lookup: known(KnownBy::Lookup),
            by_people: known(KnownBy::People),
            deaths: count(&self.world.deaths),
            freezes: count(&self.world.freezes),
        }
    }
}

impl Line {
    /// Whether this is the record of that stage of that execution.
    fn is(&self, stage: Stage, execution: &str) -> bool {
        self.stage == stage && self.execution_id.as_deref() == Some(execution)
    }
}
