//! Good answers made bad, as a fault asks.
//!
//! Promises: the effect behind the answer is untouched; only the bytes that go back change.
//! Called by `sandbox::door` when a fault strikes.

use std::io;

use axum::body::Body;
use axum::body::Bytes;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream;
use http::HeaderValue;
use http::header;
use serde_json::Value;

use super::faults::Fault;
use super::faults::Wrong;

/// Deforms an answer; kinds of faults that strike elsewhere leave it as it is.
pub(super) async fn deform(response: Response, fault: &Fault, tenant: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    // Our own answers are bounded, and a body that fails to arrive here is deformed enough.
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let body = match fault.kind {
        Wrong::ForeignRecord => Body::from(foreign(&whole, tenant)),
        Wrong::Oversized => Body::from(padded(&whole, fault.bytes)),
        Wrong::BadJson => Body::from(broken(&whole)),
        Wrong::Truncated => {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
            return Response::from_parts(parts, truncated(&whole));
        }
        Wrong::Delay | Wrong::Status | Wrong::ResetBeforeCommit | Wrong::ResetAfterCommit => Body::from(whole),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

/// Gives the last record of the answer to another organisation.
fn foreign(whole: &[u8], tenant: &str) -> Vec<u8> {
    let other = if tenant == "org_nordbank" { "org_gcn" } else { "org_nordbank" };
    let Ok(mut value) = serde_json::from_slice::<Value>(whole) else { return whole.to_vec() };
    give_away(&mut value, other);
    value.to_string().into_bytes()
}

/// Changes the innermost last `tenant`; whether there was one.
fn give_away(value: &mut Value, other: &str) -> bool {
    match value {
        Value::Array(items) => items.iter_mut().rev().any(|item| give_away(item, other)),
        Value::Object(members) => {
            if members.values_mut().any(|member| give_away(member, other)) {
                return true;
            }
            match members.get_mut("tenant") {
                Some(tenant) => {
                    *tenant = Value::from(other);
                    true
                }
                None => false,
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Adds a member that makes the answer at least this long.
fn padded(whole: &[u8], bytes: usize) -> Vec<u8> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(whole) else { return whole.to_vec() };
    members.insert("padding".to_owned(), Value::from("x".repeat(bytes)));
    Value::Object(members).to_string().into_bytes()
}

/// Cuts the answer in two and says that this is all.
fn broken(whole: &[u8]) -> Vec<u8> {
    whole.get(..whole.len() / 2).unwrap_or_default().to_vec()
}

/// Half of the answer, then an error that ends the connection.
fn truncated(whole: &Bytes) -> Body {
    let half = Bytes::from(broken(whole));
    let first = stream::iter([Ok::<_, io::Error>(half)]);
    // WHY: the pause makes the server flush the first half before it sees the error.
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    });
    Body::from_stream(first.chain(end))
}
