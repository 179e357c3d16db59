//! decide: which tool is meant, and whether it may be used.
//!
//! Promises: a tool that the caller may not see answers exactly as one that does not exist,
//! whatever its arguments; a decision is recorded with what it was made from; policy that gives no
//! trustworthy answer is a no. Never sends. Called by `pep`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Map;

use super::Pep;
use super::approve::no_such_approval;
use super::arrival::Arrival;
use super::asked::Asked;
use super::asked::Reply;
use super::asked::fresh_id;
use super::recall::Recalled;
use super::rules::Rules;
use super::shadow::About;
use crate::domain::approval::Ticket;
use crate::domain::audit::record::Decided;
use crate::domain::catalog::Answerer;
use crate::domain::catalog::OwnTool;
use crate::domain::catalog::ResolveFault;
use crate::domain::catalog::Target;
use crate::domain::catalog::Tool;
use crate::domain::idempotency::State;
use crate::domain::identity::Principal;
use crate::domain::identity::Tenant;
use crate::domain::mcp;
use crate::domain::mcp::ToolCall;
use crate::domain::pdp::Caller;
use crate::domain::pdp::Context;
use crate::domain::pdp::Input;
use crate::domain::pdp::Phase;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::ruling::Ruling;
use crate::domain::refusal::Code;
use crate::domain::refusal::Fault;
use crate::domain::refusal::No;
use crate::domain::refusal::Refusal;
use crate::metrics::Stage;

/// Who calls, for which organisation, under which rules: settled once per call.
pub(super) struct Standing {
    /// Who.
    pub(super) principal: Arc<Principal>,
    /// For which organisation.
    pub(super) tenant: Tenant,
    /// The snapshot that decides.
    pub(super) rules: Arc<Rules>,
}

/// Reason code by which policy says that a tenant has no MCP access at all.
const MCP_DISABLED: &str = "mcp_disabled";

impl Pep {
    /// The rules that decide about a caller; without any, nothing is decided.
    pub(super) fn rules_for(&self, tenant: &Tenant, caller: &Principal) -> Result<Arc<Rules>, Refusal> {
        let rules = self.rules.for_call(tenant.as_str(), &caller.issuer, &caller.user);
        rules.ok_or_else(|| Refusal::of(Code::PolicyUnavailable).detail("no rules have been loaded"))
    }

    /// `tools/list`: what the caller may see, by one evaluation of the policy that judges calls.
    pub(super) async fn list(
        &self,
        arrival: &Arrival,
        principal: &Arc<Principal>,
        asked: &mut Asked,
        cursor: Option<&str>,
    ) -> Result<Reply, No> {
        let meta = asked.request.as_ref().map(|request| request.meta.clone()).unwrap_or_default();
        asked.controls = mcp::controls::controls(&meta, &arrival.head, &mut Map::new())?;
        let standing = self.resolve_tenant(arrival, principal, asked).await?;
        let visible = self.visible(&standing, asked, standing.rules.facts.clone())?;
        let tools: Vec<Arc<Tool>> = standing
            .rules
            .catalog
            .tools()
            .filter(|tool| tool.is_called() && visible.contains(&tool.name))
            .cloned()
            .collect();
        let page = mcp::cursor::page(&tools, cursor, self.settings.list_page, |tool| &tool.name)?;
        Ok(Reply::Tools { tools: page.items.to_vec(), next: page.next_cursor })
    }

    /// Names of the tools among `tools` that the caller may see.
    pub(super) fn visible(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        tools: BTreeMap<String, ToolFacts>,
    ) -> Result<Vec<String>, No> {
        let input = Input { tools: Some(tools), ..input(Phase::List, standing, asked) };
        let ruling = self.rule(&standing.rules, asked, &input);
        if let Some(no) = self.no_answer(&ruling) {
            return Err(no);
        }
        self.charge_after(standing, ruling.obligations(), &[])?;
        Ok(ruling.visible().to_vec())
    }

    /// The tool that a call means, with arguments that fit it.
    pub(super) fn target(
        &self,
        standing: &Standing,
        arrival: &Arrival,
        asked: &mut Asked,
        call: &ToolCall,
        recalled: &Recalled,
    ) -> Result<Target, No> {
        if let Some(operation) = asked.operation() {
            return self.offered_target(standing, asked, &operation, call);
        }
        let generic = standing.rules.catalog.tool(&call.name);
        if let Some(generic) = generic.filter(|tool| tool.answerer == Answerer::Gateway(OwnTool::ExecuteApproved)) {
            return self.approved_target(standing, asked, call, generic, recalled);
        }
        let by_route = |tool: &Tool| tool.name != call.name;
        let resolved = standing.rules.catalog.resolve(call);
        // WHY: whether a tool may be seen is asked before anything is made of the arguments; a hidden
        // tool must not tell that it exists by their form, by their headers, or by the time they take.
        let meant = match &resolved {
            Ok(target) => Some(&target.tool),
            Err(ResolveFault::Invalid { tool, .. }) => Some(tool),
            Err(ResolveFault::UnknownTool(_) | ResolveFault::UnknownRoute { .. }) => None,
        };
        if !self.is_visible(standing, asked, call, meant)? {
            let by_route =
                matches!(resolved, Err(ResolveFault::UnknownRoute { .. })) || meant.is_some_and(|tool| by_route(tool));
            return Err(no_such(&call.name, by_route));
        }
        match resolved {
            Ok(target) => {
                asked.record.called(&target.tool, target.via.as_ref().map(|via| via.name.as_str()), &target.arguments);
                match misfit(standing, arrival, asked, &target, call) {
                    None => Ok(target),
                    Some(no) => Err(no),
                }
            }
            Err(ResolveFault::Invalid { refusal, .. }) => {
                asked.record.called_unknown(&call.name);
                Err(No::from(*refusal))
            }
            Err(ResolveFault::UnknownTool(_) | ResolveFault::UnknownRoute { .. }) => Err(no_such(&call.name, false)),
        }
    }

