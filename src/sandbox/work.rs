//! Work items: created and changed.
//!
//! Promises: parent, release and owner exist in the organisation before a work item names them.
//! Never asks for a parent or an owner: whether they are needed is the gateway's policy. Listed
//! in `sandbox::table`.

use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::text;
use super::kind::Kind;
use super::operation::Ask;
use super::problem::Problem;

/// Creates a work item.
pub(super) fn create(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let parent = ask.text("parent").map(|id| parent_of(books, id)).transpose()?;
    if let Some(owner) = ask.text("owner") {
        check_owner(books, owner)?;
    }
    if let Some(release) = ask.text("release")
        && books.find(Kind::Release, release)?.is_none()
    {
        let words = format!("`release` names `{release}`, which is no release of this organisation");
        return Err(Problem::invalid("unknown_release", words));
    }
    let inherited = parent.as_ref().map(|parent| text(parent, "release")).filter(|id| !id.is_empty());
    let members = Item {
        title: ask.text("title").unwrap_or_default(),
        kind: ask.text("type").unwrap_or_default(),
        parent: ask.text("parent"),
        owner: ask.text("owner"),
        release: ask.text("release").or(inherited),
        description: ask.text("description"),
    };
    add(books, &members)
}

/// Changes a work item.
pub(super) fn update(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let id = ask.var("workItem");
    books.get(Kind::WorkItem, id)?;
    if let Some(owner) = ask.text("owner") {
        check_owner(books, owner)?;
    }
    let members = ["title", "status", "owner", "description"];
    let changes = members.into_iter().filter_map(|name| Some((name, Value::from(ask.text(name)?)))).collect();
    books.update(Kind::WorkItem, id, changes)
}

/// What a new work item says.
pub(super) struct Item<'a> {
    /// Title.
    pub(super) title: &'a str,
    /// Type.
    pub(super) kind: &'a str,
    /// Parent.
    pub(super) parent: Option<&'a str>,
    /// Owner.
    pub(super) owner: Option<&'a str>,
    /// Release.
    pub(super) release: Option<&'a str>,
    /// Details.
    pub(super) description: Option<&'a str>,
}

/// Stores a new work item; what it names has been checked.
pub(super) fn add(books: &mut Books<'_>, item: &Item<'_>) -> Result<Value, Problem> {
    let record = json!({
        "title": item.title,
        "type": item.kind,
        "status": "open",
        "parent": item.parent,
        "owner": item.owner,
        "release": item.release,
        "description": item.description,
        "createdBy": books.user(),
        "updatedAt": books.stamp(),
    });
    books.create(Kind::WorkItem, record)
}

/// Refuses an owner who is neither a member nor a team.
pub(super) fn check_owner(books: &Books<'_>, owner: &str) -> Result<(), Problem> {
    if books.owns(owner)? {
        return Ok(());
    }
    let words = format!("`owner` names `{owner}`, which is neither a member nor a team of this organisation");
    Err(Problem::invalid("unknown_owner", words))
}

fn parent_of(books: &Books<'_>, id: &str) -> Result<Value, Problem> {
    let parent = books.find(Kind::WorkItem, id)?.ok_or_else(|| {
        let words = format!("`parent` names `{id}`, which is no work item of this organisation");
        Problem::invalid("unknown_parent", words)
    })?;
    if matches!(text(&parent, "status"), "done" | "cancelled") {
        let words =
            format!("`parent` names `{id}`, which is `{}`; choose one that is still open", text(&parent, "status"));
        return Err(Problem::new(409, "parent_closed", words));
    }
    Ok(parent)
}
