//! Policy: where it comes from, what keeps it, and what looks at it from beside.
//!
//! Promises: a store that cannot be opened keeps the gateway from starting, for without it nothing
//! could be gone back to. Called by the start and by commands.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::AppFault;
use super::clock::SystemClock;
use crate::adapters::journal::find;
use crate::adapters::reload;
use crate::adapters::reload::Sources;
use crate::adapters::reload::Watcher;
use crate::adapters::reload::pull::Pull;
use crate::adapters::reload::pull::Source;
use crate::adapters::reload::steward::Examine;
use crate::adapters::reload::steward::Lived;
use crate::adapters::reload::steward::Steward;
use crate::adapters::reload::steward::Tools;
use crate::adapters::reload::steward::Ways;
use crate::adapters::store::Store;
use crate::config::Activation;
use crate::config::Served;
use crate::config::Settings;
use crate::domain::audit::checkpoint::PublicKey;
use crate::domain::audit::entry::Entry;
use crate::domain::pdp::archive::order::Taken;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::canary::Limits;
use crate::domain::rollout::gate::Demands;
use crate::domain::rollout::gate::Evidence;
use crate::domain::rollout::gate::GateFault;
use crate::metrics::Metrics;
use crate::pep::ports::Clock;
use crate::pep::ports::Journal;
use crate::pep::rollout::Bundles;
use crate::pep::rollout::Rollout;
use crate::pep::rules::Rules;
use crate::pep::rules::RulesCell;
use crate::pep::served::Memory;
use crate::pep::shadow;
use crate::pep::shadow::Aside;
use crate::pep::shadow::Sample;
use crate::pep::shadow::Seen;
use crate::pep::shadow::judge::Judge;
use crate::pep::shadow::tally::Tallies;

/// Everything about policy, before anything runs.
pub(super) struct Policy {
    /// Where rules decide from.
    pub(super) cell: Arc<RulesCell>,
    /// Keeps what is in force.
    pub(super) steward: Arc<Steward>,
    /// Looks at the files.
    pub(super) watcher: Watcher,
    /// Asks other rules.
    pub(super) judge: Judge,
    /// What it is told.
    pub(super) told: mpsc::Receiver<Seen>,
}

