//! One record as the audit commands look at it.
//!
//! Promises: every name of the file format that `query` and `show` need stands here; what is
//! printed has no control, direction or hidden characters, whatever a client put in. Never fails: what is absent is empty.

use std::fmt::Write;

use serde_json::Value;

use super::Stop;
use crate::adapters::journal::read::{self, Piece};
use crate::domain::catalog::text::is_hidden;

/// A record.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) value: Value,
    /// The line itself, as JSON for a terminal.
    pub(super) raw: String,
}

impl Row {
    fn read(line: &[u8]) -> Option<Self> {
        let value = serde_json::from_slice(line).ok()?;
        Some(Self { value, raw: plain_json(std::str::from_utf8(line).ok()?) })
    }

    pub(super) fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }

    pub(super) fn text(&self, pointer: &str) -> &str {
        self.at(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn own(&self, name: &str) -> &str {
        self.at("/unmapped/loopgate").and_then(|own| own.get(name)).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn time_ms(&self) -> i64 {
        self.at("/time").and_then(Value::as_i64).unwrap_or_default()
    }

    pub(super) fn seq(&self) -> (u64, u64) {
        let number = |name: &str| self.at(name).and_then(Value::as_u64).unwrap_or_default();
        (number("/unmapped/loopgate/chain/epoch"), number("/unmapped/loopgate/chain/seq"))
    }

    pub(super) fn reference(&self) -> &str {
        self.text("/metadata/uid")
    }

    pub(super) fn stage(&self) -> &str {
        self.own("stage")
    }

    pub(super) fn tenant(&self) -> &str {
        self.text("/actor/user/org/uid")
    }

    pub(super) fn user(&self) -> &str {
        self.text("/actor/user/uid")
    }

    pub(super) fn tool(&self) -> &str {
        self.own("tool")
    }

    pub(super) fn method(&self) -> &str {
        self.text("/api/operation")
    }

    pub(super) fn code(&self) -> &str {
        self.text("/unmapped/loopgate/refusal/code")
    }

    pub(super) fn request_id(&self) -> &str {
        self.text("/api/request/uid")
    }

    pub(super) fn trace_id(&self) -> &str {
        self.text("/trace/uid")
    }

    pub(super) fn decisions(&self) -> &[Value] {
        self.at("/unmapped/loopgate/decisions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Whether one of its ids is this one.
    pub(super) fn goes_by(&self, id: &str) -> bool {
        self.request_id() == id
            || self.trace_id() == id
            || ["approval_id", "execution_id", "idempotency_key"].iter().any(|name| self.own(name) == id)
            || self.decisions().iter().any(|decision| decision.get("id").and_then(Value::as_str) == Some(id))
    }

    /// What came of it, in a word or two.
    pub(super) fn result(&self) -> String {
        if !self.code().is_empty() {
            return self.code().to_owned();
        }
        let outcome = self.text("/unmapped/loopgate/execution/outcome");
        let status = self.at("/unmapped/loopgate/execution/backend_status").and_then(Value::as_u64);
        match (outcome, status) {
            ("", _) => self.decisions().last().map_or_else(String::new, |decision| {
                decision.get("outcome").and_then(Value::as_str).unwrap_or_default().to_owned()
            }),
            (outcome, Some(status)) => format!("{outcome} {status}"),
            (outcome, None) => outcome.to_owned(),
        }
    }
}

/// Reads every record under a directory, writer by writer, in order.
pub(super) fn each(dir: &std::path::Path, mut take: impl FnMut(Row)) -> Result<(), Stop> {
    let series = read::series(dir).map_err(|error| Stop::file(dir, error))?;
    if series.is_empty() {
        return Err(Stop::Usage(format!("there is no journal in {}", dir.display())));
    }
    for writer in &series {
        for (index, segment) in writer.segments.iter().enumerate() {
            let next = writer.segments.get(index + 1).filter(|next| next.epoch == segment.epoch).map(|next| next.first);
            read::lines(writer, *segment, |piece| {
                if let Piece::Line(line) = piece
                    && let Some(row) = Row::read(line)
                    // What the next segment starts over with does not count here.
                    && next.is_none_or(|next| row.seq().1 < next)
                {
                    take(row);
                }
                Ok::<(), Stop>(())
            })
            .map_err(|error| Stop::file(&writer.dir, error))??;
        }
    }
    Ok(())
}

/// Text for a terminal: one line, nothing that hides, reorders or is obeyed.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// JSON for a terminal: the same value, with everything hidden in it escaped.
pub(super) fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Valid JSON has these between its members only; within a string they are escaped already.
            '\t' | '\r' | '\n' => plain.push(' '),
            c if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // WHY: writing to a `String` cannot fail.
                    let _infallible = write!(plain, "\\u{unit:04x}");
                }
            }
            c => plain.push(c),
        }
    }
    plain
}

/// Milliseconds since the Unix epoch as RFC 3339.
pub(super) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}
