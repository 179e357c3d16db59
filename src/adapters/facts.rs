//! Remembers what a caller did earlier in a workflow, for policies that ask.
//!
//! Promises: bounded in workflows, calls and time; keyed by tenant, issuer, user and workflow together,
//! so no caller profits from another's calls. Forgetting is safe, since policies only grant by facts:
//! a restart or another replica asks the caller to read again. Never durable. Called by `pep`.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use moka::sync::Cache;

use crate::domain::identity::Principal;
use crate::domain::pdp::EarlierCall;
use crate::pep::ports::Facts;

/// Calls kept per workflow.
const CALLS_MAX: usize = 32;
/// Workflows kept.
const WORKFLOWS_MAX: u64 = 10_000;
/// Bytes of a call that is kept; a larger one is forgotten, which costs its caller another reading.
const CALL_BYTES_MAX: usize = 16 * 1024;
/// How long a workflow without calls is kept.
const IDLE: Duration = Duration::from_hours(1);

type Key = (String, String, String, String);

/// Facts in memory.
#[derive(Debug)]
pub struct RecentCalls {
    workflows: Cache<Key, Arc<Mutex<Vec<EarlierCall>>>>,
}

impl RecentCalls {
    /// Nothing remembered yet.
    #[must_use]
    pub fn new() -> Self {
        Self { workflows: Cache::builder().max_capacity(WORKFLOWS_MAX).time_to_idle(IDLE).build() }
    }
}

impl Default for RecentCalls {
    fn default() -> Self {
        Self::new()
    }
}

fn key(tenant: &str, caller: &Principal, workflow: &str) -> Key {
    (tenant.to_owned(), caller.issuer.clone(), caller.user.clone(), workflow.to_owned())
}

/// Size of a call as JSON.
fn bytes(call: &EarlierCall) -> usize {
    serde_json::to_vec(call).map_or(usize::MAX, |text| text.len())
}

impl Facts for RecentCalls {
    fn recall(&self, tenant: &str, caller: &Principal, workflow: &str) -> Vec<EarlierCall> {
        if workflow.is_empty() {
            return Vec::new();
        }
        let Some(calls) = self.workflows.get(&key(tenant, caller, workflow)) else { return Vec::new() };
        calls.lock().map(|calls| calls.clone()).unwrap_or_default()
    }

    fn note(&self, tenant: &str, caller: &Principal, workflow: &str, call: EarlierCall) {
        if workflow.is_empty() || bytes(&call) > CALL_BYTES_MAX {
            return;
        }
        let calls = self.workflows.get_with(key(tenant, caller, workflow), Arc::default);
        if let Ok(mut calls) = calls.lock() {
            if calls.len() >= CALLS_MAX {
                calls.remove(0);
            }
            calls.push(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::forge::principal;

    fn call(tool: &str) -> EarlierCall {
        EarlierCall { tool: tool.into(), arguments: serde_json::Map::new(), record_ids: vec![], at_ms: 1, ok: true }
    }

    fn caller(issuer: &str, user: &str) -> Principal {
        principal(issuer, user, "org_a")
    }

    #[test]
    fn facts_are_kept_apart_by_tenant_issuer_user_and_workflow_and_are_bounded() {
        let facts = RecentCalls::new();
        let ada = caller("i", "ada");
        for n in 0..40 {
            facts.note("org_a", &ada, "w1", call(&format!("tool_{n}")));
        }
        let seen = facts.recall("org_a", &ada, "w1");
        assert_eq!(seen.len(), CALLS_MAX);
        assert_eq!(seen.last().map(|call| call.tool.as_str()), Some("tool_39"));
        let (ben, other_ada) = (caller("i", "ben"), caller("j", "ada"));
        for (tenant, caller, workflow) in
            [("org_b", &ada, "w1"), ("org_a", &ben, "w1"), ("org_a", &other_ada, "w1"), ("org_a", &ada, "w2")]
        {
            assert!(facts.recall(tenant, caller, workflow).is_empty());
        }
    }

    #[test]
    fn a_huge_call_is_forgotten_instead_of_filling_memory_and_records() {
        let facts = RecentCalls::new();
        let mut huge = call("t");
        huge.arguments.insert("q".into(), "x".repeat(CALL_BYTES_MAX).into());
        facts.note("org_a", &caller("i", "ada"), "w", huge);
        assert!(facts.recall("org_a", &caller("i", "ada"), "w").is_empty());
    }

    #[test]
    fn a_call_outside_any_workflow_leaves_no_fact() {
        let facts = RecentCalls::new();
        facts.note("org_a", &caller("i", "ada"), "", call("t"));
        assert!(facts.recall("org_a", &caller("i", "ada"), "").is_empty());
    }
}
