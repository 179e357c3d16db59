//! Bytes of an archive to named files, and back.
//!
//! Promises: no more is unpacked than the bounds allow, whatever an archive says of its sizes; a name
//! means one file, below the root; the same files pack to the same bytes. Called by `pdp::archive`.

use std::collections::BTreeMap;
use std::io;
use std::io::Read;

use flate2::Compression;
use flate2::GzBuilder;
use flate2::bufread::GzDecoder;
use tar::EntryType;
use tar::Header;

use crate::domain::pdp::archive::ARCHIVE_BYTES_MAX;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::Code;

/// Entries that an archive may have: as many files as a folder, and folders besides.
const ENTRIES_MAX: usize = 8_192;

/// Bytes that it may unpack to.
const BYTES_MAX: usize = 128 << 20;

/// Bytes of one name.
const NAME_BYTES_MAX: usize = 1_024;

/// What to do about a file that is no archive.
const REBUILD: &str = "build it with `loopgate policy bundle build` or `opa build`, and copy it whole";

/// What to do about an archive that holds strange things.
const PLAIN: &str = "build it from plain files with `loopgate policy bundle build` or `opa build`";

/// The files of an archive, by name.
pub(super) fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, ArchiveFault> {
    let tarball = inflate(bytes)?;
    let damaged = |cause: io::Error| {
        ArchiveFault::new(Code::NotABundle, "", format!("the tar inside cannot be read: {cause}"), REBUILD)
    };
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(tarball.as_slice());
    for (place, entry) in archive.entries().map_err(damaged)?.enumerate() {
        if place == ENTRIES_MAX {
            return Err(too_large(format!("the archive has more than {ENTRIES_MAX} entries")));
        }
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        // What `git archive` writes first: a comment on the whole archive.
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let name = name(&entry.path_bytes())?;
        match kind {
            EntryType::Directory => {}
            EntryType::Regular if !name.is_empty() => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(damaged)?;
                // A short read is the reader's end of file, not an error.
                if u64::try_from(content.len()).ok() != Some(entry.size()) {
                    return Err(ArchiveFault::new(Code::NotABundle, &name, "the archive ends within it", REBUILD));
                }
                if files.insert(name.clone(), content).is_some() {
                    let message = "it stands in the archive twice, and readers differ in which they take";
                    return Err(ArchiveFault::new(Code::UnsafeArchive, &name, message, PLAIN));
                }
            }
            _ => {
                let message = "it is a link, a device or another thing that is no file";
                return Err(ArchiveFault::new(Code::UnsafeArchive, &name, message, PLAIN));
            }
        }
    }
    if archive.into_inner().iter().any(|byte| *byte != 0) {
        let message = "something stands behind the end of the tar inside";
        return Err(ArchiveFault::new(Code::NotABundle, "", message, REBUILD));
    }
    Ok(files)
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, ArchiveFault> {
    if bytes.len() > ARCHIVE_BYTES_MAX {
        return Err(too_large(format!("the archive has more than {} MiB", ARCHIVE_BYTES_MAX >> 20)));
    }
    let mut decoder = GzDecoder::new(bytes);
    let mut tarball = Vec::new();
    let most = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    (&mut decoder).take(most).read_to_end(&mut tarball).map_err(|cause| {
        ArchiveFault::new(Code::NotABundle, "", format!("the file is not gzip, or not whole: {cause}"), REBUILD)
    })?;
    if tarball.len() > BYTES_MAX {
        return Err(too_large(format!("the archive unpacks to more than {} MiB", BYTES_MAX >> 20)));
    }
    if !decoder.into_inner().is_empty() {
        let message = "something stands behind the end of the gzip";
        return Err(ArchiveFault::new(Code::NotABundle, "", message, REBUILD));
    }
    Ok(tarball)
}

/// A name below the root; empty for the root itself.
///
/// `opa build` writes `/a.rego`, and `tar` writes `./a.rego`: both mean `a.rego`.
fn name(bytes: &[u8]) -> Result<String, ArchiveFault> {
    let refused = |what: &str| {
        let shown: String = String::from_utf8_lossy(bytes).chars().take(80).collect();
        Err(ArchiveFault::new(Code::UnsafeArchive, &format!("{shown:?}"), what, PLAIN))
    };
    let Ok(name) = str::from_utf8(bytes) else { return refused("its name is not UTF-8") };
    if bytes.len() > NAME_BYTES_MAX {
        return refused("its name is too long");
    }
    let name = name.strip_prefix("./").or_else(|| name.strip_prefix('/')).unwrap_or(name);
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.is_empty() || name == "." {
        return Ok(String::new());
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refused("its name leads elsewhere");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return refused("its name has control characters or `\\`");
    }
    Ok(name.to_owned())
}

fn too_large(message: String) -> ArchiveFault {
    ArchiveFault::new(Code::TooLarge, "", message, "keep in it what policies need")
}

/// The bytes of an archive with these files.
pub(super) fn pack(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, ArchiveFault> {
    let write = || {
        let mut tar = tar::Builder::new(GzBuilder::new().mtime(0).write(Vec::new(), Compression::default()));
        for (path, bytes) in files {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        tar.into_inner()?.finish()
    };
    let bytes = write().map_err(|cause: io::Error| {
        ArchiveFault::new(Code::TooLarge, "", format!("the archive cannot be written: {cause}"), "shorten the names")
    })?;
    match bytes.len() {
        0..=ARCHIVE_BYTES_MAX => Ok(bytes),
        _ => Err(too_large(format!("the archive has more than {} MiB", ARCHIVE_BYTES_MAX >> 20))),
    }
}
