//! The ledger's promises, kept by both engines: one suite, run over each.
//!
//! Each test has a ledger of its own. Time passes by leases and deadlines that lie in the past from
//! the start, never by waiting for one to pass.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed; helpers of tests count as production code to clippy"
)]

#[path = "../support/postgres.rs"]
mod cluster;
#[path = "../support/redis.rs"]
mod redis;
mod harness;
mod approvals;
mod full;
mod limits;
mod postgres;
mod sqlite;
mod writes;
