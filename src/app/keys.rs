//! The gateway's own keys: one signs assertions for backends, one audit checkpoints, one replay reports.
//!
//! Promises: a missing key is made once, with mode 0600, never overwritten; the public half of the
//! audit and report keys stands beside them for whoever verifies. Never sends a private key anywhere.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use super::AppFault;
use crate::adapters::journal;
use crate::domain::identity::signing::SigningKey;

/// The gateway's own keys.
#[derive(Debug)]
pub struct OwnKeys {
    /// Signs assertions for backends.
    pub assertion: SigningKey,
    /// File with the key that signs checkpoints.
    pub audit_pem: PathBuf,
}

impl OwnKeys {
    /// Opens the keys in `dir`, making those that are missing.
    pub fn open(dir: &Path) -> Result<Self, AppFault> {
        fs::create_dir_all(dir).map_err(|cause| unwritable(dir, &cause))?;
        let assertion_pem = dir.join("assertion.pem");
        if !assertion_pem.exists() {
            let mut random = [0; 32];
            aws_lc_rs::rand::fill(&mut random).map_err(|_| broken(&assertion_pem, "no random bytes could be had"))?;
            let key = SigningKey::generate(&random).map_err(|fault| broken(&assertion_pem, fault))?;
            let pem = key.to_pkcs8_pem().map_err(|fault| broken(&assertion_pem, fault))?;
            create(&assertion_pem, &pem, 0o600)?;
        }
        let audit_pem = dir.join("audit.pem");
        if !audit_pem.exists() {
            let (pem, public) = journal::generate_signing_key().map_err(|fault| broken(&audit_pem, fault))?;
            create(&audit_pem, &pem, 0o600)?;
            create(&dir.join("audit.pub"), &public.pem(), 0o644)?;
        }
        let text = fs::read_to_string(&assertion_pem).map_err(|cause| broken(&assertion_pem, cause))?;
        let assertion = SigningKey::from_pkcs8_pem(&text).map_err(|fault| broken(&assertion_pem, fault))?;
        Ok(Self { assertion, audit_pem })
    }
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
        assert_eq!(first.assertion.kid(), again.assertion.kid());
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
