//! Counting what became of recorded decisions.
//!
//! Promises: counts are exact whatever is kept of samples; parts that are counted apart and merged
//! in the order of the journal give what one count of all of it gives, so that the number of
//! threads shows nowhere. Memory grows with the names that are met, not with the decisions, but
//! for sixteen bytes of each. Called by whoever replays; read by `report`.

use std::collections::{BTreeMap, HashSet};

use crate::domain::audit::chain::Hash;
use crate::domain::pdp::Phase;
use crate::domain::replay::change::{Change, Class, Counts};
use crate::domain::replay::recorded::About;
use crate::domain::replay::{Judged, Skip};

/// Samples of one class.
const SAMPLES_MAX: usize = 12;

/// Samples of one class that are of the same organisation, tool and phase.
const ALIKE_MAX: usize = 2;

/// Samples of decisions that were skipped for one reason.
const SKIPPED_MAX: usize = 5;

/// What one organisation, tool, role or user has of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Decisions made again.
    pub replayed: u64,
    /// Those that change, by class.
    pub changes: Counts,
}

/// Names and what they have of it.
pub type Table = BTreeMap<String, Row>;

/// A decision that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Which.
    pub about: About,
    /// What was found, in particular.
    pub why: String,
}

/// What was skipped for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkippedFor {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub samples: Vec<Skipped>,
}

/// The records of one writer that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// The writer.
    pub writer: String,
    /// The first record: `<writer>/<epoch>/<seq>`.
    pub first: String,
    /// The last.
    pub last: String,
    /// How many.
    pub records: u64,
    /// SHA-256 (hex) of the last one's line as its journal chains it.
    pub head: String,
}

/// A decision's id in sixteen bytes.
type Id = [u8; 16];

/// What became of a part of a journal.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub(super) replayed: u64,
    pub(super) without_visible: u64,
    pub(super) changes: Counts,
    pub(super) samples: BTreeMap<Class, Vec<Change>>,
    pub(super) skipped: BTreeMap<Skip, SkippedFor>,
    pub(super) tenants: Table,
    pub(super) roles: Table,
    pub(super) tools: Table,
    pub(super) users: Table,
    pub(super) phases: Table,
    /// Decisions of each (bundle, data).
    pub(super) baselines: BTreeMap<(String, String), u64>,
    pub(super) coverage: BTreeMap<String, Coverage>,
    /// Decisions whose input was met, used or not.
    met: HashSet<Id>,
    /// Decisions that were named without their input.
    named: Vec<(Id, About, bool)>,
    /// Every change as a line, until somebody takes them.
    lines: Vec<u8>,
}

impl Tally {
    /// A record was looked at.
    pub fn looked_at(&mut self, writer: &str, reference: &str) {
        let fresh = || Coverage {
            writer: writer.to_owned(),
            first: reference.to_owned(),
            last: String::new(),
            records: 0,
            head: String::new(),
        };
        let coverage = self.coverage.entry(writer.to_owned()).or_insert_with(fresh);
        coverage.records += 1;
        reference.clone_into(&mut coverage.last);
    }

    /// The bytes of the last record of a writer that was looked at.
    pub fn ends_with(&mut self, writer: &str, line: &[u8]) {
        if let Some(coverage) = self.coverage.get_mut(writer) {
            coverage.head = Hash::leaf(line).to_string();
        }
    }

    /// A decision was named without its input.
    pub fn named(&mut self, about: About, reduced: bool) {
        self.named.push((id_of(&about.decision), about, reduced));
    }

    /// A decision came with its input.
    pub fn met(&mut self, about: &About) {
        self.met.insert(id_of(&about.decision));
    }

    /// A decision was of this policy.
    pub fn decided_by(&mut self, bundle: &str, data: &str) {
        *self.baselines.entry((bundle.to_owned(), data.to_owned())).or_default() += 1;
    }

    /// What became of a decision that came with its input.
    pub fn judged(&mut self, about: &About, says_what_is_seen: bool, judged: Judged) {
        match judged {
            Judged::Skipped { skip, why } => return self.skipped(skip, about.clone(), why),
            Judged::Same => {}
            Judged::Changed(change) => self.changed(*change),
        }
        self.replayed += 1;
        self.without_visible += u64::from(!says_what_is_seen);
        for (table, names) in self.tables(about) {
            for name in names {
                table.entry(name).or_default().replayed += 1;
            }
        }
    }

    /// A decision cannot be made again.
    pub fn skipped(&mut self, skip: Skip, about: About, why: String) {
        let skipped = self.skipped.entry(skip).or_default();
        skipped.count += 1;
        if skipped.samples.len() < SKIPPED_MAX {
            skipped.samples.push(Skipped { about, why });
        }
    }

