//! Loads catalog and policies, and puts changed files in force while calls run.
//!
//! Promises: a change is checked in a child process, compiled and self-tested before it decides
//! anything; it goes in force whole or not at all; a refused change leaves the last good rules,
//! and says so in `/readyz`, the log, a metric and the journal; what was refused for a passing cause
//! is tried again until it is in force or the files change. Never writes a file.
//! Called by `app` and the commands.

pub mod bundle;
pub mod pull;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

/// Longest wait before a load that was refused for a passing cause is tried again.
const AGAIN_AFTER_MAX: Duration = Duration::from_mins(5);

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
    Ok(Rules { catalog, facts, pdp, loaded_ms: now_ms })
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

/// What a file looked like, cheaply: enough to know that it should be read again.
///
/// Whoever sets a file's modification time back still changes its inode or the time of its inode.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    path: PathBuf,
    /// Device and inode, size, times of change of the text and of the inode; nothing if not there.
    about: Option<[i64; 7]>,
}

impl Look {
    fn of(path: &Path, meta: Option<&std::fs::Metadata>) -> Self {
        let about = meta.map(|meta| {
            let [device, inode, size] = [meta.dev(), meta.ino(), meta.len()].map(u64::cast_signed);
            [device, inode, size, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
        });
        Self { path: path.to_owned(), about }
    }
}

type Stamp = Vec<Look>;

/// What the sources looked like when they were last read, and what became of it.
#[derive(Debug)]
pub struct Seen {
    stamp: Stamp,
    again: Option<Again>,
}

/// When to try once more: looks to wait, doubled each time.
#[derive(Debug)]
struct Again {
    step: u32,
    left: u32,
}

impl Again {
    /// After a refusal: another try for a passing cause, and none for faults of the files.
    fn after(refused: &Refused, before: Option<&Self>, every: Duration) -> Option<Self> {
        let most = AGAIN_AFTER_MAX.div_duration_f64(every.max(Duration::from_millis(1)));
        let step = before.map_or(1, |again| again.step.saturating_mul(2));
        refused.passing.then(|| {
            let step = if f64::from(step) > most { before.map_or(1, |again| again.step) } else { step };
            Self { step, left: step }
        })
    }

    /// Counts one look; whether this is the one.
    fn due(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }
}

fn stamp(sources: &Sources) -> Stamp {
    fn walk(path: &Path, depth: usize, out: &mut Stamp) {
        // WHY: metadata follows links, since Kubernetes swaps a link when a ConfigMap changes.
        let Ok(meta) = std::fs::metadata(path) else { return out.push(Look::of(path, None)) };
        if !meta.is_dir() {
            out.push(Look::of(path, Some(&meta)));
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
        let stamp = stamp(&self.sources);
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
            let now = stamp(&self.sources);
            if now != seen {
                seen = now;
                again = self.turn(None).await;
            } else if again.as_mut().is_some_and(Again::due) {
                again = self.turn(again.as_ref()).await;
            }
        }
    }

    /// One attempt; when to make the next if this one failed for a passing cause.
    async fn turn(&self, before: Option<&Again>) -> Option<Again> {
        let refused = self.attempt().await.err()?;
        self.refuse(&refused.faults).await;
        Again::after(&refused, before, self.every)
    }

    /// Loads, records, puts in force; in this order.
    async fn attempt(&self) -> Result<(), Refused> {
        let now_ms = self.clock.now_ms();
        let rules = try_load(&self.sources, now_ms).await?;
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
        self.journal.append(record).await.map_err(|fault| Refused {
            faults: vec![format!("the change cannot be recorded: {fault}")],
            passing: true,
        })?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;

    use super::*;

    /// An edit of the same length whose time was set back used to go unseen for ever.
    #[test]
    fn an_edit_of_the_same_size_and_time_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tenants.yaml");
        let sources = Sources {
            catalog: dir.path().join("catalog.yaml"),
            policy_dir: dir.path().to_owned(),
            checker: PathBuf::new(),
            backends: Vec::new(),
        };
        fs::write(&file, "a: true ").unwrap();
        let (before, modified) = (stamp(&sources), fs::metadata(&file).unwrap().modified().unwrap());
        assert_eq!(before, stamp(&sources));
        let new = dir.path().join(".new");
        fs::write(&new, "a: false").unwrap();
        File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
        fs::rename(&new, &file).unwrap();
        assert_ne!(before, stamp(&sources));
    }

    #[test]
    fn only_a_passing_cause_is_tried_again_and_ever_more_rarely() {
        let every = Duration::from_mins(1);
        let passing = Refused { faults: Vec::new(), passing: true };
        let mut again = None;
        let mut steps = Vec::new();
        for _ in 0..5 {
            again = Again::after(&passing, again.as_ref(), every);
            steps.extend(again.as_ref().map(|again| again.step));
        }
        assert_eq!(steps, [1, 2, 4, 4, 4]);
        assert!(Again::after(&Refused::from(Vec::new()), again.as_ref(), every).is_none());
    }
}
