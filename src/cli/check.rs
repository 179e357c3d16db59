//! `loopgate check`: loads everything and serves nothing.
//!
//! Promises: every fault at once, each with its place and a remedy; exit code 0 or 2. Changes
//! nothing and reaches for nothing. Called by `cli`; other commands report settings through it.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;
use serde_json::json;

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
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Settings first; when they hold, what they name: issuers, credentials, catalog and policies.
pub async fn run(args: Args) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(faults) => return report(&args.config, &faults, args.json),
    };
    let mut faults = app::parties(&settings);
    let rules = match app::load_rules(&settings).await {
        Ok(rules) if faults.is_empty() => rules,
        loaded => {
            faults.extend(loaded.err().into_iter().flatten());
            let faults: Vec<Value> = faults.into_iter().map(|message| json!({"message": message})).collect();
            return bad(&faults, args.json);
        }
    };
    let (tools, engine) = (rules.catalog.tools().count(), rules.pdp.engine().as_str());
    if args.json {
        let of_rules = rules.pdp.notes().iter().map(ToString::to_string);
        let notes: Vec<String> = settings.notes().into_iter().chain(of_rules).collect();
        let found = json!({"ok": true, "tools": tools, "revision": rules.revision(), "engine": engine, "notes": notes});
        print::line(&found.to_string());
    } else {
        settings.notes().iter().for_each(|note| print::error(&format!("note: {note}")));
        let words = format!("{}, policy {} on the {engine} engine", print::count(tools, "tool"), rules.revision());
        print::line(&format!("{}ok:{} {words}", print::GOOD, print::PLAIN));
    }
    ExitCode::from(super::DONE)
}

/// Shows the faults of a settings file.
#[must_use]
pub fn report(file: &Path, faults: &[ConfigFault], json: bool) -> ExitCode {
    let file = file.display().to_string();
    let told = |fault: &ConfigFault| {
        // The file itself is the place when it cannot be read.
        let place = if fault.path == file { file.clone() } else { format!("{file}: {}", fault.path) };
        let message = format!("{place}: {}; {}", fault.message, fault.remedy);
        json!({"path": fault.path, "fault": fault.message, "remedy": fault.remedy, "message": message})
    };
    bad(&faults.iter().map(told).collect::<Vec<_>>(), json)
}

/// Every fault carries its `message`; those of settings their parts besides.
fn bad(faults: &[Value], json: bool) -> ExitCode {
    if json {
        print::line(&json!({"ok": false, "faults": faults}).to_string());
    } else {
        for message in faults.iter().filter_map(|fault| fault.get("message").and_then(Value::as_str)) {
            print::error(message);
        }
        print::error(&print::count(faults.len(), "fault"));
    }
    ExitCode::from(super::USAGE)
}
