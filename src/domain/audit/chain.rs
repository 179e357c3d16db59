//! Each line is bound to the one before it, and all lines of an epoch to one Merkle root.
//!
//! Promises: `leaf = SHA-256(0x00 ‖ line)` over the exact bytes on disk without the newline, so
//! that verifying needs no re-serialising; `chain.prev` is the leaf before; the root is RFC 6962's.
//! Each line also carries OCSF's own attestation: a fingerprint of the line with the fingerprint
//! cut out, which tells an altered record from an altered neighbour.
//! Never looks into a record. Called by the journal's writer and by `verify`.

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use crate::domain::audit::AuditRef;
use crate::domain::audit::line::Line;

/// A SHA-256 digest, printed as 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What stands before the first record of all.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_parts(&[bytes])
    }

    /// The digest of some bytes, one after the other.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    /// RFC 6962 leaf hash of a line's bytes.
    #[must_use]
    pub fn leaf(line: &[u8]) -> Self {
        Self::of_parts(&[&[0], line])
    }

    fn node(left: Self, right: Self) -> Self {
        Self::of_parts(&[&[1], &left.0, &right.0])
    }

    /// The 64 lower-case hex digits, read back.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut hash = [0; 32];
        for (to, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *to = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(hash))
    }

    /// The digest from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            for digit in [byte >> 4, byte & 0x0f] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        f.write_str(&text)
    }
}

/// RFC 6962 Merkle tree of an epoch's leaves, of which only the right edge is kept.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    // INVARIANT: one root of a perfect subtree for each bit set in `size`, the largest first.
    edge: Vec<Hash>,
}

impl Tree {
    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                node = Hash::node(left, node);
            }
        }
        self.edge.push(node);
        self.size += 1;
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root of all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut subtrees = self.edge.iter().rev().copied();
        let Some(smallest) = subtrees.next() else { return Hash::of(&[]) };
        subtrees.fold(smallest, |right, left| Hash::node(left, right))
    }
}

/// A record as bytes, in three parts that each lack the closing brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    event: Vec<u8>,
    metadata: Vec<u8>,
    own: Vec<u8>,
}

impl Body {
    /// From three objects that each have at least one member.
    pub(super) fn new(event: &Value, metadata: &Value, own: &Value) -> Self {
        let open = |value: &Value| {
            let mut bytes = serde_json::to_vec(value).unwrap_or_else(|_| b"{\"unreadable\":true}".to_vec());
            bytes.pop();
            bytes
        };
        Self { event: open(event), metadata: open(metadata), own: open(own) }
    }

    /// How many bytes it will take, about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.event.len() + self.metadata.len() + self.own.len() + 1024
    }

    /// Whether there is nothing in it; there always is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.event.is_empty()
    }
}

/// What the next line must say of the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// Its place.
    pub at: AuditRef,
    /// Its leaf hash.
    pub leaf: Hash,
    /// Its own fingerprint.
    pub fingerprint: Hash,
}

impl Previous {
    /// From a line read back.
    #[must_use]
    pub fn of(line: &Line<'_>) -> Self {
        Self { at: line.at(), leaf: line.leaf, fingerprint: line.fingerprint }
    }
}

/// The growing end of one epoch.
#[derive(Debug, Clone)]
pub struct Chain {
    deployment: String,
    writer: String,
    epoch: u64,
    previous: Option<Previous>,
    tree: Tree,
}

impl Chain {
    /// A new epoch that goes on from the last record of an earlier one, if there is any.
    #[must_use]
    pub fn begin(deployment: &str, writer: &str, epoch: u64, previous: Option<Previous>) -> Self {
        Self { deployment: deployment.to_owned(), writer: writer.to_owned(), epoch, previous, tree: Tree::default() }
    }

