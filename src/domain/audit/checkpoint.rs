//! Signed checkpoints: how many records an epoch has and their root, as a C2SP signed note.
//!
//! Promises: a [`Checkpoint`] read from a note was signed by a key that the reader named; any
//! `tlog-checkpoint` tool can read it too. The one that a clean stop signs says so in an extension line. Ed25519 is deterministic, so signing needs no randomness.
//! Never keeps a private key in anything that prints. Called by the journal's writer and by `verify`.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::audit::chain::Hash;

/// The extension line of the checkpoint that closes its epoch.
const CLOSED: &str = "closed";

/// C2SP signature type of Ed25519.
const ED25519_TYPE: u8 = 1;

/// RFC 8410 `SubjectPublicKeyInfo` of Ed25519, up to the 32 key bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not an Ed25519 private key.
    #[error("not an Ed25519 private key in PKCS#8 PEM; make one with `openssl genpkey -algorithm ed25519`")]
    Private,
    /// Not an Ed25519 public key.
    #[error("not an Ed25519 public key: PEM, a C2SP verifier key (`name+id+key`) or base64 of 32 bytes")]
    Public,
}

/// Signs checkpoints.
pub struct Signer(Ed25519KeyPair);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(***)")
    }
}

impl Signer {
    /// From `-----BEGIN PRIVATE KEY-----`.
    pub fn from_pem(pem: &str) -> Result<Self, BadKey> {
        let der = from_pem(pem, "PRIVATE KEY").ok_or(BadKey::Private)?;
        Self::from_pkcs8(&der)
    }

    /// From PKCS#8 DER, version 1 or 2.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadKey> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self).map_err(|_| BadKey::Private)
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(self.0.public_key().as_ref()) {
            *to = *from;
        }
        PublicKey(key)
    }

    /// The note of a checkpoint, ready to be appended to a file.
    #[must_use]
    pub fn note(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.text();
        let mut signature = self.public().id(&checkpoint.origin).to_vec();
        signature.extend_from_slice(self.0.sign(text.as_bytes()).as_ref());
        format!("{text}\n\u{2014} {} {}\n", checkpoint.origin, STANDARD.encode(signature))
    }
}

/// Verifies checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From `-----BEGIN PUBLIC KEY-----`, a C2SP verifier key, or base64 of the 32 bytes.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        let bytes = if text.starts_with("-----") {
            let der = from_pem(text, "PUBLIC KEY").ok_or(BadKey::Public)?;
            der.strip_prefix(&SPKI_PREFIX).map(<[u8]>::to_vec)
        } else {
            // `name+8 hex digits+base64(type ‖ key)`; base64 itself may contain `+`.
            let mut parts = text.splitn(3, '+');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(_), Some(id), Some(key)) if id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    STANDARD.decode(key).ok().and_then(|key| key.strip_prefix(&[ED25519_TYPE]).map(<[u8]>::to_vec))
                }
                _ => STANDARD.decode(text).ok(),
            }
        };
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(BadKey::Public)
    }

    /// From the 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `-----BEGIN PUBLIC KEY-----`.
    #[must_use]
    pub fn pem(&self) -> String {
        let der = [SPKI_PREFIX.as_slice(), &self.0].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    /// C2SP key id: which key a signature line is by.
    fn id(&self, name: &str) -> [u8; 4] {
        let hash = Hash::of_parts(&[name.as_bytes(), b"\n", &[ED25519_TYPE], &self.0]);
        let [a, b, c, d, ..] = *hash.as_bytes();
        [a, b, c, d]
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(text.as_bytes(), signature).is_ok()
    }
}

/// How many records an epoch has, and their root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// `<deployment>/<writer>/<epoch>`.
    pub origin: String,
    /// How many records.
    pub size: u64,
    /// Their RFC 6962 root.
    pub root: Hash,
    /// Whether the epoch ended with them: a clean stop, and nothing may stand behind it.
    pub closed: bool,
}

/// Why a note is no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    /// Not a checkpoint at all.
    #[error("it cannot be read as a checkpoint")]
    Unreadable,
    /// No signature line is by a key that was given.
    #[error("it is signed by none of the keys given")]
    UnknownKey,
    /// A signature line names a key that was given and does not fit.
    #[error("its signature does not fit")]
    WrongSignature,
}

impl Checkpoint {
    fn text(&self) -> String {
        let closed = if self.closed { format!("{CLOSED}\n") } else { String::new() };
        format!("{}\n{}\n{}\n{closed}", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// The note, signed.
    #[must_use]
    pub fn to_note(&self, signer: &Signer) -> String {
        signer.note(self)
    }

    /// Reads a note without asking who signed it.
    pub fn parse(note: &str) -> Result<Self, BadNote> {
        let (text, _) = note.split_once("\n\n").ok_or(BadNote::Unreadable)?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(BadNote::Unreadable);
        };
        let closed = match (lines.next(), lines.next()) {
            (None, _) => false,
            (Some(CLOSED), None) => true,
            _ => return Err(BadNote::Unreadable),
        };
        let size = super::decimal(size).ok_or(BadNote::Unreadable)?;
        let root: [u8; 32] =
            STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).ok_or(BadNote::Unreadable)?;
        if origin.is_empty() {
            return Err(BadNote::Unreadable);
        }
        Ok(Self { origin: origin.to_owned(), size, root: Hash::from_bytes(root), closed })
    }

