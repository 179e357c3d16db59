//! The bundles that were in force, on disk, and what is remembered of which one is.
//!
//! Promises: a bundle is kept under its digests and comes back as exactly that bundle or as a fault,
//! never as another; what is written is whole or not there, and durable before its call returns; a
//! full disk leaves what was there. Never decides which bundle is in force, and never removes one
//! unasked. Called by `app`, `adapters::reload` and the policy commands.
//!
//! ```text
//! <policy.store>/bundles/<bundle digest>-<data digest>.tar.gz   OPA's format, unsigned
//!                state.json                                     what a rollout must remember
//!                served.json                                    what was taken from a server
//!                lock                                           held by the one gateway that writes
//! ```
//!
//! The gateway calls [`Store::open`] once and shares it; commands that only look use
//! [`Store::reading`]. Every call touches the disk, so that one from a thread that serves belongs
//! in `spawn_blocking`. What comes out of [`Store::bundle`] has no tests and has not been compiled.

mod port;

use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::canonical;
use crate::domain::canonical::Limits;
use crate::domain::pdp::archive::ARCHIVE_BYTES_MAX;
use crate::domain::pdp::archive::About;
use crate::domain::pdp::archive::Archive;
use crate::domain::pdp::archive::order::Taken;
use crate::domain::pdp::bundle::Bundle;
use crate::pep::served::Memory;

/// What is remembered of a rollout.
const STATE: &str = "state.json";

/// What is remembered of a server of bundles.
const SERVED: &str = "served.json";

/// Folder of the bundles.
const BUNDLES: &str = "bundles";

/// End of a bundle's name.
const ENDING: &str = ".tar.gz";

/// Bytes that a remembered document may have.
const DOCUMENT: Limits = Limits { bytes_max: 16 << 20, depth_max: 64, members_max: 1_000_000 };

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// Another process writes to it.
    #[error("`{0}` is in use by another gateway; give each its own `policy.store`")]
    Locked(String),
    /// The system says no.
    #[error("`{path}`: {source}; see to the folder of `policy.store`, its owner and its free space")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("`{path}` is damaged: {what}; put it back from a copy, or move it away and know that it is lost")]
    Damaged {
        /// The file.
        path: String,
        /// How that shows.
        what: String,
    },
    /// A bundle or document that cannot be kept.
    #[error("the {what} cannot be kept: {why}")]
    Unfit {
        /// What it is.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// Opened with [`Store::reading`].
    #[error("the store was opened to be read")]
    ReadOnly,
}

/// A bundle in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Digest of its policies.
    pub bundle: String,
    /// Digest of its data.
    pub data: String,
    /// When it was put there: milliseconds since the Unix epoch.
    pub kept_ms: i64,
}

/// The store of one gateway.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// Held while a file is written, so that two calls never share a temporary name; none to read only.
    writing: Option<Mutex<File>>,
}

