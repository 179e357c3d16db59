//! What callers send.
//!
//! Promises: a body takes only what it names, in bounds. Read by `sandbox::table`.

use serde_json::Value;
use serde_json::json;

use super::NAME_CHARS_MAX;
use super::PROSE_CHARS_MAX;
use super::TITLE_CHARS_MAX;
use super::WORK_ITEM_STATES;
use super::WORK_ITEM_TYPES;
use super::body;
use super::flag;
use super::of;

/// What stands in the place of a time when LoopIQ itself is to say how old the evidence is.
pub(in crate::sandbox) const LAST_REFRESH: &str = "last_refresh";

fn named(about: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX, "description": about})
}

fn title(about: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": TITLE_CHARS_MAX, "pattern": "\\S", "description": about})
}

fn prose(about: &str) -> Value {
    json!({"type": "string", "maxLength": PROSE_CHARS_MAX, "description": about})
}

/// Body of a new work item.
pub(in crate::sandbox) fn new_work_item() -> Value {
    body(
        &["title", "type"],
        [
            ("title", title("What is to be done.")),
            ("type", of("Kind of work item.", WORK_ITEM_TYPES)),
            ("parent", named("Id of the work item it belongs to.")),
            ("owner", named("Member or team that owns it.")),
            ("release", named("Id of the release it is for.")),
            ("description", prose("Details.")),
        ],
    )
}

/// Body of a change to a work item.
pub(in crate::sandbox) fn work_item_change() -> Value {
    let mut shape = body(
        &[],
        [
            ("title", title("New title.")),
            ("status", of("New state.", WORK_ITEM_STATES)),
            ("owner", named("New owner: a member or a team.")),
            ("description", prose("New details.")),
        ],
    );
    if let Some(members) = shape.as_object_mut() {
        members.insert("minProperties".to_owned(), Value::from(1));
    }
    shape
}

/// Body of an evidence graph refresh: nothing.
pub(in crate::sandbox) fn refresh() -> Value {
    body(&[], [])
}

/// Body of a certification decision.
pub(in crate::sandbox) fn decision() -> Value {
    let reason = json!({"type": "string", "minLength": 1, "maxLength": PROSE_CHARS_MAX, "pattern": "\\S",
        "description": "Why, in words that an auditor will read."});
    body(&["decision", "reason"], [("decision", of("What is decided.", &["certify", "reject"])), ("reason", reason)])
}

/// Body of a remediation work package.
pub(in crate::sandbox) fn new_work_package() -> Value {
    let story = body(&["title"], [("title", title("Title of the story.")), ("description", prose("Details."))]);
    let task = body(
        &["title"],
        [
            ("title", title("Title of the task.")),
            ("description", prose("Details.")),
            ("owner", named("Member or team; the package's owner when absent.")),
            ("evidence", named("Id of the evidence it renews.")),
            ("blocker", named("Id of the blocker it clears.")),
        ],
    );
    let some = |about: &str| json!({"type": "array", "description": about, "items": named("Id."), "maxItems": 100, "uniqueItems": true});
    body(
        &["certification", "title", "owner", "parentStory", "tasks", "evidence", "blockers", "evidenceAsOf"],
        [
            ("certification", named("Id of the release's certification.")),
            ("title", title("Title of the package.")),
            ("owner", named("Member or team that owns the package.")),
            ("parentStory", story),
            (
                "tasks",
                json!({"type": "array", "description": "Child tasks.", "items": task, "minItems": 1, "maxItems": 20}),
            ),
            ("evidence", some("Ids of the evidence that the package rests on.")),
            ("blockers", some("Ids of the blockers that the package clears.")),
            ("evidenceAsOf", as_of()),
        ],
    )
}

fn as_of() -> Value {
    json!({
        "type": "string",
        "maxLength": 64,
        "anyOf": [{"format": "date-time"}, {"enum": [LAST_REFRESH]}],
        "description": format!("When the caller read the evidence; or `{LAST_REFRESH}`: LoopIQ takes the time of the \
            evidence graph's last refresh, and refuses when that is stale."),
    })
}

/// Body of an agent run.
pub(in crate::sandbox) fn new_run() -> Value {
    let inputs = json!({"type": "object", "description": "Further inputs, kept with the run.", "maxProperties": 32});
    body(&["release"], [("release", named("Id of the release to run on.")), ("inputs", inputs)])
}

/// Body of a change to the tenant settings.
pub(in crate::sandbox) fn settings() -> Value {
    let email = json!({"type": "string", "format": "email", "maxLength": TITLE_CHARS_MAX,
        "description": "Where notices about certifications go."});
    let hours = json!({"type": "integer", "minimum": 1, "maximum": 8760,
        "description": "Hours that evidence stays fresh when its source says nothing."});
    body(
        &["displayName", "blockersMustBeClosed", "evidenceFreshHours", "notificationEmail"],
        [
            ("displayName", title("Name of the organisation.")),
            ("blockersMustBeClosed", flag("Whether an open blocker keeps a release from being certified.")),
            ("evidenceFreshHours", hours),
            ("notificationEmail", email),
        ],
    )
}
