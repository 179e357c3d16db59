//! `requestState`: opens only what was sealed, for whom it was sealed, in its time.
//!
//! The first byte says what the rest is: a text that a client made up, which never opens; what is to be
//! sealed, which comes back as it was and to nobody else; or a change to a sealed text, after which it
//! does not open.

use loopgate::domain::approval::sealed::{Holder, Waiting};

const KEY: [u8; 32] = [7; 32];
const NOW: i64 = 1_800_000_000_000;

/// Holds of any bytes.
pub fn holds(mut data: &[u8]) {
    let [kind] = super::take(&mut data);
    match kind % 3 {
        0 => made_up(data),
        1 => sealed(data),
        _ => changed(data),
    }
}

fn waiting() -> Waiting {
    let holder =
        Holder { issuer: "https://idp".into(), user: "ada".into(), client: "claude".into(), tenant: "org_gcn".into() };
    Waiting { holder, approval_id: "apr_1".into(), digest: "d".repeat(64), expires_ms: NOW + 1000 }
}

fn made_up(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let holder = waiting().holder;
    assert!(Waiting::open(&text, &KEY, &holder, NOW).is_err(), "a made-up state opened");
    assert!(Waiting::open(&format!("v1.{text}"), &KEY, &holder, NOW).is_err(), "a made-up state opened");
}

fn sealed(mut data: &[u8]) {
    let nonce = super::take(&mut data);
    let expires_ms = i64::from_le_bytes(super::take(&mut data));
    let mut texts = super::parts(data).into_iter();
    let mut next = || texts.next().unwrap_or_default();
    let holder = Holder { issuer: next(), user: next(), client: next(), tenant: next() };
    let waiting = Waiting { holder: holder.clone(), approval_id: next(), digest: next(), expires_ms };
    let text = waiting.seal(&KEY, nonce).expect("anything can be sealed");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "it can stand in JSON as it is");
    if text.len() > 16 * 1024 {
        assert!(Waiting::open(&text, &KEY, &holder, NOW).is_err());
        return;
    }
    let before = expires_ms.saturating_sub(1);
    if before < expires_ms {
        assert_eq!(Waiting::open(&text, &KEY, &holder, before).as_ref(), Ok(&waiting), "it did not come back");
    }
    assert!(Waiting::open(&text, &KEY, &holder, expires_ms).is_err(), "it lived too long");
    assert!(Waiting::open(&text, &[8; 32], &holder, before).is_err(), "another key opened it");
    for other in others(&holder) {
        assert!(Waiting::open(&text, &KEY, &other, before).is_err(), "{other:?} opened what is {holder:?}'s");
    }
}

/// Everybody who is like `holder` but for one thing.
fn others(holder: &Holder) -> Vec<Holder> {
    let changes: [fn(&mut Holder); 5] = [
        |other| other.issuer.push('x'),
        |other| other.user.push('x'),
        |other| other.client.push('x'),
        |other| other.tenant.push('x'),
        |other| {
            other.user = format!("{}{}", other.user, other.client);
            "-".clone_into(&mut other.client);
        },
    ];
    let everybody = changes.iter().map(|change| {
        let mut other = holder.clone();
        change(&mut other);
        other
    });
    everybody.filter(|other| other != holder).collect()
}

fn changed(mut data: &[u8]) {
    let waiting = waiting();
    let text = waiting.seal(&KEY, [1; 12]).expect("it can be sealed");
    let mut bytes = text.clone().into_bytes();
    while data.len() >= 3 {
        let place = usize::from(u16::from_le_bytes(super::take(&mut data))) % (bytes.len() + 1);
        let [with] = super::take(&mut data);
        match with {
            0..=0x1f => drop(bytes.splice(place..bytes.len().min(place + usize::from(with)), [])),
            0x20..=0x7e if place < bytes.len() => drop(bytes.splice(place..=place, [with])),
            _ => bytes.insert(place, with & 0x7f),
        }
    }
    let Ok(other) = String::from_utf8(bytes) else { return };
    let opened = Waiting::open(&other, &KEY, &waiting.holder, NOW);
    assert_eq!(opened.is_ok(), other == text, "{other:?} opened");
}