    fn changed(&mut self, change: Change) {
        let class = change.class;
        *self.changes.entry(class).or_default() += 1;
        if let Ok(mut line) = serde_json::to_vec(&change) {
            self.lines.append(&mut line);
            self.lines.push(b'\n');
        }
        let tools: Vec<String> = change.tools().into_iter().map(str::to_owned).collect();
        for (table, names) in self.tables(&change.about) {
            for name in names {
                *table.entry(name).or_default().changes.entry(class).or_default() += 1;
            }
        }
        // The one tool of a call stands in `tables` already.
        for name in tools.into_iter().filter(|_| change.about.tool.is_empty()) {
            *self.tools.entry(name).or_default().changes.entry(class).or_default() += 1;
        }
        sample(self.samples.entry(class).or_default(), change.shortened());
    }

    /// The tables, and under which names a decision stands in each.
    fn tables(&mut self, about: &About) -> [(&mut Table, Vec<String>); 5] {
        let none = || vec!["(none)".to_owned()];
        let roles = if about.roles.is_empty() { none() } else { about.roles.clone() };
        let tool = if about.tool.is_empty() { Vec::new() } else { vec![about.tool.clone()] };
        let phase = match about.phase {
            Some(Phase::List) => "list",
            Some(Phase::Call) => "call",
            Some(Phase::Response) => "response",
            None => "(none)",
        };
        [
            (&mut self.tenants, vec![about.tenant.clone()]),
            (&mut self.roles, roles),
            (&mut self.tools, tool),
            (&mut self.users, vec![about.user.clone()]),
            (&mut self.phases, vec![phase.to_owned()]),
        ]
    }

    /// Adds what became of the part of the journal that comes next.
    pub fn merge(&mut self, next: Self) {
        self.replayed += next.replayed;
        self.without_visible += next.without_visible;
        for (class, count) in next.changes {
            *self.changes.entry(class).or_default() += count;
        }
        for (class, samples) in next.samples {
            let kept = self.samples.entry(class).or_default();
            for change in samples {
                sample(kept, change);
            }
            kept.truncate(SAMPLES_MAX);
        }
        for (skip, more) in next.skipped {
            let skipped = self.skipped.entry(skip).or_default();
            skipped.count += more.count;
            let room = SKIPPED_MAX.saturating_sub(skipped.samples.len());
            skipped.samples.extend(more.samples.into_iter().take(room));
        }
        for (table, more) in [
            (&mut self.tenants, next.tenants),
            (&mut self.roles, next.roles),
            (&mut self.tools, next.tools),
            (&mut self.users, next.users),
            (&mut self.phases, next.phases),
        ] {
            add(table, more);
        }
        for (digests, count) in next.baselines {
            *self.baselines.entry(digests).or_default() += count;
        }
        for (writer, more) in next.coverage {
            match self.coverage.entry(writer) {
                std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(more)),
                std::collections::btree_map::Entry::Occupied(mut taken) => {
                    let all = taken.get_mut();
                    all.records += more.records;
                    (all.last, all.head) = (more.last, more.head);
                }
            }
        }
        self.met.extend(next.met);
        // The record with the input comes before those that only name the decision.
        let met = &self.met;
        self.named.extend(next.named.into_iter().filter(|(id, ..)| !met.contains(id)));
        self.lines.extend_from_slice(&next.lines);
    }

    /// Every change since the last time, a line of JSON each, in the order of the journal.
    pub fn take_lines(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines)
    }

    /// Counts what was named and never came with its input. Once, when everything was merged.
    pub fn finish(&mut self) {
        let mut told = HashSet::new();
        for (id, about, reduced) in std::mem::take(&mut self.named) {
            if !self.met.contains(&id) && told.insert(id) {
                let skip = if reduced { Skip::NoInput } else { Skip::InputMissing };
                self.skipped(skip, about, "the record names the decision and has no input".to_owned());
            }
        }
    }

    /// Decisions made again.
    #[must_use]
    pub const fn replayed(&self) -> u64 {
        self.replayed
    }
}

fn add(table: &mut Table, more: Table) {
    for (name, row) in more {
        let all = table.entry(name).or_default();
        all.replayed += row.replayed;
        for (class, count) in row.changes {
            *all.changes.entry(class).or_default() += count;
        }
    }
}

/// Keeps the first of each kind, so that one busy tool does not fill the page. How many there may
/// be is left to `merge`: what is dropped of a part may be wanted of the whole.
fn sample(kept: &mut Vec<Change>, change: Change) {
    fn kind(change: &Change) -> (&str, &str, Option<Phase>) {
        (&change.about.tenant, &change.about.tool, change.about.phase)
    }
    if kept.iter().filter(|one| kind(one) == kind(&change)).count() < ALIKE_MAX {
        kept.push(change);
    }
}

/// A decision's id as it is remembered.
fn id_of(decision: &str) -> Id {
    let hashed = || {
        let mut id = Id::default();
        id.iter_mut().zip(Hash::of(decision.as_bytes()).as_bytes()).for_each(|(to, from)| *to = *from);
        id
    };
    uuid::Uuid::parse_str(decision).map_or_else(|_| hashed(), uuid::Uuid::into_bytes)
}
