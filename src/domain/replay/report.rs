//! What a replay found, as people read it, programs take it and a gate believes it.
//!
//! Promises: what is said of the candidate is [`Body`], and the same journal, bundle and data give
//! the same one, byte for byte; when it was made and how fast stands beside it. What a person
//! approves is the digest of the body. Its JSON Schema is committed as
//! `policies/schema/replay-report.json`. Called by the commands and by whoever activates policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::canonical;
use crate::domain::replay::Skip;
use crate::domain::replay::change::{Change, Class, Counts};
use crate::domain::replay::tally::{Coverage, Skipped, Table, Tally};

/// The version of this form.
pub const SCHEMA: u32 = 1;

/// Rows of one table; more are counted.
const ROWS_MAX: usize = 200;

/// A policy, by what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// SHA-256 (hex) over the policy files.
    pub bundle: String,
    /// SHA-256 (hex) over the data.
    pub data: String,
}

/// A policy that made some of the recorded decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// What it is made of.
    pub policy: Digests,
    /// How many decisions with an input it made.
    pub decisions: u64,
}

/// Which requests were looked at: those that arrived from `from_ms` on and before `to_ms`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Milliseconds since the Unix epoch; none for the beginning of the journal.
    pub from_ms: Option<i64>,
    /// The same; none for its end.
    pub to_ms: Option<i64>,
    /// Only this organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only this tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
}

/// The journal that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Whether every record was verified as it was read.
    pub verified: bool,
    /// What was looked at of each writer.
    pub writers: Vec<Coverage>,
}

/// How many decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// Recorded in the window.
    pub recorded: u64,
    /// Made again with the same result as recorded, and then by the candidate.
    pub replayed: u64,
    /// Of those: made otherwise by the candidate.
    pub changed: u64,
    /// Not made again.
    pub skipped: u64,
    /// Of the skipped: those whose reason is not one that may be.
    pub unexplained: u64,
    /// Of the replayed: recorded before it was recorded which tools could be seen, and compared without it.
    pub without_visible: u64,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Whom or what it is about.
    pub name: String,
    /// Decisions made again. A list of several tools is none of any one tool.
    pub replayed: u64,
    /// Those that change. A list counts for each tool that it gains or loses.
    pub changed: u64,
    /// The same by class.
    pub classes: Counts,
}

/// Names with changes, those with most first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// The first of them.
    pub rows: Vec<Line>,
    /// How many more names have changes.
    pub more: u64,
}

/// What the candidate decides otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// How many of each class; a decision counts once, as its gravest difference.
    pub classes: Counts,
    /// By organisation.
    pub tenants: Lines,
    /// By role; a caller with several counts for each.
    pub roles: Lines,
    /// By tool.
    pub tools: Lines,
    /// By user.
    pub users: Lines,
    /// By phase.
    pub phases: Lines,
    /// Some of each class.
    pub samples: BTreeMap<Class, Vec<Change>>,
    /// SHA-256 (hex) of the list of all of them, as `--changes` writes it.
    pub list_sha256: String,
}

/// Decisions that were skipped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkippedLine {
    /// The reason.
    pub reason: Skip,
    /// How many.
    pub count: u64,
    /// What that means.
    pub words: String,
    /// Whether what is missing is known and was meant to be missing.
    pub explained: bool,
    /// Some of them.
    pub samples: Vec<Skipped>,
}

/// What was found, whenever and however fast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Version of this form; 1.
    pub schema: u32,
    /// The version that made the decisions again.
    pub loopgate: String,
    /// The policy that was tried.
    pub candidate: Digests,
    /// The policies that had decided.
    pub recorded: Vec<Baseline>,
    /// Which requests.
    pub window: Window,
    /// Which records.
    pub journal: Journal,
    /// How many decisions.
    pub decisions: Decisions,
    /// Whether every decision that was made again under its own policy gave what was recorded.
    pub proven: bool,
    /// What the candidate decides otherwise.
    pub changes: Changes,
    /// What could not be made again.
    pub skipped: Vec<SkippedLine>,
}

/// When and how fast it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// How long it took.
    pub took_ms: u64,
    /// Threads that decided.
    pub threads: u64,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What was found.
    pub replay: Body,
    /// When and how fast.
    pub made: Made,
}