    /// The tool and arguments that people approved: what is stored runs, the caller repeats nothing.
    fn approved_target(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        call: &ToolCall,
        generic: &Arc<Tool>,
        recalled: &Recalled,
    ) -> Result<Target, No> {
        if !self.is_visible(standing, asked, call, Some(generic))? {
            return Err(no_such(&call.name, false));
        }
        asked.record.called(generic, None, &call.arguments);
        generic.validate(&call.arguments)?;
        recalled.available()?;
        let Some(id) = &asked.controls.approval_id.clone() else {
            let next = "name the approval in `approvalId`";
            return Err(Refusal::because(Code::InvalidArguments, "`/approvalId` is required").then(next).into());
        };
        if asked.controls.dry_run {
            let next = "call the tool itself with `dryRun`";
            return Err(Refusal::because(Code::InvalidArguments, "what was approved has no dry run").then(next).into());
        }
        let Some(ticket) = &recalled.ticket else { return Err(no_such_approval(id).into()) };
        asked.under(ticket);
        let subject = &ticket.subject;
        let stored = ToolCall {
            name: subject.tool.clone(),
            arguments: subject.arguments.clone(),
            input_responses: Map::new(),
            request_state: None,
        };
        // WHY: an approval does not show a tool that the requester may no longer see.
        let Some(tool) = standing.rules.catalog.tool(&stored.name).cloned() else {
            return Err(no_such_approval(id).into());
        };
        if !self.is_visible(standing, asked, &stored, Some(&tool))? {
            return Err(no_such_approval(id).into());
        }
        if asked.controls.workflow.is_none() && !subject.workflow.is_empty() {
            asked.controls.workflow = Some(subject.workflow.clone());
            asked.record.workflow(&subject.workflow, &asked.controls.chain);
        }
        asked.record.called(&tool, Some(&generic.name), &stored.arguments);
        tool.validate(&stored.arguments)?;
        Ok(Target { tool, arguments: stored.arguments, via: Some(Arc::clone(generic)) })
    }

    /// Whether the caller may see the tool that a call means; one that means none is asked about too.
    pub(super) fn is_visible(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        call: &ToolCall,
        tool: Option<&Arc<Tool>>,
    ) -> Result<bool, No> {
        let facts =
            tool.and_then(|tool| standing.rules.facts.get_key_value(&tool.name)).into_iter().map(owned).collect();
        let input = Input { tools: Some(facts), ..input(Phase::List, standing, asked) };
        let ruling = standing.rules.pdp.decide(&input);
        if tool.is_some_and(|tool| ruling.fault().is_none() && ruling.sees(&tool.name)) {
            return Ok(true);
        }
        asked.record.called_unknown(&call.name);
        self.note_ruling(&standing.rules, asked, &input, &ruling, About::Unseen);
        self.no_answer(&ruling).map_or(Ok(false), Err)
    }

    /// Whether the call may be made.
    pub(super) fn decide(
        &self,
        standing: &Standing,
        asked: &mut Asked,
        target: &Target,
        recalled: &Recalled,
    ) -> Ruling {
        let workflow = asked.controls.workflow.clone().unwrap_or_default();
        asked.facts = self.facts.recall(standing.tenant.as_str(), &standing.principal, &workflow);
        // WHY: what was done before a write that was made stays done, though this process may have
        // forgotten it or never known: a retry is judged as the first try was, by today's rules.
        if let Some(made) = recalled.write.as_ref().filter(|write| write.state != State::Reserved) {
            asked.facts = [made.plan.input.facts.clone(), std::mem::take(&mut asked.facts)].concat();
        }
        let input = Input {
            tool: standing.rules.facts.get(&target.tool.name).cloned(),
            arguments: target.arguments.clone(),
            dry_run: asked.controls.dry_run,
            approval: recalled.ticket.as_ref().map(Ticket::facts),
            facts: asked.facts.clone(),
            ..input(Phase::Call, standing, asked)
        };
        self.rule(&standing.rules, asked, &input)
    }

