//! A request head is read in one way only, or refused.
//!
//! Promises: whatever passes has one length, one host, one credential, one path, one method and
//! standard line ends, so that no proxy in front can have seen another request in the same bytes.
//! Pingora itself accepts and repairs more than twenty such forms. Never repairs. Called by
//! `adapters::door`, for HTTP/1 and HTTP/2, and by the fuzzer. Follows RFC 9112 sections 2.2, 3.2, 6.1 and 6.3 and
//! RFC 9113 section 8, stricter where they leave a choice.

use http::HeaderMap;
use pingora::http::RequestHeader;

use crate::domain::refusal::Fault;

/// More headers than any known client sends, fewer than hurt.
const HEADERS_MAX: usize = 100;
/// Headers that may stand once.
const SINGLE: [&str; 5] = ["host", "content-length", "transfer-encoding", "authorization", "expect"];
/// Headers by which some servers take one method for another.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// Headers that belong to one connection of HTTP/1 and have no place in HTTP/2.
const OF_HTTP1: [&str; 5] = ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"];
/// What a connection header may name; anything else asks proxies to drop a header on the way.
const CONNECTION_OPTIONS: [&str; 7] = ["close", "keep-alive", "te", "trailer", "trailers", "upgrade", "http2-settings"];

/// What the head says about the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// Declared length of the body.
    pub content_length: Option<u64>,
    /// Whether the body comes in chunks.
    pub chunked: bool,
    /// Whether the client waits for a word before it sends the body.
    pub expects_continue: bool,
    /// Whether another protocol was offered, which is not taken up.
    pub upgrade: bool,
}

/// Reads the framing out of the raw head, up to and including the empty line.
pub fn read(raw: &[u8], head_bytes_max: usize) -> Result<Framing, Fault> {
    if raw.len() > head_bytes_max {
        return Err(too_long());
    }
    let text = std::str::from_utf8(raw).ok();
    let latin: String;
    let text = if let Some(text) = text {
        text
    } else {
        // Header values may be any bytes; only ASCII matters here, and Latin-1 keeps each byte one character.
        latin = raw.iter().copied().map(char::from).collect();
        &latin
    };
    let mut lines = lines(text)?;
    let request_line = lines.next().ok_or_else(|| malformed("the request line is missing"))?;
    let line = read_request_line(request_line)?;
    let mut fields = Fields::default();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header has a colon"))?;
        fields.take(name, value)?;
    }
    if line.authority.is_some_and(|named| !fields.host().is_some_and(|host| host.eq_ignore_ascii_case(named))) {
        return Err(malformed("the target and `Host` name two servers"));
    }
    let framing = fields.framing(line.is_http_11)?;
    // WHY: many servers do not read the body of a GET and take it for the next request.
    let has_body = framing.chunked || framing.content_length.is_some_and(|length| length > 0);
    if has_body && matches!(line.method, "GET" | "HEAD") {
        return Err(malformed("a GET has no body"));
    }
    Ok(framing)
}

/// Reads the framing of an HTTP/2 request; the frames themselves are the protocol's.
pub(super) fn read_http2(request: &RequestHeader) -> Result<Framing, Fault> {
    check_method(request.method.as_str())?;
    let target = std::str::from_utf8(request.raw_path()).map_err(|_| malformed("the path is in printable ASCII"))?;
    check_target(target)?;
    if !target.starts_with('/') && (target, request.method.as_str()) != ("*", "OPTIONS") {
        return Err(malformed("`:path` is a path"));
    }
    let mut fields = Fields::default();
    for (name, value) in &request.headers {
        if OF_HTTP1.contains(&name.as_str()) {
            return Err(malformed("a header of HTTP/1 connections has no place in HTTP/2"));
        }
        fields.take(name.as_str(), &String::from_utf8_lossy(value.as_bytes()))?;
    }
    let authority = request.uri.authority().map(http::uri::Authority::as_str);
    match (authority, fields.host()) {
        (Some(authority), Some(host)) if authority != host => {
            return Err(malformed("`:authority` and `Host` name two servers"));
        }
        (Some(authority), None) => fields.take("host", authority)?,
        _ => {}
    }
    fields.framing(true)
}

/// The server that an HTTP/2 request names, as its `Host` would.
pub(super) fn authority(request: &RequestHeader) -> Option<&str> {
    let named = |headers: &HeaderMap| headers.contains_key(http::header::HOST);
    request.uri.authority().map(http::uri::Authority::as_str).filter(|_| !named(&request.headers))
}

