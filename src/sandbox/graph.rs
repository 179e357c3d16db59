//! The evidence graph of a release: a snapshot that a refresh builds again.
//!
//! Promises: nodes and edges come from the records at the time of the build; between builds the
//! graph stays as it was and says when it has become stale. Never changes the records it draws.
//! Listed in `sandbox::table`; `sandbox::seed` builds the first ones.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::text;
use super::governance::Standing;
use super::governance::tally;
use super::kind::Kind;
use super::operation::Ask;
use super::problem::Problem;

/// Most work packages that a graph shows; the newest win, so that a busy release stays readable.
const PACKAGES_MAX: usize = 50;

/// The graph as of its last build.
pub(super) fn show(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let release = ask.var("release");
    books.get(Kind::Release, release)?;
    books.get(Kind::EvidenceGraph, release)
}

/// Builds the graph again.
pub(super) fn refresh(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let release = ask.var("release");
    let built = build(books, release)?;
    let revision = show(books, ask)?.get("revision").and_then(Value::as_u64).unwrap_or(0);
    let members = ["nodes", "edges", "gaps", "summary"];
    let mut changes: Vec<(&str, Value)> =
        members.into_iter().map(|name| (name, built.get(name).cloned().unwrap_or_default())).collect();
    changes.push(("revision", Value::from(revision.saturating_add(1))));
    changes.push(("builtAt", books.stamp()));
    books.update(Kind::EvidenceGraph, release, changes)
}

/// The graph of a release from its records as they are now.
pub(super) fn build(books: &Books<'_>, release: &str) -> Result<Value, Problem> {
    let standing = Standing::of(books, release)?;
    let mut drawing = Drawing { tenant: books.tenant(), nodes: Vec::new(), edges: Vec::new() };
    let certification = text(&standing.certification, "id").to_owned();
    drawing.node("release", release, release, None);
    drawing.node("certification", &certification, &certification, standing.certification.get("status"));
    drawing.edge(release, &certification, "is_certified_by");
    draw_controls(&mut drawing, books, &standing, &certification)?;
    draw_blockers(&mut drawing, books, &standing)?;
    draw_packages(&mut drawing, books, release)?;
    let gaps: Vec<Value> = standing
        .gaps()
        .iter()
        .map(|gap| json!({"control": gap.get("control"), "evidence": gap.get("evidence"), "kind": gap.get("kind")}))
        .collect();
    let summary = tally(&drawing.nodes, "kind");
    Ok(json!({
        "id": release,
        "tenant": books.tenant(),
        "release": release,
        "certification": certification,
        "revision": 1,
        "nodes": drawing.nodes,
        "edges": drawing.edges,
        "gaps": gaps,
        "summary": summary,
    }))
}

struct Drawing<'a> {
    tenant: &'a str,
    nodes: Vec<Value>,
    edges: Vec<Value>,
}

impl Drawing<'_> {
    fn node(&mut self, kind: &str, id: &str, title: &str, status: Option<&Value>) {
        self.nodes.push(json!({"id": id, "tenant": self.tenant, "kind": kind, "title": title, "status": status}));
    }

    fn edge(&mut self, from: &str, to: &str, relation: &str) {
        self.edges.push(json!({"from": from, "to": to, "relation": relation}));
    }
}

fn draw_controls(
    drawing: &mut Drawing<'_>,
    books: &Books<'_>,
    standing: &Standing,
    certification: &str,
) -> Result<(), Problem> {
    for result in standing.controls() {
        let id = text(result, "control");
        let control = books.get(Kind::Control, id)?;
        drawing.node("control", id, text(&control, "title"), result.get("result"));
        drawing.edge(certification, id, "requires");
    }
    for evidence in &standing.evidence {
        let id = text(evidence, "id");
        drawing.node("evidence", id, text(evidence, "title"), evidence.get("status"));
        drawing.edge(id, text(evidence, "control"), "supports");
    }
    Ok(())
}

fn draw_blockers(drawing: &mut Drawing<'_>, books: &Books<'_>, standing: &Standing) -> Result<(), Problem> {
    let mut found = BTreeSet::new();
    for blocker in &standing.blockers {
        let id = text(blocker, "id");
        drawing.node("blocker", id, text(blocker, "title"), blocker.get("status"));
        drawing.edge(id, text(blocker, "control"), "blocks");
        let finding = text(blocker, "finding");
        if finding.is_empty() {
            continue;
        }
        if found.insert(finding) {
            let record = books.get(Kind::Finding, finding)?;
            drawing.node("provider_finding", finding, text(&record, "title"), record.get("status"));
        }
        drawing.edge(finding, id, "causes");
    }
    Ok(())
}

fn draw_packages(drawing: &mut Drawing<'_>, books: &Books<'_>, release: &str) -> Result<(), Problem> {
    let packages = books.all(Kind::WorkPackage, |package| text(package, "release") == release)?;
    for package in packages.iter().rev().take(PACKAGES_MAX) {
        let id = text(package, "id");
        drawing.node("work_package", id, text(package, "title"), package.get("status"));
        for blocker in package.get("blockers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            drawing.edge(id, blocker, "remediates");
        }
    }
    Ok(())
}
