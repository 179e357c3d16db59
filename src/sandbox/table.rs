//! Every operation of the LoopIQ route API, one entry each.
//!
//! Promises: what stands here is what is served and what is documented. Never holds behaviour;
//! an entry names the function that does. Read by `sandbox::door` and `sandbox::openapi`.

use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;

use super::admin;
use super::agents;
use super::analytics;
use super::books::Kind;
use super::governance;
use super::graph;
use super::ledger;
use super::operation::Act;
use super::operation::Method;
use super::operation::Operation;
use super::operation::Param;
use super::operation::Shape;
use super::operation::Values;
use super::packages;
use super::schema;
use super::work;

const Q: Param = Param { name: "q", about: "Words to find in ids, titles and names.", values: Values::Text };
const APPLICATION: Param = Param { name: "application", about: "Id of an application.", values: Values::Text };
const RELEASE: Param = Param { name: "release", about: "Id of a release.", values: Values::Text };
const CONTROL: Param = Param { name: "control", about: "Id of a control.", values: Values::Text };
const PARENT: Param = Param { name: "parent", about: "Id of the parent work item.", values: Values::Text };
const FRAMEWORK: Param = Param { name: "framework", about: "Framework, such as SOC2.", values: Values::Text };
const FROM: Param = Param { name: "from", about: "Only what was created at or after this time.", values: Values::Time };
const TO: Param = Param { name: "to", about: "Only what was created before this time.", values: Values::Time };

const fn state(values: &'static [&'static str]) -> Param {
    Param { name: "status", about: "State.", values: Values::Of(values) }
}

const TYPE: Param = Param { name: "type", about: "Kind of work item.", values: Values::Of(schema::WORK_ITEM_TYPES) };
const PROVIDER: Param = Param { name: "provider", about: "Scanner.", values: Values::Of(schema::PROVIDERS) };
const SEVERITY: Param = Param { name: "severity", about: "Severity.", values: Values::Of(schema::SEVERITIES) };

/// Where the certification of a release, with its version, is read.
const CERTIFICATION_OF_RELEASE: &str = "loopiq_get_release_certification";

/// What most entries have in common: a tool that reads one record.
const READ: Operation = Operation {
    tool: "",
    is_tool: true,
    title: "",
    about: "",
    method: Method::Get,
    path: "",
    family: "",
    effect: Effect::Read,
    impact: Impact::Low,
    query: &[],
    body: None,
    answer: Shape::Record(""),
    status: 200,
    versioned: true,
    etag: None,
    inner_tenants: &[],
    inner_ids: &[],
    act: Act::List(Kind::Release),
};

/// A tool that lists records or computes something without a version.
const SEARCH: Operation = Operation { versioned: false, ..READ };

/// A tool that changes records.
const WRITE: Operation = Operation { method: Method::Post, effect: Effect::Write, ..READ };

/// Every operation under `/api/v1`.
pub(super) fn operations() -> impl Iterator<Item = &'static Operation> {
    [ESTATE, WORK, CERTIFICATION, GOVERNANCE, AGENTS, ADMIN].into_iter().flatten()
}

/// The operation of this tool name.
pub(super) fn operation(tool: &str) -> Option<&'static Operation> {
    operations().find(|operation| operation.tool == tool)
}

