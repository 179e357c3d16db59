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
pub mod upstream;
mod look;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;
use tracing::warn;

use self::look::Again;
pub use self::look::Seen;
use self::look::Stamp;
use self::pull::Look;
use self::pull::Served;
use self::pull::Source;
use self::steward::Arrived;
use self::steward::Steward;
use self::steward::Tools;
use self::upstream::Neighbours;

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
    let bundle = read(&sources.policy_dir).await?;
    compiled(sources, catalog, bundle, now_ms).await
}

/// The same with the bundle that a server has now.
pub async fn load_served(sources: &Sources, source: &mut Source, now_ms: i64) -> Result<Rules, Vec<String>> {
    let catalog = catalog(&sources.catalog)?;
    reachable(&catalog, sources)?;
    match source.look().await {
        Look::New(served) => {
            compiled(sources, catalog, served.opened.bundle, now_ms).await.map_err(|refused| refused.faults)
        }
        Look::Refused(faults) => Err(faults),
        Look::Away(fault) => Err(vec![fault]),
        Look::NotDue | Look::Unchanged => Err(vec!["policy.bundle.url: nothing was had".to_owned()]),
    }
}

async fn compiled(sources: &Sources, catalog: Catalog, bundle: Bundle, now_ms: i64) -> Result<Rules, Refused> {
    let facts = ToolFacts::of(&catalog);
    bundle::check_in_child(&sources.checker, &bundle, &facts).await.map_err(|faults| Refused {
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
    sources: Sources,
    /// The server that bundles come from, instead of the policy folder.
    server: Option<Source>,
    /// The folder of a candidate in shadow, if it has one of its own.
    shadow_dir: Option<PathBuf>,
    /// The upstream servers, if there are any.
    neighbours: Option<Neighbours>,
    /// Puts in force what is to be in force.
    steward: Arc<Steward>,
    /// How often files are looked at.
    every: Duration,
    /// What is wrong with the files.
    faults: Vec<String>,
}

impl Watcher {
    /// Looks at these files, and at the server if there is one. Has looked at nothing yet.
    #[must_use]
    pub fn new(sources: Sources, server: Option<Source>, steward: Arc<Steward>, every: Duration) -> Self {
        Self { sources, server, shadow_dir: None, neighbours: None, steward, every, faults: Vec::new() }
    }

    /// Looks at the folder of a candidate in shadow too.
    #[must_use]
    pub fn with_shadow(self, shadow_dir: Option<PathBuf>) -> Self {
        Self { shadow_dir, ..self }
    }

    /// Adds what upstream servers offer to the catalog.
    #[must_use]
    pub fn with_neighbours(self, neighbours: Neighbours) -> Self {
        Self { neighbours: Some(neighbours), ..self }
    }

    /// Loads for the first time. On faults the rules that were in force before go on deciding; if there
    /// are none, nothing decides and the instance is not ready.
    pub async fn first(&mut self) -> Seen {
        // WHY: looked at before it is read, so that a change made meanwhile is seen by the next look.
        let stamp = self.stamp();
        let mut again = self.turn(None, None).await;
        // WHY: a server that is slow does not keep what was in force before from deciding.
        if self.steward.tools.cell.current().is_none()
            && let Some(look) = self.look().await
        {
            again = self.meet(look).await;
        }
        Seen { stamp, again }
    }

    /// Looks for changes since `seen` until `stop` turns true.
    pub async fn run(mut self, seen: Seen, mut stop: watch::Receiver<bool>) {
        let Seen { stamp: mut seen, mut again } = seen;
        loop {
            tokio::select! {
                // Nothing is lost: a load under way is never interrupted, only the wait between looks.
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(self.every) => {}
            }
            let now = self.stamp();
            let offered = self.neighbours.as_mut().is_some_and(Neighbours::have_changed);
            if now != seen || offered {
                seen = now;
                again = self.turn(None, None).await;
                // What did not fit the files that were may fit these.
                if let Some(server) = self.server.as_mut().filter(|server| !server.faults().is_empty()) {
                    server.hurry();
                }
            } else if again.as_mut().is_some_and(Again::due) {
                again = self.turn(None, again.as_ref()).await;
            }
            let look = tokio::select! {
                // A question to the server may be dropped: nothing came of it yet.
                _ = stop.wait_for(|stop| *stop) => return,
                look = self.look() => look,
            };
            if let Some(look) = look {
                again = self.meet(look).await.or(again);
            }
        }
    }

    fn stamp(&self) -> Stamp {
        let folder = Some(self.sources.policy_dir.as_path()).filter(|_| self.server.is_none());
        let accepted = self.neighbours.iter().flat_map(Neighbours::files);
        let files = [self.sources.catalog.as_path()].into_iter().chain(folder).chain(self.shadow_dir.as_deref());
        look::stamp(files.chain(accepted))
    }

    async fn look(&mut self) -> Option<Look> {
        Some(self.server.as_mut()?.look().await)
    }

    /// What came of a look at the server.
    async fn meet(&mut self, look: Look) -> Option<Again> {
        let outcome = match &look {
            Look::NotDue => return None,
            Look::Unchanged => "unchanged",
            Look::New(_) => "new",
            Look::Refused(_) => "refused",
            Look::Away(_) => "away",
        };
        self.steward.tools.metrics.pulls.with_label_values(&[outcome]).inc();
        match look {
            Look::New(served) => return self.turn(Some(*served), None).await,
            Look::Refused(faults) => self.refuse(&Refused { faults, passing: false }).await,
            Look::Away(fault) => warn!("no bundle was had, {}: {fault}", self.kept()),
            Look::NotDue | Look::Unchanged => {}
        }
        self.show();
        None
    }

    /// One attempt; when to make the next if this one failed for a passing cause.
    async fn turn(&mut self, served: Option<Served>, before: Option<&Again>) -> Option<Again> {
        let of_server = served.is_some();
        let (refused, of_files) = match self.attempt(served).await {
            Ok(()) => (self.shadow().await.err(), true),
            // What is wrong with a bundle of the server, its source remembers.
            Err(refused) => (Some(refused), !of_server),
        };
        self.faults = refused.iter().filter(|_| of_files).flat_map(|refused| refused.faults.clone()).collect();
        self.show();
        let refused = refused?;
        self.refuse(&refused).await;
        if of_files { Again::after(refused.passing, before, self.every) } else { None }
    }

    /// Reads what is not at hand, and offers it.
    async fn attempt(&mut self, served: Option<Served>) -> Result<(), Refused> {
        let Some(served) = served else {
            let arrived = if self.server.is_some() {
                Ok(None)
            } else {
                read(&self.sources.policy_dir).await.map(|bundle| Some((bundle, Origin::Folder)))
            };
            return self.offer(arrived).await;
        };
        let offered = self.offer(Ok(Some((served.opened.bundle.clone(), Origin::Server)))).await;
        let Some(source) = &mut self.server else { return offered };
        match offered {
            Ok(()) => source.took(&served).await.map_err(|fault| Refused { faults: vec![fault], passing: true }),
            Err(refused) => {
                if refused.passing {
                    source.put_off(refused.faults.join("; "));
                } else {
                    source.turned_down(refused.faults.clone());
                }
                Err(refused)
            }
        }
    }

    async fn offer(&self, arrived: Arrived) -> Result<(), Refused> {
        let catalog = catalog(&self.sources.catalog)?;
        reachable(&catalog, &self.sources)?;
        let catalog = match &self.neighbours {
            None => catalog,
            Some(neighbours) => neighbours.join(catalog, &self.steward.tools).await,
        };
        Ok(self.steward.offer(catalog, arrived).await?)
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

    fn kept(&self) -> &'static str {
        let decides = self.steward.tools.cell.current().is_some();
        if decides { "the last good rules go on deciding" } else { "nothing decides" }
    }

    /// Shows what keeps files and server from being what decides, if anything does.
    fn show(&self) {
        let mut faults = self.faults.clone();
        faults.extend(self.server.iter().flat_map(Source::faults));
        let Tools { cell, metrics, .. } = &self.steward.tools;
        metrics.rules_stale.set(i64::from(!faults.is_empty()));
        if faults.is_empty() {
            cell.settle();
        } else {
            cell.refuse(faults);
        }
    }

    /// Tells of a refusal: log, metric, journal.
    async fn refuse(&self, refused: &Refused) {
        let Tools { cell, journal, clock, metrics, .. } = &self.steward.tools;
        let faults = &refused.faults;
        error!(rules.faults = faults.len(), "changed rules refused, {}: {}", self.kept(), faults.join(" | "));
        metrics.reloads.with_label_values(&["refused"]).inc();
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
