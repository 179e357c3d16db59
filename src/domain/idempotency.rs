//! What makes two calls the same write.
//!
//! Promises: a key has one grammar wherever it comes from; a fingerprint is equal exactly when
//! tenant, user, tool definition, route, arguments and workflow are; a key is never made
//! from arguments, because two equal calls may both be meant. Never reads a clock or makes
//! randomness: fresh ids are arguments. Called by `pep`.

mod execution;
mod told;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use execution::Claimed;
pub use execution::Execution;
pub use execution::FROM_BOOKS;
pub use execution::Found;
pub use execution::Kept;
pub use execution::KnownBy;
pub use execution::Lease;
pub use execution::Opinion;
pub use execution::Plan;
pub use execution::ResolveFault;
pub use execution::Sending;
pub use execution::Settlement;
pub use execution::State;
pub use told::Told;

use crate::domain::canonical;
use crate::domain::canonical::NotCanonical;
use crate::domain::catalog::Tool;
use crate::domain::identity::Principal;
use crate::domain::identity::Tenant;

/// Longest key.
const KEY_BYTES_MAX: usize = 255;

/// A well-formed idempotency key: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 visible ASCII characters without spaces")]
pub struct KeyFault;

impl Key {
    /// Reads a key that a client sent.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let proper =
            (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| (0x21..=0x7E).contains(&byte));
        if proper { Ok(Self(text.to_owned())) } else { Err(KeyFault) }
    }

    /// The key as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who chose the key. Only the client's own key lets the client repeat the call safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Supplier {
    /// The client sent it.
    Client,
    /// The gateway made it for its own retries.
    Gateway,
    /// It is the approval's id, so that an approval is used once.
    Approval,
}

/// The key that a write goes out with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteKey {
    /// The key.
    pub key: Key,
    /// Who chose it.
    pub supplier: Supplier,
}

/// The key of a call: none for what changes nothing, the client's if it sent one, else `fresh`,
/// a `UUIDv7` made for this call.
#[must_use]
pub fn write_key(tool: &Tool, client: Option<Key>, fresh: uuid::Uuid) -> Option<WriteKey> {
    if !tool.writes() {
        return None;
    }
    Some(match client {
        Some(key) => WriteKey { key, supplier: Supplier::Client },
        None => WriteKey { key: Key(fresh.to_string()), supplier: Supplier::Gateway },
    })
}

/// The key under which the backend sees a caller's key: the same for every try of one caller, and
/// no other caller's, however they choose their keys. A `UUIDv8` (RFC 9562) of a SHA-256.
#[must_use]
pub fn execution_id(tenant: &Tenant, principal: &Principal, key: &Key) -> String {
    // A line end stands in none of the parts, so no two callers' parts run into each other.
    let whole = format!("loopgate execution 1\n{}\n{}\n{}\n{key}", tenant.as_str(), principal.issuer, principal.user);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, whole.as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// A write, as far as it decides whether another one is the same.
#[derive(Debug, Clone, Copy)]
pub struct Deed<'a> {
    /// For which organisation.
    pub tenant: &'a Tenant,
    /// By whom: the user, and the issuer that vouches for them.
    pub caller: &'a Principal,
    /// The tool, with its definition and route.
    pub tool: &'a Tool,
    /// Validated arguments, without control arguments.
    pub arguments: &'a Map<String, Value>,
    /// The client's workflow; empty when it names none.
    pub workflow: &'a str,
}

