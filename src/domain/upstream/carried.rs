//! An upstream server's `requestState` on its way through a client: sealed by the gateway.
//!
//! Promises: what a server gave is brought back to that server only, by the caller and for the very
//! call that it was given to, and in its time; the client cannot read it. What the server makes of
//! it is the server's business. Never asks or answers anything. Called by `pep`.

use serde::{Deserialize, Serialize};

use crate::domain::mcp::sealed::Holder;
use crate::domain::mcp::sealed::NONCE_BYTES;
use crate::domain::mcp::sealed::NotYours;
use crate::domain::mcp::sealed::Purpose;
use crate::domain::mcp::sealed::open;
use crate::domain::mcp::sealed::seal;

/// How the text of one begins, unlike that of a call that waits for people.
pub const PREFIX: &str = "u1.";

const PURPOSE: Purpose = Purpose { prefix: PREFIX, name: b"loopgate upstream requestState v1" };

/// What a client carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Whose it is.
    pub holder: Holder,
    /// The tool that was called.
    pub tool: String,
    /// SHA-256 (hex) of the call's canonical arguments.
    pub arguments: String,
    /// What the server gave; empty if it only asked.
    pub state: Option<String>,
    /// The approval that the call is made under.
    pub approval_id: Option<String>,
    /// The key that the call is made under.
    pub idempotency_key: Option<String>,
    /// Until when it may be brought back: milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

impl Carried {
    /// The sealed text; none where it would be longer than a client may bring back.
    pub fn seal(&self, key: &[u8; 32], nonce: [u8; NONCE_BYTES]) -> Result<String, NotYours> {
        seal(PURPOSE, key, nonce, self)
    }

    /// Opens a text that `holder` brought back at `now_ms`.
    pub fn open(text: &str, key: &[u8; 32], holder: &Holder, now_ms: i64) -> Result<Self, NotYours> {
        let carried: Self = open(PURPOSE, text, key)?;
        if carried.holder != *holder || now_ms >= carried.expires_ms { Err(NotYours) } else { Ok(carried) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Holder {
        Holder { issuer: "i".into(), user: "ada".into(), client: String::new(), tenant: "org_gcn".into() }
    }

    fn carried() -> Carried {
        Carried {
            holder: ada(),
            tool: "crm_find".into(),
            arguments: "d".into(),
            state: Some("theirs".into()),
            approval_id: None,
            idempotency_key: None,
            expires_ms: 100,
        }
    }

    #[test]
    fn a_state_comes_back_to_its_caller_in_its_time_and_to_nobody_else() {
        let key = [7; 32];
        let text = carried().seal(&key, [1; NONCE_BYTES]).unwrap();
        assert_eq!(Carried::open(&text, &key, &ada(), 99), Ok(carried()));
        assert_eq!(Carried::open(&text, &key, &ada(), 100), Err(NotYours), "too late");
        assert_eq!(Carried::open(&text, &[8; 32], &ada(), 0), Err(NotYours), "another gateway's");
        let ben = Holder { user: "ben".into(), ..ada() };
        assert_eq!(Carried::open(&text, &key, &ben, 0), Err(NotYours), "another's");
        let elsewhere = Holder { tenant: "org_nordbank".into(), ..ada() };
        assert_eq!(Carried::open(&text, &key, &elsewhere, 0), Err(NotYours), "another organisation's");
        assert_eq!(Carried::open(&text.replace("u1.", "v1."), &key, &ada(), 0), Err(NotYours));
        for place in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(Carried::open(&changed, &key, &ada(), 0), Err(NotYours), "{place}");
        }
    }

    #[test]
    fn a_state_too_long_to_be_brought_back_is_not_given() {
        let long = Carried { state: Some("x".repeat(13 * 1024)), ..carried() };
        assert_eq!(long.seal(&[7; 32], [1; NONCE_BYTES]), Err(NotYours));
    }
}
