//! What a verifier found, in words that name the place and numbers that a script can act on.
//!
//! Promises: one kind, one exit code. Never decides anything. Made by `verify`, shown by `cli::audit`.

use serde::Serialize;

/// What kind of fault it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A record is not as it was written, or stands where it was not written.
    Altered,
    /// A record that was written is not there.
    Missing,
    /// A checkpoint was not signed by a key that was given.
    BadSignature,
    /// More records than may be are covered by no checkpoint of their epoch.
    Unsigned,
}

impl Kind {
    /// Exit code of `loopgate audit verify`.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Altered => 1,
            Self::Missing => 2,
            Self::BadSignature => 3,
            Self::Unsigned => 4,
        }
    }
}

/// One fault, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of fault.
    pub kind: Kind,
    /// Whose journal.
    pub writer: String,
    /// The file it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// The line in that file, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The epoch.
    pub epoch: u64,
    /// The record in that epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The request that the record is of, as far as it can be made out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What does not fit.
    pub what: String,
}

/// What was found in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Records read.
    pub records: u64,
    /// Records at the end of the last epoch that none of its checkpoints covers yet.
    pub unsigned: u64,
    /// Records at the end of earlier epochs that these never signed: what crashes left, within the limit.
    pub unsigned_before: u64,
    /// Epochs read.
    pub epochs: u64,
    /// Checkpoints that the records bear out.
    pub checkpoints: u64,
    /// Bytes at the very end that are no whole line: never acknowledged to anyone.
    pub torn_bytes: u64,
}
