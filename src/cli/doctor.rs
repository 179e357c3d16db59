//! `loopgate doctor`: reaches everything that the gateway needs; one line each.
//!
//! Promises: every line says ok, or what is wrong and what to do; nothing is changed but for a
//! probe of whether the journal's folder can be written. Never serves.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::print;
use crate::adapters::backend::Backends;
use crate::app;
use crate::config;
use crate::config::Settings;
use crate::metrics::Metrics;

/// Reach issuer, backend and journal; one line each.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    /// What is wrong and what to do; or what was found.
    words: String,
}

impl Finding {
    fn ok(what: impl Into<String>, words: impl Into<String>) -> Self {
        Self { what: what.into(), ok: true, words: words.into() }
    }

    fn wrong(what: impl Into<String>, words: impl Into<String>) -> Self {
        Self { what: what.into(), ok: false, words: words.into() }
    }
}

/// Examines everything, then prints it all.
pub async fn run(args: Args) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(faults) => return super::check::report(&args.config, &faults),
    };
    let mut findings = vec![rules(&settings).await];
    findings.extend(issuers(&settings).await);
    findings.extend(backends(&settings).await);
    findings.push(folder("journal", &settings.audit.dir, "audit.dir"));
    findings.push(folder("keys", &settings.keys_dir, "keys.dir"));
    let well = findings.iter().all(|finding| finding.ok);
    if args.json {
        print::line(&serde_json::json!({"ok": well, "findings": findings}).to_string());
    } else {
        for finding in &findings {
            print::line(&format!(
                "{:<6}{:<24}{}",
                if finding.ok { "ok" } else { "WRONG" },
                finding.what,
                finding.words
            ));
        }
    }
    ExitCode::from(if well { super::DONE } else { super::UNREACHABLE })
}

async fn rules(settings: &Settings) -> Finding {
    match app::load_rules(settings).await {
        Ok(rules) => {
            Finding::ok("rules", format!("{} tools, policy {}", rules.catalog.tools().count(), rules.revision()))
        }
        Err(faults) => Finding::wrong("rules", format!("{}; `loopgate check` lists every fault", faults.join(" | "))),
    }
}

async fn issuers(settings: &Settings) -> Vec<Finding> {
    let keys = match app::issuers(settings, settings.public_url.as_deref().unwrap_or_default()) {
        Ok(keys) => keys,
        Err(fault) => return vec![Finding::wrong("issuers", fault.to_string())],
    };
    keys.load().await;
    keys.health()
        .into_iter()
        .map(|issuer| {
            let what = format!("issuer {}", issuer.issuer);
            match issuer.fault {
                None => Finding::ok(what, format!("{} keys", issuer.kids.len())),
                Some(fault) => Finding::wrong(
                    what,
                    format!("{fault}; check `issuers[].keys` and that it can be reached from here"),
                ),
            }
        })
        .collect()
}

async fn backends(settings: &Settings) -> Vec<Finding> {
    let backends = Backends::new(app::targets(settings), 1, 0, &Arc::new(Metrics::new()));
    let probed = backends.probe().await;
    probed
        .into_iter()
        .map(|(name, reached)| match reached {
            Ok(()) => Finding::ok(format!("backend {name}"), "connects"),
            Err(cause) => {
                Finding::wrong(format!("backend {name}"), format!("{cause}; check `backends[].url` and the network"))
            }
        })
        .collect()
}

/// Whether a file can be made and synced in a folder; the probe is taken away again.
fn folder(what: &str, dir: &Path, setting: &str) -> Finding {
    let probe = dir.join(".doctor");
    let tried = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::File::create(&probe))
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::remove_file(&probe));
    match tried {
        Ok(()) => Finding::ok(what, format!("{} can be written", dir.display())),
        Err(cause) => Finding::wrong(
            what,
            format!("{}: {cause}; make it writable for the gateway's user, or change `{setting}`", dir.display()),
        ),
    }
}
