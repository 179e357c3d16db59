//! Where a replay finds journal, keys, tools and the bundles that were in force.
//!
//! Promises: a journal is read unverified only when that is asked for; what is missing is named with
//! the option that gives it. Called by `policy replay`.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;

use super::recorded::Recordings;
use crate::adapters::journal::read;
use crate::adapters::journal::read::Series;
use crate::adapters::reload;
use crate::cli::policy::Place;
use crate::cli::policy::PolicyFault;
use crate::cli::policy::text_of;
use crate::cli::policy::tools;
use crate::config;
use crate::config::Settings;
use crate::domain::audit::checkpoint::PublicKey;
use crate::domain::pdp::ToolFacts;

/// Journal, keys, tools and recorded bundles.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Settings file that says where journal, keys, catalog and the policies that were in force are
    #[arg(long, value_name = "FILE", required_unless_present = "journal")]
    config: Option<PathBuf>,
    /// Journal to read, instead of the settings'
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Public key that signs its checkpoints; several may be given; with --config the gateway's own is known
    #[arg(long = "pub", value_name = "KEY_FILE")]
    keys: Vec<PathBuf>,
    /// Read the journal without verifying it; nothing can be activated with such a report
    #[arg(long, conflicts_with = "keys")]
    no_verify: bool,
    /// How many seconds the records at the end of an epoch may span that none of its checkpoints covers
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    unsigned_seconds: u32,
    /// Bundle that was in force, or folder in which a gateway keeps them; several may be given; with --config the gateway's own is known
    #[arg(long, value_name = "BUNDLE")]
    recorded: Vec<PathBuf>,
    /// Catalog whose tools the candidate is tried with [default: the settings', or the candidate's cases/tools.yaml]
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
}

/// Everything that a replay reads.
pub(super) struct Opened {
    /// The journals, by writer.
    pub(super) series: Vec<Series>,
    /// Keys that checkpoints must be signed by; none to verify nothing.
    pub(super) keys: Option<Vec<PublicKey>>,
    /// How long the end of an epoch may go unsigned.
    pub(super) unsigned_ms_max: i64,
    /// The gateway's own keys.
    pub(super) keys_dir: Option<PathBuf>,
    /// The policies that were in force.
    pub(super) recordings: Recordings,
    /// The tools that the candidate is tried with.
    pub(super) tools: BTreeMap<String, ToolFacts>,
}

impl Source {
    pub(super) fn open(&self, candidate: &Path) -> Result<Opened, PolicyFault> {
        let settings = self.config.as_deref().map(settings).transpose()?;
        let dir = match (&self.journal, &settings) {
            (Some(dir), _) => dir.clone(),
            (None, Some(settings)) => settings.audit.dir.clone(),
            (None, None) => {
                return Err(PolicyFault::Usage("say which journal: --config FILE or --journal DIR".to_owned()));
            }
        };
        let series = read::series(&dir).map_err(|cause| file(&dir, cause))?;
        if series.is_empty() {
            return Err(file(&dir, "there is no journal in it"));
        }
        let keys_dir = settings.as_ref().map(|settings| settings.keys_dir.clone());
        let keys = if self.no_verify { None } else { Some(self.public_keys(keys_dir.as_deref())?) };
        Ok(Opened {
            series,
            keys,
            unsigned_ms_max: i64::from(self.unsigned_seconds) * 1000,
            keys_dir,
            recordings: Recordings::open(&self.recorded, settings.as_ref())?,
            tools: self.tools(candidate, settings.as_ref())?,
        })
    }

    fn public_keys(&self, own: Option<&Path>) -> Result<Vec<PublicKey>, PolicyFault> {
        let mut files = self.keys.clone();
        if files.is_empty() {
            files.extend(own.map(|dir| dir.join("audit.pub")));
        }
        if files.is_empty() {
            let words = "say which key must have signed the journal: --pub KEY_FILE; or --no-verify";
            return Err(PolicyFault::Usage(words.to_owned()));
        }
        let key = |path: &PathBuf| PublicKey::parse(&text_of(path)?).map_err(|cause| file(path, cause));
        files.iter().map(key).collect()
    }

    fn tools(&self, candidate: &Path, settings: Option<&Settings>) -> Result<BTreeMap<String, ToolFacts>, PolicyFault> {
        let catalog = match (&self.catalog, settings) {
            (None, Some(settings)) => {
                let catalog = reload::catalog(&settings.catalog);
                return catalog
                    .map(|catalog| ToolFacts::of(&catalog))
                    .map_err(|faults| file(&settings.catalog, faults.join("\n")));
            }
            (catalog, _) => catalog.clone(),
        };
        tools(&Place { dir: candidate.to_owned(), catalog })
    }
}

fn settings(path: &Path) -> Result<Settings, PolicyFault> {
    config::load(path).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        file(path, faults.join("; "))
    })
}

fn file(path: &Path, message: impl std::fmt::Display) -> PolicyFault {
    PolicyFault::File { path: path.display().to_string(), message: message.to_string() }
}
