//! `loopgate serve`: the gateway until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use super::print;
use crate::app;
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
        Err(faults) => return super::check::report(&args.config, &faults),
    };
    app::log(&settings.log);
    match app::start(settings).await {
        Ok(running) => {
            app::stop_signal().await;
            running.stop().await;
            ExitCode::from(super::DONE)
        }
        Err(fault) => {
            print::error(&format!("loopgate cannot start: {fault}"));
            ExitCode::from(super::UNREACHABLE)
        }
    }
}
