//! Replacing the key that signs assertions.
//!
//! Promises: a new key stands in its file whole or not at all, and signs only when its time has
//! come; a file is removed only when nothing that its key has signed is good any more; a running
//! gateway takes up what is in the folder without a restart, and goes on with what it has when the
//! folder cannot be read. Never replaces a key twice at once. Called by `app` and `loopgate keys`.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::watch;
use tracing::info;
use tracing::warn;

use super::AppFault;
use super::broken;
use super::create;
use super::files;
use super::fresh;
use super::read;
use super::unwritable;
use crate::config::Settings;
use crate::domain::audit::record::Record;
use crate::domain::audit::record::Stage;
use crate::domain::identity::ring::Held;
use crate::domain::identity::ring::Ring;
use crate::domain::identity::ring::Use;
use crate::pep::Signers;
use crate::pep::ports::Clock;
use crate::pep::ports::Journal;

/// Replicas that share the folder and begin within one of these name their new key alike, so that one makes it.
const STEP_S: i64 = 60;

/// A new key in `dir`, published at once, that signs after `publish_before`. None: one is on its way already.
pub fn rotate(dir: &Path, now_s: i64, publish_before: Duration) -> Result<Option<Held>, AppFault> {
    let ring = read(dir)?;
    let uses: Vec<(i64, Use)> =
        ring.iter().flat_map(|ring| ring.uses(now_s)).map(|(held, of)| (held.from_s, of)).collect();
    if uses.iter().any(|(_, of)| *of == Use::Next) {
        return Ok(None);
    }
    for (from_s, path) in files(dir)? {
        if uses.contains(&(from_s, Use::Gone)) {
            fs::remove_file(&path).map_err(|cause| unwritable(&path, &cause))?;
        }
    }
    let wait_s = i64::try_from(publish_before.as_secs()).unwrap_or(i64::MAX);
    let soonest = now_s.saturating_add(wait_s).max(1);
    let from_s = if wait_s == 0 { soonest } else { soonest.saturating_add(STEP_S - 1) / STEP_S * STEP_S };
    let path = dir.join(format!("assertion-{from_s}.pem"));
    let key = fresh(&path)?;
    let pem = key.to_pkcs8_pem().map_err(|fault| broken(&path, fault))?;
    let beside = dir.join(format!(".assertion-{}.new", key.kid()));
    create(&beside, &pem, 0o600)?;
    // WHY a link: unlike a rename it never takes the place of a file that is there.
    let linked = fs::hard_link(&beside, &path);
    fs::remove_file(&beside).map_err(|cause| unwritable(&beside, &cause))?;
    match linked {
        Ok(()) => Ok(Some(Held { from_s, key })),
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
        Err(cause) => Err(unwritable(&path, &cause)),
    }
}

/// Keeps a running gateway's signing keys as the folder has them.
pub struct Rotation {
    dir: PathBuf,
    look_every: Duration,
    every: Option<Duration>,
    publish_before: Duration,
    signers: Arc<Signers>,
    clock: Arc<dyn Clock>,
    journal: Arc<dyn Journal>,
}

/// What tells that the folder has changed.
type Seen = Vec<(i64, PathBuf, Option<SystemTime>)>;

impl Rotation {
    /// Of these settings.
    #[must_use]
    pub fn new(settings: &Settings, signers: Arc<Signers>, clock: Arc<dyn Clock>, journal: Arc<dyn Journal>) -> Self {
        Self {
            dir: settings.keys_dir.clone(),
            look_every: settings.reload_every,
            every: settings.rotation.every,
            publish_before: settings.rotation.publish_before,
            signers,
            clock,
            journal,
        }
    }

