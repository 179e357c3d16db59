//! Numbers over releases and certifications, computed from the records.
//!
//! Promises: no number is stored. Never looks beyond the caller's organisation. Listed in
//! `sandbox::table`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::text;
use super::books::time;
use super::governance::tally;
use super::kind::Kind;
use super::operation::Ask;
use super::problem::Problem;

/// Numbers over the releases of an application, created within a time.
pub(super) fn releases(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let bound = |name: &str| ask.query.get(name).and_then(|at| at.parse::<Timestamp>().ok());
    let (from, to) = (bound("from"), bound("to"));
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(Problem::new(400, "invalid_query", "`from` must be before `to`"));
    }
    let application = ask.query.get("application");
    let counted = books.all(Kind::Release, |release| {
        let created = time(release, "createdAt");
        application.is_none_or(|id| text(release, "application") == id)
            && from.is_none_or(|from| created.is_some_and(|at| at >= from))
            && to.is_none_or(|to| created.is_some_and(|at| at < to))
    })?;
    let ids: BTreeSet<&str> = counted.iter().map(|release| text(release, "id")).collect();
    let open_of_these = |record: &Value| text(record, "status") == "open" && ids.contains(text(record, "release"));
    let blockers = books.all(Kind::Blocker, open_of_these)?;
    let findings = books.all(Kind::Finding, open_of_these)?;
    let lead_times = counted.iter().filter_map(|release| span(release, "createdAt", time(release, "releasedAt")));
    Ok(json!({
        "id": "release-analytics",
        "tenant": books.tenant(),
        "total": counted.len(),
        "byStatus": tally(&counted, "status"),
        "openBlockers": blockers.len(),
        "openFindings": tally(&findings, "severity"),
        "leadTimeHoursAverage": average(lead_times),
    }))
}

/// Numbers over all certifications.
pub(super) fn certifications(books: &mut Books<'_>, _: &Ask) -> Result<Value, Problem> {
    let counted = books.all(Kind::Certification, |_| true)?;
    let evidence = books.all(Kind::Evidence, |_| true)?;
    let results = counted.iter().filter_map(|c| c.get("controls")?.as_array()).flatten();
    let controls = tally(results, "result");
    let number = |name: &str| controls.get(name).copied().unwrap_or(0);
    let assessed = number("passed") + number("failed");
    let pass_rate = (assessed > 0).then(|| ratio(number("passed"), assessed));
    let durations = counted
        .iter()
        .filter_map(|certification| span(certification, "openedAt", time(certification.get("decision")?, "at")));
    Ok(json!({
        "id": "certification-analytics",
        "tenant": books.tenant(),
        "total": counted.len(),
        "byStatus": tally(&counted, "status"),
        "evidence": tally(&evidence, "status"),
        "passRate": pass_rate,
        "decisionHoursAverage": average(durations),
        "controls": controls,
    }))
}

/// Whole hours from a member's time to another.
fn span(record: &Value, start: &str, end: Option<Timestamp>) -> Option<u64> {
    u64::try_from(end?.duration_since(time(record, start)?).as_hours()).ok()
}

fn average(hours: impl Iterator<Item = u64>) -> Option<u64> {
    let (sum, count) = hours.fold((0_u64, 0_u64), |(sum, count), hours| (sum.saturating_add(hours), count + 1));
    sum.checked_div(count)
}

/// A share with two decimals.
fn ratio(part: u64, whole: u64) -> f64 {
    let percent = u32::try_from(part.saturating_mul(100) / whole).unwrap_or(100);
    f64::from(percent) / 100.0
}
