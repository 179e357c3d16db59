//! W3C Trace Context: reading what a client sent and continuing it towards the backend.
//!
//! Promises: only a well-formed `traceparent` is continued, an ill-formed one counts as none; an
//! ill-formed `tracestate` is dropped without harming the trace. Never invents an id: random bytes
//! are arguments. Called by `mcp::controls` and `pep`. Follows W3C Trace Context level 2.

use std::fmt::Write as _;

/// A place in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// 32 lower-case hex digits, not all zero.
    pub trace_id: String,
    /// 16 lower-case hex digits, not all zero: the span that a child hangs on.
    pub parent_id: String,
    /// Flags; bit 0 says sampled.
    pub flags: u8,
    /// Vendor entries, passed on as they are.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// Reads a `traceparent` and its `tracestate`.
    #[must_use]
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // WHY: later versions may append fields, version 00 has none.
        let extended = parts.next().is_some();
        let well_formed =
            hex(version, 2) && version != "ff" && hex(trace_id, 32) && hex(parent_id, 16) && hex(flags, 2);
        if !well_formed || (extended && version == "00") || zero(trace_id) || zero(parent_id) {
            return None;
        }
        Some(Self {
            trace_id: trace_id.to_owned(),
            parent_id: parent_id.to_owned(),
            flags: u8::from_str_radix(flags, 16).ok()?,
            tracestate: tracestate.map(str::trim).filter(|state| is_tracestate(state)).map(str::to_owned),
        })
    }

    /// A trace that begins here. `None` if either id is all zero, which W3C forbids.
    #[must_use]
    pub fn begin(trace_id: [u8; 16], span_id: [u8; 8]) -> Option<Self> {
        let (trace_id, parent_id) = (to_hex(&trace_id), to_hex(&span_id));
        (!zero(&trace_id) && !zero(&parent_id)).then_some(Self { trace_id, parent_id, flags: 1, tracestate: None })
    }

    /// The same trace, one span further down.
    #[must_use]
    pub fn child(&self, span_id: [u8; 8]) -> Self {
        Self { parent_id: to_hex(&span_id), ..self.clone() }
    }

    /// The `traceparent` header, always in version 00.
    #[must_use]
    pub fn traceparent(&self) -> String {
        // WHY: level 2 defines two flag bits; unknown ones must not be passed on.
        format!("00-{}-{}-{:02x}", self.trace_id, self.parent_id, self.flags & 0b11)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // INVARIANT: writing to a `String` cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

fn hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn zero(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'0')
}

/// At most 32 `key=value` members and 512 bytes, all of them printable.
fn is_tracestate(state: &str) -> bool {
    let members: Vec<&str> = state.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
    !members.is_empty()
        && members.len() <= 32
        && state.len() <= 512
        && state.bytes().all(|byte| matches!(byte, 0x20..=0x7e | b'\t'))
        && members.iter().all(|member| {
            member.split_once('=').is_some_and(|(key, value)| {
                !key.is_empty()
                    && key.len() <= 256
                    && key
                        .bytes()
                        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'))
                    && !value.is_empty()
                    && value.len() <= 256
                    && !value.contains('=')
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_clients_trace_is_continued_with_a_span_of_ours() {
        let trace = TraceContext::read(PARENT, Some("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE")).unwrap();
        let child = trace.child([0xab; 8]);
        assert_eq!(child.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-01");
        assert_eq!(child.tracestate.as_deref(), Some("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"));
    }

    #[test]
    fn an_ill_formed_traceparent_counts_as_none() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Evil: 1",
        ] {
            assert_eq!(TraceContext::read(bad, None), None, "{bad}");
        }
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings";
        assert_eq!(TraceContext::read(later, None).unwrap().traceparent(), PARENT);
    }

    #[test]
    fn an_ill_formed_tracestate_is_dropped_and_the_trace_kept() {
        let long = format!("a={}", "x".repeat(600));
        for bad in ["", "novalue", "a=b=c", "A=b", "a=b\r\nX-Evil: 1", "=x", "a=", long.as_str()] {
            assert_eq!(TraceContext::read(PARENT, Some(bad)).unwrap().tracestate, None, "{bad}");
        }
    }

    #[test]
    fn a_trace_never_begins_with_a_zero_id() {
        assert_eq!(TraceContext::begin([0; 16], [1; 8]), None);
        assert_eq!(TraceContext::begin([1; 16], [0; 8]), None);
        assert!(TraceContext::begin([1; 16], [1; 8]).is_some());
    }
}
