//! `loopgate keys`: which keys sign assertions for backends, and replacing the one that does.
//!
//! Promises: a new key is published before it signs unless `--now` says otherwise; a running gateway
//! takes it up by itself. Never shows a private key. Exit code 0, 1 when a new key is on its way
//! already, 2 for settings that do not hold. Called by `cli`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use super::print;
use crate::app;
use crate::config;
use crate::config::Settings;
use crate::domain::identity::ring::Held;
use crate::domain::identity::ring::Use;

/// List and replace the keys that sign assertions for backends.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish a new key, which signs after `keys.publish_before`
    Rotate {
        /// Settings file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Sign with it at once; backends that have not read it yet refuse calls until they do
        #[arg(long)]
        now: bool,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the keys, and what each is for now
    List {
        /// Settings file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let (Command::Rotate { config, json, .. } | Command::List { config, json }) = &args.command;
    let settings = match config::load(config) {
        Ok(settings) => settings,
        Err(faults) => return super::check::report(config, &faults, *json),
    };
    let done = match &args.command {
        Command::Rotate { now, json, .. } => rotate(&settings, *now, *json),
        Command::List { json, .. } => list(&settings, *json),
    };
    done.unwrap_or_else(|fault| {
        print::failed(&fault.to_string());
        ExitCode::from(super::USAGE)
    })
}

fn rotate(settings: &Settings, now: bool, json: bool) -> Result<ExitCode, app::AppFault> {
    let wait = if now { Duration::ZERO } else { settings.rotation.publish_before };
    app::keys::OwnKeys::open(&settings.keys_dir)?;
    let Some(held) = app::keys::rotate(&settings.keys_dir, app::now_s(), wait)? else {
        let words = "a new key is published and does not sign yet; see `loopgate keys list`, and wait until it does";
        print::failed(words);
        return Ok(ExitCode::from(super::NO));
    };
    if json {
        print::line(&row(&held, if now { Use::Signs } else { Use::Next }).to_string());
    } else if now {
        print::line(&format!("{} signs from now on", held.key.kid()));
    } else {
        print::line(&format!("{} is published, and signs from {} on", held.key.kid(), moment(held.from_s)));
    }
    Ok(ExitCode::from(super::DONE))
}

fn list(settings: &Settings, json: bool) -> Result<ExitCode, app::AppFault> {
    let ring = app::keys::read(&settings.keys_dir)?;
    let keys: Vec<(&Held, Use)> = ring.iter().flat_map(|ring| ring.uses(app::now_s())).collect();
    if json {
        let keys: Vec<Value> = keys.iter().map(|(held, of)| row(held, *of)).collect();
        print::line(&json!({ "keys": keys }).to_string());
    } else if keys.is_empty() {
        print::line("none yet; the first one is made when the gateway starts");
    } else {
        for (held, of) in keys {
            print::line(&format!("{}  {:<9}  {}", held.key.kid(), word(of), moment(held.from_s)));
        }
    }
    Ok(ExitCode::from(super::DONE))
}

fn row(held: &Held, of: Use) -> Value {
    let from = (held.from_s != 0).then(|| moment(held.from_s));
    json!({"kid": held.key.kid(), "use": word(of), "from": from})
}

const fn word(of: Use) -> &'static str {
    match of {
        Use::Next => "next",
        Use::Signs => "signs",
        Use::Leaving => "leaving",
        Use::Gone => "gone",
    }
}

/// When a key began to sign, or will.
fn moment(from_s: i64) -> String {
    if from_s == 0 {
        return "the beginning".to_owned();
    }
    jiff::Timestamp::from_second(from_s).unwrap_or_default().to_string()
}