impl Store {
    /// Opens the store to write, making it if there is none. One process at a time may.
    pub fn open(dir: &Path) -> Result<Self, StoreFault> {
        let bundles = dir.join(BUNDLES);
        DirBuilder::new().recursive(true).mode(0o700).create(&bundles).map_err(|cause| io_fault(&bundles, cause))?;
        let path = dir.join("lock");
        let lock = open_file(OpenOptions::new().create(true).truncate(false).write(true).mode(0o600), &path)
            .map_err(|cause| io_fault(&path, cause))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(StoreFault::Locked(dir.display().to_string())),
            Err(std::fs::TryLockError::Error(cause)) => return Err(io_fault(&path, cause)),
        }
        // The names of the folders must outlive a crash too.
        for folder in [Some(dir), dir.parent().filter(|parent| !parent.as_os_str().is_empty())].into_iter().flatten() {
            sync_names(folder)?;
        }
        Ok(Self { dir: dir.to_owned(), writing: Some(Mutex::new(lock)) })
    }

    /// Opens the store to read, beside a gateway that may be writing. It must be there.
    pub fn reading(dir: &Path) -> Result<Self, StoreFault> {
        let bundles = dir.join(BUNDLES);
        std::fs::read_dir(&bundles).map_err(|cause| io_fault(&bundles, cause))?;
        Ok(Self { dir: dir.to_owned(), writing: None })
    }

    /// Keeps a bundle. Once this returns it comes back from [`Store::bundle`], also after a crash.
    pub fn put(&self, bundle: &Bundle) -> Result<(), StoreFault> {
        let (digest, data) = (bundle.digest(), bundle.data_digest());
        // A damaged file is written anew: its content is at hand.
        if matches!(self.bundle(digest, data), Ok(Some(_))) {
            return Ok(());
        }
        let unfit = |why: String| StoreFault::Unfit { what: "bundle", why };
        let bytes = Archive::of(bundle, &About::default())
            .and_then(|archive| archive.pack())
            .map_err(|fault| unfit(fault.to_string()))?;
        // INVARIANT: what is kept has been read back, so a bundle in force can be had again.
        match open_archive(&bytes) {
            Ok(again) if again.digest() == digest && again.data_digest() == data => {}
            Ok(_) => return Err(unfit("it does not read back as itself".to_owned())),
            Err(why) => return Err(unfit(why)),
        }
        self.write(&self.dir.join(BUNDLES), &name_of(digest, data), &bytes)
    }

    /// The bundle with these digests; none when it is not here.
    pub fn bundle(&self, digest: &str, data: &str) -> Result<Option<Bundle>, StoreFault> {
        // A name is made of what a caller says, so nothing but digests may be said.
        if !is_digest(digest) || !is_digest(data) {
            return Ok(None);
        }
        let path = self.dir.join(BUNDLES).join(name_of(digest, data));
        let Some(bytes) = read(&path, ARCHIVE_BYTES_MAX)? else { return Ok(None) };
        let damaged = |what: String| StoreFault::Damaged { path: path.display().to_string(), what };
        let bundle = open_archive(&bytes).map_err(damaged)?;
        if bundle.digest() != digest || bundle.data_digest() != data {
            return Err(damaged("it holds another bundle than its name says".to_owned()));
        }
        Ok(Some(bundle))
    }

    /// The bundles that are here, the latest first. None of them has been read.
    pub fn list(&self) -> Result<Vec<Held>, StoreFault> {
        let folder = self.dir.join(BUNDLES);
        let mut held = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(|cause| io_fault(&folder, cause))? {
            let entry = entry.map_err(|cause| io_fault(&folder, cause))?;
            let name = entry.file_name();
            let Some((bundle, data)) = name.to_str().and_then(digests_of) else { continue };
            let (bundle, data) = (bundle.to_owned(), data.to_owned());
            let about = entry.metadata().and_then(|about| about.modified());
            let kept = about.map_err(|cause| io_fault(&entry.path(), cause))?;
            let kept_ms = jiff::Timestamp::try_from(kept).map_or(0, jiff::Timestamp::as_millisecond);
            held.push(Held { bundle, data, kept_ms });
        }
        held.sort_by(|a, b| (b.kept_ms, &a.bundle, &a.data).cmp(&(a.kept_ms, &b.bundle, &b.data)));
        Ok(held)
    }

    /// Removes the bundles that `keep` does not want; says how many.
    pub fn prune(&self, keep: impl Fn(&Held) -> bool) -> Result<usize, StoreFault> {
        let _alone = self.alone()?;
        let mut gone = 0;
        for held in self.list()?.iter().filter(|held| !keep(held)) {
            let path = self.dir.join(BUNDLES).join(name_of(&held.bundle, &held.data));
            std::fs::remove_file(&path).map_err(|cause| io_fault(&path, cause))?;
            gone += 1;
        }
        Ok(gone)
    }

    /// What was remembered of a rollout; none if nothing was.
    pub fn state<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreFault> {
        self.document(STATE)
    }

    /// Remembers a rollout, durably and whole.
    pub fn set_state<T: Serialize>(&self, state: &T) -> Result<(), StoreFault> {
        self.set_document(STATE, state)
    }

    fn document<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreFault> {
        let path = self.dir.join(name);
        let Some(bytes) = read(&path, DOCUMENT.bytes_max)? else { return Ok(None) };
        let damaged = |what: String| StoreFault::Damaged { path: path.display().to_string(), what };
        let value = canonical::parse(&bytes, &DOCUMENT).map_err(|cause| damaged(cause.to_string()))?;
        serde_json::from_value(value).map(Some).map_err(|cause| damaged(cause.to_string()))
    }

    fn set_document<T: Serialize>(&self, name: &str, document: &T) -> Result<(), StoreFault> {
        let unfit = |why: String| StoreFault::Unfit { what: "state", why };
        let bytes = serde_json::to_vec_pretty(document).map_err(|cause| unfit(cause.to_string()))?;
        // INVARIANT: what cannot be read again is not written over what can.
        canonical::parse(&bytes, &DOCUMENT).map_err(|cause| unfit(cause.to_string()))?;
        self.write(&self.dir, name, &bytes)
    }

    fn alone(&self) -> Result<std::sync::MutexGuard<'_, File>, StoreFault> {
        let writing = self.writing.as_ref().ok_or(StoreFault::ReadOnly)?;
        Ok(writing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Aside, synced, then by one rename in its place, then the name synced.
    fn write(&self, folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreFault> {
        let _alone = self.alone()?;
        let (path, aside) = (folder.join(name), folder.join(format!("{name}.new")));
        let mut options = OpenOptions::new();
        let written = open_file(options.create(true).truncate(true).write(true).mode(0o600), &aside)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&aside, &path));
        written.map_err(|cause| {
            // What could not be written whole takes no space; if it cannot go either, the next write goes over it.
            let _left = std::fs::remove_file(&aside).is_err();
            io_fault(&path, cause)
        })?;
        sync_names(folder)
    }
}

impl Memory for Store {
    fn taken(&self) -> Result<Option<Taken>, String> {
        self.document(SERVED).map_err(|fault| fault.to_string())
    }

    fn remember(&self, taken: &Taken) -> Result<(), String> {
        self.set_document(SERVED, taken).map_err(|fault| fault.to_string())
    }
}

fn open_archive(bytes: &[u8]) -> Result<Bundle, String> {
    let archive = Archive::unpack(bytes).map_err(|fault| fault.to_string())?;
    let opened = archive.open().map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())?;
    Ok(opened.bundle)
}

fn name_of(bundle: &str, data: &str) -> String {
    format!("{bundle}-{data}{ENDING}")
}

fn digests_of(name: &str) -> Option<(&str, &str)> {
    let (bundle, data) = name.strip_suffix(ENDING)?.split_once('-')?;
    (is_digest(bundle) && is_digest(data)).then_some((bundle, data))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The bytes of a file; none if there is no such file.
fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, StoreFault> {
    let file = match open_file(OpenOptions::new().read(true), path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|cause| io_fault(path, cause))?,
    };
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|cause| io_fault(path, cause))?;
    if bytes.len() > bytes_max {
        let what = format!("it has more than {bytes_max} bytes");
        return Err(StoreFault::Damaged { path: path.display().to_string(), what });
    }
    Ok(Some(bytes))
}

/// Opens what must be a regular file: a link would lead elsewhere, a pipe keep its reader waiting.
fn open_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}

fn sync_names(folder: &Path) -> Result<(), StoreFault> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|cause| io_fault(folder, cause))
}

fn io_fault(path: &Path, source: io::Error) -> StoreFault {
    StoreFault::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
