//! Loads catalog and policies, and puts changed files in force while calls run.
//!
//! Promises: a change is checked in a child process, compiled and self-tested before it decides
//! anything; it goes in force whole or not at all; a refused change leaves the last good rules,
//! and says so in `/readyz`, the log, a metric and the journal. Never writes a file.
//! Called by `app` and the commands.

pub mod bundle;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::watch;
use tracing::error;
use tracing::info;

use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::catalog::Catalog;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::engine::Pdp;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;
use crate::pep::ports::Journal;
use crate::pep::rules::Rules;
use crate::pep::rules::RulesCell;

/// Where rules come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The catalog file.
    pub catalog: PathBuf,
    /// The policy folder.
    pub policy_dir: PathBuf,
    /// The program that checks a bundle in a child process: this one.
    pub checker: PathBuf,
    /// Names of the backends that tools may be put on.
    pub backends: Vec<String>,
}

/// Reads, checks and compiles; every fault in words for people, each naming its file.
pub async fn load(sources: &Sources, now_ms: i64) -> Result<Rules, Vec<String>> {
    let catalog = catalog(&sources.catalog)?;
    reachable(&catalog, sources)?;
    let facts = ToolFacts::of(&catalog);
    let bundle = bundle::load_checked(&sources.checker, &sources.policy_dir, &facts)
        .await
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    // WHY: compiling and self-testing take milliseconds to a second, too long for a thread that serves.
    let compiled = tokio::task::spawn_blocking(move || (Pdp::compile(&bundle, &facts), facts)).await;
    let (pdp, facts) = compiled.map_err(|cause| vec![format!("the bundle could not be compiled: {cause}")])?;
    let pdp = pdp.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(Rules { catalog, facts, pdp, loaded_ms: now_ms })
}

/// Whether every backend that the catalog puts tools on is one of the settings'.
fn reachable(catalog: &Catalog, sources: &Sources) -> Result<(), Vec<String>> {
    let strange = |name: &&str| !sources.backends.iter().any(|known| known == name);
    let faults: Vec<String> = catalog
        .backends()
        .into_iter()
        .filter(strange)
        .map(|name| {
            let file = sources.catalog.display();
            format!("{file}: tools are put on `{name}`, which is no backend of the settings; add it to `backends`, or name one that is there")
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Reads and checks a catalog file.
pub fn catalog(file: &Path) -> Result<Catalog, Vec<String>> {
    let text = std::fs::read_to_string(file)
        .map_err(|cause| vec![format!("{}: cannot be read: {cause}; name an existing catalog", file.display())])?;
    Catalog::from_yaml(&text)
        .map_err(|faults| faults.iter().map(|fault| format!("{}: {fault}", file.display())).collect())
}

/// What a file looked like, cheaply: enough to know that it should be read again.
type Stamp = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// What the sources looked like when they were last read.
#[derive(Debug)]
pub struct Seen(Stamp);

fn stamp(sources: &Sources) -> Stamp {
    fn walk(path: &Path, depth: usize, out: &mut Stamp) {
        // WHY: metadata follows links, since Kubernetes swaps a link when a ConfigMap changes.
        let Ok(meta) = std::fs::metadata(path) else {
            out.push((path.to_owned(), 0, None));
            return;
        };
        if !meta.is_dir() {
            out.push((path.to_owned(), meta.len(), meta.modified().ok()));
        } else if depth > 0 {
            let Ok(entries) = std::fs::read_dir(path) else { return };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in &paths {
                walk(path, depth - 1, out);
            }
        }
    }
    let mut out = Stamp::new();
    walk(&sources.catalog, 0, &mut out);
    walk(&sources.policy_dir, 8, &mut out);
    out
}

/// Watches the sources and swaps rules.
pub struct Watcher {
    /// Where rules come from.
    pub sources: Sources,
    /// Where they go.
    pub cell: Arc<RulesCell>,
    /// How often files are looked at.
    pub every: Duration,
    /// Counts loads and refusals.
    pub metrics: Arc<Metrics>,
    /// Records activations and refusals.
    pub journal: Arc<dyn Journal>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl Watcher {
    /// Loads for the first time. On faults nothing decides and the instance is not ready.
    pub async fn first(&self) -> Seen {
        // WHY: looked at before it is read, so that a change made meanwhile is seen by the next look.
        let seen = stamp(&self.sources);
        if let Err(faults) = self.attempt().await {
            self.refuse(&faults).await;
        }
        Seen(seen)
    }

    /// Looks for changes since `seen` until `stop` turns true.
    pub async fn run(self, seen: Seen, mut stop: watch::Receiver<bool>) {
        let Seen(mut seen) = seen;
        loop {
            tokio::select! {
                // Nothing is lost: a load under way is never interrupted, only the wait between looks.
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(self.every) => {}
            }
            let now = stamp(&self.sources);
            if now == seen {
                continue;
            }
            seen = now;
            if let Err(faults) = self.attempt().await {
                self.refuse(&faults).await;
            }
        }
    }

    /// Loads, records, puts in force; in this order.
    async fn attempt(&self) -> Result<(), Vec<String>> {
        let now_ms = self.clock.now_ms();
        let rules = load(&self.sources, now_ms).await?;
        if let Some(old) = self.cell.current()
            && same(&old, &rules)
        {
            self.cell.settle();
            self.metrics.rules_stale.set(0);
            return Ok(());
        }
        let record = Record::event(Stage::Policy("activated"), now_ms, "new rules are in force")
            .with("policyRevision", rules.revision())
            .with("bundle", rules.pdp.bundle_digest())
            .with("data", rules.pdp.data_digest())
            .with("catalog", rules.catalog.digest())
            .with("engine", rules.pdp.engine().as_str());
        self.journal.append(record).await.map_err(|fault| vec![format!("the change cannot be recorded: {fault}")])?;
        self.show(&rules);
        info!(rules.revision = %rules.revision(), "rules {} are in force", rules.revision());
        self.cell.activate(rules);
        Ok(())
    }

    fn show(&self, rules: &Rules) {
        let engine = rules.pdp.engine().as_str();
        self.metrics.rules_info.reset();
        self.metrics
            .rules_info
            .with_label_values(&[rules.pdp.bundle_digest(), rules.pdp.data_digest(), rules.catalog.digest(), engine])
            .set(1);
        self.metrics.rules_loaded.set(rules.loaded_ms / 1000);
        self.metrics.rules_stale.set(0);
        self.metrics.reloads.with_label_values(&["loaded"]).inc();
    }

    async fn refuse(&self, faults: &[String]) {
        let kept = if self.cell.current().is_some() { "the last good rules go on deciding" } else { "nothing decides" };
        error!(rules.faults = faults.len(), "changed rules refused, {kept}: {}", faults.join(" | "));
        self.metrics.reloads.with_label_values(&["refused"]).inc();
        self.metrics.rules_stale.set(1);
        self.cell.refuse(faults.to_vec());
        let record = Record::event(Stage::Policy("refused"), self.clock.now_ms(), "changed rules were refused")
            .with("faults", faults.to_vec())
            .with("kept", self.cell.current().map(|rules| rules.revision()));
        if let Err(fault) = self.journal.append(record).await {
            error!("the refusal of changed rules cannot be recorded: {fault}");
        }
    }
}

fn same(old: &Rules, new: &Rules) -> bool {
    old.pdp.bundle_digest() == new.pdp.bundle_digest()
        && old.pdp.data_digest() == new.pdp.data_digest()
        && old.catalog.digest() == new.catalog.digest()
}
