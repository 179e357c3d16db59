//! The signals that end the process: SIGINT and SIGTERM.
//!
//! Promises: heard from the moment of [`StopSignal::listen`], so that none is lost while a command
//! is still starting. Never ends the process itself. Called by the commands that run until told.

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::warn;

/// Hears SIGINT and SIGTERM.
#[derive(Debug)]
pub struct StopSignal {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl StopSignal {
    /// From here on a signal no longer kills the process.
    #[must_use]
    pub fn listen() -> Self {
        let hear = |kind, name| {
            signal(kind).map_err(|cause| warn!("{name} cannot be heard ({cause}); it ends this process at once")).ok()
        };
        Self { interrupt: hear(SignalKind::interrupt(), "SIGINT"), terminate: hear(SignalKind::terminate(), "SIGTERM") }
    }

    /// Resolves at the next signal.
    pub async fn told(&mut self) {
        tokio::select! {
            // Whichever comes first is the signal; the other one is not waited for.
            () = next(&mut self.interrupt) => {}
            () = next(&mut self.terminate) => {}
        }
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            let _heard = signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
