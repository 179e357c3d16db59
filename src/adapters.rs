//! IO at the edge: each room opens a door or implements a port of `pep`.

pub mod tls;
pub mod address;
pub mod door;
pub mod admin;
pub mod backend;
pub mod fetch;
pub mod upstream;
pub mod keys;
pub mod exchange;
pub mod journal;
pub mod ledger;
pub mod facts;
pub mod limits;
pub mod store;
pub mod reload;
