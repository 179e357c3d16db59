//! THE SENTENCE. Policy enforcement point:
//!
//! receive → authenticate → resolve tenant → decide → (preview, approve) → remember → record
//! intent → forward → inspect → settle → audit → answer
//!
//! Promises: no step is skipped and none is taken twice; nothing is sent without a permit; no
//! record, no answer; what was sent on is carried to its end whether or not the client waits.
//! Holds the order; each step's own work is in a room beside it. Never opens a socket.
//! Called by `adapters::door` through [`arrival::Gate`].

pub mod arrival;
pub mod desk;
pub mod ports;
pub mod rules;
pub mod served;
pub mod rollout;
pub mod shadow;
mod asked;
mod receive;
mod scopes;
mod signers;
mod recall;
mod decide;
pub mod approve;
mod once;
mod act;
mod unsent;
mod answer;
mod own;
mod action;
pub mod reconcile;
mod quiet;
mod outbound;
mod offered;
mod upstream;
mod inflight;
mod refused;
mod limit;
mod listen;

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tracing::Instrument;
use tracing::info_span;

pub use inflight::InFlight;
pub use limit::Limiter;
pub use listen::Listeners;
pub use offered::Levels;
pub use outbound::NoExchange;
pub use outbound::Proof;
pub use outbound::Propagation;
pub use quiet::Quiet;
pub use refused::Refused;
pub use scopes::Needs;
pub use signers::Signers;

use self::arrival::Answer;
use self::arrival::Arrival;
use self::arrival::Gate;
use self::arrival::Progress;
use self::arrival::Turned;
use self::asked::Asked;
use self::asked::Reply;
use self::ports::Approvals;
use self::ports::Backend;
use self::ports::Clock;
use self::ports::Facts;
use self::ports::Journal;
use self::ports::Keys;
use self::ports::Ledger;
use self::ports::Upstreams;
use self::rules::RulesCell;
use crate::domain::canonical;
use crate::domain::identity::ClientCertificate;
use crate::domain::identity::Principal;
use crate::domain::mcp::Ask;
use crate::domain::mcp::Head;
use crate::domain::mcp::Message;
use crate::domain::mcp::ToolCall;
use crate::domain::mcp::receive::DoorRules;
use crate::domain::refusal::No;
use crate::metrics::Metrics;

/// Everything the sentence needs, complete at birth.
pub struct Pep {
    /// The rules in force.
    pub rules: Arc<RulesCell>,
    /// Who a token stands for.
    pub keys: Arc<dyn Keys>,
    /// The LoopIQ routes, and the upstream MCP servers beside them.
    pub backend: Arc<dyn Backend>,
    /// What the upstream MCP servers offer.
    pub upstreams: Arc<dyn Upstreams>,
    /// Remembers every write.
    pub ledger: Arc<dyn Ledger>,
    /// Keeps the approvals.
    pub approvals: Arc<dyn Approvals>,
    /// The audit journal.
    pub journal: Arc<dyn Journal>,
    /// What a caller did earlier in a workflow.
    pub facts: Arc<dyn Facts>,
    /// Time and fresh ids.
    pub clock: Arc<dyn Clock>,
    /// How callers are proven to backends.
    pub propagation: Propagation,
    /// Counters and timers.
    pub metrics: Arc<Metrics>,
    /// Plain settings.
    pub settings: Settings,
    /// Calls under way.
    pub in_flight: InFlight,
    /// How much log legacy clients want of upstream servers.
    pub levels: Levels,
    /// How often refusals of strangers are recorded.
    pub refused: Refused,
    /// How long lost writes have been quiet.
    pub quiet: Quiet,
    /// How many messages there may be.
    pub limiter: Limiter,
    /// Streams that tell clients of changes.
    pub listeners: Listeners,
}

/// Plain settings of the sentence.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts and origins that may be named.
    pub door: DoorRules,
    /// Bounds on the JSON of a request.
    pub json: canonical::Limits,
    /// Bounds on the JSON of a backend's answer.
    pub answers: canonical::Limits,
    /// Tools per page.
    pub list_page: usize,
    /// Milliseconds that a client may keep a list.
    pub list_ttl_ms: u64,
    /// The `resource` of RFC 9728: the URL that clients dial.
    pub resource: String,
    /// Issuers named there.
    pub issuers: Vec<String>,
    /// Scopes named there.
    pub scopes: Vec<String>,
    /// Scopes that calls need.
    pub needs: Needs,
    /// Where approvers open an approval, without its id; empty when nothing is to be named.
    pub approvals_link: String,
    /// How long what is tried to find out what became of a write.
    pub patience: reconcile::Patience,
}

