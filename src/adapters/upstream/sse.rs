//! Server-sent events, read from bytes as they come.
//!
//! Promises: the three line ends and characters cut in two are read as WHATWG says; an event or a line
//! larger than allowed is a fault as soon as it is, not when it ends. Knows nothing of MCP. Called by
//! [`super::hear`].

/// What the reader keeps of a stream besides its events.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// The id of the last event, from where a broken stream may be taken up.
    pub(super) last_id: Option<String>,
    /// How long the server wants its clients to wait before they do so, in milliseconds.
    pub(super) retry_ms: Option<u64>,
}

/// A stream that cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SseFault {
    /// A line or an event is too large.
    #[error("an event of more than {0} bytes")]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("an event that is not UTF-8")]
    NotText,
}

/// Longest id that is sent back to a server.
const ID_BYTES_MAX: usize = 1024;

/// The reader.
#[derive(Debug)]
pub(super) struct Events {
    bytes_max: usize,
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    named: bool,
    after_cr: bool,
    started: bool,
    mark: Mark,
}

impl Events {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            data: None,
            named: false,
            after_cr: false,
            started: false,
            mark: Mark::default(),
        }
    }

    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// The data of the messages that end within `bytes`. Events of other names, and empty ones, are passed over.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, SseFault> {
        let mut events = Vec::new();
        for &byte in bytes {
            let lone_lf_of_crlf = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            if lone_lf_of_crlf {
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_of_line(&line)?);
            } else if self.line.len() + self.data.as_ref().map_or(0, Vec::len) >= self.bytes_max {
                return Err(SseFault::TooLarge(self.bytes_max));
            } else {
                self.line.push(byte);
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self, line: &[u8]) -> Result<Option<Vec<u8>>, SseFault> {
        let line = if self.started { line } else { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            let named = std::mem::take(&mut self.named);
            return Ok(self.data.take().filter(|data| !named && !data.is_empty()));
        }
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let field = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        self.field(field, std::str::from_utf8(value).map_err(|_| SseFault::NotText)?)?;
        Ok(None)
    }

    fn field(&mut self, field: &[u8], value: &str) -> Result<(), SseFault> {
        match field {
            b"data" => {
                let bytes_max = self.bytes_max;
                if let Some(data) = &mut self.data {
                    data.push(b'\n');
                }
                let data = self.data.get_or_insert_default();
                if data.len() + value.len() > bytes_max {
                    return Err(SseFault::TooLarge(bytes_max));
                }
                data.extend_from_slice(value.as_bytes());
            }
            b"event" => self.named = value != "message" && !value.is_empty(),
            // WHY: it goes back in a header, and a NUL voids it.
            b"id" if value.len() <= ID_BYTES_MAX && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                self.mark.last_id = (!value.is_empty()).then(|| value.to_owned());
            }
            b"retry" => self.mark.retry_ms = value.parse().ok().or(self.mark.retry_ms),
            // A comment, or what nobody knows.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&[u8]]) -> Result<Vec<String>, SseFault> {
        let mut events = Events::new(64);
        let mut found = Vec::new();
        for part in parts {
            found.extend(events.feed(part)?.into_iter().map(|data| String::from_utf8(data).unwrap()));
        }
        Ok(found)
    }

    #[test]
    fn each_line_end_ends_a_line_and_none_ends_two() {
        for text in ["data: a\n\ndata: b\n\n", "data: a\r\rdata: b\r\r", "data: a\r\n\r\ndata: b\r\n\r\n"] {
            assert_eq!(read(&[text.as_bytes()]).unwrap(), ["a", "b"], "{text:?}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes).unwrap(), ["a", "b"], "{text:?} byte by byte");
        }
    }

    #[test]
    fn a_character_cut_in_two_is_one_character() {
        assert_eq!(read(&["data: \u{20ac}".as_bytes().split_at(8).0, b"\xac\n\n"]).unwrap(), ["\u{20ac}"]);
        assert_eq!(read(&[b"data: \xff\n\n"]), Err(SseFault::NotText));
    }

    #[test]
    fn data_lines_are_one_event_and_what_is_no_message_is_none() {
        assert_eq!(read(&[b"\xef\xbb\xbfdata:a\ndata: b\n\n"]).unwrap(), ["a\nb"]);
        assert_eq!(
            read(&[b": ping\n\nevent: endpoint\ndata: x\n\nid: 1\ndata:\n\nevent: message\ndata: y\n\n"]).unwrap(),
            ["y"]
        );
        assert_eq!(read(&[b"data: cut off\n"]).unwrap(), Vec::<String>::new(), "an event without its end is none");
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_ends() {
        assert_eq!(read(&[&[b'd'; 65]]), Err(SseFault::TooLarge(64)));
        let lines = b"data: 0123456789\n".repeat(8);
        assert_eq!(read(&[&lines]), Err(SseFault::TooLarge(64)));
    }

    #[test]
    fn the_place_to_take_up_a_stream_is_kept_as_long_as_a_header_can_carry_it() {
        let mut events = Events::new(64);
        events.feed(b"id: a:1\nretry: 50\ndata: x\n\nid: b\r\nid: c d\nretry: soon\n\n").unwrap();
        assert_eq!(events.mark(), &Mark { last_id: Some("b".into()), retry_ms: Some(50) });
    }
}
