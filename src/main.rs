//! Arguments to one command, and its exit code. Nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    loopgate::cli::run()
}
