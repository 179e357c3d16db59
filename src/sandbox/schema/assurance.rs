//! Certifications, evidence and all that stands between a release and its certificate.
//!
//! Promises: one schema per kind of record, as it is answered. Part of `sandbox::schema`.

use serde_json::Value;
use serde_json::json;

use super::CERTIFICATION_STATES;
use super::EVIDENCE_STATES;
use super::PROVIDERS;
use super::RESULTS;
use super::SEVERITIES;
use super::count;
use super::counts;
use super::flag;
use super::ids;
use super::many;
use super::maybe_text;
use super::maybe_when;
use super::of;
use super::record;
use super::text;
use super::when;
use super::whole;

/// Certifications, alone and as a release sees them.
pub(super) fn certification() -> Vec<(&'static str, Value)> {
    let result = whole(
        "Result of one control.",
        [
            ("control", text("Id of the control.")),
            ("result", of("Result.", RESULTS)),
            ("evidence", ids("Ids of the evidence behind it.")),
            ("note", maybe_text("Remark of the assessor.")),
        ],
    );
    let common = || {
        [
            ("release", text("Id of the release.")),
            ("status", of("State.", CERTIFICATION_STATES)),
            ("frameworks", ids("Frameworks it is held against.")),
            ("controls", many("Results by control.", &result)),
            ("owner", text("Member who leads it.")),
            ("decision", json!({"type": ["object", "null"], "description": "The decision, once made."})),
            ("openedAt", when("When the review began.")),
            ("updatedAt", when("Last change.")),
        ]
    };
    let mut view = record("A release's certification with what stands in its way.", common());
    if let Some(properties) = view.get_mut("properties").and_then(Value::as_object_mut) {
        let summary = whole(
            "Counts over controls, evidence and blockers.",
            [
                ("controls", counts("Controls by result.")),
                ("evidence", counts("Evidence by state.")),
                ("blockers", counts("Blockers by state.")),
            ],
        );
        properties.insert("summary".to_owned(), summary);
        properties.insert("certification".to_owned(), text("Id of the certification."));
    }
    vec![("Certification", record("A certification of a release.", common())), ("ReleaseCertification", view)]
}

/// Blockers, gaps and readiness.
pub(super) fn obstacles() -> Vec<(&'static str, Value)> {
    let blocker = record(
        "What keeps a release from being certified.",
        [
            ("release", text("Id of the release.")),
            ("certification", text("Id of the certification.")),
            ("control", text("Id of the control.")),
            ("title", text("Title.")),
            ("severity", of("Severity.", SEVERITIES)),
            ("status", of("State.", &["open", "resolved"])),
            ("evidence", ids("Ids of the evidence concerned.")),
            ("finding", maybe_text("Id of the provider finding behind it.")),
            ("openedAt", when("When it was found.")),
        ],
    );
    let gap = record(
        "A control without usable evidence.",
        [
            ("release", text("Id of the release.")),
            ("control", text("Id of the control.")),
            ("kind", of("Why.", &["missing", "stale"])),
            ("evidence", text("Id of the evidence.")),
            ("since", maybe_when("Since when it is stale.")),
        ],
    );
    let check =
        whole("One check.", [("name", text("Name.")), ("passed", flag("Whether it holds.")), ("detail", text("Why."))]);
    let readiness = record(
        "Whether a release could be certified now.",
        [
            ("release", text("Id of the release.")),
            ("certification", text("Id of the certification.")),
            ("ready", flag("Whether every check holds.")),
            ("score", count("0 to 100.")),
            ("checks", many("What was checked.", &check)),
        ],
    );
    vec![("Blocker", blocker), ("Gap", gap), ("Readiness", readiness)]
}

/// Evidence, findings and the graph.
pub(super) fn evidence() -> Vec<(&'static str, Value)> {
    let collector = whole("Who collected it.", [("user", text("Member.")), ("email", text("Mail address."))]);
    let evidence = record(
        "A piece of evidence.",
        [
            ("title", text("Title.")),
            ("release", text("Id of the release.")),
            ("control", text("Id of the control it supports.")),
            ("kind", text("Kind, such as scan or approval.")),
            ("source", text("System it came from.")),
            ("status", of("Computed from its age.", EVIDENCE_STATES)),
            ("collectedAt", maybe_when("When it was collected.")),
            ("freshForHours", count("How long it stays fresh.")),
            ("staleAfter", maybe_when("When it turns stale.")),
            ("collectedBy", collector),
        ],
    );
    let finding = record(
        "A finding of a scanner.",
        [
            ("provider", of("Scanner.", PROVIDERS)),
            ("severity", of("Severity.", SEVERITIES)),
            ("title", text("Title.")),
            ("reference", text("CVE, CWE or rule.")),
            ("release", text("Id of the release.")),
            ("module", text("Id of the module.")),
            ("status", of("State.", &["open", "fixed", "accepted"])),
            ("foundAt", when("When it was found.")),
        ],
    );
    let node = record(
        "A node of the graph.",
        [
            ("kind", text("Kind of record it stands for.")),
            ("title", text("Title.")),
            ("status", maybe_text("State when the graph was built.")),
        ],
    );
    let edge = whole(
        "An edge of the graph.",
        [("from", text("Node id.")), ("to", text("Node id.")), ("relation", text("What it says."))],
    );
    let gap = whole("A gap.", [("control", text("Control.")), ("evidence", text("Evidence.")), ("kind", text("Why."))]);
    let graph = record(
        "How a release's certification hangs together, as of `builtAt`.",
        [
            ("release", text("Id of the release.")),
            ("certification", text("Id of the certification.")),
            ("revision", count("Counts the refreshes.")),
            ("builtAt", when("When it was built.")),
            ("stale", flag("Whether it is older than a day.")),
            ("nodes", many("Nodes.", &node)),
            ("edges", many("Edges.", &edge)),
            ("gaps", many("Controls without usable evidence.", &gap)),
            ("summary", counts("Nodes by kind.")),
        ],
    );
    vec![("Evidence", evidence), ("ProviderFinding", finding), ("EvidenceGraph", graph)]
}