impl Deed<'_> {
    /// SHA-256 (hex) over the RFC 8785 form of the deed. Leaves out what differs between two tries
    /// of one write: request id, trace, `_meta`, and the approval, of which a delayed copy of the call may
    /// have asked for another one.
    pub fn fingerprint(&self) -> Result<String, NotCanonical> {
        canonical::digest_value(&json!({
            "v": 1,
            "tenant": self.tenant.as_str(),
            "user": [self.caller.issuer, self.caller.user],
            "tool": self.tool.name,
            "definition": self.tool.digest,
            "route": self.tool.route_text(),
            "arguments": self.arguments,
            "workflow": self.workflow,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::catalog::BUILT_IN;
    use crate::domain::catalog::Catalog;
    use crate::domain::identity::forge::principal;
    use crate::domain::identity::forge::tenant;

    fn arguments(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        for good in ["a", "order-1", "!~", &"x".repeat(255), "018f3b5e-0000-7000-8000-000000000000"] {
            assert_eq!(Key::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\n", "a\0", "ä", "\u{7f}", &"x".repeat(256)] {
            assert_eq!(Key::parse(bad), Err(KeyFault), "{bad:?}");
        }
    }

    #[test]
    fn a_write_always_has_a_key_and_a_read_never_has() {
        let catalog = Catalog::from_yaml(BUILT_IN).unwrap();
        let key = |tool: &str, client: Option<&str>| {
            let client = client.map(|text| Key::parse(text).unwrap());
            write_key(catalog.tool(tool).unwrap(), client, uuid::Uuid::from_u128(7))
                .map(|key| (key.key.0, key.supplier))
        };
        assert_eq!(key("loopiq_create_work_item", Some("k")), Some(("k".to_owned(), Supplier::Client)));
        let made = ("00000000-0000-0000-0000-000000000007".to_owned(), Supplier::Gateway);
        assert_eq!(key("loopiq_create_work_item", None), Some(made.clone()));
        assert_eq!(key("loopiq_update_tenant_settings", None), Some(made));
        for read in ["loopiq_get_release", "loopiq_get_diagnostics", "loopiq_list_routes"] {
            assert_eq!(key(read, Some("k")), None, "{read}");
        }
    }

    #[test]
    fn two_callers_never_share_an_execution_however_they_choose_their_keys() {
        let (gcn, nordbank) = (tenant("org_gcn"), tenant("org_nordbank"));
        let key = Key::parse("K1").unwrap();
        let callers = [
            (&gcn, principal("i", "ada", "org_gcn")),
            (&nordbank, principal("i", "ada", "org_gcn")),
            (&gcn, principal("i", "ben", "org_gcn")),
            (&gcn, principal("j", "ada", "org_gcn")),
        ];
        let ids: BTreeSet<_> = callers.iter().map(|(tenant, caller)| execution_id(tenant, caller, &key)).collect();
        assert_eq!(ids.len(), callers.len());
        let (gcn, ada) = &callers[0];
        assert_eq!(execution_id(gcn, ada, &key), execution_id(gcn, ada, &Key::parse("K1").unwrap()));
    }

    #[test]
    fn a_fingerprint_changes_with_everything_that_makes_a_write_another_one() {
        let catalog = Catalog::from_yaml(BUILT_IN).unwrap();
        let (gcn, nordbank) = (tenant("org_gcn"), tenant("org_nordbank"));
        let (first, other) = (arguments(&json!({"title": "a", "n": 1})), arguments(&json!({"title": "b", "n": 1})));
        let tool = catalog.tool("loopiq_create_work_item").unwrap();
        let (ada, ben) = (principal("i", "ada", "org_gcn"), principal("i", "ben", "org_gcn"));
        let other_ada = principal("j", "ada", "org_gcn");
        let deed = Deed { tenant: &gcn, caller: &ada, tool, arguments: &first, workflow: "" };
        let all = [
            deed,
            Deed { tenant: &nordbank, ..deed },
            Deed { caller: &ben, ..deed },
            Deed { caller: &other_ada, ..deed },
            Deed { tool: catalog.tool("loopiq_update_work_item").unwrap(), ..deed },
            Deed { arguments: &other, ..deed },
            Deed { workflow: "w", ..deed },
        ];
        let prints: BTreeSet<_> = all.iter().map(|deed| deed.fingerprint().unwrap()).collect();
        assert_eq!(prints.len(), all.len());
        let reordered = arguments(&serde_json::from_str(r#"{"n": 1.0, "title": "\u0061"}"#).unwrap());
        assert_eq!(deed.fingerprint().unwrap(), Deed { arguments: &reordered, ..deed }.fingerprint().unwrap());
    }
}
