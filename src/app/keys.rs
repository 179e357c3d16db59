//! The gateway's own keys: some sign assertions for backends, one audit checkpoints, one replay reports.
//!
//! Promises: a missing key is made once, with mode 0600, never overwritten; the public half of the
//! audit and report keys stands beside them for whoever verifies; a new key for assertions is
//! published before it signs, an old one until nothing of it is good. Never sends a private key anywhere.

mod rotation;

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

pub use self::rotation::Rotation;
pub use self::rotation::rotate;
use super::AppFault;
use crate::adapters::journal;
use crate::domain::identity::ring::Held;
use crate::domain::identity::ring::Ring;
use crate::domain::identity::signing::SigningKey;

/// The first key for assertions. A later one is `assertion-N.pem`, and signs from second N of the Unix epoch on.
const FIRST: &str = "assertion.pem";

/// The gateway's own keys.
#[derive(Debug)]
pub struct OwnKeys {
    /// Sign assertions for backends.
    pub ring: Ring,
    /// File with the key that signs checkpoints.
    pub audit_pem: PathBuf,
}

impl OwnKeys {
    /// Opens the keys in `dir`, making those that are missing.
    pub fn open(dir: &Path) -> Result<Self, AppFault> {
        fs::create_dir_all(dir).map_err(|cause| unwritable(dir, &cause))?;
        let ring = match read(dir)? {
            Some(ring) => ring,
            None => make_first(dir)?,
        };
        let audit_pem = dir.join("audit.pem");
        if !audit_pem.exists() {
            let (pem, public) = journal::generate_signing_key().map_err(|fault| broken(&audit_pem, fault))?;
            create(&audit_pem, &pem, 0o600)?;
            create(&dir.join("audit.pub"), &public.pem(), 0o644)?;
        }
        Ok(Self { ring, audit_pem })
    }
}

/// The keys for assertions in `dir`; none when there are none, or no such folder.
pub fn read(dir: &Path) -> Result<Option<Ring>, AppFault> {
    let mut keys = Vec::new();
    for (from_s, path) in files(dir)? {
        let text = fs::read_to_string(&path).map_err(|cause| broken(&path, cause))?;
        let key = SigningKey::from_pkcs8_pem(&text).map_err(|fault| broken(&path, fault))?;
        keys.push(Held { from_s, key });
    }
    Ok(Ring::new(keys))
}

/// A key that is nowhere but in memory, for whoever only looks at settings.
pub(super) fn passing() -> Result<Ring, AppFault> {
    fresh(Path::new("keys.dir")).map(Ring::of)
}

/// The files of the keys for assertions, each with the time from which its key signs.
fn files(dir: &Path) -> Result<Vec<(i64, PathBuf)>, AppFault> {
    let unreadable = |cause: std::io::Error| broken(dir, cause);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(unreadable(cause)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        files.extend(path.file_name().and_then(|name| from_s(name.to_str()?)).map(|from_s| (from_s, path)));
    }
    files.sort();
    Ok(files)
}

/// The time in the name of a key for assertions; none when it is another file.
fn from_s(name: &str) -> Option<i64> {
    if name == FIRST {
        return Some(0);
    }
    let digits = name.strip_prefix("assertion-")?.strip_suffix(".pem")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn make_first(dir: &Path) -> Result<Ring, AppFault> {
    let path = dir.join(FIRST);
    let key = fresh(&path)?;
    let pem = key.to_pkcs8_pem().map_err(|fault| broken(&path, fault))?;
    create(&path, &pem, 0o600)?;
    Ok(Ring::of(key))
}

fn fresh(path: &Path) -> Result<SigningKey, AppFault> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| broken(path, "no random bytes could be had"))?;
    SigningKey::generate(&random).map_err(|fault| broken(path, fault))
}

/// The key in `dir` that signs replay reports, made if it is missing; its public half stands beside it.
pub fn report(dir: &Path) -> Result<SigningKey, AppFault> {
    fs::create_dir_all(dir).map_err(|cause| unwritable(dir, &cause))?;
    let path = dir.join("report.pem");
    if !path.exists() {
        let (pem, public) = journal::generate_signing_key().map_err(|fault| broken(&path, fault))?;
        create(&path, &pem, 0o600)?;
        create(&dir.join("report.pub"), &public.pem(), 0o644)?;
    }
    let text = fs::read_to_string(&path).map_err(|cause| broken(&path, cause))?;
    SigningKey::from_pkcs8_pem(&text).map_err(|fault| broken(&path, fault))
}

/// A new file; one that exists is never overwritten.
fn create(path: &Path, text: &str, mode: u32) -> Result<(), AppFault> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|cause| unwritable(path, &cause))
}

fn unwritable(path: &Path, cause: &std::io::Error) -> AppFault {
    AppFault::File {
        path: path.to_owned(),
        cause: cause.to_string(),
        remedy: "make `keys.dir` writable for the gateway's user, or put the keys there yourself",
    }
}

fn broken(path: &Path, cause: impl std::fmt::Display) -> AppFault {
    AppFault::File {
        path: path.to_owned(),
        cause: cause.to_string(),
        remedy: "put an Ed25519 key in PKCS#8 PEM there, or move the file away to have a new one made",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::checkpoint::PublicKey;

    #[test]
    fn missing_keys_are_made_once_and_kept_from_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let first = OwnKeys::open(dir.path()).unwrap();
        let again = OwnKeys::open(dir.path()).unwrap();
        assert_eq!(first.ring.signer(0).kid(), again.ring.signer(0).kid());
        for name in ["assertion.pem", "audit.pem"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(fs::read_to_string(dir.path().join("audit.pub")).unwrap().contains("PUBLIC KEY"));
        let (made, again) = (report(dir.path()).unwrap(), report(dir.path()).unwrap());
        assert_eq!(made.kid(), again.kid());
        assert_eq!(fs::metadata(dir.path().join("report.pem")).unwrap().permissions().mode() & 0o777, 0o600);
        let public = PublicKey::parse(&fs::read_to_string(dir.path().join("report.pub")).unwrap()).unwrap();
        assert_eq!(public.as_bytes().as_slice(), made.public_key());
    }

    #[test]
    fn a_damaged_key_is_named_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("assertion.pem"), "rubbish").unwrap();
        let fault = OwnKeys::open(dir.path()).unwrap_err().to_string();
        assert!(fault.contains("assertion.pem"), "{fault}");
        assert_eq!(fs::read_to_string(dir.path().join("assertion.pem")).unwrap(), "rubbish");
    }
}
