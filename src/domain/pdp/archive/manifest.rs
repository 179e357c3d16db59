//! `.manifest`: what an archive says of itself.
//!
//! Promises: revision, roots and Rego version are read as OPA reads them; what the gateway cannot do
//! (Rego v0, WebAssembly) is refused; digests that the manifest names are those of the content.
//! Called by `pdp::archive`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::domain::pdp::archive::About;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::Code;
use crate::domain::pdp::archive::MANIFEST;
use crate::domain::pdp::bundle::Bundle;

/// The one version of Rego that is spoken here.
const REGO: i64 = 1;

/// The manifest, as OPA names its parts. What is not named here says nothing to the gateway.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Manifest {
    revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roots: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rego_version: Option<i64>,
    #[serde(default, skip_serializing)]
    file_rego_versions: Option<BTreeMap<String, i64>>,
    #[serde(default, skip_serializing)]
    wasm: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Metadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loopgate: Option<Ours>,
}

/// What only our own archives say.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    built_at: Option<String>,
}

impl Manifest {
    /// The manifest of a bundle.
    pub(super) fn of(bundle: &Bundle, about: &About, roots: Vec<String>) -> Self {
        let ours = Ours {
            serial: about.serial,
            bundle: Some(bundle.digest().to_owned()),
            data: Some(bundle.data_digest().to_owned()),
            built_at: about.built_at.clone(),
        };
        Self {
            revision: Some(about.revision.clone()),
            roots: Some(roots),
            rego_version: Some(REGO),
            metadata: Some(Metadata { loopgate: Some(ours) }),
            ..Self::default()
        }
    }

    /// Its text: keys in order, so that it has one.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // WHY: by way of a value, which keeps members sorted. Strings and numbers always have JSON.
        serde_json::to_value(self).map(|value| value.to_string().into_bytes()).unwrap_or_default()
    }

    /// Reads one, strictly.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ArchiveFault> {
        let invalid = |message: String| {
            ArchiveFault::new(Code::ManifestInvalid, MANIFEST, message, "correct the manifest and build it again")
        };
        let value = canonical::parse(bytes, &Limits::default()).map_err(|cause| invalid(cause.to_string()))?;
        let manifest: Self = serde_json::from_value(value).map_err(|cause| invalid(cause.to_string()))?;
        let old = std::iter::once(("", manifest.rego_version))
            .chain(manifest.file_rego_versions.iter().flatten().map(|(path, version)| (path.as_str(), Some(*version))))
            .find(|(_, version)| version.is_some_and(|version| version != REGO));
        if let Some((path, Some(version))) = old {
            let of = if path.is_empty() { "the bundle".to_owned() } else { format!("`{path}`") };
            let message = format!("{of} is written in Rego v{version}, and the gateway reads v{REGO}");
            return Err(ArchiveFault::new(Code::Unsupported, MANIFEST, message, "rewrite it; `opa fmt` helps"));
        }
        if manifest.wasm.as_ref().is_some_and(|modules| !modules.is_empty()) {
            let message = "the gateway runs no WebAssembly";
            let remedy = "build the bundle with the target `rego`";
            return Err(ArchiveFault::new(Code::Unsupported, MANIFEST, message, remedy));
        }
        Ok(manifest)
    }

    /// The parts of `data` that the archive may fill; none named means all.
    pub(super) fn roots(&self) -> Option<&[String]> {
        self.roots.as_deref()
    }

    /// What it says.
    pub(super) fn about(&self) -> About {
        let ours = self.ours();
        About {
            revision: self.revision.clone().unwrap_or_default(),
            serial: ours.and_then(|ours| ours.serial),
            built_at: ours.and_then(|ours| ours.built_at.clone()),
        }
    }

    fn ours(&self) -> Option<&Ours> {
        self.metadata.as_ref()?.loopgate.as_ref()
    }

    /// Whether the content is what the manifest says it is.
    pub(super) fn check(&self, bundle: &Bundle) -> Result<(), ArchiveFault> {
        let Some(ours) = self.ours() else { return Ok(()) };
        for (what, said, is) in
            [("policies", &ours.bundle, bundle.digest()), ("data", &ours.data, bundle.data_digest())]
        {
            if said.as_ref().is_some_and(|said| said != is) {
                let message = format!("the {what} are not those that the manifest was written for");
                let remedy = "build the bundle again; do not change an archive by hand";
                return Err(ArchiveFault::new(Code::DigestMismatch, MANIFEST, message, remedy));
            }
        }
        Ok(())
    }
}
