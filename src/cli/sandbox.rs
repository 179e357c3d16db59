//! (command to come)