    /// Reads a note that one of `keys` must have signed.
    pub fn verify(note: &str, keys: &[PublicKey]) -> Result<Self, BadNote> {
        let checkpoint = Self::parse(note)?;
        let (_, signatures) = note.split_once("\n\n").ok_or(BadNote::Unreadable)?;
        let mut outcome = Err(BadNote::UnknownKey);
        for line in signatures.lines() {
            let Some((name, signature)) = line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')) else {
                return Err(BadNote::Unreadable);
            };
            let Ok(signature) = STANDARD.decode(signature) else { return Err(BadNote::Unreadable) };
            let Some((id, signature)) = signature.split_at_checked(4) else { return Err(BadNote::Unreadable) };
            if name != checkpoint.origin {
                continue;
            }
            for key in keys.iter().filter(|key| key.id(name) == *id) {
                if key.verifies(&checkpoint.text(), signature) {
                    return Ok(checkpoint);
                }
                outcome = Err(BadNote::WrongSignature);
            }
        }
        outcome
    }
}

/// The notes of a file, and how many bytes at its end are not a whole one.
#[must_use]
pub fn split_notes(text: &str) -> (Vec<&str>, usize) {
    let mut notes = Vec::new();
    let mut start = 0;
    let mut at = 0;
    let mut signed = false;
    for line in text.split_inclusive('\n') {
        let signs = line.starts_with("\u{2014} ");
        if signed && !signs {
            notes.extend(text.get(start..at).filter(|note| !note.trim().is_empty()));
            start = at;
        }
        at += line.len();
        signed = signs && line.ends_with('\n');
    }
    if signed {
        notes.extend(text.get(start..at));
        start = at;
    }
    (notes.into_iter().map(|note| note.trim_start_matches('\n')).collect(), text.len() - start)
}

fn from_pem(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let plain: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(plain).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A signer from a fixed seed (RFC 8410 PKCS#8 v1), so that tests need no randomness.
    pub(crate) fn signer(seed: u8) -> Signer {
        let mut der =
            vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        der.extend([seed; 32]);
        Signer::from_pkcs8(&der).unwrap()
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: "demo/gateway-1/3".to_owned(), size, root: Hash::of(b"root"), closed: false }
    }

    #[test]
    fn a_note_reads_back_only_under_the_key_that_signed_it() {
        let note = checkpoint(7).to_note(&signer(1));
        assert_eq!(Checkpoint::verify(&note, &[signer(2).public(), signer(1).public()]), Ok(checkpoint(7)));
        assert_eq!(Checkpoint::verify(&note, &[signer(2).public()]), Err(BadNote::UnknownKey));
        assert_eq!(Checkpoint::verify(&note, &[]), Err(BadNote::UnknownKey));
    }

    #[test]
    fn a_note_with_any_byte_changed_is_refused() {
        let note = checkpoint(7).to_note(&signer(1));
        let keys = [signer(1).public()];
        for at in 0..note.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= flip;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                assert!(Checkpoint::verify(&changed, &keys).is_err(), "byte {at}: {changed}");
            }
        }
    }

    #[test]
    fn whether_an_epoch_is_closed_is_signed_too() {
        let open = checkpoint(7);
        let closed = Checkpoint { closed: true, ..checkpoint(7) };
        let keys = [signer(1).public()];
        let note = closed.to_note(&signer(1));
        assert_eq!(Checkpoint::verify(&note, &keys), Ok(closed));
        assert_eq!(Checkpoint::verify(&note.replace("closed\n", ""), &keys), Err(BadNote::WrongSignature));
        let note = open.to_note(&signer(1));
        let stuffed = note.replacen("\n\n", "\nclosed\n\n", 1);
        assert_eq!(Checkpoint::verify(&stuffed, &keys), Err(BadNote::WrongSignature));
        let unknown = note.replacen("\n\n", "\nelse\n\n", 1);
        assert_eq!(Checkpoint::parse(&unknown), Err(BadNote::Unreadable));
    }

    #[test]
    fn a_file_of_notes_splits_into_them_and_a_torn_end_is_counted() {
        let notes: Vec<String> =
            (1..4).map(|size| Checkpoint { closed: size == 2, ..checkpoint(size) }.to_note(&signer(1))).collect();
        let whole = notes.concat();
        let ends: Vec<usize> = notes
            .iter()
            .scan(0, |end, note| {
                *end += note.len();
                Some(*end)
            })
            .collect();
        for end in 0..=whole.len() {
            let Some(text) = whole.get(..end) else { continue };
            let complete = ends.iter().filter(|note_end| **note_end <= end).count();
            let (found, torn) = split_notes(text);
            assert_eq!(found, notes[..complete].iter().map(String::as_str).collect::<Vec<_>>(), "cut at {end}");
            assert_eq!(torn, end - if complete == 0 { 0 } else { ends[complete - 1] }, "cut at {end}");
        }
    }

    #[test]
    fn a_public_key_is_read_in_every_form_it_is_handed_around_in() {
        let key = signer(1).public();
        let raw = STANDARD.encode(key.0);
        let id = u32::from_be_bytes(key.id("demo/w"));
        let vkey = format!("demo/w+{id:08x}+{}", STANDARD.encode([&[1], key.0.as_slice()].concat()));
        for text in [key.pem(), raw, vkey] {
            assert_eq!(PublicKey::parse(&text), Ok(key), "{text}");
        }
        for bad in ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "AAAA"] {
            assert_eq!(PublicKey::parse(bad), Err(BadKey::Public), "{bad}");
        }
        assert_eq!(Signer::from_pem("nonsense").err(), Some(BadKey::Private));
    }
}