    /// A ruling that is no decision about a tool: policy failed, or the tenant has no MCP access.
    pub(super) fn no_answer(&self, ruling: &Ruling) -> Option<No> {
        if let Some(fault) = ruling.fault() {
            self.metrics.policy_faults.with_label_values(&[fault.as_str()]).inc();
            let detail = format!("{}: {}", fault.as_str(), ruling.detail());
            return Some(Refusal::of(Code::PolicyUnavailable).detail(detail).into());
        }
        let disabled: Vec<_> = ruling.reasons().iter().filter(|reason| reason.code == MCP_DISABLED).cloned().collect();
        (!disabled.is_empty()).then(|| Refusal::of(Code::McpDisabled).with_reasons(disabled).into())
    }

    /// One evaluation, timed and recorded.
    pub(super) fn rule(&self, rules: &Rules, asked: &mut Asked, input: &Input) -> Ruling {
        let started = Instant::now();
        let ruling = rules.pdp.decide(input);
        asked.took(&self.metrics, Stage::Decide, started);
        self.note_ruling(rules, asked, input, &ruling, About::phase(input.phase));
        ruling
    }

    /// One evaluation beside the call's own, such as that of its preview: recorded, and not the one
    /// that the answer names.
    pub(super) fn rule_aside(&self, rules: &Rules, asked: &mut Asked, input: &Input) -> Ruling {
        let named = asked.audit_meta.get("decisionId").cloned();
        let ruling = self.rule(rules, asked, input);
        if let Some(named) = named {
            asked.tell("decisionId", named);
        }
        ruling
    }

    /// Writes a ruling into the record, and tells those who ask other rules about it.
    fn note_ruling(&self, rules: &Rules, asked: &mut Asked, input: &Input, ruling: &Ruling, about: About) {
        let id = fresh_id(asked.now_ms, self.clock.random());
        let decided = Decided {
            id: &id,
            outcome: ruling.outcome(),
            reasons: ruling.reasons(),
            obligations: ruling.obligations(),
            visible: ruling.visible(),
            fault: ruling.fault(),
            input,
            bundle_digest: ruling.bundle_digest(),
            data_digest: ruling.data_digest(),
            engine: ruling.engine().as_str(),
            instructions: None,
        };
        let sensitive = |tool: &str| rules.catalog.tool(tool).map(|tool| tool.sensitive.clone());
        asked.record.decided(&decided, sensitive);
        self.tell_aside(asked, &id, about, input, ruling);
        // WHY: the decision that an answer names is the one about the call, not those around it.
        if input.phase == Phase::Call || !asked.audit_meta.contains_key("decisionId") {
            asked.tell("decisionId", id);
        }
        asked.tell("policyRevision", rules.revision());
    }
}

/// What is wrong with the form of a call whose tool is known.
fn misfit(standing: &Standing, arrival: &Arrival, asked: &Asked, target: &Target, call: &ToolCall) -> Option<No> {
    let tool = &target.tool;
    let unfit = tool.validate(&target.arguments).err();
    if let Some(refusal) = unfit.or_else(|| tool.foreign_tenant(&target.arguments, &standing.tenant)) {
        return Some(refusal.into());
    }
    let modern = asked.request.as_ref().is_some_and(|request| request.era.is_modern());
    let listed = target.via.as_ref().unwrap_or(tool);
    let headers = || mcp::headers::check_param_headers(&arrival.head, listed.offered_input(), &call.arguments);
    if modern { headers().err().map(No::from) } else { None }
}

fn owned((name, facts): (&String, &ToolFacts)) -> (String, ToolFacts) {
    (name.clone(), facts.clone())
}

/// The answer to a call of what does not exist, and to a call of what the caller may not see.
///
/// One function for both, so that the two answers cannot differ.
pub(super) fn no_such(name: &str, by_route: bool) -> No {
    if by_route {
        let next = "list the routes with `loopiq_list_routes` and use one of them";
        return Refusal::because(Code::UnknownTool, "no such route").then(next).into();
    }
    Fault::unknown_tool(name).into()
}

/// What every phase tells the policy.
pub(super) fn input(phase: Phase, standing: &Standing, asked: &Asked) -> Input {
    let principal = &standing.principal;
    let now = jiff::Timestamp::from_millisecond(asked.now_ms).unwrap_or_default();
    Input {
        schema: 1,
        phase,
        caller: Caller {
            user: principal.user.clone(),
            issuer: principal.issuer.clone(),
            tenant: standing.tenant.as_str().to_owned(),
            roles: principal.roles.clone(),
            teams: principal.teams.clone(),
            permissions: principal.permissions.clone(),
            scopes: principal.scopes.clone(),
            client: principal.client.clone().unwrap_or_default(),
            method: principal.method,
        },
        tool: None,
        tools: None,
        arguments: Map::new(),
        dry_run: false,
        approval: None,
        facts: Vec::new(),
        response: None,
        context: Context {
            workflow: asked.controls.workflow.clone().unwrap_or_default(),
            chain: asked.controls.chain.clone(),
            now_ms: asked.now_ms,
            now: now.to_string(),
        },
    }
}
