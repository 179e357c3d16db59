//! Bundles from a server: asks for a new one, and believes it only when it is signed, whole and newer.
//!
//! Promises: nothing is given out that a configured key did not sign, for the configured scope, or
//! that is older than what was taken before, also after a restart; a server that is away, slow, or
//! sends anything else changes nothing; it is asked no more often than the settings say, and ever more
//! rarely while it fails. The token goes to the configured address alone: no redirect is followed.
//! Never decides what is in force. Called by `adapters::reload`.
//!
//! A [`Source`] is looked at like a file: [`Source::look`] returns at once until the server is due. What
//! comes of a [`Look::New`] is told to the source: [`Source::took`] once it is in force or waits, which
//! remembers its place in the order; [`Source::turned_down`] if the bundle is at fault;
//! [`Source::forget`] if something passing was in the way. [`Source::faults`] says how things stand.

mod http;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::http::Fetched;
use self::http::Server;
use crate::domain::canonical;
use crate::domain::pdp::archive::Archive;
use crate::domain::pdp::archive::ArchiveFault;
use crate::domain::pdp::archive::Opened;
use crate::domain::pdp::archive::keys::TrustedKey;
use crate::domain::pdp::archive::order::Taken;
use crate::domain::pdp::archive::sign::Signed;
use crate::pep::served::Memory;

/// Longest wait between two questions to a server that fails, unless the settings ask for a longer one.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// Where bundles are pulled from, and whom to believe.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The address.
    pub url: String,
    /// File with a bearer token for the server, read each time.
    pub token_file: Option<PathBuf>,
    /// Files with the public keys of those who may sign, read each time.
    pub keys: Vec<PathBuf>,
    /// The scope that a signature must carry; empty for none.
    pub scope: String,
    /// How often the server is asked.
    pub every: Duration,
    /// Whether an older bundle may follow.
    pub allow_rollback: bool,
}

/// What a look at the server found.
#[derive(Debug)]
pub enum Look {
    /// Nothing that was not told before.
    Unchanged,
    /// A bundle that is signed, whole and not older; not yet compiled.
    New(Box<Served>),
    /// A bundle that is not taken: what is wrong and what to do. What was taken before goes on.
    Refused(Vec<String>),
    /// No bundle was had, and why. What was taken before goes on.
    Away(String),
}

/// A bundle from the server.
#[derive(Debug)]
pub struct Served {
    /// The bundle and what its archive says of it.
    pub opened: Opened,
    /// Who signed it.
    pub signed: Signed,
    /// What will be remembered once it was taken.
    taken: Taken,
}

/// One server of bundles.
pub struct Source {
    pull: Pull,
    server: Server,
    memory: Arc<dyn Memory>,
    due: Instant,
    /// Failures in a row.
    failed: u32,
    /// The last whole answer.
    seen: Option<Seen>,
    /// Why nothing could be had last time.
    away: Option<String>,
}

/// An answer that was read to its end.
struct Seen {
    etag: Option<String>,
    /// Digest of its bytes.
    digest: String,
    /// Why it is not taken.
    faults: Vec<String>,
}

impl Source {
    /// Looks at nothing yet.
    pub fn new(pull: Pull, memory: Arc<dyn Memory>) -> Result<Self, String> {
        let server = Server::new(&pull.url)
            .map_err(|cause| format!("policy.bundle.url: the client that pulls bundles cannot be made: {cause}"))?;
        Ok(Self { pull, server, memory, due: Instant::now(), failed: 0, seen: None, away: None })
    }

    /// Asks the server if it is due.
    pub async fn look(&mut self) -> Look {
        if Instant::now() < self.due {
            return Look::Unchanged;
        }
        let etag = self.seen.as_ref().and_then(|seen| seen.etag.as_deref());
        let fetched = self.server.fetch(self.pull.token_file.as_deref(), etag).await;
        self.failed = if fetched.is_ok() { 0 } else { self.failed.saturating_add(1) };
        let look = match fetched {
            Err(fault) => self.hindered(fault),
            Ok(Fetched::Unchanged) => self.back(),
            Ok(Fetched::Whole { bytes, etag }) => self.judge(bytes, etag).await,
        };
        self.due = Instant::now() + wait(self.pull.every, self.failed, dice());
        look
    }

