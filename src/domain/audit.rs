//! What is written down about a call, and how anyone can tell later that nothing was changed.
//!
//! Promises: a record carries what users were promised (who, for which tenant, what, under which
//! policy, with what result) and no credential; each line is bound to the one before it, and a
//! signed checkpoint binds all of them; [`verify`] names the first record that does not fit.
//! Never opens a file, reads a clock or draws a random number. Called by `pep` (records),
//! `adapters::journal` (lines, checkpoints) and `cli::audit` (verification).

pub mod redaction;
pub mod record;
mod parts;
mod ocsf;
pub mod chain;
pub mod checkpoint;
pub mod line;
pub mod finding;
pub mod verify;
pub mod entry;
pub mod story;

use std::fmt;
use std::str::FromStr;

/// SHA-256 (hex) of what a record has of a decision's input: its `input_digest`.
#[must_use]
pub fn input_digest(input: &serde_json::Value) -> String {
    ocsf::digest(input)
}

/// Where a record stands: `<writer>/<epoch>/<seq>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditRef {
    /// The journal's writer: one gateway process at a time.
    pub writer: String,
    /// The boot of that writer, counted from 1.
    pub epoch: u64,
    /// The record within that epoch, counted from 0.
    pub seq: u64,
}

impl fmt::Display for AuditRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.writer, self.epoch, self.seq)
    }
}

/// Not `<writer>/<epoch>/<seq>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an audit reference; it looks like `gateway-1/3/1047`")]
pub struct BadRef(pub String);

impl FromStr for AuditRef {
    type Err = BadRef;

    fn from_str(text: &str) -> Result<Self, BadRef> {
        let bad = || BadRef(text.to_owned());
        let mut parts = text.split('/');
        let (Some(writer), Some(epoch), Some(seq), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        if !is_name(writer) {
            return Err(bad());
        }
        let epoch = decimal(epoch).ok_or_else(bad)?;
        let seq = decimal(seq).ok_or_else(bad)?;
        Ok(Self { writer: writer.to_owned(), epoch, seq })
    }
}

/// A number in the one way it is written: no sign, no leading zero.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Whether `text` may name a writer or a deployment: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
///
/// It becomes a directory name, a part of every [`AuditRef`] and, unescaped, of every line.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Why a record is not known to be on disk. What was to be recorded must not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalFault {
    /// Free space is below the low-water mark: writes stop, reads go on.
    #[error(
        "the journal's disk has {free_bytes} bytes left, below the low-water mark of {low_water_bytes}; free space on it"
    )]
    Full {
        /// What is left.
        free_bytes: u64,
        /// What must be left for writes to go on.
        low_water_bytes: u64,
    },
    /// The disk refused a record twice; every append fails until it takes one again.
    #[error("the journal cannot write: {cause}; it tries again every second")]
    Failing {
        /// What the disk said.
        cause: String,
    },
    /// More records wait than the queue holds.
    #[error("the journal's queue is full: {waiting} records wait")]
    Busy {
        /// How many wait.
        waiting: u64,
    },
    /// Not known durable within the deadline. It may still be written.
    #[error("the journal did not make the record durable within {deadline_ms} ms")]
    Slow {
        /// The deadline.
        deadline_ms: u64,
    },
    /// A record larger than a line may be.
    #[error("a record of {bytes} bytes is larger than the journal keeps ({bytes_max})")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The largest size.
        bytes_max: u64,
    },
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
    /// The journal could not be opened.
    #[error("the journal cannot be opened: {what}; {next}")]
    Unusable {
        /// What failed.
        what: String,
        /// What to do.
        next: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_back_as_it_was_written_and_nothing_else_does() {
        let reference = AuditRef { writer: "gateway-1".to_owned(), epoch: 3, seq: 1047 };
        assert_eq!(reference.to_string().parse(), Ok(reference));
        for bad in
            ["", "w", "w/1", "w/1/2/3", "/1/2", "../1/2", "w/01/2", "w/1/+2", "w/-1/2", "w/1/", "w /1/2", ".w/1/2"]
        {
            assert_eq!(bad.parse::<AuditRef>(), Err(BadRef(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_directory_or_its_json_string() {
        for good in ["a", "gateway-1", "eu.west_2"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a\"b", "a b", "a\nb", "ä", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
