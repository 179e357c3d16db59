//! JSON Schemas (2020-12) of every record and body.
//!
//! Promises: a body schema is what `sandbox::door` validates with and what the OpenAPI document
//! shows, so the two cannot differ; a record schema is what the tests hold every answer against.
//! Never refers to anything outside this document.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Longest id, key or name that a caller may send.
const NAME_CHARS_MAX: usize = 128;
/// Longest title.
const TITLE_CHARS_MAX: usize = 200;
/// Longest free text.
const PROSE_CHARS_MAX: usize = 4000;

/// Kinds of work items.
pub(super) const WORK_ITEM_TYPES: &[&str] = &["story", "task", "bug"];
/// States of work items.
pub(super) const WORK_ITEM_STATES: &[&str] = &["open", "in_progress", "blocked", "done", "cancelled"];
/// States of releases.
pub(super) const RELEASE_STATES: &[&str] =
    &["planned", "development", "certification", "certified", "rejected", "released"];
/// States of certifications.
pub(super) const CERTIFICATION_STATES: &[&str] = &["not_started", "in_review", "certified", "rejected"];
/// States of evidence.
pub(super) const EVIDENCE_STATES: &[&str] = &["fresh", "stale", "missing"];
/// Severities of findings and blockers.
pub(super) const SEVERITIES: &[&str] = &["critical", "high", "medium", "low"];
/// Scanners whose findings are collected.
pub(super) const PROVIDERS: &[&str] = &["snyk", "sonarqube", "github"];
/// Results of a control within a certification.
const RESULTS: &[&str] = &["passed", "failed", "pending", "not_applicable"];

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

fn maybe_text(about: &str) -> Value {
    json!({"type": ["string", "null"], "description": about})
}

fn of(about: &str, values: &[&str]) -> Value {
    json!({"type": "string", "description": about, "enum": values})
}

fn when(about: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": about})
}

fn maybe_when(about: &str) -> Value {
    json!({"type": ["string", "null"], "format": "date-time", "description": about})
}

fn count(about: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": about})
}

fn number(about: &str) -> Value {
    json!({"type": ["number", "null"], "description": about})
}

fn flag(about: &str) -> Value {
    json!({"type": "boolean", "description": about})
}

fn many(about: &str, items: &Value) -> Value {
    json!({"type": "array", "description": about, "items": items})
}

fn ids(about: &str) -> Value {
    many(about, &json!({"type": "string"}))
}

fn counts(about: &str) -> Value {
    json!({"type": "object", "description": about, "additionalProperties": {"type": "integer", "minimum": 0}})
}

/// An object of which every listed member is present.
fn whole<const N: usize>(about: &str, members: [(&str, Value); N]) -> Value {
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        members.iter().map(|(name, shape)| ((*name).to_owned(), shape.clone())).collect();
    json!({"type": "object", "description": about, "properties": properties, "required": required})
}

/// A record: an object with `id` and `tenant`.
fn record<const N: usize>(about: &str, members: [(&str, Value); N]) -> Value {
    let mut shape = whole(about, members);
    let own = [("id", text("Id, unique in the organisation.")), ("tenant", text("Organisation it belongs to."))];
    for (name, member) in own {
        if let Some(properties) = shape.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(name.to_owned(), member);
        }
        if let Some(required) = shape.get_mut("required").and_then(Value::as_array_mut) {
            required.push(Value::from(name));
        }
    }
    shape
}

/// A request body that takes only what it names.
fn body<const N: usize>(required: &[&str], members: [(&str, Value); N]) -> Value {
    let properties: Map<String, Value> = members.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

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
pub(super) fn new_work_item() -> Value {
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
pub(super) fn work_item_change() -> Value {
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
pub(super) fn refresh() -> Value {
    body(&[], [])
}

/// Body of a certification decision.
pub(super) fn decision() -> Value {
    let reason = json!({"type": "string", "minLength": 1, "maxLength": PROSE_CHARS_MAX, "pattern": "\\S",
        "description": "Why, in words that an auditor will read."});
    body(&["decision", "reason"], [("decision", of("What is decided.", &["certify", "reject"])), ("reason", reason)])
}

/// Body of a remediation work package.
pub(super) fn new_work_package() -> Value {
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
            ("evidenceAsOf", when("When the caller read the evidence.")),
        ],
    )
}

/// Body of an agent run.
pub(super) fn new_run() -> Value {
    let inputs = json!({"type": "object", "description": "Further inputs, kept with the run.", "maxProperties": 32});
    body(&["release"], [("release", named("Id of the release to run on.")), ("inputs", inputs)])
}

/// Body of a change to the tenant settings.
pub(super) fn settings() -> Value {
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

/// Every named schema, for `#/components/schemas`.
pub(super) fn components() -> Map<String, Value> {
    let mut all = Map::new();
    for family in [estate(), certification(), evidence(), work(), insight()] {
        all.extend(family.into_iter().map(|(name, shape)| (name.to_owned(), shape)));
    }
    all
}

fn estate() -> Vec<(&'static str, Value)> {
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

fn certification() -> Vec<(&'static str, Value)> {
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
    vec![
        ("Certification", record("A certification of a release.", common())),
        ("ReleaseCertification", view),
        ("Blocker", blocker),
        ("Gap", gap),
        ("Readiness", readiness),
    ]
}

fn evidence() -> Vec<(&'static str, Value)> {
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

fn work() -> Vec<(&'static str, Value)> {
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

fn insight() -> Vec<(&'static str, Value)> {
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
    vec![
        ("ReleaseAnalytics", releases),
        ("CertificationAnalytics", certifications),
        ("Diagnostics", diagnostics),
        ("TenantSettings", settings),
        ("Execution", execution),
        ("Preview", preview),
        ("Error", error),
    ]
}