    /// Why what the server has is not taken, or that it has nothing for us; empty if all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let of_bundle = self.seen.iter().flat_map(|seen| &seen.faults);
        of_bundle.chain(&self.away).cloned().collect()
    }

    /// The bundle is in force, or waits: from now on nothing older is taken, also after a restart.
    pub async fn took(&mut self, served: &Served) -> Result<(), String> {
        let (memory, taken) = (Arc::clone(&self.memory), served.taken.clone());
        let remembered = tokio::task::spawn_blocking(move || memory.remember(&taken)).await;
        remembered.unwrap_or_else(|cause| Err(cause.to_string())).map_err(|cause| {
            self.forget();
            format!("policy.store: what was taken cannot be remembered: {cause}")
        })
    }

    /// The bundle is not what may be in force; it is not told of again.
    pub fn turned_down(&mut self, faults: Vec<String>) {
        if let Some(seen) = &mut self.seen {
            seen.faults = faults;
        }
    }

    /// Something passing was in the way: the bundle is asked for whole again.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    async fn judge(&mut self, bytes: Vec<u8>, etag: Option<String>) -> Look {
        let digest = canonical::digest(&bytes);
        if let Some(seen) = self.seen.as_mut().filter(|seen| seen.digest == digest) {
            seen.etag = etag;
            return self.back();
        }
        let (pull, memory) = (self.pull.clone(), Arc::clone(&self.memory));
        // WHY: unpacking and hashing take milliseconds to a second, too long for a thread that serves.
        let judged = tokio::task::spawn_blocking(move || examine(&pull, memory.as_ref(), &bytes)).await;
        match judged.unwrap_or_else(|cause| Err(Unfit::Passing(format!("policy.bundle: {cause}")))) {
            Ok(served) => {
                self.seen = Some(Seen { etag, digest, faults: Vec::new() });
                self.away = None;
                Look::New(Box::new(served))
            }
            Err(Unfit::Archive(faults)) => {
                let faults: Vec<String> = faults.iter().map(|fault| format!("policy.bundle: {fault}")).collect();
                self.seen = Some(Seen { etag, digest, faults: faults.clone() });
                self.away = None;
                Look::Refused(faults)
            }
            // Nothing is known of it, so it is asked for again.
            Err(Unfit::Passing(fault)) => {
                self.forget();
                self.hindered(fault)
            }
        }
    }

    /// The server has what it had.
    fn back(&mut self) -> Look {
        self.away = None;
        Look::Unchanged
    }

    /// The same in a row is told once: a server that is away for a night is one event.
    fn hindered(&mut self, fault: String) -> Look {
        if self.away.as_ref() == Some(&fault) {
            return Look::Unchanged;
        }
        self.away = Some(fault.clone());
        Look::Away(fault)
    }
}

/// Why an answer is not taken.
enum Unfit {
    /// The archive is at fault.
    Archive(Vec<ArchiveFault>),
    /// Something on our side is in the way.
    Passing(String),
}

/// Signature first: nothing of an archive is read before somebody trusted vouches for it.
fn examine(pull: &Pull, memory: &dyn Memory, bytes: &[u8]) -> Result<Served, Unfit> {
    let mut keys = Vec::new();
    for path in &pull.keys {
        let name = path.display().to_string();
        let unread = |cause: String| Unfit::Passing(format!("policy.bundle.keys: {cause}"));
        let text = std::fs::read_to_string(path)
            .map_err(|cause| unread(format!("`{name}`: {cause}; put the public key of a signer there")))?;
        keys.push(TrustedKey::from_pem(&name, &text).map_err(|cause| unread(cause.to_string()))?);
    }
    let before = memory.taken().map_err(|cause| {
        Unfit::Passing(format!("policy.store: what was taken before is not known, so nothing may follow: {cause}"))
    })?;
    let archive = Archive::unpack(bytes).map_err(|fault| Unfit::Archive(vec![fault]))?;
    let signed = archive.verify(&keys, &pull.scope).map_err(Unfit::Archive)?;
    let opened = archive.open().map_err(Unfit::Archive)?;
    let taken =
        before.unwrap_or_default().next(&opened, pull.allow_rollback).map_err(|fault| Unfit::Archive(vec![fault]))?;
    Ok(Served { opened, signed, taken })
}

/// Time until the next question. `dice` from 0 to 1 keeps gateways from asking all at once.
fn wait(every: Duration, failed: u32, dice: f64) -> Duration {
    let most = every.max(WAIT_MAX);
    let steps = 2_u32.checked_pow(failed.min(31)).unwrap_or(u32::MAX);
    every.saturating_mul(steps).min(most).mul_f64(0.9 + 0.1 * dice.clamp(0.0, 1.0))
}

fn dice() -> f64 {
    let mut byte = [0];
    // Without randomness everybody asks at the same moment, which is no reason not to ask.
    let _unrolled = aws_lc_rs::rand::fill(&mut byte).is_err();
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests;
