//! What is remembered of a server of bundles.
//!
//! Promises: what [`Memory::remember`] kept is there after a crash, so that an older bundle is known
//! for what it is. Implemented by `adapters::store`; called by `adapters::reload`. Waits for a disk.

use crate::domain::pdp::archive::order::Taken;

/// Remembers what was taken. Faults are in words for people.
pub trait Memory: Send + Sync {
    /// What was taken so far; none if nothing was.
    fn taken(&self) -> Result<Option<Taken>, String>;

    /// Remembers, durably and whole.
    fn remember(&self, taken: &Taken) -> Result<(), String>;
}
