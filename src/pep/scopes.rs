//! Scopes: what a token must carry before anybody asks whether its owner may.
//!
//! Promises: who lacks a scope is told every scope that the call needs, at once, those that the token
//! has among them; a tool that the caller may not see is never asked about here. A scope is needed
//! and never enough: policy decides. Called by `pep`.

use super::Pep;
use super::decide::Standing;
use crate::domain::catalog::Effect;
use crate::domain::catalog::Tool;
use crate::domain::identity::AuthMethod;
use crate::domain::refusal::Challenge;
use crate::domain::refusal::Code;

/// Counter label and recorded cause of a missing scope.
const CAUSE: &str = "insufficient_scope";

/// Scopes that calls need, by what the tool does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Of tools that change nothing.
    pub read: Vec<String>,
    /// Of tools that change records.
    pub write: Vec<String>,
    /// Of tools that change how LoopIQ is run.
    pub admin: Vec<String>,
}

impl Needs {
    /// Every scope that a call of `tool` needs, each once.
    fn of(&self, tool: &Tool) -> Vec<String> {
        let by_effect = match tool.effect {
            Effect::Read => &self.read,
            Effect::Write => &self.write,
            Effect::Admin => &self.admin,
        };
        let mut all: Vec<String> = Vec::new();
        for scope in by_effect.iter().chain(&tool.scopes) {
            if !all.contains(scope) {
                all.push(scope.clone());
            }
        }
        all
    }
}

impl Pep {
    /// Whether the token carries what the call needs.
    pub(super) fn scoped(&self, standing: &Standing, tool: &Tool) -> Result<(), Challenge> {
        // WHY: the session of a person at LoopIQ has no scopes; nobody has consented to a part of it.
        if standing.principal.method == AuthMethod::Helix {
            return Ok(());
        }
        let needed = self.settings.needs.of(tool);
        if needed.iter().all(|scope| standing.principal.scopes.contains(scope)) {
            return Ok(());
        }
        self.metrics.credentials_refused.with_label_values(&[CAUSE]).inc();
        Err(Challenge { code: Code::InsufficientScope, presented: true, scopes: needed, cause: CAUSE })
    }
}
