//! How far a client is with its request, and which bytes it sent for it.
//!
//! Promises: slowness is measured from the first byte of each request; a head is given as it came
//! over the wire, not as another parser repaired it; the bytes of a body are counted off, so that
//! each request's head begins where the last one's body ended; a chunked body is read a second time,
//! strictly. Keeps a head and what was sent behind it, never a body. Fed by `adapters::door::wire`,
//! asked by `adapters::door::conversation`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::adapters::door::chunks::Chunks;

/// How far the client is with its request.
#[derive(Debug)]
pub(super) struct Pace {
    head_bytes_max: usize,
    state: Mutex<PaceState>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct PaceState {
    first_byte_at: Option<Instant>,
    head_bytes: usize,
    head_done: bool,
    /// What was heard and belongs to no body: this head, and what came behind the body.
    raw: BytesMut,
    body: Body,
}

/// What the bytes behind the head are.
#[derive(Debug, Default)]
enum Body {
    /// Nothing is kept or counted: HTTP/2 has frames for that.
    Unheard,
    /// A head, or the next one.
    #[default]
    None,
    /// So many more of a body.
    Length(u64),
    Chunks(Chunks),
}

impl Pace {
    pub(super) fn new(head_bytes_max: usize) -> Self {
        Self { head_bytes_max, state: Mutex::default(), begun: Notify::new() }
    }

    /// For a connection whose bytes are frames.
    pub(super) fn of_frames() -> Self {
        let state = PaceState { head_done: true, body: Body::Unheard, ..PaceState::default() };
        Self { head_bytes_max: usize::MAX, state: Mutex::new(state), begun: Notify::new() }
    }

    /// The next request has not begun, but for what was sent ahead.
    pub(super) fn rest(&self) {
        let mut state = self.lock();
        let ahead = std::mem::take(&mut state.raw);
        *state = PaceState {
            first_byte_at: (!ahead.is_empty()).then(Instant::now),
            head_bytes: ahead.len(),
            // WHY: a connection at rest keeps no memory for its last head.
            raw: if ahead.is_empty() { BytesMut::new() } else { ahead },
            ..PaceState::default()
        };
    }

    /// The head as it came, up to and including its empty line; only the clock counts from here.
    pub(super) fn head_done(&self) -> Option<Bytes> {
        let mut state = self.lock();
        state.head_done = true;
        let end = head_end(&state.raw)?;
        Some(state.raw.split_to(end).freeze())
    }

    /// Behind the head comes a body of this length.
    pub(super) fn body_of(&self, length: u64) {
        let mut state = self.lock();
        let here = state.raw.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        state.raw.advance(here);
        state.body = Body::Length(length - here as u64);
    }

    /// Behind the head comes a body in chunks, and nothing that is believed.
    pub(super) fn body_in_chunks(&self) {
        let mut state = self.lock();
        let mut chunks = Chunks::default();
        chunks.read(&std::mem::take(&mut state.raw));
        state.body = Body::Chunks(chunks);
    }

    /// What the strict reader says of a body in chunks.
    pub(super) fn chunks(&self) -> Option<Chunks> {
        match self.lock().body {
            Body::Chunks(chunks) => Some(chunks),
            Body::Unheard | Body::None | Body::Length(_) => None,
        }
    }

    /// Whether the client has begun its request.
    pub(super) fn has_begun(&self) -> bool {
        self.lock().first_byte_at.is_some()
    }

    /// When the client began its request.
    pub(super) fn began_at(&self) -> Option<Instant> {
        self.lock().first_byte_at
    }

    /// Whether the head is longer than allowed.
    pub(super) fn head_is_too_long(&self) -> bool {
        let state = self.lock();
        !state.head_done && state.head_bytes >= self.head_bytes_max
    }

    /// Why nothing more is read of this connection.
    pub(super) fn refuses(&self) -> Option<&'static str> {
        if self.head_is_too_long() {
            return Some("the request head is too long");
        }
        (self.chunks() == Some(Chunks::Bad)).then_some("the chunks of the body are framed wrongly")
    }

    /// Returns when the request began and `allowance` has passed since.
    pub(super) async fn overdue(&self, allowance: Duration) {
        loop {
            let begun = self.begun.notified();
            if let Some(first_byte_at) = self.began_at() {
                sleep_until(first_byte_at + allowance).await;
                return;
            }
            begun.await;
        }
    }

    /// These bytes came.
    pub(super) fn heard(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.head_bytes = state.head_bytes.saturating_add(bytes.len());
        let first = state.first_byte_at.is_none() && !bytes.is_empty();
        if first {
            state.first_byte_at = Some(Instant::now());
        }
        match &mut state.body {
            Body::Unheard => {}
            Body::Chunks(chunks) => chunks.read(bytes),
            Body::None => state.raw.extend_from_slice(bytes),
            Body::Length(left) => {
                let here = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                state.raw.extend_from_slice(bytes.get(here..).unwrap_or_default());
            }
        }
        drop(state);
        if first {
            self.begun.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, PaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the first empty line ends that is not before the request line.
fn head_end(raw: &[u8]) -> Option<usize> {
    let mut from = 0;
    while raw.get(from..from + 2) == Some(b"\r\n") {
        from += 2;
    }
    let found = raw.get(from..)?.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(from + found + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_head_is_given_as_it_came_however_the_bytes_were_cut() {
        let (one, two) = ("\r\nPOST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\n", "GET /b HTTP/1.1\r\n\r\n");
        let all = [one, "\r\n\r\n", two].concat();
        for size in 1..all.len() {
            let pace = Pace::new(1000);
            let mut heads = Vec::new();
            for piece in all.as_bytes().chunks(size) {
                pace.heard(piece);
                while let Some(head) = pace.head_done() {
                    heads.push(head);
                    if heads.len() == 1 {
                        pace.body_of(4);
                        if !matches!(pace.lock().body, Body::Length(0)) {
                            break;
                        }
                    }
                    pace.rest();
                }
                if matches!(pace.lock().body, Body::Length(0)) {
                    pace.rest();
                }
            }
            assert_eq!(heads, [one, two], "cut into pieces of {size}");
        }
    }

    #[test]
    fn half_a_request_that_was_sent_ahead_has_begun() {
        let pace = Pace::new(100);
        pace.heard(b"GET / HTTP/1.1\r\n\r\nGET /");
        assert!(pace.head_done().is_some());
        pace.body_of(0);
        pace.rest();
        assert!(pace.has_begun() && pace.head_done().is_none());
        pace.rest();
        pace.heard(&[b'x'; 100]);
        assert_eq!(pace.refuses(), Some("the request head is too long"));
    }
}
