//! A bundle as one file, in the format of OPA: a gzipped tar with `.manifest` and `.signatures.json`.
//!
//! Promises: a bundle that was packed and opened again has the digests of the folder it came from;
//! the same bundle packs to the same bytes; an archive is bounded before it is read, and one with
//! links, doubled or escaping names, bytes behind its end, files outside its roots, or digests that
//! are not those of its content is refused. Archives of `opa build` open too. Never touches a disk:
//! bytes come in and go out. Called by `adapters::store`, `adapters::reload` and `cli::policy`.
//!
//! In a folder data stands in `data/<name>.yaml`, which OPA would not load; in an archive it is
//! `<name>/data.json`, which OPA loads as `data.<name>`. The schema of the data stands where OPA
//! takes it for none of its own files. Tests and cases are left out.

pub mod keys;
pub mod sign;
pub mod order;
mod hash;
mod manifest;
mod pack;
mod place;
mod roots;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::domain::pdp::archive::manifest::Manifest;
use crate::domain::pdp::bundle::Bundle;
use crate::domain::pdp::bundle::BundleFault;
use crate::domain::pdp::bundle::Draft;

/// Bytes that an archive may have.
pub const ARCHIVE_BYTES_MAX: usize = 32 << 20;

/// Name of the manifest.
const MANIFEST: &str = ".manifest";

/// Name of the signatures.
const SIGNATURES: &str = ".signatures.json";

/// Where the schema of the data stands in an archive; `schema/data.json` would be data to OPA.
const SCHEMA: &str = "schema/data.schema.json";

/// Why an archive is not taken, as programs read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not a gzipped tar, or not whole.
    NotABundle,
    /// More files or bytes than are read.
    TooLarge,
    /// An entry that no bundle needs: a link, a device, a name that leads outside or stands twice.
    UnsafeArchive,
    /// Something of OPA's that the gateway does not do.
    Unsupported,
    /// A manifest that cannot be read.
    ManifestInvalid,
    /// Policies or data outside the roots, or roots that overlap.
    OutsideRoots,
    /// Nobody signed it.
    SignatureMissing,
    /// No trusted key signed it, or the signature cannot be read.
    SignatureInvalid,
    /// A file is not what was signed.
    FileChanged,
    /// A file was signed and is not there.
    FileMissing,
    /// A file is there and was not signed.
    FileExtra,
    /// It was signed for something else.
    ScopeMismatch,
    /// The manifest names digests of other content.
    DigestMismatch,
    /// A newer one was taken already.
    OlderRevision,
    /// Policies or data that no bundle may have.
    PolicyInvalid,
}

impl Code {
    /// The code, as printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotABundle => "not_a_bundle",
            Self::TooLarge => "too_large",
            Self::UnsafeArchive => "unsafe_archive",
            Self::Unsupported => "unsupported",
            Self::ManifestInvalid => "manifest_invalid",
            Self::OutsideRoots => "outside_roots",
            Self::SignatureMissing => "signature_missing",
            Self::SignatureInvalid => "signature_invalid",
            Self::FileChanged => "file_changed",
            Self::FileMissing => "file_missing",
            Self::FileExtra => "file_extra",
            Self::ScopeMismatch => "scope_mismatch",
            Self::DigestMismatch => "digest_mismatch",
            Self::OlderRevision => "older_revision",
            Self::PolicyInvalid => "policy_invalid",
        }
    }
}

/// Why an archive is not taken: a code, the file in it, what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ArchiveFault {
    /// As programs read it.
    pub code: Code,
    /// As people read it.
    pub fault: BundleFault,
}

impl ArchiveFault {
    fn new(code: Code, file: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, fault: BundleFault::new(file, message, remedy) }
    }
}

impl fmt::Display for ArchiveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.fault)
    }
}

impl From<BundleFault> for ArchiveFault {
    fn from(fault: BundleFault) -> Self {
        Self { code: Code::PolicyInvalid, fault }
    }
}

