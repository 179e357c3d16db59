//! The files of a development issuer: its key, what it is called, and its JWKS.
//!
//! Promises: the key file is readable by its owner alone and never overwritten; a key is loaded
//! only if it stands beside a description that says `"development": true`, so that no production
//! key can be used to make up tokens. Called by `cli::token`, `cli::demo` and tests.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::identity::dev::DevIssuer;
use crate::domain::identity::signing::{SigningKey, SigningKeyFault};

/// File name of the private key.
pub const KEY_FILE: &str = "dev-issuer.pem";
/// File name of the description beside it.
pub const ISSUER_FILE: &str = "dev-issuer.json";
/// File name of the public keys.
pub const JWKS_FILE: &str = "dev-issuer.jwks.json";

/// Why a development issuer could not be stored or loaded.
#[derive(Debug, thiserror::Error)]
pub enum DevFault {
    /// The system says no.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is one already.
    #[error("`{0}` exists; use it, or remove it first")]
    Exists(PathBuf),
    /// No description beside the key, or one that does not say development.
    #[error("`{0}` does not belong to a development issuer; make one with `loopgate token init --dir DIR`")]
    NotDevelopment(PathBuf),
    /// Not a key.
    #[error("`{path}`: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SigningKeyFault,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    development: bool,
    issuer: String,
    audience: String,
}

/// Where a development issuer was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevFiles {
    /// The private key.
    pub key: PathBuf,
    /// The public keys.
    pub jwks: PathBuf,
}

/// Stores an issuer in a directory, which is made if it does not exist.
pub fn save(dir: &Path, issuer: &DevIssuer) -> Result<DevFiles, DevFault> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => DevFault::Exists(path),
            _ => DevFault::File { path, source },
        }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let files = DevFiles { key: dir.join(KEY_FILE), jwks: dir.join(JWKS_FILE) };
    let pem = issuer.key.to_pkcs8_pem().map_err(|source| DevFault::Key { path: files.key.clone(), source })?;
    private(&files.key).and_then(|mut file| file.write_all(pem.as_bytes())).map_err(failed(&files.key))?;
    let description =
        Description { development: true, issuer: issuer.issuer.clone(), audience: issuer.audience.clone() };
    let beside = dir.join(ISSUER_FILE);
    let text = serde_json::to_string_pretty(&description)
        .map_err(|error| DevFault::File { path: beside.clone(), source: error.into() })?;
    fs::write(&beside, text + "\n").map_err(failed(&beside))?;
    fs::write(&files.jwks, format!("{:#}\n", issuer.jwks())).map_err(failed(&files.jwks))?;
    Ok(files)
}

/// Loads the issuer whose key file is given.
pub fn load(key_file: &Path) -> Result<DevIssuer, DevFault> {
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|source| DevFault::File { path: path.to_owned(), source });
    let pem = read(key_file)?;
    let strange = || DevFault::NotDevelopment(key_file.to_owned());
    if key_file.file_name().is_none_or(|name| name != KEY_FILE) {
        return Err(strange());
    }
    let description = read(&key_file.with_file_name(ISSUER_FILE)).map_err(|_| strange())?;
    let description: Description = serde_json::from_str(&description).map_err(|_| strange())?;
    if !description.development {
        return Err(strange());
    }
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|source| DevFault::Key { path: key_file.to_owned(), source })?;
    Ok(DevIssuer { key, issuer: description.issuer, audience: description.audience })
}

/// A new file that only its owner may read.
fn private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
