//! What exists in the simulated world and who may do it: a small catalog and a small policy.
//!
//! Promises: one tool for each way in which a backend can be asked what became of a write, once
//! without people and once with them; the policy asks two people for high impact.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;

use loopgate::domain::catalog::Catalog;
use loopgate::domain::pdp::ToolFacts;
use loopgate::domain::pdp::bundle::Bundle;
use loopgate::domain::pdp::engine::Pdp;
use loopgate::pep::rules::Rules;

pub(crate) const TENANT: &str = "org_sim";

/// How a backend can be asked what became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Honours {
    /// It honours the idempotency key.
    Key,
    /// It keeps books under the idempotency key.
    Books,
    /// Both.
    Both,
    /// It can not.
    Nothing,
}

/// A tool of the simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SimTool {
    pub(crate) name: &'static str,
    pub(crate) honours: Honours,
    pub(crate) high: bool,
}

pub(crate) const TOOLS: [SimTool; 8] = [
    SimTool { name: "low_key", honours: Honours::Key, high: false },
    SimTool { name: "low_books", honours: Honours::Books, high: false },
    SimTool { name: "low_both", honours: Honours::Both, high: false },
    SimTool { name: "low_nothing", honours: Honours::Nothing, high: false },
    SimTool { name: "high_key", honours: Honours::Key, high: true },
    SimTool { name: "high_books", honours: Honours::Books, high: true },
    SimTool { name: "high_both", honours: Honours::Both, high: true },
    SimTool { name: "high_nothing", honours: Honours::Nothing, high: true },
];

pub(crate) fn tool(name: &str) -> SimTool {
    *TOOLS.iter().find(|tool| tool.name == name).unwrap()
}

/// The tool whose route this is: `/api/v1/<tool>`.
pub(crate) fn tool_at(path: &str) -> Option<SimTool> {
    let name = path.strip_prefix("/api/v1/")?.split(['?', '/']).next()?;
    TOOLS.iter().copied().find(|tool| tool.name == name)
}

const EXECUTE: &str = "schema: 1
backend: loopiq
tools:
  - name: execute
    title: execute
    description: Runs what people approved.
    family: gateway
    effect: read
    gateway: execute_approved
";

const WRITE: &str = "  - name: NAME
    title: NAME
    description: A write of the simulation.
    family: work_item
    effect: write
    impact: IMPACT
    route: POST /api/v1/NAME/{record}
    timeout: 10s
    input:
      type: object
      required: [title, record]
      properties:
        title: { type: string }
        record: { type: string, pattern: \"^[a-z0-9]+$\" }
    tenant_fields: [/tenant]
    record_ids: [/id]
";

fn catalog() -> Catalog {
    let mut text = EXECUTE.to_owned();
    for tool in TOOLS {
        let (key, books) = match tool.honours {
            Honours::Key => (true, false),
            Honours::Books => (false, true),
            Honours::Both => (true, true),
            Honours::Nothing => (false, false),
        };
        text += &WRITE.replace("NAME", tool.name).replace("IMPACT", if tool.high { "high" } else { "low" });
        for (has, line) in [
            (key, "    idempotent: backend\n"),
            (books, "    lookup: GET /api/v1/executions/{key}\n"),
            (tool.high && (key || books), "    dry_run: { query: dryRun }\n"),
            (tool.high && books, "    etag: GET /api/v1/records/{record}\n"),
        ] {
            text += if has { line } else { "" };
        }
    }
    Catalog::from_yaml(&text).unwrap_or_else(|faults| panic!("{faults:?}"))
}

const POLICY: &str = r#"package loopiq.gateway

decision := {
	"allow": count(reasons) == 0,
	"reasons": reasons,
	"obligations": obligations,
	"visible": visible,
} if {
	input.schema == 1
}

member if {
	input.caller.tenant == "org_sim"
	"writer" in input.caller.roles
}

visible contains name if {
	member
	input.phase == "list"
	some name, _ in input.tools
}

visible contains input.tool.name if {
	member
	input.phase != "list"
}

reasons contains {"code": "no_member", "message": "no", "next": "no"} if not member

waits if {
	input.phase == "call"
	input.tool.impact == "high"
	not input.dry_run
	not approved
}

agreed contains vote.user if {
	some vote in input.approval.votes
	vote.user != input.caller.user
	"approver" in vote.roles
}

approved if {
	input.approval.state == "approved"
	count(agreed) >= 2
}

reasons contains {"code": "approval_required", "message": "two must agree", "next": "ask them"} if waits

obligations contains {
	"type": "require_approval",
	"roles": ["approver"],
	"teams": [],
	"users": [],
	"count": 2,
	"approve_by_s": 3600,
	"execute_within_s": 900,
	"preview": true,
} if {
	waits
}

obligations contains {"type": "audit", "mode": "durable"} if input.phase in {"list", "call", "response"}
"#;

/// Two revisions of the policy that decide alike.
static REVISIONS: LazyLock<[Pdp; 2]> = LazyLock::new(|| {
    let facts = ToolFacts::of(&catalog());
    ["# one\n", "# two\n"].map(|comment| {
        let text = format!("{comment}{POLICY}");
        let files = vec![("loopiq/gateway/decision.rego".to_owned(), text.into_bytes())];
        let bundle = Bundle::from_files(files).unwrap_or_else(|faults| panic!("{faults:?}"));
        Pdp::compile(&bundle, &facts).unwrap_or_else(|faults| panic!("{faults:?}"))
    })
});

/// The rules under one of two revisions of the policy.
pub(crate) fn rules(revision: usize, loaded_ms: i64) -> Rules {
    let catalog = catalog();
    let facts: BTreeMap<_, _> = ToolFacts::of(&catalog);
    Rules { catalog: Arc::new(catalog), facts, pdp: REVISIONS[revision % 2].clone(), loaded_ms }
}
