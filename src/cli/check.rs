//! `loopgate check`: loads everything and serves nothing.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use super::print;
use crate::app;
use crate::config;
use crate::config::ConfigFault;

/// Load everything and serve nothing; every fault at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// Settings first; when they hold, catalog and policies.
pub async fn run(args: Args) -> ExitCode {
    let faults: Vec<String> = match config::load(&args.config) {
        Err(faults) => faults.iter().map(|fault| format!("{}: {fault}", args.config.display())).collect(),
        Ok(settings) => match app::load_rules(&settings).await {
            Ok(rules) => {
                let found = serde_json::json!({
                    "ok": true, "tools": rules.catalog.tools().count(), "revision": rules.revision(),
                    "engine": rules.pdp.engine().as_str(),
                    "notes": rules.pdp.notes().iter().map(ToString::to_string).collect::<Vec<_>>(),
                });
                return good(args.json, &found);
            }
            Err(faults) => faults,
        },
    };
    if args.json {
        print::line(&serde_json::json!({"ok": false, "faults": faults}).to_string());
    } else {
        say(&faults);
    }
    ExitCode::from(super::USAGE)
}

fn good(json: bool, found: &serde_json::Value) -> ExitCode {
    if json {
        print::line(&found.to_string());
    } else {
        print::line(&format!(
            "ok: {} tools, policy {} on the {} engine",
            found["tools"],
            found["revision"].as_str().unwrap_or_default(),
            found["engine"].as_str().unwrap_or_default(),
        ));
    }
    ExitCode::from(super::DONE)
}

/// Shows the faults of a settings file.
#[must_use]
pub fn report(file: &Path, faults: &[ConfigFault]) -> ExitCode {
    say(&faults.iter().map(|fault| format!("{}: {fault}", file.display())).collect::<Vec<_>>());
    ExitCode::from(super::USAGE)
}

fn say(faults: &[String]) {
    for fault in faults {
        print::error(fault);
    }
    let plural = if faults.len() == 1 { "" } else { "s" };
    print::error(&format!("{} fault{plural}", faults.len()));
}
