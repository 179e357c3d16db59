//! How many bytes of long bodies are held at once, all connections together.
//!
//! Promises: a long body has its place before a byte of it is kept, and gives it back with its last
//! copy; whoever waits is served in turn. Never counts short bodies: the number of connections
//! bounds those. Called by `adapters::door::conversation`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A permit stands for this many bytes, so that `u32` counts far enough.
const UNIT: usize = 1024;

/// The space that all long bodies share.
pub(super) struct Space {
    free: Arc<Semaphore>,
    units: u32,
}

/// A body's place in it.
pub(super) struct Place(OwnedSemaphorePermit);

/// A body that gives its place back when it goes.
struct Held {
    body: Bytes,
    _place: Place,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Space {
    pub(super) fn new(bytes: usize) -> Self {
        let units = units(bytes).clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        // INVARIANT: `u32` fits into `usize` wherever this is built; if not, less space is safe.
        Self { free: Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(1))), units }
    }

    /// Waits for a place. One body alone always fits, however little space there is.
    pub(super) async fn take(&self, bytes: usize) -> Option<Place> {
        let permit = Arc::clone(&self.free).acquire_many_owned(units(bytes).min(self.units)).await;
        permit.ok().map(Place)
    }
}

impl Place {
    /// The body, in no more of its place than it needs.
    pub(super) fn hold(mut self, body: BytesMut) -> Bytes {
        let spare = self.0.num_permits().saturating_sub(body.len().div_ceil(UNIT));
        drop(self.0.split(spare));
        Bytes::from_owner(Held { body: body.freeze(), _place: self })
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_gives_back_what_it_does_not_need_at_once_and_the_rest_with_its_last_copy() {
        let space = Space::new(64 * UNIT);
        let place = space.take(64 * UNIT).await.unwrap();
        assert_eq!(space.free.available_permits(), 0);
        let body = place.hold(BytesMut::from(&*vec![b'x'; 20 * UNIT + 1]));
        assert_eq!((body.len(), space.free.available_permits()), (20 * UNIT + 1, 43));
        let copy = body.slice(1..);
        drop(body);
        assert_eq!(space.free.available_permits(), 43);
        drop(copy);
        assert_eq!(space.free.available_permits(), 64);
    }

    #[tokio::test]
    async fn a_body_longer_than_the_space_has_it_alone() {
        for bytes in [0, 1, usize::MAX] {
            let space = Space::new(bytes);
            let place = space.take(usize::MAX).await.unwrap();
            assert_eq!(space.free.available_permits(), 0);
            drop(place);
            assert!(space.free.available_permits() > 0);
        }
    }
}
