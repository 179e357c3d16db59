//! `loopgate serve`: the gateway until it is told to stop.
//!
//! Promises: the first signal drains, the second ends it at once; exit code 0 after a drain, 1 when
//! calls were cut off by a second signal, 3 when it cannot start. Called by `cli`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::print;
use crate::app;
use crate::app::stop::StopSignal;
use crate::config;

/// The gateway.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings file; config/gateway.yaml shows every option
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Serves until SIGINT or SIGTERM, then drains.
pub async fn run(args: Args) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(faults) => return super::check::report(&args.config, &faults, false),
    };
    app::log(&settings.log);
    let mut signal = StopSignal::listen();
    let started = tokio::select! {
        started = app::start(settings) => started,
        // Nothing has been served yet; what was begun is dropped.
        () = signal.told() => return ExitCode::from(super::DONE),
    };
    match started {
        Ok(running) => {
            signal.told().await;
            tokio::select! {
                () = running.stop() => ExitCode::from(super::DONE),
                // Whoever asks twice does not want to wait; the journal is whole at any moment.
                () = signal.told() => {
                    print::failed("told to stop a second time; calls under way were cut off");
                    ExitCode::from(super::NO)
                }
            }
        }
        Err(fault) => {
            print::failed(&format!("the gateway cannot start: {fault}"));
            ExitCode::from(super::UNREACHABLE)
        }
    }
}
