//! The policies that were in force, by their digests.
//!
//! Promises: a decision is made again only under a bundle whose digests are those that it was
//! recorded with; each is compiled once. Never guesses. Called by `policy replay`.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::adapters::reload::bundle;
use crate::adapters::store::Store;
use crate::cli::policy::PolicyFault;
use crate::config::Settings;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
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

impl Kept for Store {
    fn bundle(&self, bundle_digest: &str, data_digest: &str) -> Result<Option<Bundle>, String> {
        Self::bundle(self, bundle_digest, data_digest).map_err(|fault| fault.to_string())
    }
}

/// Whether a folder is one in which a gateway keeps bundles. One that has kept none yet has no such folder.
fn is_store(dir: &Path) -> bool {
    dir.join("bundles").is_dir()
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
        let file = |path: &Path, message: String| PolicyFault::File { path: path.display().to_string(), message };
        let mut kept: Vec<Box<dyn Kept>> = Vec::new();
        let mut folders = Vec::new();
        let stores = settings.map(|settings| &settings.policy.store).filter(|dir| is_store(dir));
        for dir in named.iter().filter(|path| is_store(path)).chain(stores) {
            kept.push(Box::new(Store::reading(dir).map_err(|fault| file(dir, fault.to_string()))?));
        }
        for path in named.iter().filter(|path| !is_store(path)) {
            let words =
                |faults: Vec<BundleFault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            folders.push(bundle::read(path).map_err(|faults| file(path, words(faults)))?);
        }
        // The live folder may be half edited by now; it is only one more place to look at.
        folders.extend(settings.and_then(|settings| bundle::read(&settings.policy.dir).ok()));
        kept.push(Box::new(Folders(folders)));
        Ok(Self { kept, compiled: Mutex::default() })
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
                return Pdp::recorded(&bundle)
                    .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
            }
        }
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        Err(format!("no bundle {}-{} is kept", short(bundle_digest), short(data_digest)))
    }
}
