//! What the sentence needs from outside, each as a promise.
//!
//! Implemented by `adapters` and, in tests, by doubles. Never implemented twice for one purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Map;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::approval;
use crate::domain::approval::Ballot;
use crate::domain::approval::Ground;
use crate::domain::approval::Person;
use crate::domain::approval::Ticket;
use crate::domain::approval::VoteFault;
use crate::domain::audit::AuditRef;
use crate::domain::audit::JournalFault;
use crate::domain::audit::record::Record;
use crate::domain::catalog::Tool;
use crate::domain::idempotency as execution;
use crate::domain::idempotency::Claimed;
use crate::domain::idempotency::Execution;
use crate::domain::idempotency::Opinion;
use crate::domain::idempotency::Plan;
use crate::domain::idempotency::ResolveFault;
use crate::domain::idempotency::Settlement;
use crate::domain::identity::Principal;
use crate::domain::identity::Tenant;
use crate::domain::identity::approval_token::SignedApproval;
use crate::domain::identity::fault::AuthFault;
use crate::domain::identity::shown::Shown;
use crate::domain::limit::Grant;
use crate::domain::limit::Key;
use crate::domain::limit::Rate;
use crate::domain::limit::Verdict;
use crate::domain::pdp::EarlierCall;
use crate::domain::pdp::ruling::Permit;
use crate::domain::pdp::ruling::Permitted;
use crate::domain::upstream::Offer;

/// The time, and ids that never repeat.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Fresh random bytes from the operating system.
    fn random(&self) -> [u8; 16];
}

/// Tells who a bearer token stands for, and what a signed approval is good for.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The principal of a token that is good at `now_s`, seconds since the Unix epoch.
    ///
    /// A wrong yes lets a stranger in; when keys cannot be had the answer is a fault, never a guess.
    async fn principal(&self, bearer: &str, now_s: i64) -> Result<Arc<Principal>, AuthFault>;

    /// The principal of a request, by everything that it shows of who makes it.
    ///
    /// Where only bearer tokens are known, whatever else is shown says nothing.
    async fn identify(&self, shown: &Shown<'_>, now_s: i64) -> Result<Arc<Principal>, AuthFault> {
        self.principal(shown.bearer()?, now_s).await
    }

    /// An approval that LoopIQ signed for use in `ledger`, known at `now_s`. Says nothing of whether it
    /// was used before or is too late to be used: its ticket does. Without an issuer of approvals, none is believed.
    async fn approval(&self, _token: &str, _ledger: &str, _now_s: i64) -> Result<SignedApproval, AuthFault> {
        Err(AuthFault::UnknownIssuer)
    }
}

/// For whom a credential is wanted, with the gateway's own word for it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The issuer that vouches for them.
    pub issuer: String,
    /// Who.
    pub user: String,
    /// In which organisation.
    pub tenant: String,
    /// Their organisation roles.
    pub roles: Vec<String>,
    /// The gateway's assertion that they call; never the client's token.
    pub assertion: String,
}

/// Why there is no credential. Nothing was sent to the backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFault {
    /// The token service cannot be reached, or does not answer properly.
    #[error("the token service gives no answer: {0}")]
    Unavailable(String),
    /// The token service gives nothing for this caller.
    #[error("the token service refuses: {0}")]
    Refused(String),
}

/// Credentials that a token service gives in exchange for the gateway's word (RFC 8693).
#[async_trait]
pub trait Credentials: Send + Sync {
    /// A bearer token for `backend` in the name of `subject`, good at `now_s` and long enough for one call.
    async fn token(&self, backend: &str, subject: &Subject, now_s: i64) -> Result<String, CredentialFault>;
}

/// What one call is about to do. Becomes a [`Permit`] when policy allows it.
#[derive(Debug, Clone)]
pub struct Action {
    /// For which organisation.
    pub tenant: Tenant,
    /// With which tool.
    pub tool: Arc<Tool>,
    /// With which arguments; valid under the tool's schema.
    pub arguments: Map<String, Value>,
    /// Whether only a preview is asked for.
    pub dry_run: bool,
}