#[async_trait]
impl Gate for Pep {
    async fn admits(&self, head: &Head, certificate: Option<&ClientCertificate>) -> bool {
        self.knows(head, certificate).await
    }

    async fn turned_away(&self, cause: Turned, peer: Option<SocketAddr>) {
        self.note_turned(cause, peer).await;
    }

    async fn handle(&self, arrival: Arrival, progress: Progress) -> Answer {
        if let Some(document) = self.document(&arrival.head) {
            if document.status >= 400 {
                self.note_turned(Turned::Path, arrival.peer).await;
            }
            return document;
        }
        let mut asked = Asked::new(&arrival, progress, &*self.clock);
        asked.under_way = Some(self.metrics.under_way());
        let span = info_span!("request", request.id = %asked.request_id);
        let outcome = self.carry(&arrival, &mut asked).instrument(span).await;
        self.close(&arrival, asked, outcome).await // audit → answer
    }
}

impl Pep {
    /// One message, from its first byte to what is to be answered.
    async fn carry(&self, arrival: &Arrival, asked: &mut Asked) -> Result<Reply, No> {
        self.receive_head(arrival)?; // receive
        let known = self.authenticate(arrival, asked).await; // authenticate
        let principal = known.map_err(|no| self.failed(arrival, no))?;
        match self.receive_body(arrival, asked)? {
            Message::Notification(notification) => Ok(self.notified(&principal, &notification)),
            Message::Request(request) => match request.ask {
                Ask::Discover => {
                    let offers = self.offers();
                    self.greet(arrival, &principal, asked, Reply::Discovered(offers)).await
                }
                Ask::Initialize(_) => {
                    let offers = self.offers();
                    self.greet(arrival, &principal, asked, Reply::Initialized(offers)).await
                }
                Ask::Ping => self.greet(arrival, &principal, asked, Reply::Pong).await,
                Ask::ListTools { cursor } => self.list(arrival, &principal, asked, cursor.as_deref()).await,
                Ask::Listen(filter) => self.listen(arrival, &principal, asked, &filter).await,
                Ask::CallTool(call) => self.call(arrival, &principal, asked, call).await,
                Ask::List { what, cursor } => {
                    self.list_offered(arrival, &principal, asked, what, cursor.as_deref()).await
                }
                Ask::Operate(operation) => {
                    self.offered(request.era, &operation)?;
                    self.call(arrival, &principal, asked, operation.call).await
                }
                Ask::SetLevel(level) => {
                    let set = self.set_level(&principal, request.era, level)?;
                    self.greet(arrival, &principal, asked, set).await
                }
            },
        }
    }

    /// One tool call, step by step.
    async fn call(
        &self,
        arrival: &Arrival,
        principal: &Arc<Principal>,
        asked: &mut Asked,
        mut call: ToolCall,
    ) -> Result<Reply, No> {
        let _in_flight = self.in_flight.enter(principal, asked.id.as_ref(), &arrival.cancel);
        asked.steer(arrival, &mut call)?;
        let standing = self.resolve_tenant(arrival, principal, asked).await?; // resolve tenant
        self.reopen(&standing, asked, &call).await?;
        let mut recalled = self.recall(&standing, asked, &call).await;
        let target = self.target(&standing, arrival, asked, &call, &recalled)?;
        self.scoped(&standing, &target.tool)?;
        let ruling = self.decide(&standing, asked, &target, &recalled); // decide
        let permit = self.approve(&standing, asked, ruling, target, &mut recalled).await?; // (preview, approve)
        let held = self.remember(&standing, &permit, asked, &recalled).await?; // remember
        if arrival.cancel.is_raised() {
            return Err(No::Cancelled);
        }
        let held = self.intend(&permit, asked, held, &recalled).await?; // record intent
        let outcome = self.forward(&standing, &permit, asked, held).await; // forward
        let reply = self.inspect(&standing, &permit, asked, outcome); // inspect
        self.settle(asked, reply).await.map_err(|no| upstream::reworded(no, permit.action())) // settle
    }
}
