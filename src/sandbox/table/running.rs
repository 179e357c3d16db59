//! AI/ML agents, analytics, administration and the lookup of executions.
//!
//! Promises: one entry per route, as `sandbox::table` says.

use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;
use crate::sandbox::admin;
use crate::sandbox::agents;
use crate::sandbox::analytics;
use crate::sandbox::kind::Kind;
use crate::sandbox::ledger;
use crate::sandbox::operation::Act;
use crate::sandbox::operation::Method;
use crate::sandbox::operation::Operation;
use crate::sandbox::operation::Shape;
use crate::sandbox::schema;

use super::APPLICATION;
use super::FROM;
use super::READ;
use super::SEARCH;
use super::TO;
use super::WRITE;

/// AI/ML agents and analytics.
pub(super) static AGENTS: &[Operation] = &[
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
        body: Some(schema::body::new_run),
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

/// How the organisation is run.
pub(super) static ADMIN: &[Operation] = &[
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
        body: Some(schema::body::settings),
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