/// Opens the store and builds what works with it. Loads nothing yet.
pub(super) fn open(
    settings: &Settings,
    checker: PathBuf,
    journal: &Arc<dyn Journal>,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<Policy, AppFault> {
    let policy = &settings.policy;
    let store = Arc::new(Store::open(&policy.store).map_err(|fault| AppFault::Store(fault.to_string()))?);
    let sample = Sample { tenants: policy.shadow.tenants.clone(), percent: policy.shadow.percent };
    let in_shadow = sample.is_some();
    let (aside, told) = Aside::new(sample, shadow::QUEUE, metrics.shadow.clone());
    let cell = Arc::new(RulesCell::watched(aside));
    let tallies = Arc::new(Tallies::default());
    let limits = Limits {
        least: policy.canary.least,
        band: policy.canary.band,
        errors: policy.canary.errors,
        window_ms: ms(policy.canary.window),
    };
    let tools = Tools {
        cell: Arc::clone(&cell),
        store: Arc::clone(&store) as Arc<dyn Bundles>,
        journal: Arc::clone(journal),
        clock: Arc::clone(clock),
        metrics: Arc::clone(metrics),
        tallies: Arc::clone(&tallies),
        checker: checker.clone(),
    };
    let ways = Ways {
        gated: policy.activation == Activation::Gated,
        demands: Demands { decisions: policy.gate.decisions, age_ms: ms(policy.gate.age) },
        examine: examine(settings),
        lived: lived(settings),
        shadow_waiting: in_shadow && policy.shadow.dir.is_none(),
        limits: limits.clone(),
    };
    let steward = Arc::new(Steward::new(tools, ways));
    let server = match &policy.served {
        None => None,
        Some(served) => Some(Source::new(pull(served), store as Arc<dyn Memory>).map_err(AppFault::Store)?),
    };
    let watcher =
        Watcher::new(Sources { checker, ..sources(settings) }, server, Arc::clone(&steward), settings.reload_every)
            .with_shadow(policy.shadow.dir.clone().filter(|_| in_shadow));
    let judge = Judge {
        cell: Arc::clone(&cell),
        rollout: Arc::clone(&steward) as Arc<dyn Rollout>,
        journal: Arc::clone(journal),
        clock: Arc::clone(clock),
        metrics: Arc::clone(metrics),
        tallies,
        limits,
    };
    Ok(Policy { cell, steward, watcher, judge, told })
}

/// Reads reports signed with this gateway's own report key, or with a key that the settings name. The
/// key files are read each time, since the first report makes the gateway's own.
fn examine(settings: &Settings) -> Arc<Examine> {
    let own = settings.keys_dir.join("report.pub");
    let others = settings.policy.gate.keys.clone();
    Arc::new(move |report| {
        let mut trusted = Vec::new();
        for file in others.iter().chain(Some(&own).filter(|own| own.exists())) {
            let broken = |cause: String| GateFault::Untrusted(format!("`{}`: {cause}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|cause| broken(cause.to_string()))?;
            trusted.push(PublicKey::parse(&text).map_err(|cause| broken(cause.to_string()))?);
        }
        Evidence::signed(&String::from_utf8_lossy(report), &trusted)
    })
}

/// Reads in this gateway's own journal what was put in force last.
fn lived(settings: &Settings) -> Arc<Lived> {
    let dir = settings.audit.dir.join(&settings.audit.writer);
    let in_force = |entry: &Entry| {
        let [bundle, data, engine] =
            ["bundle", "data", "engine"].map(|name| entry.text(&format!("/unmapped/loopgate/data/{name}")));
        // WHY the engine: the record of a canary that is taken back names a policy that is not in force.
        let decides = ["policy.activated", "policy.promoted", "policy.rolled_back"].contains(&entry.stage());
        (decides && !engine.is_empty()).then(|| BundleId::new(bundle, data))
    };
    Arc::new(move || {
        find::last(&dir, |line| line.contains("\"policy."), in_force)
            .map_err(|(path, error)| format!("{}: {error}", path.display()))
    })
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Where the rules of these settings come from.
#[must_use]
pub fn sources(settings: &Settings) -> Sources {
    Sources {
        catalog: settings.catalog.clone(),
        policy_dir: settings.policy.dir.clone(),
        checker: checker(),
        backends: settings.backends.iter().map(|backend| backend.name.clone()).collect(),
    }
}

/// Where bundles are pulled from.
fn pull(served: &Served) -> Pull {
    Pull {
        url: served.url.clone(),
        token_file: served.token_file.clone(),
        keys: served.keys.clone(),
        scope: served.scope.clone(),
        every: served.every,
        allow_rollback: served.allow_rollback,
    }
}

/// Loads the rules of these settings once, as a start would. Remembers nothing of it.
pub async fn load_rules(settings: &Settings) -> Result<Rules, Vec<String>> {
    let (sources, now_ms) = (sources(settings), SystemClock.now_ms());
    let Some(served) = &settings.policy.served else { return reload::load(&sources, now_ms).await };
    let memory: Arc<dyn Memory> = match Store::reading(&settings.policy.store) {
        Ok(store) => Arc::new(store),
        // Before the first start there is none.
        Err(_) => Arc::new(NoMemory),
    };
    let mut source = Source::new(pull(served), memory).map_err(|fault| vec![fault])?;
    reload::load_served(&sources, &mut source, now_ms).await
}

/// Nothing was taken from a server yet.
struct NoMemory;

impl Memory for NoMemory {
    fn taken(&self) -> Result<Option<Taken>, String> {
        Ok(None)
    }

    fn remember(&self, _taken: &Taken) -> Result<(), String> {
        Ok(())
    }
}

/// This program, which also checks bundles in child processes.
#[must_use]
pub fn checker() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("loopgate"))
}