/// The answer to a head that is longer than this server reads.
pub(super) fn too_long() -> Fault {
    Fault::new(431, -32600, "the request line and headers are too long; send less")
}

/// The answer to bytes that are not an HTTP request.
pub(super) fn malformed(what: &str) -> Fault {
    Fault::new(400, -32600, format!("not a well-formed HTTP request: {what}"))
}

/// Lines without their ends, up to the empty one. Leading empty lines are left over from bodies.
fn lines(text: &str) -> Result<impl Iterator<Item = &str>, Fault> {
    let text = text.trim_start_matches("\r\n");
    let head = text.strip_suffix("\r\n\r\n").ok_or_else(|| malformed("lines must end with CR LF"))?;
    if head.split("\r\n").any(|line| line.contains(['\r', '\n'])) {
        return Err(malformed("lines must end with CR LF"));
    }
    Ok(head.split("\r\n"))
}

/// A request line in its parts.
struct RequestLine<'a> {
    method: &'a str,
    /// The server that an absolute target names.
    authority: Option<&'a str>,
    is_http_11: bool,
}

fn read_request_line(line: &str) -> Result<RequestLine<'_>, Fault> {
    let mut parts = line.split(' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, parts.next()) else {
        return Err(malformed("the request line has three parts"));
    };
    check_method(method)?;
    let absolute = ["http://", "https://"]
        .iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)))
        .and_then(|scheme| target.get(scheme.len()..));
    let (authority, path) = match absolute {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), path)
        }
        None => (None, target),
    };
    check_target(path)?;
    if !(path.starts_with('/') || path.is_empty() && authority.is_some() || (path, method) == ("*", "OPTIONS")) {
        return Err(malformed("the target is a path in printable ASCII"));
    }
    match version {
        "HTTP/1.1" => Ok(RequestLine { method, authority, is_http_11: true }),
        "HTTP/1.0" => Ok(RequestLine { method, authority, is_http_11: false }),
        _ => Err(malformed("the version is HTTP/1.1")),
    }
}

fn check_method(method: &str) -> Result<(), Fault> {
    let good = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    good.then_some(()).ok_or_else(|| malformed("the method is in capitals"))
}

/// WHY so strict: nothing here needs escapes, dots or empty segments, and proxies read them in many ways.
fn check_target(target: &str) -> Result<(), Fault> {
    if !target.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) || target.contains('#') {
        return Err(malformed("the target is a path in printable ASCII"));
    }
    let path = target.split('?').next().unwrap_or_default();
    if path.contains("//") || path.contains(['%', '\\', ';']) || path.split('/').any(|part| part == "." || part == "..")
    {
        return Err(malformed("a path is written in one way: no `%`, `;`, `\\`, `//`, `/./` or `/../`"));
    }
    Ok(())
}

/// Header fields that matter to framing.
#[derive(Default)]
struct Fields {
    count: usize,
    upgrade: bool,
    single: [Option<String>; SINGLE.len()],
}

