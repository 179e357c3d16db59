//! A replay report that somebody signed: a DSSE envelope.
//!
//! Promises: [`verify`] gives a report only when one of the keys that it was given signed these very
//! bytes as this very kind of document; what was signed is what is read. Never reads a key file and
//! never draws randomness. Called by `policy replay` (signs) and by whoever activates policy.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::domain::audit::checkpoint::PublicKey;
use crate::domain::identity::signing::SigningKey;
use crate::domain::replay::report::{Report, SCHEMA};

/// What kind of document it is; part of what is signed.
pub const PAYLOAD_TYPE: &str = "application/vnd.loopgate.replay-report+json";

/// Bytes that an envelope may have.
const BYTES_MAX: usize = 8 << 20;

/// Signatures that an envelope may carry.
const SIGNATURES_MAX: usize = 16;

/// Why an envelope is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeFault {
    /// Too large to be one.
    #[error("it has {0} bytes, and a report has at most {BYTES_MAX}")]
    TooLarge(usize),
    /// Not an envelope.
    #[error("it is no signed report: {0}; make one with `loopgate policy replay --sign`")]
    Unreadable(String),
    /// Another kind of document.
    #[error("it is signed as `{0}`, which is no replay report")]
    OtherKind(String),
    /// By none of the keys.
    #[error("none of the keys that are trusted has signed it; {0}")]
    Untrusted(String),
    /// A form that this version does not know.
    #[error("the report has version {0}, and {SCHEMA} is read; make it again with this version")]
    OtherVersion(u64),
    /// Nothing can be signed.
    #[error("the report cannot be written down: {0}")]
    Unwritable(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// The version, whatever else there is.
#[derive(Deserialize)]
struct Versioned {
    replay: Version,
}

#[derive(Deserialize)]
struct Version {
    schema: u64,
}

/// The report in an envelope, as JSON on one line.
pub fn sign(report: &Report, key: &SigningKey) -> Result<String, EnvelopeFault> {
    let unwritable = |cause: serde_json::Error| EnvelopeFault::Unwritable(cause.to_string());
    let body = serde_json::to_vec(report).map_err(unwritable)?;
    let signature =
        Signature { keyid: key.kid().to_owned(), sig: STANDARD.encode(key.sign(&to_be_signed(PAYLOAD_TYPE, &body))) };
    let envelope = Envelope {
        payload: STANDARD.encode(&body),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![signature],
    };
    serde_json::to_string(&envelope).map_err(unwritable)
}

/// The report, if one of these keys has signed it.
pub fn verify(text: &str, trusted: &[PublicKey]) -> Result<Report, EnvelopeFault> {
    if text.len() > BYTES_MAX {
        return Err(EnvelopeFault::TooLarge(text.len()));
    }
    let unreadable = |cause: String| EnvelopeFault::Unreadable(cause);
    let envelope: Envelope = serde_json::from_str(text).map_err(|cause| unreadable(cause.to_string()))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(EnvelopeFault::OtherKind(envelope.payload_type.chars().take(100).collect()));
    }
    let body = STANDARD.decode(&envelope.payload).map_err(|cause| unreadable(cause.to_string()))?;
    let message = to_be_signed(PAYLOAD_TYPE, &body);
    // The key id is a hint that anybody can write, so every key is tried.
    let signed = envelope.signatures.iter().take(SIGNATURES_MAX).any(|signature| {
        let bytes = STANDARD.decode(&signature.sig).unwrap_or_default();
        trusted.iter().any(|key| UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(&message, &bytes).is_ok())
    });
    if !signed {
        let hint = envelope.signatures.first().map_or_else(
            || "it carries no signature".to_owned(),
            |one| format!("it says that key `{}` has", one.keyid.chars().take(100).collect::<String>()),
        );
        return Err(EnvelopeFault::Untrusted(hint));
    }
    let version: Versioned = serde_json::from_slice(&body).map_err(|cause| unreadable(cause.to_string()))?;
    if version.replay.schema != u64::from(SCHEMA) {
        return Err(EnvelopeFault::OtherVersion(version.replay.schema));
    }
    serde_json::from_slice(&body).map_err(|cause| unreadable(cause.to_string()))
}

/// DSSE's pre-authentication encoding: kind and body, each behind its length.
fn to_be_signed(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    message.extend_from_slice(body);
    message
}
