//! loopgate: a policy-as-code gateway and sidecar in front of the LoopIQ APIs.

pub mod domain;
pub mod metrics;
pub mod config;
pub mod pep;
pub mod adapters;
pub mod sandbox;
pub mod app;
pub mod cli;
