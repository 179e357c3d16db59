//! The one place that writes to standard output and standard error for commands.
//!
//! Promises: a closed pipe ends a listing quietly. Never logs. Called by the commands.

use std::io::Write as _;

/// A line for people or programs on standard output.
pub fn line(text: &str) {
    // A reader that has gone away wants no more.
    let _gone = writeln!(std::io::stdout().lock(), "{text}");
}

/// A line for people on standard error.
pub fn error(text: &str) {
    // Nobody is left to tell.
    let _gone = writeln!(std::io::stderr().lock(), "{text}");
}
