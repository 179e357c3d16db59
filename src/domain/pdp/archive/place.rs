//! What each file of an archive is, and where its data belongs.
//!
//! Promises: a file means to us what it means to OPA, or is refused; data of several files is merged
//! as OPA merges it, and two values for one place are a fault. Called by `pdp::archive`.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;

use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::Code;
use crate::domain::pdp::archive::MANIFEST;
use crate::domain::pdp::archive::SCHEMA;
use crate::domain::pdp::archive::SIGNATURES;
use crate::domain::pdp::bundle;
use crate::domain::pdp::bundle::BundleFault;

/// Bytes of one data file; `opa build` writes all data into one.
const DATA_BYTES_MAX: usize = 64 << 20;

/// Members of one data file.
const MEMBERS_MAX: usize = 4_000_000;

/// What a file is.
pub(super) enum Kind {
    Policy,
    Data,
    Schema,
    /// Manifest, signatures, and what neither OPA nor we read.
    Other,
}

impl Kind {
    /// By its name, as OPA tells.
    pub(super) fn of(path: &str) -> Result<Self, ArchiveFault> {
        let unsupported = |what: &str, remedy: &str| Err(ArchiveFault::new(Code::Unsupported, path, what, remedy));
        let file = path.rsplit('/').next().unwrap_or(path);
        let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
        match file {
            _ if path == MANIFEST || path == SIGNATURES => Ok(Self::Other),
            _ if path == SCHEMA => Ok(Self::Schema),
            "data.json" | "data.yaml" | "data.yml" => Ok(Self::Data),
            "plan.json" => unsupported("the gateway runs no plans", "build the bundle with the target `rego`"),
            "patch.json" => unsupported(
                "the gateway takes no delta bundles, which are not signed",
                "serve the whole bundle; loading 10,000 organisations takes a tenth of a second",
            ),
            _ if extension == "wasm" => {
                unsupported("the gateway runs no WebAssembly", "build the bundle with the target `rego`")
            }
            // To OPA any of these names is one, wherever it stands.
            _ if file.ends_with(MANIFEST) => unsupported("a bundle has one manifest", "keep `.manifest` at its root"),
            _ if file.ends_with("signatures.json") => {
                unsupported("OPA would take it for signatures", "keep `.signatures.json` at the root, and no other")
            }
            _ if extension == "rego" => Ok(Self::Policy),
            _ => Ok(Self::Other),
        }
    }
}

/// Data as it grows, file by file.
#[derive(Default)]
pub(super) struct Tree {
    /// What policies will see as `data`.
    pub(super) data: Map<String, Value>,
    /// Which file gave which of its members.
    pub(super) origins: BTreeMap<String, String>,
}

impl Tree {
    /// Adds a data file at the place that its folder names.
    pub(super) fn add(&mut self, path: &str, bytes: &[u8]) -> Result<(), ArchiveFault> {
        let mut value = parse(path, bytes)?;
        let folders: Vec<&str> = path.split('/').rev().skip(1).collect();
        for folder in folders {
            value = Value::Object(Map::from_iter([(folder.to_owned(), value)]));
        }
        let Value::Object(members) = value else {
            let remedy = "make it an object, or move it into a folder of its name";
            return Err(BundleFault::new(path, "data at the root must be an object", remedy).into());
        };
        for name in members.keys() {
            self.origins.entry(name.clone()).or_insert_with(|| path.to_owned());
        }
        merge(&mut self.data, members, &mut Vec::new()).map_err(|name| {
            let message = format!("another file already gives `data.{name}`");
            BundleFault::new(path, message, "keep one of the two").into()
        })
    }
}

/// Objects grow together; anything else that stands twice is named.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>, at: &mut Vec<String>) -> Result<(), String> {
    for (name, value) in from {
        at.push(name.clone());
        match (into.get_mut(&name), value) {
            (None, value) => {
                into.insert(name, value);
            }
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new, at)?,
            (Some(_), _) => return Err(at.join(".")),
        }
        at.pop();
    }
    Ok(())
}

/// A data file as a value.
pub(super) fn parse(path: &str, bytes: &[u8]) -> Result<Value, ArchiveFault> {
    let fault = |message: String, remedy: &str| ArchiveFault::from(BundleFault::new(path, message, remedy));
    if bytes.len() > DATA_BYTES_MAX {
        return Err(fault(format!("it has more than {} MiB", DATA_BYTES_MAX >> 20), "split it"));
    }
    let value = if path == MANIFEST || path.rsplit('/').next() == Some("data.json") {
        let limits = Limits { bytes_max: DATA_BYTES_MAX, depth_max: bundle::DATA_DEPTH_MAX, members_max: MEMBERS_MAX };
        canonical::parse(bytes, &limits).map_err(|cause| fault(cause.to_string(), "correct the file"))?
    } else {
        let text = str::from_utf8(bytes).map_err(|cause| fault(format!("not UTF-8: {cause}"), "save it as UTF-8"))?;
        bundle::parse_data(path, text)?
    };
    if bundle::deeper_than(&value, bundle::DATA_DEPTH_MAX) {
        return Err(fault(format!("the data is nested deeper than {}", bundle::DATA_DEPTH_MAX), "flatten it"));
    }
    Ok(value)
}