impl Permitted for Action {
    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    fn tool(&self) -> &str {
        &self.tool.name
    }

    fn arguments(&self) -> &Map<String, Value> {
        &self.arguments
    }

    fn dry_run(&self) -> bool {
        self.dry_run
    }
}

/// A request to a backend in its final form.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Name of the backend.
    pub backend: String,
    /// The issuer of whom it is for, because two issuers may name one user. Is not sent.
    pub issuer: String,
    /// HTTP method, upper case.
    pub method: String,
    /// Encoded path and query.
    pub path_and_query: String,
    /// Every header that is sent besides `Host`, `Content-Length` and `Connection`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON body.
    pub body: Option<Vec<u8>>,
    /// Time for the whole exchange.
    pub timeout: Duration,
    /// When the first byte of a claimed write may leave at the latest; whoever comes later has been
    /// left behind. By a clock that nobody sets.
    pub send_before: Option<Instant>,
    /// Who hears what an upstream MCP server says before it answers.
    pub notices: Option<Arc<dyn Notices>>,
}

/// A backend's answer.
#[derive(Debug, Clone)]
pub struct BackendAnswer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, if any.
    pub content_type: Option<String>,
    /// `Retry-After`, if any.
    pub retry_after: Option<String>,
    /// `ETag`, if any.
    pub etag: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {detail}")]
pub struct SendFault {
    /// What went wrong.
    pub kind: SendFaultKind,
    /// Whether any byte of the request may have left. False is a proof that the backend did nothing.
    pub bytes_left: bool,
    /// For operators.
    pub detail: String,
}

/// What went wrong with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFaultKind {
    /// No such backend, no address, no connection.
    Unreachable,
    /// It failed so often that it is left alone for a while; nothing was sent.
    Resting {
        /// How long to wait.
        retry_ms: u64,
    },
    /// As much is under way as it takes; nothing was sent.
    Overloaded {
        /// How long to wait.
        retry_ms: u64,
    },
    /// No whole answer in time.
    Timeout,
    /// The connection broke, or what came was not HTTP.
    Broken,
    /// The answer is larger than the gateway passes on.
    TooLarge,
}

/// What a backend says before it answers: MCP notifications, each a whole JSON-RPC message without the
/// client's own ids. Told while the exchange runs, in order; never waits.
pub trait Notices: std::fmt::Debug + Send + Sync {
    /// One more.
    fn tell(&self, method: &str, params: &Map<String, Value>);
}

/// Upstream MCP servers. Exchanges with them go through [`Backend`], by the server's name.
///
/// Of the [`Outbound`], `body` is `{"method", "params"}`, with names as the server has them and without
/// an id. From `params._meta` a modern server gets `clientCapabilities` and `logLevel` as they stand, any
/// server gets what is not reserved to MCP; the rest of the envelope, progress tokens and trace context
/// are made here. Every one of `headers` is sent but those of HTTP and MCP themselves; `X-LoopIQ-Tenant`
/// and `X-LoopIQ-User` say whose session a legacy server sees. `method` and `path_and_query` are not read.
///
/// The answer has a JSON body, or none:
/// - 200 and the JSON-RPC `result`, whole: `input_required` and `requestState` are as they came;
/// - 422 and the JSON-RPC `error`, where its code says that nothing was done (invalid, unknown, undeclared);
/// - 500 and the JSON-RPC `error`, where its code leaves that open, such as -32603;
/// - otherwise the status of an HTTP answer that is not JSON-RPC, and an empty body. A 404 says that the
///   session was unknown, so nothing was done; the next call has a fresh one.
///
/// `tools/call` is sent once at most, whatever the tool does. Any other method may be sent again, once.
pub trait Upstreams: Send + Sync {
    /// What each offers, by its name, as it was read last. One that was never reached is absent.
    fn offers(&self) -> Arc<BTreeMap<String, Arc<Offer>>>;

    /// Counts the changes of [`Upstreams::offers`].
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The LoopIQ route APIs.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Sends once. A write of which any byte may have left is never sent again by this port, whatever
    /// happens; a read may be, within a budget.
    /// Looks at [`Outbound::send_before`] right before the first byte.
    ///
    /// Needs a permit, so that nothing reaches a backend undecided.
    async fn send(&self, permit: &Permit<Action>, request: Outbound) -> Result<BackendAnswer, SendFault>;
}

