//! The pure heart: no IO, no clock, no randomness, no async.
//!
//! Rooms stand in reading order; each imports only from rooms above it (`tests/tidy.rs`).

pub mod refusal;
pub mod canonical;
pub mod limit;
pub mod mcp;
pub mod identity;
pub mod upstream;
pub mod catalog;
pub mod pdp;
pub mod approval;
pub mod idempotency;
pub mod inspect;
pub mod audit;
pub mod replay;
pub mod rollout;
