//! AI/ML agents and their runs.
//!
//! Promises: a run computes its output from the release's records and is kept with it. Never
//! calls a model: the agents stand in for LoopIQ's, their outputs are derived. Listed in
//! `sandbox::table`.

use serde_json::Value;
use serde_json::json;

use super::books::Books;
use super::books::text;
use super::governance::Standing;
use super::governance::tally;
use super::kind::Kind;
use super::operation::Ask;
use super::problem::Problem;

/// Runs an agent on a release.
pub(super) fn run(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    let agent = books.get(Kind::Agent, ask.var("agent"))?;
    let id = text(&agent, "id");
    if text(&agent, "status") != "enabled" {
        return Err(Problem::new(
            409,
            "agent_disabled",
            format!("agent `{id}` is disabled; enable it or choose another"),
        ));
    }
    let release = ask.text("release").unwrap_or_default();
    if books.find(Kind::Release, release)?.is_none() {
        let words = format!("`release` names `{release}`, which is no release of this organisation");
        return Err(Problem::invalid("unknown_release", words));
    }
    let standing = Standing::of(books, release).map_err(|problem| Problem { status: 409, ..problem })?;
    let record = json!({
        "agent": id,
        "release": release,
        "status": "succeeded",
        "inputs": ask.body.get("inputs").cloned().unwrap_or_else(|| json!({})),
        "output": output(books, text(&agent, "task"), &standing)?,
        "requestedBy": books.user(),
        "startedAt": books.stamp(),
        "finishedAt": books.stamp(),
    });
    books.create(Kind::AgentRun, record)
}

/// Shows a run, if it is one of this agent.
pub(super) fn show_run(books: &mut Books<'_>, ask: &Ask) -> Result<Value, Problem> {
    books.get(Kind::Agent, ask.var("agent"))?;
    let run = books.get(Kind::AgentRun, ask.var("run"))?;
    if text(&run, "agent") == ask.var("agent") {
        return Ok(run);
    }
    Err(Problem::not_found("run of this agent", ask.var("run")))
}

fn output(books: &Books<'_>, task: &str, standing: &Standing) -> Result<Value, Problem> {
    Ok(match task {
        "release_risk" => {
            let ours = |f: &Value| text(f, "status") == "open" && text(f, "release") == standing.release;
            let findings = tally(&books.all(Kind::Finding, ours)?, "severity");
            let number = |severity: &str| findings.get(severity).copied().unwrap_or(0);
            let open = u64::try_from(standing.open_blockers()).unwrap_or(u64::MAX);
            let weight = 25 * number("critical") + 10 * number("high") + 3 * number("medium") + number("low");
            let score = weight.saturating_add(open.saturating_mul(8)).min(100);
            let level = match score {
                0..20 => "low",
                20..60 => "medium",
                _ => "high",
            };
            json!({"riskScore": score, "riskLevel": level, "openBlockers": open, "openFindings": findings})
        }
        "control_mapping" => {
            let mapped: Vec<Value> = standing
                .controls()
                .iter()
                .map(|c| json!({"control": c.get("control"), "evidence": c.get("evidence"), "result": c.get("result")}))
                .collect();
            json!({"controls": mapped})
        }
        _ => {
            let gaps: Vec<Value> = standing
                .gaps()
                .iter()
                .map(|g| json!({"control": g.get("control"), "evidence": g.get("evidence"), "kind": g.get("kind")}))
                .collect();
            json!({"gaps": gaps, "count": gaps.len()})
        }
    })
}
