//! The gateway's own tools: what it promises, where the caller is, what the caller may use.
//!
//! Promises: shows only what the caller may see; says nothing that does not hold. Sends nothing.
//! Called by `pep` with a permit already in hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use crate::domain::catalog::Answerer;
use crate::domain::catalog::Effect;
use crate::domain::catalog::Impact;
use crate::domain::catalog::OwnTool;
use crate::domain::catalog::RouteRequest;
use crate::domain::catalog::Tool;
use crate::domain::identity::Principal;
use crate::domain::identity::Tenant;
use crate::domain::mcp::reply::Hints;
use crate::domain::mcp::reply::ToolView;
use crate::domain::refusal::Code;

/// What a client may rely on, for programs and models.
pub(super) fn reliability_contract(policy_revision: &str) -> Value {
    let codes: Vec<Value> = Code::ALL
        .iter()
        .map(|code| json!({"code": code.as_str(), "meaning": code.message(), "retryable": code.retryable(), "next": code.next()}))
        .collect();
    json!({
        "gateway": "loopgate",
        "version": env!("CARGO_PKG_VERSION"),
        "policyRevision": policy_revision,
        "tenancy": {
            "chosenBy": ["X-LoopIQ-Tenant header", "_meta[\"com.loopiq/tenant\"]", "active-tenant claim", "the only tenant of the token"],
            "isolation": "an answer that carries another tenant's record is withheld",
        },
        "writes": {
            "lowImpact": "go through when policy allows; each carries an idempotency key, made by the gateway when you send none",
            "highImpact": "previewed and answered approval_required with an approvalId; once people have agreed, repeat the call with it, or call loopiq_execute_approved_action",
            "approval": "covers exact arguments, preview, record version, tool definition and policy; any difference is refused and named; good for one execution and a limited time",
            "idempotencyKey": "argument `idempotencyKey`, _meta[\"com.loopiq/idempotencyKey\"] or Idempotency-Key header; 1 to 255 visible ASCII characters",
            "once": "the same key with the same arguments gives the first answer again, marked `replayed`; with other arguments it is refused",
            "unknownOutcome": "a write whose answer was lost is answered execution_unknown while the gateway finds out what became of it; repeat it with the same idempotencyKey, never with a new one",
            "state": "loopiq_get_action tells where an approval or a write of yours stands",
        },
        "dryRun": "argument `dryRun: true`: runs the backend's own dry run where the tool has one, and creates nothing",
        "audit": {
            "promise": "no record, no answer: every decided call is in a hash-chained journal before you see its answer",
            "where": "_meta[\"com.loopiq/audit\"] of every tools/call result",
        },
        "retries": "a refusal says `retryable` and `next`; a retry of a write repeats the same idempotencyKey",
        "refusals": codes,
    })
}

/// Which organisation this connection is in, and as whom.
pub(super) fn tenant_context(principal: &Principal, tenant: &Tenant) -> Value {
    json!({
        "tenant": tenant.as_str(),
        "tenants": principal.tenants,
        "user": principal.user,
        "client": principal.client,
        "authenticatedBy": principal.method,
        "roles": principal.roles,
        "teams": principal.teams,
        "permissions": principal.permissions,
        "scopes": principal.scopes,
    })
}

/// Resource families that the caller may use, with the tools of each.
pub(super) fn resources(visible: &[Arc<Tool>]) -> Value {
    let mut families: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for tool in visible.iter().filter(|tool| matches!(tool.answerer, Answerer::Route(_))) {
        families.entry(&tool.family).or_default().push(json!({
            "tool": tool.name, "title": tool.title, "effect": tool.effect, "impact": tool.impact,
        }));
    }
    let items: Vec<Value> =
        families.into_iter().map(|(family, tools)| json!({"resource": family, "tools": tools})).collect();
    json!({"items": items})
}

/// Routes that the caller may invoke, each with the tool that it is judged as.
pub(super) fn routes(visible: &[Arc<Tool>]) -> Value {
    let items: Vec<Value> = visible
        .iter()
        .filter_map(|tool| {
            let Answerer::Route(route) = &tool.answerer else { return None };
            Some(json!({
                "method": route.method,
                "path": route.template,
                "tool": tool.name,
                "title": tool.title,
                "query": route.query,
                "body": route.body,
                "effect": tool.effect,
                "needsApproval": tool.effect != Effect::Read && tool.impact == Impact::High,
            }))
        })
        .collect();
    json!({"items": items})
}

/// A tool as a caller who may use it sees it.
pub(super) fn view(tool: &Tool) -> ToolView<'_> {
    ToolView {
        name: &tool.name,
        title: &tool.title,
        description: &tool.description,
        input: tool.offered_input(),
        output: tool.output.as_ref(),
        hints: match tool.effect {
            // WHY: what these two turn into may change anything that the caller may change.
            Effect::Read if stands_for_others(tool) => Hints::write(true, false),
            Effect::Read => Hints::read(),
            Effect::Write | Effect::Admin => Hints::write(tool.impact == Impact::High, tool.idempotent),
        },
    }
}

fn stands_for_others(tool: &Tool) -> bool {
    matches!(tool.answerer, Answerer::Gateway(OwnTool::InvokeRoute | OwnTool::ExecuteApproved))
}

/// What would be sent, for tools whose backend has no dry run of its own. Nothing was sent.
pub(super) fn preview(tool: &Tool, request: &RouteRequest) -> Value {
    let body: Value = request.body.as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    json!({
        "dryRun": true,
        "previewBy": "gateway",
        "tool": tool.name,
        "effect": tool.effect,
        "request": {"method": request.method, "path": request.path_and_query, "body": body},
        "note": "nothing was sent; LoopIQ has no dry run for this route, so this is the exact request and not its effect",
    })
}
