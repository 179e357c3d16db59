//! The policies that were in force, by their digests.
//!
//! Promises: a decision is made again only under a bundle whose digests are those that it was
//! recorded with; each is compiled once. Never guesses. Called by `policy replay`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::adapters::reload::bundle;
use crate::cli::policy::PolicyFault;
use crate::config::Settings;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::engine::Pdp;

/// Bundles that were in force, wherever they are kept.
pub(super) trait Kept: Send + Sync {
    /// The bundle with these digests; nothing when it is not there, and the cause when it cannot be read.
    fn bundle(&self, bundle_digest: &str, data_digest: &str) -> Result<Option<Bundle>, String>;
}

/// Bundles in folders.
struct Folders(Vec<Bundle>);

impl Kept for Folders {
    fn bundle(&self, bundle_digest: &str, data_digest: &str) -> Result<Option<Bundle>, String> {
        let fits = |one: &&Bundle| (one.digest(), one.data_digest()) == (bundle_digest, data_digest);
        Ok(self.0.iter().find(fits).cloned())
    }
}

/// What came of looking for a bundle.
type Looked = Result<Pdp, String>;

/// Every place to look at, and what was found.
pub(super) struct Recordings {
    kept: Vec<Box<dyn Kept>>,
    compiled: Mutex<BTreeMap<(String, String), Looked>>,
}

impl Recordings {
    /// The bundles that are named, and those that a gateway with these settings keeps.
    pub(super) fn open(named: &[PathBuf], settings: Option<&Settings>) -> Result<Self, PolicyFault> {
        let mut folders = Vec::new();
        for path in named {
            folders.push(bundle::read(path).map_err(|faults| PolicyFault::File {
                path: path.display().to_string(),
                message: faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            })?);
        }
        // The live folder may be half edited by now; it is only one more place to look at.
        folders.extend(settings.and_then(|settings| bundle::read(&settings.policy.dir).ok()));
        Ok(Self { kept: vec![Box::new(Folders(folders))], compiled: Mutex::default() })
    }

    /// The policy with these digests, or why there is none.
    pub(super) fn policy(&self, bundle_digest: &str, data_digest: &str) -> Looked {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let digests = (bundle_digest.to_owned(), data_digest.to_owned());
        compiled.entry(digests).or_insert_with(|| self.look(bundle_digest, data_digest)).clone()
    }

    fn look(&self, bundle_digest: &str, data_digest: &str) -> Looked {
        for kept in &self.kept {
            if let Some(bundle) = kept.bundle(bundle_digest, data_digest)? {
                // It has decided before, so no tool is tried with it; today's tools are not those of then.
                let compiled = Pdp::compile(&bundle, &BTreeMap::new());
                return compiled
                    .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
            }
        }
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        Err(format!("no bundle {}-{} is kept", short(bundle_digest), short(data_digest)))
    }
}
