//! Loads catalog and policies, and puts changed files in force while calls run.
//!
//! Promises: a change is checked in a child process, compiled and self-tested before it decides
//! anything; it goes in force whole or not at all; a refused change leaves the last good rules,
//! and says so in `/readyz`, the log, a metric and the journal; what was refused for a passing cause
//! is tried again until it is in force or the files change. Never says when a change goes live: the
//! [`steward`] does. Called by `app` and the commands.

pub mod bundle;
pub mod pull;
pub mod steward;
mod look;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;

use self::look::Again;
pub use self::look::Seen;
use self::look::Stamp;
use self::steward::Steward;
use self::steward::Tools;

use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::catalog::Catalog;
use crate::domain::pdp::ToolFacts;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::engine::Pdp;
use crate::domain::rollout::Origin;
use crate::pep::rollout::RolloutFault;
use crate::pep::rules::Rules;

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
    try_load(sources, now_ms).await.map_err(|refused| refused.faults)
}

/// Why rules were not put in force.
#[derive(Debug)]
struct Refused {
    faults: Vec<String>,
    /// Whether the same files may be accepted later, because something else was in the way.
    passing: bool,
}

impl From<Vec<String>> for Refused {
    fn from(faults: Vec<String>) -> Self {
        Self { faults, passing: false }
    }
}

impl From<RolloutFault> for Refused {
    fn from(fault: RolloutFault) -> Self {
        let passing = fault.passing();
        match fault {
            RolloutFault::Bundle { faults, .. } => Self { faults, passing },
            other => Self { faults: vec![format!("the change is not in force: {other}")], passing },
        }
    }
}

async fn try_load(sources: &Sources, now_ms: i64) -> Result<Rules, Refused> {
    let catalog = catalog(&sources.catalog)?;
    reachable(&catalog, sources)?;
    let facts = ToolFacts::of(&catalog);
    let bundle =
        bundle::load_checked(&sources.checker, &sources.policy_dir, &facts).await.map_err(|faults| Refused {
            faults: faults.iter().map(ToString::to_string).collect(),
            passing: faults.iter().all(bundle::passing),
        })?;
    // WHY: compiling and self-testing take milliseconds to a second, too long for a thread that serves.
    let compiled = tokio::task::spawn_blocking(move || (Pdp::compile(&bundle, &facts), facts)).await;
    let (pdp, facts) = compiled.map_err(|cause| vec![format!("the bundle could not be compiled: {cause}")])?;
    let pdp = pdp.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(Rules { catalog: Arc::new(catalog), facts, pdp, loaded_ms: now_ms })
}

/// Whether every backend that the catalog puts tools on is one of the settings'.
fn reachable(catalog: &Catalog, sources: &Sources) -> Result<(), Vec<String>> {
    let strange = |name: &&str| !sources.backends.iter().any(|known| known == name);
    let faults: Vec<String> = catalog
        .backends()
        .into_iter()
        .filter(strange)
        .map(|name| format!("backends: the catalog puts tools on `{name}`; add a backend of that name"))
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

/// Watches the sources, and offers what it finds to the steward.
pub struct Watcher {
    /// Where rules come from.
    pub sources: Sources,
    /// The folder of a candidate in shadow, if it has one of its own.
    pub shadow_dir: Option<PathBuf>,
    /// Puts in force what is to be in force.
    pub steward: Arc<Steward>,
    /// How often files are looked at.
    pub every: Duration,
}

impl Watcher {
    /// Loads for the first time. On faults the rules that were in force before go on deciding; if there
    /// are none, nothing decides and the instance is not ready.
    pub async fn first(&self) -> Seen {
        // WHY: looked at before it is read, so that a change made meanwhile is seen by the next look.
        let stamp = self.stamp();
        let again = self.turn(None).await;
        Seen { stamp, again }
    }

    /// Looks for changes since `seen` until `stop` turns true.
    pub async fn run(self, seen: Seen, mut stop: watch::Receiver<bool>) {
        let Seen { stamp: mut seen, mut again } = seen;
        loop {
            tokio::select! {
                // Nothing is lost: a load under way is never interrupted, only the wait between looks.
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(self.every) => {}
            }
            let now = self.stamp();
            if now != seen {
                seen = now;
                again = self.turn(None).await;
            } else if again.as_mut().is_some_and(Again::due) {
                again = self.turn(again.as_ref()).await;
            }
        }
    }

    fn stamp(&self) -> Stamp {
        let files = [self.sources.catalog.as_path(), self.sources.policy_dir.as_path()];
        look::stamp(files.into_iter().chain(self.shadow_dir.as_deref()))
    }

    /// One attempt; when to make the next if this one failed for a passing cause.
    async fn turn(&self, before: Option<&Again>) -> Option<Again> {
        let attempt = self.attempt().await;
        if attempt.is_ok() {
            self.steward.tools.cell.settle();
            self.steward.tools.metrics.rules_stale.set(0);
        }
        let outcome = match attempt {
            Ok(()) => self.shadow().await,
            refused => refused,
        };
        let refused = outcome.err()?;
        self.refuse(&refused).await;
        Again::after(refused.passing, before, self.every)
    }

    /// Reads, and offers what was read.
    async fn attempt(&self) -> Result<(), Refused> {
        let catalog = catalog(&self.sources.catalog)?;
        reachable(&catalog, &self.sources)?;
        let read = read(&self.sources.policy_dir).await.map(|bundle| Some((bundle, Origin::Folder)));
        Ok(self.steward.offer(catalog, read).await?)
    }

    /// The candidate in shadow, if it has a folder.
    async fn shadow(&self) -> Result<(), Refused> {
        let Some(dir) = &self.shadow_dir else { return Ok(()) };
        let shaded = match read(dir).await {
            Ok(bundle) => self.steward.shade(&bundle).await,
            Err(fault) => Err(fault),
        };
        shaded.map_err(|fault| {
            self.steward.unshade();
            let Refused { faults, passing } = Refused::from(fault);
            Refused { faults: faults.into_iter().map(|fault| format!("policy.shadow: {fault}")).collect(), passing }
        })
    }

    async fn refuse(&self, refused: &Refused) {
        let Tools { cell, journal, clock, metrics, .. } = &self.steward.tools;
        let faults = &refused.faults;
        let kept = if cell.current().is_some() { "the last good rules go on deciding" } else { "nothing decides" };
        error!(rules.faults = faults.len(), "changed rules refused, {kept}: {}", faults.join(" | "));
        metrics.reloads.with_label_values(&["refused"]).inc();
        metrics.rules_stale.set(1);
        cell.refuse(faults.clone());
        let record = Record::event(Stage::Policy("refused"), clock.now_ms(), "changed rules were refused")
            .with("faults", faults.clone())
            .with("kept", cell.current().map(|rules| rules.revision()));
        if let Err(fault) = journal.append(record).await {
            error!("the refusal of changed rules cannot be recorded: {fault}");
        }
    }
}

/// Reads a bundle, trying nothing.
async fn read(dir: &Path) -> Result<Bundle, RolloutFault> {
    let folder = dir.to_owned();
    let broken = |faults: Vec<String>| RolloutFault::Bundle { faults, passing: false };
    let read = tokio::task::spawn_blocking(move || bundle::read(&folder)).await;
    let read = read.map_err(|cause| broken(vec![format!("the folder could not be read: {cause}")]))?;
    read.map_err(|faults| broken(faults.iter().map(ToString::to_string).collect()))
}
