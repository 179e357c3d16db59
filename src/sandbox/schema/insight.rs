//! Analytics, diagnostics, settings, executions, previews and refusals.
//!
//! Promises: one schema per kind of answer. Part of `sandbox::schema`.

use serde_json::Value;
use serde_json::json;

use super::count;
use super::counts;
use super::flag;
use super::ids;
use super::many;
use super::number;
use super::of;
use super::record;
use super::text;
use super::when;
use super::whole;

/// Numbers.
pub(super) fn analytics() -> Vec<(&'static str, Value)> {
    let releases = record(
        "Numbers over releases.",
        [
            ("total", count("Releases counted.")),
            ("byStatus", counts("Releases by state.")),
            ("openBlockers", count("Open blockers of these releases.")),
            ("openFindings", counts("Open findings by severity.")),
            ("leadTimeHoursAverage", number("Hours from planning to release, over those released.")),
        ],
    );
    let certifications = record(
        "Numbers over certifications.",
        [
            ("total", count("Certifications counted.")),
            ("byStatus", counts("Certifications by state.")),
            ("controls", counts("Control results.")),
            ("evidence", counts("Evidence by state.")),
            ("passRate", number("Passed share of assessed controls.")),
            ("decisionHoursAverage", number("Hours from opening to decision, over those decided.")),
        ],
    );
    vec![("ReleaseAnalytics", releases), ("CertificationAnalytics", certifications)]
}

/// Diagnostics and settings.
pub(super) fn administration() -> Vec<(&'static str, Value)> {
    let diagnostics = record(
        "How this LoopIQ does.",
        [
            ("status", of("State.", &["ok"])),
            ("version", text("Version of the backend.")),
            ("records", counts("Records of the organisation by kind.")),
            ("executions", count("Executions remembered by idempotency key.")),
        ],
    );
    let member = record(
        "A member of the organisation.",
        [
            ("name", text("Name.")),
            ("email", text("Mail address.")),
            ("roles", ids("Roles in the organisation.")),
            (
                "teams",
                json!({"type": "object", "description": "Roles by team.", "additionalProperties": ids("Roles.")}),
            ),
            ("method", text("How it signs in.")),
        ],
    );
    let settings = record(
        "Settings of the organisation, and its members.",
        [
            ("displayName", text("Name.")),
            ("blockersMustBeClosed", flag("Whether an open blocker keeps a release from being certified.")),
            ("evidenceFreshHours", count("Hours that evidence stays fresh by default.")),
            ("notificationEmail", text("Where notices go.")),
            ("members", many("Who belongs to it.", &member)),
            ("updatedAt", when("Last change.")),
        ],
    );
    vec![("Diagnostics", diagnostics), ("TenantSettings", settings)]
}

/// What every write and every refusal answers.
pub(super) fn protocol() -> Vec<(&'static str, Value)> {
    let execution = whole(
        "What became of an idempotency key.",
        [
            ("key", text("The key.")),
            ("tenant", text("Organisation it was used in.")),
            ("state", of("A key without effect is not found.", &["executed"])),
            ("operation", text("What was executed.")),
            ("status", count("HTTP status of the first answer.")),
            ("recordIds", ids("Records created or updated.")),
            ("at", when("When it was executed.")),
            ("body", json!({"type": "object", "description": "The first answer."})),
        ],
    );
    let change = whole("A change.", [("field", text("Member.")), ("from", json!({})), ("to", json!({}))]);
    let created = whole(
        "A record that would be created; it has no id yet.",
        [
            ("kind", text("Kind of record.")),
            ("ref", text("How other previewed records refer to it.")),
            ("record", json!({"type": "object"})),
        ],
    );
    let updated = whole(
        "A record that would be changed.",
        [("kind", text("Kind of record.")), ("id", text("Its id.")), ("changes", many("What changes.", &change))],
    );
    let preview = whole(
        "Answer to `dryRun=true`: nothing was stored.",
        [
            ("dryRun", json!({"const": true})),
            ("tenant", text("Organisation.")),
            ("operation", text("What would be executed.")),
            (
                "preview",
                whole(
                    "The effect.",
                    [("creates", many("Creates.", &created)), ("updates", many("Updates.", &updated))],
                ),
            ),
        ],
    );
    let error = whole(
        "Why not.",
        [("error", whole("The error.", [("code", text("Stable code.")), ("message", text("Words."))]))],
    );
    vec![("Execution", execution), ("Preview", preview), ("Error", error)]
}
