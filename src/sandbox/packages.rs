//! Remediation work packages: one parent story and its child tasks.
//!
//! Promises: a package is created whole or not at all, and only for a certification, evidence and
//! blockers that exist and belong to the release; whoever leaves the age of the evidence to LoopIQ
//! gets no package on a stale graph. Never changes the certification itself. Listed in
//! `sandbox::table`.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::hours;
use super::books::put;
use super::books::text;
use super::governance::Standing;
use super::kind::Kind;
use super::operation::Ask;
use super::problem::Problem;
use super::schema::body::LAST_REFRESH;
use super::work::Item;
use super::work::add;
use super::work::check_owner;

/// Creates a package with its story and tasks.
pub(super) fn create(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let release = ask.var("release");
    let standing = Standing::of(books, release)?;
    check(books, ask, &standing)?;
    let as_of = as_of(books, ask)?;
    let owner = ask.text("owner").unwrap_or_default();
    let story = ask.body.get("parentStory").unwrap_or(&Value::Null);
    let parent = add(
        books,
        &Item {
            title: text(story, "title"),
            kind: "story",
            parent: None,
            owner: Some(owner),
            release: Some(release),
            description: story.get("description").and_then(Value::as_str),
        },
    )?;
    let mut children = Vec::new();
    for task in tasks(ask) {
        let child = add(
            books,
            &Item {
                title: text(task, "title"),
                kind: "task",
                parent: Some(text(&parent, "id")),
                owner: Some(task.get("owner").and_then(Value::as_str).unwrap_or(owner)),
                release: Some(release),
                description: task.get("description").and_then(Value::as_str),
            },
        )?;
        children.push(child);
    }
    let ids: Vec<&str> = children.iter().map(|child| text(child, "id")).collect();
    let package = json!({
        "title": ask.text("title"),
        "owner": owner,
        "status": "open",
        "release": release,
        "certification": ask.text("certification"),
        "evidence": ask.body.get("evidence"),
        "blockers": ask.body.get("blockers"),
        "evidenceAsOf": as_of,
        "createdBy": books.user(),
        "parent": parent.get("id"),
        "children": ids,
    });
    let package = books.create(Kind::WorkPackage, package)?;
    Ok(whole(package, parent, children))
}

/// Shows a package with its story and tasks.
pub(super) fn show(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let package = books.get(Kind::WorkPackage, ask.var("workPackage"))?;
    let parent = books.get(Kind::WorkItem, text(&package, "parent"))?;
    let ids = package.get("children").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let children = ids.map(|id| books.get(Kind::WorkItem, id)).collect::<Result<_, _>>()?;
    Ok(whole(package, parent, children))
}

fn whole(mut package: Value, parent: Value, children: Vec<Value>) -> Value {
    let id = Value::from(text(&package, "id"));
    put(&mut package, "workPackage", id);
    put(&mut package, "parent", parent);
    put(&mut package, "children", Value::from(children));
    package
}

fn tasks(ask: &Ask) -> impl Iterator<Item = &Value> {
    ask.body.get("tasks").and_then(Value::as_array).into_iter().flatten()
}

/// Everything the package names exists and belongs to the release.
fn check(books: &Books<'_>, ask: &Ask, standing: &Standing) -> Result<(), Problem> {
    let certification = ask.text("certification").unwrap_or_default();
    if certification != text(&standing.certification, "id") {
        let words = format!(
            "`certification` names `{certification}`, which is not the certification of `{}`",
            standing.release
        );
        return Err(Problem::invalid("certification_mismatch", words));
    }
    check_owner(books, ask.text("owner").unwrap_or_default())?;
    let listed = |name: &'static str| ask.body.get(name).and_then(Value::as_array).into_iter().flatten();
    let named = |member: &'static str, from: &'static str| {
        listed(from).filter_map(Value::as_str).chain(tasks(ask).filter_map(move |task| task.get(member)?.as_str()))
    };
    for id in named("evidence", "evidence") {
        belongs("evidence", id, &standing.evidence, &standing.release)?;
    }
    for id in named("blocker", "blockers") {
        let blocker = belongs("blockers", id, &standing.blockers, &standing.release)?;
        if text(blocker, "status") != "open" {
            let words = format!("blocker `{id}` is already resolved; leave it out");
            return Err(Problem::new(409, "blocker_resolved", words));
        }
    }
    for owner in tasks(ask).filter_map(|task| task.get("owner")?.as_str()) {
        check_owner(books, owner)?;
    }
    Ok(())
}

fn belongs<'a>(what: &str, id: &str, known: &'a [Value], release: &str) -> Result<&'a Value, Problem> {
    known.iter().find(|record| text(record, "id") == id).ok_or_else(|| {
        let code = if what == "evidence" { "evidence_mismatch" } else { "blocker_mismatch" };
        Problem::invalid(code, format!("`{what}` names `{id}`, which does not belong to release `{release}`"))
    })
}

/// The time of the evidence: the caller's, or that of the graph's last refresh.
fn as_of(books: &Books<'_>, ask: &Ask) -> Result<String, Problem> {
    let written = ask.text("evidenceAsOf").unwrap_or_default();
    if written == LAST_REFRESH {
        return last_refresh(books, ask.var("release"));
    }
    // Nobody has read evidence in the future; an hour is allowed for clocks that differ.
    let latest = books.now().checked_add(hours(1)).unwrap_or(Timestamp::MAX);
    match written.parse::<Timestamp>() {
        Ok(at) if at <= latest => Ok(written.to_owned()),
        Ok(_) => Err(Problem::invalid("evidence_as_of_future", "`evidenceAsOf` lies in the future")),
        Err(_) => Err(Problem::invalid("invalid_body", "`/evidenceAsOf` is not an RFC 3339 timestamp")),
    }
}

/// When the graph of the release was refreshed, if that is recent enough to rest on.
fn last_refresh(books: &Books<'_>, release: &str) -> Result<String, Problem> {
    let graph = books.get(Kind::EvidenceGraph, release)?;
    let built = text(&graph, "builtAt");
    if graph.get("stale").and_then(Value::as_bool).unwrap_or(true) {
        let words =
            format!("the evidence graph of `{release}` is stale: it was last refreshed at {built}; refresh it first");
        return Err(Problem::new(409, "evidence_stale", words));
    }
    Ok(built.to_owned())
}
