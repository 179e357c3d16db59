//! A line of a segment, read back, and the names of the files that lines are in.
//!
//! Promises: what is read is exactly what was hashed; a line whose own fingerprint does not fit is
//! not a [`Line`]. Never trusts a name or a number that it has not checked.
//! Called by `verify`, by the journal when it opens, and by the audit commands.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::domain::audit::chain::{Hash, LINE_END, fingerprint_member, fingerprint_of};
use crate::domain::audit::{AuditRef, decimal, is_name};

/// No line is longer; whoever reads one need not read on.
pub const LINE_BYTES_MAX: u64 = 16 << 20;

/// A line that fits its own fingerprint.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Stage, as written.
    pub stage: Cow<'a, str>,
    /// Request id, when it belongs to a request.
    pub request_id: Option<Cow<'a, str>>,
    /// The writer it names.
    pub writer: Cow<'a, str>,
    /// The epoch it names.
    pub epoch: u64,
    /// The place in the epoch it names.
    pub seq: u64,
    /// The leaf hash it names as the one before it.
    pub prev: Hash,
    /// Its own leaf hash.
    pub leaf: Hash,
    /// Its own fingerprint.
    pub fingerprint: Hash,
    /// What a `recovered` record says.
    pub recovered: Option<Recovered>,
}

/// Why the journal goes on in a new place. Stands under `data` of a `recovered` record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Recovered {
    /// A new epoch: first record of every one of them.
    Start {
        /// The epoch before; 0 when this is the first.
        prev_epoch: u64,
        /// How many records of it were kept.
        prev_size: u64,
        /// The leaf hash of its last record.
        prev_head: String,
        /// Bytes behind that record that were no record and were moved to a `.torn` file.
        bytes_dropped: u64,
    },
    /// The disk failed; the epoch goes on in a new segment.
    DiskFault {
        /// The segment that was given up.
        segment: String,
        /// How many of its bytes count.
        bytes_kept: u64,
        /// What the disk said.
        cause: String,
    },
}

/// Why bytes are no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Not a record of this journal.
    #[error("it cannot be read as a record")]
    Unreadable,
    /// The fingerprint within does not fit.
    #[error("it does not match its own fingerprint")]
    Altered,
}

#[derive(Deserialize)]
struct Shell<'a> {
    time: i64,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    correlation_uid: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Unmapped<'a> {
    #[serde(borrow)]
    loopgate: Own<'a>,
}

#[derive(Deserialize)]
struct Own<'a> {
    #[serde(borrow)]
    stage: Cow<'a, str>,
    #[serde(borrow)]
    chain: Place<'a>,
    #[serde(borrow, default)]
    data: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow)]
    writer: Cow<'a, str>,
    epoch: u64,
    seq: u64,
    #[serde(borrow)]
    prev: Cow<'a, str>,
}

impl<'a> Line<'a> {
    /// Reads a line's exact bytes, without the newline.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        let fingerprint = read_fingerprint(bytes)?;
        let shell: Shell<'a> = serde_json::from_slice(bytes).map_err(|_| Broken::Unreadable)?;
        let own = shell.unmapped.loopgate;
        let prev = Hash::from_hex(&own.chain.prev).ok_or(Broken::Unreadable)?;
        let recovered = match (own.stage.as_ref(), own.data) {
            ("recovered", Some(data)) => Some(serde_json::from_str(data.get()).map_err(|_| Broken::Unreadable)?),
            ("recovered", None) => return Err(Broken::Unreadable),
            _ => None,
        };
        let line = Self {
            time_ms: shell.time,
            stage: own.stage,
            request_id: shell.metadata.correlation_uid,
            writer: own.chain.writer,
            epoch: own.chain.epoch,
            seq: own.chain.seq,
            prev,
            leaf: Hash::leaf(bytes),
            fingerprint,
            recovered,
        };
        if shell.metadata.uid == line.at().to_string() { Ok(line) } else { Err(Broken::Unreadable) }
    }

    /// Where it says that it stands.
    #[must_use]
    pub fn at(&self) -> AuditRef {
        AuditRef { writer: self.writer.clone().into_owned(), epoch: self.epoch, seq: self.seq }
    }
}

/// The fingerprint at the end of a line, once it is known to fit the rest.
fn read_fingerprint(bytes: &[u8]) -> Result<Hash, Broken> {
    let member_bytes = fingerprint_member(Hash::ZERO).len();
    let split = bytes.len().checked_sub(member_bytes + LINE_END.len()).ok_or(Broken::Unreadable)?;
    let (before, after) = bytes.split_at_checked(split).ok_or(Broken::Unreadable)?;
    let fingerprint = fingerprint_of(before);
    let expected = fingerprint_member(fingerprint);
    let fits = after.strip_suffix(LINE_END).is_some_and(|member| member == expected.as_bytes());
    if fits { Ok(fingerprint) } else { Err(Broken::Altered) }
}

/// The request id of a line that may have been altered, as far as it can be made out.
#[must_use]
pub fn request_id_of(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    value.pointer("/metadata/correlation_uid").and_then(serde_json::Value::as_str).map(str::to_owned)
}

/// Name of a segment: `<epoch>-<first>.jsonl`, sorted as the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Epoch of all its records.
    pub epoch: u64,
    /// Place of its first record.
    pub first: u64,
}

impl SegmentName {
    /// Reads a file's name.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        let (epoch, first) = name.strip_suffix(".jsonl")?.split_once('-')?;
        Some(Self { epoch: decimal(epoch)?, first: decimal(first)? })
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}.jsonl", self.epoch, self.first)
    }
}

/// `<deployment>/<writer>/<epoch>`, read back.
#[must_use]
pub fn read_origin(origin: &str) -> Option<(&str, &str, u64)> {
    let mut parts = origin.split('/');
    let (Some(deployment), Some(writer), Some(epoch), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    (is_name(deployment) && is_name(writer)).then_some(())?;
    Some((deployment, writer, decimal(epoch)?))
}