static ESTATE: &[Operation] = &[
    Operation {
        tool: "loopiq_search_releases",
        title: "Search releases",
        about: "Lists releases, oldest first, by words, state and application.",
        path: "/api/v1/releases",
        family: "release",
        query: &[Q, state(schema::RELEASE_STATES), APPLICATION],
        answer: Shape::Page("Release"),
        act: Act::List(Kind::Release),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_release",
        title: "Get a release",
        about: "Shows one release: its application, version, state, owner and certification.",
        path: "/api/v1/releases/{release}",
        family: "release",
        answer: Shape::Record("Release"),
        act: Act::Show(Kind::Release, "release"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_applications",
        title: "Search applications",
        about: "Lists applications by words.",
        path: "/api/v1/applications",
        family: "application",
        query: &[Q],
        answer: Shape::Page("Application"),
        act: Act::List(Kind::Application),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_application",
        title: "Get an application",
        about: "Shows one application with its owner, team and criticality.",
        path: "/api/v1/applications/{application}",
        family: "application",
        answer: Shape::Record("Application"),
        act: Act::Show(Kind::Application, "application"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_modules",
        title: "Search modules",
        about: "Lists modules by words and application.",
        path: "/api/v1/modules",
        family: "module",
        query: &[Q, APPLICATION],
        answer: Shape::Page("Module"),
        act: Act::List(Kind::Module),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_module",
        title: "Get a module",
        about: "Shows one module with its application, language and repository.",
        path: "/api/v1/modules/{module}",
        family: "module",
        answer: Shape::Record("Module"),
        act: Act::Show(Kind::Module, "module"),
        ..READ
    },
];

static WORK: &[Operation] = &[
    Operation {
        tool: "loopiq_search_work_items",
        title: "Search work items",
        about: "Lists stories, tasks and bugs by words, type, state, release and parent.",
        path: "/api/v1/work-items",
        family: "work_item",
        query: &[Q, TYPE, state(schema::WORK_ITEM_STATES), RELEASE, PARENT],
        answer: Shape::Page("WorkItem"),
        act: Act::List(Kind::WorkItem),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_work_item",
        title: "Get a work item",
        about: "Shows one work item with its parent, owner and state.",
        path: "/api/v1/work-items/{workItem}",
        family: "work_item",
        answer: Shape::Record("WorkItem"),
        act: Act::Show(Kind::WorkItem, "workItem"),
        ..READ
    },
    Operation {
        tool: "loopiq_create_work_item",
        title: "Create a work item",
        about: "Creates a story, task or bug. The parent, the release and the owner must exist.",
        path: "/api/v1/work-items",
        family: "work_item",
        body: Some(schema::new_work_item),
        answer: Shape::Record("WorkItem"),
        status: 201,
        act: Act::Run(work::create),
        ..WRITE
    },
    Operation {
        tool: "loopiq_update_work_item",
        title: "Update a work item",
        about: "Changes title, state, owner or description of a work item.",
        method: Method::Patch,
        path: "/api/v1/work-items/{workItem}",
        family: "work_item",
        body: Some(schema::work_item_change),
        answer: Shape::Record("WorkItem"),
        etag: Some("loopiq_get_work_item"),
        act: Act::Run(work::update),
        ..WRITE
    },
    Operation {
        tool: "loopiq_create_remediation_work_package",
        title: "Create a remediation work package",
        about: "Creates one parent story and its child tasks for the blockers and evidence of a release's \
                certification, all together or not at all.",
        path: "/api/v1/releases/{release}/remediation-work-packages",
        family: "remediation",
        impact: Impact::High,
        body: Some(schema::new_work_package),
        answer: Shape::Record("WorkPackage"),
        status: 201,
        versioned: false,
        etag: Some(CERTIFICATION_OF_RELEASE),
        inner_tenants: &["/parent/tenant", "/children/*/tenant"],
        inner_ids: &["/parent/id", "/children/*/id"],
        act: Act::Run(packages::create),
        ..WRITE
    },
    Operation {
        tool: "loopiq_get_remediation_work_package",
        title: "Get a remediation work package",
        about: "Shows a remediation work package with its story and tasks as they are now.",
        path: "/api/v1/remediation-work-packages/{workPackage}",
        family: "remediation",
        answer: Shape::Record("WorkPackage"),
        inner_tenants: &["/parent/tenant", "/children/*/tenant"],
        inner_ids: &["/parent/id", "/children/*/id"],
        act: Act::Run(packages::show),
        ..READ
    },
];

static CERTIFICATION: &[Operation] = &[
    Operation {
        tool: "loopiq_search_certifications",
        title: "Search certifications",
        about: "Lists certifications by release and state.",
        path: "/api/v1/certifications",
        family: "certification",
        query: &[RELEASE, state(schema::CERTIFICATION_STATES)],
        answer: Shape::Page("Certification"),
        act: Act::List(Kind::Certification),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_certification",
        title: "Get a certification",
        about: "Shows one certification with the result of each control.",
        path: "/api/v1/certifications/{certification}",
        family: "certification",
        answer: Shape::Record("Certification"),
        act: Act::Show(Kind::Certification, "certification"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_controls",
        title: "Search controls",
        about: "Lists compliance controls by words and framework.",
        path: "/api/v1/controls",
        family: "control",
        query: &[Q, FRAMEWORK],
        answer: Shape::Page("Control"),
        act: Act::List(Kind::Control),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_control",
        title: "Get a control",
        about: "Shows one compliance control and what it asks.",
        path: "/api/v1/controls/{control}",
        family: "control",
        answer: Shape::Record("Control"),
        act: Act::Show(Kind::Control, "control"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_evidence",
        title: "Search evidence",
        about: "Lists evidence by release, control and state (fresh, stale, missing).",
        path: "/api/v1/evidence",
        family: "evidence",
        query: &[RELEASE, CONTROL, state(schema::EVIDENCE_STATES)],
        answer: Shape::Page("Evidence"),
        act: Act::List(Kind::Evidence),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_evidence",
        title: "Get a piece of evidence",
        about: "Shows one piece of evidence: where it came from, when, and until when it is fresh.",
        path: "/api/v1/evidence/{evidence}",
        family: "evidence",
        answer: Shape::Record("Evidence"),
        act: Act::Show(Kind::Evidence, "evidence"),
        ..READ
    },
    Operation {
        tool: "loopiq_search_provider_findings",
        title: "Search provider findings",
        about: "Lists findings of Snyk, SonarQube and GitHub by provider, severity and release.",
        path: "/api/v1/provider-findings",
        family: "evidence",
        query: &[PROVIDER, SEVERITY, RELEASE],
        answer: Shape::Page("ProviderFinding"),
        act: Act::List(Kind::Finding),
        ..SEARCH
    },
];

static GOVERNANCE: &[Operation] = &[
    Operation {
        tool: CERTIFICATION_OF_RELEASE,
        title: "Get a release's certification",
        about: "Shows the certification of a release with counts of its controls, evidence and blockers.",
        path: "/api/v1/releases/{release}/certification",
        family: "release_governance",
        answer: Shape::Record("ReleaseCertification"),
        act: Act::Run(governance::certification),
        ..READ
    },
    Operation {
        tool: "loopiq_get_release_certification_evidence",
        title: "Get the evidence of a release's certification",
        about: "Lists the evidence behind a release's certification with its freshness.",
        path: "/api/v1/releases/{release}/certification/evidence",
        family: "release_governance",
        answer: Shape::Page("Evidence"),
        act: Act::Run(governance::evidence),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_release_certification_blockers",
        title: "Get the blockers of a release's certification",
        about: "Lists what keeps a release from being certified, open and resolved.",
        path: "/api/v1/releases/{release}/certification/blockers",
        family: "release_governance",
        answer: Shape::Page("Blocker"),
        act: Act::Run(governance::blockers),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_release_certification_gaps",
        title: "Get the evidence gaps of a release's certification",
        about: "Lists the controls of a release whose evidence is missing or stale.",
        path: "/api/v1/releases/{release}/certification/gaps",
        family: "release_governance",
        answer: Shape::Page("Gap"),
        act: Act::Run(governance::gaps),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_release_readiness",
        title: "Get a release's readiness",
        about: "Says whether a release could be certified now, check by check.",
        path: "/api/v1/releases/{release}/readiness",
        family: "release_governance",
        answer: Shape::Record("Readiness"),
        act: Act::Run(governance::readiness),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_decide_release_certification",
        title: "Decide a release's certification",
        about: "Certifies or rejects a release. Open blockers keep it from being certified where the organisation \
                says so; a decision is made once.",
        path: "/api/v1/releases/{release}/certification/decision",
        family: "release_governance",
        impact: Impact::High,
        body: Some(schema::decision),
        answer: Shape::Record("ReleaseCertification"),
        etag: Some(CERTIFICATION_OF_RELEASE),
        act: Act::Run(governance::decide),
        ..WRITE
    },
    Operation {
        tool: "loopiq_get_release_certification_evidence_graph",
        title: "Get the evidence graph of a release's certification",
        about: "Shows how controls, evidence, findings, blockers and remediation hang together, with gaps, as of the \
                last refresh.",
        path: "/api/v1/releases/{release}/certification/evidence-graph",
        family: "evidence_graph",
        answer: Shape::Record("EvidenceGraph"),
        inner_tenants: &["/nodes/*/tenant"],
        act: Act::Run(graph::show),
        ..READ
    },
    Operation {
        tool: "loopiq_refresh_release_certification_evidence_graph",
        title: "Refresh the evidence graph of a release's certification",
        about: "Builds the evidence graph again from the records as they are now.",
        path: "/api/v1/releases/{release}/certification/evidence-graph/refresh",
        family: "evidence_graph",
        body: Some(schema::refresh),
        answer: Shape::Record("EvidenceGraph"),
        etag: Some("loopiq_get_release_certification_evidence_graph"),
        inner_tenants: &["/nodes/*/tenant"],
        act: Act::Run(graph::refresh),
        ..WRITE
    },
    Operation {
        tool: "loopiq_get_release_analytics",
        title: "Get release analytics",
        about: "Counts releases by state with their blockers, findings and lead time.",
        path: "/api/v1/analytics/releases",
        family: "analytics",
        query: &[APPLICATION, FROM, TO],
        answer: Shape::Record("ReleaseAnalytics"),
        act: Act::Run(analytics::releases),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_certification_analytics",
        title: "Get certification analytics",
        about: "Counts certifications by state with control results, evidence freshness and time to decision.",
        path: "/api/v1/analytics/certifications",
        family: "analytics",
        answer: Shape::Record("CertificationAnalytics"),
        act: Act::Run(analytics::certifications),
        ..SEARCH
    },
];

static AGENTS: &[Operation] = &[
    Operation {
        tool: "loopiq_list_ai_ml_agents",
        title: "List AI/ML agents",
        about: "Lists the AI/ML agents of the organisation and whether they may run.",
        path: "/api/v1/ai-ml-agents",
        family: "ai_ml_agent",
        answer: Shape::Page("Agent"),
        act: Act::List(Kind::Agent),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_ai_ml_agent",
        title: "Get an AI/ML agent",
        about: "Shows one AI/ML agent and what its runs compute.",
        path: "/api/v1/ai-ml-agents/{agent}",
        family: "ai_ml_agent",
        answer: Shape::Record("Agent"),
        act: Act::Show(Kind::Agent, "agent"),
        ..READ
    },
    Operation {
        tool: "loopiq_run_ai_ml_agent",
        title: "Run an AI/ML agent",
        about: "Runs an enabled agent on a release and keeps the run with its output.",
        path: "/api/v1/ai-ml-agents/{agent}/runs",
        family: "ai_ml_agent",
        impact: Impact::High,
        body: Some(schema::new_run),
        answer: Shape::Record("AgentRun"),
        status: 201,
        act: Act::Run(agents::run),
        ..WRITE
    },
    Operation {
        tool: "loopiq_get_ai_ml_agent_run",
        title: "Get a run of an AI/ML agent",
        about: "Shows one run of an agent with its inputs and output.",
        path: "/api/v1/ai-ml-agents/{agent}/runs/{run}",
        family: "ai_ml_agent",
        answer: Shape::Record("AgentRun"),
        act: Act::Run(agents::show_run),
        ..READ
    },
];

static ADMIN: &[Operation] = &[
    Operation {
        tool: "loopiq_get_diagnostics",
        title: "Get diagnostics",
        about: "Shows how LoopIQ does for this organisation: version and record counts.",
        path: "/api/v1/admin/diagnostics",
        family: "admin",
        effect: Effect::Admin,
        answer: Shape::Record("Diagnostics"),
        act: Act::Run(admin::diagnostics),
        ..SEARCH
    },
    Operation {
        tool: "loopiq_get_tenant_settings",
        title: "Get tenant settings",
        about: "Shows the organisation's settings and its members with their organisation and team roles.",
        path: "/api/v1/admin/tenant-settings",
        family: "admin",
        effect: Effect::Admin,
        answer: Shape::Record("TenantSettings"),
        inner_tenants: &["/members/*/tenant"],
        act: Act::Run(admin::settings),
        ..READ
    },
    Operation {
        tool: "loopiq_update_tenant_settings",
        title: "Update tenant settings",
        about: "Replaces the organisation's settings.",
        method: Method::Put,
        path: "/api/v1/admin/tenant-settings",
        family: "admin",
        effect: Effect::Admin,
        impact: Impact::High,
        body: Some(schema::settings),
        answer: Shape::Record("TenantSettings"),
        etag: Some("loopiq_get_tenant_settings"),
        inner_tenants: &["/members/*/tenant"],
        act: Act::Run(admin::update_settings),
        ..WRITE
    },
    Operation {
        tool: "loopiq_get_execution",
        is_tool: false,
        title: "Look up an execution",
        about: "Says what became of an idempotency key; a key that had no effect is not found.",
        path: "/api/v1/executions/{key}",
        family: "route",
        answer: Shape::Record("Execution"),
        act: Act::Run(ledger::lookup),
        ..SEARCH
    },
];
