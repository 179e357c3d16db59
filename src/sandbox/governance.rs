//! A release's certification: its state, what stands in its way, and the decision.
//!
//! Promises: every number is computed from the records as they are now, so the version of the
//! certification changes when evidence turns stale, a blocker opens or a decision falls. Never
//! decides twice. Listed in `sandbox::table`.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::cut;
use super::books::put;
use super::books::text;
use super::kind::Kind;
use super::operation::Ask;
use super::problem::Problem;

/// Everything about a release's certification.
pub(super) struct Standing {
    /// Id of the release.
    pub(super) release: String,
    /// The certification.
    pub(super) certification: Value,
    /// Its evidence, with freshness.
    pub(super) evidence: Vec<Value>,
    /// Its blockers, open and resolved.
    pub(super) blockers: Vec<Value>,
}

impl Standing {
    /// Reads the standing of the release, or says that it has no certification.
    pub(super) fn of(books: &Books<'_>, release: &str) -> Result<Self, Problem> {
        let found = books.get(Kind::Release, release)?;
        let certification = text(&found, "certification");
        if certification.is_empty() {
            let words = format!("release `{release}` has no certification yet");
            return Err(Problem::new(404, "no_certification", words));
        }
        let certification = books.get(Kind::Certification, certification)?;
        let ours = |record: &Value| text(record, "release") == release;
        let evidence = books.all(Kind::Evidence, ours)?;
        let blockers = books.all(Kind::Blocker, ours)?;
        Ok(Self { release: release.to_owned(), certification, evidence, blockers })
    }

    /// The evidence that is not usable, as gaps.
    pub(super) fn gaps(&self) -> Vec<Value> {
        let unusable = self.evidence.iter().filter(|evidence| text(evidence, "status") != "fresh");
        unusable
            .map(|evidence| {
                json!({
                    "id": format!("gap-{}", text(evidence, "id")),
                    "tenant": evidence.get("tenant"),
                    "release": self.release,
                    "control": evidence.get("control"),
                    "kind": evidence.get("status"),
                    "evidence": evidence.get("id"),
                    "since": evidence.get("staleAfter"),
                })
            })
            .collect()
    }

    /// How many blockers are open.
    pub(super) fn open_blockers(&self) -> usize {
        self.blockers.iter().filter(|blocker| text(blocker, "status") == "open").count()
    }

    /// Control results of the certification.
    pub(super) fn controls(&self) -> &[Value] {
        self.certification.get("controls").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn view(&self) -> Value {
        let mut view = self.certification.clone();
        put(&mut view, "certification", Value::from(text(&self.certification, "id")));
        let summary = json!({
            "controls": tally(self.controls(), "result"),
            "evidence": tally(&self.evidence, "status"),
            "blockers": tally(&self.blockers, "status"),
        });
        put(&mut view, "summary", summary);
        view
    }
}

/// Counts records by a member.
pub(super) fn tally<'a>(records: impl IntoIterator<Item = &'a Value>, member: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(text(record, member).to_owned()).or_default() += 1;
    }
    counts
}

/// The certification of a release with counts.
pub(super) fn certification(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    Ok(Standing::of(books, ask.var("release"))?.view())
}

/// The evidence of a release's certification.
pub(super) fn evidence(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    cut("evidence", Standing::of(books, ask.var("release"))?.evidence, ask)
}

/// The blockers of a release's certification.
pub(super) fn blockers(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    cut("blockers", Standing::of(books, ask.var("release"))?.blockers, ask)
}

/// The evidence gaps of a release's certification.
pub(super) fn gaps(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    cut("gaps", Standing::of(books, ask.var("release"))?.gaps(), ask)
}

/// Whether the release could be certified now.
pub(super) fn readiness(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let standing = Standing::of(books, ask.var("release"))?;
    let controls = standing.controls();
    let passed = controls.iter().filter(|c| matches!(text(c, "result"), "passed" | "not_applicable")).count();
    let fresh = standing.evidence.iter().filter(|e| text(e, "status") == "fresh").count();
    let (open, assessed, collected) = (standing.open_blockers(), controls.len(), standing.evidence.len());
    let checks = json!([
        {"name": "controls_passed", "passed": passed == assessed, "detail": format!("{passed} of {assessed} controls passed")},
        {"name": "evidence_fresh", "passed": fresh == collected, "detail": format!("{fresh} of {collected} pieces of evidence are fresh")},
        {"name": "blockers_resolved", "passed": open == 0, "detail": format!("{open} blockers are open")},
    ]);
    let ready = passed == assessed && fresh == collected && open == 0;
    // Controls and evidence weigh the same; each open blocker takes ten points.
    let share = |part: usize, whole: usize| (50 * part).checked_div(whole).unwrap_or(50);
    let score = (share(passed, assessed) + share(fresh, collected)).saturating_sub(10 * open);
    Ok(json!({
        "id": format!("readiness-{}", standing.release),
        "tenant": books.tenant(),
        "release": standing.release,
        "certification": standing.certification.get("id"),
        "ready": ready,
        "score": score,
        "checks": checks,
    }))
}

/// Certifies or rejects a release.
pub(super) fn decide(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let release = ask.var("release");
    let standing = Standing::of(books, release)?;
    let status = text(&standing.certification, "status");
    if status != "in_review" {
        let words =
            format!("the certification of `{release}` is `{status}`; only one that is `in_review` can be decided");
        return Err(Problem::new(409, "not_in_review", words));
    }
    let certifies = ask.text("decision") == Some("certify");
    let settings = books.get(Kind::Settings, "tenant-settings")?;
    let strict = settings.get("blockersMustBeClosed").and_then(Value::as_bool).unwrap_or(true);
    let open = standing.open_blockers();
    if certifies && strict && open > 0 {
        let words = format!("release `{release}` has {open} open blockers; resolve them, or reject the certification");
        return Err(Problem::new(409, "blockers_open", words));
    }
    let status = if certifies { "certified" } else { "rejected" };
    let decision = json!({
        "decision": ask.text("decision"),
        "reason": ask.text("reason"),
        "by": books.user(),
        "at": books.stamp(),
    });
    let id = text(&standing.certification, "id").to_owned();
    let members = vec![("status", Value::from(status)), ("decision", decision)];
    books.update(Kind::Certification, &id, members)?;
    books.update(Kind::Release, release, vec![("status", Value::from(status))])?;
    Ok(Standing::of(books, release)?.view())
}
