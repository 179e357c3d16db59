//! JSON and base64url as tokens and key sets carry them: exact, or refused.
//!
//! Promises: no duplicate members, no padding, no stray trailing bits, bounded depth, no trailing
//! data. Never guesses. Called by `identity::token`, `identity::keyset` and `identity::signing`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::domain::canonical::Limits;
use crate::domain::canonical::parse;

/// Well above what issuers nest, well below what hurts.
const DEPTH_MAX: usize = 16;

/// A strict JSON object of at most `bytes_max` bytes.
pub(super) fn object(bytes: &[u8], bytes_max: usize) -> Option<Map<String, Value>> {
    match parse(bytes, &Limits { bytes_max, depth_max: DEPTH_MAX, ..Limits::default() }) {
        Ok(Value::Object(members)) => Some(members),
        Ok(_) | Err(_) => None,
    }
}

/// Base64url without padding; `None` for any other character and for non-zero trailing bits.
pub(super) fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Base64url without padding.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