    /// Looks until told to stop.
    pub async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut seen = self.look().unwrap_or_default();
        let mut failing = false;
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(self.look_every) => {}
            }
            let outcome = match self.round(&mut seen) {
                Ok(Some(ring)) => self.taken(ring).await,
                Ok(None) => Ok(()),
                Err(fault) => Err(fault.to_string()),
            };
            // Said once, not at every look.
            if let (Err(fault), false) = (&outcome, failing) {
                warn!("the gateway's signing keys stay as they are: {fault}");
            }
            failing = outcome.is_err();
        }
    }

    /// The keys, when they have changed.
    fn round(&self, seen: &mut Seen) -> Result<Option<Ring>, AppFault> {
        let now_s = self.clock.now_ms().div_euclid(1000);
        let found = self.look()?;
        if self.is_due(&found, now_s)
            && let Some(next) = rotate(&self.dir, now_s, self.publish_before)?
        {
            info!(
                "a new key for assertions, {}, is published and signs from second {} on",
                next.key.kid(),
                next.from_s
            );
        }
        let found = self.look()?;
        if found == *seen {
            return Ok(None);
        }
        let ring = read(&self.dir)?;
        *seen = found;
        Ok(ring)
    }

    async fn taken(&self, ring: Ring) -> Result<(), String> {
        let at_ms = self.clock.now_ms();
        let now_s = at_ms.div_euclid(1000);
        let kids: Vec<String> =
            ring.uses(now_s).filter(|(_, of)| *of != Use::Gone).map(|(held, _)| held.key.kid().to_owned()).collect();
        info!("keys for assertions are now {}", kids.join(", "));
        let record = Record::event(Stage::Config("keys"), at_ms, "the keys that sign assertions have changed")
            .with("signs", ring.signer(now_s).kid())
            .with("published", kids);
        self.signers.replace(ring);
        self.journal.append(record).await.map(|_| ()).map_err(|fault| fault.to_string())
    }

    fn look(&self) -> Result<Seen, AppFault> {
        let touched = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
        Ok(files(&self.dir)?.into_iter().map(|(from_s, path)| (from_s, path.clone(), touched(&path))).collect())
    }

    /// Whether the newest key has signed for so long that the next one must be published now.
    fn is_due(&self, found: &Seen, now_s: i64) -> bool {
        let (Some(every), Some((from_s, _, touched))) = (self.every, found.last()) else { return false };
        let made = touched.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let made_s = made.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(now_s);
        let since_s = if *from_s == 0 { made_s } else { *from_s };
        let age_s = i64::try_from(every.saturating_sub(self.publish_before).as_secs()).unwrap_or(i64::MAX);
        now_s >= since_s.saturating_add(age_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::ring::GRACE_S;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_new_key_is_published_before_it_signs_and_an_old_one_goes_when_nothing_of_it_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let first = super::super::OwnKeys::open(dir.path()).unwrap().ring.signer(NOW).clone();
        let next = rotate(dir.path(), NOW, Duration::from_mins(10)).unwrap().unwrap();
        assert!((NOW + 600..=NOW + 660).contains(&next.from_s), "{}", next.from_s);
        let ring = read(dir.path()).unwrap().unwrap();
        assert_eq!(ring.signer(NOW).kid(), first.kid());
        assert_eq!(ring.signer(next.from_s).kid(), next.key.kid());
        assert!(rotate(dir.path(), NOW, Duration::from_mins(10)).unwrap().is_none(), "one at a time");
        let later = next.from_s + GRACE_S;
        rotate(dir.path(), later, Duration::ZERO).unwrap().unwrap();
        assert!(!dir.path().join("assertion.pem").exists(), "the first key is of no use to anybody but a thief");
        let again = super::super::OwnKeys::open(dir.path()).unwrap();
        assert_eq!(again.ring.uses(later).count(), 2, "and is not made anew");
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 4, "two keys, audit.pem and audit.pub: nothing half made is left");
    }

    #[test]
    fn other_files_are_no_keys() {
        use super::super::from_s;
        assert_eq!(from_s("assertion.pem"), Some(0));
        assert_eq!(from_s("assertion-1800000000.pem"), Some(NOW));
        for other in [
            "assertion-.pem.new",
            "assertion-x.pem",
            "assertion--1.pem",
            "audit.pem",
            ".assertion-1.new",
            "assertion-99999999999999999999.pem",
        ] {
            assert_eq!(from_s(other), None, "{other}");
        }
    }
}
