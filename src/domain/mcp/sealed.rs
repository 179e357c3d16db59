//! Sealing what a client carries from one try of a call to the next: `requestState` of MCP 2026-07-28.
//!
//! Promises: nobody without the key can read, make or change a sealed text; one that was sealed for
//! another purpose does not open; every failure is the same failure. Key and nonce are arguments.
//! Never says who may bring one back: that is inside. Called by `approval` and `upstream`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::domain::mcp::input::INPUT_BYTES_MAX;

/// Bytes of a nonce. Random ones under one key are safe for some four thousand million seals (NIST SP 800-38D).
pub const NONCE_BYTES: usize = 12;

/// Who may bring a state back: all four must be as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The issuer that vouches for the user.
    pub issuer: String,
    /// The user.
    pub user: String,
    /// The OAuth client; empty when the token names none.
    pub client: String,
    /// The organisation.
    pub tenant: String,
}

/// Not one of this caller's, or no longer good; which of the two, and why, is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state is not one of this caller's, or no longer good")]
pub struct NotYours;

/// What a sealed text is for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// How every text of it begins.
    pub prefix: &'static str,
    /// Ties the seal to it, should the key seal something else too.
    pub name: &'static [u8],
}

/// The sealed text. A nonce must never be used twice with one key; draw it at random.
pub fn seal(
    purpose: Purpose,
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    inside: &impl Serialize,
) -> Result<String, NotYours> {
    seal_bytes(purpose, key, nonce, serde_json::to_vec(inside).map_err(|_| NotYours)?)
}

/// The same of anything at all.
pub fn seal_bytes(
    purpose: Purpose,
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    mut body: Vec<u8>,
) -> Result<String, NotYours> {
    let aad = Aad::from(purpose.name);
    sealer(key)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body).map_err(|_| NotYours)?;
    let text = format!("{}{}", purpose.prefix, URL_SAFE_NO_PAD.encode([&nonce[..], &body].concat()));
    if text.len() > INPUT_BYTES_MAX { Err(NotYours) } else { Ok(text) }
}

/// What is inside a text of this purpose; nothing in it has been judged yet.
pub fn open<T: for<'de> Deserialize<'de>>(purpose: Purpose, text: &str, key: &[u8; 32]) -> Result<T, NotYours> {
    if text.len() > INPUT_BYTES_MAX {
        return Err(NotYours);
    }
    let sealed =
        text.strip_prefix(purpose.prefix).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(NotYours)?;
    let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(NotYours)?;
    let mut body = body.to_vec();
    let plain = sealer(key)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose.name), &mut body)
        .map_err(|_| NotYours)?;
    serde_json::from_slice(plain).map_err(|_| NotYours)
}

fn sealer(key: &[u8; 32]) -> Result<LessSafeKey, NotYours> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| NotYours)
}
