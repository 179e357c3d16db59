//! Chance from one number: the same seed, the same run.
//!
//! Promises: every draw follows from the seed and the draws before it; a fork draws apart from its
//! parent, so that one part drawing more does not change what another part gets.

use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;

/// `SplitMix64`: small, and good enough to choose what goes wrong.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Arc<Mutex<u64>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// Dice of their own.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.draw())
    }

    pub(crate) fn draw(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number within the range.
    pub(crate) fn within(&self, range: Range<u64>) -> u64 {
        range.start + self.draw() % (range.end - range.start)
    }

    /// True in so many of a thousand draws.
    pub(crate) fn permille(&self, of_1000: u64) -> bool {
        self.draw() % 1000 < of_1000
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        let at = usize::try_from(self.draw() % of.len() as u64).unwrap();
        &of[at]
    }

    pub(crate) fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.draw().to_le_bytes());
        bytes[8..].copy_from_slice(&self.draw().to_le_bytes());
        bytes
    }
}