/// Counts calls against rates. Always answers: counters that cannot be reached must not stop the calls.
#[async_trait]
pub trait Limits: Send + Sync + std::fmt::Debug {
    /// Takes one call of a key, over all replicas where they count together.
    async fn take(&self, key: &Key, rate: &Rate) -> Verdict;

    /// The same for this process alone, without waiting for anybody.
    fn take_here(&self, key: &Key, rate: &Rate) -> Verdict;

    /// Takes one that was made already.
    fn spend(&self, key: &Key, rate: &Rate);
}

/// Buckets that replicas share. Drawing is one step by the store's own clock.
#[async_trait]
pub trait Buckets: Send + Sync {
    /// Takes up to `want` calls of a key.
    async fn draw(&self, key: &Key, rate: &Rate, want: u64) -> Result<Grant, BucketsFault>;
}

/// The shared buckets did not answer; whether the calls were taken is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BucketsFault(pub String);

/// The audit journal.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Resolves when the record is durable. A yes that is not durable breaks every promise made to auditors.
    async fn append(&self, record: Record) -> Result<AuditRef, JournalFault>;

    /// Whether a record of a write (or of a read) could be taken now.
    fn ready(&self, for_write: bool) -> Result<(), JournalFault>;
}

/// The ledger did not do what was asked; whether it did part of it is not known, so read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// It cannot be reached, or its disk is full, or it is too busy.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// It holds what this gateway cannot read.
    #[error("the ledger holds what cannot be read: {0}")]
    Unreadable(String),
}

/// Which writes are wanted, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteFilter {
    /// Of this organisation; every one if absent, which only the gateway itself may ask.
    pub tenant: Option<String>,
    /// In this state.
    pub state: Option<execution::State>,
    /// Under this idempotency key.
    pub key: Option<String>,
    /// Created before this moment: milliseconds since the Unix epoch.
    pub before_ms: Option<i64>,
    /// At most this many.
    pub limit: usize,
}

/// Which approvals are wanted, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TicketFilter {
    /// Of this organisation; every one if absent, which only the gateway itself may ask.
    pub tenant: Option<String>,
    /// In this state, as written down: one whose time has passed may still be written as pending.
    pub state: Option<approval::State>,
    /// Asked for by this user.
    pub requester: Option<String>,
    /// Asked for before this moment: milliseconds since the Unix epoch.
    pub before_ms: Option<i64>,
    /// At most this many.
    pub limit: usize,
}

/// Remembers every write, so that it happens once. Shared by replicas, or alone in this process.
///
/// What a method says it did is durable when it returns. The steps themselves are those of
/// [`Execution`], made inside one transaction and by the ledger's own clock.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The name of this ledger, the same for every replica and start: `aud` of approvals for it.
    fn name(&self) -> &str;

    /// The ledger's clock: milliseconds since the Unix epoch. A claim is judged by it.
    async fn now_ms(&self) -> Result<i64, LedgerFault>;

    /// The write under an execution id, if there is one.
    async fn find(&self, execution_id: &str) -> Result<Option<Execution>, LedgerFault>;

    /// Takes the write to send it, and with it the approval that it uses, both or neither.
    ///
    /// `ticket` is an approval that LoopIQ issued itself: it is stored in the same transaction
    /// unless one of its id is there, so that it is used once.
    async fn claim(&self, plan: &Plan, ticket: Option<&Ticket>, lease_ms: i64) -> Result<Claim, LedgerFault>;

    /// Gives a claim back because no byte has left. False: somebody else has it by now.
    async fn release(&self, execution_id: &str, fence: i64) -> Result<bool, LedgerFault>;

    /// Notes what became of a claim, and of the approval with it. False: somebody else has it by now.
    ///
    /// Tries until it is stored or the claim's lease has run out.
    async fn settle(&self, execution_id: &str, fence: i64, settlement: &Settlement) -> Result<bool, LedgerFault>;

    /// Takes up to `limit` writes whose owners have not been heard of; no two replicas get the same.
    async fn take_over(&self, lease_ms: i64, limit: usize) -> Result<Vec<Execution>, LedgerFault>;

    /// Lists writes, without their answers' bodies.
    async fn writes(&self, filter: &WriteFilter) -> Result<Vec<Execution>, LedgerFault>;

    /// A person says what became of an unknown write.
    async fn resolve(
        &self,
        execution_id: &str,
        opinion: &Opinion,
    ) -> Result<Result<Execution, ResolveFault>, LedgerFault>;

    /// Drops the bodies of answers that became known before a moment; the writes stay. Says how many.
    async fn prune(&self, before_ms: i64) -> Result<u64, LedgerFault>;

    /// A secret that all replicas share: the one stored under `name`, or `fresh`, stored now.
    async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], LedgerFault>;

    /// Whether it works, for readiness and `doctor`.
    async fn probe(&self) -> Result<(), LedgerFault>;
}

