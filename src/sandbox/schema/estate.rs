//! Releases, applications, modules, controls, work items, packages, agents.
//!
//! Promises: one schema per kind of record, as it is answered. Part of `sandbox::schema`.

use serde_json::Value;
use serde_json::json;

use super::RELEASE_STATES;
use super::SEVERITIES;
use super::WORK_ITEM_STATES;
use super::WORK_ITEM_TYPES;
use super::ids;
use super::many;
use super::maybe_text;
use super::maybe_when;
use super::of;
use super::record;
use super::text;
use super::when;

/// Releases, applications, modules, controls.
pub(super) fn estate() -> Vec<(&'static str, Value)> {
    let release = record(
        "A release of an application.",
        [
            ("title", text("Title.")),
            ("application", text("Id of its application.")),
            ("version", text("Version.")),
            ("status", of("State.", RELEASE_STATES)),
            ("owner", text("Member who owns it.")),
            ("team", text("Team that builds it.")),
            ("certification", maybe_text("Id of its certification, if it has one.")),
            ("targetAt", when("When it should go out.")),
            ("releasedAt", maybe_when("When it went out.")),
            ("createdAt", when("When it was planned.")),
            ("updatedAt", when("Last change.")),
        ],
    );
    let application = record(
        "An application.",
        [
            ("name", text("Name.")),
            ("owner", text("Member who owns it.")),
            ("team", text("Team that builds it.")),
            ("criticality", of("How much hangs on it.", SEVERITIES)),
        ],
    );
    let module = record(
        "A module of an application.",
        [
            ("name", text("Name.")),
            ("application", text("Id of its application.")),
            ("language", text("Programming language.")),
            ("repository", text("Where its source lives.")),
            ("owner", text("Member who owns it.")),
        ],
    );
    let control = record(
        "A control of a compliance framework.",
        [
            ("title", text("Title.")),
            ("framework", text("Framework, such as SOC2.")),
            ("description", text("What it asks.")),
        ],
    );
    vec![("Release", release), ("Application", application), ("Module", module), ("Control", control)]
}

/// Work items, packages, agents and runs.
pub(super) fn work() -> Vec<(&'static str, Value)> {
    let item = || {
        record(
            "A work item.",
            [
                ("title", text("Title.")),
                ("type", of("Kind.", WORK_ITEM_TYPES)),
                ("status", of("State.", WORK_ITEM_STATES)),
                ("parent", maybe_text("Id of its parent.")),
                ("owner", maybe_text("Member or team that owns it.")),
                ("release", maybe_text("Id of its release.")),
                ("description", maybe_text("Details.")),
                ("createdBy", text("Member who created it.")),
                ("createdAt", when("When it was created.")),
                ("updatedAt", when("Last change.")),
            ],
        )
    };
    let package = record(
        "A remediation work package: one story and its tasks.",
        [
            ("workPackage", text("Id of the package.")),
            ("title", text("Title.")),
            ("owner", text("Member or team that owns it.")),
            ("status", of("State.", &["open", "done"])),
            ("release", text("Id of the release.")),
            ("certification", text("Id of the certification.")),
            ("parent", item()),
            ("children", many("Child tasks.", &item())),
            ("evidence", ids("Ids of the evidence it rests on.")),
            ("blockers", ids("Ids of the blockers it clears.")),
            ("evidenceAsOf", when("When the evidence was read.")),
            ("createdBy", text("Member who created it.")),
            ("createdAt", when("When it was created.")),
        ],
    );
    let agent = record(
        "An AI/ML agent of LoopIQ.",
        [
            ("name", text("Name.")),
            ("description", text("What it does.")),
            ("task", of("What a run computes.", &["evidence_gaps", "release_risk", "control_mapping"])),
            ("status", of("Whether it may run.", &["enabled", "disabled"])),
            ("version", text("Version.")),
            ("owner", text("Member who owns it.")),
        ],
    );
    let run = record(
        "A run of an agent.",
        [
            ("agent", text("Id of the agent.")),
            ("release", text("Id of the release.")),
            ("status", of("State.", &["succeeded", "failed"])),
            ("inputs", json!({"type": "object", "description": "Further inputs."})),
            ("output", json!({"type": "object", "description": "What the run computed."})),
            ("requestedBy", text("Member who asked for it.")),
            ("startedAt", when("When it started.")),
            ("finishedAt", when("When it ended.")),
        ],
    );
    vec![("WorkItem", item()), ("WorkPackage", package), ("Agent", agent), ("AgentRun", run)]
}