/// For those who load a bundle from wherever it is.
impl From<ArchiveFault> for BundleFault {
    fn from(ArchiveFault { code, mut fault }: ArchiveFault) -> Self {
        if code != Code::PolicyInvalid {
            fault.message = format!("{}: {}", code.as_str(), fault.message);
        }
        fault
    }
}

/// What an archive says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// Its revision, as whoever built it calls it; may be empty.
    pub revision: String,
    /// Its place in the order of bundles: a later one has a greater number. None in archives of `opa build`.
    pub serial: Option<u64>,
    /// When it was built, RFC 3339.
    pub built_at: Option<String>,
}

/// A bundle that came out of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The bundle, not yet compiled.
    pub bundle: Bundle,
    /// What the archive says of it.
    pub about: About,
    /// The parts of `data` that it may fill, as its manifest names them; none named means all.
    pub roots: Option<Vec<String>>,
}

/// The files of an archive, by path without a leading `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    files: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Unpacks an archive; its files are bounded and plainly named, and nothing of them has been read.
    pub fn unpack(bytes: &[u8]) -> Result<Self, ArchiveFault> {
        Ok(Self { files: pack::unpack(bytes)? })
    }

    /// The archive of a bundle.
    pub fn of(bundle: &Bundle, about: &About) -> Result<Self, ArchiveFault> {
        let mut files: BTreeMap<String, Vec<u8>> =
            bundle.files().iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
        for (name, value) in bundle.data().as_object().into_iter().flatten() {
            files.insert(format!("{name}/data.json"), value.to_string().into_bytes());
        }
        if let Some(schema) = bundle.schema() {
            files.insert(SCHEMA.to_owned(), schema.to_owned().into_bytes());
        }
        let manifest = Manifest::of(bundle, about, roots::of(bundle)?);
        files.insert(MANIFEST.to_owned(), manifest.to_json());
        Ok(Self { files })
    }

    /// The bytes of the archive: the same for the same files.
    pub fn pack(&self) -> Result<Vec<u8>, ArchiveFault> {
        pack::pack(&self.files)
    }

    /// Its files, by path without a leading `/`.
    #[must_use]
    pub fn into_files(self) -> BTreeMap<String, Vec<u8>> {
        self.files
    }

    /// Names of its files, and how many bytes each has.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, usize)> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), bytes.len()))
    }

    /// Changes a file of it behind the back of whoever signed it; no bytes take it away.
    #[cfg(test)]
    pub(crate) fn edit(&mut self, path: &str, bytes: &[u8]) {
        self.files.insert(path.to_owned(), bytes.to_vec());
        self.files.retain(|_, bytes| !bytes.is_empty());
    }

    /// Reads the bundle. Says nothing about signatures.
    pub fn open(&self) -> Result<Opened, Vec<ArchiveFault>> {
        let manifest = match self.files.get(MANIFEST) {
            Some(bytes) => Manifest::parse(bytes).map_err(|fault| vec![fault])?,
            None => Manifest::default(),
        };
        let mut draft = Draft::default();
        let mut data = place::Tree::default();
        let mut faults = Vec::new();
        for (path, bytes) in &self.files {
            match place::Kind::of(path) {
                Err(fault) => faults.push(fault),
                Ok(place::Kind::Policy) => draft.policy(path.clone(), bytes.clone()),
                Ok(place::Kind::Schema) => draft.schema(path, bytes.clone()),
                Ok(place::Kind::Data) => faults.extend(data.add(path, bytes).err()),
                Ok(place::Kind::Other) => {}
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let place::Tree { data, origins } = data;
        draft.data(data, origins);
        let bundle = draft.finish().map_err(|faults| faults.into_iter().map(ArchiveFault::from).collect::<Vec<_>>())?;
        roots::check(manifest.roots(), &bundle)?;
        manifest.check(&bundle).map_err(|fault| vec![fault])?;
        let roots = manifest.roots().map(<[String]>::to_vec);
        Ok(Opened { bundle, about: manifest.about(), roots })
    }
}

#[cfg(test)]
mod tests;