impl Report {
    /// What came of everything that was tallied. `list_sha256` is of the lines that the tally gave.
    #[must_use]
    pub fn of(tally: Tally, candidate: Digests, window: Window, verified: bool, list_sha256: String) -> Self {
        let skipped: Vec<SkippedLine> = Skip::ALL
            .into_iter()
            .filter_map(|reason| tally.skipped.get(&reason).map(|skipped| (reason, skipped)))
            .map(|(reason, skipped)| SkippedLine {
                reason,
                count: skipped.count,
                words: reason.words().to_owned(),
                explained: reason.explained(),
                samples: skipped.samples.clone(),
            })
            .collect();
        let sum = |of: &dyn Fn(&SkippedLine) -> bool| -> u64 {
            skipped.iter().filter(|line| of(line)).map(|line| line.count).sum()
        };
        let decisions = Decisions {
            recorded: tally.replayed + sum(&|_| true),
            replayed: tally.replayed,
            changed: tally.changes.values().sum(),
            skipped: sum(&|_| true),
            unexplained: sum(&|line| !line.explained),
            without_visible: tally.without_visible,
        };
        let proven = tally.replayed > 0 && !skipped.iter().any(|line| line.reason.disproves());
        let recorded = tally
            .baselines
            .into_iter()
            .map(|((bundle, data), decisions)| Baseline { policy: Digests { bundle, data }, decisions });
        let replay = Body {
            schema: SCHEMA,
            loopgate: env!("CARGO_PKG_VERSION").to_owned(),
            candidate,
            recorded: recorded.collect(),
            window,
            journal: Journal { verified, writers: tally.coverage.into_values().collect() },
            decisions,
            proven,
            changes: Changes {
                classes: tally.changes,
                tenants: lines(tally.tenants),
                roles: lines(tally.roles),
                tools: lines(tally.tools),
                users: lines(tally.users),
                phases: lines(tally.phases),
                samples: tally.samples,
                list_sha256,
            },
            skipped,
        };
        Self { replay, made: Made::default() }
    }

    /// What a person approves: SHA-256 (hex) of what was found, whenever it was made.
    #[must_use]
    pub fn digest(&self) -> String {
        // Numbers are counts far below 2^53, so there is a canonical form.
        serde_json::to_value(&self.replay).ok().and_then(|body| canonical::digest_value(&body).ok()).unwrap_or_default()
    }

    /// The policy that was tried.
    #[must_use]
    pub fn candidate(&self) -> &Digests {
        &self.replay.candidate
    }

    /// Whether decisions of this policy are among those that were made again.
    #[must_use]
    pub fn replays(&self, policy: &Digests) -> bool {
        self.replay.recorded.iter().any(|baseline| baseline.policy == *policy)
    }

    /// Decisions that were made again.
    #[must_use]
    pub fn decisions_replayed(&self) -> u64 {
        self.replay.decisions.replayed
    }

    /// Decisions that were skipped without a reason that may be.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        self.replay.decisions.unexplained
    }

    /// Whether something was made again, and all of it as it was recorded.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.replay.proven
    }

    /// Whether every record was verified as it was read.
    #[must_use]
    pub fn verified(&self) -> bool {
        self.replay.journal.verified
    }

    /// Whether decisions were left out by organisation or tool.
    #[must_use]
    pub fn filtered(&self) -> bool {
        self.replay.window.tenant.is_some() || self.replay.window.tool.is_some()
    }

    /// When it was made: milliseconds since the Unix epoch.
    #[must_use]
    pub fn made_at_ms(&self) -> i64 {
        self.made.at_ms
    }
}

/// The rows with changes, those with most first.
fn lines(table: Table) -> Lines {
    let mut rows: Vec<Line> = table
        .into_iter()
        .filter(|(_, row)| !row.changes.is_empty())
        .map(|(name, row)| Line {
            name,
            replayed: row.replayed,
            changed: row.changes.values().sum(),
            classes: row.changes,
        })
        .collect();
    rows.sort_by(|one, other| other.changed.cmp(&one.changed).then_with(|| one.name.cmp(&other.name)));
    let more = rows.len().saturating_sub(ROWS_MAX) as u64;
    rows.truncate(ROWS_MAX);
    Lines { rows, more }
}
