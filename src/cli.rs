//! One file per command.

pub mod audit;
pub mod catalog;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod policy;
pub mod sandbox;
pub mod serve;
pub mod token;
