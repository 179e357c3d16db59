//! The journal: what people may read back of it.
//!
//! Promises: only records of the reader's own organisation, and only for roles that may read it; to
//! others the journal answers as a place that is closed to them, whatever they ask for; reading it
//! is recorded. Called by `adapters::admin`.

use serde_json::Value;
use serde_json::json;

use super::Declined;
use super::Desk;
use super::Errand;
use super::Kind;
use super::Visit;
use crate::pep::ports::Mark;
use crate::pep::ports::RecordFilter;
use crate::pep::ports::RecordsFault;

/// Records per page.
const PAGE_MAX: usize = 200;

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct RecordQuery {
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
    /// Older than this place.
    pub before: Option<Mark>,
    /// At most this many.
    pub limit: usize,
}

impl Desk {
    /// The latest records of the organisation that fit.
    pub async fn list_records(&self, visit: &Visit, query: RecordQuery) -> Result<Value, Declined> {
        let errand = self.admit(visit, "audit.list").await?;
        let outcome = self.listed_records(&errand, query).await;
        self.close(errand, outcome).await
    }

    async fn listed_records(&self, errand: &Errand, query: RecordQuery) -> Result<Value, Declined> {
        self.reads_journal(errand)?;
        let filter = RecordFilter {
            tenant: errand.tenant.as_str().to_owned(),
            user: query.user,
            tool: query.tool,
            stage: query.stage,
            since_ms: query.since_ms,
            until_ms: query.until_ms,
            before: query.before,
            limit: query.limit.clamp(1, PAGE_MAX),
        };
        let page = self.records.records(&filter).await?;
        let next = page.next.map(|mark| format!("{}.{}.{}.{}", mark.time_ms, mark.epoch, mark.seq, mark.writer));
        Ok(json!({"items": page.items, "next": next}))
    }

    /// Every record of the action that goes by an id, in order.
    pub async fn show_records(&self, visit: &Visit, id: &str) -> Result<Value, Declined> {
        let mut errand = self.admit(visit, "audit.show").await?;
        errand.names(id);
        let outcome = self.shown_records(&errand, id).await;
        self.close(errand, outcome).await
    }

    async fn shown_records(&self, errand: &Errand, id: &str) -> Result<Value, Declined> {
        self.reads_journal(errand)?;
        let page = self.records.story(errand.tenant.as_str(), id).await?;
        if page.items.is_empty() {
            return Err(Declined::no_record());
        }
        Ok(json!({"items": page.items, "truncated": page.next.is_some()}))
    }

    fn reads_journal(&self, errand: &Errand) -> Result<(), Declined> {
        let may = errand.holds(&self.settings.read) || errand.holds(&self.settings.settle);
        if may { Ok(()) } else { Err(Declined::role("reading the journal", &self.settings.read)) }
    }
}

impl RecordQuery {
    /// Reads a cursor that an earlier page gave.
    #[must_use]
    pub fn cursor(text: &str) -> Option<Mark> {
        let mut parts = text.splitn(4, '.');
        let (time_ms, epoch, seq, writer) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Mark {
            time_ms: time_ms.parse().ok()?,
            writer: writer.to_owned(),
            epoch: epoch.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }
}

impl From<RecordsFault> for Declined {
    fn from(fault: RecordsFault) -> Self {
        // WHY: the cause names files, which are the operators' and stand in the log.
        tracing::error!("{fault}");
        let message = "the journal cannot be read at the moment";
        Self::of(Kind::Unavailable, "audit_unavailable", message, "try again later; an operator has been told")
    }
}
