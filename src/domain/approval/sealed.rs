//! What a client carries from one try of a call to the next: the `requestState` of MCP 2026-07-28.
//!
//! Promises: nobody without the key can read, make or change one; it opens only for the person,
//! client and organisation it was sealed for, and only in its time; every failure is the same
//! failure, so that nothing is learnt by trying. Does not make anything happen once: it may be
//! brought back any number of times, and the ledger knows what was used. Key and nonce are arguments.
//! Called by `pep`.

use serde::{Deserialize, Serialize};

pub use crate::domain::mcp::sealed::Holder;
pub use crate::domain::mcp::sealed::NONCE_BYTES;
pub use crate::domain::mcp::sealed::NotYours;
use crate::domain::mcp::sealed::Purpose;
use crate::domain::mcp::sealed::open;
use crate::domain::mcp::sealed::seal;

/// What these are for.
const PURPOSE: Purpose = Purpose { prefix: "v1.", name: b"loopgate requestState v1" };
/// Version of what is inside.
const V: u32 = 1;

/// A call that waits for an approval, as its client carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Whose it is.
    pub holder: Holder,
    /// The approval that it waits for.
    pub approval_id: String,
    /// SHA-256 (hex) of what is to be approved.
    pub digest: String,
    /// Until when it may be brought back: milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

/// What is inside the seal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inside {
    v: u32,
    issuer: String,
    user: String,
    client: String,
    tenant: String,
    approval: String,
    digest: String,
    exp: i64,
}

impl Waiting {
    /// The sealed text. A nonce must never be used twice with one key; draw it at random.
    pub fn seal(&self, key: &[u8; 32], nonce: [u8; NONCE_BYTES]) -> Result<String, NotYours> {
        let Self { holder, approval_id, digest, expires_ms } = self.clone();
        let Holder { issuer, user, client, tenant } = holder;
        let inside = Inside { v: V, issuer, user, client, tenant, approval: approval_id, digest, exp: expires_ms };
        seal(PURPOSE, key, nonce, &inside)
    }

