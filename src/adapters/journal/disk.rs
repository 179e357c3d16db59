//! The few things that a journal asks of a disk, and the real one.
//!
//! Promises: what was synced is there after a crash; names are durable once `sync_names` returns;
//! no link is followed and no pipe waited for, whatever names the directory holds.
//! Never decides what to do about a fault. A trait because the tests' disk tears writes, runs
//! full, fails to sync and crashes on purpose. Called by the journal's writer thread.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// A file being written.
pub(super) trait Sink: Send {
    /// Hands bytes to the system; they may not be durable yet.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once every byte written is durable. After an error nothing is known of any of them.
    fn sync(&mut self) -> io::Result<()>;
}

/// One writer's directory.
pub(super) trait Disk: Send + 'static {
    /// Names of the files in it.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Opens a file for reading from its start.
    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// Makes a file, or empties the one of that name.
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>>;
    /// Opens a file to write at its end; makes it if there is none.
    fn append(&self, name: &str) -> io::Result<Box<dyn Sink>>;
    /// Cuts a file to a length, durably.
    fn truncate(&self, name: &str, bytes: u64) -> io::Result<()>;
    /// Gives a file another name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A directory of the real file system, locked for as long as this value lives.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

/// Why a directory cannot be had.
pub(super) enum NotHad {
    /// Another process writes to it.
    Locked,
    /// The system says no.
    Io(io::Error),
}

impl Directory {
    /// Makes the directory if there is none and takes its lock.
    pub(super) fn open(path: &Path) -> Result<Self, NotHad> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(NotHad::Io)?;
        let lock =
            open_file(OpenOptions::new().create(true).truncate(false).write(true).mode(0o600), &path.join("lock"))
                .map_err(NotHad::Io)?;
        match lock.try_lock() {
            Ok(()) => {
                // The directory's own name must outlive a crash too.
                if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    File::open(parent).and_then(|parent| parent.sync_all()).map_err(NotHad::Io)?;
                }
                Ok(Self { path: path.to_owned(), _lock: lock })
            }
            Err(std::fs::TryLockError::WouldBlock) => Err(NotHad::Locked),
            Err(std::fs::TryLockError::Error(error)) => Err(NotHad::Io(error)),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Opens what must be a regular file: a link would lead elsewhere, a pipe keep its reader waiting.
pub(super) fn open_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let irregular = || {
        let what = format!("`{}` is no regular file; a journal has no others, so put it elsewhere", name());
        io::Error::new(io::ErrorKind::InvalidInput, what)
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match options.custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(irregular()),
        // A link, and a pipe that nobody reads.
        Err(error) if [Errno::LOOP, Errno::NXIO].iter().any(|no| error.raw_os_error() == Some(no.raw_os_error())) => {
            Err(irregular())
        }
        Err(error) => Err(error),
    }
}

impl Sink for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(open_file(OpenOptions::new().read(true), &self.at(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let file = open_file(OpenOptions::new().create(true).truncate(true).write(true).mode(0o600), &self.at(name))?;
        Ok(Box::new(file))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let file = open_file(OpenOptions::new().create(true).append(true).mode(0o600), &self.at(name))?;
        Ok(Box::new(file))
    }

    fn truncate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let file = open_file(OpenOptions::new().write(true), &self.at(name))?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.at(from), self.at(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
