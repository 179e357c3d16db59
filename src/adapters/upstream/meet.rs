//! Getting to know a server: which revision it speaks, and its legacy handshake.
//!
//! Promises: `server/discover` first, `initialize` where the answer says that the server does not know it;
//! a server that fails or refuses is not taken for an old one; a revision that the gateway does not speak is
//! not spoken, whatever a server says. Called by [`super::watch`] and [`super::carry`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::hear::Ask;
use super::hear::Heard;
use super::hear::Said;
use super::server::Spoken;
use super::server::Upstream;
use super::session::Session;
use super::wire;
use super::wire::Manner;
use crate::domain::mcp::Era;
use crate::domain::mcp::MODERN;
use crate::pep::ports::SendFault;
use crate::pep::ports::SendFaultKind;

/// The server does not speak that revision.
const UNSUPPORTED_VERSION: i64 = -32022;

/// What the answer to a probe says.
enum Probe {
    Modern(Map<String, Value>),
    Older,
}

/// A request of the gateway's own, in `manner`.
pub(super) fn own<'a>(
    manner: Manner<'a>,
    method: &'a str,
    params: &'a Map<String, Value>,
    leaving: &'a AtomicBool,
) -> Ask<'a> {
    Ask { manner, method, params, schema: None, notices: None, before: None, leaving, again: true }
}

impl Upstream {
    /// Asks within the time for the gateway's own requests.
    pub(super) async fn ask_in_time(&self, ask: Ask<'_>) -> Result<Heard, SendFault> {
        match tokio::time::timeout(self.settings.timeout, self.ask(ask, self.next_id())).await {
            Ok(heard) => heard,
            Err(_) => Err(ask.fault(SendFaultKind::Timeout, format!("no answer within {:?}", self.settings.timeout))),
        }
    }

    /// Finds out which revision the server speaks, and opens the gateway's own session if it is a legacy one.
    pub(super) async fn meet(&self) -> Result<Spoken, SendFault> {
        let manner = Manner { era: Era::Modern, session: None, headers: &[] };
        let (params, leaving) = (Map::new(), AtomicBool::new(false));
        let ask = own(manner, "server/discover", &params, &leaving);
        let heard = self.ask_in_time(ask).await?;
        match probed(ask, &heard)? {
            Probe::Modern(capabilities) => Ok(Spoken { era: Era::Modern, capabilities, session: None }),
            Probe::Older => {
                let (session, capabilities) = self.open(&[]).await?;
                Ok(Spoken { era: session.era, capabilities, session: Some(Arc::new(session)) })
            }
        }
    }

    /// The handshake of legacy revisions.
    pub(super) async fn open(
        &self,
        headers: &[(&'static str, String)],
    ) -> Result<(Session, Map<String, Value>), SendFault> {
        let newest = Era::V2025_11_25;
        let manner = Manner { era: newest, session: None, headers };
        let mut params = Map::new();
        params.insert("protocolVersion".to_owned(), json!(newest.as_str()));
        params.insert("capabilities".to_owned(), json!({}));
        params.insert("clientInfo".to_owned(), wire::client_info());
        let leaving = AtomicBool::new(false);
        let ask = own(manner, "initialize", &params, &leaving);
        let heard = self.ask_in_time(ask).await?;
        let refused = |detail: String| ask.fault(SendFaultKind::Unreachable, detail);
        let Said::Result(result) = heard.said else {
            return Err(refused(format!("`initialize` was refused: {}", words(&heard))));
        };
        let version = result.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        let era = Era::legacy(version)
            .ok_or_else(|| refused(format!("it wants revision `{}`, which is not spoken here", shown(version))))?;
        let session = Session::new(heard.session, era);
        let manner = Manner { era, session: session.id.as_deref(), headers };
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        match self.aside(manner, &ready).await {
            Ok(200..=299) => Ok((session, capabilities(&result))),
            Ok(status) => Err(refused(format!("`notifications/initialized` was answered with {status}"))),
            Err(cause) => Err(refused(cause)),
        }
    }
}

/// Follows section "Backward compatibility" of MCP 2026-07-28: only a server that does not know the question
/// is an older one.
fn probed(ask: Ask<'_>, heard: &Heard) -> Result<Probe, SendFault> {
    let refused = |detail: String| Err(ask.fault(SendFaultKind::Unreachable, detail));
    // WHY: these say nothing of revisions, and a server that is down must not be taken for an old one.
    if heard.status >= 500 || matches!(heard.status, 401 | 403 | 407 | 408 | 425 | 429 | 300..=399) {
        return refused(format!("`server/discover` was refused: {}", words(heard)));
    }
    let speaks = |versions: Option<&Value>| {
        let versions = versions.and_then(Value::as_array)?;
        let mut versions = versions.iter().filter_map(Value::as_str);
        Some((versions.clone().any(|one| one == MODERN), versions.any(|one| Era::legacy(one).is_some())))
    };
    match &heard.said {
        Said::Result(result) => match speaks(result.get("supportedVersions")) {
            Some((true, _)) => Ok(Probe::Modern(capabilities(result))),
            Some((false, false)) => {
                refused(format!("it does not speak {MODERN}, nor anything older that is spoken here"))
            }
            Some((false, true)) | None => Ok(Probe::Older),
        },
        Said::Error(error) if error.get("code") == Some(&json!(UNSUPPORTED_VERSION)) => {
            match speaks(error.get("data").and_then(|data| data.get("supported"))) {
                Some((true, _)) => refused(format!("it refuses {MODERN}, which it says it speaks")),
                Some((false, false)) => refused("it speaks only revisions that are not spoken here".to_owned()),
                Some((false, true)) | None => Ok(Probe::Older),
            }
        }
        Said::Error(_) | Said::Nothing => Ok(Probe::Older),
    }
}

fn capabilities(result: &Map<String, Value>) -> Map<String, Value> {
    result.get("capabilities").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A refusal, for operators.
pub(super) fn words(heard: &Heard) -> String {
    match &heard.said {
        Said::Error(error) => {
            let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
            let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
            format!("HTTP {}, error {code}: {}", heard.status, shown(message))
        }
        Said::Result(_) | Said::Nothing => format!("HTTP {}", heard.status),
    }
}

/// A server's own words, bounded and on one line.
fn shown(words: &str) -> String {
    words.chars().filter(|letter| !letter.is_control()).take(200).collect()
}
