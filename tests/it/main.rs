//! The whole gateway over real TCP, before the stand-in LoopIQ: one file per kind of promise.
//!
//! Each test has a world of its own (`harness`): gateway, backend, keys, policies, journal, in a
//! directory that goes away. Nothing waits for a time to pass; what takes time is asked for again
//! until it is there or a deadline has passed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed; helpers of tests count as production code to clippy"
)]

#[path = "../support/certificates.rs"]
mod certificates;
mod harness;
mod message;
mod bench;
mod rig;
mod attack;
mod deny;
mod tenancy;
mod identity;
mod authorities;
mod credentials;
mod propagation;
mod mediated;
mod scopes;
mod ids;
mod once;
mod probes;
mod secured;
mod writes;
mod approvals;
mod desk;
mod signed;
mod examples;
mod audit;
mod reload;
mod rollout;
mod takeover;
mod beside;
mod stream;
mod upstream;
mod limits;
mod listen;
mod wire;
mod backends;
mod members;
