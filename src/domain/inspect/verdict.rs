//! A backend's status to the gateway's answer.
//!
//! Promises: 2xx passes; 4xx is the backend's no, in its words, cleaned, where they are about the
//! caller's own request; everything else is the backend's failure, whose cause only operators see;
//! redirects are never followed. A write whose outcome nobody knows is never called retryable.
//! Called by [`super::judge`].

use serde_json::Value;

use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::domain::catalog::Tool;
use crate::domain::catalog::text::plain;
use crate::domain::refusal::Code;
use crate::domain::refusal::Reason;
use crate::domain::refusal::Refusal;

/// An error body is small; a longer one is not read.
const LIMITS: Limits = Limits { bytes_max: 64 << 10, depth_max: 16, members_max: 1_000 };
const MESSAGE_CHARS_MAX: usize = 500;
const CODE_BYTES_MAX: usize = 64;
/// Nobody is told to wait longer than an hour.
const RETRY_AFTER_S_MAX: u64 = 3_600;

/// See [`super::judge`].
pub(super) fn judge(tool: &Tool, status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<(), Refusal> {
    match status {
        200..=299 => Ok(()),
        408 if tool.writes() => Err(wait(failed(tool, status, "LoopIQ gave up waiting"), retry_after)),
        401 => Err(failed(tool, status, "LoopIQ refused the gateway's own credential")),
        400..=499 => Err(rejected(status, retry_after, body)),
        300..=399 => Err(failed(tool, status, "LoopIQ redirects, which is never followed")),
        _ => Err(wait(failed(tool, status, "LoopIQ failed"), retry_after)),
    }
}

fn rejected(status: u16, retry_after: Option<&str>, body: &[u8]) -> Refusal {
    let told = canonical::parse(body, &LIMITS).ok();
    let text = |pointer: &str| told.as_ref().and_then(|told| told.pointer(pointer)).and_then(Value::as_str);
    let code = text("/error/code").and_then(proper_code).unwrap_or_else(|| general(status).to_owned());
    let message = text("/error/message").or_else(|| text("/detail")).filter(|_| is_about_the_request(status));
    let message = message
        .map(|text| plain(text, MESSAGE_CHARS_MAX))
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| our_words(status));
    let next = next_step(status);
    let mut refusal = Refusal::of(Code::BackendRejected)
        .with_reasons(vec![Reason::new(&code, message, next)])
        .with("status", status)
        .detail(format!("LoopIQ answered {status} `{code}`"));
    refusal.retryable = matches!(status, 408 | 425 | 429);
    if refusal.retryable { wait(refusal, retry_after) } else { refusal }
}

/// Whether the backend's words are about what the caller sent. WHY: a 403, a 404 and their like speak of
/// records, and may say whose they are.
const fn is_about_the_request(status: u16) -> bool {
    matches!(status, 400 | 409 | 412 | 422)
}

/// INVARIANT: after these statuses a write may have happened.
fn failed(tool: &Tool, status: u16, cause: &str) -> Refusal {
    let refusal =
        Refusal::of(Code::BackendFailed).with("status", status).detail(format!("`{}`: {cause} ({status})", tool.name));
    if !tool.writes() {
        return refusal;
    }
    let next = "it is not known whether the write happened: read the record before sending it again";
    let mut refusal = refusal.then(next);
    refusal.retryable = false;
    refusal
}

/// Adds `retryAfterMs` when the backend says how long to wait in seconds; a date would need a clock.
fn wait(refusal: Refusal, retry_after: Option<&str>) -> Refusal {
    match retry_after.and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(seconds) => refusal.with("retryAfterMs", seconds.min(RETRY_AFTER_S_MAX) * 1_000),
        None => refusal,
    }
}

/// The backend's code if it is one: `[a-z][a-z0-9_]*`, upper case and dashes forgiven.
fn proper_code(text: &str) -> Option<String> {
    let code = text.to_ascii_lowercase().replace(['-', '.', ' '], "_");
    let proper = code.len() <= CODE_BYTES_MAX
        && code.starts_with(|first: char| first.is_ascii_lowercase())
        && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    proper.then_some(code)
}

/// What a status says without the backend's words.
fn our_words(status: u16) -> String {
    match status {
        403 => "LoopIQ does not allow this to you".to_owned(),
        404 | 410 => "LoopIQ has no such record in this tenant".to_owned(),
        413 => "the request is too large for LoopIQ".to_owned(),
        423 => "LoopIQ has locked the record".to_owned(),
        429 => "LoopIQ has had too many requests".to_owned(),
        _ => format!("LoopIQ answered {status}"),
    }
}

fn general(status: u16) -> &'static str {
    match status {
        400 => "invalid_request",
        403 => "forbidden",
        404 => "not_found",
        408 => "request_timeout",
        409 => "conflict",
        410 => "gone",
        412 => "precondition_failed",
        413 => "too_large",
        422 => "unprocessable",
        423 => "locked",
        428 => "precondition_required",
        429 => "rate_limited",
        _ => "rejected",
    }
}

fn next_step(status: u16) -> &'static str {
    match status {
        403 => "ask LoopIQ's administrator for the right to do this",
        404 | 410 => "check the id: search for the record in this tenant",
        409 | 412 | 423 | 428 => "read the record again and base the call on what it says now",
        408 | 425 | 429 => "wait and call again",
        _ => "read the reason and correct the call",
    }
}