    /// Opens a text that `holder` brought back at `now_ms`.
    pub fn open(text: &str, key: &[u8; 32], holder: &Holder, now_ms: i64) -> Result<Self, NotYours> {
        let inside: Inside = open(PURPOSE, text, key)?;
        let Inside { v, issuer, user, client, tenant, approval, digest, exp } = inside;
        let theirs = Holder { issuer, user, client, tenant };
        if v != V || theirs != *holder || now_ms >= exp {
            return Err(NotYours);
        }
        Ok(Self { holder: theirs, approval_id: approval, digest, expires_ms: exp })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::mcp::input::INPUT_BYTES_MAX as TEXT_BYTES_MAX;
    use crate::domain::mcp::sealed::seal_bytes;

    const KEY: [u8; 32] = [7; 32];
    const NONCE: [u8; NONCE_BYTES] = [1; NONCE_BYTES];
    const NOW: i64 = 1_800_000_000_000;

    fn ada() -> Holder {
        Holder { issuer: "https://idp".into(), user: "ada".into(), client: "claude".into(), tenant: "org_gcn".into() }
    }

    fn waiting() -> Waiting {
        Waiting { holder: ada(), approval_id: "apr_018f".into(), digest: "d".repeat(64), expires_ms: NOW + 1000 }
    }

    fn sealed() -> String {
        waiting().seal(&KEY, NONCE).unwrap()
    }

    fn opened(text: &str) -> Result<Waiting, NotYours> {
        Waiting::open(text, &KEY, &ada(), NOW)
    }

    /// Anything at all, sealed as ours are.
    fn forged(inside: &str, purpose: &'static [u8]) -> String {
        let purpose = Purpose { name: purpose, ..PURPOSE };
        seal_bytes(purpose, &KEY, NONCE, inside.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_state_comes_back_as_it_was_given_and_shows_nothing_on_its_way() {
        let text = sealed();
        assert_eq!(opened(&text), Ok(waiting()));
        assert!(text.starts_with("v1.") && text.len() < TEXT_BYTES_MAX / 10, "{}", text.len());
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix("v1.").unwrap()).unwrap();
        for part in ["ada", "org_gcn", "apr_018f", "claude"] {
            assert!(!bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
        }
        assert_ne!(text, waiting().seal(&KEY, [2; NONCE_BYTES]).unwrap());
    }

    #[test]
    fn a_state_is_of_one_person_client_and_organisation() {
        type Turn = fn(&mut Holder);
        let changes: [(&str, Turn); 8] = [
            ("another user", |holder| holder.user = "ben".into()),
            ("a user by another case", |holder| holder.user = "Ada".into()),
            ("another issuer", |holder| holder.issuer = "https://other".into()),
            ("another client", |holder| holder.client = "cursor".into()),
            ("no client", |holder| holder.client.clear()),
            ("another tenant", |holder| holder.tenant = "org_nordbank".into()),
            ("a longer tenant", |holder| holder.tenant.push('2')),
            ("fields that run into each other", |holder| {
                holder.user = "adaclaude".into();
                holder.client.clear();
            }),
        ];
        for (who, change) in changes {
            let mut holder = ada();
            change(&mut holder);
            assert_eq!(Waiting::open(&sealed(), &KEY, &holder, NOW), Err(NotYours), "{who}");
        }
        assert_eq!(Waiting::open(&sealed(), &[8; 32], &ada(), NOW), Err(NotYours), "another gateway's key");
    }

    #[test]
    fn a_state_is_good_until_its_time_and_not_a_millisecond_longer() {
        assert!(Waiting::open(&sealed(), &KEY, &ada(), NOW + 999).is_ok());
        for late in [NOW + 1000, NOW + 1001, i64::MAX] {
            assert_eq!(Waiting::open(&sealed(), &KEY, &ada(), late), Err(NotYours), "{late}");
        }
    }

    #[test]
    fn a_state_with_any_bit_changed_does_not_open() {
        let bytes = URL_SAFE_NO_PAD.decode(sealed().strip_prefix("v1.").unwrap()).unwrap();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                let text = format!("v1.{}", URL_SAFE_NO_PAD.encode(changed));
                assert_eq!(opened(&text), Err(NotYours), "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn a_state_with_any_letter_changed_dropped_or_doubled_does_not_open() {
        let text = sealed();
        for place in 0..text.len() {
            let (before, rest) = text.split_at(place);
            let (letter, after) = rest.split_at(1);
            let other = if letter == "A" { "B" } else { "A" };
            for changed in [
                format!("{before}{other}{after}"),
                format!("{before}{after}"),
                format!("{before}{letter}{letter}{after}"),
                before.to_owned(),
            ] {
                assert_eq!(opened(&changed), Err(NotYours), "{changed}");
            }
        }
    }

    #[test]
    fn only_the_very_text_opens() {
        let text = sealed();
        let body = text.strip_prefix("v1.").unwrap();
        let standard = base64::engine::general_purpose::STANDARD.encode(URL_SAFE_NO_PAD.decode(body).unwrap());
        for other in [
            String::new(),
            "v1.".to_owned(),
            "v1".to_owned(),
            body.to_owned(),
            format!("v2.{body}"),
            format!("V1.{body}"),
            format!("v1.v1.{body}"),
            format!("{text}="),
            format!("{text}."),
            format!("{text}\n"),
            format!(" {text}"),
            format!("{text}{text}"),
            format!("v1.{standard}"),
            "v1.AAAAAAAAAAAAAAAA".to_owned(),
            format!("v1.{}", "A".repeat(TEXT_BYTES_MAX)),
        ] {
            assert_eq!(opened(&other), Err(NotYours), "{other}");
        }
    }

    #[test]
    fn another_version_and_another_purpose_do_not_open_even_under_the_key() {
        let good = json!({"v": 1, "issuer": "https://idp", "user": "ada", "client": "claude", "tenant": "org_gcn",
            "approval": "apr_018f", "digest": "d".repeat(64), "exp": NOW + 1000});
        assert_eq!(opened(&forged(&good.to_string(), PURPOSE.name)), Ok(waiting()), "the forger works");
        assert_eq!(opened(&forged(&good.to_string(), b"")), Err(NotYours));
        for (member, value) in
            [("v", json!(2)), ("v", json!("1")), ("exp", json!("9")), ("more", json!(1)), ("user", json!(null))]
        {
            let mut other = good.clone();
            other[member] = value.clone();
            assert_eq!(opened(&forged(&other.to_string(), PURPOSE.name)), Err(NotYours), "{member} {value}");
        }
        for name in good.as_object().unwrap().keys() {
            let mut other = good.clone();
            other.as_object_mut().unwrap().remove(name);
            assert_eq!(opened(&forged(&other.to_string(), PURPOSE.name)), Err(NotYours), "without {name}");
        }
        for inside in ["", "[]", "{}", "null"] {
            assert_eq!(opened(&forged(inside, PURPOSE.name)), Err(NotYours), "{inside}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_client_makes_up_does_not_open(text in "(v1\\.)?[A-Za-z0-9_.-]{0,200}") {
            prop_assert_eq!(opened(&text), Err(NotYours));
        }
    }
}
