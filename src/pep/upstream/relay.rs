//! What an upstream server says before it answers, on its way to the client.
//!
//! Promises: progress reaches a client that asked for it, under its own token; log messages reach
//! one that wants them, of the severity that it wants; what names another tenant stays out, and where
//! policy hides fields no words go out that nobody could look into. Never waits. Called by the
//! adapter that speaks to the server.

use serde_json::Map;
use serde_json::Value;

use crate::domain::catalog::text::plain;
use crate::domain::identity::Tenant;
use crate::domain::inspect::said;
use crate::domain::mcp::offered::Level;
use crate::domain::mcp::reply;
use crate::domain::pdp::Obligation;
use crate::domain::pdp::ruling::Permit;
use crate::pep::arrival::Progress;
use crate::pep::asked::Asked;
use crate::pep::offered::Levels;
use crate::pep::ports::Action;
use crate::pep::ports::Notices;

/// Bytes of one log message.
const LOG_BYTES_MAX: usize = 8 << 10;
/// Characters of what stands beside a progress.
const WORDS_MAX: usize = 300;

/// Passes on what one call's server says.
#[derive(Debug)]
pub(super) struct Relay {
    progress: Progress,
    /// The least severe log message that the client wants; none if it wants none.
    level: Option<Level>,
    /// Whether words may go out.
    words: bool,
    tenant: Tenant,
}

impl Relay {
    pub(super) fn new(permit: &Permit<Action>, asked: &Asked, levels: &Levels) -> Self {
        let action = permit.action();
        let hides = permit.obligations().iter().any(|one| matches!(one, Obligation::Redact { .. }));
        let level = match &asked.request {
            Some(request) if request.era.is_modern() => {
                request.meta.get(super::LOG_LEVEL).and_then(Value::as_str).and_then(Level::named)
            }
            Some(_) => asked.principal.as_ref().map(|caller| levels.of(caller)),
            None => None,
        };
        let words = !hides && action.tool.tenant_fields.is_empty();
        Self { progress: asked.progress.clone(), level, words, tenant: action.tenant.clone() }
    }

    fn log(&self, params: &Map<String, Value>) {
        let level = params.get("level").and_then(Value::as_str).and_then(Level::named);
        let (Some(level), Some(least), true) = (level, self.level, self.words) else { return };
        let data = params.get("data").cloned().unwrap_or_default();
        if level < least || said::names_another(&data, &self.tenant) {
            return;
        }
        let mut shown = Map::from_iter([("level".to_owned(), level.as_str().into()), ("data".to_owned(), data)]);
        if let Some(logger) = params.get("logger").and_then(Value::as_str) {
            shown.insert("logger".to_owned(), plain(logger, 100).into());
        }
        let message = reply::notification("notifications/message", &shown);
        if message.len() <= LOG_BYTES_MAX {
            self.progress.say(message);
        }
    }
}

impl Notices for Relay {
    fn tell(&self, method: &str, params: &Map<String, Value>) {
        match method {
            "notifications/progress" => {
                let number = |name: &str| params.get(name).and_then(Value::as_f64);
                let words = params.get("message").and_then(Value::as_str).filter(|_| self.words);
                let words = words.map(|text| plain(text, WORDS_MAX));
                if let Some(progress) = number("progress") {
                    self.progress.pass(progress, number("total").filter(|total| total.is_finite()), words.as_deref());
                }
            }
            "notifications/message" => self.log(params),
            // Whatever else a server says concerns the gateway's own conversation with it.
            _ => {}
        }
    }
}
