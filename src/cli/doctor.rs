//! `loopgate doctor`: reaches everything that the gateway needs; one line each.
//!
//! Promises: every line says ok, or what is wrong and what to do; nothing is changed but for a
//! probe of whether folders can be written. Never serves.
//! Exit code 0, 2 for settings that do not hold, 3 when something is wrong. Called by `cli`.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::print;
use crate::adapters::backend::Backends;
use crate::app;
use crate::config;
use crate::config::LedgerPlace;
use crate::config::Settings;
use crate::metrics::Metrics;

/// Reach issuers, backends, journal, ledger and shared counters; one line each.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Answer in JSON
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
        Err(faults) => return super::check::report(&args.config, &faults, args.json),
    };
    let mut findings = vec![rules(&settings).await];
    findings.extend(issuers(&settings).await);
    findings.extend(backends(&settings).await);
    findings.push(folder("journal", &settings.audit.dir, "audit.dir"));
    findings.push(ledger(&settings).await);
    findings.extend(counters(&settings).await);
    findings.push(folder("policy store", &settings.policy.store, "policy.store"));
    findings.push(folder("keys", &settings.keys_dir, "keys.dir"));
    let well = findings.iter().all(|finding| finding.ok);
    if args.json {
        print::line(&serde_json::json!({"ok": well, "findings": findings}).to_string());
    } else {
        let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or_default();
        for Finding { what, ok, words } in &findings {
            let (colour, mark) = if *ok { (print::GOOD, "ok") } else { (print::BAD, "WRONG") };
            print::line(&format!("{colour}{mark:<5}{}  {what:<width$}  {words}", print::PLAIN));
        }
    }
    ExitCode::from(if well { super::DONE } else { super::UNREACHABLE })
}

async fn rules(settings: &Settings) -> Finding {
    match app::load_rules(settings).await {
        Ok(rules) => {
            let tools = print::count(rules.catalog.tools().count(), "tool");
            Finding::ok("rules", format!("{tools}, policy {}", rules.revision()))
        }
        Err(faults) => {
            let first = faults.first().and_then(|fault| fault.lines().next()).unwrap_or_default();
            let words = match faults.len() {
                0 | 1 => format!("{first}; `loopgate check` says more"),
                more => format!("{first}; and {} more, which `loopgate check` lists", more - 1),
            };
            Finding::wrong("rules", words)
        }
    }
}

async fn issuers(settings: &Settings) -> Vec<Finding> {
    let keys = match app::issuers(settings, &app::resource(settings, settings.mcp)) {
        Ok(keys) => keys,
        Err(fault) => return vec![Finding::wrong("issuers", fault.to_string().trim_start_matches("issuers: "))],
    };
    keys.load().await;
    keys.probe(app::now_s()).await;
    let callers = keys.health().into_iter().map(|health| ("issuer", health));
    let approvers = keys.approvers_health().into_iter().map(|health| ("approvals by", health));
    callers
        .chain(approvers)
        .map(|(kind, issuer)| {
            let what = format!("{kind} {}", issuer.issuer);
            match issuer.fault {
                None if issuer.kids == ["introspection"] => Finding::ok(what, "answers when asked about a token"),
                None if issuer.kids == ["certificates"] => Finding::ok(what, "vouches by its client certificates"),
                None => Finding::ok(what, print::count(issuer.kids.len(), "key")),
                Some(fault) => Finding::wrong(what, fault),
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

async fn counters(settings: &Settings) -> Option<Finding> {
    let hint =
        "check the URL in `limits.rates.url_file`, and that the store is up; until then each replica counts for itself";
    Some(match app::examine_counters(settings).await? {
        Ok(()) => Finding::ok("counters", "the shared store of `limits.rates` answers"),
        Err(fault) => Finding::wrong("counters", format!("{fault}; {hint}")),
    })
}

async fn ledger(settings: &Settings) -> Finding {
    let examined = match app::examine_ledger(settings).await {
        Ok(examined) => examined,
        Err(fault) => {
            let hint = match settings.ledger.place {
                LedgerPlace::Sqlite { .. } => "",
                LedgerPlace::Postgres { .. } => "; check the URL in `ledger.url_file`, and that the database is up",
            };
            return Finding::wrong("ledger", format!("{}{hint}", fault.to_string().trim_start_matches("ledger: ")));
        }
    };
    if !examined.faults.is_empty() {
        return Finding::wrong("ledger", examined.faults.join("; "));
    }
    match &settings.ledger.place {
        LedgerPlace::Sqlite { path } => {
            let in_folder = folder("ledger", path.parent().unwrap_or(Path::new(".")), "ledger.path");
            if in_folder.ok { Finding::ok("ledger", examined.words) } else { in_folder }
        }
        LedgerPlace::Postgres { .. } => Finding::ok("ledger", examined.words),
    }
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