impl Fields {
    fn take(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        self.count += 1;
        if self.count > HEADERS_MAX {
            return Err(too_long());
        }
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(malformed("a header name is a token"));
        }
        let name = name.to_ascii_lowercase();
        let value = value.trim_matches([' ', '\t']);
        if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
            return Err(malformed("a header value has no control characters"));
        }
        // WHY: some servers take `Content_Length` for `Content-Length`; nobody sends one by accident.
        let squeezed = |name: &str| name.replace(['-', '_'], "");
        if SINGLE.iter().any(|single| *single != name && squeezed(single) == squeezed(&name)) {
            return Err(malformed("a framing header is misspelt"));
        }
        if OVERRIDES.iter().any(|other| squeezed(other) == squeezed(&name)) {
            return Err(malformed("the method stands in the request line alone"));
        }
        if name == "connection" {
            return check_connection(value);
        }
        self.upgrade |= name == "upgrade";
        let slot = SINGLE.iter().zip(&mut self.single).find(|(single, _)| **single == name).map(|(_, slot)| slot);
        match slot {
            Some(Some(_)) => Err(malformed(&format!("`{name}` stands twice"))),
            Some(slot) => {
                *slot = Some(value.to_owned());
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn host(&self) -> Option<&str> {
        let [host, ..] = &self.single;
        host.as_deref()
    }

    fn framing(self, is_http_11: bool) -> Result<Framing, Fault> {
        let [host, content_length, transfer_encoding, _authorization, expect] = self.single;
        match host {
            Some(host) if !host.is_empty() && host.bytes().all(is_authority) => {}
            None if !is_http_11 => {}
            _ => return Err(malformed("`Host` names this server once")),
        }
        if content_length.is_some() && transfer_encoding.is_some() {
            return Err(malformed("`Content-Length` and `Transfer-Encoding` exclude each other"));
        }
        let content_length = content_length.map(|length| read_length(&length)).transpose()?;
        let chunked = match transfer_encoding {
            None => false,
            Some(coding) if is_http_11 && coding.eq_ignore_ascii_case("chunked") => true,
            Some(_) => return Err(malformed("the only `Transfer-Encoding` is `chunked`, in HTTP/1.1")),
        };
        let expects_continue = match expect {
            None => false,
            Some(what) if what.eq_ignore_ascii_case("100-continue") => is_http_11,
            Some(_) => return Err(Fault::new(417, -32600, "the only expectation met here is `100-continue`")),
        };
        Ok(Framing { content_length, chunked, expects_continue, upgrade: self.upgrade })
    }
}

fn check_connection(value: &str) -> Result<(), Fault> {
    let known = |option: &str| CONNECTION_OPTIONS.iter().any(|known| known.eq_ignore_ascii_case(option.trim()));
    if value.split(',').all(|option| option.trim().is_empty() || known(option)) {
        Ok(())
    } else {
        Err(malformed("`Connection` must not name other headers"))
    }
}

fn read_length(text: &str) -> Result<u64, Fault> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| malformed("`Content-Length` is one number"))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> u16 {
        match read(head.as_bytes(), 32 << 10) {
            Ok(_) => 200,
            Err(fault) => fault.status,
        }
    }

    #[test]
    fn ordinary_heads_pass() {
        for (head, framing) in [
            ("POST /mcp HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\n", (Some(5), false, false)),
            (
                "POST / HTTP/1.1\r\nhost: [::1]:80\r\nTransfer-Encoding: Chunked\r\nConnection: TE, close\r\n\r\n",
                (None, true, false),
            ),
            (
                "\r\nPOST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 0\r\n\r\n",
                (Some(0), false, true),
            ),
            (
                "GET http://a/x?y HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
                (None, false, false),
            ),
            ("GET / HTTP/1.0\r\n\r\n", (None, false, false)),
        ] {
            let read = read(head.as_bytes(), 32 << 10).expect(head);
            assert_eq!((read.content_length, read.chunked, read.expects_continue), framing, "{head}");
        }
        assert!(read(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\r\n\r\n", 99).is_ok());
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let with = |headers: &str| format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content_Length: 5\r\n",
            "Transfer___Encoding: chunked\r\n",
            "Transfer---Encoding: chunked\r\n",
            "ContentLength: 5\r\n",
            "Transfer_Encoding: chunked\r\n",
            "Transfer-Encoding: identity, chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
            "X: a\nContent-Length: 5\r\n",
            "X: a\rContent-Length: 5\r\n",
            "X : a\r\n",
            " X: a\r\n",
            "X\r\n",
            ": a\r\n",
            "Authorization: a\r\nAuthorization: b\r\n",
            "Host: b\r\n",
            "Connection: X-LoopIQ-Tenant\r\n",
            "Connection: close, authorization\r\n",
            "X-HTTP-Method-Override: DELETE\r\n",
            "X_Http_Method: DELETE\r\n",
            "X: a\u{b}b\r\n",
            "X: a\u{7f}\r\n",
        ] {
            assert_eq!(status(&with(headers)), 400, "{headers:?}");
        }
        for head in [
            "POST /mcp HTTP/1.1\r\n\r\n",
            "GET /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
            "HEAD /mcp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost:\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a/evil\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a%20b\r\n\r\n",
            "POST http://b/mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://a:80/mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://a@b/mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http:///mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST //mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /a/../mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /./mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /%6dcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /a%2fmcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /a\\mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /mcp;a=b HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST * HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST ?a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a b\r\n\r\n",
            "POST  /mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /mcp HTTP/1.1 \r\nHost: a\r\n\r\n",
            "post /mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /mcp HTTP/1.2\r\nHost: a\r\n\r\n",
            "POST /mcp HTTP/1.1\nHost: a\n\n",
            "POST /mcp HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "",
            "\r\n\r\n",
        ] {
            assert_eq!(status(head), 400, "{head:?}");
        }
        assert_eq!(status(&with("Expect: 200-ok\r\n")), 417);
    }

    #[test]
    fn a_head_has_a_size_and_a_number_of_headers() {
        let head = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert_eq!(status(&head(99)), 200);
        assert_eq!(status(&head(100)), 431);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(32 << 10))), 431);
    }
}
