//! The program as its users have it: started, asked, stopped and killed; what it says and how it ends.
//!
//! One file per promise. Every process is ended with its test, every port is a free one, and every
//! wait has a deadline and looks at what it waits for.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

mod harness;
#[path = "../support/postgres.rs"]
#[expect(dead_code, reason = "shared with the ledger's own tests, which do more to it")]
mod postgres;

mod demo;
mod serve;
mod crash;
mod once;
mod check;
mod doctor;
mod explain;
mod catalog;
mod policy;
mod bundle;
mod replay;
mod rollout;
mod approvals;
mod audit;
mod token;
mod sandbox;
mod help;