/// What a claim came to, with the approval that it would use.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// Of the write.
    Write(Claimed),
    /// The approval cannot be used; nothing was claimed.
    Approval(approval::Unusable),
}

/// Keeps the approvals, in the same store as the [`Ledger`].
#[async_trait]
pub trait Approvals: Send + Sync {
    /// Stores a new ticket; or gives the one that already asks the same and is pending or unused.
    async fn ask(&self, ticket: &Ticket) -> Result<Ticket, LedgerFault>;

    /// The ticket of that id.
    async fn ticket(&self, id: &str) -> Result<Option<Ticket>, LedgerFault>;

    /// Counts a vote: the ticket as it stands after it.
    async fn vote(&self, id: &str, ballot: &Ballot) -> Result<Result<Ticket, VoteFault>, LedgerFault>;

    /// Takes a ticket back before it is used.
    async fn take_back(
        &self,
        id: &str,
        by: &Person,
        ground: Ground,
        reason: &str,
    ) -> Result<Result<Ticket, VoteFault>, LedgerFault>;

    /// Writes down that time has run out, for up to `limit` tickets; each is told of once.
    async fn expire(&self, limit: usize) -> Result<Vec<Ticket>, LedgerFault>;

    /// Lists tickets.
    async fn tickets(&self, filter: &TicketFilter) -> Result<Vec<Ticket>, LedgerFault>;
}

/// What the same caller did earlier in the same workflow. Forgetting is safe: policies only grant by it.
pub trait Facts: Send + Sync {
    /// Earlier calls, oldest first.
    fn recall(&self, tenant: &str, caller: &Principal, workflow: &str) -> Vec<EarlierCall>;

    /// One more.
    fn note(&self, tenant: &str, caller: &Principal, workflow: &str, call: EarlierCall);
}

/// The place of a record among all: by time, then by its place in the journal of its writer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The writer.
    pub writer: String,
    /// Its boot.
    pub epoch: u64,
    /// The number within.
    pub seq: u64,
}

/// Which records are wanted, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Of this organisation.
    pub tenant: String,
    /// Of this user.
    pub user: Option<String>,
    /// Of this tool.
    pub tool: Option<String>,
    /// At this stage, or at one under it.
    pub stage: Option<String>,
    /// Of this moment or later: milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Before this moment.
    pub until_ms: Option<i64>,
    /// Before this place.
    pub before: Option<Mark>,
    /// At most this many.
    pub limit: usize,
}

/// Records that were found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordPage {
    /// The records as they were written.
    pub items: Vec<Value>,
    /// Where to go on, when there may be more.
    pub next: Option<Mark>,
}

/// The journal cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be read: {0}")]
pub struct RecordsFault(pub String);

/// Reads the journal back, as far as it lies on this machine.
#[async_trait]
pub trait Records: Send + Sync {
    /// The latest records that fit.
    async fn records(&self, filter: &RecordFilter) -> Result<RecordPage, RecordsFault>;

    /// The records of one organisation that tell of the action going by this id, oldest first; with
    /// the place of the first that was left out, when there are too many.
    async fn story(&self, tenant: &str, id: &str) -> Result<RecordPage, RecordsFault>;
}
