//! (room to come)

pub mod arrival;