    /// Appends the record's line and its newline to `out` and says where it stands.
    pub fn push(&mut self, body: &Body, out: &mut Vec<u8>) -> AuditRef {
        let at = AuditRef { writer: self.writer.clone(), epoch: self.epoch, seq: self.tree.size() };
        let start = out.len();
        out.extend_from_slice(&body.event);
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(&body.metadata);
        out.extend_from_slice(
            format!(",\"uid\":\"{at}\",\"sequence\":{}}},\"unmapped\":{{\"loopgate\":", at.seq).as_bytes(),
        );
        out.extend_from_slice(&body.own);
        let prev = self.previous.as_ref().map_or(Hash::ZERO, |previous| previous.leaf);
        out.extend_from_slice(
            format!(
                ",\"chain\":{{\"writer\":\"{}\",\"epoch\":{},\"seq\":{},\"prev\":\"{prev}\"}}}}}}",
                self.writer, self.epoch, at.seq
            )
            .as_bytes(),
        );
        let authority = format!("{}/{}", self.deployment, self.writer);
        out.extend_from_slice(
            format!(",\"attestation_list\":[{{\"authority_uid\":\"{authority}\",\"chain_uid\":\"{authority}\"")
                .as_bytes(),
        );
        if let Some(previous) = &self.previous {
            let fingerprint = fingerprint_member(previous.fingerprint);
            out.extend_from_slice(format!(",\"prev_event\":{{\"uid\":\"{}\"{fingerprint}}}", previous.at).as_bytes());
        }
        let fingerprint = fingerprint_of(out.get(start..).unwrap_or_default());
        out.extend_from_slice(fingerprint_member(fingerprint).as_bytes());
        out.extend_from_slice(LINE_END);
        let leaf = Hash::leaf(out.get(start..).unwrap_or_default());
        out.push(b'\n');
        self.tree.push(leaf);
        self.previous = Some(Previous { at: at.clone(), leaf, fingerprint });
        at
    }

    /// How many records the epoch has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The Merkle root of the epoch's records.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What a checkpoint of this chain is signed as: `<deployment>/<writer>/<epoch>`.
    ///
    /// The epoch belongs to it: each epoch is a log of its own, and a log never shrinks.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}/{}/{}", self.deployment, self.writer, self.epoch)
    }
}

/// What every line ends with, after its fingerprint.
pub(super) const LINE_END: &[u8] = b"}]}";

/// `,"fingerprint":{…}`: SHA-256 (3), hex (1), over the bytes as they are (1).
pub(super) fn fingerprint_member(hash: Hash) -> String {
    format!(",\"fingerprint\":{{\"algorithm_id\":3,\"encoding_id\":1,\"serialization_id\":1,\"value\":\"{hash}\"}}")
}

/// The fingerprint of a line, given its bytes up to where the fingerprint goes.
pub(super) fn fingerprint_of(before: &[u8]) -> Hash {
    Hash::of_parts(&[before, LINE_END])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::record::{Record, Stage};

    /// RFC 6962 section 2.1, written as it is defined.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of(&[]),
            [only] => *only,
            many => {
                let k = many.len().next_power_of_two() / 2;
                Hash::node(by_definition(&many[..k]), by_definition(&many[k..]))
            }
        }
    }

    #[test]
    fn the_root_is_rfc_6962_for_every_size() {
        let mut tree = Tree::default();
        let mut leaves = Vec::new();
        for n in 0..200_u32 {
            assert_eq!(tree.root(), by_definition(&leaves), "size {n}");
            let leaf = Hash::leaf(&n.to_be_bytes());
            tree.push(leaf);
            leaves.push(leaf);
        }
    }

    #[test]
    fn the_root_is_that_of_the_certificate_transparency_test_vectors() {
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut tree = Tree::default();
        for input in inputs {
            tree.push(Hash::leaf(input));
        }
        assert_eq!(tree.root().to_string(), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn a_hash_reads_back_only_from_64_lower_case_hex_digits() {
        let hash = Hash::of(b"x");
        assert_eq!(Hash::from_hex(&hash.to_string()), Some(hash));
        for bad in ["", "00", &"0".repeat(63), &"A".repeat(64), &"g".repeat(64), &"+0".repeat(32), &"é".repeat(32)] {
            assert_eq!(Hash::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_line_is_json_that_names_its_place_and_the_line_before_it() {
        let mut chain = Chain::begin("demo", "w", 2, None);
        let mut out = Vec::new();
        for n in 0..3_i64 {
            chain.push(&Record::event(Stage::Heartbeat, n, "quiet").body(), &mut out);
        }
        let mut prev = Hash::ZERO;
        for (seq, bytes) in out.split(|b| *b == b'\n').filter(|line| !line.is_empty()).enumerate() {
            let value: Value = serde_json::from_slice(bytes).unwrap();
            let chain = &value["unmapped"]["loopgate"]["chain"];
            assert_eq!(chain["seq"], seq);
            assert_eq!(chain["prev"], prev.to_string());
            assert_eq!(value["metadata"]["uid"], format!("w/2/{seq}"));
            prev = Hash::leaf(bytes);
        }
    }
}
