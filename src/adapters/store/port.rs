//! The store as `pep::rollout` needs it.

use super::Store;
use super::StoreFault;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::rollout::BundleId;
use crate::domain::rollout::State;
use crate::pep::rollout::Bundles;
use crate::pep::rollout::BundlesFault;

impl Bundles for Store {
    fn keep(&self, bundle: &Bundle) -> Result<(), BundlesFault> {
        self.put(bundle).map_err(BundlesFault::from)
    }

    fn bundle(&self, id: &BundleId) -> Result<Option<Bundle>, BundlesFault> {
        self.bundle(&id.bundle, &id.data).map_err(BundlesFault::from)
    }

    fn state(&self) -> Result<Option<State>, BundlesFault> {
        self.state().map_err(BundlesFault::from)
    }

    fn set_state(&self, state: &State) -> Result<(), BundlesFault> {
        self.set_state(state).map_err(BundlesFault::from)
    }
}

impl From<StoreFault> for BundlesFault {
    fn from(fault: StoreFault) -> Self {
        Self(fault.to_string())
    }
}
